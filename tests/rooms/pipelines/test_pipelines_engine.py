"""The engine on real databases: journal, cache, resume, failures, and what it refuses."""

import datetime as dt
import logging
from collections import Counter
from enum import StrEnum
from typing import Any

import polars as pl
import pytest

import treadle.pipelines as tp
from treadle.operations.pipelines import ListSteps, SubmitRun
from treadle.pipelines.context import current
from treadle.records.clock import VirtualClock
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.states import RunState, StepState
from treadle.store.queries import events

CALLS: Counter[str] = Counter()
SWITCH: dict[str, Any] = {}


class Size(StrEnum):
    small = "small"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()
    SWITCH.clear()


@tp.step
def numbers(count: int) -> list[int]:
    CALLS["numbers"] += 1
    print("making", count)
    logging.getLogger("mine").info("made %d", count)
    return list(range(count))


@tp.step(cache=False)
def total(items: list[int], extra: int = 0) -> int:
    CALLS["total"] += 1
    if SWITCH.get("fail"):
        raise ValueError("the switch says fail")
    return sum(items) + extra


@tp.step
def double(item: int) -> int:
    CALLS["double"] += 1
    return item * 2


@tp.step
def halves(count: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    CALLS["halves"] += 1
    frame = pl.DataFrame({"x": list(range(count))})
    return frame.head(count // 2), frame.tail(count - count // 2)


@tp.step
def height(frame: pl.DataFrame) -> int:
    CALLS["height"] += 1
    return frame.height


@tp.pipeline
def plain(count: int = 3) -> None:
    items = numbers(count)
    doubled = tp.each(double, items.get())
    total(doubled, extra=1)


@tp.pipeline
def frames(count: int = 5) -> None:
    first, second = halves(count)
    if height(first).get() < height(second).get():
        total([height(second)])


def test_a_run_is_journaled(engine: Any) -> None:
    run = engine.run(plain, count=3)
    assert run.state == RunState.finished, run.error
    assert run.started is not None
    assert run.ended is not None
    steps = engine.steps(run)
    assert [s.path for s in steps] == ["0000:numbers", "0001:double[0]", "0001:double[1]", "0001:double[2]", "0002:total"]
    assert {s.state for s in steps} == {StepState.finished}
    assert steps[0].why == "first time: no earlier result of this step is kept"
    assert steps[0].components["parameter:count"] == "3"
    assert steps[-1].why == "cache is off for this step"
    assert engine.lines(run) == ["making 3", "mine: made 3"]
    with engine.database.read() as connection:
        told = [e.type for e in events.list_events(connection, "engine", after=0, limit=100)]
    assert told == []  # nothing is sealed yet, so no reader sees it


def test_a_second_run_answers_from_the_cache(engine: Any) -> None:
    first = engine.run(plain, count=3)
    second = engine.run(plain, count=3)
    assert CALLS == {"numbers": 1, "double": 3, "total": 2}
    steps = engine.steps(second)
    assert [s.state for s in steps] == [StepState.cached] * 4 + [StepState.finished]
    assert first.run_id in steps[0].why
    assert [s.output for s in steps] == [s.output for s in engine.steps(first)]


def test_why_names_what_changed(engine: Any) -> None:
    engine.run(plain, count=3)
    changed = engine.run(plain, count=4)
    assert engine.steps(changed)[0].why == "count changed: 3 → 4"
    uncached = engine.run(plain, count=4, use_cache=False)
    assert engine.steps(uncached)[0].why == "cache is off for this run"


def test_a_cached_artifact_that_is_gone_is_made_again(engine: Any) -> None:
    first = engine.run(frames)
    for digest, _ in list(engine.blobs.listing()):
        engine.blobs.delete(digest)
    second = engine.run(frames)
    assert second.state == RunState.finished, second.error
    assert CALLS["halves"] == 2
    assert engine.steps(second)[0].why == f"the result kept from {first.run_id} ({engine.steps(first)[0].output[:12]}) is gone"


def test_a_corrupt_artifact_is_named(engine: Any) -> None:
    engine.run(frames)
    for digest, size in list(engine.blobs.listing()):
        engine.blobs.place(digest).write_bytes(b"x" * size)
    second = engine.run(frames)
    assert second.state == RunState.failed
    assert "is corrupt: its content no longer matches its digest" in second.error


def test_resume_runs_only_what_had_not_finished(engine: Any) -> None:
    SWITCH["fail"] = True
    run = engine.run(plain, count=2)
    assert run.state == RunState.failed
    assert "ValueError: the switch says fail" in run.error
    failed = engine.steps(run)[-1]
    assert (failed.state, failed.attempt) == (StepState.failed, 1)
    assert any("ValueError" in line for line in engine.lines(run))
    SWITCH["fail"] = False
    resumed = engine.resume(run.run_id)
    assert resumed.state == RunState.finished, resumed.error
    assert resumed.error is None
    assert CALLS == {"numbers": 1, "double": 2, "total": 2}
    assert engine.steps(run)[-1].attempt == 2


def test_containers_come_back_in_parts_on_resume(engine: Any) -> None:
    SWITCH["fail"] = True
    run = engine.run(frames)
    SWITCH["fail"] = False
    assert engine.resume(run.run_id).state == RunState.finished
    assert CALLS == {"halves": 1, "height": 2, "total": 2}


def test_a_body_on_another_path_is_named(engine: Any) -> None:
    SWITCH["fail"] = True

    @tp.pipeline
    def fickle() -> None:
        numbers(1) if SWITCH["fail"] else double(1)
        total([1])

    run = engine.run(fickle)
    SWITCH["fail"] = False
    resumed = engine.resume(run.run_id)
    assert resumed.state == RunState.failed
    assert "took another path than its journal: step 0 of its body is now 'double', but was 'numbers'" in resumed.error


def test_other_arguments_on_resume_are_named(engine: Any) -> None:
    SWITCH.update(fail=True, count=1)

    @tp.pipeline
    def fickle() -> None:
        numbers(SWITCH["count"])
        total([1])

    run = engine.run(fickle)
    SWITCH.update(fail=False, count=2)
    assert "called with other arguments (count changed: 1 → 2)" in engine.resume(run.run_id).error


def test_a_body_that_ends_early_is_named(engine: Any) -> None:
    SWITCH["fail"] = True

    @tp.pipeline
    def fickle() -> None:
        if SWITCH["fail"]:
            numbers(1)
            total([1])

    run = engine.run(fickle)
    SWITCH["fail"] = False
    assert "its body ended without '0000:numbers'" in engine.resume(run.run_id).error


def test_a_result_that_cannot_be_saved_fails_the_step(engine: Any) -> None:
    @tp.step
    def unsavable() -> Any:
        return lambda: 1

    @tp.pipeline
    def bad() -> None:
        unsavable()

    run = engine.run(bad)
    assert run.state == RunState.failed
    assert "The result of step 0000:unsavable is a builtins.function and cannot be saved. Nothing is pickled." in run.error


def test_retries_with_back_off(engine: Any) -> None:
    @tp.step(retries=2, backoff_s=0.001)
    def flaky() -> int:
        CALLS["flaky"] += 1
        if CALLS["flaky"] < 3:
            raise OSError("not yet")
        return 1

    @tp.pipeline
    def patient() -> None:
        flaky()

    run = engine.run(patient)
    assert run.state == RunState.finished
    assert engine.steps(run)[0].attempt == 3
    assert sum("OSError: not yet" in line for line in engine.lines(run)) == 2


def test_steps_see_their_run(engine: Any) -> None:
    @tp.step
    def who() -> dict[str, Any]:
        here = current()
        return {"run": here.run_id, "time": here.event_time, "project": here.project, "step": here.step}

    seen = {}

    @tp.pipeline
    def asking(until: dt.datetime, days: int = 1) -> None:
        seen.update(who().get(), until=until, days=days)

    run = engine.run(asking, until="2013-03-31", days="3")
    assert run.state == RunState.finished, run.error
    assert seen == {
        "run": run.run_id,
        "time": run.event_time,
        "project": "engine",
        "step": "0000:who",
        "until": dt.datetime(2013, 3, 31, tzinfo=dt.UTC),
        "days": 3,
    }


@tp.pipeline
def sized(size: Size) -> None:
    pass


def test_a_parameter_that_does_not_fit(engine: Any) -> None:
    with pytest.raises(TreadleError, match="'count' of pipeline plain takes int, and was given \"many\""):
        engine.run(plain, count="many")
    assert engine.worker().run_due() == 0  # nothing was queued
    # What only the project's code knows is checked when it runs.
    assert "Parameter size: 'huge' does not fit Size" in engine.run(sized, size="huge").error


def test_submit_is_checked_and_repeatable(engine: Any) -> None:
    engine.apply(plain)
    run_id = engine.submit("plain", count=1)
    assert engine.submit("plain", run_id=run_id, count=1) == run_id
    engine.apply(plain, frames)
    with pytest.raises(TreadleError, match="exists, of pipeline plain") as told:
        engine.submit("frames", run_id=run_id)
    assert told.value.code == "conflict"
    with pytest.raises(TreadleError, match="has no parameter 'cuont'"):
        engine.submit("plain", cuont=1)
    with pytest.raises(TreadleError, match="has no pipeline 'nothing'"):
        engine.submit("nothing")
    with pytest.raises(TreadleError, match="Nothing of project other is applied in dev"):
        engine.do(engine.service.submit, SubmitRun(project="other", pipeline="plain", run_id=new_id("run")))
    with pytest.raises(TreadleError, match="has no run run_x"), engine.database.read() as connection:
        engine.service.steps(connection, ListSteps(project="engine", run_id="run_x"), engine.call)


def test_a_run_of_a_broken_body_fails(engine: Any) -> None:
    @tp.pipeline
    def broken() -> None:
        raise RuntimeError("in the body")

    run = engine.run(broken)
    assert (run.state, "RuntimeError: in the body" in run.error) == (RunState.failed, True)
    assert any("in the body" in line for line in engine.lines(run))


def test_virtual_runs_take_their_declared_time(engine: Any) -> None:
    start = dt.datetime(2013, 2, 1, tzinfo=dt.UTC)
    engine.clock = VirtualClock(start)

    @tp.pipeline(virtual_duration="30m")
    def slow() -> None:
        numbers(1)

    engine.apply(slow)
    run_id = engine.submit("slow")
    worker = engine.worker()
    assert worker.run_due(start) == 0
    engine.clock.advance_to(start + dt.timedelta(minutes=30))
    assert worker.run_due(engine.clock.now()) == 1
    run = engine.look(run_id)
    assert (run.state, run.event_time, run.ended) == (RunState.finished, start, start + dt.timedelta(minutes=30))


def test_output_goes_back_where_it_went(engine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = engine.run(plain, count=1)
    print("outside")
    assert capsys.readouterr().out == "outside\n"
    assert "outside" not in engine.lines(run)
