"""Finding experiments and logged models, and reading histories of metrics."""

import functools
import itertools
from collections.abc import Sequence

from sqlalchemy import Connection, select

from treadle.records.clock import micros
from treadle.records.filters import Comparison, Order
from treadle.records.tracking import Experiment
from treadle.store import tables as t
from treadle.store.driver import chunks, fetch
from treadle.store.queries.conditions import Sql, all_of, among, indexed, moment, text_condition
from treadle.store.queries.experiments import experiment_of, experiment_tags
from treadle.store.queries.orders import MISSING, Found, behind, sort_key
from treadle.store.queries.walks import Path, merged, newest_first, walk

#: Time, step, value, whether it is NaN.
Point = tuple[int, int, float, int]

# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────────────

_EXPERIMENT = {"name": "name", "experiment_id": "experiment_id", "creation_time": "created", "last_update_time": "updated"}


def find_experiments(
    connection: Connection,
    project: str,
    comparisons: Sequence[Comparison],
    orders: Sequence[Order],
    *,
    lifecycles: Sequence[str],
    folder: str | None = None,
    unwritten: Experiment | None = None,
    after: Found | None = None,
    limit: int = 100,
) -> list[Found]:
    """The first `limit` experiments behind a position; the last of `orders` must be by id. `unwritten` is looked at like the others where
    none of its id is recorded."""
    where = [Sql("d.project = ?", (project,)), *([among("d.lifecycle", lifecycles)] if lifecycles else [])]
    if folder is not None and folder.strip("/"):
        begin = folder.strip("/")
        where.append(Sql("(d.folder = ? OR (d.folder >= ? AND d.folder < ?))", (begin, f"{begin}/", f"{begin}0")))
    held = all_of([*where, *(_experiment_condition(connection.dialect.name, c) for c in comparisons)])
    selected = ", ".join(f"d.{c}" for c in ("experiment_id", *(_EXPERIMENT[order.key] for order in orders)))
    source = Sql("experiments") if unwritten is None else _with(unwritten)
    rows = fetch(connection, f"SELECT {selected} FROM {source.text} d WHERE {held.text}", *source.values, *held.values)
    found: list[Found] = []
    for row in rows:
        values = tuple((0, _sortable(v) if o.key == "experiment_id" else v) for o, v in zip(orders, row[1:], strict=True))
        found.append((values, 0, row[0]))
    return _page(found, orders, after, limit)


def _with(unwritten: Experiment) -> Sql:
    """The table of experiments, and one more where none of its id is there."""
    columns = ("project", "experiment_id", "name", "folder", "lifecycle", "created", "updated")
    key = (unwritten.project, unwritten.experiment_id)
    values = (*key, unwritten.name, unwritten.folder, str(unwritten.lifecycle), micros(unwritten.created), micros(unwritten.updated))
    there = "SELECT 1 FROM experiments WHERE project = ? AND experiment_id = ?"
    recorded, more = ", ".join(columns), ", ".join("?" * len(columns))
    return Sql(
        f"(SELECT {recorded} FROM experiments WHERE project = ? UNION ALL SELECT {more} WHERE NOT EXISTS ({there}))",
        (unwritten.project, *values, *key),
    )


def experiments_of(connection: Connection, project: str, ids: Sequence[str]) -> list[Experiment]:
    """Experiments with their tags, in the order of the ids."""
    tags = experiment_tags(connection, project, ids)
    found: dict[str, Experiment] = {}
    for some, _ in chunks(ids):
        e = t.experiments.c
        for row in connection.execute(select(t.experiments).where(e.project == project, e.experiment_id.in_(some))):
            found[row.experiment_id] = experiment_of(row, tags.get(row.experiment_id, {}))
    return [found[i] for i in ids if i in found]


def _sortable(identity: str) -> str:
    """An id so that numbers sort as numbers, and before other texts."""
    return f"0{identity.zfill(30)}" if identity.isdecimal() and len(identity) <= 30 else f"1{identity}"


