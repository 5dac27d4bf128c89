"""Reading runs with everything that was logged to them: by their documents, and where there are none by their rows."""

import datetime as dt
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from treadle.records.clock import from_micros
from treadle.records.states import RunState
from treadle.records.told import number
from treadle.records.tracking import Lifecycle, Point, RunDocument, RunHead, RunInput, RunModel, TrackedRun
from treadle.store.driver import chunks, fetch, of_runs
from treadle.store.queries import run_documents
from treadle.store.queries.run_documents import Logged

#: (kind, name) → whether to answer it; kinds are metrics, params, tags, inputs and models, the latter two without a name.
Wanted = Callable[[str, str], bool]

_COLUMNS = (
    *("run_id", "experiment", "pipeline", "state", "name", "user_name", "lifecycle", "actor", "git_revision", "parent_run"),
    *("created", "started", "ended", "deleted", "error"),
)
_RUN = ", ".join(f"t.{name}" for name in _COLUMNS)
_LINE = "t.run_id, t.experiment, t.state, t.name, t.user_name, t.lifecycle, t.created, t.started, t.ended"


def get_head(connection: Connection, project: str, run_id: str) -> RunHead | None:
    """A run without what was logged to it, None where there is none."""
    found = fetch(connection, f"SELECT {_RUN} FROM runs t WHERE t.project = ? AND t.run_id = ?", project, run_id)
    return RunHead(**_head(project, found[0])) if found else None


def changed(head: RunHead, values: dict[str, Any]) -> RunHead:
    """A run once columns of it were set (`tracking.update_run`)."""
    read = {"state": RunState, "lifecycle": Lifecycle, "ended": _moment, "deleted": _moment}
    return msgspec.structs.replace(head, **{name: read[name](value) if name in read else value for name, value in values.items()})


def tracked_runs(
    connection: Connection, project: str, run_ids: Sequence[str], *, wanted: Wanted | None = None, last: bool = False
) -> list[TrackedRun]:
    """Runs with everything that was logged to them, or what is wanted of that, in the order of the ids; unknown ones are left out.

    Args:
        last: nothing else is read in the operation (`driver.fetch`).
    """
    found: dict[str, TrackedRun] = {}
    for rows in _rows(connection, _RUN, project, run_ids, last=last):
        logged = {row[0]: _part(run_documents.read(row[-1]), wanted) for row in rows if row[-1] is not None}
        if len(logged) < len(rows):
            logged |= logged_to(connection, project, [row[0] for row in rows if row[-1] is None], wanted)
        for row in rows:
            found[row[0]] = _tracked(project, row, logged[row[0]])
    return [found[run_id] for run_id in run_ids if run_id in found]


def documents(connection: Connection, project: str, run_ids: Sequence[str], *, last: bool = False) -> list[RunDocument]:
    """The same for whoever passes them on."""
    found: dict[str, RunDocument] = {}
    for rows in _rows(connection, _LINE, project, run_ids, last=last):
        lines = {row[0]: run_documents.split(row[-1]) for row in rows if row[-1] is not None}
        if len(lines) < len(rows):
            undocumented = logged_to(connection, project, [row[0] for row in rows if row[-1] is None])
            lines |= {run_id: run_documents.split(run_documents.text(logged)) for run_id, logged in undocumented.items()}
        for run_id, experiment, state, name, user, lifecycle, created, started, ended, _ in rows:
            data, rest = lines[run_id]
            found[run_id] = RunDocument(
                run_id=run_id,
                experiment_id=experiment,
                name=name,
                user=user,
                state=RunState(state),
                lifecycle=Lifecycle(lifecycle),
                created=created,
                started=started,
                ended=ended,
                data=msgspec.Raw(data),
                inputs=rest.inputs,
                models=rest.models,
            )
    return [found[run_id] for run_id in run_ids if run_id in found]


def _rows(connection: Connection, columns: str, project: str, run_ids: Sequence[str], *, last: bool) -> Iterator[list[Any]]:
    """Columns and document of runs, a few hundred at a time."""
    document = run_documents.column(connection.dialect.name)
    for some, _ in chunks(run_ids):
        source, condition, values = of_runs(connection, "runs", project, some)
        statement = f"SELECT {columns}, {document} FROM {source} WHERE {condition}"
        yield fetch(connection, statement, *values, last=last and some[-1] == run_ids[-1])


