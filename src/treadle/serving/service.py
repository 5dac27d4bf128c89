"""The verbs of serving: switch to a generation, answer a request, tell how it goes.

A request is columns of Python values. The path: features by entity key → matrix → score → split → record in the log → answer;
whatever is answered, rejections included, was logged first. One reference to the generation is taken at the start, so a switch in
the middle of a request cannot mix two of them. Synchronous, no HTTP, no database; the gateway calls it from its event loop.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import msgspec
from msgspec import Struct

from treadle.online.encoding import encode
from treadle.records.errors import TreadleError
from treadle.records.serving import LogEntry
from treadle.serving.generation import Generation, Model, Served, ViewRead
from treadle.serving.log import PredictionLog
from treadle.serving.metrics import Metrics
from treadle.serving.segments import prediction_id
from treadle.serving.split import challenged

Columns = dict[str, list[Any]]
_SCALARS = frozenset({str, int, float, bool, type(None)})
#: How a refusal is logged: the status that the gateway answers with.
_STATUS = {"bad_request": 400, "not_found": 404, "unavailable": 503, "storage_full": 503}
_log = logging.getLogger(__name__)
_encode_entry = msgspec.msgpack.Encoder().encode


class Answer(Struct, kw_only=True, omit_defaults=True):
    """What a request gets: one prediction a row, the id of each in the log, and who made it. `row_ids` are the caller's own ids."""

    predictions: list[float]
    ids: list[str]
    model_version: list[int]
    variant: list[str]
    generation: int
    row_ids: list[str] | None = None


class Scored(Struct):
    """Scores of a set of rows, and who gave them."""

    output: list[float]
    variant: list[str]
    model_version: list[int]
    propensity: list[float]
    other: list[float | None]
    other_version: list[int | None]
    error: str = ""