def _page(found: list[Found], orders: Sequence[Order], after: Found | None, limit: int) -> list[Found]:
    key = sort_key(orders)
    found.sort(key=key)
    return list(itertools.islice(behind(found, key, after), limit))


def _experiment_condition(dialect: str, c: Comparison) -> Sql:
    if c.kind == "attribute":
        column = f"d.{_EXPERIMENT[c.key]}"
        return moment(column, c.op, c.value) if c.key.endswith("_time") else text_condition(dialect, column, c.op, c.value)
    where = "FROM experiment_tags g WHERE g.project = d.project AND g.experiment_id = d.experiment_id AND g.name = ?"
    if c.value is None:
        return Sql(f"(SELECT 1 {where}) {c.op}", (c.key,))
    told = text_condition(dialect, "g.value", c.op, c.value)
    return Sql(f"(SELECT {told.text} {where})", (*told.values, c.key))


# ── logged models ────────────────────────────────────────────────────────────────────────────────────────────────────

#: A logged model's state as MLflow's clients name it.
MODEL_STATUS = {"pending": "LOGGED_MODEL_PENDING", "ready": "LOGGED_MODEL_READY", "failed": "LOGGED_MODEL_UPLOAD_FAILED"}
_MODEL = {
    "name": "name",
    "model_id": "model_id",
    "model_type": "model_type",
    "status": "state",
    "source_run_id": "run_id",
    "creation_timestamp": "created",
    "last_updated_timestamp": "updated",
}
_MODEL_STATUS = (
    "CASE d.state WHEN 'pending' THEN 'LOGGED_MODEL_PENDING' WHEN 'ready' THEN 'LOGGED_MODEL_READY' ELSE 'LOGGED_MODEL_UPLOAD_FAILED' END"
)
#: (name, digest or "") of data that a measurement was made on.
Data = tuple[str, str]


