"""Ranks and trends as functions of records."""

import datetime as dt
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.evaluation.leaderboard import better, grouped_by, rank, trend_of
from treadle.records.errors import TreadleError
from treadle.records.models import ModelVersion
from treadle.records.states import RunState, VersionState
from treadle.records.tracking import Lifecycle, Point, TrackedRun

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def run(run_id: str, group: str = "", **metrics: float) -> TrackedRun:
    return TrackedRun(
        project="p",
        run_id=run_id,
        experiment_id="0",
        name=run_id,
        user="",
        state=RunState.finished,
        lifecycle=Lifecycle.active,
        actor="",
        created=NOW,
        metrics=[Point(key=key, value=value) for key, value in metrics.items()],
        params={"kind": group} if group else {},
    )


def version(number: int, **metrics: float) -> ModelVersion:
    return ModelVersion(
        project="p",
        model="m",
        number=number,
        state=VersionState.validated,
        bundle_digest="",
        run_id=f"r{number}",
        metrics=metrics,
        gates=(),
        aliases=(),
        actor="",
        event_time=NOW,
    )


@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.30000000000000004, math.nan, math.inf]), max_size=12), st.sampled_from(["higher", "lower"])
)
def test_ranks_are_those_of_a_competition(values, way):
    board = rank([run(f"r{i}", auc=v) for i, v in enumerate(values)], "auc", better=way)
    numbers = [v for v in values if not math.isnan(v)]
    assert (board.runs, board.without) == (len(values), len(values) - len(numbers))
    assert sorted(p.value for p in board.places) == sorted(numbers)
    for place in board.places:
        ahead = [
            p
            for p in board.places
            if (p.value > place.value if way == "higher" else p.value < place.value) and not math.isclose(p.value, place.value)
        ]
        assert place.rank == len(ahead) + 1
        assert place.tied == (sum(p.rank == place.rank for p in board.places) > 1)


def test_groups_have_their_best_mean_and_number():
    board = rank(
        [run("a", "x", loss=1.0), run("b", "x", loss=3.0), run("c", "y", loss=2.0), run("d", "y")],
        "loss",
        better="lower",
        group="params.kind",
    )
    assert [(g.group, g.runs, g.best, g.best_run, g.mean, g.std) for g in board.groups] == [
        ("x", 2, 1.0, "a", 2.0, pytest.approx(math.sqrt(2))),
        ("y", 1, 2.0, "c", 2.0, None),
    ]


def test_a_mean_over_folds_brings_its_spread():
    (place,) = rank([run("a", **{"cv/auc_mean": 0.8, "cv/auc_std": 0.02})], "cv/auc_mean", better="higher").places
    assert place.spread == 0.02


def test_which_way_is_better():
    assert (better("val_loss"), better("roc_auc"), better("thing", "lower"), better("auc", "lower")) == (
        "lower",
        "higher",
        "lower",
        "lower",
    )
    with pytest.raises(TreadleError, match="does not say"):
        better("thing")
    with pytest.raises(TreadleError, match="not grouped"):
        grouped_by(run("a"), "colour")


def test_a_trend_over_versions():
    rising = trend_of("m", [version(n, auc=0.6 + n / 100) for n in (3, 1, 2, 4, 5)], "auc", better="higher")
    assert (rising.verdict, rising.best, [s.number for s in rising.steps]) == ("better", 5, [1, 2, 3, 4, 5])
    assert trend_of("m", [version(n, auc=0.9 - n / 100) for n in range(1, 6)], "auc", better="higher").verdict == "worse"
    assert trend_of("m", [version(n, auc=0.8) for n in range(1, 6)], "auc", better="higher").verdict == "no trend"
    gap = trend_of("m", [version(1, auc=0.7), version(2), version(3, auc=0.8)], "auc", better="higher")
    assert (gap.verdict, gap.best) == ("unknown", 3)
    assert [s.change for s in gap.steps] == [None, None, pytest.approx(0.1)]
    assert trend_of("m", [], "auc", better="higher").best is None
