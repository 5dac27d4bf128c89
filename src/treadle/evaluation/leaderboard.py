"""Runs beside each other by one metric, and a model's versions one after the other. Pure; the faces bring what a search found.

A leaderboard of the best of many runs flatters: the best of fifty equal runs is the luckiest. So each group (a method, a parameter's
value) stands there with its number of runs, its mean and its spread, and equal values share a rank.
"""

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

from msgspec import Struct

from treadle.records.errors import TreadleError
from treadle.records.models import ModelVersion
from treadle.records.rules import direction
from treadle.records.series import trend
from treadle.records.tracking import TrackedRun

#: Values closer than this, relative to the larger, share a rank.
TIE = 1e-9
#: Mann and Kendall's z from which versions have a trend.
SURE = 2.0


class Place(Struct, frozen=True, kw_only=True):
    """A run's rank: 1 is the best, and runs that tie share it (1, 2, 2, 4). `spread` is the standard deviation over folds, if measured."""

    rank: int
    run_id: str
    name: str
    value: float
    state: str
    group: str = ""
    spread: float | None = None
    tied: bool = False


class Group(Struct, frozen=True, kw_only=True):
    """The runs of one value of what they are grouped by: how many, the best, mean and standard deviation (None of one run)."""

    group: str
    runs: int
    best: float
    best_run: str
    mean: float
    std: float | None


class Leaderboard(Struct, frozen=True, kw_only=True):
    """Runs by a metric, best first. `without` is how many runs have none, or NaN."""

    metric: str
    better: str  # higher or lower
    places: list[Place]
    groups: list[Group]
    runs: int
    without: int


class Step(Struct, frozen=True, kw_only=True):
    """A version in a trend; `change` since the version before that has the metric."""

    number: int
    value: float | None
    change: float | None
    state: str
    event_time: dt.datetime
    run_id: str


class Trend(Struct, frozen=True, kw_only=True):
    """A metric over a model's versions, oldest first; `verdict` is better, worse, no trend, or unknown below four versions."""

    model: str
    metric: str
    verdict: str
    best: int | None  # version
    steps: list[Step]


def better(metric: str, wanted: str = "") -> str:
    """`higher` or `lower`: as wanted, or as the metric's name says.

    Raises:
        TreadleError: the name does not say.
    """
    known = {1: "higher", -1: "lower"}.get(direction(metric), "")
    if wanted or known:
        return wanted or known
    raise TreadleError(f"The name of the metric {metric!r} does not say which way is better.", remedy="Say it: --better higher, or lower.")


def rank(runs: Iterable[TrackedRun], metric: str, *, better: str, group: str = "") -> Leaderboard:
    """Runs by the latest value of a metric.

    Args:
        runs: as a search found them.
        metric: its name, without `metrics.`.
        better: higher or lower.
        group: `params.NAME`, `tags.NAME`, `name`, `user`; empty for no groups.
    """
    found: list[tuple[float, TrackedRun]] = []
    total = 0
    for run in runs:
        total += 1
        value = next((float(p.value) for p in run.metrics if p.key == metric), math.nan)
        if not math.isnan(value):
            found.append((value, run))
    sign = -1 if better == "higher" else 1
    found.sort(key=lambda pair: (sign * pair[0], pair[1].created, pair[1].run_id))
    spread = metric.removesuffix("_mean") + "_std" if metric.endswith("_mean") else ""
    places: list[Place] = []
    for at, (value, run) in enumerate(found):
        ties = at > 0 and _same(value, places[-1].value)
        following = at + 1 < len(found) and _same(value, found[at + 1][0])
        places.append(
            Place(
                rank=places[-1].rank if ties else at + 1,
                run_id=run.run_id,
                name=run.name,
                value=value,
                state=str(run.state),
                group=grouped_by(run, group),
                spread=next((float(p.value) for p in run.metrics if p.key == spread), None),
                tied=ties or following,
            )
        )
    groups = _groups(places) if group else []
    return Leaderboard(metric=metric, better=better, places=places, groups=groups, runs=total, without=total - len(found))


def _same(a: float, b: float) -> bool:
    return a == b or math.isclose(a, b, rel_tol=TIE, abs_tol=0.0)


def grouped_by(run: TrackedRun, group: str) -> str:
    """A run's value of what runs are grouped by; empty where it has none.

    Raises:
        TreadleError: something runs are not grouped by.
    """
    if not group:
        return ""
    kind, _, name = group.partition(".")
    if kind in ("params", "tags") and name:
        return (run.params if kind == "params" else run.tags).get(name, "")
    if group in ("name", "user", "pipeline", "git_revision"):
        return getattr(run, group) or ""
    raise TreadleError(f"Runs are not grouped by {group!r}.", remedy="Write params.NAME, tags.NAME, name, user, pipeline or git_revision.")


def _groups(places: Sequence[Place]) -> list[Group]:
    by: dict[str, list[Place]] = {}
    for place in places:
        by.setdefault(place.group, []).append(place)
    return [
        Group(
            group=name,
            runs=len(some),
            best=some[0].value,
            best_run=some[0].run_id,
            mean=fmean(p.value for p in some),
            std=stdev([p.value for p in some]) if len(some) > 1 and all(math.isfinite(p.value) for p in some) else None,
        )
        for name, some in by.items()
    ]


def trend_of(model: str, versions: Iterable[ModelVersion], metric: str, *, better: str) -> Trend:
    """A metric over a model's versions, in the order of their numbers."""
    steps: list[Step] = []
    for version in sorted(versions, key=lambda v: v.number):
        value = version.metrics.get(metric)
        last = next((s.value for s in reversed(steps) if s.value is not None), None)
        steps.append(
            Step(
                number=version.number,
                value=value,
                change=None if value is None or last is None else value - last,
                state=str(version.state),
                event_time=version.event_time,
                run_id=version.run_id,
            )
        )
    known = [(s.value, s.number) for s in steps if s.value is not None]
    sign = 1 if better == "higher" else -1
    z = sign * trend([value for value, _ in known])
    verdict = "unknown" if len(known) < 4 else "better" if z >= SURE else "worse" if z <= -SURE else "no trend"
    best = max(known, key=lambda pair: (sign * pair[0], -pair[1]))[1] if known else None
    return Trend(model=model, metric=metric, verdict=verdict, best=best, steps=steps)
