"""Runs in groups that share a parameter's or tag's value: how many, and mean, lowest and highest of each metric.

A group is made of the runs at the head of the listing, at most `MOST` of them, so that a page costs the same however many runs there
are; the page says when there are more.
"""

import math
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from treadle.console.asked import Address
from treadle.console.listing import Listing, both, literal, quoted, told
from treadle.operations.tracking import SearchRuns, TrackedRuns
from treadle.records.tracking import TrackedRun

MOST = 2000
_PAGE = 1000
_LINES = 200


class Spread(Struct, frozen=True, kw_only=True):
    """A metric over a group."""

    mean: str
    low: str
    high: str
    count: int


class Group(Struct, frozen=True, kw_only=True):
    """Runs that share a value."""

    value: str
    count: int
    href: str | None
    metrics: list[Spread | None]


def grouped(runs: Sequence[TrackedRun], listing: Listing, metrics: Sequence[str], here: Address) -> list[Group]:
    """The groups in the order of their values, numbers as numbers."""
    kind, _, key = listing.group.partition(".")
    members: dict[str | None, list[TrackedRun]] = {}
    for run in runs:
        members.setdefault((run.params if kind == "params" else run.tags).get(key), []).append(run)
    found = []
    for value, inside in sorted(members.items(), key=lambda m: _place(m[0]))[:_LINES]:
        values: dict[str, list[float]] = {name: [] for name in metrics}
        for run in inside:
            for point in run.metrics:
                if point.key in values and math.isfinite(float(point.value)):
                    values[point.key].append(float(point.value))
        found.append(
            Group(
                value="(none)" if value is None else value or "(empty)",
                count=len(inside),
                href=_href(listing, value, here),
                metrics=[_spread(values[name]) for name in metrics],
            )
        )
    return found


def gather(desk: Any, listing: Listing, experiments: list[str], metrics: Sequence[str]) -> tuple[list[TrackedRun], bool]:
    """(runs at the head of the listing, whether there are more)."""
    runs: list[TrackedRun] = []
    page = None
    while True:
        found: TrackedRuns = desk.call(
            SearchRuns(
                project=desk.project,
                experiments=experiments,
                filter=listing.filter,
                order_by=listing.order_by,
                view=listing.view,
                limit=_PAGE,
                page=page,
                columns=[listing.group, *(f"metrics.{m}" for m in metrics)],
            )
        )
        runs += found.items
        page = found.page.next
        if page is None or len(runs) >= MOST:
            return runs[:MOST], page is not None or len(runs) > MOST


def _place(value: str | None) -> tuple[int, float, str]:
    if value is None:
        return 2, 0.0, ""
    try:
        number = float(value)
    except ValueError:
        return 1, 0.0, value
    return (0, number, value) if math.isfinite(number) else (1, 0.0, value)


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    return Spread(mean=told(math.fsum(values) / len(values)), low=told(min(values)), high=told(max(values)), count=len(values))


def _href(listing: Listing, value: str | None, here: Address) -> str | None:
    name = quoted(listing.group)
    if value is None:
        return here.to(filter=both(listing.filter, f"{name} IS NULL"), group=None, page=None)
    text = literal(value)
    return None if text is None else here.to(filter=both(listing.filter, f"{name} = {text}"), group=None, page=None)
