"""The sequential test: its error rates by simulation, looked at after every block."""

import datetime as dt
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.records.clock import UTC
from treadle.records.releases import Block
from treadle.releases import sequential

ALPHA = 0.05
RUNS = 3000
BLOCKS = 30
DAY = dt.datetime(2013, 2, 1, tzinfo=UTC)


def blocks(differences, scales=None) -> list[Block]:
    scales = [1.0] * len(differences) if scales is None else scales
    return [
        Block(start=DAY + dt.timedelta(days=i), rows=100, difference=float(d), scale=float(s))
        for i, (d, s) in enumerate(zip(differences, scales, strict=True))
    ]


def rate(draw, *, of: str, margin: float = 0.0) -> float:
    """Share of runs in which a decision is ever reached, looking after each of 30 blocks."""
    hits = 0
    for _ in range(RUNS):
        read = sequential.read(blocks(draw()), margin=margin)
        peak = read.better_peak if of == "better" else read.worse_peak
        hits += peak >= -math.log(ALPHA)
    return hits / RUNS


def test_no_difference_is_seldom_taken_for_harm_or_gain() -> None:
    rng = np.random.default_rng(1)
    for of in ("better", "worse"):
        found = rate(lambda: rng.normal(0, 0.01, BLOCKS), of=of)
        assert found <= ALPHA, f"{of}: {found}"


@pytest.mark.parametrize("family", ["uneven", "heavy", "rising"])
def test_error_rates_hold_for_uneven_days(family: str) -> None:
    rng = np.random.default_rng(2)
    sizes = {
        "uneven": lambda: rng.normal(0, 1, BLOCKS) * rng.choice([0.002, 0.05], BLOCKS),
        "heavy": lambda: rng.standard_t(1.5, BLOCKS) * 0.01,
        "rising": lambda: rng.normal(0, 1, BLOCKS) * np.geomspace(0.001, 0.1, BLOCKS),
    }
    assert rate(sizes[family], of="worse") <= ALPHA
    assert rate(sizes[family], of="better") <= ALPHA


def test_a_challenger_worse_by_the_margin_is_seldom_promoted() -> None:
    rng = np.random.default_rng(3)
    assert rate(lambda: rng.normal(0.002, 0.004, BLOCKS), of="better", margin=0.002) <= ALPHA
    assert rate(lambda: rng.normal(0.004, 0.004, BLOCKS), of="better", margin=0.002) <= ALPHA / 2


def test_real_paired_losses_keep_the_level() -> None:
    """Brier differences of two equally good forecasters, 200 rows a day, with a shock of the day: skewed rows, symmetric days."""
    rng = np.random.default_rng(4)

    def run():
        day = rng.normal(0, 0.7, (BLOCKS, 1))
        logit = rng.normal(-1.2, 1, (BLOCKS, 200)) + day
        p = 1 / (1 + np.exp(-logit))
        y = rng.random(p.shape) < p
        one, other = p + rng.normal(0, 0.08, p.shape), p + rng.normal(0, 0.08, p.shape)
        return (np.square(other - y) - np.square(one - y)).mean(axis=1)

    hits = {"better": 0, "worse": 0}
    for _ in range(600):
        read = sequential.read(blocks(run()), margin=0.0)
        hits["better"] += read.better_peak >= -math.log(ALPHA)
        hits["worse"] += read.worse_peak >= -math.log(ALPHA)
    assert max(hits.values()) / 600 <= ALPHA + 0.02, hits  # two standard errors of 600 runs


def test_power_is_what_the_module_says() -> None:
    rng = np.random.default_rng(5)
    decided = [sequential.read(blocks(rng.normal(-0.01, 0.01, 14)), margin=0.0).better_peak >= -math.log(ALPHA) for _ in range(1000)]
    assert 0.72 <= np.mean(decided) <= 0.88


def test_scales_weigh_blocks_and_change_no_sign() -> None:
    noisy = [-0.001, 0.05, -0.001, -0.04, -0.001, -0.001, -0.001, -0.001, -0.001]
    told = [0.001, 0.05, 0.001, 0.05, 0.001, 0.001, 0.001, 0.001, 0.001]
    assert sequential.read(blocks(noisy, told), margin=0).better > sequential.read(blocks(noisy), margin=0).better
    rng = np.random.default_rng(6)
    wrong = 0
    for _ in range(RUNS):
        scale = rng.lognormal(0, 1, BLOCKS)
        wrong += sequential.read(blocks(rng.normal(0, 1, BLOCKS) * scale, scale), margin=0).worse_peak >= -math.log(ALPHA)
    assert wrong / RUNS <= ALPHA


def test_harm_of_a_whole_standard_deviation_stops_within_seven_blocks() -> None:
    read = sequential.read(blocks([0.01] * 7), margin=0.005)
    assert read.decision(ALPHA) == "stop"
    assert sequential.read(blocks([0.01] * 4), margin=0.005).decision(ALPHA) == "go on"
    assert sequential.read([], margin=0.0).decision(ALPHA) == "go on"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1, 1).map(lambda v: round(v, 6)), max_size=20), st.floats(0.01, 100))
def test_the_unit_of_the_loss_does_not_matter(values: list[float], unit: float) -> None:
    here, there = sequential.path(values), sequential.path([v * unit for v in values])
    assert here == pytest.approx(there, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.floats(0.0, 0.5))
def test_worse_days_never_help(values: list[float], by: float) -> None:
    """The e-value for promotion is at most doubled by a block, and an all-worse challenger is never promoted."""
    path = [0.0, *sequential.path(values)]
    assert all(b - a <= math.log(2) + 1e-9 for a, b in itertools.pairwise(path))
    assert sequential.read(blocks([abs(v) + by for v in values]), margin=0.0).better_peak <= 1e-9


def test_small_blocks_are_pooled_into_the_next() -> None:
    days = [
        Block(start=DAY + dt.timedelta(days=i), rows=n, difference=d)
        for i, (n, d) in enumerate([(5, 1.0), (15, 0.0), (30, 2.0), (3, 9.0), (0, 0.0)])
    ]
    pooled = sequential.pool(days, 20)
    assert [(b.rows, b.difference) for b in pooled] == [(20, 0.25), (30, 2.0)]
    assert pooled[0].start == DAY
