"""Leases, cancellation, timeouts: what happens when a run, a step or a worker does not end by itself."""

import ctypes
import threading
import time
from typing import Any

import pytest

import treadle.pipelines as tp
from treadle.operations.pipelines import CancelRun
from treadle.pipelines import lease
from treadle.records.errors import TreadleError
from treadle.records.states import RunState, StepState
from treadle.store.queries import pipelines as queries

STARTED = threading.Event()
GO = threading.Event()
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    STARTED.clear()
    GO.clear()
    CALLS.clear()


@tp.step(cache=False)
def first() -> int:
    CALLS.append("first")
    return 1


@tp.step(cache=False)
def spins(before: int) -> int:
    CALLS.append("spins")
    STARTED.set()
    while not GO.is_set():
        time.sleep(0.005)
    return before + 1


@tp.pipeline
def long_one() -> None:
    spins(first())


def background(worker: Any, **options: Any) -> threading.Thread:
    thread = threading.Thread(target=worker.run_due, kwargs=options)
    thread.start()
    return thread


def test_cancel_while_queued(engine: Any) -> None:
    engine.apply(long_one)
    run_id = engine.submit("long_one")
    engine.cancel(run_id)
    engine.cancel(run_id)
    assert engine.worker().run_due() == 0
    assert engine.look(run_id).state == RunState.cancelled
    GO.set()
    assert engine.resume(run_id).state == RunState.finished
    with pytest.raises(TreadleError, match="is finished and cannot become cancelled"):
        engine.do(engine.service.cancel, CancelRun(project="engine", run_id=run_id))


def test_cancel_ends_the_step_in_flight(engine: Any) -> None:
    engine.apply(long_one)
    run_id = engine.submit("long_one")
    thread = background(engine.worker(lease_s=0.3))
    assert STARTED.wait(10)
    engine.cancel(run_id)
    thread.join(10)
    assert not thread.is_alive()
    assert engine.look(run_id).state == RunState.cancelled
    assert [s.state for s in engine.steps(run_id)] == [StepState.finished, StepState.cancelled]


def test_a_timeout_ends_a_step(engine: Any) -> None:
    @tp.step(timeout_s=0.1, retries=1, backoff_s=0.001)
    def endless() -> None:
        CALLS.append("endless")
        while True:
            time.sleep(0.001)

    @tp.pipeline
    def stuck() -> None:
        endless()

    run = engine.run(stuck)
    assert run.state == RunState.failed
    assert "Step 0000:endless did not end within 0.1 s." in run.error
    assert CALLS == ["endless", "endless"]


def test_native_code_past_its_time_is_abandoned(engine: Any) -> None:
    @tp.step(timeout_s=0.05)
    def native() -> None:
        ctypes.CDLL(None).usleep(3_000_000)

    @tp.pipeline
    def stuck() -> None:
        native()

    engine.apply(stuck)
    run_id = engine.submit("stuck")
    began = time.monotonic()
    engine.worker(grace_s=0.1).run_due()
    assert time.monotonic() - began < 3, "it was waited for"
    run = engine.look(run_id)
    assert run.state == RunState.failed
    assert "did not come back within 0.1 s; it was abandoned" in run.error
    assert engine.steps(run_id)[0].state == StepState.failed
    time.sleep(max(0.0, began + 3.2 - time.monotonic()))  # the thread comes back and may change nothing any more
    assert engine.look(run_id) == run


def take(engine: Any, owner: str) -> str:
    """A run that somebody has leased."""
    engine.apply(long_one)
    run_id = engine.submit("long_one")
    row = engine.database.write(lambda tx: queries.claim(tx, "engine", run_id, owner))
    assert row is not None
    GO.set()
    return run_id


def test_a_dead_process_loses_its_lease_at_once(engine: Any) -> None:
    run_id = take(engine, f"{lease.host()}/999999999/1/abc")
    assert engine.worker(lease_s=1000).run_due() == 1
    assert engine.look(run_id).state == RunState.finished


def test_a_beat_that_stands_still_loses_the_lease(engine: Any) -> None:
    run_id = take(engine, "elsewhere/boot/1/1/1/abc")
    worker = engine.worker(lease_s=0.2)
    assert worker.run_due() == 0
    time.sleep(0.1)
    engine.database.write(lambda tx: queries.hold(tx, "engine", run_id, "elsewhere/boot/1/1/1/abc"))
    time.sleep(0.15)
    assert worker.run_due() == 0, "it has beaten meanwhile"
    time.sleep(0.25)
    assert worker.run_due() == 1
    assert engine.look(run_id).state == RunState.finished


def test_two_workers_of_one_process_leave_each_other_alone(engine: Any) -> None:
    engine.apply(long_one)
    run_id = engine.submit("long_one")
    thread = background(engine.worker())
    assert STARTED.wait(10)
    assert engine.worker().run_due() == 0
    GO.set()
    thread.join(10)
    assert engine.look(run_id).state == RunState.finished
    assert CALLS == ["first", "spins"]


def test_who_lost_the_lease_changes_nothing(engine: Any) -> None:
    engine.apply(long_one)
    run_id = engine.submit("long_one")
    thread = background(engine.worker(lease_s=0.5))
    assert STARTED.wait(10)
    with engine.database.read() as connection:
        held = queries.leased_jobs(connection, "run")[0]
    seen = (held.owner, held.beat)
    assert engine.database.write(lambda tx: queries.take_over(tx, "engine", run_id, seen=seen, owner="elsewhere/b/1/1/1/x"))
    thread.join(10)
    assert not thread.is_alive(), "its step was ended"
    assert engine.look(run_id).state == RunState.running
    assert [s.state for s in engine.steps(run_id)] == [StepState.finished, StepState.running]


def test_a_worker_that_goes_down_hands_back(engine: Any) -> None:
    engine.apply(long_one)
    run_id = engine.submit("long_one")
    stop = threading.Event()
    thread = threading.Thread(target=engine.worker(grace_s=0.1).loop, args=(stop,))
    thread.start()
    assert STARTED.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert engine.look(run_id).state == RunState.queued
    GO.set()
    assert engine.worker().run_due() == 1
    assert engine.look(run_id).state == RunState.finished
    assert CALLS == ["first", "spins", "spins"]


def test_a_run_that_kills_its_workers_is_given_up(engine: Any) -> None:
    dead = f"{lease.host()}/999999999/1/abc"
    run_id = take(engine, dead)
    for _ in range(9):
        with engine.database.read() as connection:
            beat = queries.leased_jobs(connection, "run")[0].beat
        engine.database.write(lambda tx, b=beat: queries.take_over(tx, "engine", run_id, seen=(dead, b), owner=dead))
    assert engine.worker().run_due() == 0
    run = engine.look(run_id)
    assert (run.state, run.error) == (
        RunState.failed,
        "Its worker died 10 times in a row without finishing a step; it is not tried again.",
    )
