"""Rows in folds, for measuring a model several times on rows it has not seen. Pure: the same rows and seed give the same folds.

Two ways: `at_random`, each row tested once; `forward`, along time, each fold tested on what comes after everything it was trained on.
Rows of one group (a customer, an aircraft) never stand on both sides.
"""

import datetime as dt
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from treadle.data.splits import time_column
from treadle.records.clock import seconds
from treadle.records.errors import TreadleError


class Fold(NamedTuple):
    """Positions of rows, in their order."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def at_random(frame: pl.DataFrame, *, folds: int, seed: int = 0, group: str | None = None, stratify: str | None = None) -> list[Fold]:
    """Each row, or each value of `group` with all its rows, is tested in one fold.

    Args:
        folds: how many, 2 or more.
        seed: of the shuffle.
        group: a column whose values stay together.
        stratify: a column whose values are spread evenly over the folds; not with `group`.

    Raises:
        TreadleError: `bad_data`: fewer rows or groups than folds.
    """
    _check(folds)
    units = _units(frame, group)
    count = int(units.max()) + 1 if len(units) else 0
    if count < folds:
        what = f"values of {group!r}" if group else "rows"
        raise TreadleError(f"{count} {what} do not make {folds} folds.", remedy="Ask for fewer folds, or bring more rows.", code="bad_data")
    order = np.random.default_rng(seed).permutation(count)
    if stratify is not None and group is None:
        order = order[np.argsort(_units(frame, stratify)[order], kind="stable")]
    part = np.empty(count, dtype=np.int64)
    part[order] = np.arange(count) % folds
    of_row = part[units]
    return [Fold(np.flatnonzero(of_row != i), np.flatnonzero(of_row == i)) for i in range(folds)]


def forward(
    frame: pl.DataFrame, *, folds: int, time: str | None = None, group: str | None = None, gap: str | int | dt.timedelta | None = None
) -> list[Fold]:
    """Forward chaining: the rows along time in `folds` + 1 parts of about the same size; fold i is tested on part i + 1 and trained on
    what came before it.

    Rows of one moment stand in one part. A row is trained on only if it is older than the test's first by more than `gap`: give the time
    it takes until labels are known. Rows of a group that is tested are not trained on.

    Raises:
        TreadleError: `bad_data`: no time column, missing times, or a fold with nothing to train or test on.
    """
    _check(folds)
    column = frame[time_column(frame, time)]
    if column.null_count():
        raise TreadleError(
            f"{column.null_count()} of {len(column)} rows have no {column.name}.",
            remedy="Leave them out: rows.drop_nulls(…)",
            code="bad_data",
        )
    temporal = column.dtype.is_temporal()
    if gap is not None and not temporal:
        raise TreadleError(f"A gap of {gap} means nothing in a column of {column.dtype}.", remedy="Make the time column a datetime.")
    moments = (column.cast(pl.Datetime("us")).to_physical() if temporal else column).to_numpy()
    ordered = np.sort(moments)
    edges = [ordered[round(i * len(ordered) / (folds + 1))] for i in range(1, folds + 1)] if len(ordered) > folds else []
    wait = seconds(gap) * 1_000_000 if gap else 0
    units = _units(frame, group) if group else None
    found: list[Fold] = []
    for i, edge in enumerate(edges):
        until = edges[i + 1] if i + 1 < len(edges) else None
        test = np.flatnonzero((moments >= edge) & (moments < until if until is not None else True))
        train = np.flatnonzero(moments < edge - wait)
        if units is not None:
            train = train[~np.isin(units[train], np.unique(units[test]))]
        found.append(Fold(train, test))
    empty = [i for i, fold in enumerate(found) if not len(fold.train) or not len(fold.test)]
    if empty or not found:
        raise TreadleError(
            f"{len(frame)} rows along {column.name} leave nothing to train or to test on in {len(empty) or folds} of {folds} folds.",
            remedy="Ask for fewer folds or a shorter gap, or bring rows of a longer time.",
            code="bad_data",
        )
    return found


def _units(frame: pl.DataFrame, group: str | None) -> NDArray[np.int64]:
    """The number of each row's group, in the order of first sight; of the row itself without one. Missing groups are one."""
    if group is None:
        return np.arange(frame.height)
    if group not in frame.columns:
        raise TreadleError(
            f"The rows have no column {group!r} to group by.", remedy=f"They have: {', '.join(frame.columns[:20])}.", code="bad_data"
        )
    values = frame.get_column(group)
    known = pl.DataFrame({"value": values.unique(maintain_order=True)}).with_row_index("unit")
    joined = pl.DataFrame({"value": values}).join(known, on="value", how="left", nulls_equal=True, maintain_order="left")
    return joined["unit"].to_numpy().astype(np.int64)


def _check(folds: int) -> None:
    if folds < 2:
        raise TreadleError(f"{folds} folds are none.", remedy="Ask for 2 or more; 5 is usual.")
