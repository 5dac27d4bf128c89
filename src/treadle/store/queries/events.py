"""Statements on events, the chain's heads, readers' cursors and idempotency keys."""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from treadle.records.ledger import Event
from treadle.store import tables as t
from treadle.store.driver import fetch, run
from treadle.store.upsert import find_row, insert_later, insert_new, insert_or_update

#: A project of this name in a question stands for all projects.
EVERY = "*"
_COLUMNS = [c for c in t.events.c if c.name != "salt"]


def insert_event(tx: Connection, event: dict[str, Any]) -> bool:
    """An unsealed event; False where its id is there."""
    return insert_new(tx, t.events, event) == 1


def add_event(tx: Connection, event: dict[str, Any]) -> None:
    """An unsealed event whose id nobody has."""
    insert_later(tx, t.events, event)


def get_event(connection: Connection, project: str, event_id: str) -> Event | None:
    """One event, sealed or not."""
    row = connection.execute(select(*_COLUMNS).where(t.events.c.project == project, t.events.c.event_id == event_id)).first()
    return None if row is None else _event(row)


def list_events(
    connection: Connection,
    project: str,
    *,
    after: int | None = None,
    environment: str | None = None,
    types: Sequence[str] = (),
    subject: str | None = None,
    newest: bool = False,
    limit: int = 100,
) -> list[Event]:
    """Sealed events in order after a sequence number (before it, and backwards, with `newest`); a type may end in `*`."""
    e = t.events.c
    where: list[ColumnElement[bool]] = [e.seq.is_not(None)]
    if project != EVERY:
        where.append(e.project == project)
    if after is not None:
        where.append(e.seq < after if newest else e.seq > after)
    if environment is not None:
        where.append(e.environment == environment)
    if types:
        where.append(or_(*(_of_type(name) for name in types)))
    if subject is not None:
        where.append(e.subject == subject)
    order = e.seq.desc() if newest else e.seq
    return [_event(row) for row in connection.execute(select(*_COLUMNS).where(*where).order_by(order).limit(limit))]


def was_moved(connection: Connection, project: str, subject: str, state: str) -> bool:
    """Whether a model version was ever moved to a state by hand, as events that still have their payload tell; sealed or not."""
    e = t.events.c
    where = (e.project == project, e.subject == subject, e.type == "treadle.model.moved", e.payload.is_not(None))
    found = connection.execute(select(*_COLUMNS).where(*where)).all()
    return any((_event(row).payload or {}).get("state") == state for row in found)


def erase_payload(tx: Connection, project: str, event_id: str) -> bool:
    """Remove a payload and its salt for good, and what webhooks were told of it; False where there was none."""
    e, d = t.events.c, t.webhook_deliveries.c
    where = (e.project == project, e.event_id == event_id, e.payload.is_not(None))
    tx.execute(delete(t.webhook_deliveries).where(d.project == project, d.event_id == event_id))
    return tx.execute(update(t.events).where(*where).values(payload=None, salt=None)).rowcount == 1


# ── the chain ────────────────────────────────────────────────────────────────────────────────────────────────────────


def unsealed(connection: Connection, limit: int) -> Sequence[Any]:
    """Events that wait for their place, in the order in which they were recorded, without their payloads."""
    e = t.events.c
    columns = (e.event_id, e.project, e.environment, e.type, e.subject, e.actor, e.event_time, e.recorded_time, e.payload_digest)
    return connection.execute(select(*columns).where(e.seq.is_(None)).order_by(e.recorded_time, e.event_id).limit(limit)).all()


def any_unsealed(connection: Connection) -> bool:
    """Whether an event waits."""
    return connection.execute(select(t.events.c.event_id).where(t.events.c.seq.is_(None)).limit(1)).first() is not None


def unsealed_tail(connection: Connection) -> tuple[int, dt.datetime | None]:
    """How many events wait, and since when."""
    row = connection.execute(select(func.count(), func.min(t.events.c.recorded_time)).where(t.events.c.seq.is_(None))).one()
    return row[0], row[1]


