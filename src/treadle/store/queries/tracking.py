"""Statements on runs that a script logs, and what it logs to them."""

import datetime as dt
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, select, update

from treadle.records.clock import from_micros
from treadle.records.states import ENDED, RunState
from treadle.records.tracking import (
    Lifecycle,
    Point,
    RunInput,
    RunModel,
    TrackedRun,
)
from treadle.store import tables as t
from treadle.store.driver import chunks, fetch, fetch_together, of_runs, put_off, run
from treadle.store.queries import run_documents
from treadle.store.queries.run_documents import Logged
from treadle.store.upsert import insert_rows, upsert_rows


class Head(NamedTuple):
    """What writing to a run needs to know of it."""

    experiment: str
    created: int
    lifecycle: str
    pipeline: str
    state: str


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_COLUMNS = (
    *("run_id", "experiment", "pipeline", "state", "name", "user_name", "lifecycle", "actor", "git_revision", "parent_run"),
    *("created", "started", "ended", "deleted", "error"),
)
_RUN = ", ".join(f"t.{name}" for name in _COLUMNS)
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


def tracked_runs(
    connection: Connection,
    project: str,
    run_ids: Sequence[str],
    *,
    wanted: Callable[[str, str], bool] | None = None,
    last: bool = False,
) -> list[TrackedRun]:
    """Runs with everything that was logged to them, in the order of the ids; unknown ones are left out.

    Args:
        wanted: (kind, name) → whether to answer it; kinds are metrics, params, tags, inputs and models, the latter two without a name.
        last: nothing else is read in the operation (`driver.fetch`).
    """
    found: dict[str, TrackedRun] = {}
    for some, _ in chunks(run_ids):
        source, condition, values = of_runs(connection, "runs", project, some)
        document = run_documents.column(connection.dialect.name, len(some))
        ends = last and document.whole and len(some) == len(run_ids)
        rows = fetch(connection, f"SELECT {_RUN}, {document.text} FROM {source} WHERE {condition}", *values, last=ends)
        logged = {row[0]: _part(run_documents.read(row[-1]), wanted) for row in rows if row[-1] is not None}
        if len(logged) < len(rows):
            rest = [row[0] for row in rows if row[-1] is None]
            logged |= logged_to(connection, project, rest, wanted=wanted, last=last and some[-1] == run_ids[-1])
        for row in rows:
            found[row[0]] = _tracked(project, row, logged[row[0]])
    return [found[run_id] for run_id in run_ids if run_id in found]


def logged_to(
    connection: Connection,
    project: str,
    run_ids: Sequence[str],
    *,
    wanted: Callable[[str, str], bool] | None = None,
    last: bool = False,
) -> dict[str, Logged]:
    """What was logged to a few hundred runs, as their rows have it, by run; `wanted` and `last` as for `tracked_runs`."""
    kinds = [kind for kind in _KINDS if kind in ("metrics", "params", "tags") or wanted is None or wanted(kind, "")]
    found = fetch_together(connection, [_statement(connection, kind, project, run_ids) for kind in kinds], last=last)
    return _logged(run_ids, dict(zip(kinds, found, strict=True)), wanted)


def _logged(run_ids: Sequence[str], rows: dict[str, list[Any]], wanted: Callable[[str, str], bool] | None) -> dict[str, Logged]:
    metrics: dict[str, list[Point]] = {run_id: [] for run_id in run_ids}
    for run_id, name, value, step, time in rows["metrics"]:
        if wanted is None or wanted("metrics", name):
            told = worded(value) if value is None or value - value != 0.0 else value
            metrics[run_id].append(Point(key=name, value=told, step=step, time=time))
    params, tags = (_texts(kind, rows[kind], wanted) for kind in ("params", "tags"))
    inputs, models = _inputs(rows.get("inputs", [])), _models(rows.get("models", []))
    for points in metrics.values():
        points.sort(key=_key)  # SQLite reads them in this order, and sorting what is sorted is quicker than asking it to
    return {
        run_id: Logged(points, params.get(run_id, {}), tags.get(run_id, {}), inputs.get(run_id, []), models.get(run_id, []))
        for run_id, points in metrics.items()
    }


def _part(logged: Logged, wanted: Callable[[str, str], bool] | None) -> Logged:
    """What is wanted of what was logged to a run."""
    if wanted is None:
        return logged
    return Logged(
        metrics=[point for point in logged.metrics if wanted("metrics", point.key)],
        params={name: value for name, value in logged.params.items() if wanted("params", name)},
        tags={name: value for name, value in logged.tags.items() if wanted("tags", name)},
        inputs=logged.inputs if wanted("inputs", "") else [],
        models=logged.models if wanted("models", "") else [],
    )


def run_of_rows(connection: Connection, project: str, run_id: str) -> TrackedRun:
    """A run, which must be there, as its rows have it."""
    own = (f"SELECT {_RUN} FROM runs t WHERE t.project = ? AND t.run_id = ?", (project, run_id))
    statements = [own, *(_statement(connection, kind, project, [run_id]) for kind in _KINDS)]
    (row,), *rows = fetch_together(connection, statements)
    return _tracked(project, row, _logged([run_id], dict(zip(_KINDS, rows, strict=True)), None)[run_id])


def keep_document(tx: Connection, project: str, run_id: str) -> None:
    """Write the document of a run, which must be there and have ended, as its rows are; one of a great many things gets none."""
    if tx.dialect.name == "postgresql":
        run_documents.keep_made(tx, project, run_id)
    else:
        run_documents.keep(tx, run_of_rows(tx, project, run_id))