def find_logged_models(
    connection: Connection,
    project: str,
    experiments: Sequence[str],
    comparisons: Sequence[Comparison],
    orders: Sequence[Order],
    *,
    datasets: Sequence[Data] = (),
    after: Found | None = None,
    limit: int = 100,
) -> list[Found]:
    """The first `limit` active logged models behind a position.

    Args:
        datasets: what measurements count in a comparison with a metric; without such a comparison, some measurement on one must be there.
    """
    if not experiments:
        return []
    experiments = sorted(set(experiments))
    where = [_model_condition(connection.dialect.name, c, datasets) for c in comparisons]
    if datasets and not any(c.kind == "metric" for c in comparisons):
        measured = _measured_on(datasets)
        where.append(
            Sql(f"(SELECT 1 FROM logged_model_metrics m WHERE {_OF_MODEL} AND {measured.text} LIMIT 1) IS NOT NULL", measured.values)
        )
    named = {c.key for c in comparisons if c.kind == "attribute" and c.op in ("=", "IN")}
    if not orders and not named & {"model_id", "source_run_id"}:
        fixed = [(("project", project), ("experiment", e), ("lifecycle", "active")) for e in experiments]
        paths = [Path("logged_models", "logged_models_created", of, ("created", "model_id"), True, tuple(where)) for of in fixed]
        position = None if after is None else after[1:]
        walks = [walk(connection, path, position, batch=max(8, 2 * limit // len(paths))) for path in paths]
        return [((), row[0], row[1]) for row in itertools.islice(merged(walks, newest_first), limit)]
    scope = [Sql("d.project = ?", (project,)), among("+d.experiment" if _plus(connection, named) else "d.experiment", experiments)]
    held = all_of([*scope, Sql("d.lifecycle = 'active'"), *where])
    columns = [_model_order(order) for order in orders]
    source = indexed(connection.dialect.name, "logged_models", "logged_models_run" if named == {"source_run_id"} else "")
    statement = f"SELECT {', '.join(['d.model_id', 'd.created', *(c.text for c in columns)])} FROM {source} WHERE {held.text}"
    rows = fetch(connection, statement, *(v for c in columns for v in c.values), *held.values)
    found: list[Found] = [(tuple((MISSING, 0) if v is None else (0, v) for v in row[2:]), row[1], row[0]) for row in rows]
    return _page(found, orders, after, limit)


def _plus(connection: Connection, named: set[str]) -> bool:
    """Whether SQLite must be kept from reading by experiment what it finds by id."""
    return connection.dialect.name == "sqlite" and bool(named & {"model_id", "source_run_id"})


_OF_MODEL = "m.project = d.project AND m.model_id = d.model_id"


def _measured_on(datasets: Sequence[Data]) -> Sql:
    each = [
        Sql("m.dataset_name = ? AND m.dataset_digest = ?", (name, digest)) if digest else Sql("m.dataset_name = ?", (name,))
        for name, digest in datasets
    ]
    return Sql("(" + " OR ".join(f"({e.text})" for e in each) + ")", tuple(v for e in each for v in e.values))


def _model_condition(dialect: str, c: Comparison, datasets: Sequence[Data]) -> Sql:
    if c.kind == "metric":
        told = Sql("(m.value IS NULL OR m.value <> ?)" if c.op == "!=" else f"m.value {c.op} ?", (c.value,))
        data = _measured_on(datasets) if datasets else Sql("1 = 1")
        found = f"SELECT 1 FROM logged_model_metrics m WHERE {_OF_MODEL} AND m.name = ? AND {told.text} AND {data.text} LIMIT 1"
        return Sql(f"({found}) IS NOT NULL", (c.key, *told.values, *data.values))
    if c.kind in ("param", "tag"):
        told = text_condition(dialect, "m.value", c.op, c.value)
        return Sql(f"(SELECT {told.text} FROM logged_model_{c.kind}s m WHERE {_OF_MODEL} AND m.name = ?)", (*told.values, c.key))
    if c.key.endswith("_timestamp"):
        return moment(f"d.{_MODEL[c.key]}", c.op, c.value)
    if c.key == "status":
        shorts = {told.removeprefix("LOGGED_MODEL_"): told for told in MODEL_STATUS.values()}
        value = tuple(shorts.get(v, v) for v in c.value) if isinstance(c.value, tuple) else shorts.get(c.value, c.value)
        return text_condition(dialect, _MODEL_STATUS, c.op, value)
    return text_condition(dialect, f"d.{_MODEL[c.key]}", c.op, c.value)


def _model_order(order: Order) -> Sql:
    """What to sort by: an attribute, or the newest measurement of a metric."""
    if order.kind == "attribute":
        return Sql(_MODEL_STATUS if order.key == "status" else f"d.{_MODEL[order.key]}")
    held = [Sql("m.name = ?", (order.key,))]
    held += [Sql("m.dataset_name = ?", (order.dataset_name,))] if order.dataset_name else []
    held += [Sql("m.dataset_digest = ?", (order.dataset_digest,))] if order.dataset_digest else []
    told = all_of(held)
    newest = "ORDER BY m.time DESC, m.step DESC, m.run_id LIMIT 1"
    return Sql(f"(SELECT m.value FROM logged_model_metrics m WHERE {_OF_MODEL} AND {told.text} {newest})", told.values)


# ── histories ────────────────────────────────────────────────────────────────────────────────────────────────────────


def history(connection: Connection, project: str, run_id: str, key: str) -> list[Point]:
    """Every point of a metric of a run, by time, step and value (NaN counts as 0).

    The key of the table goes by step first; where steps and times go up together, as they do, sorting finds nothing to do.
    """
    statement = _history(connection.dialect.name)
    with connection.exec_driver_sql(statement, (project, run_id, key)) as result:
        assert result.cursor is not None
        points: list[Point] = list(result.cursor.fetchall())  # straight from the driver: there may be a hundred thousand
    points.sort()
    return points


@functools.cache
def _history(dialect: str) -> str:
    mark = "%s" if dialect == "postgresql" else "?"
    where = f"project = {mark} AND run_id = {mark} AND name = {mark}"
    return f"SELECT time, step, value, nan FROM metrics WHERE {where} ORDER BY step, time, value, nan"
