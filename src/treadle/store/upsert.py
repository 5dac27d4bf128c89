"""Inserts that meet rows already there, in the one dialect that SQLite and PostgreSQL share.

`insert_rows` and `upsert_rows` give plain tuples to the driver; `insert_new` and `insert_or_update` take mappings of Python values,
which they convert as the table's columns say. All four write their statement once and keep it: building one costs more than
running it.

Many rows are on SQLite a statement of a hundred rows, run as often as it takes, which is a quarter cheaper than one of one row. On
PostgreSQL, where each run is a message, they are one statement over columns: text travels as a JSON array, numbers as an array
literal, a tenth of what the driver's own way costs, and what is the same in all rows once.
"""

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Boolean, ColumnElement, Connection, Double, Integer, LargeBinary, String, Table, TypeDecorator
from sqlalchemy.dialects import registry
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlalchemy.types import TypeEngine

from treadle.store.driver import execute, later, straight

#: Most values in one statement; every SQLite takes 999.
_MARKS = 999

Row = Mapping[str, Any]
Tuples = Sequence[tuple[Any, ...]]


def insert_rows(tx: Connection, table: Table, columns: Sequence[str], rows: Tuples, *, fresh: bool = False) -> int:
    """Insert rows whose primary or unique key is not there yet; returns how many were new.

    Nothing is converted and no default of the table's Python side is filled in: what is in a row is what the driver gets.

    Args:
        columns: names of the columns that a row has, in its order; all that may not be NULL, the key's first of all.
        rows: tuples as long as `columns`; times as microseconds (`records.clock.micros`), JSON as text, enums as their text. Of
            rows with the same key the first is kept. In the order of the key they are fastest.
        fresh: the caller knows that no key is there and none comes twice: the database looks each up once instead of twice.

    Raises:
        sqlalchemy.exc.IntegrityError: a NULL where none may be; a key that is there after all.
    """
    if not rows:
        return 0
    statement = _statement(tx.dialect.name, table, tuple(columns), fresh=fresh)
    count = 0
    for sql, parameters in statement.given(rows):
        count += execute(tx, sql, parameters)
    return count


def upsert_rows(
    tx: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Tuples,
    *,
    update: Sequence[str],
    newer: Sequence[str] = (),
) -> int:
    """Insert rows, or set the columns `update` of those whose primary key is there; returns how many were inserted or set.

    As if the rows came one after the other: of rows with the same key the last one counts, or with `newer` the greatest.

    Args:
        columns, rows: as for `insert_rows`; the primary key is among the columns.
        update: those of `columns` that a row there takes from the new one; none leaves it as it is.
        newer: some of `columns`; a row that is there gives way only to one in which these, compared in order, are greater. In one that
            may be NULL, that counts as 0 (a metric's NaN, as MLflow orders it) and gives way to a number of 0.
    """
    if not rows:
        return 0
    statement = _statement(tx.dialect.name, table, tuple(columns), tuple(update), tuple(newer))
    count = 0
    for sql, parameters in statement.given(rows):
        count += execute(tx, sql, parameters)
    return count


def find_row(connection: Connection, table: Table, columns: Sequence[str], by: Sequence[str], values: Sequence[Any]) -> Any:
    """The named columns of the one row whose columns `by` equal `values`, as the driver has them (`insert_rows`); None without one.

    For a path that counts: a fifth of what an expression costs that is built for each call.
    """
    statement = _select(connection.dialect.name, table, tuple(columns), tuple(by))
    return next(iter(straight(connection, statement, tuple(values)).rows), None)


def insert_new(tx: Connection, table: Table, rows: Row | Sequence[Row]) -> int:
    """Insert rows whose primary or unique key is not there yet; returns how many were new (for one row: 0 or 1).

    All rows must have the same keys.
    """
    if not rows:
        return 0
    rows = (rows,) if isinstance(rows, Mapping) else rows
    convert = _conversion(tx.dialect.name, table, tuple(rows[0]), ())
    statement = _statement(tx.dialect.name, table, convert.columns)
    count = 0
    for sql, parameters in statement.given(convert(rows)):
        count += execute(tx, sql, parameters)
    return count


def insert_later(tx: Connection, table: Table, row: Row) -> None:
    """Insert a row whose keys are not there, and do not wait for it: a key that is there after all is an error of the transaction's."""
    convert = _conversion(tx.dialect.name, table, tuple(row), ())
    statement = _statement(tx.dialect.name, table, convert.columns, fresh=True)
    for sql, parameters in statement.given(convert((row,))):
        later(tx, sql, parameters)


