"""The engine's verbs: submit, cancel, resume runs; read their journal and log; list triggers."""

import datetime as dt
from typing import Any

from treadle.ledger.dispatch import Unchanged
from treadle.operations.pipelines import (
    CancelRun,
    ListSteps,
    ListTriggers,
    LogLine,
    LogLines,
    ReadLog,
    ResumeRun,
    SubmitRun,
    TriggerStatus,
)
from treadle.operations.table import implements
from treadle.pipelines import parameters, triggers
from treadle.records.calls import Call
from treadle.records.clock import Clock, SystemClock, VirtualClock
from treadle.records.definitions import Pipeline, Project, definition_digest
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ledger import Page, Run, Step
from treadle.records.states import ENDED, RUN_MOVES, JobState, RunState, StepState, move
from treadle.store.db import Connection, Database
from treadle.store.queries import ledger as runs
from treadle.store.queries import pipelines as queries
from treadle.store.queries import workshop as applied

#: How often a run may lose its worker without finishing a step in between: a step that kills its process must not go round forever.
ATTEMPTS = 10


class Pipelines:
    """Runs as people and triggers see them; `worker.Worker` executes them.

    Args:
        database: where they are.
        clock: business time; a virtual one makes runs take their declared virtual duration.
    """

    def __init__(self, database: Database, *, clock: Clock | None = None):
        self.database = database
        self.clock = clock or SystemClock()

    @implements(SubmitRun)
    def submit(self, tx: Connection, request: SubmitRun, call: Call) -> Run | Unchanged:
        """Queue a run, pinned to what is applied."""
        known = runs.get_run(tx, request.project, request.run_id)
        if known is not None:
            if (known.pipeline, known.environment) != (request.pipeline, request.environment):
                raise TreadleError(
                    f"Run {request.run_id} exists, of pipeline {known.pipeline} in {known.environment}.",
                    remedy="Use a fresh run id: treadle.records.ids.new_id('run')",
                    code="conflict",
                )
            return Unchanged(known)
        project = applied.applied(tx, request.project, request.environment)
        definition = _pipeline(project, request)
        assert project is not None
        if request.parent is not None:
            self._run(tx, request.project, request.parent)
        now = dt.datetime.now(dt.UTC)
        run = Run(
            project=request.project,
            environment=request.environment,
            run_id=request.run_id,
            experiment=runs.ensure_experiment(tx, request.project, request.pipeline, call.actor.actor_id, now),
            pipeline=request.pipeline,
            state=RunState.queued,
            params=parameters.check(definition, request.params),
            reason=request.reason,
            actor=call.actor.actor_id,
            definition_digest=definition_digest(definition),
            project_digest=digest_of(project),
            code_digest=project.code,
            environment_digest=project.environment_lock,
            event_time=call.event_time,
            recorded_time=now,
            parent_run=request.parent,
        )
        runs.insert_run(tx, run)
        wait = definition.virtual_duration_s if isinstance(self.clock, VirtualClock) else 0
        queries.insert_job(
            tx,
            {
                "project": run.project,
                "job_id": run.run_id,
                "environment": run.environment,
                "kind": "run",
                "payload": {"use_cache": request.use_cache},
                "max_attempts": ATTEMPTS,
                "due": call.event_time + dt.timedelta(seconds=wait),
                "recorded_time": now,
            },
        )
        return run

    @implements(CancelRun)
    def cancel(self, tx: Connection, request: CancelRun, call: Call) -> Run | Unchanged:
        """Stop a run: at once where it waits, at its worker's next beat where it runs."""
        run = self._run(tx, request.project, request.run_id)
        if run.state in (RunState.cancelled, RunState.cancelling):
            return Unchanged(run)
        then = RunState.cancelling if run.state == RunState.running else RunState.cancelled
        move(RUN_MOVES, run.state, then, what=f"Run {run.run_id}")
        if then == RunState.cancelled:
            queries.end_job(tx, run.project, run.run_id, state=JobState.done)
        return self._moved(tx, run, then, call, error="It was asked to stop." if then == RunState.cancelled else None)

    @implements(ResumeRun)
    def resume(self, tx: Connection, request: ResumeRun, call: Call) -> Run | Unchanged:
        """Queue a failed or cancelled run again."""
        run = self._run(tx, request.project, request.run_id)
        if run.state == RunState.queued:
            return Unchanged(run)
        move(RUN_MOVES, run.state, RunState.queued, what=f"Run {run.run_id}")
        queries.ready_again(tx, run.project, run.run_id, call.event_time)
        return self._moved(tx, run, RunState.queued, call)

    @implements(ListSteps)
    def steps(self, connection: Connection, request: ListSteps, call: Call) -> list[Step]:
        """The journal in the order of the body."""
        self._run(connection, request.project, request.run_id)
        found = [step_of(row) for row in queries.steps_of(connection, request.project, request.run_id)]
        return sorted(found, key=lambda step: path_key(step.path))

    @implements(ReadLog)
    def log(self, connection: Connection, request: ReadLog, call: Call) -> LogLines:
        """Lines behind a number; `ended` once there can be no more."""
        run = self._run(connection, request.project, request.run_id)
        limit = max(1, min(request.limit, 10_000))
        rows = queries.lines_after(connection, request.project, request.run_id, request.after, limit)
        items = [LogLine(number=r.number, time=r.time, step=r.step, level=r.level, text=r.text) for r in rows]
        more = len(items) == limit
        return LogLines(items=items, ended=run.state in ENDED and not more, page=Page(next=str(items[-1].number) if more else None))

    @implements(ListTriggers)
    def list_triggers(self, connection: Connection, request: ListTriggers, call: Call) -> list[TriggerStatus]:
        """What every applied trigger remembers."""
        return triggers.statuses(connection, request.project, request.environment, call.event_time)

    def _run(self, connection: Connection, project: str, run_id: str) -> Run:
        run = runs.get_run(connection, project, run_id)
        if run is None:
            raise TreadleError(
                f"Project {project} has no run {run_id}.",
                remedy="List its runs: treadle runs",
                code="not_found",
            )
        return run

    def _moved(self, tx: Connection, run: Run, then: RunState, call: Call, *, error: str | None = None) -> Run:
        moved = runs.move_run(tx, run.project, run.run_id, froms=(run.state,), state=then, at=call.event_time, error=error)
        if moved is None:
            raise TreadleError(
                f"Run {run.run_id} has just moved on from {run.state}.", remedy=f"Look again: treadle status {run.run_id}", code="conflict"
            )
        return moved


