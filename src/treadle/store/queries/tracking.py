"""Statements on runs that a script logs, and what it logs to them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, select, update

from treadle.records.states import ENDED
from treadle.records.tracking import RunInput, RunModel
from treadle.store import tables as t
from treadle.store.driver import chunks, fetch, put_off, run
from treadle.store.queries import run_documents, run_reads
from treadle.store.upsert import insert_rows, upsert_rows


class Head(NamedTuple):
    """What writing to a run needs to know of it."""

    experiment: str
    created: int
    lifecycle: str
    pipeline: str
    state: str


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_NEW_RUN = (
    "project",
    "run_id",
    "environment",
    "experiment",
    "pipeline",
    "state",
    "name",
    "user_name",
    "lifecycle",
    "params",
    "reason",
    "actor",
    "definition_digest",
    "project_digest",
    "code_digest",
    "environment_digest",
    "git_revision",
    "parent_run",
    "event_time",
    "recorded_time",
    "created",
    "started",
)


def run_head(connection: Connection, project: str, run_id: str) -> Head | None:
    """What writing to a run needs to know of it, None where there is none."""
    statement = "SELECT experiment, created, lifecycle, pipeline, state FROM runs WHERE project = ? AND run_id = ?"
    found = fetch(connection, statement, project, run_id)
    return Head(*found[0]) if found else None


def insert_tracked_run(tx: Connection, row: dict[str, Any]) -> bool:
    """A new run of a script, times in microseconds, JSON as text; False where its id is there."""
    return insert_rows(tx, t.runs, _NEW_RUN, [tuple(row[name] for name in _NEW_RUN)]) == 1


#: A run that begins, in an experiment that is not in the bin, and its tags: three statements of PostgreSQL's in one.
_BEGIN_RUN = (
    f"WITH made AS (INSERT INTO runs ({', '.join(_NEW_RUN)}) SELECT {', '.join('?' * len(_NEW_RUN))} FROM experiments "
    "WHERE project = ? AND experiment_id = ? AND lifecycle = 'active' ON CONFLICT DO NOTHING "
    "RETURNING project, run_id, experiment, created), "
    "tagged AS (INSERT INTO tags (project, run_id, name, experiment, created, value, head) "
    f"SELECT made.project, made.run_id, given.name, made.experiment, made.created, given.value, left(given.value, {t.INDEXED}) "
    "FROM made, ROWS FROM (json_array_elements_text(?::json), json_array_elements_text(?::json)) AS given (name, value)) "
    "SELECT count(*) FROM made"
)


def begin_run(tx: Connection, row: dict[str, Any], tags: dict[str, str]) -> bool:
    """A new run of a script with its tags; False, and nothing is written, where its id is there or its experiment is not, or is in the bin.

    On SQLite, where statements cost little, False is answered always: look the experiment up, then insert run and tags.
    """
    if tx.dialect.name != "postgresql":
        return False
    told = [msgspec.json.encode(list(part)).decode() for part in (tags.keys(), tags.values())]
    values = [row[name] for name in _NEW_RUN]
    return fetch(tx, _BEGIN_RUN, *values, row["project"], row["experiment"], *told)[0][0] == 1


def update_run(tx: Connection, project: str, run_id: str, values: dict[str, Any]) -> None:
    """Set columns of a run; times in microseconds."""
    sets = ", ".join(f"{name} = ?" for name in values)
    put_off(tx, f"UPDATE runs SET {sets} WHERE project = ? AND run_id = ?", *values.values(), project, run_id)


def make_documents(tx: Connection, *, project: str, run_ids: Sequence[str]) -> None:
    """Make the documents of runs of which they are wanted still."""
    if tx.dialect.name == "postgresql":
        run_documents.keep_made(tx, project, run_ids)
    else:
        run_documents.keep(tx, project, run_reads.logged_to(tx, project, run_ids))


def run_origin(connection: Connection, project: str, run_id: str) -> dict[str, Any]:
    """What a run was started with that a retry must repeat."""
    names = ("environment", "experiment", "pipeline", "parent_run", "git_revision", "code_digest", "environment_digest")
    found = fetch(connection, f"SELECT {', '.join(names)} FROM runs WHERE project = ? AND run_id = ?", project, run_id)
    return dict(zip(names, found[0], strict=True)) if found else {}


# ── what is logged ───────────────────────────────────────────────────────────────────────────────────────────────────

_POINT = ("project", "run_id", "name", "step", "time", "value", "nan")
_LATEST = ("project", "run_id", "name", "experiment", "created", "step", "time", "value")
#: From so many points on it is worth a question which of them PostgreSQL cannot have yet: it inserts these at half the cost.
MANY = 32
#: So many names are asked about one by one, of more all that the run has are read.
NAMED = 20

Value = tuple[str, int, int, float]


def latest_key(point: Value) -> tuple[int, int, float, bool]:
    """By what the latest of a metric's (name, step, time, value) is told."""
    _, step, time, value = point
    return (step, time, 0.0, False) if math.isnan(value) else (step, time, value, True)


