"""Few matches of a search: which of its comparisons has them, what they are, and what they are ordered by."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from treadle.records.filters import Comparison, Order
from treadle.store.driver import fetch, fetch_apart, fetch_together
from treadle.store.queries.conditions import (
    COLUMNS,
    STATUS,
    TABLES,
    URI,
    Range,
    Sql,
    all_of,
    among,
    conditions,
    index_range,
    indexed,
    moment,
    states,
)
from treadle.store.queries.orders import MISSING, NAN, NUMBER, Found, behind, sort_key
from treadle.store.queries.walks import Row
from treadle.store.tables import INDEXED

#: So many matches of a comparison are fetched and sorted rather than met on the way through an index.
RARE = 2_000
#: So few matches of a comparison are fetched without a look at whether another has fewer.
FEW = 100
#: Where one in so many fulfils a comparison, the walk through all of them meets enough of its matches.
PART = 6
#: So many runs are looked up in one statement, each a parameter or all of them one.
_PROBE, _PROBE_ARRAY = 400, 2000
_SCANS = ("LIKE", "ILIKE")


class Search(NamedTuple):
    """A search as it was asked.

    Args:
        experiments: their ids.
        lifecycles: active, deleted; none: both.
    """

    project: str
    experiments: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    orders: tuple[Order, ...]
    lifecycles: tuple[str, ...]


class Driver(NamedTuple):
    """What a search may fetch: a comparison (None: the search's lifecycles) and where an index has its matches, or they themselves."""

    comparison: Comparison | None
    range: Range
    rows: list[Row] | None = None
    found: list[Row] | None = None  # what `gathered` would fetch
    many: bool = False

    @property
    def scans(self) -> bool:
        """Whether finding the matches costs more than fetching them."""
        return self.comparison is not None and self.comparison.op in _SCANS


class Matches:
    """What a search finds where few fulfil one of its comparisons."""

    def __init__(self, connection: Connection, search: Search, limit: int):
        self.connection = connection
        self.search = search
        self.limit = limit
        self.dialect = connection.dialect.name
        self.key = sort_key(search.orders)
        self.rarest: Comparison | None = None  # drives a walk in order of time

    def rare(self, first: Order | None) -> Driver | None:
        """The comparison with the fewest matches, where they are few, and too few for a walk to meet them."""
        search, deleted = self.search, self.search.lifecycles == ("deleted",)
        if not search.comparisons and not deleted:
            return None
        own = self._bounding(first)
        candidates: list[Driver] = []
        for comparison in search.comparisons:
            known = None if any(comparison is c for c in own) else index_range(self.dialect, comparison, search.lifecycles)
            if known is not None:
                candidates.append(Driver(comparison, known))
        if deleted and not self._walks_stages(first, own):
            candidates.append(Driver(None, Range("runs", "runs_created", self.stage())))
        if not candidates:
            return None
        if len(candidates) == 1 and self._in_order(candidates[0].comparison, first):
            return None
        best, least = None, RARE + 1
        for candidate in sorted(candidates, key=_effort):
            rows, found = self._few(candidate) if candidate.scans else None, None
            if rows is not None:
                count = len(rows)
            elif best is None and self.dialect == "postgresql" and not self._in_order(candidate.comparison, first):
                count, found = self._taken(candidate, least)
            else:
                count = self._count(candidate.range, least)
            if count < least:
                best, least = candidate._replace(rows=rows, found=found), count
                if count <= FEW:
                    break
        if best is not None and self._in_order(best.comparison, first):
            self.rarest = best.comparison
            return None
        if best is None or least <= max(FEW, 2 * self.limit) or (first is not None and unindexed(first)):
            return best
        # A walk meets a page of them within limit · all / least rows if they lie anywhere, and at the worst within all.
        most = min(PART * least, least * least // self.limit)
        return best if self._count(self._walk_of(first, own), most + 1) > most else None

    def _bounding(self, first: Order | None) -> list[Comparison]:
        """The comparisons that a walk by an order need not check, because they are where it begins and ends."""
        kind, key = ("attribute", "start_time") if first is None else (first.kind, first.key)
        if kind != "metric" and (kind, key) not in (("attribute", "start_time"), ("attribute", "end_time"), ("attribute", "status")):
            return []
        return [c for c in self.search.comparisons if (c.kind, c.key) == (kind, key) and c.value is not None]

    def _walks_stages(self, first: Order | None, own: list[Comparison]) -> bool:
        """Whether a walk by an order reads no runs but those in the search's lifecycles."""
        if first is not None and (first.kind != "attribute" or unindexed(first)):
            return False
        return self._walk_of(first, own).table == "runs"

    def _walk_of(self, first: Order | None, own: list[Comparison]) -> Range:
        """All that a walk by an order may read."""
        every = Range("runs", "runs_created", self.stage())
        bounds = [known for c in own if (known := index_range(self.dialect, c, self.search.lifecycles)) is not None]
        if first is not None and first.kind != "attribute":
            if not own:
                return every._replace(where=among("d.lifecycle", ("active", "deleted")))
            named = Sql("d.name = ?", (first.key,))
            return Range(TABLES["metric"], "latest_metrics_value", all_of([named, *(known.where for known in bounds)]))
        if first is None or first.key == "start_time":
            driving = next(filter(equality, self.search.comparisons), None)
            known = driving and index_range(self.dialect, driving, self.search.lifecycles)
            if known is not None:
                moments = [moment("d.created", c.op, c.value) for c in own if c.op != "!="]
                return known._replace(where=all_of([known.where, *moments]))
        return bounds[0]._replace(where=all_of([known.where for known in bounds])) if bounds else every

    def _in_order(self, comparison: Comparison | None, first: Order | None) -> bool:
        """Whether a comparison's index gives its matches in the order of the search, so that they need not be fetched all."""
        if comparison is None or len(self.search.orders) > 1:
            return False
        return (first is None or (first.kind, first.key) == ("attribute", "start_time")) and equality(comparison) is not None

    def _scope(self) -> Sql:
        return all_of([Sql("d.project = ?", (self.search.project,)), among("d.experiment", self.search.experiments, self.dialect)])

    def _count(self, known: Range, most: int) -> int:
        text, values = self._counting(known, most)
        return fetch(self.connection, f"SELECT {text}", *values)[0][0]

    def _counting(self, known: Range, most: int) -> Sql:
        text, values = all_of([self._scope(), known.where])
        source = indexed(self.dialect, known.table, known.by)
        return Sql(f"(SELECT COUNT(*) FROM (SELECT 1 FROM {source} WHERE {text} LIMIT ?) c)", (*values, most))

    def _taken(self, driver: Driver, most: int) -> tuple[int, list[Row] | None]:
        """How many a range holds, and its matches where those are few, in one message: PostgreSQL looks at what is the same for all rows
        before it looks for any."""
        text, values = self._counting(driver.range, most)
        few = self._counting(driver.range, FEW + 1)
        together = [(f"SELECT {text}", values), self._gathering(driver, Sql(f"{few.text} <= ?", (*few.values, FEW)))]
        ((count,),), found = fetch_together(self.connection, together)
        return count, found if count <= FEW else None

    def _few(self, driver: Driver) -> list[Row] | None:
        """All that a range holds, where it is little: counting would read as much, and fetching all of it again. Each is looked at again
        (`_gathering`)."""
        text, values = all_of([self._scope(), driver.range.where])
        statement = f"SELECT d.run_id, d.created FROM {indexed(self.dialect, driver.range.table, driver.range.by)} WHERE {text} LIMIT ?"
        rows = fetch_apart(self.connection, statement, *values, FEW + 1)
        return rows if len(rows) <= FEW else None

    def gathered(self, driver: Driver, after: Found | None) -> Iterator[Found]:
        """All matches in a range, sorted."""
        rows = driver.found
        if rows is None:
            statement, values = self._gathering(driver)
            rows = fetch(self.connection, statement, *values) if driver.rows != [] else []
        if driver.many:
            found = self.valued([(row[0], row[1]) for row in rows], self.search.orders)
        else:
            orders = list(enumerate(self.search.orders, 2))
            once = {row[0]: row for row in rows}.values()  # a run may have read a dataset twice
            found = [(tuple(_ranked(order, row[at]) for at, order in orders), row[1], row[0]) for row in once]
        found.sort(key=self.key)
        return behind(found, self.key, after)

    def _gathering(self, driver: Driver, *more: Sql) -> tuple[str, tuple[Any, ...]]:
        """What fetches the matches in a range, and what they are ordered by."""
        comparison, known = driver.comparison, driver.range
        exact = comparison is not None and comparison.op not in _SCANS
        rest = [c for c in self.search.comparisons if not (exact and c is comparison)]
        where = [self._scope(), known.where]
        if driver.rows is not None:
            known = Range("runs", "", Sql(""))
            where = [Sql("d.project = ?", (self.search.project,)), self._any_of([row[0] for row in driver.rows])]
        text, values = all_of([*more, *where, *self.held(rest, of_runs=known.table == "runs")])
        columns = [] if driver.many else [self._column(order, of_runs=known.table == "runs") for order in self.search.orders]
        select = ", ".join(["d.run_id", "d.created", *(column.text for column in columns)])
        statement = f"SELECT {select} FROM {indexed(self.dialect, known.table, known.by)} WHERE {text}"
        return statement, (*(v for column in columns for v in column.values), *values)

    def _column(self, order: Order, *, of_runs: bool) -> Sql:
        """What `_ranked` makes a candidate's value in an order of."""
        if order.kind != "attribute":
            value = "COALESCE(e.value, 'NaN')" if order.kind == "metric" else "e.value"
            where = f"FROM {TABLES[order.kind]} e WHERE e.project = ? AND e.run_id = d.run_id AND e.name = ?"
            return Sql(f"(SELECT {value} {where})", (self.search.project, order.key))
        if order.key in ("start_time", "run_id", "artifact_uri"):
            return Sql({"start_time": "d.created", "run_id": "d.run_id", "artifact_uri": URI}[order.key])
        column = {"status": "state", "end_time": "ended"}.get(order.key) or COLUMNS[order.key]
        if of_runs:
            return Sql(f"d.{column}")
        return Sql(f"(SELECT r.{column} FROM runs r WHERE r.project = ? AND r.run_id = d.run_id)", (self.search.project,))

    def valued(self, runs: list[tuple[str, int]], orders: Sequence[Order]) -> list[Found]:
        """Runs (id, time) with the values they are ordered by."""
        if not orders:
            return [((), created, run_id) for run_id, created in runs]
        columns = [self._values(order, runs) for order in orders]
        return [(tuple(column.get(run_id, (MISSING, 0)) for column in columns), created, run_id) for run_id, created in runs]

    def _values(self, order: Order, runs: list[tuple[str, int]]) -> dict[str, tuple[int, Any]]:
        """(rank, value) of those that have one."""
        if order.kind == "attribute" and order.key == "start_time":
            return {run_id: (NUMBER, created) for run_id, created in runs}
        missing = (NAN if order.kind == "metric" else MISSING, 0)
        if order.kind == "attribute" and order.key == "status":
            return {run_id: (NUMBER, STATUS[state]) for run_id, state in self._columns(order, runs)}
        return {run_id: missing if value is None else (NUMBER, value) for run_id, value in self._columns(order, runs)}

    def _columns(self, order: Order, runs: list[tuple[str, int]]) -> Iterator[Row]:
        """(id, value) of those that have a row: by id, or where they are many by reading the index of values from end to end."""
        table = "runs" if order.kind == "attribute" else TABLES[order.kind]
        scope = [Sql("d.project = ?", (self.search.project,))]
        column = "d.value"
        if order.kind == "attribute":
            known = {"status": "d.state", "end_time": "d.ended", "run_id": "d.run_id", "artifact_uri": URI}
            column = known.get(order.key) or f"d.{COLUMNS[order.key]}"
        else:
            scope.append(Sql("d.name = ?", (order.key,)))
        if len(runs) > RARE and order.kind != "attribute":
            text, values = all_of([*scope, among("d.experiment", self.search.experiments)])
            source = indexed(self.dialect, table, f"{table}_value")
            column = "d.head" if order.kind != "metric" else column
            rows = fetch(self.connection, f"SELECT d.run_id, {column} FROM {source} WHERE {text}", *values)
            if order.kind == "metric":
                yield from rows
                return
            yield from (row for row in rows if len(row[1]) < INDEXED)
            cut = {row[0] for row in rows if len(row[1]) >= INDEXED}
            runs = [run for run in runs if run[0] in cut]
        most = _PROBE_ARRAY if self.dialect == "postgresql" else _PROBE
        for start in range(0, len(runs), most):
            ids = self._any_of([run_id for run_id, _ in runs[start : start + most]])
            text, values = all_of([*scope, ids])
            yield from fetch(
                self.connection, f"SELECT d.run_id, {column.replace('d.head', 'd.value')} FROM {table} d WHERE {text}", *values
            )

    def _any_of(self, run_ids: Sequence[str]) -> Sql:
        """Whether a candidate is one of some runs; PostgreSQL would go through an array of them for each row of a small table."""
        if self.dialect == "postgresql" and len(run_ids) > 1:
            return Sql("d.run_id IN (SELECT unnest(?::text[]))", (list(run_ids),))
        return among("d.run_id", run_ids)

    def stage(self) -> Sql:
        """The search's lifecycles, as a condition."""
        return among("d.lifecycle", self.search.lifecycles or ("active", "deleted"))

    def held(self, comparisons: Sequence[Comparison], *, of_runs: bool) -> list[Sql]:
        """What a candidate must fulfil: some comparisons, and that it is in one of the search's lifecycles."""
        s = self.search
        return conditions(self.dialect, s.project, comparisons, lifecycles=s.lifecycles, of_runs=of_runs)


def equality(c: Comparison) -> tuple[str, str, list[tuple[tuple[str, Any], ...]], tuple[Sql, ...]] | None:
    """Table, index, what its columns are, and a condition besides, where an index behind an equality is in order of time."""
    if c.op != "=":
        return None
    if c.kind in ("param", "tag"):
        whole = (Sql("d.value = ?", (c.value,)),) if len(c.value) >= INDEXED else ()
        return TABLES[c.kind], f"{TABLES[c.kind]}_value", [(("name", c.key), ("head", c.value[:INDEXED]))], whole
    if c.kind == "dataset" and c.key != "context":
        return "run_inputs", f"run_inputs_{c.key}", [((c.key, c.value),)], ()
    if c.kind == "attribute" and c.key == "status":
        return "runs", "runs_status", [(("state", state),) for state in states(c)], ()
    if c.kind == "attribute" and c.key == "run_name":
        return "runs", "runs_name", [(("name", c.value),)], ()
    return None


def unindexed(order: Order) -> bool:
    """Whether no index has an order."""
    return order.kind == "attribute" and order.key in ("run_id", "user_id", "artifact_uri")


def _effort(driver: Driver) -> int:
    """What finds least at the least cost comes first."""
    if driver.comparison is None or driver.scans:
        return 2
    return 0 if driver.comparison.op == "=" else 1


def _ranked(order: Order, value: Any) -> tuple[int, Any]:
    if value is None:
        return (MISSING, 0)
    if order.kind == "metric" and (value == "NaN" or value != value):
        return (NAN, 0)
    return (NUMBER, STATUS[value] if (order.kind, order.key) == ("attribute", "status") else value)
