"""Statements on events, payloads and idempotency keys."""

from typing import Any

from sqlalchemy import Connection, insert, select

from treadle.store import tables as t


def insert_event(tx: Connection, event: dict[str, Any], payload: dict[str, Any]) -> None:
    """An unsealed event and its erasable payload."""
    tx.execute(insert(t.events), event)
    tx.execute(insert(t.payloads), payload)


def find_answer(tx: Connection, scope: str, actor_id: str, key: str) -> tuple[str, str, str] | None:
    """(operation, request digest, response JSON) that an idempotency key stands for."""
    row = tx.execute(
        select(t.idempotency.c.operation, t.idempotency.c.request_digest, t.idempotency.c.response).where(
            t.idempotency.c.scope == scope, t.idempotency.c.actor_id == actor_id, t.idempotency.c.idempotency_key == key
        )
    ).first()
    return None if row is None else (row[0], row[1], row[2])


def insert_answer(tx: Connection, answer: dict[str, Any]) -> None:
    """Keep an answer under its idempotency key."""
    tx.execute(insert(t.idempotency), answer)
