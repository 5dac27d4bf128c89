"""Events: written in the transaction of the change they tell of, ordered later by the sealer."""

import secrets
from typing import Any

from sqlalchemy import Connection

from treadle.records.calls import Call
from treadle.records.clock import SystemClock
from treadle.records.digests import canonical, digest
from treadle.records.ids import new_id
from treadle.store.queries import events as queries

_clock = SystemClock()


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

    `payload` is any JSON-able value or record. Its digest (BLAKE3 of a random salt and the canonical JSON) goes into the chain; the
    payload itself can be erased. The salt keeps a digest from being guessed back once the payload is gone.
    """
    event_id = event_id or new_id("evt")
    body = canonical({} if payload is None else payload)
    salt = secrets.token_hex(16)
    queries.insert_event(
        tx,
        {
            "project": project,
            "event_id": event_id,
            "environment": environment,
            "type": type,
            "subject": subject,
            "actor": call.actor.actor_id,
            "event_time": call.event_time,
            "recorded_time": _clock.now(),
            "payload_digest": digest(salt.encode() + body),
        },
        {"project": project, "event_id": event_id, "salt": salt, "payload": body.decode()},
    )
    return event_id
