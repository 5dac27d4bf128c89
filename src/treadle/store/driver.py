"""Statements as text, for paths that measure their cost: building an expression, even a cached one, costs several times what SQLite needs
to run it. Parameters are written `?` and go to the driver as they are: times as microseconds, JSON as text."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from treadle.store.postgres import SESSION, Session

#: Most ids in one statement.
_MANY = 500


def fetch(connection: Connection, statement: str, *values: Any) -> list[Any]:
    """The rows that a statement finds, as the driver's own tuples: a record of SQLAlchemy's costs more than the row."""
    session: Session | None = connection.info.get(SESSION)
    if session is not None:
        return session.run(_marked("postgresql", statement), values).rows
    result = connection.exec_driver_sql(_marked(connection.dialect.name, statement), values)
    assert result.cursor is not None
    rows = list(result.cursor.fetchall())
    result.close()
    return rows


def run(tx: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run a statement for each of the rows of parameters; how many rows it changed."""
    if not rows:
        return 0
    given = tuple(rows[0]) if len(rows) == 1 else [tuple(row) for row in rows]
    return execute(tx, _marked(tx.dialect.name, statement), given)


def execute(tx: Connection, sql: str, given: tuple[Any, ...] | list[tuple[Any, ...]]) -> int:
    """Run a statement in the driver's own form, for one tuple of parameters or for each of a list; how many rows it changed."""
    session: Session | None = tx.info.get(SESSION)
    if session is not None and isinstance(given, tuple):
        return session.run(sql, given).touched
    return tx.exec_driver_sql(sql, given).rowcount


def chunks(ids: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """The ids a few hundred at a time, and as many question marks."""
    for start in range(0, len(ids), _MANY):
        some = ids[start : start + _MANY]
        yield some, ", ".join(["?"] * len(some))


@functools.lru_cache(512)
def _marked(dialect: str, statement: str) -> str:
    return statement.replace("?", "%s") if dialect == "postgresql" else statement
