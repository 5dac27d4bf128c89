"""The one door: every operation, whatever face it came through, passes here.

Look the verb up → check the permission → run the bound method in a transaction → in the same transaction, the audit event and
the answer under its idempotency key. A retried key gives the first answer back; the same key for another request is a conflict.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from treadle.ledger import events
from treadle.operations.table import Operation, allows, operations
from treadle.records.calls import Actor, Call, Role
from treadle.records.clock import Clock, SystemClock
from treadle.records.digests import canonical, digest_of
from treadle.records.errors import TreadleError
from treadle.store.db import Database
from treadle.store.queries import events as queries


class Unchanged(Struct, frozen=True):
    """A service method's way to say that a write changed nothing (a retry with the same id): answered, but no event."""

    answer: Any


class Dispatcher:
    """Runs operations against the services that implement them.

    Args:
        database: where transactions run.
        services: objects with methods bound by `@implements`.
        clock: business time for calls that bring none.

    Raises:
        LookupError: an operation that no service implements, or that two do.
    """

    def __init__(self, database: Database, services: Iterable[object], *, clock: Clock | None = None):
        self.database = database
        self.clock = clock or SystemClock()
        self._bound: dict[type, Callable[..., Any]] = {}
        for service in services:
            for name in dir(type(service)):
                request = getattr(getattr(type(service), name), "__implements__", None)
                if request is not None:
                    if request in self._bound:
                        raise LookupError(f"{request.__name__} is implemented twice, again in {type(service).__name__}")
                    self._bound[request] = getattr(service, name)
        missing = sorted(o.name for r, o in operations().items() if r not in self._bound)
        if missing:
            raise LookupError(f"no service implements {', '.join(missing)}")

    def __call__(self, request: Any, *, actor: Actor, idempotency_key: str | None = None, event_time: dt.datetime | None = None) -> Any:
        """Run one operation as `actor`.

        Raises:
            TreadleError: `denied`, or whatever the operation itself raises.
        """
        operation = operations()[type(request)]
        self._check(operation, request, actor)
        call = Call(actor=actor, event_time=event_time or self.clock.now(), idempotency_key=idempotency_key)
        method = self._bound[type(request)]
        if operation.writes is None:
            with self.database.read() as connection:
                return method(connection, request, call)
        return self.database.write(lambda tx: self._run(tx, operation, method, request, call))

    def _check(self, operation: Operation, request: Any, actor: Actor) -> None:
        role = role_in(actor, getattr(request, "project", ""), getattr(request, "environment", None) or "")
        if not allows(role, operation.allow):
            raise TreadleError(
                f"{actor.name} is {role} here and may not {operation.command.replace('-', ' ')}: that needs {operation.allow}.",
                remedy=f"Ask an admin for a role that has {operation.allow}: treadle actor add NAME --role ROLE",
                code="denied",
                details={"operation": operation.name, "permission": operation.allow, "role": str(role)},
            )

    def _run(self, tx: Connection, operation: Operation, method: Callable[..., Any], request: Any, call: Call) -> Any:
        scope = getattr(request, "project", "")
        if call.idempotency_key:
            known = queries.find_answer(tx, scope, call.actor.actor_id, call.idempotency_key)
            if known is not None:
                return self._again(operation, request, known, call.idempotency_key)
        answer = method(tx, request, call)
        changed = not isinstance(answer, Unchanged)
        answer = answer if changed else answer.answer
        writes = operation.writes
        if changed and writes is not None and not writes.measures:
            fields = msgspec.to_builtins(request)
            facts = {name: getattr(answer, name) for name in ("number", "state") if hasattr(answer, name)}
            events.append(
                tx,
                call,
                type=writes.event or fields["type"],
                subject=writes.subject.format(**{**fields, **facts}),
                project=scope,
                environment=fields.get("environment") or getattr(answer, "environment", ""),
                payload=_payload(fields, facts),
                event_id=fields.get("event_id") if not writes.event else None,
            )
        if call.idempotency_key:
            queries.insert_answer(
                tx,
                {
                    "scope": scope,
                    "actor_id": call.actor.actor_id,
                    "idempotency_key": call.idempotency_key,
                    "operation": operation.name,
                    "request_digest": digest_of(request),
                    "response": canonical(answer).decode(),
                    "recorded_time": SystemClock().now(),
                },
            )
        return answer

    def _again(self, operation: Operation, request: Any, known: tuple[str, str, str], key: str) -> Any:
        name, request_digest, response = known
        if name != operation.name or request_digest != digest_of(request):
            raise TreadleError(
                f"The idempotency key {key!r} was used before for another request ({name}).",
                remedy="Use a new key for a new request; repeat a key only to repeat the very same request.",
                code="conflict",
            )
        return msgspec.json.decode(response, type=operation.returns)


def role_in(actor: Actor, project: str, environment: str) -> Role:
    """The role an actor has in a project and environment: its own, or the highest of its grants that fit."""
    fitting = [g.role for g in actor.grants if g.project in ("*", project) and g.environment in ("*", environment)]
    return max([actor.role, *fitting], key=list(Role).index)


def _payload(fields: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The request as an event tells it; large parts (a whole project) by their digest."""
    told = {**fields, **msgspec.to_builtins(facts)}
    return {k: (v if len(canonical(v)) <= 8192 else {"digest": digest_of(v)}) for k, v in told.items()}
