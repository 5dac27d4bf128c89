"""Statements straight to libpq: the driver's cursor, and the toolkit above it, each cost as much as a small statement's way to PostgreSQL
and back. A `Session` stands beside a connection of the toolkit's and shares its transaction: whoever speaks first begins it.

Each way there and back costs both sides as much again as a small statement does, so what need not wait for an answer does not: BEGIN
travels with the first statement, one whose answer nobody needs with the next (`later`), and COMMIT with the last, where who writes knows
that it is (`Session.ending`). They are a pipeline of libpq's: nothing after an error is run.
"""

import contextlib
import select
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, exc

#: What a connection's `info` has it under.
SESSION = "treadle session"
#: The SQLSTATE of a prepared statement that is not there: the driver lets go of all, ours too, where it altered a table.
FORGOTTEN = "26000"
#: A statement is prepared when it comes for the third time, and so many are at most: some are written for one call.
_OFTEN, _PREPARED, _COUNTED = 3, 200, 2000
_IDLE, _IN_ERROR, _OK, _OFF = 0, 3, 0, 0  # PQTRANS_IDLE, PQTRANS_INERROR, CONNECTION_OK, PQ_PIPELINE_OFF
_DONE, _SYNC = (1, 2), 10  # PGRES_COMMAND_OK and PGRES_TUPLES_OK, PGRES_PIPELINE_SYNC


