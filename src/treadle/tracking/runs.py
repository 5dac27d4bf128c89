"""Runs that a script executes and logs itself, and everything logged to runs of either kind.

Logging is what is called thousands of times: one statement finds the run, one an entity writes the rows. The latest value of a metric is
the one with the greatest (step, time, value), whatever order its points arrive in, so retries and late batches change nothing.
"""

from typing import Any

from treadle.ledger import lineage
from treadle.ledger.dispatch import Unchanged
from treadle.operations import implements
from treadle.operations import tracking as ops
from treadle.operations.ledger import Done
from treadle.records.calls import Call
from treadle.records.clock import SystemClock, micros
from treadle.records.digests import canonical, digest_of
from treadle.records.errors import TreadleError
from treadle.records.ledger import Edge, Reason, Version
from treadle.records.states import ENDED
from treadle.records.tracking import DEFAULT_EXPERIMENT, Lifecycle, Point, RunHead, RunInput, TrackedRun
from treadle.store.db import Connection
from treadle.store.queries import experiments as experiment_queries
from treadle.store.queries import ledger as ledger_queries
from treadle.store.queries import logged_models as model_queries
from treadle.store.queries import run_documents, run_reads
from treadle.store.queries import tracking as queries
from treadle.tracking import limits
from treadle.tracking.experiments import binned, lifecycle, no_experiment
from treadle.tracking.limits import EDGE, FIRST, LAST

#: Tags by which MLflow's clients say what we keep as a column, and the column.
MIRRORED = {
    "mlflow.runName": "name",
    "mlflow.user": "user_name",
    "mlflow.parentRunId": "parent_run",
    "mlflow.source.git.commit": "git_revision",
}
#: The tag that carries a run's name to MLflow's clients.
NAME_TAG = "mlflow.runName"
#: Most metrics, parameters and tags in one call, together.
MOST = 20_000
_REASON = canonical(Reason(kind="demand", text="logged by a script")).decode()
_ROLES = ("input", "output")


