"""Statistics of recorded histories that noise does not fool: medians, Mann and Kendall's test for a trend.

A history is (step, value) by step. Standard library only: the same code judges a run where it is stored and where it is still going on.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

#: (step, value), by step.
History = Sequence[tuple[int, float]]
_BLOCKS = 40


def thinned(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """Evenly chosen points, at most so many, the ends kept.

    >>> thinned([(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)], 2)
    [(0, 1.0), (3, 4.0)]
    """
    if len(points) <= most:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (most - 1))] for i in range(most)]


def by_step(points: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """By step, the last of a step counting.

    >>> by_step([(2, 1.0), (1, 5.0), (2, 3.0)])
    [(1, 5.0), (2, 3.0)]
    """
    return sorted(dict(points).items())


def noise(values: Sequence[float]) -> float:
    """Standard deviation of what varies from point to point and is no trend: from the median absolute deviation of differences.

    >>> noise([0.0, 1.0, 2.0, 3.0])
    0.0
    """
    steps = [b - a for a, b in pairwise(values)]
    if not steps:
        return 0.0
    middle = median(steps)
    return 1.4826 * median(abs(s - middle) for s in steps) / math.sqrt(2)


def blocks(values: Sequence[float], most: int = _BLOCKS) -> list[float]:
    """Medians of as many stretches of equal length: shorter, and what neighbours share does not count twice."""
    count = min(most, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)] if count else []
    return [median(values[a:b]) for a, b in pairwise(edges)]


def trend(values: Sequence[float]) -> float:
    """Mann and Kendall's z (Mann 1945, Kendall 1975), ties corrected: above 2.5 rises, below -2.5 falls, by chance once in 160 each.

    >>> round(trend([1, 2, 3, 4, 5, 6, 7, 8]), 2), trend([1, 1, 1])
    (3.34, 0.0)
    """
    x = blocks(values)
    n = len(x)
    score = sum((b > a) - (b < a) for i, a in enumerate(x) for b in x[i + 1 :])
    ties = (x.count(v) for v in set(x))
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    if variance <= 0 or not score:
        return 0.0
    return (score - (1 if score > 0 else -1)) / math.sqrt(variance)


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Medians over `width` points to either side."""
    return [median(values[max(0, i - width) : i + width + 1]) for i in range(len(values))]
