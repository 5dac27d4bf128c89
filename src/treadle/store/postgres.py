"""Statements of a write straight to libpq: the driver's cursor, and the toolkit above it, each cost as much as a small statement's way to
PostgreSQL and back. A `Session` stands beside a connection of the toolkit's and shares its transaction: whoever speaks first begins it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, exc

#: What a connection's `info` has it under.
SESSION = "treadle session"
#: The SQLSTATE of a prepared statement that is not there: the driver lets go of all, ours too, where it altered a table.
FORGOTTEN = "26000"
#: A statement is prepared when it comes for the third time, and so many are at most: some are written for one call.
_OFTEN, _PREPARED, _COUNTED = 3, 200, 2000
_BEGIN = b"BEGIN ISOLATION LEVEL SERIALIZABLE"
_IDLE, _IN_ERROR, _OK = 0, 3, 0  # PQTRANS_IDLE, PQTRANS_INERROR, CONNECTION_OK
_DONE = (1, 2)  # PGRES_COMMAND_OK, PGRES_TUPLES_OK

#: From the text of a value to the value, by the object id of its type; anything else is text.
_READ: dict[int, Callable[[bytes], Any]] = {
    16: lambda text: text == b"t",
    17: lambda text: bytes.fromhex(text[2:].decode()),
    **dict.fromkeys((20, 21, 23), int),
    **dict.fromkeys((700, 701), float),
}


class Outcome(NamedTuple):
    """What a statement answered: rows, and how many it found or changed."""

    rows: list[tuple[Any, ...]]
    touched: int


class Session:
    """Runs statements, their parameters written `%s`, in serialisable transactions."""

    def __init__(self, connection: Connection):
        driver: Any = connection.connection.driver_connection
        self._pg = driver.pgconn
        self._dialect = connection.dialect
        self._uses: dict[str, int] = {}
        self._prepared: dict[str, bytes] = {}
        self._named = 0

    @property
    def lost(self) -> bool:
        """Whether the server is gone."""
        return self._pg.status != _OK

    @property
    def open(self) -> bool:
        """Whether a transaction runs."""
        return self._pg.transaction_status != _IDLE

    def run(self, statement: str, values: Sequence[Any]) -> Outcome:
        """Run one statement.

        Raises:
            sqlalchemy.exc.DBAPIError: as the toolkit would.
        """
        if self._pg.transaction_status == _IDLE:
            self._answer(_BEGIN.decode(), (), lambda: self._pg.exec_(_BEGIN))
        packed = [self._packed(statement, value) for value in values]
        name = self._prepared.get(statement)
        if name is None:
            name = self._prepare(statement)
        if name is None:
            result = self._answer(statement, values, lambda: self._pg.exec_params(_numbered(statement), packed))
        else:
            result = self._answer(statement, values, lambda: self._pg.exec_prepared(name, packed))
        columns = [_READ.get(result.ftype(at), bytes.decode) for at in range(result.nfields)]
        rows = [tuple([_read(result.get_value(row, at), read) for at, read in enumerate(columns)]) for row in range(result.ntuples)]
        return Outcome(rows, result.command_tuples or 0)

    @property
    def undone(self) -> bool:
        """Whether an error has undone the transaction, of which a commit would say nothing."""
        return self._pg.transaction_status == _IN_ERROR

    def commit(self) -> None:
        """Commit what runs, if anything does."""
        if self.open:
            self._answer("COMMIT", (), lambda: self._pg.exec_(b"COMMIT"))

    def rollback(self) -> None:
        """Undo what runs, if anything does."""
        if self.open and not self.lost:
            self._answer("ROLLBACK", (), lambda: self._pg.exec_(b"ROLLBACK"))

    def _prepare(self, statement: str) -> bytes | None:
        """The name of a statement that is worth one."""
        uses = self._uses[statement] = self._uses.get(statement, 0) + 1
        if len(self._uses) > _COUNTED:
            self._uses.clear()
        if uses < _OFTEN or len(self._prepared) >= _PREPARED:
            return None
        self._named += 1
        name = f"treadle_{self._named}".encode()
        self._answer(statement, (), lambda: self._pg.prepare(name, _numbered(statement)))
        self._prepared[statement] = name
        return name

    def _packed(self, statement: str, value: Any) -> bytes | None:
        if isinstance(value, str):
            if "\0" in value:
                raise self._told(statement, (value,), _psycopg().DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"))
            return value.encode()
        if value is None:
            return None
        if isinstance(value, bool):
            return b"t" if value else b"f"
        if isinstance(value, int):
            return int.__repr__(value).encode()
        if isinstance(value, float):
            return float.__repr__(value).encode()
        if isinstance(value, bytes):
            return b"\\x" + value.hex().encode()
        raise TypeError(f"{type(value).__name__} is no type of a parameter: convert it to what the driver takes")

    def _answer(self, statement: str, values: Sequence[Any], ask: Callable[[], Any]) -> Any:
        try:
            result = ask()
        except _psycopg().Error as error:
            raise self._told(statement, values, error) from error
        if result.status not in _DONE:
            error = _psycopg().errors.error_from_result(result)
            if error.sqlstate == FORGOTTEN:
                self._prepared.clear()
            raise self._told(statement, values, error)
        return result

    def _told(self, statement: str, values: Sequence[Any], error: Any) -> Any:
        """A driver's error as the toolkit has it."""
        lost, base = self.lost, _psycopg().Error
        return exc.DBAPIError.instance(statement, tuple(values), error, base, connection_invalidated=lost, dialect=self._dialect)


def _psycopg() -> Any:
    import psycopg  # noqa: PLC0415  (an eighth of a second that only those who use it need)

    return psycopg


def _read(text: bytes | None, read: Callable[[bytes], Any]) -> Any:
    return None if text is None else read(text)


def _numbered(statement: str) -> bytes:
    first, *others = statement.split("%s")
    return "".join([first, *(f"${number}{part}" for number, part in enumerate(others, 1))]).encode()
