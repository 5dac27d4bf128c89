"""Inserts that meet rows already there, in the one dialect that SQLite and PostgreSQL share.

Building an expression costs more than running it, so each is built once.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam
from sqlalchemy.dialects import sqlite

Row = Mapping[str, Any]


def insert_new(tx: Connection, table: Table, rows: Row | Sequence[Row]) -> int:
    """Insert rows whose primary or unique key is not there yet; returns how many were new (for one row: 0 or 1).

    All rows must have the same keys.
    """
    if not rows:
        return 0
    return tx.execute(inserting(tx, table), rows).rowcount


def inserting(tx: Connection, table: Table) -> Any:
    """The statement of `insert_new`, for a path that counts its hops."""
    return _insert_new(tx.dialect.name, table)


def insert_or_update(
    tx: Connection,
    table: Table,
    rows: Row | Sequence[Row],
    *,
    columns: Sequence[str] | None = None,
    newer: Sequence[str] = (),
    computed: tuple[tuple[str, ColumnElement[Any]], ...] = (),
) -> None:
    """Insert rows, or set `columns` (default: all that are no key) of those whose primary key is there.

    Args:
        newer: names of columns; a row that is there gives way only to one in which these, compared in order, are greater.
        computed: columns of a new row, and the constant expressions by which the database computes them; names in a row that are no
            column are their parameters.
    """
    if not rows:
        return
    given = tuple(rows if isinstance(rows, Mapping) else rows[0])
    tx.execute(_insert_or_update(tx.dialect.name, table, given, columns and tuple(columns), tuple(newer), computed), rows)


@functools.cache
def _insert_new(dialect: str, table: Table) -> Any:
    return _insert(dialect, table).on_conflict_do_nothing()


@functools.cache
def _insert_or_update(
    dialect: str,
    table: Table,
    given: tuple[str, ...],
    columns: tuple[str, ...] | None,
    newer: tuple[str, ...],
    computed: tuple[tuple[str, ColumnElement[Any]], ...],
) -> Any:
    keys = [c.name for c in table.primary_key]
    columns = tuple(c for c in given if c not in keys) if columns is None else columns
    statement = _insert(dialect, table)
    where: ColumnElement[bool] | None = None
    for name in reversed(newer):
        new, there = statement.excluded[name], table.c[name]
        where = (new > there) if where is None else (new > there) | ((new == there) & where)
    if computed:
        statement = statement.values({**{name: bindparam(name) for name in given if name in table.c}, **dict(computed)})
    return statement.on_conflict_do_update(index_elements=keys, set_={c: statement.excluded[c] for c in columns}, where=where)


def _dialect(name: str) -> Any:
    if name != "postgresql":
        return sqlite
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415  (brings every driver's glue, which a home on SQLite never needs)

    return postgresql


def _insert(dialect: str, table: Table) -> Any:
    statement = _dialect(dialect).insert(table)
    # inline: no RETURNING of keys; the row count is otherwise kept for updates and deletes only
    return statement.inline().execution_options(preserve_rowcount=True)