def tracked_of(project: str, row: dict[str, Any], params: dict[str, str], tags: dict[str, str]) -> TrackedRun:
    """The record of a row that was just inserted."""
    told = [row.get(name) for name in _COLUMNS]
    return _tracked(project, told, Logged(params=dict(sorted(params.items())), tags=dict(sorted(tags.items()))))


def _tracked(project: str, row: Any, logged: Logged) -> TrackedRun:
    return TrackedRun(
        **_head(project, row),
        metrics=logged.metrics,
        params=logged.params,
        tags=logged.tags,
        inputs=logged.inputs,
        models=logged.models,
    )


def _head(project: str, row: Any) -> dict[str, Any]:
    """The fields of a row that begins with the columns of `_COLUMNS`."""
    run_id, experiment, pipeline, state, name, user, lifecycle, actor, revision, parent, created, started, ended, deleted, error = row[:15]
    return {
        "project": project,
        "run_id": run_id,
        "experiment_id": experiment,
        "pipeline": pipeline,
        "state": RunState(state),
        "name": name,
        "user": user,
        "lifecycle": Lifecycle(lifecycle),
        "actor": actor,
        "git_revision": revision,
        "parent_run": parent,
        "created": from_micros(created),
        "started": _moment(started),
        "ended": _moment(ended),
        "deleted": _moment(deleted),
        "error": error,
    }


def _moment(value: int | None) -> dt.datetime | None:
    return None if value is None else from_micros(value)


# ── the rows of what was logged, on SQLite: PostgreSQL makes the documents that are not there itself ─────────────────

_key = operator.attrgetter("key")
_texts_of_run = msgspec.json.Decoder(dict[str, str])
#: Parameters and tags come as one JSON object a run: a row each costs several times as much.
_PAIRS = "SELECT t.run_id, json_group_object(t.name, t.value) FROM {table} t WHERE {{condition}} GROUP BY t.run_id"
_KINDS = {
    "metrics": "SELECT t.run_id, t.name, t.value, t.step, t.time FROM latest_metrics t WHERE {condition}",
    "params": _PAIRS.format(table="params"),
    "tags": _PAIRS.format(table="tags"),
    "inputs": (
        "SELECT t.run_id, t.name, t.digest, t.context, t.tags, d.source_type, d.source, d.schema, d.profile FROM run_inputs t "
        "LEFT JOIN tracked_datasets d ON d.project = t.project AND d.experiment = t.experiment AND d.name = t.name AND d.digest = t.digest "
        "WHERE {condition} ORDER BY t.run_id, t.created, t.name, t.digest"
    ),
    "models": (
        "SELECT t.run_id, t.model_id, t.role, t.step FROM run_models t WHERE {condition} "
        "ORDER BY t.run_id, t.recorded_time, t.step, t.model_id"
    ),
}


def logged_to(connection: Connection, project: str, run_ids: Sequence[str], wanted: Wanted | None = None) -> dict[str, Logged]:
    """What was logged to a few hundred runs, by run."""
    condition = f"t.project = ? AND t.run_id IN ({', '.join('?' * len(run_ids))})"
    rows = {
        kind: fetch(connection, statement.format(condition=condition), project, *run_ids)
        for kind, statement in _KINDS.items()
        if kind in ("metrics", "params", "tags") or wanted is None or wanted(kind, "")
    }
    metrics: dict[str, list[Point]] = {run_id: [] for run_id in run_ids}
    for run_id, name, value, step, time in rows["metrics"]:
        if wanted is None or wanted("metrics", name):
            told = number(value) if value is None or value - value != 0.0 else value
            metrics[run_id].append(Point(key=name, value=told, step=step, time=time))
    params, tags = (_texts(kind, rows[kind], wanted) for kind in ("params", "tags"))
    inputs, models = _inputs(rows.get("inputs", [])), _models(rows.get("models", []))
    for points in metrics.values():
        points.sort(key=_key)  # SQLite reads them in this order, and sorting what is sorted is quicker than asking it to
    return {
        run_id: Logged(points, params.get(run_id, {}), tags.get(run_id, {}), inputs.get(run_id, []), models.get(run_id, []))
        for run_id, points in metrics.items()
    }


def _part(logged: Logged, wanted: Wanted | None) -> Logged:
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


def _texts(kind: str, rows: Sequence[Any], wanted: Wanted | None) -> dict[str, dict[str, str]]:
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
