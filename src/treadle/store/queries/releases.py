"""Statements of the release room: snapshots and releases."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from treadle.records.definitions import Canary, Project
from treadle.records.releases import Release
from treadle.records.serving import Snapshot
from treadle.records.states import ReleaseState
from treadle.store import tables as t

_COLUMNS = tuple(c for c in t.releases.c if c.name != "recorded_time")
OPEN = (ReleaseState.waiting.value, ReleaseState.running.value)


def applied(tx: Connection, project: str, environment: str) -> Project | None:
    """The definitions applied in an environment."""
    row = tx.execute(select(t.applied.c.definitions).where(t.applied.c.project == project, t.applied.c.environment == environment)).scalar()
    return None if row is None else msgspec.convert(row, Project)


def insert_snapshot(tx: Connection, snapshot: Snapshot, recorded: dt.datetime) -> None:
    """Keep a snapshot under its generation."""
    tx.execute(
        insert(t.snapshots),
        {
            "project": snapshot.project,
            "environment": snapshot.environment,
            "generation": snapshot.generation,
            "body": snapshot,
            "event_time": snapshot.published,
            "recorded_time": recorded,
        },
    )


def newest_snapshot(tx: Connection, project: str, environment: str) -> Snapshot | None:
    """The snapshot with the highest generation."""
    body = tx.execute(
        select(t.snapshots.c.body)
        .where(t.snapshots.c.project == project, t.snapshots.c.environment == environment)
        .order_by(t.snapshots.c.generation.desc())
        .limit(1)
    ).scalar()
    return None if body is None else msgspec.convert(body, Snapshot)


def newest_snapshots(tx: Connection, project: str) -> list[Snapshot]:
    """The newest snapshot of each environment of a project."""
    newest = (
        select(t.snapshots.c.environment, func.max(t.snapshots.c.generation).label("generation"))
        .where(t.snapshots.c.project == project)
        .group_by(t.snapshots.c.environment)
        .subquery()
    )
    rows = tx.execute(
        select(t.snapshots.c.body).where(
            t.snapshots.c.project == project,
            t.snapshots.c.environment == newest.c.environment,
            t.snapshots.c.generation == newest.c.generation,
        )
    )
    return [msgspec.convert(body, Snapshot) for (body,) in rows]


def environments(tx: Connection) -> list[tuple[str, str]]:
    """(project, environment) of all that has a snapshot."""
    rows = tx.execute(select(t.snapshots.c.project, t.snapshots.c.environment).distinct())
    return [(project, environment) for project, environment in rows]


def insert_release(tx: Connection, release: Release, recorded: dt.datetime) -> None:
    """A new release."""
    tx.execute(insert(t.releases), {**_values(release), "recorded_time": recorded})


def update_release(tx: Connection, release: Release) -> None:
    """Put a release's later state."""
    tx.execute(
        update(t.releases)
        .where(
            t.releases.c.project == release.project,
            t.releases.c.environment == release.environment,
            t.releases.c.release_id == release.release_id,
        )
        .values(_values(release))
    )


def find_release(tx: Connection, project: str, environment: str, release_id: str) -> Release | None:
    """One release."""
    row = tx.execute(
        select(*_COLUMNS).where(
            t.releases.c.project == project, t.releases.c.environment == environment, t.releases.c.release_id == release_id
        )
    ).first()
    return None if row is None else _release(row)


def list_releases(
    tx: Connection,
    project: str,
    environment: str,
    *,
    endpoint: str | None = None,
    states: Sequence[str] | None = None,
    limit: int = 50,
) -> list[Release]:
    """Releases of an environment, newest first."""
    query = select(*_COLUMNS).where(t.releases.c.project == project, t.releases.c.environment == environment)
    if endpoint is not None:
        query = query.where(t.releases.c.endpoint == endpoint)
    if states is not None:
        query = query.where(t.releases.c.state.in_(list(states)))
    rows = tx.execute(query.order_by(t.releases.c.started.desc(), t.releases.c.release_id.desc()).limit(limit))
    return [_release(row) for row in rows]


def _values(release: Release) -> dict[str, Any]:
    return {c.name: getattr(release, c.name) for c in _COLUMNS} | {"state": release.state.value}


def _release(row: Row[Any]) -> Release:
    values: dict[str, Any] = dict(row._mapping)  # noqa: SLF001  (SQLAlchemy's public name for it)
    if values["strategy"] is not None:
        values["strategy"] = msgspec.convert(values["strategy"], Canary)
    values["state"] = ReleaseState(values["state"])
    return Release(**values)
