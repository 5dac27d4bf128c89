"""Finding runs: which index drives a search, so that its cost grows with the answer and not with the store.

Three ways, in this order of preference:

1. A comparison that an index shows to be rare (`matches`: they are counted, but not beyond `RARE`, and only where that decides anything):
   they are fetched, probed and sorted. What a good part of all that a walk reads fulfils is not rare, however few it is.
2. An order that an index has: the index is walked (`walks`), each row probed by primary key, until the page is full. Without an order,
   or by time, an equality on a tag, parameter, state, name or dataset drives just as well, its rows being in order of time. Of several
   orders the first is walked; what is equal in it is sorted by the others, or where that is much, a search among the equal ones.
3. Anything else (order by user or id): all runs are fetched, probed and sorted.

A page goes on where the last one ended whatever came in between, and by whichever way: a position is what the sort compares (`orders`).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from treadle.records.filters import Comparison, Order
from treadle.store.driver import fetch
from treadle.store.queries.conditions import (
    COLUMNS,
    RUN_INDEX,
    STATUS,
    TABLES,
    TIMES,
    Range,
    Sql,
    conditions,
    moment_bounds,
    own_condition,
    states,
)
from treadle.store.queries.matches import Driver, Matches, Search, equality, unindexed
from treadle.store.queries.orders import MISSING, NAN, NUMBER, Found, behind, needed, sort_key
from treadle.store.queries.walks import LAST, MANY, Path, Row, merged, newest_first, walk
from treadle.store.tables import INDEXED

#: So many runs of one value in the first of several orders, or a page of them where that is more, are no longer fetched and sorted by
#: the others, but searched for.
EQUAL = 20


class Start(NamedTuple):
    """Where a walk by one order begins: at a value, or behind a run that has it."""

    rank: int
    value: Any
    run: tuple[int, str] | None  # time of creation, id

    def behind(self, value: Any) -> tuple[Any, ...]:
        """As a position in an index of values."""
        return (value,) if self.run is None else (value, *self.run)


class Group(NamedTuple):
    """Runs that are equal in the first of several orders, and the position in it behind which they are wanted."""

    value: tuple[int, Any]
    runs: list[Found]
    after: Found | None


def search_runs(connection: Connection, search: Search, *, after: Found | None, limit: int) -> list[Found]:
    """The first `limit` runs behind a position."""
    if not search.experiments:
        return []
    search = search._replace(experiments=tuple(sorted(set(search.experiments))), orders=needed(search.orders))
    return list(itertools.islice(Plan(connection, search, limit).found(after), limit))


def experiment_ids(connection: Connection, project: str) -> list[str]:
    """Every experiment of a project."""
    return [row[0] for row in fetch(connection, "SELECT experiment_id FROM experiments WHERE project = ?", project)]


# ── the plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Plan:
    """How one search is done."""

    def __init__(self, connection: Connection, search: Search, limit: int):
        self.connection = connection
        self.search = search
        self.limit = limit
        self.dialect = connection.dialect.name
        self.key = sort_key(search.orders)
        self.matches = Matches(connection, search, limit)
        self.apart: Callable[[Any], bool] | None = None  # of a walk by the first of several orders

    def found(self, after: Found | None) -> Iterator[Found]:
        """The runs behind a position."""
        first = self.search.orders[0] if self.search.orders else None
        rare = self.matches.rare(first)
        if rare is not None:
            return self.matches.gathered(rare, after)
        if first is not None and unindexed(first):
            return self.matches.gathered(Driver(None, Range("runs", "runs_created", self.matches.stage()), many=True), after)
        if len(self.search.orders) > 1:
            return self._by_several(after)
        if after is None:
            return self._by_one(first, None)
        return self._by_one(first, Start(*after[0][0], after[1:]) if first is not None else Start(NUMBER, None, after[1:]))

    # ── in the order of an index ─────────────────────────────────────────────────────────────────────────────────

    def _by_several(self, after: Found | None) -> Iterator[Found]:
        """By the first of several orders, what is equal in it by the others."""
        first = self.search.orders[0]
        start = None if after is None else Start(*after[0][0], None)
        most = max(EQUAL, self.limit)
        self.apart = self._apart
        while True:
            groups: list[Group] = []
            waiting, wanted = 0, self.limit
            for value, same in itertools.groupby(self._by_one(first, start), key=lambda f: f[0][0]):
                rest = iter(same)
                group = [next(rest)]
                if group[0][1:] != MANY:
                    group += itertools.islice(rest, most - 1)
                position = after if after is not None and after[0][0] == value else None
                many = len(group) == most or group[0][1:] == MANY
                equal = _equality_of(value, self.search.orders) if many else None
                if equal is not None:
                    break
                groups.append(Group(value, [*group, *rest], position))
                waiting += len(groups[-1].runs) if position is None else 0
                if waiting >= wanted or (position is not None and len(groups[-1].runs) > 1):
                    for found in self._sorted(groups):
                        yield found
                        wanted -= 1
                    groups, waiting, wanted = [], 0, wanted if wanted > 0 else self.limit
            else:
                yield from self._sorted(groups)
                return
            yield from self._sorted(groups)
            yield from self._searched(value, equal, position)
            start = Start(*value, LAST)

    def _apart(self, value: Any) -> bool:
        """Whether runs of a value in the first order need not be read to be searched for."""
        return (not isinstance(value, str) or len(value) < INDEXED) and _equality_of((NUMBER, value), self.search.orders) is not None

    def _sorted(self, groups: list[Group]) -> Iterator[Found]:
        """Runs that are equal in the first order, a value after the other."""
        orders = self.search.orders[1:]
        valued = iter(self.matches.valued([(run_id, created) for group in groups for _, created, run_id in group.runs], orders))
        for value, runs, after in groups:
            full = [((value, *values), created, run_id) for values, created, run_id in itertools.islice(valued, len(runs))]
            if len(full) > 1:
                full.sort(key=self.key)
            yield from behind(full, self.key, after)

    def _searched(self, value: tuple[int, Any], equal: Comparison, after: Found | None) -> Iterator[Found]:
        """The same where they are many: a search of its own, in the other orders."""
        comparisons = self.search.comparisons if equal in self.search.comparisons else (*self.search.comparisons, equal)
        search = self.search._replace(comparisons=comparisons, orders=self.search.orders[1:])
        found = Plan(self.connection, search, self.limit).found(after and (after[0][1:], *after[1:]))
        return (((value, *values), created, run_id) for values, created, run_id in found)

    def _by_one(self, order: Order | None, start: Start | None) -> Iterator[Found]:
        """By one order, or the newest first."""
        if order is None:
            return (((), row[0], row[1]) for row in self._timed(start and start.run, down=True))
        if order.kind == "attribute" and order.key == "start_time":
            position = start and (start.run or (start.value,))
            return ((((NUMBER, row[0]),), row[0], row[1]) for row in self._timed(position, down=not order.ascending))
        if order.kind == "attribute" and order.key == "status":
            return self._by_status(order, start)
        return self._by_value(order, start)

    def _by_status(self, order: Order, start: Start | None) -> Iterator[Found]:
        words = sorted(set(STATUS.values()), reverse=not order.ascending)
        wanted = set(STATUS).intersection(*(states(c) for c in self.search.comparisons if (c.kind, c.key) == ("attribute", "status")))
        for word in words[words.index(start.value) if start else 0 :]:
            fixed = [(("state", state),) for state, told in STATUS.items() if told == word and state in wanted]
            paths = [
                Path("runs", "runs_status", (*of, *own), ("created", "run_id"), down=True, conditions=self._of_runs())
                for of in self._stages()
                for own in fixed
            ]
            position = start.run if start and start.value == word else None
            yield from ((((NUMBER, word),), row[0], row[1]) for row in self._walked(paths, position, newest_first))

    def _by_value(self, order: Order, start: Start | None) -> Iterator[Found]:
        """What has a value by that, then what is NaN, then what has none."""
        rank = start.rank if start else NUMBER
        own = [c for c in self.search.comparisons if (c.kind, c.key) == (order.kind, order.key)]
        absent = any(c.op == "IS NULL" for c in own)
        there = any(c.op != "IS NULL" for c in own)
        rest = [c for c in self.search.comparisons if c not in own]
        if rank == NUMBER and not absent:
            if order.kind == "attribute":
                yield from self._by_column(order, start)
            elif order.kind == "metric":
                yield from self._by_number(order, own, rest, start)
            else:
                yield from self._by_text(order, own, rest, start)
        position = start.run if start else None
        if rank <= NAN and order.kind == "metric" and not absent and all(c.op == "!=" for c in own):
            held = tuple(self.matches.held(rest, of_runs=False))
            paths = [
                Path(
                    TABLES["metric"],
                    "latest_metrics_value",
                    (*of, ("name", order.key), ("value", None)),
                    ("created", "run_id"),
                    down=True,
                    conditions=held,
                )
                for of in self._scopes()
            ]
            rows = self._walked(paths, position if rank == NAN else None, newest_first)
            yield from ((((NAN, 0),), row[0], row[1]) for row in rows)
        if not there:
            yield from ((((MISSING, 0),), row[0], row[1]) for row in self._missing(order, position if rank == MISSING else None))

    def _missing(self, order: Order, position: Row | None) -> Iterator[Row]:
        if order.kind == "attribute":
            if order.key != "end_time":
                return iter(())
            paths = [
                Path("runs", "runs_ended", (*of, ("ended", None)), ("created", "run_id"), down=True, conditions=self._of_runs())
                for of in self._stages()
            ]
        else:
            none = Comparison(order.kind, order.key, "IS NULL")
            held = self._held([*self.search.comparisons, none], of_runs=True)
            low, high = moment_bounds(self.search.comparisons, "start_time")
            paths = [
                Path("runs", "runs_created", of, ("created", "run_id"), down=True, conditions=held, low=low, high=high)
                for of in self._stages()
            ]
        return self._walked(paths, position, newest_first)

    def _by_column(self, order: Order, start: Start | None) -> Iterator[Found]:
        column = TIMES.get(order.key) or COLUMNS[order.key]
        low, high = moment_bounds(self.search.comparisons, order.key)
        paths = [
            Path(
                "runs",
                RUN_INDEX[column],
                of,
                (column, "created", "run_id"),
                down=not order.ascending,
                conditions=self._of_runs(),
                low=low,
                high=high,
                nulls=order.key in TIMES,
                apart=self.apart,
            )
            for of in self._stages()
        ]
        return self._by_first(order, paths, start)

    def _by_number(self, order: Order, own: list[Comparison], rest: list[Comparison], start: Start | None) -> Iterator[Found]:
        low, high = _bounds(own)
        unequal = (own_condition(self.dialect, "d", c) for c in own if c.op == "!=")
        held = (*unequal, *self.matches.held(rest, of_runs=False))
        paths = [
            Path(
                TABLES["metric"],
                "latest_metrics_value",
                (*of, ("name", order.key)),
                ("value", "created", "run_id"),
                down=not order.ascending,
                conditions=held,
                low=low,
                high=high,
                nulls=True,
            )
            for of in self._scopes()
        ]
        return self._by_first(order, paths, start)

    def _by_first(self, order: Order, paths: list[Path], start: Start | None) -> Iterator[Found]:
        position = start.behind(start.value) if start else None
        key = sort_key([order])
        rows = self._walked(paths, position, lambda row: key((((NUMBER, row[0]),), row[1], row[2])))
        return ((((NUMBER, row[0]),), row[1], row[2]) for row in rows)

    def _by_text(self, order: Order, own: list[Comparison], rest: list[Comparison], start: Start | None) -> Iterator[Found]:
        """By a param or tag: the index knows how it begins; what begins alike is sorted by the whole."""
        held = (*(own_condition(self.dialect, "d", c) for c in own if c.value is not None), *self.matches.held(rest, of_runs=False))
        paths = [
            Path(
                TABLES[order.kind],
                f"{TABLES[order.kind]}_value",
                (*of, ("name", order.key)),
                ("head", "created", "run_id"),
                down=not order.ascending,
                conditions=held,
                apart=self.apart,
            )
            for of in self._scopes()
        ]
        position: Row | None = None
        if start:
            position = start.behind(start.value) if len(start.value) < INDEXED else (start.value[:INDEXED],)
        key = sort_key([order])
        rows = self._walked(paths, position, lambda row: key((((NUMBER, row[0]),), row[1], row[2])))
        for head, same in itertools.groupby(rows, key=lambda row: row[0]):
            if len(head) < INDEXED:
                yield from ((((NUMBER, head),), row[1], row[2]) for row in same)
                continue
            whole = self.matches.valued([(row[2], row[1]) for row in same], [order])
            whole.sort(key=key)
            if start is None or start.value[:INDEXED] != head:
                yield from whole
            elif start.run is None:
                yield from itertools.dropwhile(lambda f, value=start.value: f[0][0][1] != value, whole)
            else:
                yield from behind(whole, key, (((NUMBER, start.value),), *start.run))

    # ── in the order of time ─────────────────────────────────────────────────────────────────────────────────────

    def _timed(self, position: Row | None, *, down: bool) -> Iterator[Row]:
        paths = self._timed_paths(down=down)
        key = newest_first if down else (lambda row: row)
        rows = self._walked(paths, position, key)
        return (row for row, _ in itertools.groupby(rows))  # a run that read a dataset twice comes twice

    def _timed_paths(self, *, down: bool) -> list[Path]:
        """An equality whose index goes on with the time, or else all runs."""
        low, high = moment_bounds(self.search.comparisons, "start_time")
        for c in [self.matches.rarest] if self.matches.rarest else self.search.comparisons:
            found = equality(c)
            if found is not None:
                table, index, owns, held = found
                scopes = self._stages() if table == "runs" else self._scopes()
                held = (*held, *self._held([other for other in self.search.comparisons if other is not c], of_runs=table == "runs"))
                return [Path(table, index, (*of, *own), ("created", "run_id"), down, held, low, high) for of in scopes for own in owns]
        return [Path("runs", "runs_created", of, ("created", "run_id"), down, self._of_runs(), low, high) for of in self._stages()]

    # ── what they share ──────────────────────────────────────────────────────────────────────────────────────────

    def _held(self, comparisons: Sequence[Comparison], *, of_runs: bool) -> tuple[Sql, ...]:
        """What a walk's rows must fulfil; one of an index of runs is in a lifecycle already."""
        lifecycles = () if of_runs else self.search.lifecycles
        return tuple(conditions(self.dialect, self.search.project, comparisons, lifecycles=lifecycles, of_runs=of_runs))

    def _of_runs(self) -> tuple[Sql, ...]:
        return self._held(self.search.comparisons, of_runs=True)

    def _scopes(self) -> list[tuple[tuple[str, Any], ...]]:
        """The first columns of an index of values, by experiment."""
        return [(("project", self.search.project), ("experiment", e)) for e in self.search.experiments]

    def _stages(self) -> list[tuple[tuple[str, Any], ...]]:
        """The first columns of an index of runs, by experiment and lifecycle."""
        stages = self.search.lifecycles or ("active", "deleted")
        return [(*of, ("lifecycle", stage)) for of in self._scopes() for stage in stages]

    def _walked(self, paths: list[Path], position: Row | None, key: Callable[[Row], Any]) -> Iterator[Row]:
        if not paths:
            return iter(())
        batch = self.limit if len(paths) == 1 else max(8, 2 * self.limit // len(paths))
        if batch < EQUAL:
            paths = [path._replace(apart=None) for path in paths]
        return merged([walk(self.connection, p, position, batch=batch, inclusive=True) for p in paths], key)


def _equality_of(value: tuple[int, Any], orders: Sequence[Order]) -> Comparison | None:
    """What holds for those alone that have a value in the first of some orders; None where nothing says it, or no index has the next."""
    (rank, told), (first, then) = value, orders[:2]
    if unindexed(then) or rank == NAN or (first.kind == "attribute" and first.key not in ("status", "run_name")):
        return None
    return Comparison(first.kind, first.key, "=", told) if rank == NUMBER else Comparison(first.kind, first.key, "IS NULL")


def _bounds(own: Sequence[Comparison]) -> tuple[tuple[float, bool] | None, tuple[float, bool] | None]:
    """The tightest (value, inclusive) from below and above that comparisons with a number set."""
    lows = [(c.value, c.op != ">") for c in own if c.op in (">", ">=", "=")]
    highs = [(c.value, c.op != "<") for c in own if c.op in ("<", "<=", "=")]
    low = max(lows, key=lambda b: (b[0], not b[1])) if lows else None
    high = min(highs, key=lambda b: (b[0], b[1])) if highs else None
    return low, high
