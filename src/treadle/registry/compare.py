"""Two versions side by side: pure, on the facts that `evidence` gathers."""

import math
from collections.abc import Mapping
from typing import Any

from treadle.records.models import Difference

Sections = Mapping[str, Mapping[str, Any]]


def compare(left: Sections, right: Sections) -> list[Difference]:
    """Every fact of either side, by section and name, in the order of the left one and then of what only the right one has."""
    found: list[Difference] = []
    for section in list(dict.fromkeys([*left, *right])):
        ours, theirs = left.get(section, {}), right.get(section, {})
        for name in list(dict.fromkeys([*ours, *theirs])):
            a, b = _plain(ours.get(name)), _plain(theirs.get(name))
            change = b - a if _counts(a) and _counts(b) else None
            found.append(Difference(section=section, name=name, left=a, right=b, same=a == b, change=change))
    return found


def _plain(value: Any) -> Any:
    """Numbers that JSON has, the rest as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _counts(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