def _greater(point: Value, there: Value) -> bool:
    return point[2] == there[2] and latest_key(point) > latest_key(there)


def put_points(tx: Connection, project: str, run_id: str, head: Head, points: Sequence[Value]) -> int:
    """Keep (name, step, time, value) and, of each name, the latest; returns how many were new."""
    rows = [
        (project, run_id, name, step, time, 0.0, 1) if value != value else (project, run_id, name, step, time, value, 0)
        for name, step, time, value in points
    ]
    latest: dict[str, Value] = {}
    for point in points:
        name, step, time, _ = point
        there = latest.get(name)
        if there is None or step > there[1] or (step == there[1] and (time > there[2] or _greater(point, there))):
            latest[name] = point
    now = [
        (project, run_id, name, head.experiment, head.created, step, time, None if math.isnan(value) else value)
        for name, step, time, value in latest.values()
    ]
    added: list[tuple[Any, ...]] = []  # latest points of names that the run has none of
    if len(rows) >= MANY and tx.dialect.name == "postgresql":
        known = _known_steps(tx, project, run_id, list(latest))
        added = [row for row in now if row[2] not in known]
        now = [row for row in now if row[2] in known]
        beyond = all(step > known.get(name, -math.inf) for name, step, _, _ in points)
        new = insert_rows(tx, t.metrics, _POINT, list(dict.fromkeys(rows)) if beyond else rows, fresh=beyond)
    else:
        new = insert_rows(tx, t.metrics, _POINT, rows)
    if new:
        insert_rows(tx, t.latest_metrics, _LATEST, added, fresh=True)
        upsert_rows(tx, t.latest_metrics, _LATEST, now, update=_LATEST[-3:], newer=_LATEST[-3:])
    return new


_LATER = "({0}.step, {0}.time, COALESCE({0}.value, 0.0), {0}.value IS NOT NULL)"
_ENDED = f"({', '.join(repr(str(state)) for state in ENDED)})"
#: Where a run stands and, if it is not in the bin, a point of it and the latest of its name: four statements of PostgreSQL's in one.
_PUT_POINT = (
    "WITH head AS (SELECT experiment, created, lifecycle, pipeline, state FROM runs WHERE project = ? AND run_id = ?), "
    f"gone AS (UPDATE run_documents o SET document = NULL FROM head WHERE head.state IN {_ENDED} AND o.project = ? AND o.run_id = ? "
    "AND o.document IS NOT NULL), "
    "new AS (INSERT INTO metrics (project, run_id, name, step, time, value, nan) SELECT ?, ?, ?, ?, ?, ?, ? FROM head "
    "WHERE lifecycle = 'active' ON CONFLICT DO NOTHING RETURNING project, run_id, name, step, time), "
    "latest AS (INSERT INTO latest_metrics (project, run_id, name, experiment, created, step, time, value) "
    "SELECT new.project, new.run_id, new.name, head.experiment, head.created, new.step, new.time, ? FROM new, head "
    "ON CONFLICT (project, run_id, name) DO UPDATE SET step = excluded.step, time = excluded.time, value = excluded.value "
    f"WHERE {_LATER.format('excluded')} > {_LATER.format('latest_metrics')}) "
    "SELECT experiment, created, lifecycle, pipeline, state, (SELECT count(*) FROM new) FROM head"
)


def put_point(tx: Connection, project: str, run_id: str, point: Value) -> tuple[Head | None, int]:
    """The run, None where there is none, and how many points were new: `run_head` and `put_points` of one point.

    It is the last of its operation (`driver.fetch`). Of a run in the bin nothing is kept.
    """
    name, step, time, value = point
    if tx.dialect.name != "postgresql":
        head = run_head(tx, project, run_id)
        if head is None or head.lifecycle != "active":
            return head, 0
        if head.state in ENDED:
            run_documents.forget(tx, project, [run_id])
        return head, put_points(tx, project, run_id, head, [point])
    nan = value != value
    kept = (project, run_id, name, step, time, 0.0 if nan else value, int(nan))
    found = fetch(tx, _PUT_POINT, project, run_id, project, run_id, *kept, None if nan else value, last=True)
    return (Head(*found[0][:-1]), found[0][-1]) if found else (None, 0)


