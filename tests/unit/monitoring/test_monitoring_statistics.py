"""Decay, calibration and drift: estimates against plain formulas, and false-alarm rates by simulation with days that differ."""

import numpy as np
import polars as pl
import pytest

from treadle.evaluation import metrics, profiles
from treadle.monitoring import budget, calibration, decay, drift
from treadle.records.definitions import Monitor

DAYS = 14
ROWS = 150
ALPHA = budget.per_look(Monitor())


def window(rng: np.random.Generator, *, sd: float = 0.4, days: int = DAYS, rows: int = ROWS, base: float = -1.2, wrong: float = 0.0):
    """Truth, score and day of a calibrated forecaster who does not foresee the shock of the day (`sd` on the logit scale)."""
    foreseen = rng.normal(base, 1, (days, rows))
    shock = rng.normal(0, sd, (days, 1))
    truth = (rng.random((days, rows)) < 1 / (1 + np.exp(-(foreseen + shock)))).astype(float)
    nodes = np.linspace(-3, 3, 31)
    weight = np.exp(-(nodes**2) / 2)
    score = (1 / (1 + np.exp(-(foreseen[..., None] + sd * nodes))) * weight).sum(-1) / weight.sum()
    day = np.repeat(np.arange(days), rows)
    return truth.ravel(), np.clip(score.ravel() + wrong, 0, 1), day


@pytest.fixture(scope="module")
def promised() -> dict[str, float]:
    truth, score, _ = window(np.random.default_rng(0), days=3000)
    return {
        "brier": metrics.brier(truth, score),
        "roc_auc": metrics.roc_auc(truth, score),
        "log_loss": metrics.log_loss(truth, score),
        "rate": truth.mean(),
    }


def test_auc_and_losses_are_the_usual_ones() -> None:
    truth, score, day = window(np.random.default_rng(1))
    score = np.round(score, 2)
    assert decay.auc(truth, score) == pytest.approx(metrics.roc_auc(truth, score), abs=1e-12)
    for name in ("brier", "log_loss", "roc_auc"):
        found = decay.estimate(name, truth, score, day, reference=0.1)
        assert found is not None
        assert found.value == pytest.approx(metrics.find(name).function(truth, score), abs=1e-12)


def test_the_clustered_error_is_that_of_simulation(promised: dict[str, float]) -> None:
    rng = np.random.default_rng(2)
    for name in ("brier", "roc_auc"):
        made = [decay.estimate(name, *window(rng), reference=promised[name], reference_rate=promised["rate"]) for _ in range(300)]
        spread = np.std([e.worse for e in made])
        told = np.sqrt(np.mean([e.error**2 for e in made]))
        assert told == pytest.approx(spread, rel=0.25), name


@pytest.mark.parametrize("metric", ["brier", "log_loss", "roc_auc"])
def test_decay_without_a_cause_is_seldom_seen(metric: str, promised: dict[str, float]) -> None:
    rng = np.random.default_rng(3)
    fired = [
        decay.estimate(metric, *window(rng), reference=promised[metric], reference_rate=promised["rate"]).p_value <= ALPHA
        for _ in range(2000)
    ]
    assert np.mean(fired) <= 2.5 * ALPHA, np.mean(fired)


def test_a_changed_base_rate_alone_is_no_decay(promised: dict[str, float]) -> None:
    rng = np.random.default_rng(4)
    for base in (-2.2, -0.3):
        fired = [
            decay.estimate("brier", *window(rng, base=base), reference=promised["brier"], reference_rate=promised["rate"]).decayed(
                0.01, ALPHA
            )
            for _ in range(300)
        ]
        assert np.mean(fired) <= 0.05, (base, np.mean(fired))
    plain = decay.estimate("brier", *window(rng, base=-0.3), reference=promised["brier"])
    assert plain is not None
    assert plain.decayed(0.01, ALPHA), "without the reference's base rate the same window looks decayed"


def test_a_model_that_lost_its_skill_is_found(promised: dict[str, float]) -> None:
    rng = np.random.default_rng(5)
    for metric, by in (("brier", 0.01), ("roc_auc", 0.05)):
        found = []
        for _ in range(200):
            truth, score, day = window(rng)
            mixed = np.where(rng.random(len(score)) < 0.5, rng.permutation(score), score)
            found.append(
                decay.estimate(metric, truth, mixed, day, reference=promised[metric], reference_rate=promised["rate"]).decayed(by, ALPHA)
            )
        assert np.mean(found) >= 0.9, (metric, np.mean(found))


