"""Statements on deliveries of webhooks: the outbox, who sends what of it next, and what became of it."""

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, exists, func, literal, not_, or_, select, tuple_, update

from treadle.records.models import WebhookDelivery
from treadle.store import tables as t
from treadle.store.upsert import insert_new

_d = t.webhook_deliveries.c
_w = t.webhooks.c
_SHOWN = tuple(WebhookDelivery.__struct_fields__)


def insert_deliveries(tx: Connection, rows: Sequence[dict[str, Any]]) -> int:
    """Deliveries to be made; those that are there already stay as they are."""
    return insert_new(tx, t.webhook_deliveries, rows)


def any_due(connection: Connection, now: dt.datetime) -> bool:
    """Whether one waits for its next attempt."""
    return connection.execute(select(_d.delivery_id).where(_d.state == "waiting", _d.due <= now).limit(1)).first() is not None


def claim(
    tx: Connection, now: dt.datetime, until: dt.datetime, *, busy: Collection[tuple[str, str]], each: int, limit: int
) -> Sequence[Row[Any]]:
    """Take what is due, at most `each` of one webhook and none of those that are busy; nobody else takes it before `until`.

    Every row has the webhook's address and secret. What a webhook is not to have any more (it is disabled) is dropped here.
    """
    here = and_(_w.project == _d.project, _w.webhook_id == _d.webhook_id)
    due = and_(_d.state == "waiting", _d.due <= now)
    gone = not_(exists().where(here, _w.state == "active"))
    tx.execute(update(t.webhook_deliveries).where(due, gone).values(state="dropped", updated=now))
    place = func.row_number().over(partition_by=(_d.project, _d.webhook_id), order_by=(_d.due, _d.delivery_id)).label("place")
    where = [due]
    where += [or_(_d.project != project, _d.webhook_id != webhook_id) for project, webhook_id in busy]
    ranked = select(_d.project, _d.webhook_id, _d.delivery_id, _d.due, place).where(*where).subquery()
    chosen = (
        select(t.webhook_deliveries, _w.url, _w.secret)
        .join(ranked, and_(*(_d[n] == ranked.c[n] for n in ("project", "webhook_id", "delivery_id"))))
        .join(t.webhooks, here)
        .where(ranked.c.place <= each)
        .order_by(ranked.c.due, _d.delivery_id)
        .limit(limit)
    )
    rows = tx.execute(chosen).all()
    for row in rows:
        values = {"due": until, "attempts": row.attempts + 1, "updated": now}
        tx.execute(update(t.webhook_deliveries).where(*_key(row.project, row.webhook_id, row.delivery_id)).values(values))
    return rows


def settle(tx: Connection, key: tuple[str, str, str], values: dict[str, Any], *, attempt: int | None) -> bool:
    """What became of an attempt; with `attempt`, only where no later one has begun and it still waits."""
    where = list(_key(*key))
    if attempt is not None:
        where += [_d.attempts == attempt, _d.state == "waiting"]
    return tx.execute(update(t.webhook_deliveries).where(*where).values(values)).rowcount == 1


def prune(tx: Connection, before: dt.datetime) -> int:
    """Forget deliveries from before a time that do not wait any more; how many."""
    return tx.execute(delete(t.webhook_deliveries).where(_d.created < before, _d.state != "waiting")).rowcount


def list_deliveries(
    connection: Connection, project: str, *, webhook_id: str, state: str, before: tuple[dt.datetime, str] | None, limit: int
) -> list[WebhookDelivery]:
    """Newest first, those before (created, id) of the last page's end."""
    where = [_d.project == project]
    where += [_d.webhook_id == webhook_id] if webhook_id else []
    where += [_d.state == state] if state else []
    if before is not None:
        where.append(tuple_(_d.created, _d.delivery_id) < tuple_(literal(before[0], t.Time()), literal(before[1])))
    query = select(*(_d[name] for name in _SHOWN)).where(*where).order_by(_d.created.desc(), _d.delivery_id.desc()).limit(limit)
    return [_delivery(dict(row)) for row in connection.execute(query).mappings()]


def _delivery(values: dict[str, Any]) -> WebhookDelivery:
    return WebhookDelivery(**{**values, "due": values["due"] if values["state"] == "waiting" else None})


def _key(project: str, webhook_id: str, delivery_id: str) -> tuple[Any, ...]:
    return (_d.project == project, _d.webhook_id == webhook_id, _d.delivery_id == delivery_id)
