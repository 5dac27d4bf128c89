"""Do predictions still mean what they say? Mean prediction against mean outcome over a window, blocks being the observations."""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from treadle.monitoring.decay import clustered_error, one_sided


class Calibration(Struct, frozen=True, kw_only=True):
    """`gap` is mean predicted - mean observed; the p-value is two-sided."""

    predicted: float
    observed: float
    gap: float
    error: float
    blocks: int
    p_value: float

    def off(self, by: float, alpha: float) -> bool:
        """Apart by at least `by`, and more than chance at level `alpha`."""
        return abs(self.gap) >= by and self.p_value <= alpha


def measure(truth: NDArray[Any], score: NDArray[Any], block: NDArray[Any]) -> Calibration | None:
    """Calibration in the large of rows in blocks; None where there are fewer than two blocks."""
    _, index = np.unique(block, return_inverse=True)
    count = int(index.max()) + 1 if len(index) else 0
    if count < 2:
        return None
    predicted, observed = float(score.mean()), float(truth.mean())
    gap = predicted - observed
    error = clustered_error((score - truth) - gap, index, count)
    return Calibration(
        predicted=predicted,
        observed=observed,
        gap=gap,
        error=error,
        blocks=count,
        p_value=min(1.0, 2 * one_sided(abs(gap), error, count)),
    )
