"""Rules over histories: they fire on what is planted, and not on noise or on a healthy training."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.records.insides import FEW_SECONDS, sections, tensors, watched
from treadle.records.rules import diagnose, overfitting
from treadle.records.series import noise, thinned, trend

Curve = list[tuple[int, float]]


def curve(shape: Callable[[float], float], n: int = 100, spread: float = 0.0, seed: int = 0) -> Curve:
    draw = random.Random(seed)
    return [(i, shape(i / n) + draw.gauss(0, spread)) for i in range(n)]


def falling(x: float) -> float:
    return 0.2 + 0.5 * math.exp(-3 * x)


def fitted_too_far(x: float) -> float:
    return 0.3 + 0.4 * math.exp(-8 * x) + 0.3 * max(0.0, x - 0.3)


def rules(**histories: Curve) -> list[str]:
    return [f.rule for f in diagnose({name.replace("__", "/"): points for name, points in histories.items()})]


# ── curves ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("spread", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("n", [30, 100, 1000])
def test_a_planted_overfit_is_found_where_it_began(n, spread):
    (found,) = diagnose({"train/loss": curve(falling, n, spread / 4), "valid/loss": curve(fitted_too_far, n, spread, 1)})
    assert found.rule == "overfitting"
    assert found.severity in ("warning", "critical")
    assert 0.15 * n <= found.first_step <= 0.6 * n
    assert found.last_step == n - 1
    assert str(found.first_step) in found.text
    assert found.advice.startswith(f"Stop at step {found.first_step}")
    assert found.value > found.bound


@pytest.mark.parametrize(
    ("train", "valid"), [("loss", "val_loss"), ("training-loss", "valid_0-loss"), ("train_loss", "eval_loss"), ("Train/Loss", "Dev/Loss")]
)
def test_pairs_are_told_by_their_names(train, valid):
    assert [f.rule for f in diagnose({train: curve(falling), valid: curve(fitted_too_far)})] == ["overfitting"]
    upwards = {
        train.lower().replace("loss", "auc"): curve(lambda x: 1 - falling(x)),
        valid.lower().replace("loss", "auc"): curve(lambda x: 1 - fitted_too_far(x)),
    }
    assert [f.rule for f in diagnose(upwards)] == ["overfitting"]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), spread=st.floats(0, 0.05), n=st.integers(2, 300), gap=st.floats(0, 0.3))
def test_a_healthy_training_fires_nothing(seed, spread, n, gap):
    train, valid = curve(falling, n, spread / 4, seed), curve(lambda x: falling(x) + gap, n, spread, seed + 1)
    assert overfitting("train/loss", train, "valid/loss", valid) is None
    if n >= 20:
        assert rules(train__loss=train, valid__loss=valid) == []


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(10, 200))
def test_noise_about_a_level_is_no_overfit(seed, n):
    """Once in a hundred at the most; hypothesis looks at sixty, so a rule that noise fools would be found."""
    train, valid = curve(falling, n, 0.001, seed), curve(lambda _: 0.5, n, 0.05, seed + 1)
    found = overfitting("train/loss", train, "valid/loss", valid)
    assert found is None or found.value < 0.25


def test_noise_fools_it_less_than_once_in_a_hundred():
    fooled = sum(
        overfitting("train/loss", curve(falling, 60, 0.001, s), "valid/loss", curve(lambda _: 0.5, 60, 0.05, s + 1)) is not None
        for s in range(400)
    )
    assert fooled <= 4


def test_a_loss_that_is_no_number_any_more_is_critical():
    broken = [*curve(falling, 20), (20, math.nan), (21, math.inf)]
    (found,) = diagnose({"loss": broken})
    assert (found.rule, found.severity, found.first_step, found.last_step) == ("diverging", "critical", 20, 21)
    assert diagnose({"epoch": [(0, math.nan)]}) == []


def test_diverging_not_converging_and_standing_still():
    assert rules(loss=curve(lambda x: 0.7 + math.exp(4 * x), 40)) == ["diverging"]
    assert rules(loss=curve(lambda _: 0.69, 60, 0.003)) == ["not_converging"]
    assert rules(train__loss=curve(lambda _: 0.693, 30)) == ["not_converging"]
    assert rules(loss=curve(lambda x: 0.2 + math.exp(-60 * x), 200, 0.001)) == ["plateau"]
    assert rules(loss=curve(falling, 9)) == []
    assert rules(rows=curve(lambda _: 5.0)) == []
    assert rules(cv__auc=curve(lambda _: 0.7)) == []


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "loss",
                "val_loss",
                "train/auc",
                "watch/a/gradient/norm",
                "watch/b/gradient/std",
                "watch/b/gradient/mean",
                "profile/x/seconds",
                "watch//",
            ]
        ),
        st.lists(st.tuples(st.integers(-5, 40), st.floats(allow_nan=True)), max_size=60),
    )
)
def test_no_history_breaks_a_rule(histories):
    for found in diagnose(histories):
        assert found.text
        assert found.advice
        assert found.value is None or not math.isnan(found.value)


@given(st.lists(st.floats(-1e6, 1e6), max_size=80))
def test_trends_are_antisymmetric_and_blind_to_scale(values):
    assert trend(values) == -trend([-v for v in values])
    assert trend(values) == trend([v * 4 for v in values])
    assert noise(values) >= 0


@given(st.integers(2, 50), st.integers(0, 300))
def test_thinning_keeps_the_ends(most, n):
    points = [(i, float(i)) for i in range(n)]
    kept = thinned(points, most)
    assert len(kept) == min(n, most)
    assert kept == sorted(set(kept))
    assert not points or (kept[0], kept[-1]) == (points[0], points[-1])


# ── insides ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def layers(*sizes: float, n: int = 10) -> dict[str, Curve]:
    found: dict[str, Curve] = {}
    for i, size in enumerate(sizes):
        found[f"watch/layer{i}/gradient/mean"] = [(s, 0.0) for s in range(n)]
        found[f"watch/layer{i}/gradient/std"] = [(s, size) for s in range(n)]
        found[f"watch/layer{i}/gradient/nan"] = [(s, 0.0) for s in range(n)]
    return found


def test_gradients_that_vanish_or_explode_through_depth():
    (found,) = diagnose(layers(1e-9, 1e-7, 1e-5, 1e-3, 1e-2, 1e-1))
    assert (found.rule, found.severity, found.first_step, found.last_step) == ("vanishing_gradient", "critical", 0, 9)
    assert "layer0/gradient" in found.text
    assert "10 of 10" in found.text
    assert [f.rule for f in diagnose(layers(1e5, 1e2, 1.0))] == ["exploding_gradient"]
    assert diagnose(layers(0.1, 0.3, 1.0)) == []
    assert diagnose(layers(1e-9)) == []
    assert diagnose(layers(1e-9, 1.0, n=2)) == []


def test_numbers_decide_the_order_of_layers_and_else_the_first_sight():
    assert list(tensors({f"watch/l{i}/gradient/std": [(0, 1.0)] for i in (10, 2, 1)})) == ["l1/gradient", "l2/gradient", "l10/gradient"]
    assert list(tensors({f"watch/{n}/std": [(0, 1.0)] for n in ("stem", "body", "head")})) == ["stem", "body", "head"]
    backwards = dict(reversed(layers(1e-9, 1e-5, 1e-1).items()))
    assert [f.rule for f in diagnose(backwards)] == ["vanishing_gradient"]


def test_explosions_in_time_and_numbers_that_are_none():
    norms = [(s, 1.0 + 0.1 * (s % 3)) for s in range(10)] + [(10, 500.0), (11, 9000.0)]
    (found,) = diagnose({"watch/w/gradient/norm": norms})
    assert (found.rule, found.first_step) == ("exploding_gradient", 10)
    assert diagnose({"watch/w/gradient/norm": norms[:11]}) == []  # once is a batch
    (found,) = diagnose({"watch/w/gradient/nan": [(0, 0.0), (5, 0.01)]})
    assert (found.rule, found.first_step, found.severity) == ("exploding_gradient", 5, "critical")
    assert [f.rule for f in diagnose({"watch/w/weights/nan": [(0, 0.5)]})] == ["not_finite"]


def test_saturated_and_dead():
    shares = [(s, 0.8) for s in range(5)]
    assert [f.rule for f in diagnose({"watch/h/activations/saturated": shares})] == ["saturated_activation"]
    assert [f.rule for f in diagnose({"watch/h/activations/dead": shares})] == ["dead_units"]
    assert diagnose({"watch/h/activations/saturated": [*shares, (5, 0.1)]}) == []  # it recovered
    assert diagnose({"watch/h/activations/dead": [(s, 0.2) for s in range(5)]}) == []


def test_waiting_for_input():
    def spent(**seconds: float) -> dict[str, Curve]:
        return {f"profile/{path.replace('__', '/')}/seconds": [(0, value)] for path, value in seconds.items()}

    (found,) = diagnose(spent(step=10.0, step__load=4.0, step__train=6.0))
    assert (found.rule, found.value, found.bound) == ("input_bottleneck", 0.4, 0.3)
    assert "step/load took 40% of step" in found.text
    assert [f.rule for f in diagnose(spent(load=4.0, train=6.0))] == ["input_bottleneck"]
    assert diagnose(spent(load=2.0, train=8.0)) == []
    assert diagnose(spent(load=2.0)) == []  # beside nothing, it is a share of nothing
    assert diagnose(spent(load=FEW_SECONDS / 2, train=0.0)) == []
    assert diagnose(spent(upload=9.0, train=1.0)) == []
    told = {s.path: s.share for s in sections(spent(step=10.0, step__load=4.0, rest=10.0))}
    assert told == {"rest": 0.5, "step": 0.5, "step/load": 0.4}


def test_what_was_watched_is_told():
    (told,) = watched({"watch/a/gradient/norm": [(0, 1.0), (10, math.nan)], "watch/a/gradient/nan": [(0, 0.0), (10, 1.0)]})
    assert (told.name, told.kind, told.captures, told.last) == ("a/gradient", "gradient", 2, {"norm": None, "nan": 1.0})
