"""Words for gates in a project: each makes a `Gate` record."""

from collections.abc import Sequence

from treadle.records.definitions import Gate
from treadle.records.errors import TreadleError


def no_worse(metric: str, *, by: float = 0.0) -> Gate:
    """Worse than the champion on the same rows by no more than `by`, in the metric's own unit. Passes where there is no champion.

    >>> no_worse("brier", by=0.002).kind
    'no_worse'
    """
    return Gate(kind="no_worse", metric=metric, by=_positive("by", by))


def at_least(metric: str, bound: float) -> Gate:
    """The metric is `bound` or more."""
    return Gate(kind="at_least", metric=metric, bound=float(bound))


def at_most(metric: str, bound: float) -> Gate:
    """The metric is `bound` or less."""
    return Gate(kind="at_most", metric=metric, bound=float(bound))


def slice_floor(metric: str, bound: float, *, slices: Sequence[str] = (), min_rows: int = 200) -> Gate:
    """At least `bound` (at most, where lower is better) on every slice with `min_rows` rows, by the report's columns or those named."""
    return Gate(kind="slice_floor", metric=metric, bound=float(bound), slices=tuple(slices), min_rows=int(_positive("min_rows", min_rows)))


def beats_baseline(metric: str, *, by: float = 0.0) -> Gate:
    """Better than the run's baseline by at least `by`, and better at all."""
    return Gate(kind="beats_baseline", metric=metric, by=_positive("by", by))


def _positive(name: str, value: float) -> float:
    if value < 0:
        raise TreadleError(f"{name}={value} is negative.", remedy=f"Give {name} as 0 or more.", code="bad_definition")
    return float(value)
