"""A profile of a table: content and structure of each column, computed once when a version is made.

Whole tables, exact: quantiles and counts of the rows as they are. (Windows of predictions use mergeable sketches, in `evaluation` and
`monitoring`.) The bins of a column are its distinct deciles with their true shares, so that comparing rows with a profile is not
fooled by ties, such as a column that is zero nine times out of ten.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from treadle.records.data import ColumnProfile, TableProfile
from treadle.records.definitions import Column

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_DECILES = tuple(i / 10 for i in range(1, 10))
TOP = 50


def profile(frame: pl.DataFrame, columns: Sequence[Column]) -> TableProfile:
    """The profile of a frame's columns; those it lacks are left out."""
    return TableProfile(rows=frame.height, columns=tuple(_column(frame.get_column(c.name), c) for c in columns if c.name in frame.columns))


def _column(series: pl.Series, column: Column) -> ColumnProfile:
    if series.dtype.is_float():
        series = series.fill_nan(None)
    present = series.drop_nulls()
    facts: dict[str, Any] = {"name": column.name, "dtype": column.dtype, "rows": len(series), "missing": series.null_count()}
    if not len(present):
        return ColumnProfile(**facts, distinct=0)
    facts["distinct"] = present.n_unique()
    if column.dtype in ("string", "bool"):
        counts = present.cast(pl.String).value_counts(name="n").sort(["n", column.name], descending=[True, False]).head(TOP)
        top = tuple((str(value), int(n)) for value, n in counts.iter_rows())
        ends: dict[str, Any] = {"minimum": str(present.min()), "maximum": str(present.max())} if column.dtype == "string" else {}
        return ColumnProfile(**facts, **ends, top=top)
    if column.dtype in ("datetime", "date"):
        return ColumnProfile(**facts, minimum=str(present.min()), maximum=str(present.max()))
    numbers = present.cast(pl.Float64).sort()
    values = numbers.to_numpy()
    finite = values[np.isfinite(values)]
    edges = np.unique([float(values[int(q * (len(values) - 1))]) for q in _DECILES])
    return ColumnProfile(
        **facts,
        minimum=float(values[0]),
        maximum=float(values[-1]),
        mean=float(finite.mean()) if len(finite) else None,
        std=float(finite.std(ddof=1)) if len(finite) > 1 else None,
        quantiles=tuple(float(values[int(q * (len(values) - 1))]) for q in QUANTILES),
        edges=tuple(float(e) for e in edges),
        shares=tuple(float(s) for s in shares(values, edges)),
    )


def shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Shares of values per bin `(…, e0], (e0, e1], …, (en, …)`: float64, one longer than the edges."""
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return counts / max(len(values), 1)
