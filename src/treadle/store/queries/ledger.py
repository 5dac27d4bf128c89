"""Statements on runs, their measurements and artifacts, and the lineage graph."""

import contextlib
import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, exc, func, literal, select, tuple_, update

from treadle.records.clock import micros
from treadle.records.ledger import Artifact, Edge, Metric, Reason, Run, Version
from treadle.records.states import ENDED, RunState
from treadle.records.tracking import DEFAULT_EXPERIMENT, DEFAULT_NAME
from treadle.store import tables as t
from treadle.store.queries import run_documents
from treadle.store.upsert import find_row, insert_new, insert_or_update, insert_rows, upsert_rows


def _of_run(column: str) -> tuple[str, Any]:
    r = t.runs.c
    of = (r.project == bindparam("of_project"), r.run_id == bindparam("of_run"))
    return column, select(r[column]).where(*of).scalar_subquery()


#: Experiment and creation time of the run that measurements belong to; NULL, which is refused, where there is no such run.
_OF_RUN = (_of_run("experiment"), _of_run("created"))
_RUN = [f.name for f in msgspec.structs.fields(Run)]


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def insert_run(tx: Connection, run: Run) -> bool:
    """A new run (`experiment` being an id) and its parameters, searchable by value; False where the run's id is there."""
    row = {name: getattr(run, name) for name in _RUN}
    if not insert_new(tx, t.runs, {**row, "state": str(run.state), "created": run.recorded_time}):
        return False
    shared = {"project": run.project, "run_id": run.run_id, "experiment": run.experiment, "created": run.recorded_time}
    texts = {name: _told(value) for name, value in run.params.items()}
    insert_new(tx, t.params, [{**shared, "name": name, "value": value, "head": value[: t.INDEXED]} for name, value in texts.items()])
    return True


def find_experiment(connection: Connection, project: str, experiment: str) -> str | None:
    """The id of an experiment given by id or name, in the bin or not."""
    wanted = DEFAULT_EXPERIMENT if experiment in ("", "default", DEFAULT_NAME) else experiment
    for column in ("experiment_id", "name"):
        found = find_row(connection, t.experiments, ("experiment_id",), ("project", column), (project, wanted))
        if found is not None:
            return found[0]
    return None


def ensure_experiment(tx: Connection, project: str, experiment: str, actor: str, at: dt.datetime) -> str:
    """The id of an experiment given by id or name; one that is not there is made, its name being its id."""
    found = find_experiment(tx, project, experiment)
    if found is not None:
        return found
    default = experiment in ("", "default", DEFAULT_NAME, DEFAULT_EXPERIMENT)
    experiment_id, name = (DEFAULT_EXPERIMENT, DEFAULT_NAME) if default else (experiment, experiment)
    row = {"project": project, "experiment_id": experiment_id, "name": name, "actor": actor, "created": at, "updated": at}
    insert_new(tx, t.experiments, row)
    return experiment_id


def get_run(connection: Connection, project: str, run_id: str) -> Run | None:
    """One run."""
    row = connection.execute(select(t.runs).where(t.runs.c.project == project, t.runs.c.run_id == run_id)).first()
    return None if row is None else _run(row)


def list_runs(
    connection: Connection,
    project: str,
    *,
    equal: dict[str, str | None],
    before: tuple[dt.datetime, str] | None = None,
    limit: int = 50,
) -> list[Run]:
    """Runs, newest first, whose columns equal the values given (None: any), before (recorded time, run id) of the last page's end."""
    r = t.runs.c
    where = [r.project == project, *(r[name] == value for name, value in equal.items() if value is not None)]
    if before is not None:
        where.append(tuple_(r.recorded_time, r.run_id) < tuple_(literal(before[0], t.Time()), literal(before[1])))
    rows = connection.execute(select(t.runs).where(*where).order_by(r.recorded_time.desc(), r.run_id.desc()).limit(limit))
    return [_run(row) for row in rows]


def move_run(
    tx: Connection, project: str, run_id: str, *, froms: Collection[RunState], state: RunState, at: dt.datetime, error: str | None
) -> Run | None:
    """Set a run's state if it is in one of `froms`; the run as it then is, or None where it was in none of them."""
    r = t.runs.c
    values: dict[str, Any] = {"state": str(state), "error": error}
    if state == RunState.running:
        values["started"] = func.coalesce(r.started, literal(at, t.Time()))
    values["ended"] = at if state in ENDED else None
    where = (r.project == project, r.run_id == run_id, r.state.in_([str(s) for s in froms]))
    row = tx.execute(update(t.runs).where(*where).values(**values).returning(*t.runs.c)).first()
    return None if row is None else _run(row)


@contextlib.contextmanager
def needing(error: Exception) -> Iterator[None]:
    """Raises `error` where a statement in the block needs a row that is not there."""
    try:
        yield
    except exc.IntegrityError as raised:
        raise error from raised


# ── measurements ─────────────────────────────────────────────────────────────────────────────────────────────────────


def log_metrics(tx: Connection, project: str, run_id: str, metrics: Sequence[Metric], at: dt.datetime) -> int:
    """Measurements and, of each name, the latest by step, time and value; returns how many were new. `at` is the time of those without.

    Raises IntegrityError where the run does not exist.
    """
    now = micros(at)
    points = sorted({(m.key, m.step, now if m.time is None else micros(m.time), m.value) for m in metrics})
    found = find_row(tx, t.runs, ("experiment", "created", "state"), ("project", "run_id"), (project, run_id))
    if found is None:
        raise exc.IntegrityError("a run that is not there", None, LookupError(run_id))
    *run, state = found
    if state in ENDED:
        run_documents.forget(tx, project, [run_id])
    latest = {point[0]: (project, run_id, *run, *point) for point in points}
    columns = ("project", "run_id", "experiment", "created", "name", "step", "time", "value")
    upsert_rows(tx, t.latest_metrics, columns, list(latest.values()), update=columns[-3:], newer=columns[-3:])
    columns = ("project", "run_id", "name", "step", "time", "value", "nan")
    return insert_rows(tx, t.metrics, columns, [(project, run_id, *point, 0) for point in points])


