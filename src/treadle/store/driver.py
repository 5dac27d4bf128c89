"""Statements as text, for paths that measure their cost: building an expression, even a cached one, costs several times what SQLite needs
to run it. Parameters are written `?` and go to the driver as they are: times as microseconds, JSON as text."""

import functools
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, exc

from treadle.store.postgres import SESSION, Outcome, Session

#: Most ids in one statement.
_MANY = 500


def fetch(connection: Connection, statement: str, *values: Any, last: bool = False) -> list[Any]:
    """The rows that a statement finds, as the driver's own tuples: a record of SQLAlchemy's costs more than the row.

    Args:
        last: it is the last statement of the operation: where that is the last of its transaction (`nothing_follows`), it is committed
            with it.
    """
    return straight(connection, _marked(connection.dialect.name, statement), values, last=last).rows


def fetch_together(connection: Connection, statements: Sequence[tuple[str, Sequence[Any]]], *, last: bool = False) -> list[list[Any]]:
    """The rows of each of several statements, none of which needs another's answer: to PostgreSQL they go in one message.

    Args:
        last: as for `fetch`.
    """
    session: Session | None = connection.info.get(SESSION)
    if session is None or not statements:
        return [fetch(connection, statement, *values) for statement, values in statements]
    asked = [(_marked(connection.dialect.name, statement), values) for statement, values in statements]
    return [outcome.rows for outcome in session.run_together(asked, last=last)]


def fetch_apart(connection: Connection, statement: str, *values: Any) -> list[Any]:
    """`fetch` of what is only looked at, and found again by what follows: it needs no snapshot in common with that."""
    session: Session | None = connection.info.get(SESSION)
    if session is None:
        return fetch(connection, statement, *values)
    return session.run_apart(_marked(connection.dialect.name, statement), values).rows


def run(tx: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run a statement for each of the rows of parameters; how many rows it changed."""
    if not rows:
        return 0
    given = tuple(rows[0]) if len(rows) == 1 else [tuple(row) for row in rows]
    return execute(tx, _marked(tx.dialect.name, statement), given)


def execute(tx: Connection, sql: str, given: tuple[Any, ...] | list[tuple[Any, ...]]) -> int:
    """Run a statement in the driver's own form, for one tuple of parameters or for each of a list; how many rows it changed."""
    return straight(tx, sql, given).touched


def later(tx: Connection, sql: str, given: tuple[Any, ...]) -> None:
    """`execute` for whoever needs no answer: on PostgreSQL the statement travels with the next one, or with the commit."""
    session: Session | None = tx.info.get(SESSION)
    if session is None:
        execute(tx, sql, given)
    else:
        session.later(sql, given)


def put_off(tx: Connection, statement: str, *values: Any) -> None:
    """`later` of a statement with question marks."""
    later(tx, _marked(tx.dialect.name, statement), values)


def nothing_follows(tx: Connection) -> None:
    """Say that the transaction ends with the operation that now begins: an operation's `last` statement may then travel with the commit."""
    session: Session | None = tx.info.get(SESSION)
    if session is not None:
        session.ending = True


def straight(connection: Connection, sql: str, given: tuple[Any, ...] | list[tuple[Any, ...]], *, last: bool = False) -> Outcome:
    """Run a statement in the driver's own form past the toolkit, whose way takes several times what SQLite needs for a small one.

    Raises:
        sqlalchemy.exc.DBAPIError: as the toolkit would.
    """
    session: Session | None = connection.info.get(SESSION)
    if session is not None and isinstance(given, tuple):
        return session.run(sql, given, last=last)
    if session is not None or connection.dialect.name != "sqlite":
        result = connection.exec_driver_sql(sql, given)
        return Outcome([tuple(row) for row in result] if result.returns_rows else [], result.rowcount)
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection.dbapi_connection
    try:
        cursor = driver.execute(sql, given) if isinstance(given, tuple) else driver.executemany(sql, given)
        return Outcome(cursor.fetchall(), cursor.rowcount)
    except sqlite3.Error as error:
        raise exc.DBAPIError.instance(sql, given, error, sqlite3.Error, dialect=connection.dialect) from error


def chunks(ids: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """The ids a few hundred at a time, and as many question marks."""
    for start in range(0, len(ids), _MANY):
        some = ids[start : start + _MANY]
        yield some, ", ".join(["?"] * len(some))


def of_runs(connection: Connection, table: str, project: str, run_ids: Sequence[str]) -> tuple[str, str, tuple[Any, ...]]:
    """What reads a table's rows of some runs by its primary key, in `SELECT … FROM {source} WHERE {condition}`: both, and their values.

    PostgreSQL looks them up one after the other (OFFSET 0 keeps it from making a join of it): its plans are for any ids, and it does not
    know how many those are.
    """
    if connection.dialect.name == "postgresql":
        own = f"SELECT * FROM {table} x WHERE x.project = ? AND x.run_id = asked.run_id OFFSET 0"
        return f"unnest(?::text[]) AS asked (run_id) CROSS JOIN LATERAL ({own}) t", "TRUE", (list(run_ids), project)
    return f"{table} t", f"t.project = ? AND t.run_id IN ({', '.join('?' * len(run_ids))})", (project, *run_ids)


@functools.lru_cache(512)
def _marked(dialect: str, statement: str) -> str:
    return statement.replace("?", "%s") if dialect == "postgresql" else statement
