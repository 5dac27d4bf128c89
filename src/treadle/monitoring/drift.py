"""Are inputs distributed as they were in training? The population stability index, with a threshold that keeps a false-alarm budget.

The usual threshold (0.1, 0.25) means another error rate for every sample size and number of bins. Without drift, PSI of n rows against m
reference rows in K bins is about (1/n + 1/m) · chi-squared with K - 1 degrees of freedom (Yurdakul 2018), for independent rows. Rows of
one day are not: the design effect, how many times more the bins' shares vary between days than independent rows would, is estimated
from the window's own days (Rao and Scott 1981), neighbouring days being alike (weights of Newey and West 1987, lags up to `LAGS`), and
the quantile taken from F with as many degrees of freedom as cells move independently (Rao and Scott's second order; Thomas and Rao
1987). Columns share the budget (Bonferroni). What differs significantly but by less than
`FLOOR` is no alarm: with enough rows everything differs.

A drift alarm is not a verdict on the model (temperatures in July are not those of January), so it retrains nothing by itself unless
the project asks for that.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray
from scipy.special import fdtri

from treadle.evaluation import profiles

#: Least PSI that is worth an alarm: "some change" by the usual rule of thumb (Siddiqi 2006).
FLOOR = 0.1
#: Over how many blocks weather and habits may persist.
LAGS = 3


class Bins(Struct, frozen=True, kw_only=True):
    """How a column is counted: numbers by the reference's quantiles, categories by name; the last cell is "missing".

    `reference` are the reference's counts by cell.
    """

    name: str
    edges: NDArray[Any] | None
    categories: tuple[str, ...]
    reference: NDArray[Any]


class Shift(Struct, frozen=True, kw_only=True):
    """How far a column's window is from the reference. `threshold` is what it exceeds with the given chance when nothing has changed."""

    column: str
    psi: float
    threshold: float
    design_effect: float
    rows: int

    @property
    def drifted(self) -> bool:
        """More than chance, and enough to matter."""
        return self.psi > max(self.threshold, FLOOR)


def bins_of(reference: profiles.Profile) -> dict[str, Bins]:
    """How to count each column of a reference profile; columns without a value in it are left out."""
    found = {}
    for name, sketch in reference.columns.items():
        if not sketch.known:
            continue
        counts, _ = profiles.cells(sketch, sketch)
        if sketch.kind == "number":
            at = [i / profiles.BINS for i in range(1, profiles.BINS)]
            edges = np.array(sorted(set(profiles.quantiles(sketch, at))), dtype=np.float32)
            found[name] = Bins(name=name, edges=edges, categories=(), reference=counts)
        else:
            found[name] = Bins(name=name, edges=None, categories=tuple(sorted(sketch.top)), reference=counts)
    return found


def count(bins: Bins, column: pl.Series) -> NDArray[Any]:
    """Rows of a column by cell; values of another kind than the reference's count as missing."""
    cells = len(bins.reference)
    counts = np.zeros(cells)
    if bins.edges is not None:
        values = column.cast(pl.Float64, strict=False).drop_nulls().drop_nans().to_numpy().astype(np.float32)
        counts[: cells - 1] = np.bincount(np.searchsorted(bins.edges, values, "left"), minlength=cells - 1)
    else:
        seen = column.drop_nulls().cast(pl.String).value_counts()
        index = {name: i for i, name in enumerate(bins.categories)}
        for value, number in seen.iter_rows():
            counts[index.get(value, cells - 2)] += number
    counts[cells - 1] = len(column) - counts[: cells - 1].sum()
    return counts


def psi(reference: NDArray[Any], window: NDArray[Any]) -> float:
    """Population stability index of counts by cell, smoothed by half a row a cell; 0 where either is empty."""
    if not reference.sum() or not window.sum():
        return 0.0
    r, w = _shares(reference), _shares(window)
    return float(np.sum((w - r) * np.log(w / r)))


def shift(bins: Bins, blocks: NDArray[Any], alpha: float) -> Shift | None:
    """Compare a window with the reference.

    Args:
        bins: the column's.
        blocks: counts, blocks × cells; blocks without rows do not count.
        alpha: chance of a false alarm for this column at this look.

    Returns:
        None with fewer than three blocks, from which no variation between days can be told.
    """
    blocks = blocks[blocks.sum(axis=1) > 0]
    if len(blocks) < 3:
        return None
    total = blocks.sum(axis=0)
    used = (total + bins.reference) > 0
    n, m, k = float(total.sum()), float(bins.reference.sum()), int(used.sum())
    value = psi(bins.reference[used], total[used])
    if k < 2:
        return Shift(column=bins.name, psi=value, threshold=0.0, design_effect=1.0, rows=int(n))
    effect, freedom = _design_effect(blocks[:, used])
    quantile = float(fdtri(freedom, freedom * (len(blocks) - 1), 1 - alpha))
    threshold = effect * (1 / n + 1 / m) * (k - 1) * quantile
    return Shift(column=bins.name, psi=value, threshold=float(threshold), design_effect=float(effect), rows=int(n))


def shifts(bins: Mapping[str, Bins], blocks: Mapping[str, NDArray[Any]], alpha: float) -> list[Shift]:
    """`shift` of every column, the chance `alpha` of a false alarm shared among them."""
    each = alpha / max(1, len(blocks))
    found = (shift(bins[name], counts, each) for name, counts in blocks.items())
    return [s for s in found if s is not None]


def _design_effect(blocks: NDArray[Any]) -> tuple[float, float]:
    """Mean generalised design effect (at least 1) of the cells' shares, blocks in order of time being clusters that may resemble their
    neighbours; and the degrees of freedom that are left when cells move together (Satterthwaite's, as in Rao and Scott's second order)."""
    n = blocks.sum()
    share = blocks.sum(axis=0) / n
    there = share > 0
    if there.sum() < 2:
        return 1.0, 1.0
    sizes = blocks.sum(axis=1, keepdims=True)
    residual = blocks[:, there] - sizes * share[there]
    count = len(blocks)
    scaled = residual / np.sqrt(share[there])
    products = scaled @ scaled.T
    alone = together = float(np.trace(products))
    if alone <= 0.0:
        return 1.0, float(there.sum() - 1)
    for lag in range(1, min(LAGS, count - 1) + 1):
        together += 2 * (1 - lag / (LAGS + 1)) * float(np.trace(products, offset=lag))
    variance = count / (count - 1) * max(alone, together) / n**2
    effect = variance / ((int(there.sum()) - 1) / n)
    return max(1.0, float(effect)), max(1.0, float(alone**2 / np.square(products).sum()))


def _shares(counts: NDArray[Any]) -> NDArray[Any]:
    return (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
