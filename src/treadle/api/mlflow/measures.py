"""Metrics, parameters and tags of runs in the protocol's words: what training scripts send all the time."""

import json
import re
from typing import Any

from msgspec import Struct

from treadle.api.mlflow import words
from treadle.api.mlflow.table import (
    MAX_MILLIS,
    Context,
    Int64,
    ProtocolError,
    Row,
    Tag,
    check_name,
    invalid,
    missing,
    nothing,
    required,
    within,
    writing,
    wrong_type,
)
from treadle.operations import tracking as ops
from treadle.records.errors import TreadleError
from treadle.records.told import measured
from treadle.records.tracking import Point

NAME, PARAM, TAG = 250, 6_000, 8_000
#: Most of each in a batch, and of all together.
BATCH = {"metrics": 1000, "params": 100, "tags": 100}
TOGETHER = 1000
#: Points of a history in one page, and where a chart asks for several runs.
PAGE, BULK, RUNS, INTERVAL = 25_000, 25_000, 100, 2500
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")


class Metric(Struct, frozen=True):
    """A measurement in a batch."""

    key: str = ""
    value: float | str | None = None
    timestamp: Int64 | None = None
    step: Int64 = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogMetric(Struct, frozen=True):
    """A measurement."""

    run_id: str = ""
    run_uuid: str = ""
    key: str = ""
    value: float | str | None = None
    timestamp: Int64 | None = None
    step: Int64 = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogParam(Struct, frozen=True):
    """A parameter, or a tag."""

    run_id: str = ""
    run_uuid: str = ""
    key: str = ""
    value: str = ""


class LogBatch(Struct, frozen=True):
    """Measurements, parameters and tags."""

    run_id: str = ""
    run_uuid: str = ""
    metrics: list[Metric] = []
    params: list[Tag] = []
    tags: list[Tag] = []


class DeleteTag(Struct, frozen=True):
    """A tag to remove."""

    run_id: str = ""
    run_uuid: str = ""
    key: str = ""


class History(Struct, frozen=True):
    """Which history."""

    run_id: str = ""
    run_uuid: str = ""
    metric_key: str = ""
    page_token: str = ""
    max_results: Int64 | None = None


class Bulk(Struct, frozen=True):
    """Histories of several runs."""

    run_id: list[str] = []
    metric_key: str | None = None
    max_results: Int64 = BULK


class Interval(Struct, frozen=True):
    """Thinned histories of several runs."""

    run_ids: list[str] = []
    metric_key: str = ""
    start_step: Int64 | None = None
    end_step: Int64 | None = None
    max_results: Int64 = INTERVAL


def run_of(request: Any) -> str:
    """The run that a request names, by either spelling."""
    run_id: str = request.run_id or request.run_uuid
    if not run_id:
        raise missing("run_id")
    return run_id


def point(metric: Metric | LogMetric, path: str = "") -> Point:
    """A measurement of a request, or the protocol's error; `path` is where it stands in it."""
    if not metric.key:
        raise missing(f"{path}key")
    value, timestamp = metric.value, metric.timestamp
    if value is None or value == "":
        raise missing(f"{path}value")
    if timestamp is None:
        raise missing(f"{path}timestamp")
    check_name(metric.key, f"{path}name", NAME, "Metric name")
    if type(value) is not float:
        value = _number(value, timestamp, path)
    if bool(metric.dataset_name) != bool(metric.dataset_digest):
        raise invalid("Both dataset_name and dataset_digest must be provided if one is provided")
    if not 0 <= timestamp <= MAX_MILLIS:
        bound = "of milliseconds, before the year 10000" if timestamp > 0 else ""
        raise invalid(
            f"Invalid value {timestamp} for parameter '{path}timestamp' supplied: metric '{metric.key}' (value={metric.value}). "
            f"Timestamp must be a nonnegative long (64-bit integer) {bound}"
        )
    return Point(
        key=metric.key,
        value=value,
        step=metric.step,
        time=timestamp * 1000,
        model_id=metric.model_id,
        dataset_name=metric.dataset_name,
        dataset_digest=metric.dataset_digest,
    )


_WORDS = ("nan", "infinity", "-infinity", "inf", "-inf")


def _number(value: float | str, timestamp: int, path: str) -> float | str:
    if isinstance(value, str) and value.lower() in _WORDS:
        return value
    try:
        return float(value)
    except ValueError:
        raise wrong_type(f"{path}value", json.dumps(str(value)[:80]), "str") from None
    except OverflowError:
        raise invalid(
            f"Invalid value {str(value)[:80]!r} for parameter '{path}value' supplied: (timestamp={timestamp}). "
            "Please specify value as a valid double (64-bit floating point)"
        ) from None


