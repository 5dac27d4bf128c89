"""Statements of the monitoring room: windows and alarms, and what a watch must know of champions and datasets."""

import datetime as dt
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from treadle.records.definitions import Endpoint
from treadle.records.monitoring import Alarm, WindowReport
from treadle.records.serving import Snapshot
from treadle.records.states import AlarmState
from treadle.store import tables as t

_WINDOW = tuple(c for c in t.windows.c if c.name not in ("profile", "recorded_time"))
_ALARM = tuple(c for c in t.alarms.c if c.name != "recorded_time")


def put_windows(tx: Connection, reports: list[WindowReport], recorded: dt.datetime) -> None:
    """Write reports, each in place of an earlier one of the same block."""
    for report in reports:
        tx.execute(
            delete(t.windows).where(
                t.windows.c.project == report.project,
                t.windows.c.environment == report.environment,
                t.windows.c.endpoint == report.endpoint,
                t.windows.c.start == report.start,
            )
        )
    if reports:
        tx.execute(insert(t.windows), [{**{c.name: getattr(r, c.name) for c in _WINDOW}, "recorded_time": recorded} for r in reports])


def list_windows(
    tx: Connection, project: str, environment: str, endpoint: str, start: dt.datetime | None, end: dt.datetime | None, limit: int
) -> list[WindowReport]:
    """Reports with start <= block start < end, in order; the latest `limit` of them."""
    query = select(*_WINDOW).where(t.windows.c.project == project, t.windows.c.environment == environment, t.windows.c.endpoint == endpoint)
    if start is not None:
        query = query.where(t.windows.c.start >= start)
    if end is not None:
        query = query.where(t.windows.c.start < end)
    rows = tx.execute(query.order_by(t.windows.c.start.desc()).limit(limit)).all()
    return [WindowReport(**_values(row)) for row in reversed(rows)]


def insert_alarm(tx: Connection, alarm: Alarm, recorded: dt.datetime) -> None:
    """A new alarm."""
    tx.execute(insert(t.alarms), {c.name: getattr(alarm, c.name) for c in _ALARM} | {"state": alarm.state.value, "recorded_time": recorded})


def update_alarm(tx: Connection, alarm: Alarm) -> None:
    """Put an alarm's later state, text and facts."""
    tx.execute(
        update(t.alarms)
        .where(t.alarms.c.project == alarm.project, t.alarms.c.environment == alarm.environment, t.alarms.c.alarm_id == alarm.alarm_id)
        .values(state=alarm.state.value, closed=alarm.closed, text=alarm.text, facts=alarm.facts)
    )


def list_alarms(
    tx: Connection, project: str, environment: str, *, endpoint: str | None = None, state: str | None = None, limit: int = 100
) -> list[Alarm]:
    """Alarms of an environment, newest first."""
    query = select(*_ALARM).where(t.alarms.c.project == project, t.alarms.c.environment == environment)
    if endpoint is not None:
        query = query.where(t.alarms.c.endpoint == endpoint)
    if state is not None:
        query = query.where(t.alarms.c.state == state)
    rows = tx.execute(query.order_by(t.alarms.c.raised.desc(), t.alarms.c.alarm_id.desc()).limit(limit))
    return [_alarm(row) for row in rows]


def newest_snapshot(tx: Connection, project: str, environment: str) -> Snapshot | None:
    """What the gateways of an environment serve."""
    body = tx.execute(
        select(t.snapshots.c.body)
        .where(t.snapshots.c.project == project, t.snapshots.c.environment == environment)
        .order_by(t.snapshots.c.generation.desc())
        .limit(1)
    ).scalar()
    return None if body is None else msgspec.convert(body, Snapshot)


def version_metrics(tx: Connection, project: str, model: str, number: int) -> dict[str, float]:
    """Metrics of a version's own evaluation; empty where there is no such version."""
    return (
        tx.execute(
            select(t.model_versions.c.metrics).where(
                t.model_versions.c.project == project, t.model_versions.c.model == model, t.model_versions.c.number == number
            )
        ).scalar()
        or {}
    )


def newest_dataset_version(tx: Connection, project: str, dataset: str) -> int:
    """Number of the newest version of a dataset, 0 where there is none."""
    return (
        tx.execute(
            select(t.dataset_versions.c.number)
            .where(t.dataset_versions.c.project == project, t.dataset_versions.c.dataset == dataset)
            .order_by(t.dataset_versions.c.number.desc())
            .limit(1)
        ).scalar()
        or 0
    )


def applied_endpoint(tx: Connection, project: str, environment: str, endpoint: str) -> Endpoint | None:
    """The definition of an endpoint as applied."""
    definitions: dict[str, Any] | None = tx.execute(
        select(t.applied.c.definitions).where(t.applied.c.project == project, t.applied.c.environment == environment)
    ).scalar()
    found = next((e for e in (definitions or {}).get("endpoints", ()) if e["name"] == endpoint), None)
    return None if found is None else msgspec.convert(found, Endpoint)


def _alarm(row: Row[Any]) -> Alarm:
    values = _values(row)
    values["state"] = AlarmState(values["state"])
    return Alarm(**values)


def _values(row: Row[Any]) -> dict[str, Any]:
    return dict(row._mapping)  # noqa: SLF001  (SQLAlchemy's public name for it)
