"""Metrics: one table from name to function and direction.

A metric takes truth and scores (float64, one a row) and gives a number, NaN where it is not defined (ROC AUC with one class). Those of
classification take truth 0 or 1 and the probability of 1; labels are cut at 0.5. They are plain NumPy, because importing scikit-learn for a
ratio costs a second, and equal scikit-learn's (a test holds them together).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from treadle.records.errors import TreadleError

Array = NDArray[np.float64]
Function = Callable[[Array, Array], float]
_BINS = 10


class MetricKind(Struct, frozen=True, kw_only=True):
    """A metric: its function, and what is better: 1 higher, -1 lower, 0 neither."""

    name: str
    function: Function
    direction: int


def metric(*, better: str) -> Callable[[Function], Function]:
    """Mark a function of (truth, scores) as a metric of your own; `better` is `higher`, `lower` or `neither`.

    >>> @metric(better="lower")
    ... def largest_miss(truth, scores):
    ...     return float(abs(truth - scores).max())
    >>> find(largest_miss).direction
    -1
    """
    directions = {"higher": 1, "lower": -1, "neither": 0}
    if better not in directions:
        raise TreadleError(
            f"better={better!r} says no direction.", remedy="Write better='higher', 'lower' or 'neither'.", code="bad_definition"
        )

    def mark(function: Function) -> Function:
        function.__direction__ = directions[better]  # type: ignore[attr-defined]
        return function

    return mark


def roc_auc(truth: Array, scores: Array) -> float:
    """Area under the ROC curve, ties counted half (Mann-Whitney U over n1·n0; Hanley & McNeil 1982). NaN with one class."""
    positive = truth > 0.5
    ones = int(positive.sum())
    zeros = len(truth) - ones
    if not ones or not zeros:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2.0)[inverse]  # average rank of each tie
    return float((ranks[positive].sum() - ones * (ones + 1) / 2.0) / (ones * zeros))


def average_precision(truth: Array, scores: Array) -> float:
    """Sum of precision over steps of recall, without interpolation. NaN without a positive."""
    total = float((truth > 0.5).sum())
    if not total:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits, ranked = np.cumsum(truth[order] > 0.5), scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    precision, recall = hits[last] / (last + 1), hits[last] / total
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def brier(truth: Array, scores: Array) -> float:
    """Mean squared difference of probability and outcome (Brier 1950)."""
    return float(np.mean((scores - truth) ** 2))


def brier_skill(truth: Array, scores: Array) -> float:
    """1 - Brier / Brier of always saying the base rate; 0 is no better than that. NaN with one class."""
    base = float(np.mean((truth.mean() - truth) ** 2))
    return 1 - brier(truth, scores) / base if base else float("nan")


def log_loss(truth: Array, scores: Array) -> float:
    """Mean negative log likelihood; probabilities clipped at the machine epsilon, as scikit-learn does."""
    epsilon = np.finfo(np.float64).eps
    p = np.clip(scores, epsilon, 1 - epsilon)
    return float(-np.mean(truth * np.log(p) + (1 - truth) * np.log1p(-p)))


def _counts(truth: Array, scores: Array) -> tuple[int, int, int, int]:
    said, meant = scores >= 0.5, truth > 0.5
    hit = int((said & meant).sum())
    return hit, int(said.sum()) - hit, int(meant.sum()) - hit, int((~said & ~meant).sum())


def accuracy(truth: Array, scores: Array) -> float:
    """Share of labels that are right."""
    hit, _, _, correct_no = _counts(truth, scores)
    return (hit + correct_no) / len(truth)


def precision(truth: Array, scores: Array) -> float:
    """Share of those called 1 that are 1; NaN where none is called so."""
    hit, false, _, _ = _counts(truth, scores)
    return hit / (hit + false) if hit + false else float("nan")


def recall(truth: Array, scores: Array) -> float:
    """Share of the ones that are called so; NaN where there is none."""
    hit, _, missed, _ = _counts(truth, scores)
    return hit / (hit + missed) if hit + missed else float("nan")


def f1(truth: Array, scores: Array) -> float:
    """Harmonic mean of precision and recall; NaN where there is neither a one nor a call of one."""
    hit, false, missed, _ = _counts(truth, scores)
    return 2 * hit / (2 * hit + false + missed) if hit + false + missed else float("nan")


def mean_predicted(truth: Array, scores: Array) -> float:
    """Mean score."""
    return float(np.mean(scores))


def mean_observed(truth: Array, scores: Array) -> float:
    """Mean outcome."""
    return float(np.mean(truth))


def calibration_gap(truth: Array, scores: Array) -> float:
    """Calibration in the large: |mean score - mean outcome|."""
    return abs(float(np.mean(scores)) - float(np.mean(truth)))


def calibration_error(truth: Array, scores: Array) -> float:
    """Expected calibration error over ten bins of equal width, weighted by rows (Naeini et al. 2015)."""
    which = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1).clip(min=0)
    gaps = np.bincount(which, weights=scores - truth, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def rmse(truth: Array, scores: Array) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.mean((scores - truth) ** 2)))


def mae(truth: Array, scores: Array) -> float:
    """Mean absolute difference."""
    return float(np.mean(np.abs(scores - truth)))


def r2(truth: Array, scores: Array) -> float:
    """Share of variance explained; NaN where the truth does not vary."""
    spread = float(np.sum((truth - truth.mean()) ** 2))
    return 1 - float(np.sum((truth - scores) ** 2)) / spread if spread else float("nan")


_HIGHER = (roc_auc, average_precision, brier_skill, accuracy, precision, recall, f1, r2)
_LOWER = (brier, log_loss, calibration_gap, calibration_error, rmse, mae)
_NEITHER = (mean_predicted, mean_observed)

#: name → metric.
METRICS: Mapping[str, MetricKind] = {
    function.__name__: MetricKind(name=function.__name__, function=function, direction=direction)
    for direction, functions in ((1, _HIGHER), (-1, _LOWER), (0, _NEITHER))
    for function in functions
}


def find(named: str | Function) -> MetricKind:
    """The metric of a name, or of a function of your own marked by `@metric` (unmarked: neither direction).

    Raises:
        TreadleError: `bad_definition` for a name that is none.
    """
    if not isinstance(named, str):
        return MetricKind(name=named.__name__, function=named, direction=getattr(named, "__direction__", 0))
    if named not in METRICS:
        raise TreadleError(
            f"{named!r} is no metric.",
            remedy=f"Use one of {', '.join(METRICS)}, or give a function of (truth, scores) marked by @metric(better=...).",
            code="bad_definition",
        )
    return METRICS[named]


def measure(truth: Array, scores: Array, metrics: Sequence[MetricKind]) -> dict[str, float]:
    """Name → value; a metric that is not defined on these rows is left out."""
    if not len(truth):
        return {}
    found = {kind.name: float(kind.function(truth, scores)) for kind in metrics}
    return {name: value for name, value in found.items() if np.isfinite(value)}
