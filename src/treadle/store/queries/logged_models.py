"""Statements on logged models."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, select, update

from treadle.records.told import number
from treadle.records.tracking import Lifecycle, LoggedModel, ModelPoint, ModelState
from treadle.store import tables as t
from treadle.store.driver import chunks, fetch
from treadle.store.upsert import insert_new, upsert_rows


class ModelHead(NamedTuple):
    """What writing to a logged model needs to know of it."""

    experiment: str
    lifecycle: str
    run_id: str


def model_heads(connection: Connection, project: str, model_ids: Iterable[str]) -> dict[str, ModelHead]:
    """What writing to logged models needs to know of them, by id."""
    found: dict[str, ModelHead] = {}
    for some, marks in chunks(list(model_ids)):
        statement = f"SELECT model_id, experiment, lifecycle, run_id FROM logged_models WHERE project = ? AND model_id IN ({marks})"
        found |= {row[0]: ModelHead(*row[1:]) for row in fetch(connection, statement, project, *some)}
    return found


def insert_logged_model(tx: Connection, model: LoggedModel) -> bool:
    """A new logged model with its parameters and tags; False where its id is there."""
    row = msgspec.structs.asdict(model)
    params, tags, experiment, _ = (row.pop(name) for name in ("params", "tags", "experiment_id", "metrics"))
    row |= {"experiment": experiment, "state": str(model.state), "lifecycle": str(model.lifecycle)}
    if not insert_new(tx, t.logged_models, row):
        return False
    put_model_params(tx, model.project, model.model_id, model.experiment_id, params)
    put_model_tags(tx, model.project, model.model_id, model.experiment_id, tags)
    return True


_MODEL_PAIR = ("project", "model_id", "name", "experiment", "value", "head")


def put_model_params(tx: Connection, project: str, model_id: str, experiment: str, params: dict[str, str]) -> None:
    """Set parameters of a logged model."""
    rows = [(project, model_id, name, experiment, value, value[: t.INDEXED]) for name, value in params.items()]
    upsert_rows(tx, t.logged_model_params, _MODEL_PAIR, rows, update=("value", "head"))


def put_model_tags(tx: Connection, project: str, model_id: str, experiment: str, tags: dict[str, str]) -> None:
    """Set tags of a logged model."""
    rows = [(project, model_id, name, experiment, value, value[: t.INDEXED]) for name, value in tags.items()]
    upsert_rows(tx, t.logged_model_tags, _MODEL_PAIR, rows, update=("value", "head"))


def drop_model_tag(tx: Connection, project: str, model_id: str, name: str) -> bool:
    """Remove a tag of a logged model; False where it is not there."""
    g = t.logged_model_tags.c
    where = (g.project == project, g.model_id == model_id, g.name == name)
    return tx.execute(delete(t.logged_model_tags).where(*where)).rowcount == 1


def update_logged_model(tx: Connection, project: str, model_id: str, values: dict[str, Any]) -> None:
    """Set columns of a logged model."""
    m = t.logged_models.c
    tx.execute(update(t.logged_models).where(m.project == project, m.model_id == model_id).values(**values))


def logged_models(connection: Connection, project: str, model_ids: Sequence[str]) -> list[LoggedModel]:
    """Logged models with their parameters, tags and measurements, in the order of the ids; unknown ones are left out."""
    found: dict[str, LoggedModel] = {}
    for some, marks in chunks(model_ids):
        where = f"WHERE project = ? AND model_id IN ({marks})"
        of = (project, *some)
        params, tags = ({model_id: {} for model_id in some} for _ in range(2))
        for table, into in (("logged_model_params", params), ("logged_model_tags", tags)):
            for model_id, name, value in fetch(connection, f"SELECT model_id, name, value FROM {table} {where} ORDER BY name", *of):
                into[model_id][name] = value
        metrics: dict[str, list[ModelPoint]] = {model_id: [] for model_id in some}
        statement = (
            "SELECT model_id, name, value, step, time, run_id, dataset_name, dataset_digest FROM logged_model_metrics "
            f"{where} ORDER BY name, time, step, run_id"
        )
        for model_id, name, value, step, time, run_id, dataset, digest in fetch(connection, statement, *of):
            metrics[model_id].append(
                ModelPoint(key=name, value=number(value), step=step, time=time, run_id=run_id, dataset_name=dataset, dataset_digest=digest)
            )
        m = t.logged_models.c
        for row in connection.execute(select(t.logged_models).where(m.project == project, m.model_id.in_(some))):
            fields = row._asdict()
            fields |= {"experiment_id": fields.pop("experiment"), "state": ModelState(row.state), "lifecycle": Lifecycle(row.lifecycle)}
            found[row.model_id] = LoggedModel(**fields, params=params[row.model_id], tags=tags[row.model_id], metrics=metrics[row.model_id])
    return [found[model_id] for model_id in model_ids if model_id in found]


def put_model_points(tx: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Measurements of logged models."""
    columns = ("project", "model_id", "name", "run_id", "dataset_name", "dataset_digest", "step", "time", "experiment", "value")
    upsert_rows(tx, t.logged_model_metrics, columns, rows, update=("value",))
