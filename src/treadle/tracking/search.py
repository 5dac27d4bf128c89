"""The verbs that find: runs, experiments, logged models, and the histories of metrics.

The text of a search is read by `filters`, done by `store.queries.search` and paged by position (`pages`). For whoever encodes a long
history itself there is `history_columns(connection, project, run_id, key)`, and `MetricColumns` through the one door: three
columns instead of a record a point.
"""

import bisect
import fnmatch
import functools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from treadle.operations import implements
from treadle.operations import tracking as ops
from treadle.records.calls import Call
from treadle.records.clock import EPOCH
from treadle.records.errors import TreadleError
from treadle.records.filters import Comparison, Order
from treadle.records.ledger import Page
from treadle.records.told import number as worded
from treadle.records.tracking import Along, Point, View
from treadle.store.db import Connection
from treadle.store.queries import listings, logged_models, run_reads
from treadle.store.queries import search as queries
from treadle.store.queries.orders import needed
from treadle.tracking import filters, pages
from treadle.tracking.experiments import default_experiment

#: The longest pages, as the protocol has them; a history may come whole.
MOST, MOST_MODELS, MOST_POINTS = 50_000, 10_000, 1_000_000
#: Texts of searches up to so many characters are remembered.
_REMEMBERED = 500
_STAGES = {View.active: ("active",), View.deleted: ("deleted",), View.all: ()}
_NEWEST_EXPERIMENTS = (Order("attribute", "creation_time", False), Order("attribute", "experiment_id"))


class SearchVerbs:
    """Searches and histories."""

    @implements(ops.SearchRuns)
    def search_runs(self, connection: Connection, request: ops.SearchRuns, call: Call) -> ops.TrackedRuns:
        """A page of the runs that a filter finds."""
        ids, end = self._found(connection, request)
        runs = run_reads.tracked_runs(connection, request.project, ids, wanted=_wanted(request.columns), last=True)
        return ops.TrackedRuns(items=runs, page=Page(next=end))

    @implements(ops.SearchRunDocuments)
    def search_run_documents(self, connection: Connection, request: ops.SearchRunDocuments, call: Call) -> ops.RunDocuments:
        """The same page for whoever passes it on."""
        ids, end = self._found(connection, request)
        return ops.RunDocuments(items=run_reads.documents(connection, request.project, ids, last=True), page=Page(next=end))

    def _found(self, connection: Connection, request: ops.SearchRuns | ops.SearchRunDocuments) -> tuple[list[str], str | None]:
        """The ids of a page of runs, and the token of the next."""
        check_limit(request.limit, MOST)
        comparisons, orders = _read(request.filter, tuple(request.order_by))
        experiments = [e for e in dict.fromkeys(request.experiments) if "\0" not in e]
        if not request.experiments:
            experiments = queries.experiment_ids(connection, request.project)
        search = queries.Search(request.project, tuple(experiments), comparisons, orders, _STAGES[request.view])
        mark = ("runs", sorted(request.experiments), comparisons, orders, request.view)
        after = pages.read(mark, orders, request.page)
        found = queries.search_runs(connection, search, after=after, limit=request.limit + 1)
        end = pages.made(mark, found[request.limit - 1]) if len(found) > request.limit else None
        return [f[2] for f in found[: request.limit]], end

    @implements(ops.SearchExperiments)
    def search_experiments(self, connection: Connection, request: ops.SearchExperiments, call: Call) -> ops.Experiments:
        """A page of the experiments that a filter finds."""
        check_limit(request.limit, MOST)
        comparisons = filters.parse_filter(request.filter, filters.EXPERIMENTS)
        orders = _by_id(filters.parse_order(request.order_by, filters.EXPERIMENTS) or _NEWEST_EXPERIMENTS)
        mark = ("experiments", comparisons, orders, request.view, request.folder)
        unwritten = default_experiment(request.project, EPOCH) if request.default else None
        found = listings.find_experiments(
            connection,
            request.project,
            comparisons,
            orders,
            lifecycles=_STAGES[request.view],
            folder=_clean(request.folder),
            unwritten=unwritten,
            after=pages.read(mark, orders, request.page),
            limit=request.limit + 1,
        )
        ids = [f[2] for f in found[: request.limit]]
        known = {e.experiment_id: e for e in listings.experiments_of(connection, request.project, ids)}
        if unwritten is not None:
            known.setdefault(unwritten.experiment_id, unwritten)
        items = [known[i] for i in ids if i in known]
        end = pages.made(mark, found[request.limit - 1]) if len(found) > request.limit else None
        return ops.Experiments(items=items, page=Page(next=end))

    @implements(ops.SearchLoggedModels)
    def search_logged_models(self, connection: Connection, request: ops.SearchLoggedModels, call: Call) -> ops.LoggedModels:
        """A page of the logged models that a filter finds."""
        check_limit(request.limit, MOST_MODELS)
        comparisons = filters.parse_filter(request.filter, filters.LOGGED_MODELS)
        orders = filters.parse_logged_model_order(request.order_by)
        datasets = [_data(d) for d in request.datasets]
        experiments = [e for e in dict.fromkeys(request.experiments) if "\0" not in e]
        if not request.experiments:
            experiments = queries.experiment_ids(connection, request.project)
        mark = ("models", sorted(request.experiments), comparisons, orders, datasets)
        after = pages.read(mark, orders, request.page)
        found = listings.find_logged_models(
            connection, request.project, experiments, comparisons, orders, datasets=datasets, after=after, limit=request.limit + 1
        )
        end = pages.made(mark, found[request.limit - 1]) if len(found) > request.limit else None
        items = logged_models.logged_models(connection, request.project, [f[2] for f in found[: request.limit]])
        return ops.LoggedModels(items=items, page=Page(next=end))

    @implements(ops.SearchInputs)
    def search_inputs(self, connection: Connection, request: ops.SearchInputs, call: Call) -> list[ops.DataRead]:
        """What data the runs of experiments read."""
        check_limit(request.limit, MOST)
        experiments = [e for e in dict.fromkeys(request.experiments) if "\0" not in e]
        found = run_reads.data_read(connection, request.project, experiments, request.limit)
        return [ops.DataRead(experiment_id=e, name=name, digest=digest, context=context) for e, name, digest, context in found]

    @implements(ops.MetricHistory)
    def metric_history(self, connection: Connection, request: ops.MetricHistory, call: Call) -> ops.History:
        """Points of one metric of several runs, a run after the other."""
        check_limit(request.limit, MOST_POINTS)
        run_ids = list(dict.fromkeys(request.run_ids))
        mark = ("history", request.key, run_ids, request.most)
        at, last = _history_position(mark, request.page)
        points: dict[str, list[Point]] = {}
        left, token = request.limit, None
        for number, run_id in enumerate(run_ids[at:], at):
            whole = thinned(_points(connection, request.project, run_id, request.key), request.most)
            begin = bisect.bisect_right(whole, last) if number == at and last is not None else 0
            part = whole[begin : begin + left]
            points[run_id] = [Point(key=request.key, value=worded(None if p[3] else p[2]), step=p[1], time=p[0]) for p in part]
            left -= len(part)
            rest = begin + len(part) < len(whole)
            if rest or (left == 0 and number + 1 < len(run_ids)):
                token = pages.encoded([pages.mark(mark), number if rest else number + 1, part[-1] if rest else None])
                break
        return ops.History(key=request.key, points=points, page=Page(next=token))

    @implements(ops.MetricColumns)
    def metric_columns(self, connection: Connection, request: ops.MetricColumns, call: Call) -> ops.Columns:
        """One run's history as columns."""
        whole = _points(connection, request.project, request.run_id, request.key)
        points = within(whole, request.along, request.low, request.high)
        kept, means = points, None
        if 0 < request.most < len(points):
            drawn = [(_ends(some), _mean(some)) for some in _parts(points, request.most)]
            kept = [point for ends, _ in drawn for point in ends]
            means = [mean for ends, mean in drawn for _ in ends]
        times, steps, values = _columns(kept)
        return ops.Columns(key=request.key, run_id=request.run_id, times=times, steps=steps, values=values, means=means)


