"""When a trigger fires, as a function of what it remembers, events and time."""

import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.pipelines.triggers import ARRIVED, Facts, State, after, decide, next_allowed
from treadle.records.definitions import Condition, Trigger
from treadle.records.errors import TreadleError
from treadle.records.ledger import Event

START = dt.datetime(2013, 3, 1, tzinfo=dt.UTC)
DECAYED = "treadle.performance.decayed"


def event(seq: int, type: str, *, environment: str = "prod", **payload: Any) -> Event:
    return Event(
        event_id=f"evt_{seq}",
        project="p",
        environment=environment,
        type=type,
        subject="x",
        actor="system",
        event_time=START,
        recorded_time=START,
        payload=payload,
        payload_digest="",
        seq=seq,
    )


def trigger(*when: Condition, **options: Any) -> Trigger:
    return Trigger(name="t", pipeline="train", when=when, **options)


DECAY = Condition(kind="decayed", metric="brier", by=0.01)


def test_decay_of_its_own_endpoint() -> None:
    t = trigger(DECAY)
    other = event(1, DECAYED, endpoint="other", facts={"metric": "brier"})
    own = event(2, DECAYED, endpoint="delay", text="brier is worse by 0.02", facts={"metric": "brier", "by": 0.02})
    none = decide(t, State(), [other], START, endpoint="delay")
    assert (none.firing, none.state.cursor) == (None, 1)
    fired = decide(t, none.state, [own], START, endpoint="delay")
    assert fired.firing is not None
    assert (fired.firing.kind, fired.firing.event_id, fired.firing.text) == ("decayed", "evt_2", "brier is worse by 0.02")
    assert fired.firing.facts == {"metric": "brier", "by": 0.02}
    assert (fired.state.last_fired, fired.state.cursor) == (START, 2)


@pytest.mark.parametrize("facts", [{"metric": "roc_auc", "by": 0.5}, {"metric": "brier", "by": 0.005}])
def test_decay_of_another_metric_or_too_small(facts: dict[str, Any]) -> None:
    assert decide(trigger(DECAY), State(), [event(1, DECAYED, endpoint="e", facts=facts)], START).firing is None


def test_events_of_other_environments_are_not_heard() -> None:
    t = trigger(DECAY)
    assert decide(t, State(), [event(1, DECAYED, environment="staging")], START, environment="prod").firing is None
    assert decide(t, State(), [event(1, DECAYED, environment="")], START, environment="prod").firing is not None


def test_what_comes_too_soon_waits_and_then_fires_once() -> None:
    t = trigger(DECAY, at_most_every_s=14 * 86400)
    state = decide(t, State(), [event(1, DECAYED)], START).state
    soon = decide(t, state, [event(2, DECAYED), event(3, DECAYED)], START + dt.timedelta(days=3))
    assert soon.firing is None
    assert soon.state.facts.waiting is not None
    assert next_allowed(t, soon.state) == START + dt.timedelta(days=14)
    later = decide(t, soon.state, [], START + dt.timedelta(days=14))
    assert later.firing is not None
    assert later.firing.event_id == "evt_2"
    assert decide(t, later.state, [], START + dt.timedelta(days=40)).firing is None


def test_a_run_that_goes_on_holds_the_next_back() -> None:
    held = decide(trigger(DECAY), State(), [event(1, DECAYED)], START, busy=True)
    assert held.firing is None
    assert decide(trigger(DECAY), held.state, [], START).firing is not None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(0, 4), st.integers(0, 10))
def test_budget_and_pace_always_hold(gaps: list[int], budget: int, pace: int) -> None:
    window = dt.timedelta(days=100)
    t = trigger(DECAY, budget=budget, budget_window_s=int(window.total_seconds()), at_most_every_s=pace * 86400)
    state, now, fired = State(), START, []
    for seq, gap in enumerate(gaps, 1):
        now += dt.timedelta(days=gap)
        decision = decide(t, state, [event(seq, DECAYED)], now)
        state = decision.state
        if decision.firing is not None:
            fired.append(now)
    for moment in fired:
        assert sum(moment - window < other <= moment for other in fired) <= budget
    assert all(b - a >= dt.timedelta(days=pace) for a, b in itertools.pairwise(fired))


def test_grown_counts_from_the_last_training_whoever_started_it() -> None:
    t = trigger(Condition(kind="grown", dataset="flights", factor=1.5))
    arrived = [event(i, ARRIVED, dataset="flights", rows=rows) for i, rows in ((1, 100), (3, 149), (5, 150))]
    trained = event(2, "treadle.run.finished", pipeline="train")
    other = event(4, "treadle.run.finished", pipeline="another")
    decision = decide(t, State(), [arrived[0], trained, arrived[1], other], START)
    assert decision.firing is None
    fired = decide(t, decision.state, [arrived[2]], START)
    assert fired.firing is not None
    assert fired.firing.text == "flights has grown from 100 rows at the last training to 150"
    assert decide(t, fired.state, [event(6, ARRIVED, dataset="flights", rows=160)], START).firing is None


def test_dataset_and_event() -> None:
    t = trigger(Condition(kind="dataset", dataset="flights"), Condition(kind="event", event="my.*", filter={"a.b": 1}))
    assert decide(t, State(), [event(1, ARRIVED, dataset="weather", rows=1)], START).firing is None
    assert decide(t, State(), [event(1, ARRIVED, dataset="flights", rows=1)], START).firing is not None
    assert decide(t, State(), [event(1, "my.thing", a={"b": 2})], START).firing is None
    assert decide(t, State(), [event(1, "my.thing", a={"b": 1})], START).firing is not None


def test_missed_cron_times_fire_once_for_the_latest() -> None:
    t = trigger(Condition(kind="cron", cron="0 9 * * *", zone="Europe/Berlin"))
    first = decide(t, State(), [], START)
    assert first.firing is None, "a new trigger waits for its next time"
    late = decide(t, first.state, [], START + dt.timedelta(days=3, hours=10))
    assert late.firing is not None
    assert late.firing.time == dt.datetime(2013, 3, 4, 8, tzinfo=dt.UTC)
    assert decide(t, late.state, [], START + dt.timedelta(days=3, hours=11)).firing is None


def test_cron_knows_summer_time() -> None:
    before = dt.datetime(2013, 3, 30, 12, tzinfo=dt.UTC)
    assert after("0 9 * * *", "Europe/Berlin", before) == dt.datetime(2013, 3, 31, 7, tzinfo=dt.UTC)


@pytest.mark.parametrize(("cron", "zone"), [("every day", "UTC"), ("0 9 * * *", "Nowhere/City"), ("0 0 31 2 *", "UTC")])
def test_a_time_that_never_comes(cron: str, zone: str) -> None:
    with pytest.raises(TreadleError) as told:
        after(cron, zone, START)
    assert told.value.code == "bad_definition"


def test_what_is_remembered_is_json() -> None:
    import msgspec

    state = decide(trigger(DECAY, at_most_every_s=10), State(last_fired=START), [event(1, DECAYED, facts={"by": 1})], START).state
    assert msgspec.json.decode(msgspec.json.encode(state.facts), type=Facts) == state.facts
