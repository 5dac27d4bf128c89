"""The algebra of sawtooth windows: exact sums over `floor((T - over) / hop) * hop <= time <= T`.

A float sum depends on the order of its terms, so a stream and a batch could never agree on it. Here values are added as integers:
whole numbers and bools as they are, floats as fixed-point millionths (`round(value * 1e6)`, half to even: a float counts to six
decimals). Integer sums are the same in any order, so late and shuffled events give the same bits as a sorted table, and a mean is
one correctly rounded quotient of two integers. `features.windows` does this for a table, `online.reader` for one key at a time.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from treadle.records.definitions import FeatureView, Window
from treadle.records.errors import TreadleError

#: Millionths: the fixed point of float values.
SCALE = 1_000_000
#: Microseconds in a second.
SECOND = 1_000_000
_EXACT = 2**53
_LARGEST = 2**63 / SCALE


def start_of(window: Window, at_us: int) -> int:
    """The first microsecond (since 1970 UTC) that a window at `at_us` covers.

    >>> start_of(Window(column="late", aggregate="mean", over_s=3600, hop_s=60), 7_230_000_000) // SECOND
    3600
    """
    hop = window.hop_s * SECOND
    return (at_us - window.over_s * SECOND) // hop * hop


def reach(view: FeatureView) -> int:
    """Microseconds before T that the longest window of a view can reach."""
    return max(((w.over_s + w.hop_s) * SECOND for w in view.windows.values()), default=0)


def columns_of(view: FeatureView) -> tuple[str, ...]:
    """The source columns that the windows of a view aggregate, sorted."""
    return tuple(sorted({w.column for w in view.windows.values()}))


def fixed(value: Any) -> int | None:
    """A value in millionths; None for null and NaN.

    Raises:
        TreadleError: `bad_data`: no number, infinite, or beyond 9.2e12.
    """
    if value is None:
        return None
    if isinstance(value, int):
        return value * SCALE
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if abs(value) < _LARGEST:
            return round(value * SCALE)
    raise _not_a_number(value)


def fixed_array(values: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, int]:
    """A column as int64 and the scale it has: 1 for integers and bools, `SCALE` for floats; 0 where not `present`.

    Args:
        values: float64, int64 or bool, one a row; whatever stands where `present` is false is ignored.
        present: bool, false at nulls. NaN of a float column must be marked absent by the caller.

    Raises:
        TreadleError: `bad_data`: an infinite or too large float.
    """
    if values.dtype.kind != "f":
        return np.where(present, values, 0).astype(np.int64), 1
    clean = np.where(present, values, 0.0)
    strange = ~(np.abs(clean) < _LARGEST)
    if strange.any():
        raise _not_a_number(float(clean[int(np.flatnonzero(strange)[0])]))
    return np.rint(clean * SCALE).astype(np.int64), SCALE


def quotient(total: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """`total / divisor` of int64 arrays, correctly rounded to float64, also where an operand has more than 53 bits."""
    result = total / np.maximum(divisor, 1)
    large = np.flatnonzero((np.abs(total) >= _EXACT) | (divisor >= _EXACT))
    for row in large.tolist():
        result[row] = int(total[row]) / max(int(divisor[row]), 1)
    return result


def mean(total: int, count: int) -> float | None:
    """Mean of `count` values whose sum is `total` millionths; None of none."""
    return total / (SCALE * count) if count else None


def summed(total: int, count: int) -> float:
    """The sum of `total` millionths; 0.0 of none."""
    return total / SCALE


def counted(total: int, count: int) -> int:
    """How many values were there."""
    return count


#: aggregate → what it makes of (sum in millionths, count of values that are not null).
FINISH: dict[str, Callable[[int, int], float | int | None]] = {"mean": mean, "sum": summed, "count": counted}


def _not_a_number(value: Any) -> TreadleError:
    return TreadleError(
        f"A window cannot add {value!r}: it takes whole numbers, bools and finite floats below 9.2e12.",
        remedy="Cast or clean the column before it is appended, or rescale it.",
        code="bad_data",
        details={"given": repr(value)},
    )