def last_head(connection: Connection) -> tuple[int, str] | None:
    """(sequence number, hash) of the newest head."""
    row = connection.execute(select(t.heads.c.seq, t.heads.c.hash).order_by(t.heads.c.seq.desc()).limit(1)).first()
    return None if row is None else (row[0], row[1])


#: All of them in one statement of PostgreSQL's.
_SEAL_ALL = (
    "UPDATE events SET seq = given.seq, hash = given.hash "
    "FROM unnest(?::text[], ?::text[], ?::bigint[], ?::text[]) AS given (project, event_id, seq, hash) "
    "WHERE events.project = given.project AND events.event_id = given.event_id AND events.seq IS NULL"
)


def seal(tx: Connection, places: Sequence[tuple[str, str, int, str]], sealed_time: dt.datetime) -> None:
    """Give events their places (project, event id, sequence number, hash), the last of which is the new head."""
    if tx.dialect.name == "postgresql":
        given = [[str(value) for value in column] for column in zip(*places, strict=True)]
        fetch(tx, _SEAL_ALL, *given)
    else:
        statement = "UPDATE events SET seq = ?, hash = ? WHERE project = ? AND event_id = ? AND seq IS NULL"
        run(tx, statement, [(seq, hash, project, event_id) for project, event_id, seq, hash in places])
    tx.execute(insert(t.heads), {"seq": places[-1][2], "hash": places[-1][3], "sealed_time": sealed_time})


def chain(connection: Connection, *, after: int = 0) -> Iterator[Row[Any]]:
    """Every sealed event in order after a sequence number, with salt and payload as stored; in pages, whatever there are."""
    while True:
        rows = connection.execute(select(t.events).where(t.events.c.seq > after).order_by(t.events.c.seq).limit(5000)).all()
        yield from rows
        if not rows:
            return
        after = rows[-1].seq


def erasures(connection: Connection) -> set[tuple[str, str]]:
    """(project, `event/ID`) of every payload whose erasure an event tells of."""
    e = t.events.c
    return {(row[0], row[1]) for row in connection.execute(select(e.project, e.subject).where(e.type == "treadle.payload.erased"))}


# ── readers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def cursor(connection: Connection, project: str, reader: str) -> int:
    """The last sequence number a reader has dealt with, 0 at first."""
    c = t.cursors.c
    return connection.execute(select(c.seq).where(c.project == project, c.reader == reader)).scalar() or 0


def advance_cursor(tx: Connection, project: str, reader: str, seq: int) -> None:
    """Remember how far a reader came; never back."""
    insert_or_update(tx, t.cursors, {"project": project, "reader": reader, "seq": seq}, newer=("seq",))


# ── idempotency keys ─────────────────────────────────────────────────────────────────────────────────────────────────


def find_answer(tx: Connection, scope: str, actor_id: str, key: str) -> tuple[str, str, str] | None:
    """(operation, request digest, response JSON) that an idempotency key stands for."""
    keys = ("scope", "actor_id", "idempotency_key")
    row = find_row(tx, t.idempotency, ("operation", "request_digest", "response"), keys, (scope, actor_id, key))
    return None if row is None else (row[0], row[1], row[2])


def insert_answer(tx: Connection, answer: dict[str, Any]) -> None:
    """Keep an answer under its idempotency key."""
    insert_new(tx, t.idempotency, answer)


def forget_answers(tx: Connection, before: dt.datetime) -> int:
    """Drop answers recorded before a time; returns how many."""
    return tx.execute(delete(t.idempotency).where(t.idempotency.c.recorded_time < before)).rowcount


def _of_type(name: str) -> ColumnElement[bool]:
    column = t.events.c.type
    if not name.endswith("*"):
        return column == name
    return column.startswith(name[:-1], autoescape=True)


def _event(row: Row[Any]) -> Event:
    return Event(
        event_id=row.event_id,
        project=row.project,
        environment=row.environment,
        type=row.type,
        subject=row.subject,
        actor=row.actor,
        event_time=row.event_time,
        recorded_time=row.recorded_time,
        payload=None if row.payload is None else msgspec.json.decode(row.payload),
        payload_digest=row.payload_digest,
        seq=row.seq,
        hash=row.hash,
    )