def test_other_metrics_by_the_jackknife() -> None:
    rng = np.random.default_rng(6)
    truth, score, day = window(rng)
    kind = metrics.find("accuracy")
    found = decay.estimate("accuracy", truth, score, day, reference=0.95, direction=kind.direction, function=kind.function)
    assert found is not None
    assert found.worse == pytest.approx(0.95 - kind.function(truth, score))
    assert found.error > 0


def test_what_cannot_be_judged_is_none() -> None:
    one = np.ones(10)
    assert decay.estimate("brier", one, one, one, reference=0.1) is None
    assert decay.estimate("roc_auc", one, one, np.arange(10), reference=0.7) is None
    assert calibration.measure(one, one, one) is None


def test_calibration_alarms() -> None:
    rng = np.random.default_rng(7)
    quiet = [calibration.measure(*window(rng)) for _ in range(2000)]
    assert np.mean([c.p_value <= ALPHA for c in quiet]) <= 2 * ALPHA
    assert np.mean([c.off(0.05, ALPHA) for c in quiet]) <= ALPHA
    loud = [calibration.measure(*window(rng, wrong=0.1)).off(0.05, ALPHA) for _ in range(200)]
    assert np.mean(loud) >= 0.9


def columns(rng: np.random.Generator, days: int, *, sd: float, moved: float = 0.0, alike: float = 0.0) -> list[pl.DataFrame]:
    """Days whose shocks are correlated with the day before by `alike`."""
    made = []
    shock = rng.normal(0, sd)
    for _ in range(days):
        shock = alike * shock + rng.normal(0, sd) * np.sqrt(1 - alike**2)
        x = rng.normal(shock + moved, 1, ROWS)
        odds = np.exp([0, shock, -shock, moved])
        c = rng.choice(["a", "b", "c", "d"], ROWS, p=odds / odds.sum())
        made.append(pl.DataFrame({"x": x, "c": c, "seldom": [None if rng.random() < 0.1 else 1.0 for _ in range(ROWS)]}))
    return made


def false_alarms(seed: int, **kind: float) -> tuple[float, float]:
    """Share of windows in which some column is significant at 5 %, and in which it is an alarm: 10 references, 30 windows each."""
    rng = np.random.default_rng(seed)
    significant = alarms = 0
    for _ in range(10):
        bins = drift.bins_of(profiles.profile(pl.concat(columns(rng, 60, **kind)), reference=True))
        for _ in range(30):
            days = columns(rng, DAYS, **kind)
            found = drift.shifts(bins, {n: np.stack([drift.count(bins[n], d[n]) for d in days]) for n in bins}, 0.05)
            significant += any(s.psi > s.threshold for s in found)
            alarms += any(s.drifted for s in found)
    return significant / 300, alarms / 300


@pytest.mark.parametrize("sd", [0.0, 0.3])
def test_drift_keeps_its_budget_though_days_differ(sd: float) -> None:
    significant, alarms = false_alarms(8, sd=sd)
    assert significant <= 0.08  # two standard errors of 300 windows above 5 %
    assert alarms <= 0.05


def test_drift_of_days_that_resemble_their_neighbours() -> None:
    assert false_alarms(11, sd=0.3, alike=0.6)[1] <= 0.09


def test_a_moved_column_is_named() -> None:
    rng = np.random.default_rng(9)
    bins = drift.bins_of(profiles.profile(pl.concat(columns(rng, 60, sd=0.1)), reference=True))
    days = columns(rng, DAYS, sd=0.1, moved=0.8)
    found = drift.shifts(bins, {n: np.stack([drift.count(bins[n], d[n]) for d in days]) for n in bins}, ALPHA)
    assert {s.column for s in found if s.drifted} == {"x", "c"}


def test_counting_agrees_with_the_profiles_own_cells() -> None:
    rng = np.random.default_rng(10)
    old, new = pl.concat(columns(rng, 5, sd=0)), pl.concat(columns(rng, 5, sd=0.5))
    reference = profiles.profile(old, reference=True)
    bins = drift.bins_of(reference)
    for name in ("x", "c"):
        counted = drift.count(bins[name], new[name])
        _, cells = profiles.cells(reference.columns[name], profiles.profile(new).columns[name])
        assert counted == pytest.approx(cells, abs=len(new) * 0.02)
        assert drift.psi(bins[name].reference, counted) == pytest.approx(
            profiles.psi(reference.columns[name], profiles.profile(new).columns[name]), abs=0.02
        )
    strange = drift.count(bins["x"], pl.Series("x", ["1.5", "no number", None]))
    assert (strange.sum(), strange[-1]) == (3, 2)
