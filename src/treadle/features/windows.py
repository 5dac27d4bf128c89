"""Sawtooth windows over a table: for each row, aggregates of the events known at its moment.

A window's value at T covers `floor((T - over) / hop) * hop <= time <= T`, both ends inclusive. Per column one running sum stands over the
as-of index, and each window is the difference of two places in it: no loop over keys, and no difference whether events came late.
The arithmetic is that of `online.windows` (integers and fixed point), so what this gives for a table and what the online reader
gives for one key agree bit for bit.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from treadle.features.asof import AsofIndex
from treadle.online.windows import SECOND, fixed_array, quotient
from treadle.records.definitions import Window
from treadle.records.errors import TreadleError


def window_features(
    events: pl.DataFrame, index: AsofIndex, codes: np.ndarray, moments: np.ndarray, windows: Mapping[str, Window]
) -> list[pl.Series]:
    """One column a window, one value a question.

    Args:
        events: the table that `index` was made from.
        codes: keys of the questions, from `index.codes`; -1 has no events.
        moments: int64 microseconds since 1970 UTC.
        windows: name → window; columns may be integers, bools or floats.

    Returns:
        Float64 for `mean` (null over no values) and `sum` (0.0), Int64 for `count` (0). Nulls of the column, NaN included, are not counted.

    Raises:
        TreadleError: `bad_data`: a column is missing or no number.
    """
    end = index.until(codes, moments)
    starts: dict[tuple[int, int], np.ndarray] = {}
    sums: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
    result: list[pl.Series] = []
    known = codes >= 0
    for name, window in windows.items():
        span = (window.over_s, window.hop_s)
        if span not in starts:
            hop = window.hop_s * SECOND
            starts[span] = index.until(codes, (moments - window.over_s * SECOND) // hop * hop, inclusive=False)
        if window.column not in sums:
            sums[window.column] = _running(events, index, window.column)
        total, count, scale = sums[window.column]
        start = starts[span]
        number = np.where(known, count[end] - count[start], 0)
        if window.aggregate == "count":
            result.append(pl.Series(name, number))
            continue
        amount = np.where(known, total[end] - total[start], 0)
        if window.aggregate == "sum":
            result.append(pl.Series(name, quotient(amount, np.full(len(amount), scale, dtype=np.int64))))
        else:
            mean = pl.Series(name, quotient(amount, number * scale))
            result.append(mean.set(pl.Series(number == 0), None))
    return result


def _running(events: pl.DataFrame, index: AsofIndex, column: str) -> tuple[np.ndarray, np.ndarray, int]:
    """(running sum, running count, scale) of a column in index order, each one longer than the index."""
    if column not in events.columns:
        raise TreadleError(
            f"A window aggregates {column!r}, which its source lacks.",
            remedy=f"The source has {', '.join(events.columns[:20])}.",
            code="bad_data",
            details={"column": column},
        )
    series = events.get_column(column)
    if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null)):
        raise TreadleError(
            f"A window aggregates {column!r}, which is {series.dtype} and cannot be added.",
            remedy="Aggregate a number or a boolean, or derive one before the rows are appended.",
            code="bad_data",
            details={"column": column, "expected": "a number or boolean", "given": str(series.dtype)},
        )
    present = series.is_not_null()
    if series.dtype.is_float():
        present &= series.is_not_nan().fill_null(False)
        filled = series.cast(pl.Float64).fill_null(0.0)
    else:
        filled = series.cast(pl.Int64).fill_null(0)
    there = present.to_numpy()[index.order]
    values, scale = fixed_array(filled.to_numpy()[index.order], there)
    total = np.zeros(len(values) + 1, dtype=np.int64)
    count = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=total[1:])
    np.cumsum(there, out=count[1:])
    return total, count, scale