def latest_metrics(connection: Connection, project: str, run_id: str) -> dict[str, float]:
    """The latest value of each metric."""
    m = t.latest_metrics.c
    rows = connection.execute(select(m.name, m.value).where(m.project == project, m.run_id == run_id).order_by(m.name))
    return {row[0]: float("nan") if row[1] is None else row[1] for row in rows}


def metric_points(
    connection: Connection, project: str, run_id: str, name: str, *, after: tuple[int, dt.datetime] | None, limit: int
) -> list[Metric]:
    """A metric's history by step and time, after a (step, time)."""
    m = t.metrics.c
    where = [m.project == project, m.run_id == run_id, m.name == name]
    if after is not None:
        where.append(tuple_(m.step, m.time) > tuple_(literal(after[0]), literal(after[1], t.Time())))
    rows = connection.execute(select(m.step, m.time, m.value, m.nan).where(*where).order_by(m.step, m.time).limit(limit))
    return [Metric(key=name, value=float("nan") if r.nan else r.value, step=r.step, time=r.time) for r in rows]


def set_tags(tx: Connection, project: str, run_id: str, tags: dict[str, str]) -> None:
    """Tags of a run, new or replaced. Raises IntegrityError where the run does not exist."""
    of = {"project": project, "run_id": run_id, "of_project": project, "of_run": run_id}
    rows = [{**of, "name": name, "value": value, "head": value[: t.INDEXED]} for name, value in tags.items()]
    insert_or_update(tx, t.tags, rows, columns=("value", "head"), computed=_OF_RUN)
    run_documents.forget(tx, project, [run_id])


def tags_of(connection: Connection, project: str, run_id: str) -> dict[str, str]:
    """A run's tags."""
    g = t.tags.c
    rows = connection.execute(select(g.name, g.value).where(g.project == project, g.run_id == run_id).order_by(g.name))
    return {row[0]: row[1] for row in rows}


def put_artifact(tx: Connection, artifact: Artifact, at: dt.datetime) -> None:
    """Say which blob stands at a path of a run."""
    insert_or_update(tx, t.artifacts, {**msgspec.structs.asdict(artifact), "recorded_time": at})


def artifacts_of(connection: Connection, project: str, run_id: str) -> list[Artifact]:
    """A run's artifacts by path."""
    a = t.artifacts.c
    rows = connection.execute(select(t.artifacts).where(a.project == project, a.run_id == run_id).order_by(a.path))
    return [Artifact(project=r.project, run_id=r.run_id, path=r.path, digest=r.digest, size=r.size, media_type=r.media_type) for r in rows]


# ── lineage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def insert_version(tx: Connection, version: Version, event_time: dt.datetime, recorded_time: dt.datetime) -> bool:
    """A node; False where its digest is there."""
    row = {**msgspec.structs.asdict(version), "event_time": event_time, "recorded_time": recorded_time}
    return insert_new(tx, t.versions, row) == 1


def insert_edges(tx: Connection, edges: Sequence[Edge], at: dt.datetime) -> int:
    """Edges; returns how many were new."""
    return insert_new(tx, t.edges, [{**msgspec.structs.asdict(edge), "recorded_time": at} for edge in edges])


def edges_of(connection: Connection, project: str, digests: Sequence[str], *, upwards: bool) -> list[Edge]:
    """Edges from these children (upwards), or to these parents."""
    e = t.edges.c
    here = e.child if upwards else e.parent
    found: list[Edge] = []
    for start in range(0, len(digests), 1000):
        rows = connection.execute(select(t.edges).where(e.project == project, here.in_(digests[start : start + 1000])))
        found += [Edge(project=r.project, child=r.child, parent=r.parent, role=r.role, run_id=r.run_id) for r in rows]
    return sorted(found, key=lambda e: (e.child, e.parent, e.role))


def versions_of(connection: Connection, project: str, digests: Sequence[str]) -> list[Version]:
    """Nodes with these digests; unknown ones are left out."""
    v = t.versions.c
    found: list[Version] = []
    for start in range(0, len(digests), 1000):
        rows = connection.execute(select(t.versions).where(v.project == project, v.digest.in_(digests[start : start + 1000])))
        found += [_version(row) for row in rows]
    return found


def find_version(connection: Connection, project: str, kind: str, name: str, number: int | None = None) -> Version | None:
    """A node by kind, name and number (None: the highest)."""
    v = t.versions.c
    where = [v.project == project, v.kind == kind, v.name == name]
    if number is not None:
        where.append(v.number == number)
    row = connection.execute(select(t.versions).where(*where).order_by(v.number.desc()).limit(1)).first()
    return None if row is None else _version(row)


def _run(row: Row[Any]) -> Run:
    fields = {name: getattr(row, name) for name in _RUN}
    return Run(**{**fields, "state": RunState(row.state), "reason": msgspec.convert(row.reason, Reason)})


def _version(row: Row[Any]) -> Version:
    return Version(
        project=row.project,
        digest=row.digest,
        kind=row.kind,
        name=row.name,
        number=row.number,
        facts=row.facts,
        recorded_time=row.recorded_time,
    )


def _told(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
