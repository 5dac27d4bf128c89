"""Inserts that meet rows already there, in the one dialect that SQLite and PostgreSQL share.

`insert_rows` and `upsert_rows` take plain tuples straight to the driver: paths that measure their cost use these. `insert_new` and
`insert_or_update` take mappings of Python values, as the tables declare them.
Building an expression costs more than running it, so each is built once.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam
from sqlalchemy.dialects import sqlite

Row = Mapping[str, Any]


def insert_rows(tx: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Insert rows whose primary or unique key is not there yet; returns how many were new. One statement, however many rows.

    Nothing is converted and no default of the table's Python side is filled in: what is in a row is what the driver gets.

    Args:
        columns: names of the columns that a row has, in its order; all that may not be NULL, the key's first of all.
        rows: tuples as long as `columns`; times as microseconds (`records.clock.micros`), JSON as text, enums as their text. Of
            rows with the same key the first is kept.

    Raises:
        sqlalchemy.exc.IntegrityError: a NULL where none may be.
    """
    return _execute(tx, _insert_sql(tx.dialect.name, table, tuple(columns)), rows)


def upsert_rows(
    tx: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    update: Sequence[str],
    newer: Sequence[str] = (),
) -> int:
    """Insert rows, or set the columns `update` of those whose primary key is there; returns how many were inserted or set.

    As if the rows came one after the other: of rows with the same key the last one counts, or with `newer` the greatest.

    Args:
        columns, rows: as for `insert_rows`; the primary key is among the columns.
        update: those of `columns` that a row there takes from the new one; none leaves it as it is.
        newer: some of `columns`; a row that is there gives way only to one in which these, compared in order, are greater.
    """
    return _execute(tx, _upsert_sql(tx.dialect.name, table, tuple(columns), tuple(update), tuple(newer)), rows)


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


def _execute(tx: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> int:
    if not rows:
        return 0
    return tx.exec_driver_sql(statement, tuple(rows[0]) if len(rows) == 1 else [tuple(row) for row in rows]).rowcount


@functools.cache
def _insert_sql(dialect: str, table: Table, columns: tuple[str, ...]) -> str:
    _check_names(columns, table.c.keys(), table)
    mark = "%s" if dialect == "postgresql" else "?"
    names = ", ".join(f'"{name}"' for name in columns)
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join([mark] * len(columns))}) ON CONFLICT DO NOTHING'


def _check_names(names: Sequence[str], known: Sequence[str], table: Table) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LookupError(f"{', '.join(unknown)}: no such column among those of {table.name} that a row has")


@functools.cache
def _upsert_sql(dialect: str, table: Table, columns: tuple[str, ...], update: tuple[str, ...], newer: tuple[str, ...]) -> str:
    insert = _insert_sql(dialect, table, columns)
    _check_names((*update, *newer), columns, table)
    if not update:
        return insert
    keys = ", ".join(f'"{c.name}"' for c in table.primary_key)
    sets = ", ".join(f'"{name}" = excluded."{name}"' for name in update)
    statement = insert.removesuffix("DO NOTHING") + f"({keys}) DO UPDATE SET {sets}"
    if newer:
        new, there = (", ".join(f'{side}."{name}"' for name in newer) for side in ("excluded", f'"{table.name}"'))
        statement += f" WHERE ({new}) > ({there})"
    return statement


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
