"""Inserts that meet rows already there, in the one dialect that SQLite and PostgreSQL share."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite

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
    return _insert(tx, table).on_conflict_do_nothing()


def insert_or_update(
    tx: Connection,
    table: Table,
    rows: Row | Sequence[Row],
    *,
    columns: Sequence[str] | None = None,
    newer: Sequence[str] = (),
    computed: Mapping[str, ColumnElement[Any]] | None = None,
) -> None:
    """Insert rows, or set `columns` (default: all that are no key) of those whose primary key is there.

    Args:
        newer: names of columns; a row that is there gives way only to one in which these, compared in order, are greater.
        computed: columns of a new row that the database computes.
    """
    if not rows:
        return
    first = rows if isinstance(rows, Mapping) else rows[0]
    keys = [c.name for c in table.primary_key]
    columns = [c for c in first if c not in keys] if columns is None else columns
    statement = _insert(tx, table)
    where: ColumnElement[bool] | None = None
    for name in reversed(newer):
        given, there = statement.excluded[name], table.c[name]
        where = (given > there) if where is None else (given > there) | ((given == there) & where)
    if computed:
        statement = statement.values({**{name: bindparam(name) for name in first}, **computed})
    tx.execute(statement.on_conflict_do_update(index_elements=keys, set_={c: statement.excluded[c] for c in columns}, where=where), rows)


def _insert(tx: Connection, table: Table) -> Any:
    statement = (postgresql if tx.dialect.name == "postgresql" else sqlite).insert(table)
    # inline: no RETURNING of keys; the row count is otherwise kept for updates and deletes only
    return statement.inline().execution_options(preserve_rowcount=True)
