"""Walking an index in the order of a search, a batch at a time.

An index has all its columns in one direction; a search wants the value up or down, then the newest first, then the run's id upwards.
So a walk reads the index in the direction of its first column and sorts what has the same value by hand; where a whole batch has one
value (a status, a param that half of all runs share), it walks that value by itself, one column deeper. Either way it reads as many
rows as it gives, and goes on behind any position without counting.
"""

import heapq
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from treadle.store.driver import fetch
from treadle.store.queries.conditions import Sql, all_of, indexed

#: Rows of one value are held back where a batch ends among them; so many more than wanted are read, and at most so many at once.
MORE, _MOST = 8, 4096
Row = Sequence[Any]
#: A position behind all rows of one value, which go the newest first.
LAST = (-(2**63), "")
#: What stands behind a value in the place of rows that are too many to be read.
MANY = (2**63 - 1, "")


class Path(NamedTuple):
    """An index range to walk.

    Args:
        table, by: what is read, by which index; the table is called `d` in conditions.
        fixed: the index's first columns and what they are.
        columns: the rest: the value (if any), the time and the id.
        down: whether the first of them is wanted descending. Behind a value the time always is, and the id never.
        conditions: what a row must fulfil besides.
        low, high: (value, inclusive) bounds of the first column.
        nulls: whether the first column may be NULL, which is left out.
        apart: of which values the rows are not read where they fill a batch, but told as one (`MANY`), before all others of that value.
    """

    table: str
    by: str
    fixed: tuple[tuple[str, Any], ...]
    columns: tuple[str, ...]
    down: bool
    conditions: tuple[Sql, ...] = ()
    low: tuple[Any, bool] | None = None
    high: tuple[Any, bool] | None = None
    nulls: bool = False
    apart: Callable[[Any], bool] | None = None


def walk(connection: Connection, path: Path, after: Row | None = None, *, batch: int = 100, inclusive: bool = False) -> Iterator[Row]:
    """The rows of `path.columns` in order.

    Args:
        after: a position: a whole row, or only the first column; what follows it is given.
        batch: how many rows are likely to be wanted.
        inclusive: with only the first column in `after`: rows with that value too.
    """
    sizes = itertools.chain((min(size, _MOST) for size in (batch + MORE, 2 * batch, 4 * batch)), itertools.repeat(_MOST))
    yield from _level(_Scan(connection, path, sizes), path.fixed, path.columns, path.down, after, inclusive=inclusive)


class _Scan:
    """Reads batches of one path."""

    def __init__(self, connection: Connection, path: Path, sizes: Iterator[int]):
        self.connection = connection
        self.path = path
        self.size = next(sizes)
        self._sizes = sizes

    def rows(self, fixed: Sequence[tuple[str, Any]], columns: Sequence[str], *, down: bool, start: tuple[Any, bool] | None) -> list[Row]:
        """The next rows of some columns from a start on; as many as `size` tells that there may be more."""
        path = self.path
        where = [Sql(f"d.{name} IS NULL") if value is None else Sql(f"d.{name} = ?", (value,)) for name, value in fixed]
        first = len(columns) == len(path.columns)
        end = (path.low if down else path.high) if first else None
        start = start or ((path.high if down else path.low) if first else None)
        if start:
            where.append(Sql(f"d.{columns[0]} {'<' if down else '>'}{'=' if start[1] else ''} ?", (start[0],)))
        if end:
            where.append(Sql(f"d.{columns[0]} {'>' if down else '<'}{'=' if end[1] else ''} ?", (end[0],)))
        if first and path.nulls and not start and not end:
            where.append(Sql(f"d.{columns[0]} IS NOT NULL"))
        held = all_of([*where, *path.conditions])
        direction = "DESC" if down else "ASC"
        ordered = (*(name for name, value in fixed if value is None), *columns)
        order = ", ".join(f"d.{name} {direction}" for name in ordered)
        select = ", ".join(f"d.{name}" for name in columns)
        source = indexed(self.connection.dialect.name, path.table, path.by)
        statement = f"SELECT {select} FROM {source} WHERE {held.text} ORDER BY {order} LIMIT ?"
        return fetch(self.connection, statement, *held.values, self.size)

    def grow(self) -> None:
        """Read more at the next time."""
        self.size = next(self._sizes)


def _level(
    scan: _Scan, fixed: tuple[tuple[str, Any], ...], columns: tuple[str, ...], down: bool, after: Row | None, *, inclusive: bool
) -> Iterator[Row]:
    start: tuple[Any, bool] | None = None
    deeper = columns[1:]
    next_down = len(deeper) > 1  # time down, id up
    within: Row | None = None  # a position among the rows of the value that the walk begins with
    if after:
        if after == LAST:
            return
        within = after[1:] if len(after) > 1 and after[1:] != LAST else None
        start = (after[0], within is not None or (inclusive and len(after) == 1))
    while True:
        rows = scan.rows(fixed, columns, down=down, start=start)
        size = scan.size
        if len(rows) == size:
            scan.grow()
        if not deeper:
            yield from (tuple(row) for row in rows)
        elif rows:
            last = rows[-1][0]
            if len(rows) == size and rows[0][0] == last:
                start = (last, False)
                if len(columns) == len(scan.path.columns) and scan.path.apart is not None and scan.path.apart(last):
                    yield (last, *MANY)
                    continue
                behind = within if after and last == after[0] else None
                for row in _level(scan, (*fixed, (columns[0], last)), deeper, next_down, behind, inclusive=False):
                    yield (last, *row)
                continue
            found = _sorted_groups(rows, but=last if len(rows) == size else None)
            yield from found if within is None or after is None else _behind(found, after)
            within = None
        if len(rows) < size:
            return
        start = (rows[-1][0], bool(deeper))


def _sorted_groups(rows: list[Row], *, but: Any) -> list[Row]:
    """Rows in their order, those of one value the newest first, then by id; without the last value, of which there may be more."""
    end = len(rows)
    while end and but is not None and rows[end - 1][0] == but:
        end -= 1
    key = newest_first if len(rows[0]) > 2 else operator.itemgetter(-1)
    found: list[Row] = []
    begin = 0
    for at in range(1, end + 1):
        if at == end or rows[at][0] != rows[begin][0]:
            found += rows[begin:at] if at - begin == 1 else sorted(rows[begin:at], key=key)
            begin = at
    return found


def _behind(rows: Iterable[Row], after: Row) -> Iterator[Row]:
    """Rows without those of a position's value that are not behind it."""
    key = newest_first if len(after) > 2 else (lambda row: row[-1])
    end = key(after)
    return itertools.dropwhile(lambda row: row[0] == after[0] and key(row) <= end, rows)


def newest_first(row: Row) -> tuple[int, str]:
    """The order of what is otherwise the same: (…, time, id)."""
    return (-row[-2], row[-1])


def merged(walks: Sequence[Iterator[Row]], key: Callable[[Row], Any]) -> Iterator[Row]:
    """Several walks as one."""
    return walks[0] if len(walks) == 1 else heapq.merge(*walks, key=key)