def history_columns(connection: Connection, project: str, run_id: str, key: str) -> tuple[list[int], list[int], list[float | str]]:
    """Times (microseconds), steps and values of a metric's history by time, step and value.

    Values that JSON has no numbers for are words: NaN, Infinity, -Infinity.
    """
    return _columns(_points(connection, project, run_id, key))


def _columns(points: list[listings.Point]) -> tuple[list[int], list[int], list[float | str]]:
    times, steps, values = [p[0] for p in points], [p[1] for p in points], [p[2] for p in points]
    told: list[float | str] = values  # type: ignore[assignment]
    if any(p[3] for p in points) or not all(map(math.isfinite, values)):
        told = [worded(None if p[3] else p[2]) for p in points]
    return times, steps, told


def within(points: list[listings.Point], along: Along, low: int | None, high: int | None) -> list[listings.Point]:
    """The points of a part of a history, and the one on either side of it.

    >>> within([(t, t * 10, 0.0, 0) for t in range(6)], Along.step, 19, 31)
    [(1, 10, 0.0, 0), (2, 20, 0.0, 0), (3, 30, 0.0, 0), (4, 40, 0.0, 0)]
    """
    if (low is None and high is None) or not points:
        return points
    at = 1 if along == Along.step else 0
    zero = points[0][0] if along == Along.relative else 0
    first = -math.inf if low is None else low + zero
    last = math.inf if high is None else high + zero
    ordered = sorted(points, key=operator.itemgetter(at)) if at else points  # finds nothing to do where steps and times go up together
    begin = bisect.bisect_left(ordered, first, key=operator.itemgetter(at))
    end = bisect.bisect_right(ordered, last, key=operator.itemgetter(at))
    return sorted(ordered[max(begin - 1, 0) : end + 1])