class Serving:
    """Answers requests from the current generation.

    Args:
        log: where every request is recorded.
        metrics: this worker's counters.
    """

    def __init__(self, log: PredictionLog, metrics: Metrics):
        self.log = log
        self.metrics = metrics
        self.generation: Generation | None = None
        self._anonymous = f"{time.time_ns():x}"
        self._counter = 0

    def switch(self, generation: Generation) -> None:
        """Serve this generation from the next request on; requests under way finish with theirs."""
        self.generation = generation

    def endpoint(self, name: str) -> Served:
        """A served endpoint.

        Raises:
            TreadleError: `not_found`, or `unavailable` before the first generation and for an endpoint without a champion.
        """
        generation = self.generation
        if generation is None:
            raise TreadleError(
                "This gateway has no snapshot yet, so it serves nothing.",
                remedy="Apply the project and release a model: treadle apply, then treadle release start ENDPOINT VERSION",
                code="unavailable",
            )
        return self._served(generation, name)

    def predict(
        self,
        name: str,
        columns: Columns,
        times: int | list[int] | None = None,
        ids: Sequence[str] = (),
        *,
        request_id: str = "",
        started: int | None = None,
    ) -> Answer:
        """Score rows and log them.

        Args:
            name: the endpoint.
            columns: one list a column, one value a row: the model's inputs, entity keys, the unit, and what else is to be logged.
            times: event time, microseconds since 1970 UTC, of all rows or of each; now where None.
            ids: the caller's row ids.
            request_id: the caller's id of the request, for the log.
            started: `time.perf_counter_ns()` when the request began.

        Raises:
            TreadleError: `bad_request` naming column, expected and given; `not_found`; `unavailable`; `storage_full`. It is logged, too.
        """
        began = time.perf_counter_ns() if started is None else started
        try:
            served = self.endpoint(name)
            rows = _count(columns, ids, times)
            now = time.time_ns() // 1000
            if type(times) is list and rows and times.count(times[0]) != rows:
                return self._by_time(served, columns, times, ids, request_id, began)
            at = now if times is None else times if type(times) is int else times[0]  # type: ignore[index]
            return self._predict(served, columns, rows, at, now, ids, request_id, began)
        except TreadleError as error:
            self.reject(name, error, request_id=request_id, started=began)
            raise
        except Exception as error:
            _log.exception("endpoint %s failed", name)
            told = TreadleError(
                f"The endpoint {name} failed on this request: {type(error).__name__}: {error}.",
                remedy="Look into the gateway's log; if the model is at fault, take it back: treadle rollback ENDPOINT",
                code="internal",
            )
            self.reject(name, told, request_id=request_id, started=began)
            raise told from error

    def reject(self, name: str, error: TreadleError, *, request_id: str = "", started: int, status: int | None = None) -> None:
        """Log a request that is answered with an error. Only endpoints that are served are logged; others are counted."""
        generation = self.generation
        status = status or _STATUS.get(error.code, 500)
        elapsed = time.perf_counter_ns() - started
        if generation is None or name not in generation.endpoints:
            self.metrics.observe("", status, 0, elapsed / 1e9)
            return
        self.metrics.observe(name, status, 0, elapsed / 1e9)
        now = time.time_ns() // 1000
        entry = LogEntry(
            status=status,
            endpoint=name,
            generation=generation.number,
            event_time=now,
            recorded_time=now,
            rows=0,
            variant=[],
            model_version=[],
            unit=[],
            propensity=[],
            inputs={},
            features={},
            output=[],
            other=[],
            other_version=[],
            latency_us=elapsed // 1000,
            request_id=request_id,
            error=error.what[:1000],
        )
        try:
            self.log.append(_encode_entry(entry))
        except TreadleError:  # the disk is full: the caller is told of the first error, the counter of this one
            self.metrics.unlogged += 1

    def _predict(
        self,
        served: Served,
        columns: Columns,
        rows: int,
        at: int,
        now: int,
        ids: Sequence[str],
        request_id: str,
        began: int,
    ) -> Answer:
        champion, challenger = served.champion, served.challenger
        if champion is None:
            raise _nothing_released(served.name)
        if not served.known.issuperset(columns):
            for column in columns.keys() - served.known:
                _check_extra(column, columns[column])
        features = self._features(champion, columns, rows, at, {})
        units = self._units(served.endpoint.unit, columns, ids, rows)
        output = _score(champion, columns, features, rows)
        if challenger is None:
            version = champion.variant.model_version
            nothing: list[Any] = [None] * rows
            scored = Scored(output, ["champion"] * rows, [version] * rows, [1.0] * rows, nothing, nothing)
        else:
            scored = self._split(served, champion, challenger, columns, features, units, output, at)
        elapsed = time.perf_counter_ns() - began
        entry = LogEntry(
            status=200,
            endpoint=served.name,
            generation=served.generation,
            event_time=at,
            recorded_time=now,
            rows=rows,
            variant=scored.variant,
            model_version=scored.model_version,
            unit=units,
            propensity=scored.propensity,
            inputs=columns,
            features=features,
            output=scored.output,  # type: ignore[arg-type]
            other=scored.other,
            other_version=scored.other_version,
            latency_us=elapsed // 1000,
            request_id=request_id,
            error=scored.error,
            ids=ids if type(ids) is list else list(ids),
        )
        segment, offset = self.log.append(_encoded(entry))
        self.metrics.observe(served.name, 200, rows, elapsed / 1e9)
        return Answer(
            predictions=scored.output,
            ids=[prediction_id(segment, offset, row) for row in range(rows)],
            model_version=scored.model_version,
            variant=scored.variant,
            generation=served.generation,
            row_ids=entry.ids or None,
        )

    def _features(self, model: Model, columns: Columns, rows: int, at: int, known: Mapping[str, list[Any]]) -> Columns:
        """What the model reads online, minus the columns that the rows bring themselves."""
        if not model.reads:
            return {}
        if not known and model.features.isdisjoint(columns):
            wanted, reads = model.features, model.reads
        else:
            wanted = {name for name in model.features if name not in columns and name not in known}
            reads = [read for read in model.reads if not wanted.isdisjoint(read.features)]
        # one look at the store for all views: cheaper, and all features of a request are of one state
        got = model.reads[0].reader.read_views({read.view: self._keys(read, columns) for read in reads}, [at] * rows)
        return got if len(got) == len(wanted) else {name: values for name, values in got.items() if name in wanted}

    def _keys(self, read: ViewRead, columns: Columns) -> list[tuple[Any, ...]]:
        try:
            return list(zip(*[columns[name] for name in read.entity], strict=True))
        except KeyError as error:
            name = error.args[0]
            raise TreadleError(
                f"The column {name} is missing: it is the entity key of the features {read.view}.* that the model reads.",
                remedy=f"Send {name!r} with one value a row, or send the columns {', '.join(read.features[:4])} themselves.",
                details={"column": name, "expected": "an entity key", "given": "nothing"},
            ) from error

    def _split(
        self,
        served: Served,
        champion: Model,
        challenger: Model,
        columns: Columns,
        features: Columns,
        units: list[str],
        output: list[float],
        at: int,
    ) -> Scored:
        """Give the challenger its share of the rows. Where it fails, the champion's scores stand: a canary must not fail requests."""
        split, rows = served.endpoint.split, len(output)
        chosen = challenged(split.salt, split.share, units)
        old, new = champion.variant.model_version, challenger.variant.model_version
        scored = Scored(output, ["champion"] * rows, [old] * rows, [1.0 - split.share] * rows, [None] * rows, [None] * rows)
        if not chosen:
            return scored
        try:
            more = self._features(challenger, columns, rows, at, features)
            features.update(more)
            everything = {**columns, **features}
            subset = everything if len(chosen) == rows else {k: [v[i] for i in chosen] for k, v in everything.items()}
            tried = _score(challenger, subset, {}, len(chosen))
        except Exception as error:  # noqa: BLE001  (any failure of the challenger is the challenger's, and told)
            self.metrics.challenger_errors[served.name] = self.metrics.challenger_errors.get(served.name, 0) + 1
            scored.error = f"challenger: {error}"[:1000]
            return scored
        for row, score in zip(chosen, tried, strict=True):
            if split.paired:
                scored.other[row], scored.other_version[row] = output[row], old
            output[row] = score
            scored.variant[row] = "challenger"
            scored.model_version[row] = new
            scored.propensity[row] = split.share
        return scored

    def _units(self, unit: str, columns: Columns, ids: Sequence[str], rows: int) -> list[str]:
        if unit:
            values = columns.get(unit)
            if values is None:
                raise TreadleError(
                    f"The column {unit} is missing: it is the endpoint's randomisation unit.",
                    remedy=f"Send {unit!r} with one value a row.",
                    details={"column": unit, "expected": "the randomisation unit", "given": "nothing"},
                )
            return [value if type(value) is str else str(value) for value in values]
        if ids:
            return list(ids)
        self._counter += 1
        return [f"{self._anonymous}.{self._counter}.{row}" for row in range(rows)]

    def _by_time(self, served: Served, columns: Columns, times: list[int], ids: Sequence[str], request_id: str, began: int) -> Answer:
        """Rows of several event times: one record each time, answered in the order of the request."""
        rows, now = len(times), time.time_ns() // 1000
        groups: dict[int, list[int]] = {}
        for row, at in enumerate(times):
            groups.setdefault(at, []).append(row)
        whole = Answer(
            predictions=[0.0] * rows,
            ids=[""] * rows,
            model_version=[0] * rows,
            variant=[""] * rows,
            generation=served.generation,
            row_ids=list(ids) or None,
        )
        for at, chosen in groups.items():
            subset = {name: [values[row] for row in chosen] for name, values in columns.items()}
            some = [ids[row] for row in chosen] if ids else ()
            part = self._predict(served, subset, len(chosen), at, now, some, request_id, began)
            for place, row in enumerate(chosen):
                whole.predictions[row], whole.ids[row] = part.predictions[place], part.ids[place]
                whole.model_version[row], whole.variant[row] = part.model_version[place], part.variant[place]
        return whole

    def _served(self, generation: Generation, name: str) -> Served:
        served = generation.endpoints.get(name)
        if served is None:
            there = ", ".join(generation.endpoints) or "none"
            raise TreadleError(
                f"There is no endpoint {name[:80]!r} in {generation.snapshot.environment}.",
                remedy=f"Endpoints served here: {there}.",
                code="not_found",
                details={"endpoint": name[:80]},
            )
        return served


