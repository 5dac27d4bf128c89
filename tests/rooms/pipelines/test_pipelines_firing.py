"""Triggers on a real ledger: sealed events start runs, once, with their reason."""

import datetime as dt
from typing import Any

import pytest

import treadle.pipelines as tp
from treadle.ledger import events, sealer
from treadle.operations.pipelines import ListTriggers
from treadle.pipelines.triggers import Triggers
from treadle.records.calls import SYSTEM, Call
from treadle.records.clock import VirtualClock
from treadle.records.definitions import Condition, Endpoint, Trigger
from treadle.store.queries import pipelines as queries

START = dt.datetime(2013, 3, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@tp.step
def fitted(until: dt.datetime) -> str:
    return until.isoformat()


@tp.pipeline
def train(until: dt.datetime, seed: int = 7) -> None:
    fitted(until)


DECAY = Trigger(
    name="retrain-train",
    pipeline="train",
    when=(Condition(kind="decayed", metric="brier", by=0.01), Condition(kind="grown", dataset="flights", factor=2.0)),
    at_most_every_s=7 * 86400,
    budget=2,
    parameters={"seed": 9},
)


@pytest.fixture
def watched(engine: Any) -> Any:
    engine.clock = VirtualClock(START)
    engine.apply(train, endpoints=(Endpoint(name="delay", model="delay", retrain=DECAY),))
    return engine


def emit(engine: Any, type: str, **payload: Any) -> str:
    call = Call(actor=SYSTEM, event_time=engine.clock.now())
    made = engine.database.write(
        lambda tx: events.append(tx, call, type=type, subject="x", project="engine", environment="dev", payload=payload)
    )
    sealer.seal_all(engine.database)
    return made


def evaluate(engine: Any, triggers: Triggers | None = None, *, advance: dt.timedelta = DAY) -> list[Any]:
    engine.clock.advance_to(engine.clock.now() + advance)
    return (triggers or Triggers(engine.database, engine)).evaluate("engine", "dev", engine.clock.now())


def test_an_alarm_starts_a_run_with_its_reason(watched: Any) -> None:
    triggers = Triggers(watched.database, watched)
    emit(watched, "treadle.performance.decayed", endpoint="delay", facts={"metric": "brier", "by": 0.5})
    assert evaluate(watched, triggers) == [], "a trigger hears what is sealed after it was first seen"
    told = emit(watched, "treadle.performance.decayed", endpoint="delay", text="worse", facts={"metric": "brier", "by": 0.5})
    [run] = evaluate(watched, triggers)
    assert (run.reason.kind, run.reason.text, run.reason.trigger, run.reason.event_id) == ("decayed", "worse", "retrain-train", told)
    assert run.params == {"until": "2013-03-03T00:00:00Z", "seed": 9}
    assert run.event_time == START + 2 * DAY
    assert evaluate(watched, triggers) == []
    watched.worker().run_due()
    assert watched.look(run.run_id).state == "finished"
    with watched.database.read() as connection:
        [status] = watched.service.list_triggers(connection, ListTriggers(project="engine"), watched.call)
    assert (status.name, status.fired_in_window, status.budget, status.last_fired) == ("retrain-train", 1, 2, START + 2 * DAY)
    assert status.next_allowed == START + 9 * DAY


def test_pace_and_budget(watched: Any) -> None:
    triggers = Triggers(watched.database, watched)
    evaluate(watched, triggers)
    fired = []
    for _ in range(30):
        emit(watched, "treadle.performance.decayed", endpoint="delay")
        fired += [run.event_time for run in evaluate(watched, triggers)]
        watched.worker().run_due()
    assert fired == [START + 2 * DAY, START + 9 * DAY]


def test_what_a_replay_left_waiting_is_not_started_by_the_machine_s_clock(watched: Any) -> None:
    evaluate(watched)
    for _ in range(2):
        emit(watched, "treadle.performance.decayed", endpoint="delay")
        assert len(evaluate(watched, advance=8 * DAY)) == 1
        watched.worker().run_due()
    emit(watched, "treadle.performance.decayed", endpoint="delay")  # its budget is spent
    assert evaluate(watched) == []
    triggers = Triggers(watched.database, watched)
    triggers.forget_replayed()
    watched.clock = VirtualClock(dt.datetime.now(dt.UTC))
    assert evaluate(watched, triggers, advance=DAY) == []
    emit(watched, "treadle.performance.decayed", endpoint="delay")
    [run] = evaluate(watched, triggers, advance=DAY)
    assert run.reason.kind == "decayed"


def test_what_waits_in_a_home_that_lives_goes_on_waiting(watched: Any) -> None:
    watched.clock = VirtualClock(dt.datetime.now(dt.UTC))
    evaluate(watched, advance=0 * DAY)
    emit(watched, "treadle.performance.decayed", endpoint="delay")
    assert len(evaluate(watched, advance=DAY)) == 1
    watched.worker().run_due()
    emit(watched, "treadle.performance.decayed", endpoint="delay")
    assert evaluate(watched, advance=0 * DAY) == []  # too soon
    Triggers(watched.database, watched).forget_replayed()
    assert len(evaluate(watched, advance=8 * DAY)) == 1


def test_growth_since_the_last_training(watched: Any) -> None:
    evaluate(watched)
    emit(watched, "treadle.data.arrived", dataset="flights", rows=100)
    assert evaluate(watched) == []
    run_id = watched.submit("train", until="2013-03-01")
    watched.worker().run_due()
    assert watched.look(run_id).state == "finished"
    emit(watched, "treadle.data.arrived", dataset="flights", rows=199)
    assert evaluate(watched) == []
    emit(watched, "treadle.data.arrived", dataset="flights", rows=200)
    [run] = evaluate(watched)
    assert run.reason.kind == "grown"


def test_a_crash_between_submitting_and_remembering_starts_no_second_run(watched: Any) -> None:
    evaluate(watched)
    with watched.database.read() as connection:
        [before] = queries.trigger_states(connection, "engine")
    emit(watched, "treadle.performance.decayed", endpoint="delay")
    [run] = evaluate(watched)
    row = dict(before._mapping)
    watched.database.write(lambda tx: queries.put_trigger(tx, row))  # as if the worker had died before it remembered
    [again] = evaluate(watched)
    assert again.run_id == run.run_id
    assert watched.worker().run_due() == 1


def test_a_refused_run_is_remembered(engine: Any) -> None:
    engine.clock = VirtualClock(START)
    wrong = Trigger(name="wrong", pipeline="missing", when=(Condition(kind="cron", cron="0 0 * * *"),))
    engine.apply(train, triggers=(wrong,))
    triggers = Triggers(engine.database, engine)
    assert evaluate(engine, triggers) == []
    assert evaluate(engine, triggers) == []
    with engine.database.read() as connection:
        [row] = queries.trigger_states(connection, "engine", "dev")
    assert "has no pipeline 'missing'" in row.facts["error"]
    assert row.next_cron == START + 3 * DAY


def test_nothing_applied_nothing_fires(engine: Any) -> None:
    assert Triggers(engine.database, engine).evaluate("nobody", "dev", START) == []