def thinned(points: list[listings.Point], most: int) -> list[listings.Point]:
    """At most so many points of a history: its ends, and of equal parts between them the lowest and the highest; 0: all.

    >>> thinned([(t, t, float(t == 5), 0) for t in range(10)], 4)
    [(0, 0, 0.0, 0), (1, 1, 0.0, 0), (5, 5, 1.0, 0), (9, 9, 0.0, 0)]
    """
    return [point for some in _parts(points, most) for point in _ends(some)] if 0 < most < len(points) else points


def _parts(points: list[listings.Point], most: int) -> Iterator[list[listings.Point]]:
    """What of a history that is longer than `most` is drawn as one: its ends, and equal parts between them."""
    if most < 4:
        kept = [points[0], points[-1]][-most:] if most < 3 else [points[0], points[len(points) // 2], points[-1]]
        yield from ([point] for point in kept)
        return
    parts, inner = (most - 2) // 2, len(points) - 2
    yield points[:1]
    for part in range(parts):
        yield points[1 + part * inner // parts : 1 + (part + 1) * inner // parts]
    yield points[-1:]


def _ends(some: list[listings.Point]) -> list[listings.Point]:
    """The lowest and the highest, in their order."""
    return some if len(some) == 1 else sorted({min(some, key=_value), max(some, key=_value)})


def _mean(some: list[listings.Point]) -> float | None:
    """The mean of those that are numbers."""
    numbers = [point[2] for point in some if not point[3] and math.isfinite(point[2])]
    return sum(numbers) / len(numbers) if numbers else None


def _read(text: str | None, order_by: tuple[str, ...]) -> tuple[tuple[Comparison, ...], tuple[Order, ...]]:
    """What a search of runs asks for; short texts, which clients send again and again, are read once."""
    if len(text or "") + sum(map(len, order_by)) > _REMEMBERED:
        return _read_anew(text, order_by)
    return _read_once(text, order_by)


def _read_anew(text: str | None, order_by: tuple[str, ...]) -> tuple[tuple[Comparison, ...], tuple[Order, ...]]:
    orders = needed(filters.parse_order(order_by, filters.RUNS))
    return filters.parse_filter(text, filters.RUNS), orders


_read_once = functools.lru_cache(512)(_read_anew)


def check_limit(limit: int, most: int) -> None:
    """Raises for a length that no page has, in the protocol's words."""
    if limit < 1 or limit > most:
        told = "a positive integer" if limit < 1 else f"at most {most}"
        raise TreadleError(
            f"Invalid value {limit} for parameter 'max_results' supplied. It must be {told}",
            remedy=f"Ask for 1 to {most} and follow page.next.",
            details={"field": "limit"},
        )


def _value(point: listings.Point) -> float:
    return point[2]


def _points(connection: Connection, project: str, run_id: str, key: str) -> list[listings.Point]:
    if "\0" in run_id + key:
        return []
    return listings.history(connection, project, run_id, key)


def _history_position(mark: Any, token: str | None) -> tuple[int, listings.Point | None]:
    """The number of the run to go on with, and its last point that was told."""
    if not token:
        return 0, None
    content = pages.decoded(token)
    if isinstance(content, list) and len(content) == 3 and content[0] == pages.mark(mark):
        _, number, last = content
        if last is None and type(number) is int:
            return number, None
        if type(number) is int and isinstance(last, list) and len(last) == 4 and all(type(n) in (int, float) for n in last):
            return number, (last[0], last[1], last[2], last[3])
    raise pages.refused(f"parsed value={str(content)[:200]}")


def _wanted(columns: Sequence[str] | None) -> Callable[[str, str], bool] | None:
    """(kind, name) → whether it is among the columns asked for; None: everything is."""
    if columns is None:
        return None
    names: dict[str, set[str]] = {}
    for column in columns:
        kind, _, name = column.partition(".")
        names.setdefault(kind, set()).add(name)

    def wanted(kind: str, name: str) -> bool:
        asked = names.get(kind)
        if asked is None:
            return False
        return not name or name in asked or any(p.endswith("*") and fnmatch.fnmatchcase(name, p) for p in asked)

    return wanted


def _by_id(orders: tuple[Order, ...]) -> tuple[Order, ...]:
    """Orders up to one by id; where none is, ties go by the highest."""
    for number, order in enumerate(orders):
        if order.key == "experiment_id":
            return orders[: number + 1]
    return (*orders, Order("attribute", "experiment_id", False))


def _clean(folder: str | None) -> str | None:
    return None if folder is None or "\0" in folder else folder


def _data(dataset: dict[str, str]) -> listings.Data:
    name, digest = dataset.get("name") or "", dataset.get("digest") or ""
    if not name or "\0" in name + digest:
        raise TreadleError("`dataset_name` in the `datasets` clause must be specified.", remedy="Name the dataset.")
    return name, digest
