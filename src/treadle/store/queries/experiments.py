"""Statements on experiments, and on the views of listings that people keep."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, select, update

from treadle.records.tracking import Experiment, Lifecycle, SavedView
from treadle.store import tables as t
from treadle.store.driver import chunks, fetch
from treadle.store.upsert import insert_new, insert_or_update, upsert_rows


def get_experiment(connection: Connection, project: str, experiment: str, by: str = "any") -> Experiment | None:
    """One experiment by its id, its name, or either (the id first), with its tags."""
    e = t.experiments.c
    where = {"id": e.experiment_id == experiment, "name": e.name == experiment}.get(
        by, (e.experiment_id == experiment) | (e.name == experiment)
    )
    query = select(t.experiments).where(e.project == project, where).order_by(e.experiment_id != experiment).limit(1)
    row = connection.execute(query).first()
    if row is None:
        return None
    tags = experiment_tags(connection, project, [row.experiment_id])
    return experiment_of(row, tags.get(row.experiment_id, {}))


def experiment_of(row: Any, tags: dict[str, str]) -> Experiment:
    """The record of a row of `experiments`."""
    return Experiment(**{**_fields(row), "lifecycle": Lifecycle(row.lifecycle), "tags": tags})


def experiment_tags(connection: Connection, project: str, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Tags by experiment."""
    found: dict[str, dict[str, str]] = {}
    for some, marks in chunks(ids):
        statement = f"SELECT experiment_id, name, value FROM experiment_tags WHERE project = ? AND experiment_id IN ({marks}) ORDER BY name"
        for experiment_id, name, value in fetch(connection, statement, project, *some):
            found.setdefault(experiment_id, {})[name] = value
    return found


def experiment_state(connection: Connection, project: str, experiment_id: str) -> tuple[str, str] | None:
    """(lifecycle, artifact location) of an experiment."""
    statement = "SELECT lifecycle, artifact_location FROM experiments WHERE project = ? AND experiment_id = ?"
    found = fetch(connection, statement, project, experiment_id)
    return (found[0][0], found[0][1]) if found else None


def insert_experiment(tx: Connection, experiment: Experiment) -> bool:
    """A new experiment; False where its id or name is taken."""
    row = msgspec.structs.asdict(experiment)
    tags = row.pop("tags")
    if not insert_new(tx, t.experiments, {**row, "lifecycle": str(experiment.lifecycle)}):
        return False
    put_experiment_tags(tx, experiment.project, experiment.experiment_id, tags)
    return True


def update_experiment(tx: Connection, project: str, experiment_id: str, values: dict[str, Any]) -> None:
    """Set columns of an experiment."""
    e = t.experiments.c
    tx.execute(update(t.experiments).where(e.project == project, e.experiment_id == experiment_id).values(**values))


def name_taken(connection: Connection, project: str, name: str, but: str) -> bool:
    """Whether another experiment than `but` has a name."""
    statement = "SELECT 1 FROM experiments WHERE project = ? AND name = ? AND experiment_id != ?"
    return bool(fetch(connection, statement, project, name, but))


def put_experiment_tags(tx: Connection, project: str, experiment_id: str, tags: dict[str, str]) -> None:
    """Set tags of an experiment."""
    rows = [(project, experiment_id, name, value) for name, value in tags.items()]
    upsert_rows(tx, t.experiment_tags, ("project", "experiment_id", "name", "value"), rows, update=("value",))


def drop_experiment_tags(tx: Connection, project: str, experiment_id: str, names: Sequence[str]) -> int:
    """Remove tags of an experiment; how many were there."""
    g = t.experiment_tags.c
    return tx.execute(delete(t.experiment_tags).where(g.project == project, g.experiment_id == experiment_id, g.name.in_(names))).rowcount


def bin_runs_of(tx: Connection, project: str, experiment_id: str, at: dt.datetime) -> None:
    """Put an experiment's active runs and logged models into the bin."""
    for table in (t.runs, t.logged_models):
        c = table.c
        where = (c.project == project, c.experiment == experiment_id, c.lifecycle == "active")
        tx.execute(update(table).where(*where).values(lifecycle="deleted", deleted=at))


def restore_runs_of(tx: Connection, project: str, experiment_id: str, at: dt.datetime) -> None:
    """Take an experiment's runs and logged models out of the bin that went into it at that moment."""
    for table in (t.runs, t.logged_models):
        c = table.c
        where = (c.project == project, c.experiment == experiment_id, c.lifecycle == "deleted", c.deleted == at)
        tx.execute(update(table).where(*where).values(lifecycle="active", deleted=None))


# ── saved views ──────────────────────────────────────────────────────────────────────────────────────────────────────


def put_view(tx: Connection, view: SavedView) -> None:
    """Keep a view."""
    insert_or_update(tx, t.saved_views, msgspec.structs.asdict(view))


def list_views(connection: Connection, project: str, page: str) -> list[SavedView]:
    """Views of a page, by name."""
    v = t.saved_views.c
    rows = connection.execute(select(t.saved_views).where(v.project == project, v.page == page).order_by(v.name, v.view_id).limit(1000))
    return [SavedView(**_fields(row)) for row in rows]


def drop_view(tx: Connection, project: str, view_id: str) -> bool:
    """Forget a view; False where there is none."""
    v = t.saved_views.c
    return tx.execute(delete(t.saved_views).where(v.project == project, v.view_id == view_id)).rowcount == 1


def count_views(connection: Connection, project: str) -> int:
    """How many views a project keeps."""
    return connection.execute(select(func.count()).where(t.saved_views.c.project == project)).scalar_one()


def _fields(row: Any) -> dict[str, Any]:
    return row._asdict()