def inserting(tx: Connection, table: Table) -> Any:
    """What `insert_new` executes, as an expression: for a path that counts its hops."""
    return _inserting(tx.dialect.name, table)


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
    rows = (rows,) if isinstance(rows, Mapping) else rows
    convert = _conversion(tx.dialect.name, table, tuple(rows[0]), computed)
    keys = table.primary_key.columns.keys()
    update = tuple(name for name in rows[0] if name not in keys) if columns is None else tuple(columns)
    statement = _statement(tx.dialect.name, table, convert.columns, update, tuple(newer), convert.computed)
    for sql, parameters in statement.given(convert(rows)):
        execute(tx, sql, parameters)


@functools.cache
def _inserting(dialect: str, table: Table) -> Any:
    # inline: no RETURNING of keys; the row count is otherwise kept for updates and deletes only
    insert = importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
    return insert.on_conflict_do_nothing().inline().execution_options(preserve_rowcount=True)


# ── the statement ────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _select(dialect: str, table: Table, columns: tuple[str, ...], by: tuple[str, ...]) -> str:
    unknown = [name for name in (*columns, *by) if name not in table.c]
    if unknown or not columns or not by:
        raise LookupError(f"{', '.join(unknown) or 'nothing'}: no such column in {table.name}")
    mark = "%s" if dialect == "postgresql" else "?"
    where = " AND ".join(f'"{name}" = {mark}' for name in by)
    return f'SELECT {_names(columns)} FROM "{table.name}" WHERE {where}'


