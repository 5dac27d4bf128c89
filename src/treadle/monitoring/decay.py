"""Is the champion worse than when it was evaluated? An estimate with a standard error that counts days, not rows.

Requests of one block (a day) share weather and crowds, so the blocks are the observations: every estimate here is a mean of per-row
influences, and its variance comes from the blocks' sums (Liang and Zeger 1986; for the AUC the placements of DeLong, DeLong and
Clarke-Pearson 1988, summed by cluster as in Obuchowski 1997).

A changed base rate alone is no decay. A Brier score or log loss of the same skill scales with the uncertainty of the outcome, so what
was seen in the evaluation is carried to today's base rate p before it is compared: expected = reference · u(p)/u(p_ref) with
u = p(1-p) for Brier (Murphy 1973) and the entropy for log loss. The AUC does not depend on the base rate. What a wrong base rate
in the predictions does to the Brier score stays in the comparison, and shows as a calibration alarm besides.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.special import stdtr

Array = NDArray[Any]
_TINY = 1e-12


class Estimate(Struct, frozen=True, kw_only=True):
    """A difference from what is expected (positive = worse), its standard error over blocks, and the one-sided p-value of "not worse"."""

    value: float  # of the metric itself
    expected: float
    worse: float
    error: float
    blocks: int
    p_value: float

    def decayed(self, by: float, alpha: float) -> bool:
        """Worse by at least `by`, and more than chance at level `alpha`."""
        return self.worse >= by and self.p_value <= alpha


def estimate(
    metric: str,
    truth: Array,
    score: Array,
    block: Array,
    *,
    reference: float,
    reference_rate: float | None = None,
    direction: int = -1,
    function: Callable[[Array, Array], float] | None = None,
) -> Estimate | None:
    """Compare a metric over a window with the champion's evaluation.

    Args:
        metric: `brier`, `log_loss`, `roc_auc`, or another with its `function` and `direction` (+1: higher is better).
        truth, score: rows; truth 0 or 1 (or any number for other metrics).
        block: the block of each row, any integers.
        reference: the metric in the evaluation; `reference_rate` the mean outcome there, None where it is not known.

    Returns:
        None where there are fewer than two blocks, or the metric is not defined (one class only).
    """
    _, index = np.unique(block, return_inverse=True)
    count = int(index.max()) + 1 if len(index) else 0
    if count < 2:
        return None
    if metric in ("brier", "log_loss"):
        found = _loss(metric, truth, score, reference, reference_rate)
    elif metric == "roc_auc":
        found = _auc(truth, score, reference)
    elif function is not None:
        return _jackknife(function, truth, score, index, count, reference, direction)
    else:
        return None
    if found is None:
        return None
    value, expected, influence = found
    worse = (expected - value) if metric == "roc_auc" else (value - expected)
    return _judged(value, expected, worse, clustered_error(influence, index, count), count)


def clustered_error(influence: Array, index: Array, count: int) -> float:
    """Standard error of the mean of per-row influences (centred), rows being independent between blocks only."""
    sums = np.bincount(index, weights=influence, minlength=count)
    return float(np.sqrt(count / (count - 1) * np.square(sums).sum()) / len(influence))


def one_sided(statistic: float, error: float, blocks: int) -> float:
    """P-value of "at most zero" by Student's t with blocks - 1 degrees of freedom."""
    if error <= _TINY:
        return 0.0 if statistic > _TINY else 1.0
    return float(1.0 - stdtr(blocks - 1, statistic / error))


def auc(truth: Array, score: Array) -> float | None:
    """Area under the ROC curve, ties counting half; None with one class only."""
    found = _placements(truth, score)
    return None if found is None else float(found[1].mean())


def _loss(metric: str, y: Array, p: Array, reference: float, rate: float | None) -> tuple[float, float, Array]:
    mean = float(y.mean())
    if metric == "brier":
        loss = np.square(p - y)
        uncertainty, slope = mean * (1 - mean), 1 - 2 * mean
        before = None if rate is None else rate * (1 - rate)
    else:
        q = np.clip(p, 1e-15, 1 - 1e-15)
        loss = -(y * np.log(q) + (1 - y) * np.log1p(-q))
        inner = min(max(mean, _TINY), 1 - _TINY)
        uncertainty = -(inner * np.log(inner) + (1 - inner) * np.log1p(-inner))
        slope = float(np.log1p(-inner) - np.log(inner))
        before = None if rate is None or not 0 < rate < 1 else float(-(rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))
    value = float(loss.mean())
    if not before:
        return value, reference, loss - value
    scale = reference / before
    return value, float(scale * uncertainty), (loss - value) - scale * slope * (y - mean)


def _auc(y: Array, p: Array, reference: float) -> tuple[float, float, Array] | None:
    found = _placements(y, p)
    if found is None:
        return None
    positive, of_positive, of_negative = found
    value = float(of_positive.mean())
    influence = np.empty(len(y))
    influence[positive] = (of_positive - value) * (len(y) / len(of_positive))
    influence[~positive] = (of_negative - value) * (len(y) / len(of_negative))
    return value, reference, influence


def _placements(y: Array, p: Array) -> tuple[Array, Array, Array] | None:
    """For each positive the share of negatives below it, for each negative the share of positives above it."""
    positive = y > 0.5
    high, low = np.sort(p[positive]), np.sort(p[~positive])
    if not len(high) or not len(low):
        return None
    at, above = p[positive], p[~positive]
    of_positive = (np.searchsorted(low, at, "left") + np.searchsorted(low, at, "right")) / (2 * len(low))
    of_negative = 1 - (np.searchsorted(high, above, "left") + np.searchsorted(high, above, "right")) / (2 * len(high))
    return positive, of_positive, of_negative


def _jackknife(
    function: Callable[[Array, Array], float], y: Array, p: Array, index: Array, count: int, reference: float, direction: int
) -> Estimate:
    """Any metric: its error by leaving out one block at a time (Quenouille 1949, Tukey 1958)."""
    value = float(function(y, p))
    left = np.array([float(function(y[index != b], p[index != b])) for b in range(count)])
    error = float(np.sqrt((count - 1) / count * np.square(left - left.mean()).sum()))
    worse = direction * (reference - value)
    return _judged(value, reference, worse, error, count)


def _judged(value: float, expected: float, worse: float, error: float, blocks: int) -> Estimate:
    return Estimate(value=value, expected=expected, worse=worse, error=error, blocks=blocks, p_value=one_sided(worse, error, blocks))
