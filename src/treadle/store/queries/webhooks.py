"""Statements on webhooks."""

import datetime as dt
from typing import Any

from sqlalchemy import Connection, Row, delete, literal, select, tuple_, update

from treadle.records.models import Webhook
from treadle.store import tables as t
from treadle.store.upsert import insert_new

_w = t.webhooks.c


def insert_webhook(tx: Connection, row: dict[str, Any]) -> bool:
    """A new webhook; False where its id is there."""
    return insert_new(tx, t.webhooks, row) == 1


def find_webhook(connection: Connection, project: str, webhook_id: str) -> Webhook | None:
    """One webhook."""
    row = connection.execute(select(t.webhooks).where(_w.project == project, _w.webhook_id == webhook_id)).first()
    return None if row is None else _webhook(row)


def update_webhook(tx: Connection, project: str, webhook_id: str, values: dict[str, Any]) -> None:
    """Set columns."""
    tx.execute(update(t.webhooks).where(_w.project == project, _w.webhook_id == webhook_id).values(**values))


def delete_webhook(tx: Connection, project: str, webhook_id: str) -> None:
    """Forget one, and its deliveries."""
    d = t.webhook_deliveries.c
    tx.execute(delete(t.webhook_deliveries).where(d.project == project, d.webhook_id == webhook_id))
    tx.execute(delete(t.webhooks).where(_w.project == project, _w.webhook_id == webhook_id))


def list_webhooks(connection: Connection, project: str, *, before: tuple[dt.datetime, str] | None, limit: int) -> list[Webhook]:
    """Newest first, those made before (created, id) of the last page's end."""
    where = [_w.project == project]
    if before is not None:
        where.append(tuple_(_w.created, _w.webhook_id) < tuple_(literal(before[0], t.Time()), literal(before[1])))
    rows = connection.execute(select(t.webhooks).where(*where).order_by(_w.created.desc(), _w.webhook_id.desc()).limit(limit))
    return [_webhook(row) for row in rows]


def any_active(connection: Connection) -> bool:
    """Whether anybody is to be told of anything."""
    return connection.execute(select(_w.webhook_id).where(_w.state == "active").limit(1)).first() is not None


def active_webhooks(connection: Connection, project: str) -> list[Webhook]:
    """Those of a project that are to be told."""
    return [_webhook(row) for row in connection.execute(select(t.webhooks).where(_w.project == project, _w.state == "active"))]


def secret_of(connection: Connection, project: str, webhook_id: str) -> str | None:
    """What deliveries are signed with; for the sender alone."""
    return connection.execute(select(_w.secret).where(_w.project == project, _w.webhook_id == webhook_id)).scalar()


def _webhook(row: Row[Any]) -> Webhook:
    names = ("project", "webhook_id", "name", "url", "events", "description", "state", "actor", "created", "updated")
    return Webhook(**{name: getattr(row, name) for name in names}, signed=bool(row.secret))
