"""A report: one or more models measured on the same held-out rows, over all of them and slice by slice.

A slice is a value of a column: a carrier, an airport. A model can be good on the whole and useless on one of them, which is what slices are
for. Numbers with many values are cut at their quartiles. Pure; `packaging.steps.evaluate` brings the scores.
"""

import datetime as dt
from collections.abc import Sequence

import numpy as np
import polars as pl

from treadle.evaluation.metrics import Array, Function, MetricKind, find, measure
from treadle.records.clock import utc
from treadle.records.errors import TreadleError
from treadle.records.models import Report, SliceMetrics

#: Values of a column that become slices, those with the most rows first.
MOST_VALUES = 100
_FEW = 50


def report(  # noqa: PLR0913  (three models and what they are measured on)
    truth: Array,
    scores: Array,
    frame: pl.DataFrame,
    *,
    metrics: Sequence[str | Function] = ("roc_auc", "brier"),
    slices: Sequence[str] = (),
    champion: Array | None = None,
    champion_version: int | None = None,
    champion_until: dt.datetime | None = None,
    champion_as_judged: bool = False,
    baseline: Array | None = None,
    time: str | None = None,
    test_digest: str = "",
) -> Report:
    """Measure scores against truth.

    Args:
        truth: outcomes, float64; 0 or 1 for classification.
        scores: the candidate's, one a row.
        frame: the same rows, with the columns that `slices` names.
        metrics: names of the table, or functions of your own.
        slices: columns to slice by.
        champion: the champion's scores of the same rows.
        champion_version: its number.
        champion_until: the newest row it learned from.
        champion_as_judged: it was scored as it was before its refit.
        baseline: the baseline's scores of the same rows.
        time: a datetime column; its range is recorded.
        test_digest: what the rows are known by.

    Raises:
        TreadleError: `bad_data` for no rows, unequal lengths, scores that are no finite numbers, or a slice column that is absent.
    """
    for who, given in (("candidate", scores), ("champion", champion), ("baseline", baseline)):
        if given is not None and (len(given) != len(truth) or not np.isfinite(given).all()):
            raise TreadleError(
                f"The {who}'s scores are {len(given)} for {len(truth)} rows, or not all finite.",
                remedy="Score every test row with the model that was fitted.",
                code="bad_data",
            )
    if not len(truth) or len(frame) != len(truth):
        raise TreadleError(
            f"There are {len(truth)} outcomes for {len(frame)} test rows.",
            remedy="Check the split: it left nothing to test on.",
            code="bad_data",
        )
    kinds = [find(name) for name in metrics]
    return Report(
        rows=len(truth),
        metrics=measure(truth, scores, kinds),
        slices=tuple(found for column in slices for found in by_slice(truth, scores, frame, column, kinds)),
        champion=None if champion is None else measure(truth, champion, kinds),
        champion_version=champion_version,
        champion_until=champion_until,
        champion_as_judged=champion_as_judged,
        baseline=None if baseline is None else measure(truth, baseline, kinds),
        test_digest=test_digest,
        test_from=edge(frame, time, first=True),
        test_until=edge(frame, time, first=False),
        directions={kind.name: kind.direction for kind, given in zip(kinds, metrics, strict=True) if not isinstance(given, str)},
    )


def by_slice(truth: Array, scores: Array, frame: pl.DataFrame, column: str, kinds: Sequence[MetricKind]) -> list[SliceMetrics]:
    """Metrics by the values of a column, most rows first; missing values are the slice `null`.

    Raises:
        TreadleError: `bad_data` where the frame lacks the column.
    """
    if column not in frame.columns:
        raise TreadleError(
            f"The test rows have no column {column!r} to slice by.", remedy=f"Slice by one of {', '.join(frame.columns)}.", code="bad_data"
        )
    labels = _labels(frame[column])
    counts = labels.value_counts(sort=True).head(MOST_VALUES)
    rows = pl.DataFrame({"label": labels}).with_row_index("row").group_by("label").agg("row")
    where = dict(zip(rows["label"].to_list(), rows["row"].to_list(), strict=True))
    order = sorted(zip(counts[labels.name].to_list(), counts["count"].to_list(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    found: list[SliceMetrics] = []
    for value, count in order:
        index = np.asarray(where[value], dtype=np.int64)
        found.append(SliceMetrics(column=column, value=value, rows=count, metrics=measure(truth[index], scores[index], kinds)))
    return found


def _labels(column: pl.Series) -> pl.Series:
    """Each row's slice as text."""
    if column.dtype.is_numeric() and column.n_unique() > _FEW:
        edges = [column.quantile(q) for q in (0.25, 0.5, 0.75)]
        low, middle, high = (float(e) if e is not None else 0.0 for e in edges)
        names = [f"≤ {low:g}", f"≤ {middle:g}", f"≤ {high:g}", f"> {high:g}"]
        which = np.searchsorted([low, middle, high], column.fill_null(0).to_numpy(), side="left")
        named = pl.Series(column.name, [names[i] for i in which], dtype=pl.String)
        return named.zip_with(column.is_not_null(), pl.repeat("null", len(column), eager=True, dtype=pl.String))
    return column.cast(pl.String).fill_null("null")


def edge(frame: pl.DataFrame, time: str | None, *, first: bool) -> dt.datetime | None:
    """The first or the last value of a time column, UTC; None where there is no such column."""
    if time is None or time not in frame.columns:
        return None
    value = frame[time].min() if first else frame[time].max()
    return utc(value) if isinstance(value, dt.datetime) else None
