"""A worker: leases runs that are due and executes their bodies.

Each run has a thread of its own; the worker's thread supervises it: commits what waits, beats, ends a step that is overdue or whose
run is to be cancelled, and writes how the run ended. A worker that dies leaves a lease whose beat stands still; another one takes it
over (`lease`) and the body runs again, its finished steps answered by the journal.
"""

import functools
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from treadle.ledger import events
from treadle.pipelines import code, faults, lease, logs, parameters
from treadle.pipelines.artifacts import Artifacts
from treadle.pipelines.context import RunContext, entered
from treadle.pipelines.decorators import PipelineFunction
from treadle.pipelines.interrupts import Ended
from treadle.pipelines.journal import Recorder, Stopped, told
from treadle.plugins.storage import BlobStore
from treadle.records.calls import SYSTEM, Actor, Call, Role
from treadle.records.clock import Clock, SystemClock
from treadle.records.errors import TreadleError
from treadle.records.ledger import Run
from treadle.records.states import JobState, RunState, StepState
from treadle.store.db import Connection, Database
from treadle.store.queries import ledger as runs
from treadle.store.queries import pipelines as queries

_log = logging.getLogger(__name__)

#: How often the supervisor looks, and after how long a finished step is committed without waiting for the next, in seconds.
TICK = 0.02
_LIVE = (RunState.queued, RunState.running, RunState.waiting, RunState.cancelling)