def log_metric(context: Context, request: LogMetric) -> tuple[Any, Any]:
    """`runs/log-metric`."""
    return ops.LogBatch(project=context.project, run_id=run_of(request), metrics=[point(request)]), nothing


def log_param(context: Context, request: LogParam) -> tuple[Any, Any]:
    """`runs/log-parameter`."""
    run_id = run_of(request)
    required(request, "key")
    check_name(request.key, "key", NAME, "Param key")
    return ops.LogBatch(project=context.project, run_id=run_id, params={request.key: _cut(request.value, PARAM, "value")}), nothing


def set_tag(context: Context, request: LogParam) -> tuple[Any, Any]:
    """`runs/set-tag`."""
    run_id = run_of(request)
    required(request, "key")
    check_name(request.key, "key", NAME)
    tags = _named({request.key: _cut(request.value, TAG, "value")})
    return ops.LogBatch(project=context.project, run_id=run_id, tags=tags), nothing


def _named(tags: dict[str, str]) -> dict[str, str]:
    """Tags without an empty name of the run, which keeps the one it has."""
    return tags if tags.get(words.NAME_TAG, "-") else {key: value for key, value in tags.items() if key != words.NAME_TAG}


def delete_tag(context: Context, request: DeleteTag) -> tuple[Any, Any]:
    """`runs/delete-tag`."""
    run_id = run_of(request)
    required(request, "key")
    return ops.LogBatch(project=context.project, run_id=run_id, remove_tags=[request.key]), nothing


def log_batch(context: Context, request: LogBatch) -> tuple[Any, Any]:
    """`runs/log-batch`."""
    run_id = run_of(request)
    if not _RUN_ID.fullmatch(run_id):
        raise invalid(f"Invalid value {json.dumps(run_id[:200])} for parameter 'run_id' supplied.")
    for name, most in BATCH.items():
        _check_batch(name, len(getattr(request, name)), most)
    together = len(request.metrics) + len(request.params) + len(request.tags)
    _check_batch("metrics, params, and tags", together, TOGETHER)
    metrics = [point(metric, f"metrics[{index}].") for index, metric in enumerate(request.metrics)]
    params = {}
    twice = []
    for index, param in enumerate(request.params):
        check_name(param.key, f"params[{index}].key", NAME, "Param key")
        if param.key in params:
            twice.append(param.key)
        params[param.key] = _cut(param.value, PARAM, f"params[{index}].value")
    if twice:
        raise invalid(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one param value per param key."
        )
    for index, tag in enumerate(request.tags):
        check_name(tag.key, f"tags[{index}].key", NAME)
    tags = {tag.key: _cut(tag.value, TAG, f"tags[{index}].value") for index, tag in enumerate(request.tags)}
    return ops.LogBatch(project=context.project, run_id=run_id, metrics=metrics, params=params, tags=_named(tags)), nothing


def _check_batch(name: str, given: int, most: int) -> None:
    if given > most:
        raise invalid(
            f"A batch logging request can contain at most {most} {name}. Got {given} {name}. "
            f"Please split up {name} across multiple requests and try again."
        )


def _cut(value: str, limit: int, parameter: str) -> str:
    """A value as the protocol keeps it: a long one is cut."""
    value = value[:limit]
    within(parameter, value, limit)
    return value


def changed(error: TreadleError) -> ProtocolError | None:
    """A parameter that has another value already, of a batch."""
    told = error.details.get("changed")
    if not told:
        return None
    run_id = error.details["run"]
    return invalid(f"Changing param values is not allowed. Params were already logged='{told}' for run ID='{run_id}'.")


def changed_one(error: TreadleError) -> ProtocolError | None:
    """A parameter that has another value already, logged by itself."""
    for told in error.details.get("changed", ()):
        return invalid(
            f"Changing param values is not allowed. Param with key='{told['key']}' was already logged with value='{told['old_value']}' "
            f"for run ID='{error.details['run']}'. Attempted logging new value '{told['new_value']}'."
        )
    return None


# ── histories ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _points(context: Context, key: str, run_ids: list[str], *, most: int = 0, limit: int | None = None, page: str | None = None) -> Any:
    """Points by run, and the token of the next page; without a limit all of them."""
    found: dict[str, list[Point]] = {run_id: [] for run_id in run_ids}
    while True:
        asked = ops.MetricHistory(
            project=context.project, key=key, run_ids=run_ids, most=most, limit=PAGE if limit is None else limit, page=page
        )
        try:
            part = context.call(asked)
        except TreadleError as error:
            if error.code == "not_found":
                return found, None
            raise
        for run_id, points in part.points.items():
            found[run_id].extend(points)
        page = part.page.next
        if page is None or limit is not None:
            return found, page