class _Statement:
    """An insert, and how rows are given to it.

    Args:
        computed: (column, SQL text) of columns that no value of a row stands for; the values of the text's marks follow the row's.
    """

    def __init__(
        self,
        dialect: str,
        table: Table,
        columns: tuple[str, ...],
        update: tuple[str, ...] = (),
        newer: tuple[str, ...] = (),
        computed: tuple[tuple[str, str], ...] = (),
        *,
        fresh: bool = False,
    ):
        unknown = [n for n in columns if n not in table.c] + [n for n in (*update, *newer) if n not in columns]
        if unknown:
            raise LookupError(f"{', '.join(unknown)}: no such column among those of {table.name} that a row has")
        mark = "%s" if dialect == "postgresql" else "?"
        keys = table.primary_key.columns.keys()
        into = f'INSERT INTO "{table.name}" ({_names([*columns, *(name for name, _ in computed)])})'
        meeting = "" if fresh else "ON CONFLICT DO NOTHING"
        if update:
            sets = ", ".join(f'"{name}" = excluded."{name}"' for name in update)
            meeting = f"ON CONFLICT ({_names(keys)}) DO UPDATE SET {sets}"
        if update and newer:
            meeting += f" WHERE ({_compared(table, newer, 'excluded')}) > ({_compared(table, newer, table.name)})"
        values = f"({', '.join([*[mark] * len(columns), *(sql for _, sql in computed)])})"
        self._into, self._meeting = into, meeting
        self._each = f"{into} VALUES {values} {meeting}"
        self._columns: list[_Column] = []
        self._texts: dict[tuple[bool, ...], str] = {}
        self._many, self._at_once = "", 0
        if dialect == "postgresql" and not computed:
            self._columns = [_column(table.c[name].type) for name in columns]
            # Such a statement cannot meet a row twice: where it might, the rows go one by one.
            self._key = itemgetter(*(columns.index(name) for name in keys)) if update else None
        if dialect == "sqlite" and not computed:
            self._at_once = min(100, _MARKS // values.count(mark))
            self._many = f"{into} VALUES {', '.join([values] * self._at_once)} {meeting}"

    def given(self, rows: Tuples) -> Iterator[tuple[str, Any]]:
        """Statements and their parameters that insert the rows: one statement, or on SQLite a second one for the rest."""
        if len(rows) == 1:
            yield self._each, rows[0]
        elif not self._at_once:
            if self._columns and (self._key is None or len(set(map(self._key, rows))) == len(rows)):
                yield self._by_columns(list(zip(*rows, strict=True)))
            else:
                yield self._each, list(rows)
        else:
            whole = len(rows) - len(rows) % self._at_once
            if whole:
                groups = (rows[start : start + self._at_once] for start in range(0, whole, self._at_once))
                yield self._many, [tuple(chain.from_iterable(group)) for group in groups]
            if whole < len(rows):
                yield self._each, list(rows[whole:])

    def _by_columns(self, columns: list[tuple[Any, ...]]) -> tuple[str, tuple[Any, ...]]:
        """One statement; a column that has one value in all rows travels once."""
        both = list(zip(self._columns, columns, strict=True))
        alike = [bool(c.once) and values[0] is not None and values.count(values[0]) == len(values) for c, values in both]
        if all(alike):
            alike[0] = False
        text = self._texts.get(tuple(alike)) or self._text(tuple(alike))
        once = [values[0] for values, same in zip(columns, alike, strict=True) if same]
        return text, (*once, *(c.pack(values) for (c, values), same in zip(both, alike, strict=True) if not same))

    def _text(self, alike: tuple[bool, ...]) -> str:
        told = [c.once if same else f"given.c{number}" for number, (c, same) in enumerate(zip(self._columns, alike, strict=True))]
        several = [(f"c{number}", c.array) for number, (c, same) in enumerate(zip(self._columns, alike, strict=True)) if not same]
        names, arrays = (", ".join(part) for part in zip(*several, strict=True))
        text = f"{self._into} SELECT {', '.join(told)} FROM ROWS FROM ({arrays}) AS given ({names}) {self._meeting}"
        return self._texts.setdefault(alike, text)


_statement = functools.cache(_Statement)


def _names(names: Sequence[str], of: str = "") -> str:
    return ", ".join(f'{of}"{name}"' for name in names)


def _compared(table: Table, names: Sequence[str], of: str) -> str:
    parts: list[str] = []
    for name in names:
        there = f'"{of}"."{name}"' if of == table.name else f'{of}."{name}"'
        parts += [f"COALESCE({there}, 0.0)", f"{there} IS NOT NULL"] if table.c[name].nullable else [there]
    return ", ".join(parts)


class _Column(NamedTuple):
    """How values of a column travel to PostgreSQL: the SQL of a parameter that is one value (none where equal ones may differ, as 0.0 and
    -0.0 do), that of one that is many, and what packs these."""

    once: str
    array: str
    pack: Callable[[Sequence[Any]], Any]


def _column(kind: TypeEngine[Any]) -> _Column:
    kind = kind.impl_instance if isinstance(kind, TypeDecorator) else kind
    if isinstance(kind, String):
        return _Column("%s::text", "json_array_elements_text(%s::json)", lambda values: msgspec.json.encode(values).decode())
    if isinstance(kind, Double):
        return _Column("", "unnest(%s::float8[])", _literal)
    if isinstance(kind, Boolean | LargeBinary):
        name = "bool" if isinstance(kind, Boolean) else "bytea"
        return _Column(f"%s::{name}", f"unnest(%s::{name}[])", _bytes if name == "bytea" else _literal)
    assert isinstance(kind, Integer), kind
    return _Column("%s::bigint", "unnest(%s::bigint[])", _literal)


def _literal(numbers: Iterable[Any]) -> str:
    return "{" + ",".join(["NULL" if number is None else str(number) for number in numbers]) + "}"


def _bytes(values: Iterable[bytes | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]) + "}"


# ── Python's values to the driver's ──────────────────────────────────────────────────────────────────────────────────


class _Conversion:
    """From mappings that have the keys `given` to tuples for a statement over `columns` and what is `computed`."""

    def __init__(self, dialect: str, table: Table, given: tuple[str, ...], computed: tuple[tuple[str, ColumnElement[Any]], ...]):
        driver = registry.load(_DRIVERS[dialect])(paramstyle="format" if dialect == "postgresql" else "qmark")
        compiled = {name: expression.compile(dialect=driver) for name, expression in computed}
        self.computed = tuple((name, str(sql)) for name, sql in compiled.items())
        parameters = [name for sql in compiled.values() for name in sql.positiontup or ()]
        own = [name for name in given if name in table.c or name not in parameters]
        defaults = {c.name: c.default.arg for c in table.c if isinstance(c.default, ScalarElementColumnDefault) and c.name not in given}
        self.columns = (*own, *defaults)
        self._own = len(own)
        self._get = tuple(itemgetter(name) for name in (*own, *parameters))
        self._defaults = tuple(defaults.values())
        types = [table.c[name].type if name in table.c else None for name in own]
        processors = [kind and kind.dialect_impl(driver).bind_processor(driver) for kind in types]
        self._processors = [(place, process) for place, process in enumerate(processors) if process is not None]

    def __call__(self, rows: Sequence[Row]) -> Tuples:
        """The rows, converted."""
        columns: list[Any] = [list(map(get, rows)) for get in self._get]
        for place, process in self._processors:
            columns[place] = _converted(process, columns[place])
        columns[self._own : self._own] = [[value] * len(rows) for value in self._defaults]
        return list(zip(*columns, strict=True))


_conversion = functools.cache(_Conversion)
_DRIVERS = {"sqlite": "sqlite.pysqlite", "postgresql": "postgresql.psycopg"}


def _converted(process: Callable[[Any], Any], values: list[Any]) -> list[Any]:
    """Each value processed; what stands in row after row (a time, mostly) once."""
    done: list[Any] = []
    last: Any = _converted  # no value is this function
    result = None
    for value in values:
        if value is not last:
            last, result = value, process(value)
        done.append(result)
    return done
