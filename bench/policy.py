"""The numbers of the flights' policy, each by a rule, from what was known before April.

Rows that became known on or after 1 April 2013 (UTC) are cut away where they are read, and the cut is asserted. The rules were
written down before they were first run, and what they give is what `loop.py` declares; docs/flights.md has the table, and a test
holds them together.

Given, not estimated: a budget of six retrainings a year; alpha 5 %; one false alarm a month; a block is a day (UTC), a window of
quality 14 of them (the house's defaults); a candidate is tested on the last week of its rows. "Little" is everywhere a quarter of
what is seen.

What is looked at: champions trained on all that was known at midnight (New York) after 31 January and one and two weeks later
(further weeks where the comparison leaves 21 days). Each one's challenger is trained when the outcomes have grown by the growth
factor, at the next midnight UTC. Both are trained as the pipeline trains: measured on the last week, then fitted again on all rows,
that week among them. Both, fitted again, score every flight after that, to the last day whose outcomes are all in: a comparison.

grown           11 ** (1 / 6) to one decimal: six steps of equal growth lead from the one month of rows at the end of January to the
                eleven at the end of November, when a retraining has a month left to serve.
outcome_within  the least multiple of 12 hours within which every outcome of these months was in.
decay           3 times the median standard error that the monitor states for the AUC of the first champion over windows of 14 days,
                all of them from 1 February on; to the nearest 0.005.
calibration     the same of mean prediction less mean outcome.
beats_baseline  a quarter of the smallest lead in AUC over the baseline in the test weeks, down to the next 0.005.
slice_floor     halfway from a coin (0.5) to the lowest AUC of a slice that the gate looks at (200 rows or more) in the test weeks,
                down to the next 0.01.
no_worse        the median, over comparisons, of the standard error of a week's mean difference in Brier (a day's standard deviation
                by the root of 7), to the nearest 0.0005: a gate must not refuse what is better for the noise of a week; harm is the
                canary's to find.
margin          a quarter of the smallest gain in Brier of a comparison whose challenger is the better one, down to the next 0.0005;
                0 where there is none.
share           of 10 %, 25 % and 50 % of the flights the least whose daily differences have at most 1.25 times the variance of
                those over all flights, in every comparison; 50 % where none has (more than half would be no canary).
deadline        the least multiple of 7 days, up to 42, in which the e-process of the canary promotes at least 90 % of resampled
                canaries of the *worst* comparison whose challenger is the better one; 42 where none does. A resampled canary is
                made of weeks of that comparison, each starting on any of its days and running on at its start where it meets its
                end (days in a row share weather), each day with a random `share` of its flights.
at_most_every   the deadline: before that a canary may still be going on, and a new candidate has nothing to start.

    python -m bench policy             # prints
    python -m bench.policy --write     # and writes bench/policy.json
"""

import datetime as dt
import importlib.util
import json
import math
import statistics
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from treadle.data.splits import by_time
from treadle.evaluation.metrics import roc_auc
from treadle.evaluation.report import by_slice, find
from treadle.features.declare import view_of
from treadle.features.join import Source, join_features
from treadle.features.steps import labelled
from treadle.monitoring import calibration, decay
from treadle.packaging.scoring import score_fitted
from treadle.releases import sequential
from treadle.training import fit

UTC = dt.UTC
CUT = dt.datetime(2013, 4, 1, tzinfo=UTC)
FIRST = dt.datetime(2013, 2, 1, 5, tzinfo=UTC)  # midnight in New York
WEEK, DAY = dt.timedelta(days=7), dt.timedelta(days=1)

BUDGET, MONTHS = 6, 11
WINDOW, TEST, ALPHA = 14, "7d", 0.05
LEAST_DAYS = 21
ERRORS, LITTLE, POWER = 3, 0.25, 0.90
SHARES, VARIANCE = (0.1, 0.25, 0.5), 1.25
DEADLINES = (7, 14, 21, 28, 35, 42)
DRAWS, CANARIES, SEED = 16, 4000, 2013

WRITTEN = Path(__file__).with_suffix(".json")
FLIGHTS = Path(__file__).parents[1] / "src/treadle/workshop/flights"


