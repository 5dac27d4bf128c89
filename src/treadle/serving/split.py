"""Who is answered by whom: a sticky, salted hash of the randomisation unit.

The same unit under the same salt always falls on the same side, on every worker and after every restart, without a table of
assignments; a new release brings a new salt, so that its canary is a fresh draw. Pure.
"""

from collections.abc import Sequence

from blake3 import blake3

_SCALE = float(2**53)


def position(salt: str, unit: str) -> float:
    """Where a unit stands in [0, 1): 53 bits of BLAKE3(salt, NUL, unit). Uniform over units.

    >>> 0.0 <= position("salt", "N123") < 1.0
    True
    """
    return (int.from_bytes(blake3(f"{salt}\0{unit}".encode()).digest(length=8), "big") >> 11) / _SCALE


def challenged(salt: str, share: float, units: Sequence[str]) -> list[int]:
    """Indexes of the rows whose unit belongs to the challenger: those that stand below `share` (fraction 0–1)."""
    if share <= 0.0:
        return []
    return [row for row, unit in enumerate(units) if position(salt, unit) < share]