_key = operator.attrgetter("key")
_texts_of_run = msgspec.json.Decoder(dict[str, str])
_KINDS = {
    "metrics": ("latest_metrics", "SELECT t.run_id, t.name, t.value, t.step, t.time FROM {source} WHERE {condition}"),
    "params": ("params", ""),
    "tags": ("tags", ""),
    "inputs": (
        "run_inputs",
        "SELECT t.run_id, t.name, t.digest, t.context, t.tags, d.source_type, d.source, d.schema, d.profile FROM {source} "
        "LEFT JOIN tracked_datasets d ON d.project = t.project AND d.experiment = t.experiment AND d.name = t.name AND d.digest = t.digest "
        "WHERE {condition} ORDER BY t.run_id, t.created, t.name, t.digest",
    ),
    "models": (
        "run_models",
        "SELECT t.run_id, t.model_id, t.role, t.step FROM {source} WHERE {condition} "
        "ORDER BY t.run_id, t.recorded_time, t.step, t.model_id",
    ),
}


def _statement(connection: Connection, kind: str, project: str, run_ids: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
    """What reads one kind of what was logged to runs. Parameters and tags come as one JSON object a run: a row each costs several times
    as much."""
    table, text = _KINDS[kind]
    if not text and connection.dialect.name == "postgresql":  # run by run: grouping all at once costs it a third more
        own = f"SELECT json_object_agg(o.name, o.value)::text FROM {table} o WHERE o.project = ? AND o.run_id = asked.run_id"
        return f"SELECT asked.run_id, ({own}) FROM unnest(?::text[]) AS asked (run_id)", (project, list(run_ids))
    text = text or "SELECT t.run_id, json_group_object(t.name, t.value) FROM {source} WHERE {condition} GROUP BY t.run_id"
    source, condition, values = of_runs(connection, table, project, run_ids)
    return text.format(source=source, condition=condition), values


def _texts(kind: str, rows: Sequence[Any], wanted: Callable[[str, str], bool] | None) -> dict[str, dict[str, str]]:
    """Parameters or tags by run and name."""
    found: dict[str, dict[str, str]] = {}
    for run_id, texts in rows:
        named = _texts_of_run.decode(texts) if texts else {}
        if wanted is not None:
            named = {name: value for name, value in named.items() if wanted(kind, name)}
        names = list(named)
        found[run_id] = named if names == sorted(names) else dict(sorted(named.items()))
    return found


def _inputs(rows: Sequence[Any]) -> dict[str, list[RunInput]]:
    """Data that runs read, by run."""
    found: dict[str, list[RunInput]] = {}
    for run_id, name, digest, context, tags, source_type, source, schema, profile in rows:
        known = RunInput(
            name=name,
            digest=digest,
            source_type=source_type or "",
            source=source or "",
            schema=schema,
            profile=profile,
            context=context,
            tags=msgspec.json.decode(tags),
        )
        found.setdefault(run_id, []).append(known)
    return found


def _models(rows: Sequence[Any]) -> dict[str, list[RunModel]]:
    """Logged models that runs read and made, by run."""
    found: dict[str, list[RunModel]] = {}
    for run_id, model_id, role, step in rows:
        found.setdefault(run_id, []).append(RunModel(model_id=model_id, role=role, step=step))
    return found


def _tracked(project: str, row: Any, logged: Logged) -> TrackedRun:
    """The record of a row that begins with the columns of `_COLUMNS`."""
    run_id, experiment, pipeline, state, name, user, lifecycle, actor, revision, parent, created, started, ended, deleted, error = row[:15]
    return TrackedRun(
        project=project,
        run_id=run_id,
        experiment_id=experiment,
        pipeline=pipeline,
        state=RunState(state),
        name=name,
        user=user,
        lifecycle=Lifecycle(lifecycle),
        actor=actor,
        git_revision=revision,
        parent_run=parent,
        created=from_micros(created),
        started=_moment(started),
        ended=_moment(ended),
        deleted=_moment(deleted),
        error=error,
        metrics=logged.metrics,
        params=logged.params,
        tags=logged.tags,
        inputs=logged.inputs,
        models=logged.models,
    )


def worded(value: float | None) -> float | str:
    """A stored value (None: NaN) as records carry it: what JSON has no number for by its word."""
    if value is None:
        return "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def tracked_of(project: str, row: dict[str, Any], params: dict[str, str], tags: dict[str, str]) -> TrackedRun:
    """The record of a row that was just inserted."""
    told = [row.get(name) for name in _COLUMNS]
    return _tracked(project, told, Logged(params=dict(sorted(params.items())), tags=dict(sorted(tags.items()))))


def run_origin(connection: Connection, project: str, run_id: str) -> dict[str, Any]:
    """What a run was started with that a retry must repeat."""
    names = ("environment", "experiment", "pipeline", "parent_run", "git_revision", "code_digest", "environment_digest")
    found = fetch(connection, f"SELECT {', '.join(names)} FROM runs WHERE project = ? AND run_id = ?", project, run_id)
    return dict(zip(names, found[0], strict=True)) if found else {}


def data_read(connection: Connection, project: str, experiments: Sequence[str], limit: int) -> list[tuple[str, str, str, str]]:
    """Experiment, name, digest and context of data that runs read, each once."""
    found: list[tuple[str, str, str, str]] = []
    for some, marks in chunks(experiments):
        statement = (
            "SELECT DISTINCT experiment, name, digest, context FROM run_inputs "
            f"WHERE project = ? AND experiment IN ({marks}) ORDER BY experiment, name, digest, context LIMIT ?"
        )
        found += fetch(connection, statement, project, *some, limit)
    return found[:limit]


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
    f"gone AS (DELETE FROM run_documents o USING head WHERE head.state IN {_ENDED} AND o.project = ? AND o.run_id = ?), "
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


def _moment(value: int | None) -> dt.datetime | None:
    return None if value is None else from_micros(value)