def _pipeline(project: Project | None, request: SubmitRun) -> Pipeline:
    if project is None:
        raise TreadleError(
            f"Nothing of project {request.project} is applied in {request.environment}.",
            remedy=f"Apply it first: treadle apply --env {request.environment}",
            code="not_found",
        )
    found = next((p for p in project.pipelines if p.name == request.pipeline), None)
    if found is None:
        raise TreadleError(
            f"Project {request.project} in {request.environment} has no pipeline {request.pipeline!r}.",
            remedy=f"It has: {', '.join(p.name for p in project.pipelines) or 'none'}. Add it: treadle apply --env {request.environment}",
            code="not_found",
        )
    return found


def step_of(row: Any) -> Step:
    """A journal row as a record."""
    return Step(
        project=row.project,
        run_id=row.run_id,
        path=row.path,
        name=row.name,
        state=StepState(row.state),
        cache_key=row.cache_key,
        components=row.components,
        why=row.why,
        output=row.output,
        codec=row.codec,
        attempt=row.attempt,
        started=row.started,
        ended=row.ended,
        worker=row.worker,
        error=row.error,
    )


def path_key(path: str) -> tuple[int, int]:
    """Where a step stands in its body: `0004:score[2]` → (4, 2).

    >>> path_key("0004:score[2]")
    (4, 2)
    """
    place, _, rest = path.partition(":")
    inner = rest[rest.rfind("[") + 1 : -1] if rest.endswith("]") else "-1"
    return int(place), int(inner)
