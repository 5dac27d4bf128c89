"""The order of what is found, and positions in it.

It is MLflow's: numbers, then NaN, then what has no value, whichever the direction; ties by time of creation, newest first, then by id.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from treadle.records.filters import Order

NUMBER, NAN, MISSING = 0, 1, 2

#: A run in its order: ((rank, value) for each of the orders), time of creation, id.
Found = tuple[tuple[tuple[int, Any], ...], int, str]


def needed(orders: tuple[Order, ...]) -> tuple[Order, ...]:
    """The orders that decide anything: behind an id none does, and the newest first is what ties go by anyway."""
    for number, order in enumerate(orders):
        if order.kind == "attribute" and order.key in ("run_id", "artifact_uri"):
            return orders[: number + 1]
    if orders and (orders[-1].kind, orders[-1].key, orders[-1].ascending) == ("attribute", "start_time", False):
        return orders[:-1]
    return orders


class _Down:
    """A text that is sorted downwards."""

    __slots__ = ("text",)

    def __init__(self, text: str):
        self.text = text

    def __lt__(self, other: "_Down") -> bool:
        return other.text < self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Down) and other.text == self.text


def sort_key(orders: Sequence[Order]) -> Callable[[Found], tuple[Any, ...]]:
    """What a run is sorted by."""

    def key(found: Found) -> tuple[Any, ...]:
        parts: list[Any] = []
        for order, (rank, value) in zip(orders, found[0], strict=True):
            if rank != NUMBER:
                parts += (rank, 0)
            elif order.ascending:
                parts += (rank, value)
            else:
                parts += (rank, _Down(value) if isinstance(value, str) else -value)
        return (*parts, -found[1], found[2])

    return key


def behind(found: list[Found], key: Callable[[Found], Any], after: Found | None) -> Iterator[Found]:
    """What follows a position in a sorted list."""
    if after is None:
        return iter(found)
    end = key(after)
    return itertools.dropwhile(lambda f: not end < key(f), found)