class Trained(NamedTuple):
    """A model as the pipeline makes it at a moment, with what its test week shows."""

    at: dt.datetime
    auc: float  # in its test week, as are the next two, of the model that is measured there
    lead: float  # over the baseline
    lowest: float  # AUC of a slice
    scores: np.ndarray  # of all rows, by the model fitted again


class Comparison(NamedTuple):
    """Days of a champion and its challenger: one row a flight, `day` an index from 0."""

    champion: Trained
    challenger: Trained
    truth: np.ndarray
    old: np.ndarray
    new: np.ndarray
    day: np.ndarray
    days: int

    def differences(self, kept: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Each day's mean difference in Brier (positive: the challenger is worse) and its scale, as the canary takes them."""
        weight = np.ones(len(self.day)) if kept is None else kept.astype(float)
        count = np.bincount(self.day, weights=weight, minlength=self.days)
        loss = np.square(self.new - self.truth) - np.square(self.old - self.truth)
        mean = np.bincount(self.day, weights=loss * weight, minlength=self.days) / count
        return mean, np.sqrt(np.bincount(self.day, weights=np.square(self.new - self.old) * weight, minlength=self.days) / count)


def project(name: str) -> ModuleType:
    """A file of the flights project."""
    spec = importlib.util.spec_from_file_location(f"flights_{name}", FLIGHTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # views find their functions by the module's name
    spec.loader.exec_module(module)
    return module


def known() -> dict[str, pl.DataFrame]:
    """The three streams, cut where they are read."""
    sources = project("sources")
    tables = {name: table.filter(pl.col(sources.KNOWN[name]) < CUT) for name, table in sources.tables().items()}
    for name, table in tables.items():
        newest = table[sources.KNOWN[name]].max()
        assert isinstance(newest, dt.datetime), name
        assert newest < CUT, name
    return tables


class Spring:
    """January to March: rows with features as of their departure, models trained at a moment."""

    def __init__(self) -> None:
        self.tables, self.loop = known(), project("loop")
        views = [view_of(view) for view in self.loop.VIEWS]
        sources = {"outcomes": Source(self.tables["outcomes"], "known_at"), "weather": Source(self.tables["weather"], "observed_at")}
        rows = join_features(self.tables["flights"], time="scheduled_at", views=views, sources=sources)
        truth = self.tables["outcomes"].select("flight_id", pl.col("late").cast(pl.Float64).alias("truth"))
        self.rows = rows.join(truth, on="flight_id", how="left", maintain_order="left")
        self.features = [*self.loop.STATIC, *(name for view in views for name in view.features)]
        self.longest = self._longest()
        self.within = dt.timedelta(hours=12 * math.ceil(self.longest / dt.timedelta(hours=12)))
        self.last = midnight(CUT - self.within)  # days before it have all their outcomes

    def _longest(self) -> dt.timedelta:
        both = self.tables["flights"].join(self.tables["outcomes"].select("flight_id", "known_at"), on="flight_id")
        return both.select((pl.col("known_at") - pl.col("scheduled_at")).max()).item()

    def outcomes_at(self, moment: dt.datetime) -> int:
        """Outcomes known before a moment."""
        return self.tables["outcomes"].filter(pl.col("known_at") < moment).height

    def grown(self, since: dt.datetime, factor: float) -> dt.datetime | None:
        """The first midnight at which the outcomes have grown by a factor; None where that is after the cut."""
        wanted, moment = factor * self.outcomes_at(since), midnight(since)
        while self.outcomes_at(moment) < wanted:
            moment += DAY
            if moment > CUT:
                return None
        return moment

    def train(self, at: dt.datetime) -> Trained:
        """Train as the pipeline does at a moment: test on the last week, then fit again on all rows."""
        outcomes = Source(self.tables["outcomes"], "known_at")
        rows = labelled(self.rows, time="scheduled_at", key=("flight_id",), label="late", outcomes=outcomes, until=at)
        train, test = by_time(rows, test=TEST, time="scheduled_at")
        assert rows["scheduled_at"].max() < at  # type: ignore[operator]
        unknown = {"origin": "reject"}
        baseline = fit.fit_logistic(train, features=["carrier", "origin", "minute_of_day"], label="late", seed=7, unknown=unknown)
        fitted = fit.fit_lightgbm(train, features=self.features, label="late", params={"n_estimators": 80}, seed=7, unknown=unknown)
        truth, scores = test["late"].cast(pl.Float64).to_numpy(), score_fitted(fitted, test)
        auc = roc_auc(truth, scores)
        slices = [s for column in ("carrier", "origin") for s in by_slice(truth, scores, test, column, [find("roc_auc")])]
        lowest = min(s.metrics["roc_auc"] for s in slices if s.rows >= 200 and "roc_auc" in s.metrics)
        serves = fit.refit(fitted, rows)
        return Trained(at, auc, auc - roc_auc(truth, score_fitted(baseline, test)), lowest, score_fitted(serves, self.rows))

    def between(self, start: dt.datetime, end: dt.datetime) -> tuple[np.ndarray, np.ndarray]:
        """(where rows departed in [start, end) and their outcome is known, the index of their day)."""
        chosen = (pl.col("scheduled_at") >= start) & (pl.col("scheduled_at") < end) & pl.col("truth").is_not_null()
        where = self.rows.select(chosen).to_series().to_numpy()
        return where, (self.rows["scheduled_at"].to_numpy()[where] - np.datetime64(start.replace(tzinfo=None))) // np.timedelta64(1, "D")

    def compare(self, champion: Trained, at: dt.datetime) -> Comparison:
        """A champion against the challenger trained at a midnight."""
        challenger = self.train(at)
        where, day = self.between(at, self.last)
        truth = self.rows["truth"].to_numpy()[where]
        return Comparison(champion, challenger, truth, champion.scores[where], challenger.scores[where], day, (self.last - at).days)


def midnight(moment: dt.datetime) -> dt.datetime:
    """The UTC midnight at or before a moment."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def comparisons(spring: Spring, factor: float) -> list[Comparison]:
    """Champions of the first weeks of February and their challengers."""
    found, at = [], FIRST
    while (grown := spring.grown(at, factor)) is not None and spring.last - grown >= LEAST_DAYS * DAY:
        found.append(spring.compare(spring.train(at), grown))
        at += WEEK
    return found


def errors(spring: Spring, model: Trained) -> tuple[list[float], list[float]]:
    """Standard errors that the monitor states for AUC and for calibration, of every window of 14 days since the model serves."""
    auc, gap = [], []
    start = midnight(model.at) + DAY
    while start + WINDOW * DAY <= spring.last:
        where, day = spring.between(start, start + WINDOW * DAY)
        truth, scores = spring.rows["truth"].to_numpy()[where], model.scores[where]
        ranked = decay.estimate("roc_auc", truth, scores, day, reference=model.auc)
        mean = calibration.measure(truth, scores, day)
        assert ranked is not None
        assert mean is not None
        auc.append(ranked.error)
        gap.append(mean.error)
        start += DAY
    return auc, gap


def halves(comparison: Comparison, share: float, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Daily differences and scales over a random share of the flights, drawn several times."""
    return [comparison.differences(random.random(len(comparison.day)) < share) for _ in range(DRAWS)]


def noise(comparison: Comparison, share: float) -> float:
    """Variance of the daily differences over a share of the flights, by that over all of them."""
    drawn = halves(comparison, share, np.random.default_rng(SEED))
    return float(np.mean([d.var(ddof=1) for d, _ in drawn]) / comparison.differences()[0].var(ddof=1))


def promoted(comparison: Comparison, *, share: float, margin: float) -> dict[int, float]:
    """Deadline in days → the share of resampled canaries that are promoted by then."""
    random = np.random.default_rng(SEED)
    drawn = halves(comparison, share, random)
    longest, needed = max(DEADLINES), -math.log(ALPHA)
    ends = []
    for _ in range(CANARIES):
        starts = random.integers(0, comparison.days, longest // 7)
        days = ((starts[:, None] + np.arange(7)) % comparison.days).ravel()
        picked = random.integers(0, DRAWS, longest)
        values = [(drawn[p][0][d], drawn[p][1][d] or 1.0) for p, d in zip(picked, days, strict=True)]
        better = _first(sequential.path((margin - x) / scale for x, scale in values), needed)
        worse = _first(sequential.path(x / scale for x, scale in values), needed)
        ends.append(better if better < worse else math.inf)
    return {deadline: sum(end <= deadline for end in ends) / CANARIES for deadline in DEADLINES}


def _first(path: list[float], needed: float) -> float:
    return next((day for day, value in enumerate(path, start=1) if value >= needed), math.inf)


def down(value: float, step: float) -> float:
    """To the next lower multiple of a step."""
    return round(math.floor(value / step + 1e-9) * step, 6)


def nearest(value: float, step: float) -> float:
    """To the nearest multiple of a step."""
    return round(round(value / step) * step, 6)


def numbers() -> tuple[dict[str, float], dict[str, Any]]:
    """(the policy's numbers, the evidence of each)."""
    spring = Spring()
    growth = MONTHS ** (1 / BUDGET)
    compared = comparisons(spring, nearest(growth, 0.1))
    models = [model for c in compared for model in (c.champion, c.challenger)]
    auc, gap = errors(spring, compared[0].champion)
    gains = [-float(c.differences()[0].mean()) for c in compared]
    spreads = [float(c.differences()[0].std(ddof=1)) for c in compared]
    better = [c for c, gain in zip(compared, gains, strict=True) if gain > 0]
    margin = down(LITTLE * min((gain for gain in gains if gain > 0), default=0.0), 0.0005)
    variances = {share: [noise(c, share) for c in compared] for share in SHARES}
    share = next((s for s in SHARES if max(variances[s]) <= VARIANCE), SHARES[-1])
    power = [promoted(c, share=share, margin=margin) for c in better]
    deadline = next((d for d in DEADLINES if power and min(p[d] for p in power) >= POWER), DEADLINES[-1])
    given = {
        "grown": nearest(growth, 0.1),
        "outcome_within_h": spring.within / dt.timedelta(hours=1),
        "decay": nearest(ERRORS * statistics.median(auc), 0.005),
        "calibration": nearest(ERRORS * statistics.median(gap), 0.005),
        "beats_baseline": down(LITTLE * min(m.lead for m in models), 0.005),
        "slice_floor": down(0.5 + (min(m.lowest for m in models) - 0.5) / 2, 0.01),
        "no_worse": nearest(statistics.median(spread / math.sqrt(7) for spread in spreads), 0.0005),
        "margin": margin,
        "share": share,
        "deadline_d": float(deadline),
        "at_most_every_d": float(deadline),
        "budget": float(BUDGET),
    }
    evidence = {
        "comparisons": [
            f"champion of {c.champion.at:%d %b}, challenger of {c.challenger.at:%d %b}, {c.days} days: gain in Brier {gain:.4f}, "
            f"standard deviation of a day {spread:.4f}"
            for c, gain, spread in zip(compared, gains, spreads, strict=True)
        ],
        "grown": f"11 ** (1 / 6) = {growth:.3f}",
        "outcome_within_h": f"the latest outcome after {spring.longest / dt.timedelta(hours=1):.1f} hours",
        "decay": f"standard error of AUC over 14 days: median {statistics.median(auc):.4f} of {len(auc)} windows",
        "calibration": f"standard error of mean prediction - mean outcome: median {statistics.median(gap):.4f} of {len(gap)} windows",
        "beats_baseline": "leads in AUC: " + ", ".join(f"{m.lead:.3f}" for m in models),
        "slice_floor": "lowest AUC of a slice: " + ", ".join(f"{m.lowest:.3f}" for m in models),
        "no_worse": "standard error of a week: " + ", ".join(f"{s / math.sqrt(7):.4f}" for s in spreads),
        "margin": "gains in Brier: " + ", ".join(f"{g:.4f}" for g in gains),
        "share": "; ".join(f"{s:.0%}: " + ", ".join(f"{v:.2f}" for v in variances[s]) for s in SHARES) + " times the variance",
        "deadline_d": "promoted, the worst comparison: " + ", ".join(f"{d} days {min(p[d] for p in power):.1%}" for d in DEADLINES)
        if power
        else "no challenger is better",
        "at_most_every_d": "the deadline",
        "budget": "given",
    }
    return given, evidence


def main() -> None:
    """Print the table; with `--write` keep the numbers."""
    given, evidence = numbers()
    for line in evidence["comparisons"]:
        print(line)
    for name, value in given.items():
        print(f"{name:16} {value:<8g} {evidence[name]}")
    if "--write" in sys.argv:
        WRITTEN.write_text(json.dumps(given, indent=1) + "\n")
        print(f"written to {WRITTEN}")


if __name__ == "__main__":
    main()
