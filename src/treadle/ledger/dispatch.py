"""The one door: every operation, whatever face it came through, passes here.

Look the verb up → check the permission → run the bound method in a transaction → in the same transaction, the audit event and
the answer under its idempotency key. A retried key gives the first answer back; the same key for another request is a conflict.
"""

import datetime as dt
import functools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import msgspec
from msgspec import Struct

from treadle.ledger import events
from treadle.operations.table import Operation, Writes, allows, operations
from treadle.records.calls import ROLE_ORDER, Actor, Call, Role
from treadle.records.clock import Clock, SystemClock, utc
from treadle.records.digests import canonical, digest_of
from treadle.records.errors import TreadleError
from treadle.records.ids import NAME, NAME_RULE
from treadle.store.db import Connection, Database
from treadle.store.driver import nothing_follows
from treadle.store.queries import events as queries

#: Longest part of a request, in bytes of JSON, that stands in its event as it is.
_LARGE = 8192


class Unchanged(Struct, frozen=True):
    """A service method's way to say that a write changed nothing (a retry with the same id): answered, but no event."""

    answer: Any


class Dispatcher:
    """Runs operations against the services that implement them.

    Args:
        database: where transactions run.
        services: objects with methods bound by `@implements`.
        clock: business time for calls that bring none.
        complete: whether every declared operation must be implemented; False for a part of the house by itself.

    Raises:
        LookupError: an operation that no service implements, or that two do.
    """

    def __init__(self, database: Database, services: Iterable[object], *, clock: Clock | None = None, complete: bool = True):
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
        if missing and complete:
            raise LookupError(f"no service implements {', '.join(missing)}")

    def __call__(self, request: Any, *, actor: Actor, idempotency_key: str | None = None, event_time: dt.datetime | None = None) -> Any:
        """Run one operation as `actor`.

        Raises:
            TreadleError: `denied`, or whatever the operation itself raises.
        """
        operation, method, call = self._admit(request, actor, idempotency_key, event_time)
        if operation.writes is None:
            with self.database.read() as connection:
                nothing_follows(connection)
                return method(connection, request, call)
        if getattr(method, "__long__", False):
            return self._run_long(operation, method, request, call)
        return self.database.write(functools.partial(self._run, operation, method, request, call))

    def submit(
        self, request: Any, *, actor: Actor, idempotency_key: str | None = None, event_time: dt.datetime | None = None
    ) -> Future[Any]:
        """Run a writing operation for a caller whose thread must not wait: the future has the answer once it is on disk.

        Raises:
            TreadleError: what can be known before the write, as `denied`; the operation's own errors are the future's.
        """
        operation, method, call = self._admit(request, actor, idempotency_key, event_time)
        if operation.writes is None:
            raise TypeError(f"{operation.name} reads; only writes are submitted")
        if getattr(method, "__long__", False):
            return _in_a_thread(functools.partial(self._run_long, operation, method, request, call))
        return self.database.submit(functools.partial(self._run, operation, method, request, call))

    def _admit(
        self, request: Any, actor: Actor, idempotency_key: str | None, event_time: dt.datetime | None
    ) -> tuple[Operation, Callable[..., Any], Call]:
        operation, method = self._find(type(request))
        check_names(request, reads=operation.writes is None)
        check_allowed(operation, request, actor)
        return operation, method, Call(actor=actor, event_time=utc(event_time or self.clock.now()), idempotency_key=idempotency_key)

    def _find(self, request: type) -> tuple[Operation, Callable[..., Any]]:
        operation = operations().get(request)
        if operation is None:
            raise TreadleError(f"{request.__name__} is no operation.", remedy="Pick one of treadle.operations.operations().")
        method = self._bound.get(request)
        if method is None:
            raise TreadleError(
                f"{operation.name} has no implementation here.",
                remedy=f"Give the dispatcher the service of the room {operation.room}.",
                code="not_implemented",
            )
        return operation, method

    def _run_long(self, operation: Operation, method: Callable[..., Any], request: Any, call: Call) -> Any:
        """A write that makes its own transactions; the event and the answer to a repeated key are in the last one."""
        if call.idempotency_key:
            with self.database.read() as connection:
                known = queries.find_answer(connection, getattr(request, "project", ""), call.actor.actor_id, call.idempotency_key)
            if known is not None:
                return self._again(operation, request, known, call.idempotency_key)
        answer = method(self.database, request, call)
        return self.database.write(functools.partial(self._run, operation, lambda *_: answer, request, call))

    def _run(self, operation: Operation, method: Callable[..., Any], request: Any, call: Call, tx: Connection) -> Any:
        scope = getattr(request, "project", "")
        if call.idempotency_key:
            known = queries.find_answer(tx, scope, call.actor.actor_id, call.idempotency_key)
            if known is not None:
                return self._again(operation, request, known, call.idempotency_key)
        elif operation.writes is not None and operation.writes.measures:
            nothing_follows(tx)
        answer = method(tx, request, call)
        changed = not isinstance(answer, Unchanged)
        answer = answer if changed else answer.answer
        if changed and operation.writes is not None and not operation.writes.measures:
            events.append(tx, call, **_event(operation.writes, request, answer))
        if call.idempotency_key:
            kept = answer.without_secret() if hasattr(answer, "without_secret") else answer
            queries.insert_answer(
                tx,
                {
                    "scope": scope,
                    "actor_id": call.actor.actor_id,
                    "idempotency_key": call.idempotency_key,
                    "operation": operation.name,
                    "request_digest": digest_of(request),
                    "response": canonical(kept).decode(),
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


def _in_a_thread(work: Callable[[], Any]) -> Future[Any]:
    """A thread of its own for what takes long and comes rarely."""
    future: Future[Any] = Future()

    def run() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  (whatever it is, it is raised where the answer is waited for)
                future.set_exception(error)

    threading.Thread(target=run, name="treadle-long", daemon=True).start()
    return future


def role_in(actor: Actor, project: str, environment: str) -> Role:
    """The role an actor has in a project and environment: its own, or the highest of its grants that fit."""
    fitting = [g.role for g in actor.grants if g.project in ("*", project) and g.environment in ("*", environment)]
    return max([actor.role, *fitting], key=ROLE_ORDER.index)


def check_allowed(operation: Operation, request: Any, actor: Actor) -> None:
    """Raises `denied` where the actor's role in the request's project and environment lacks the permission."""
    role = role_in(actor, getattr(request, "project", ""), getattr(request, "environment", None) or "")
    if not allows(role, operation.allow):
        raise TreadleError(
            f"{actor.name} is {role} here and may not {operation.command.replace('-', ' ')}: that needs {operation.allow}.",
            remedy=f"Ask an admin for a role that has {operation.allow}: treadle actor add NAME --role ROLE",
            code="denied",
            details={"operation": operation.name, "permission": operation.allow, "role": str(role)},
        )


def check_names(request: Any, *, reads: bool = True) -> None:
    """Raises `bad_request` where the request's project or environment is no name: they become keys and folder names.

    A read may ask for `*`, every project; an environment may be left empty where it has no meaning.
    """
    for field, exempt in (("project", "*" if reads else None), ("environment", "")):
        name = getattr(request, field, None)
        if name is not None and name != exempt and not NAME.fullmatch(name):
            raise TreadleError(
                f"{name[:80]!r} is no name for a{'n' if field == 'environment' else ''} {field}.",
                remedy=NAME_RULE,
                details={"field": field},
            )


def _event(writes: Writes, request: Any, answer: Any) -> dict[str, Any]:
    """The write's event."""
    fields = msgspec.to_builtins(request)
    facts = {name: getattr(answer, name) for name in ("number", "state") if hasattr(answer, name)}
    return {
        "type": writes.event or fields["type"],
        "subject": writes.subject.format(**{**fields, **facts}),
        "project": fields.get("project", ""),
        "environment": fields.get("environment") or getattr(answer, "environment", ""),
        "payload": _payload({**fields, **facts}) if writes.event else fields.get("payload", {}),
        "event_id": fields.get("event_id") if not writes.event else None,
    }


def _payload(told: dict[str, Any]) -> msgspec.Raw:
    """The request as an event tells it, already in JSON; large parts (a whole project) by their digest."""
    whole = canonical(told)
    if len(whole) > _LARGE:
        whole = canonical({k: (v if len(canonical(v)) <= _LARGE else {"digest": digest_of(v)}) for k, v in told.items()})
    return msgspec.Raw(whole)