def _known_steps(tx: Connection, project: str, run_id: str, names: list[str]) -> dict[str, int]:
    """The latest step of a run's metrics, of those named at least: no point there is goes beyond it."""
    named = f" AND name IN ({', '.join('?' * len(names))})" if len(names) <= NAMED else ""
    statement = f"SELECT name, step FROM latest_metrics WHERE project = ? AND run_id = ?{named}"
    return dict(fetch(tx, statement, project, run_id, *(names if named else ())))


_PAIR = ("project", "run_id", "name", "experiment", "created", "value", "head")


def put_params(tx: Connection, project: str, run_id: str, head: Head, params: dict[str, str]) -> dict[str, str]:
    """Keep parameters that are not there yet; returns the values that are there of those that are there with another."""
    rows = [(project, run_id, name, head.experiment, head.created, value, value[: t.INDEXED]) for name, value in params.items()]
    if insert_rows(tx, t.params, _PAIR, rows) == len(rows):
        return {}
    known: dict[str, str] = {}
    for some, marks in chunks(list(params)):
        statement = f"SELECT name, value FROM params WHERE project = ? AND run_id = ? AND name IN ({marks})"
        known |= dict(tuple(row) for row in fetch(tx, statement, project, run_id, *some))
    return {name: known[name] for name, value in params.items() if known[name] != value}


def put_tags(tx: Connection, project: str, run_id: str, head: Head, tags: dict[str, str]) -> int:
    """Set tags of a run."""
    rows = [(project, run_id, name, head.experiment, head.created, value, value[: t.INDEXED]) for name, value in tags.items()]
    return upsert_rows(tx, t.tags, _PAIR, rows, update=("value", "head"))


def drop_tag(tx: Connection, project: str, run_id: str, name: str) -> bool:
    """Remove a tag of a run; False where it is not there."""
    g = t.tags.c
    return tx.execute(delete(t.tags).where(g.project == project, g.run_id == run_id, g.name == name)).rowcount == 1


def put_inputs(tx: Connection, project: str, run_id: str, head: Head, inputs: Sequence[RunInput], at: int) -> int:
    """Data that a run read; what is known of the same (name, digest) stays. Returns how many were new to the run."""
    columns = ("project", "experiment", "name", "digest", "source_type", "source", "schema", "profile", "recorded_time")
    rows = [(project, head.experiment, i.name, i.digest, i.source_type, i.source, i.schema, i.profile, at) for i in inputs]
    insert_rows(tx, t.tracked_datasets, columns, rows)
    columns = ("project", "run_id", "name", "digest", "experiment", "created", "context", "tags")
    rows = [
        (project, run_id, i.name, i.digest, head.experiment, head.created, i.context, msgspec.json.encode(i.tags).decode()) for i in inputs
    ]
    return insert_rows(tx, t.run_inputs, columns, rows)


def put_run_models(tx: Connection, project: str, run_id: str, models: Sequence[RunModel], at: int) -> int:
    """Logged models that a run read or made."""
    rows = [(project, run_id, m.role, m.model_id, m.step, at) for m in models]
    columns = ("project", "run_id", "role", "model_id", "step", "recorded_time")
    return upsert_rows(tx, t.run_models, columns, rows, update=("step",))


def move_to_experiment(tx: Connection, project: str, run_id: str, old: str, new: str) -> None:
    """Put a run, its logged models and every copy of its experiment's id into another experiment."""
    for row in fetch(tx, "SELECT name, digest FROM run_inputs WHERE project = ? AND run_id = ?", project, run_id):
        statement = (
            "INSERT INTO tracked_datasets (project, experiment, name, digest, source_type, source, schema, profile, recorded_time) "
            "SELECT project, ?, name, digest, source_type, source, schema, profile, recorded_time FROM tracked_datasets "
            "WHERE project = ? AND experiment = ? AND name = ? AND digest = ? ON CONFLICT DO NOTHING"
        )
        run(tx, statement, [(new, project, old, row[0], row[1])])
    for table in (t.params, t.tags, t.latest_metrics, t.run_inputs, t.runs):
        c = table.c
        tx.execute(update(table).where(c.project == project, c.run_id == run_id).values(experiment=new))
    m = t.logged_models.c
    models = list(tx.execute(select(m.model_id).where(m.project == project, m.run_id == run_id)).scalars())
    for table in (t.logged_model_params, t.logged_model_tags, t.logged_model_metrics, t.logged_models):
        c = table.c
        tx.execute(update(table).where(c.project == project, c.model_id.in_(models)).values(experiment=new))