class Worker:
    """Executes runs.

    Args:
        database: where runs, jobs and journals are.
        blobs: where results are.
        dispatch: the operations, for steps that call them; one of the resources.
        name: for people; `host:pid` where None.
        resources: services that steps find in their context, by name; or a function of the run that gives them.
        load_body: finds the pipeline function of a run.
        clock: business time.
        lease_s: how long a beat must stand still before a lease counts as dead.
        grace_s: how long an ended step may take to come back before it is abandoned.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        dispatch: Any = None,
        *,
        name: str | None = None,
        resources: Mapping[str, Any] | Callable[[Run], Mapping[str, Any]] | None = None,
        load_body: Callable[[Run], PipelineFunction[..., Any]],
        clock: Clock | None = None,
        lease_s: float = 15.0,
        grace_s: float = 5.0,
    ):
        self.database = database
        self.blobs = blobs
        self.artifacts = Artifacts(blobs)
        self.clock = clock or SystemClock()
        self.name = name or socket.gethostname()
        own = {"db": database, "blobs": blobs, "dispatch": dispatch}
        given = resources or {}
        self.resources: Callable[[Run], Mapping[str, Any]] = lambda run: {**own, **(given(run) if callable(given) else given)}
        self.load_body = load_body
        self.lease_s = lease_s
        self.grace_s = grace_s
        self._watch = lease.Watch(lease_s)

    # ── finding work ─────────────────────────────────────────────────────────────────────────────────────────────

    def run_due(self, now: Any = None, *, stop: threading.Event | None = None) -> int:
        """Lease and execute until nothing is due at business time `now`; returns how many runs were executed."""
        count = 0
        while not (stop is not None and stop.is_set()):
            leased = self._lease(now or self.clock.now())
            if leased is None:
                break
            self._execute(*leased, stop=stop)
            count += 1
        return count

    def loop(self, stop: threading.Event, *, poll_s: float = 0.2) -> None:
        """Work until `stop` is set: the step in flight may finish within the grace, then the run goes back to the queue."""
        pause = poll_s
        while not stop.is_set():
            try:
                pause = 0.0 if self.run_due(stop=stop) else poll_s
            except TreadleError as error:
                pause = min(max(pause, poll_s) * 2, 10.0)
                _log.warning("worker %s: %s %s; again in %.1f s", self.name, error.what, error.remedy, pause)
            stop.wait(pause)

    def _lease(self, now: Any) -> tuple[Run, str, dict[str, Any]] | None:
        """The next run to execute: one that is due, or one whose worker died."""
        with self.database.read() as connection:
            due = queries.due_jobs(connection, "run", now, 8)
            held = queries.leased_jobs(connection, "run")
        if not due and not held:
            return None
        owner = lease.new_owner()
        lease.live.add(owner)
        leased = None
        try:
            leased = self._first(due, held, owner)
        finally:
            if leased is None:
                lease.live.discard(owner)
        if leased is not None:
            faults.passing("claimed")
        return leased

    def _first(self, due: Sequence[Any], held: Sequence[Any], owner: str) -> tuple[Run, str, dict[str, Any]] | None:
        """Lease the first of these that can be had."""
        for job in due:
            leased = self.database.write(functools.partial(self._claim, project=job.project, job_id=job.job_id, owner=owner))
            if leased is not None:
                return leased
        self._watch.keep_only({(job.project, job.job_id) for job in held})
        for job in held:
            if self._watch.dead((job.project, job.job_id), job.owner, job.beat, time.monotonic()):
                seen = (job.owner, job.beat)
                claim = functools.partial(self._claim, project=job.project, job_id=job.job_id, owner=owner, seen=seen)
                leased = self.database.write(claim)
                if leased is not None:
                    return leased
        return None

    def _claim(
        self, tx: Connection, *, project: str, job_id: str, owner: str, seen: tuple[str, int] | None = None
    ) -> tuple[Run, str, dict[str, Any]] | None:
        """Lease one job in a transaction; settles at once what needs no body: a cancelled run, one whose attempts are used up."""
        if seen is None:
            row = queries.claim(tx, project, job_id, owner)
        else:
            row = queries.take_over(tx, project, job_id, seen=seen, owner=owner)
        if row is None:
            return None
        run = runs.get_run(tx, project, job_id)
        if run is None or run.state not in _LIVE:
            queries.end_job(tx, project, job_id, state=JobState.done)
            return None
        if run.state == RunState.cancelling:
            self._close(tx, run, RunState.cancelled, "It was asked to stop.")
            return None
        if row.attempt > row.max_attempts:
            why = f"Its worker died {row.max_attempts} times in a row without finishing a step; it is not tried again."
            self._close(tx, run, RunState.failed, why, job=JobState.dead)
            return None
        if run.state != RunState.running:
            froms = (RunState.queued, RunState.waiting)
            runs.move_run(tx, project, job_id, froms=froms, state=RunState.running, at=self.clock.now(), error=None)
            self._event(tx, run, "started", {"attempt": row.attempt, "worker": self.name})
        else:
            self._event(tx, run, "taken_over", {"attempt": row.attempt, "worker": self.name})
        return run, owner, row.payload

    # ── executing ────────────────────────────────────────────────────────────────────────────────────────────────

    def _execute(self, run: Run, owner: str, payload: dict[str, Any], *, stop: threading.Event | None) -> None:
        try:
            with logs.captured():
                self._supervise(run, owner, payload, stop)
        finally:
            lease.live.discard(owner)

    def _supervise(self, run: Run, owner: str, payload: dict[str, Any], stop: threading.Event | None) -> None:
        recorder = Recorder(self.database, self.artifacts, run, owner, use_cache=payload.get("use_cache", True), worker=self.name)
        outcome: list[BaseException | None] = []
        done = threading.Event()

        def body() -> None:
            try:
                self._body(run, recorder)
                outcome.append(None)
            except BaseException as error:  # noqa: BLE001  (whatever ends a body is how the run ended)
                outcome.append(error)
            finally:
                done.set()

        recorder.context = self._context(run, recorder)
        thread = threading.Thread(target=body, name=f"run-{run.run_id}", daemon=True)
        thread.start()
        pause = min(1.0, self.lease_s / 5)
        beat = time.monotonic() + pause
        asked = 0.0
        while not done.wait(TICK):
            now = time.monotonic()
            if recorder.waits(now) >= TICK or now >= beat:
                self._flush(recorder)
                beat = time.monotonic() + pause
            if stop is not None and stop.is_set() and recorder.stop is None:
                recorder.stop = "handed_back"
                recorder.stopping.set()
                asked = now
            if recorder.interrupts.overdue(now):
                recorder.interrupts.end("timed_out", now)
            elif recorder.stop in ("cancelled", "lost"):
                recorder.interrupts.end(recorder.stop, now)
            elif recorder.stop == "handed_back" and now - asked >= self.grace_s:
                recorder.interrupts.end("handed_back", now)
            if recorder.interrupts.stuck(now, self.grace_s):
                outcome.append(self._abandoned(recorder))
                recorder.stop = recorder.stop or "lost"
                break
        self._settle(run, recorder, outcome[0])

    def _flush(self, recorder: Recorder) -> None:
        try:
            recorder.flush()
        except TreadleError as error:  # what waits is kept; the body's own next commit says it if it lasts
            _log.warning("run %s: could not commit: %s", recorder.run.run_id, error.what)

    def _abandoned(self, recorder: Recorder) -> BaseException:
        if recorder.interrupts.reason == "timed_out":
            return TreadleError(
                f"Step {recorder.path} was over its time and did not come back within {self.grace_s} s; it was abandoned.",
                remedy=f"Run its native code in a process of its own, or give it more time, then: treadle resume {recorder.run.run_id}",
                code="timed_out",
            )
        return Stopped(recorder.stop or "cancelled")

    def _body(self, run: Run, recorder: Recorder) -> None:
        assert recorder.context is not None
        with entered(recorder.context):
            given = self.resources(run)
            body = self.load_body(run)
        recorder.context = replace(recorder.context, resources={**given, "log": recorder.line})
        recorder.root = code.root_of(body.function)
        with entered(recorder.context):
            recorder.border()
            try:
                body.function(**parameters.convert(body.function, run.params))
            finally:
                logs.flush()
            recorder.finish()

    def _context(self, run: Run, recorder: Recorder) -> RunContext:
        return RunContext(
            project=run.project,
            environment=run.environment,
            run_id=run.run_id,
            event_time=run.event_time,
            actor=Actor(actor_id=run.actor, name=run.actor, kind="service", role=Role.editor),
            clock=self.clock,
            resources={"log": recorder.line},
            params=run.params,
            journal=recorder,
            write_line=recorder.line,
        )

    # ── how it ended ─────────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, run: Run, recorder: Recorder, error: BaseException | None) -> None:
        """Write how the run ended, in one transaction with what still waited."""
        if isinstance(error, Ended):
            error = Stopped(recorder.stop or "cancelled")
        why = error.why if isinstance(error, Stopped) else ""
        if why == "lost":
            _log.warning("run %s was taken over by another worker", run.run_id)
            return
        text = None
        if error is not None and not why:
            text = told(error)
            if not recorder.path:
                recorder.line(text, "error")
        write_rest = recorder.closing()

        def settle(tx: Connection) -> None:
            if queries.hold(tx, run.project, run.run_id, recorder.owner) is None:
                return
            write_rest(tx)
            if why == "handed_back":
                queries.end_running_steps(
                    tx, run.project, run.run_id, state=StepState.cancelled, at=self.clock.now(), error="Its worker went down."
                )
                queries.end_job(tx, run.project, run.run_id, state=JobState.ready)
                runs.move_run(
                    tx, run.project, run.run_id, froms=(RunState.running,), state=RunState.queued, at=self.clock.now(), error=None
                )
            elif why:
                self._close(tx, run, RunState.cancelled, "It was asked to stop.")
            elif error is None:
                self._close(tx, run, RunState.finished, None)
            else:
                self._close(tx, run, RunState.failed, text)

        faults.passing("before_commit")
        self.database.write(settle)
        faults.passing("after_commit")

    def _close(self, tx: Connection, run: Run, state: RunState, error: str | None, *, job: JobState = JobState.done) -> None:
        """End a run: its job, its state, the steps that were running, the event."""
        now = self.clock.now()
        queries.end_job(tx, run.project, run.run_id, state=job, error=error)
        step_state = StepState.failed if state == RunState.failed else StepState.cancelled
        queries.end_running_steps(tx, run.project, run.run_id, state=step_state, at=now, error=error or "")
        runs.move_run(tx, run.project, run.run_id, froms=_LIVE, state=state, at=now, error=error)
        self._event(tx, run, str(state), {"error": error} if error else {})

    def _event(self, tx: Connection, run: Run, what: str, facts: dict[str, Any]) -> None:
        events.append(
            tx,
            Call(actor=SYSTEM, event_time=self.clock.now()),
            type=f"treadle.run.{what}",
            subject=f"run/{run.run_id}",
            project=run.project,
            environment=run.environment,
            payload={"run_id": run.run_id, "pipeline": run.pipeline, **facts},
        )