def _array(texts: list[str]) -> bytes:
    """Texts as a literal of PostgreSQL's array of them."""
    quoted = ('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts)
    return f"{{{','.join(quoted)}}}".encode()


#: How a value travels, by its type; those of other types by the first of these that they are too.
_PACK: dict[type, Callable[[Any], bytes | None]] = {
    str: str.encode,
    type(None): lambda _none: None,
    bool: lambda value: b"t" if value else b"f",
    int: lambda value: int.__repr__(value).encode(),
    float: lambda value: float.__repr__(value).encode(),
    bytes: lambda value: b"\\x" + value.hex().encode(),
    list: _array,
}


class Outcome(NamedTuple):
    """What a statement answered: rows, and how many it found or changed."""

    rows: list[tuple[Any, ...]]
    touched: int


class _Asked(NamedTuple):
    """A statement on its way."""

    statement: str
    values: Sequence[Any]
    packed: list[bytes | None]
    name: bytes | None  # of a prepared one


class Session:
    """Runs statements, their parameters written `%s`, in transactions of the connection's own isolation level."""

    def __init__(self, connection: Connection):
        driver: Any = connection.connection.driver_connection
        self._pg = driver.pgconn
        self._reader = _psycopg().adapt.Transformer(driver)
        self._dialect = connection.dialect
        self._uses: dict[str, int] = {}
        self._prepared: dict[str, bytes] = {}
        self._named = 0
        self._waiting: list[_Asked] = []
        self._failed = False
        self._left = False
        self._answered, self._either = select.poll(), select.poll()
        self._answered.register(self._pg.socket, select.POLLIN)
        self._either.register(self._pg.socket, select.POLLIN | select.POLLOUT)
        #: Whether the statement that says it is the last of its caller's is the last of the transaction.
        self.ending = False
        #: Whether the commit was asked for: if the server goes now, nobody knows.
        self.committing = False

    @property
    def lost(self) -> bool:
        """Whether the server is gone, or was left in the middle of an answer."""
        return self._pg.status != _OK or self._pg.pipeline_status != _OFF

    @property
    def open(self) -> bool:
        """Whether a transaction runs."""
        return self._pg.transaction_status != _IDLE

    @property
    def undone(self) -> bool:
        """Whether an error has undone the transaction, of which a commit would say nothing."""
        return self._failed or self._pg.transaction_status == _IN_ERROR

    def run(self, statement: str, values: Sequence[Any], *, last: bool = False) -> Outcome:
        """Run one statement, behind what was put off.

        Args:
            last: its caller runs no other; where nothing else follows either (`ending`) the transaction is committed with it.

        Raises:
            sqlalchemy.exc.DBAPIError: as the toolkit would.
        """
        asked = [*self._opening(), *self._waiting, self._asked(statement, values)]
        self._waiting.clear()
        place = len(asked) - 1
        if last and self.ending:
            asked.append(self._asked("COMMIT", ()))
        return self._outcome(self._answers(asked, committing=len(asked) - 1 > place)[place])

    def run_together(self, statements: Sequence[tuple[str, Sequence[Any]]], *, last: bool = False) -> list[Outcome]:
        """Run several statements, none of which needs another's answer, in one message: what each found, in order. `last` as for `run`."""
        own = [self._asked(statement, values) for statement, values in statements]
        before = [*self._opening(), *self._waiting]
        self._waiting.clear()
        after = [self._asked("COMMIT", ())] if last and self.ending else []
        answers = self._answers([*before, *own, *after], committing=bool(after))
        return [self._outcome(result) for result in answers[len(before) : len(before) + len(own)]]

    def run_apart(self, statement: str, values: Sequence[Any]) -> Outcome:
        """Run one statement by itself where no transaction has begun, in it where one has."""
        if self.open or self._waiting:
            return self.run(statement, values)
        self._check_not_ended()
        return self._outcome(self._answers([self._asked(statement, values)])[0])

    def _outcome(self, result: Any) -> Outcome:
        self._reader.set_pgresult(result)
        rows: list[tuple[Any, ...]] = self._reader.load_rows(0, result.ntuples, tuple) if result.ntuples else []
        self._reader.set_pgresult(None)
        return Outcome(rows, result.command_tuples or 0)

    def later(self, statement: str, values: Sequence[Any]) -> None:
        """Put a statement off until the next one, or the commit: nobody needs its answer, and its error undoes the transaction."""
        self._check_not_ended()
        self._waiting.append(self._asked(statement, values))

    def flush(self) -> None:
        """Run what was put off: the toolkit is about to run a statement."""
        self._check_not_ended()
        if self._waiting:
            asked = [*self._opening(), *self._waiting]
            self._waiting.clear()
            self._answers(asked)

    def commit(self) -> None:
        """Run what was put off and commit, if anything runs."""
        if self.open or self._waiting:
            asked = [*self._opening(), *self._waiting, self._asked("COMMIT", ())]
            self._waiting.clear()
            self._answers(asked, committing=True)

    def rollback(self) -> None:
        """Undo what runs, if anything does, and be ready for the next transaction."""
        self._waiting.clear()
        self.ending = self.committing = self._failed = False
        if self.open and not self.lost:
            self._answer(_Asked("ROLLBACK", (), [], None), lambda: self._pg.exec_(b"ROLLBACK"))

    def leave(self) -> None:
        """`rollback` of a transaction that runs, for whoever gives the session away: its answer is taken by the next (`settle`). Where the
        server went meanwhile, the transaction went with it, and the next one finds it gone."""
        self._waiting.clear()
        self.ending = self.committing = self._failed = False
        self._left = True
        with contextlib.suppress(_psycopg().Error):
            self._pg.send_query(b"ROLLBACK")
            while self._pg.flush():
                self._either.poll()
                self._pg.consume_input()

    def settle(self) -> None:
        """Take the answer that nobody waited for; a server that is gone meanwhile is seen by `lost`."""
        if not self._left:
            return
        self._left = False
        with contextlib.suppress(_psycopg().Error):
            while self._pg.is_busy():
                self._answered.poll()
                self._pg.consume_input()
            while self._pg.get_result() is not None:
                pass

    def _opening(self) -> list[_Asked]:
        self._check_not_ended()
        return [] if self.open else [self._asked("BEGIN", ())]

    def _check_not_ended(self) -> None:
        if self.committing:
            raise RuntimeError("a statement follows the one that was said to be the last of its write, which is committed already")

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _asked(self, statement: str, values: Sequence[Any]) -> _Asked:
        packed = [self._packed(statement, value) for value in values]
        return _Asked(statement, values, packed, self._prepared.get(statement) or self._prepare(statement))

    def _answers(self, asked: list[_Asked], *, committing: bool = False) -> list[Any]:
        """The result of each statement; the first error is raised, and nothing behind it was run."""
        self.committing = committing
        if len(asked) > 1:
            return self._together(asked)
        one = asked[0]
        if one.name is None:
            return [self._answer(one, lambda: self._pg.exec_params(_numbered(one.statement), one.packed))]
        return [self._answer(one, lambda: self._pg.exec_prepared(one.name, one.packed))]

    def _together(self, asked: list[_Asked]) -> list[Any]:
        pg, at = self._pg, 0
        results: list[Any] = []
        try:
            pg.enter_pipeline_mode()
            for one in asked:
                if one.name is None:
                    pg.send_query_params(_numbered(one.statement), one.packed)
                else:
                    pg.send_query_prepared(one.name, one.packed)
            pg.pipeline_sync()
            while pg.flush():
                self._either.poll()
                pg.consume_input()
            while True:
                while pg.is_busy():
                    self._answered.poll()
                    pg.consume_input()
                result = pg.get_result()
                if result is not None:
                    if result.status == _SYNC:
                        break
                    results.append(result)
                    at = min(len(results), len(asked) - 1)
                elif pg.status != _OK:
                    raise _psycopg().OperationalError("the server closed the connection")
            pg.exit_pipeline_mode()
        except _psycopg().Error as error:
            raise self._told(asked[at], error) from error
        for one, result in zip(asked, results, strict=True):
            self._check(one, result)
        return results

    def _answer(self, asked: _Asked, ask: Callable[[], Any]) -> Any:
        try:
            result = ask()
        except _psycopg().Error as error:
            raise self._told(asked, error) from error
        self._check(asked, result)
        return result

    def _check(self, asked: _Asked, result: Any) -> None:
        if result.status not in _DONE:
            self._failed = True
            error = _psycopg().errors.error_from_result(result)
            if error.sqlstate == FORGOTTEN:
                self._prepared.clear()
            if self.lost and error.sqlstate is None:  # libpq's own word, for which the driver has no better class
                error = _psycopg().OperationalError(str(error))
            raise self._told(asked, error)

    def _prepare(self, statement: str) -> bytes | None:
        """The name of a statement that is worth one."""
        uses = self._uses[statement] = self._uses.get(statement, 0) + 1
        if len(self._uses) > _COUNTED:
            self._uses.clear()
        if uses < _OFTEN or len(self._prepared) >= _PREPARED or self.undone:
            return None
        self._named += 1
        name = f"treadle_{self._named}".encode()
        self._answer(_Asked(statement, (), [], None), lambda: self._pg.prepare(name, _numbered(statement)))
        self._prepared[statement] = name
        return name

    def _packed(self, statement: str, value: Any) -> bytes | None:
        pack = _PACK.get(type(value))
        if pack is None:
            pack = next((pack for kind, pack in _PACK.items() if isinstance(value, kind)), None)
        if pack is not None:
            packed = pack(value)
            if packed is not None and b"\0" in packed:
                error = _psycopg().DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
                raise self._told(_Asked(statement, (value,), [], None), error)
            return packed
        raise TypeError(f"{type(value).__name__} is no type of a parameter: convert it to what the driver takes")

    def _told(self, asked: _Asked, error: Any) -> Any:
        """A driver's error as the toolkit has it."""
        lost, base = self.lost, _psycopg().Error
        return exc.DBAPIError.instance(
            asked.statement, tuple(asked.values), error, base, connection_invalidated=lost, dialect=self._dialect
        )


class Kept:
    """Connections of an engine that wait for the next who wants one: to take one from a pool and set it up anew costs more than a small
    statement does.

    Args:
        most: so many wait at most.
    """

    def __init__(self, engine: Engine, most: int):
        self._engine = engine
        self._most = most
        self._waiting: list[tuple[Connection, Session]] = []
        self._closed = False

    def take(self) -> tuple[Connection, Session]:
        """A connection for one transaction."""
        while True:
            try:
                connection, session = self._waiting.pop()
            except IndexError:
                connection = self._engine.connect()
                known: Session | None = connection.info.get(SESSION)
                if known is None:
                    known = connection.info[SESSION] = Session(connection)
                return connection, known
            session.settle()
            if alive(connection.connection.driver_connection):
                return connection, session
            connection.invalidate()
            connection.close()

    def give(self, connection: Connection, session: Session) -> None:
        """Undo what still runs on a connection, and keep it for the next, or close it. One whose server is gone is let go."""
        if session.lost and not connection.invalidated:
            connection.invalidate()
        full = self._closed or len(self._waiting) >= self._most
        if session.open and not (full or connection.invalidated or connection.in_transaction()):
            session.leave()
            self._waiting.append((connection, session))
            return
        session.rollback()
        if connection.in_transaction():
            connection.rollback()
        if full or connection.invalidated or session.open:
            connection.close()
        else:
            self._waiting.append((connection, session))

    def clear(self) -> None:
        """Close those that wait."""
        while self._waiting:
            with contextlib.suppress(IndexError):  # somebody took the last one
                connection, session = self._waiting.pop()
                session.settle()
                connection.close()

    def close(self) -> None:
        """Keep none from now on."""
        self._closed = True
        self.clear()


def alive(driver: Any) -> bool:
    """Whether the server still holds a connection that nobody uses, without asking it: whoever ends a connection says so first. What
    else it may say unasked (a setting was changed) is rare enough to open another connection for."""
    if driver.pgconn.status != _OK:
        return False
    poll = select.poll()
    poll.register(driver.pgconn.socket, select.POLLIN)
    return not poll.poll(0)


def _psycopg() -> Any:
    import psycopg  # noqa: PLC0415  (an eighth of a second that only those who use it need)

    return psycopg


def _numbered(statement: str) -> bytes:
    first, *others = statement.split("%s")
    return "".join([first, *(f"${number}{part}" for number, part in enumerate(others, 1))]).encode()
