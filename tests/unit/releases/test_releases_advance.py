"""A release as a pure function."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from treadle.records.clock import UTC
from treadle.records.definitions import Canary
from treadle.records.releases import Block, Evidence, Release
from treadle.records.states import RELEASE_MOVES, ReleaseState
from treadle.releases.advance import DEPLOYING, LIVE, ROUTING, advance, live_since

START = dt.datetime(2013, 2, 1, 9, tzinfo=UTC)
DAY = dt.timedelta(days=1)


def release(**given) -> Release:
    values = {
        "project": "p",
        "environment": "prod",
        "release_id": "rel",
        "endpoint": "e",
        "model": "m",
        "from_version": 1,
        "to_version": 2,
        "strategy": Canary(margin=0.001),
        "state": ReleaseState.waiting,
        "generation": 3,
        "actor": "a",
        "started": START,
        "facts": {"phase": DEPLOYING},
    }
    return Release(**{**values, **given})


def live(**given) -> Release:
    return release(state=ReleaseState.running, facts={"phase": LIVE, "live": START.isoformat()}, **given)


def days(*differences: float, rows: int = 200) -> tuple[Block, ...]:
    return tuple(Block(start=START + i * DAY, rows=rows, difference=d) for i, d in enumerate(differences))


def test_deployment_comes_before_traffic() -> None:
    one = release()
    assert advance(one, Evidence(), START) is one
    two = advance(one, Evidence(acknowledged=True), START)
    assert (two.state, two.facts["phase"]) == (ReleaseState.waiting, ROUTING)
    three = advance(two, Evidence(acknowledged=True), START + DAY)
    assert (three.state, three.facts["phase"], live_since(three)) == (ReleaseState.running, LIVE, START + DAY)


def test_a_worker_that_cannot_load_fails_the_release() -> None:
    done = advance(release(), Evidence(error="w: corrupt"), START)
    assert (done.state, done.verdict, done.ended) == (ReleaseState.failed, "failed", START)


def test_a_direct_switch_is_promoted_when_it_is_live() -> None:
    assert advance(live(strategy=None), Evidence(acknowledged=True), START).state == ReleaseState.promoted


@pytest.mark.parametrize(
    ("differences", "state"),
    [
        ([-0.01] * 7, ReleaseState.promoted),
        ([0.02] * 7, ReleaseState.stopped),
        ([-0.01] * 3, ReleaseState.running),
        ([0.0105, -0.01] * 7, ReleaseState.inconclusive),
        ([], ReleaseState.running),
    ],
)
def test_verdicts(differences: list[float], state: ReleaseState) -> None:
    now = START + max(1, len(differences)) * DAY
    done = advance(live(), Evidence(blocks=days(*differences), complete_until=now), now)
    assert done.state == state
    assert (done.ended is None) == (state == ReleaseState.running)
    if done.ended:
        assert "0.05" in done.reason or "Deadline" in done.reason


def test_no_outcome_at_all_ends_inconclusive() -> None:
    done = advance(live(), Evidence(complete_until=START + 14 * DAY), START + 15 * DAY)
    assert (done.state, "no block has enough" in done.reason) == (ReleaseState.inconclusive, True)


def test_the_deadline_waits_for_the_last_outcomes() -> None:
    now = START + 14 * DAY + dt.timedelta(hours=1)
    assert advance(live(), Evidence(blocks=days(0.0), complete_until=START + 13 * DAY), now).state == ReleaseState.running


def test_blocks_after_the_deadline_do_not_count() -> None:
    late = [*[0.0105, -0.01] * 7, *[-0.5] * 10]
    now = START + 30 * DAY
    assert advance(live(), Evidence(blocks=days(*late), complete_until=now), now).facts["blocks"] == 14


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(ReleaseState),
    st.lists(st.floats(-0.1, 0.1), max_size=20),
    st.booleans(),
    st.sampled_from(["", "broken"]),
    st.sampled_from([DEPLOYING, ROUTING, LIVE]),
)
def test_every_step_is_an_allowed_move(state, differences, acknowledged, error, phase) -> None:
    before = replace(release(), state=state, facts={"phase": phase})
    now = START + len(differences) * DAY
    seen = Evidence(blocks=days(*differences), acknowledged=acknowledged, error=error, complete_until=now)
    after = advance(before, seen, now)
    assert after.state == state or after.state in RELEASE_MOVES[state]
    assert advance(before, seen, now) == after
