"""Events: written in the transaction of the change they tell of, ordered later by the sealer, read by cursors.

Readers (triggers, console, exports) see sealed events only. The sealer gives places in one go, so a reader that remembers the
last sequence number it dealt with misses nothing and meets nothing twice.
"""

import datetime as dt
import secrets
import threading
from collections.abc import Sequence
from typing import Any

from treadle.records.calls import Call
from treadle.records.clock import SystemClock
from treadle.records.digests import canonical, digest
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.ledger import Event
from treadle.store.db import Connection
from treadle.store.queries import events as queries


class _Stamps:
    """Recorded times that never repeat within a process, so that events of one transaction keep their order when they are sealed."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._last = self._clock.now()

    def next(self) -> dt.datetime:
        """Now; a microsecond after the last one where the clock stood still or went back a little (up to a second)."""
        now = self._clock.now()
        with self._lock:
            if dt.timedelta(0) <= self._last - now < dt.timedelta(seconds=1):
                now = self._last + dt.timedelta(microseconds=1)
            self._last = now
        return now


_stamps = _Stamps()


def append(
    tx: Connection,
    call: Call,
    *,
    type: str,
    subject: str,
    project: str = "",
    environment: str = "",
    payload: Any = None,
    event_id: str | None = None,
) -> str:
    """Write an event into the running transaction; returns its id.

    `payload` is any JSON-able value or record, or canonical JSON as `msgspec.Raw`. Its digest (BLAKE3 of a random salt and the
    canonical JSON) goes into the chain; the payload itself can be erased. The salt keeps a digest from being guessed back once the
    payload is gone.

    Raises:
        TreadleError: `conflict` where `event_id` is taken.
    """
    given = event_id is not None
    event_id = event_id or new_id("evt")
    body = canonical({} if payload is None else payload)
    salt = secrets.token_hex(16)
    event = {
        "project": project,
        "event_id": event_id,
        "environment": environment,
        "type": type,
        "subject": subject,
        "actor": call.actor.actor_id,
        "event_time": call.event_time,
        "recorded_time": _stamps.next(),
        "payload_digest": digest(salt.encode() + body),
        "salt": salt,
        "payload": body.decode(),
    }
    if not given:
        queries.add_event(tx, event)
    elif not queries.insert_event(tx, event):
        raise TreadleError(
            f"There is an event {event_id} already, with other content.",
            remedy="Make a fresh id for a new event: treadle.records.ids.new_id('evt')",
            code="conflict",
        )
    return event_id


def events_after(
    connection: Connection,
    project: str,
    seq: int,
    types: Sequence[str] = (),
    limit: int = 1000,
    *,
    environment: str | None = None,
) -> list[Event]:
    """Sealed events of a project (`*`: of all) after a sequence number, in order. A type may end in `*`; none means every type."""
    return queries.list_events(connection, project, after=seq, types=types, environment=environment, limit=limit)


def cursor(connection: Connection, project: str, reader: str) -> int:
    """The last sequence number that a reader has dealt with, 0 at first."""
    return queries.cursor(connection, project, reader)


def advance(tx: Connection, project: str, reader: str, seq: int) -> None:
    """Remember, in the transaction of what the reader did about them, that it has dealt with events up to `seq`."""
    queries.advance_cursor(tx, project, reader, seq)