def _count(columns: Columns, ids: Sequence[str], times: int | list[int] | None) -> int:
    """The number of rows, the same in every column."""
    lengths = set(map(len, columns.values()))
    if len(lengths) > 1:
        raise _unequal(columns)
    rows = lengths.pop() if lengths else 0
    if rows < 1:
        raise TreadleError("The request has no rows.", remedy='Send at least one: {"rows": [{"column": value, …}]}')
    for what, given in (("ids", ids), ("event_time", times)):
        if given and not isinstance(given, int) and len(given) != rows:
            raise TreadleError(
                f"The request has {rows} rows, but {len(given)} values in {what}.",
                remedy=f"Send {what} with one value a row, or leave it out.",
                details={"column": what, "expected": f"{rows} values", "given": f"{len(given)} values"},
            )
    return rows


def _unequal(columns: Columns) -> TreadleError:
    rows = len(next(iter(columns.values())))
    name = next(name for name, values in columns.items() if len(values) != rows)
    return TreadleError(
        f"The column {name} has {len(columns[name])} values, where the columns before it have {rows}.",
        remedy="Send one value a row in every column; null where there is none.",
        details={"column": name, "expected": f"{rows} values", "given": f"{len(columns[name])} values"},
    )


def _score(model: Model, columns: Columns, features: Columns, rows: int) -> list[float]:
    matrix = encode(model.signature, {**columns, **features} if features else columns)
    output = model.predictor.predict(matrix).tolist()
    for value in output:
        if not isfinite(value):
            raise TreadleError(
                f"Version {model.variant.model_version} of {model.bundle.model} predicted {value}; only finite numbers are served.",
                remedy="Roll back to the version before: treadle rollback ENDPOINT",
                code="internal",
            )
    assert len(output) == rows
    return output


def _encoded(entry: LogEntry) -> bytes:
    try:
        return _encode_entry(entry)
    except (OverflowError, UnicodeEncodeError, TypeError) as error:
        raise TreadleError(
            f"A value of the request cannot be recorded: {error}.",
            remedy="Send whole numbers of at most 64 bits, and text that is valid Unicode.",
        ) from error


def _check_extra(name: str, values: list[Any]) -> None:
    """Columns that no model knows are logged as they are; plain values only."""
    for value in values:
        if type(value) not in _SCALARS:
            raise TreadleError(
                f"The column {name} holds {type(value).__name__}; a column takes plain values: text, numbers, true, false or null.",
                remedy=f"Leave {name!r} out, or send plain values.",
                details={"column": name, "expected": "a plain value", "given": type(value).__name__},
            )


def _nothing_released(name: str) -> TreadleError:
    return TreadleError(
        f"The endpoint {name} has no released model yet.",
        remedy=f"Release one: treadle release start {name} VERSION",
        code="unavailable",
    )