class RunVerbs:
    """Runs and what is logged to them."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    @implements(ops.StartRun)
    def start_run(self, tx: Connection, request: ops.StartRun, call: Call) -> TrackedRun | Unchanged:
        """Record a run that has begun."""
        limits.check_id(request.run_id, "run")
        for text, what in ((request.name, "name of the run"), (request.user, "user"), (request.parent_run, "parent run")):
            limits.check_text(text or "", what, limits.TITLE)
        for text, what in (
            (request.git_revision, "git revision"),
            (request.code_digest, "code digest"),
            (request.environment_digest, "environment digest"),
        ):
            limits.check_text(text or "", what, limits.TITLE)
        limits.check_moment(request.started, "start")
        limits.check_pairs(request.tags, "tag")
        limits.check_pairs(request.params, "parameter")
        now = micros(self._clock.now())
        created = now if request.started is None else request.started
        row: dict[str, Any] = {
            "project": request.project,
            "run_id": request.run_id,
            "environment": request.environment,
            "experiment": request.experiment,
            "pipeline": "",
            "state": "running",
            "name": request.name,
            "user_name": request.user,
            "lifecycle": "active",
            "params": "{}",
            "reason": _REASON,
            "actor": call.actor.actor_id,
            "definition_digest": "",
            "project_digest": "",
            "code_digest": request.code_digest,
            "environment_digest": request.environment_digest,
            "git_revision": request.git_revision,
            "parent_run": request.parent_run,
            "event_time": micros(call.event_time),
            "recorded_time": now,
            "created": created,
            "started": created,
        }
        begun = queries.begin_run(tx, row, request.tags)
        if not begun:
            row["experiment"] = self._experiment(tx, request.project, request.experiment, call)
            if not queries.insert_tracked_run(tx, row):
                return self._again(tx, request, row["experiment"])
        head = queries.Head(row["experiment"], created, "active", "", "running")
        queries.put_params(tx, request.project, request.run_id, head, request.params)
        if not begun:
            queries.put_tags(tx, request.project, request.run_id, head, request.tags)
        return run_reads.tracked_of(request.project, row, request.params, request.tags)

    @implements(ops.GetTrackedRun)
    def get_tracked_run(self, connection: Connection, request: ops.GetTrackedRun, call: Call) -> TrackedRun:
        """A run with everything that was logged to it."""
        return self._known(connection, request.project, request.run_id, last=True)

    @implements(ops.UpdateRun)
    def update_run(self, tx: Connection, request: ops.UpdateRun, call: Call) -> RunHead | Unchanged:
        """Change its state, end, name or experiment."""
        known = self._head(tx, request.project, request.run_id)
        head = queries.Head(known.experiment_id, micros(known.created), known.lifecycle, known.pipeline, known.state)
        _check_active(head, request.project, request.run_id)
        values: dict[str, Any] = {}
        if head.pipeline and (request.state is not None or request.ended is not None or request.error is not None):
            raise TreadleError(
                f"The run {request.run_id} is executed by the pipeline {head.pipeline}, which alone says how it stands.",
                remedy=f"Stop it: treadle run cancel {request.run_id}",
                code="conflict",
            )
        limits.check_moment(request.ended, "end")
        limits.check_text(request.error or "", "error", limits.TEXT)
        if request.state is not None:
            values["state"] = str(request.state)
            if request.state in ENDED and request.ended is None and head.state not in ENDED:
                values["ended"] = micros(call.event_time)
        if request.ended is not None:
            values["ended"] = request.ended
        if request.error is not None:
            values["error"] = request.error
        if request.name is not None:
            limits.check_text(request.name, "name of the run", limits.TITLE)
            values["name"] = request.name
            queries.put_tags(tx, request.project, request.run_id, head, {NAME_TAG: request.name})
        if request.experiment is not None:
            self._move(tx, request, head, call)
        if values:
            queries.update_run(tx, request.project, request.run_id, values)
        if not values and request.experiment is None:
            return Unchanged(known)
        if request.name is not None:
            _forget(tx, request.project, request.run_id, head)
        if request.state in ENDED:
            run_documents.want(tx, request.project, request.run_id)
        elif request.state is not None:
            run_documents.drop(tx, request.project, request.run_id)
        return self._head(tx, request.project, request.run_id) if request.experiment is not None else run_reads.changed(known, values)

    @implements(ops.BinRun)
    def bin_run(self, tx: Connection, request: ops.BinRun, call: Call) -> RunHead | Unchanged:
        """Put it into the bin, or take it back."""
        wanted = lifecycle(request.lifecycle)
        known = self._head(tx, request.project, request.run_id)
        if known.lifecycle == wanted:
            return Unchanged(known)
        deleted = micros(self._clock.now()) if wanted == Lifecycle.deleted else None
        values = {"lifecycle": str(wanted), "deleted": deleted}
        queries.update_run(tx, request.project, request.run_id, values)
        return run_reads.changed(known, values)

    # ── what is logged ───────────────────────────────────────────────────────────────────────────────────────────

    @implements(ops.LogBatch)
    def log(self, tx: Connection, request: ops.LogBatch, call: Call) -> Done:
        """Metrics, parameters and tags: all of them or none."""
        project, run_id = request.project, request.run_id
        if len(request.metrics) + len(request.params) + len(request.tags) + len(request.remove_tags) > MOST:
            raise TreadleError(f"One call logs at most {MOST:,} things.", remedy="Make several calls of it.", details={"limit": MOST})
        if len(request.metrics) == 1 and not (request.params or request.tags or request.remove_tags or request.metrics[0].model_id):
            return Done(changed=self._measure_once(tx, request, call) > 0)
        head = self._active(tx, project, run_id)
        changed = 0
        if request.params:
            limits.check_pairs(request.params, "parameter")
            other = queries.put_params(tx, project, run_id, head, request.params)
            if other:
                raise _changed(run_id, request.params, other)
            changed += 1
        if request.metrics:
            changed += self._measure(tx, request, head, call)
        if request.tags:
            limits.check_pairs(request.tags, "tag")
            changed += queries.put_tags(tx, project, run_id, head, request.tags)
            mirrored = {MIRRORED[name]: value[: limits.TITLE] for name, value in request.tags.items() if name in MIRRORED}
            if mirrored:
                queries.update_run(tx, project, run_id, mirrored)
        for name in request.remove_tags:
            if not queries.drop_tag(tx, project, run_id, name):
                raise TreadleError(
                    f"The run {run_id} has no tag {name[:80]!r}.",
                    remedy="See its tags: treadle run show RUN",
                    code="not_found",
                    details={"missing": "tag", "name": name, "thing": "run", "id": run_id},
                )
            changed += 1
        if changed:
            _forget(tx, project, run_id, head)
        return Done(changed=changed > 0)

    def _measure_once(self, tx: Connection, request: ops.LogBatch, call: Call) -> int:
        """What is called most often: one point, and nothing else."""
        point = _measured(request.metrics[0], micros(call.event_time))
        head, new = queries.put_point(tx, request.project, request.run_id, point)
        _check_active(head, request.project, request.run_id)
        return new

    def _measure(self, tx: Connection, request: ops.LogBatch, head: queries.Head, call: Call) -> int:
        at = micros(call.event_time)
        points = [_measured(point, at) for point in request.metrics]
        of_models = [point for point in request.metrics if point.model_id]
        new = queries.put_points(tx, request.project, request.run_id, head, points)
        if of_models:
            self._measure_models(tx, request, of_models, at)
        return new

    def _measure_models(self, tx: Connection, request: ops.LogBatch, points: list[Point], at: int) -> None:
        heads = model_queries.model_heads(tx, request.project, sorted({p.model_id for p in points}))
        rows: list[tuple[Any, ...]] = []
        for p in points:
            if p.model_id not in heads:
                raise no_model(request.project, p.model_id)
            limits.check_text(p.dataset_name, "name of the dataset", limits.TITLE)
            limits.check_text(p.dataset_digest, "digest of the dataset", limits.ID)
            value = limits.number(p.value, p.key)
            rows.append(
                (
                    request.project,
                    p.model_id,
                    p.key,
                    request.run_id,
                    p.dataset_name,
                    p.dataset_digest,
                    p.step,
                    at if p.time is None else p.time,
                    heads[p.model_id].experiment,
                    None if value != value else value,  # NaN
                )
            )
        model_queries.put_model_points(tx, rows)

    @implements(ops.LogInputs)
    def log_inputs(self, tx: Connection, request: ops.LogInputs, call: Call) -> Done:
        """Data and logged models that it read, logged models that it made; all of them nodes of the lineage graph."""
        project, run_id = request.project, request.run_id
        head = self._active(tx, project, run_id)
        now = micros(self._clock.now())
        edges: list[Edge] = []
        for data in request.inputs:
            _check_input(data)
            node = digest_of({"name": data.name, "digest": data.digest, "source": data.source})
            facts = {"digest": data.digest, "source_type": data.source_type, "source": data.source[:2000]}
            lineage.add_version(
                tx,
                Version(project=project, digest=node, kind="dataset", name=data.name[: limits.TITLE], facts=facts),
                event_time=call.event_time,
            )
            edges.append(Edge(project=project, child=run_id, parent=node, role=data.context[: limits.ID] or "input", run_id=run_id))
        heads = model_queries.model_heads(tx, project, sorted({m.model_id for m in request.models}))
        for model in request.models:
            if model.role not in _ROLES:
                raise TreadleError(f"{model.role!r} is nothing that a model is to a run.", remedy="Use input or output.")
            limits.check_step(model.step, f"model {model.model_id}")
            if model.model_id not in heads:
                raise no_model(project, model.model_id)
            ends = (run_id, model.model_id) if model.role == "input" else (model.model_id, run_id)
            edges.append(Edge(project=project, child=ends[0], parent=ends[1], role=model.role, run_id=run_id))
        new = queries.put_inputs(tx, project, run_id, head, request.inputs, now)
        new += queries.put_run_models(tx, project, run_id, request.models, now)
        lineage.add_edges(tx, edges)
        if new:
            _forget(tx, project, run_id, head)
        return Done(changed=new > 0)

    # ── what they share ──────────────────────────────────────────────────────────────────────────────────────────

    def _active(self, tx: Connection, project: str, run_id: str) -> queries.Head:
        return _check_active(queries.run_head(tx, project, run_id), project, run_id)

    def _head(self, connection: Connection, project: str, run_id: str) -> RunHead:
        known = run_reads.get_head(connection, project, run_id)
        if known is None:
            raise no_run(project, run_id)
        return known

    def _known(self, connection: Connection, project: str, run_id: str, *, last: bool = False) -> TrackedRun:
        found = run_reads.tracked_runs(connection, project, [run_id], last=last)
        if not found:
            raise no_run(project, run_id)
        return found[0]

    def _experiment(self, tx: Connection, project: str, wanted: str, call: Call) -> str:
        """The id of an experiment given by id or name, which must not be in the bin; one that is not there is made."""
        state = experiment_queries.experiment_state(tx, project, wanted)
        if state is None:
            limits.check_text(wanted, "name of the experiment", limits.ID)
            if wanted:
                limits.check_id(wanted, "experiment")
            wanted = ledger_queries.ensure_experiment(tx, project, wanted, call.actor.actor_id, self._clock.now())
            state = experiment_queries.experiment_state(tx, project, wanted)
        if state is None:
            raise no_experiment(project, wanted)
        if state[0] != "active":
            raise binned("experiment", wanted)
        return wanted

    def _again(self, tx: Connection, request: ops.StartRun, experiment: str) -> Unchanged:
        known = queries.run_origin(tx, request.project, request.run_id)
        names = ("environment", "parent_run", "git_revision", "code_digest", "environment_digest")
        same = known.get("experiment") == experiment and not known.get("pipeline")
        if not same or any(known.get(name) != getattr(request, name) for name in names):
            raise TreadleError(
                f"There is a run {request.run_id} already, with other content.",
                remedy="Make a fresh id for a new run: treadle.records.ids.new_id('run')",
                code="conflict",
            )
        return Unchanged(self._known(tx, request.project, request.run_id))

    def _move(self, tx: Connection, request: ops.UpdateRun, head: queries.Head, call: Call) -> None:
        old, new = head.experiment, self._experiment(tx, request.project, request.experiment or DEFAULT_EXPERIMENT, call)
        if old == new:
            return
        places = [(experiment_queries.experiment_state(tx, request.project, e) or ("", ""))[1] for e in (old, new)]
        if any(places):
            raise TreadleError(
                f"The files of run {request.run_id} are where its experiment keeps them, and cannot move with it to {new}.",
                remedy="Move runs between experiments that keep their files in this home.",
                code="conflict",
            )
        queries.move_to_experiment(tx, request.project, request.run_id, old, new)


def _measured(point: Point, at: int) -> queries.Value:
    """A point as it is kept; `at` is its time where it has none."""
    key, value, step, time = point.key, point.value, point.step, point.time
    limits.check_name(key, "metric")
    if not -EDGE <= step < EDGE:
        limits.check_step(step, key)
    if time is not None and not FIRST <= time <= LAST:
        limits.check_moment(time, "time of a metric")
    return key, step, at if time is None else time, value if type(value) is float else limits.number(value, key)


def _forget(tx: Connection, project: str, run_id: str, head: queries.Head) -> None:
    """What was logged to a run changes: its document, if it has one, is no longer true."""
    if head.state in ENDED:
        run_documents.forget(tx, project, [run_id])


def _check_active(head: queries.Head | None, project: str, run_id: str) -> queries.Head:
    if head is None:
        raise no_run(project, run_id)
    if head.lifecycle != "active":
        raise binned("run", run_id)
    return head


def no_run(project: str, run_id: str) -> TreadleError:
    """There is none."""
    return TreadleError(
        f"There is no run {run_id[:200]!r} in project {project!r}.",
        remedy="List runs: treadle runs",
        code="not_found",
        details={"missing": "run", "id": run_id},
    )


def no_model(project: str, model_id: str) -> TreadleError:
    """There is no such logged model."""
    return TreadleError(
        f"There is no logged model {model_id[:200]!r} in project {project!r}.",
        remedy="List them: treadle api search-logged-models",
        code="not_found",
        details={"missing": "logged_model", "id": model_id},
    )


def _changed(run_id: str, given: dict[str, str], known: dict[str, str]) -> TreadleError:
    told = [{"key": name, "old_value": value, "new_value": given[name]} for name, value in known.items()]
    name, value = next(iter(known.items()))
    return TreadleError(
        f"Parameter {name!r} of run {run_id} was logged before as {value[:200]!r} and now as {given[name][:200]!r}; nothing was kept.",
        remedy="A parameter does not change while a run lasts: log it once, or use a tag, or start another run.",
        code="conflict",
        details={"changed": told[:20], "run": run_id},
    )


def _check_input(data: RunInput) -> None:
    limits.check_text(data.name, "name of the dataset", 500, needed=True)
    limits.check_text(data.digest, "digest of the dataset", limits.ID, needed=True)
    limits.check_text(data.source_type, "type of the dataset's source", limits.TITLE)
    limits.check_text(data.source, "source of the dataset", limits.TEXT)
    limits.check_text(data.schema or "", "schema of the dataset", 1_048_575)
    limits.check_text(data.profile or "", "profile of the dataset", 16_777_215)
    limits.check_text(data.context, "context of the dataset", limits.TITLE)
    for name, value in data.tags.items():
        limits.check_text(name, "name of a tag of the dataset", limits.TITLE, needed=True)
        limits.check_text(value, "value of a tag of the dataset", limits.TEXT)