def history(context: Context, request: History) -> Any:
    """`metrics/get-history`."""
    run_id = run_of(request)
    required(request, "metric_key")
    if request.max_results is not None and request.max_results <= 0:
        raise invalid(f"Invalid value {request.max_results} for parameter 'max_results' supplied. It must be a positive integer.")
    if request.max_results is None and not request.page_token:
        return _whole(context, request.metric_key, run_id)
    found, page = _points(
        context, request.metric_key, [run_id], limit=min(request.max_results or PAGE, PAGE), page=request.page_token or None
    )
    answer: dict[str, Any] = {"metrics": measured(found[run_id])} if found[run_id] else {}
    if page:
        answer["next_page_token"] = page
    return answer


def _whole(context: Context, key: str, run_id: str) -> Any:
    """All of a history, which may be long: from columns, and not by a record a point."""
    found = context.call(ops.MetricColumns(project=context.project, run_id=run_id, key=key))
    points = zip(found.times, found.steps, found.values, strict=True)
    told = [{"key": key, "value": value, "timestamp": time // 1000, "step": step} for time, step, value in points]
    return {"metrics": told} if told else {}


def bulk(context: Context, request: Bulk) -> Any:
    """`metrics/get-history-bulk`."""
    if not request.run_id:
        raise invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(request.run_id) > RUNS:
        raise invalid(f"GetMetricHistoryBulk request cannot specify more than {RUNS} run_ids. Received {len(request.run_id)} run_ids.")
    if request.metric_key is None:
        raise invalid("GetMetricHistoryBulk request must specify a metric_key.")
    if request.max_results == 0:
        return {"metrics": []}
    limit = min(max(request.max_results, 1), BULK)
    found, _ = _points(context, request.metric_key, sorted(set(request.run_id)), limit=limit)
    points = [{**point, "run_id": run_id} for run_id in sorted(found) for point in measured(found[run_id])]
    return {"metrics": points[:limit]}


def interval(context: Context, request: Interval) -> Any:
    """`metrics/get-history-bulk-interval`: each run's points thinned out evenly."""
    required(request, "run_ids", "metric_key")
    if len(request.run_ids) > RUNS:
        raise invalid(f"GetMetricHistoryBulkInterval request must specify at most {RUNS} run_ids. Received {len(request.run_ids)} run_ids.")
    if not 1 <= request.max_results <= INTERVAL:
        raise invalid(f"max_results must be between 1 and {INTERVAL}.")
    start, end = request.start_step, request.end_step
    if (start is None) != (end is None):
        raise invalid("If either start step or end step are specified, both must be specified.")
    if start is not None and end is not None and start > end:
        raise invalid(f"end_step must be greater than start_step. Found start_step={start} and end_step={end}.")
    told: list[dict[str, Any]] = []
    for run_id in dict.fromkeys(request.run_ids):
        context.call(ops.GetTrackedRun(project=context.project, run_id=run_id))
        found = context.call(ops.MetricColumns(project=context.project, run_id=run_id, key=request.metric_key))
        points = zip(found.steps, found.times, found.values, strict=True)
        inside = sorted((p for p in points if start is None or end is None or start <= p[0] <= end), key=_rank)
        for step, time, value in (inside[i] for i in _sample(len(inside), request.max_results)):
            told.append({"key": request.metric_key, "value": value, "timestamp": time // 1000, "step": step, "run_id": run_id})
    return {"metrics": told} if told else {}


def _rank(point: tuple[int, int, float | str]) -> tuple[int, int, float, bool]:
    """The order of steps, and NaN as zero within one."""
    value = float(point[2])
    return point[0], point[1], 0.0 if value != value else value, value != value


def _sample(there: int, most: int) -> list[int]:
    """Which of so many points in a row are shown where there may be `most`: the first of each of as many equal parts, the longer parts
    in front, and the last of all in place of the last part's first.

    >>> _sample(10, 5), _sample(3, 5), _sample(7, 1)
    ([0, 2, 4, 6, 9], [0, 1, 2], [6])
    """
    if there <= most:
        return list(range(there))
    size, longer = divmod(there, most)
    return [part * size + min(part, longer) for part in range(most - 1)] + [there - 1]


ROWS = [
    writing("/runs/log-metric", LogMetric, log_metric),
    writing("/runs/log-parameter", LogParam, log_param, explain=changed_one),
    writing("/runs/log-batch", LogBatch, log_batch, explain=changed),
    writing("/runs/set-tag", LogParam, set_tag),
    writing("/runs/delete-tag", DeleteTag, delete_tag),
    Row("GET", "/metrics/get-history", History, history),
    Row("GET", "/metrics/get-history-bulk", Bulk, bulk),
    Row("GET", "/metrics/get-history-bulk-interval", Interval, interval),
]
