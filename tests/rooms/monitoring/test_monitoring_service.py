"""Watching an endpoint: real segments, outcomes, bundles and databases."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from sqlalchemy import select

from treadle.monitoring.service import Monitoring
from treadle.operations.monitoring import ListAlarms, ListWindows
from treadle.records.calls import SYSTEM, Call
from treadle.records.definitions import Canary, Endpoint
from treadle.records.errors import TreadleError
from treadle.records.monitoring import Alarm, WindowReport
from treadle.records.states import AlarmState, ReleaseState
from treadle.store import tables as t
from treadle.store.db import Database
from treadle.testing.releases import DAY, ENDPOINT, ENVIRONMENT, MODEL, MONITOR, PROJECT, START, ReleaseHome

ROWS = 120
METRICS = {"brier": 0.155, "roc_auc": 0.83, "mean_observed": 0.5}
WATCHED = Endpoint(name=ENDPOINT, model=MODEL, unit="id", monitor=replace(MONITOR, window_blocks=7, false_alarms=3.0))
CALL = Call(actor=SYSTEM, event_time=START)


@pytest.fixture
def home(database: Database, tmp_path: Path) -> ReleaseHome:
    made = ReleaseHome(database, tmp_path / "home", endpoint=WATCHED)
    made.version(1, metrics=METRICS)
    made.start(1)
    made.settle()
    return made


class Days:
    """Days of traffic; what the model says is right until told otherwise."""

    def __init__(self, home: ReleaseHome, seed: int = 0):
        self.home = home
        self.rng = np.random.default_rng(seed)
        self.day = 0

    def pass_one(
        self, *, wrong: float = 0.0, moved: float = 0.0, outcomes: bool = True, worse: float | None = None, version: int = 1
    ) -> list[Alarm]:
        x = self.rng.normal(moved, 1, ROWS)
        p = 1 / (1 + np.exp(-2 * (x - moved)))
        y = (self.rng.random(ROWS) < p).astype(float)
        score = np.clip(p + wrong, 0, 1)
        pair = {} if worse is None else {"other": np.clip(p + worse * self.rng.normal(0, 0.3, ROWS), 0, 1), "other_version": 2}
        units = self.home.log(self.day, score, x=x, version=version, **pair)
        self.home.monitoring.fold(PROJECT, ENVIRONMENT)
        if outcomes:
            self.home.arrive(self.day, units, y)
        self.day += 1
        return self.home.monitoring.tick(PROJECT, ENVIRONMENT, self.home.endpoint, self.now)

    @property
    def now(self):
        return START + self.day * DAY + DAY / 2


def windows(home: ReleaseHome) -> list[WindowReport]:
    with home.database.read() as tx:
        return home.monitoring.list_windows(tx, ListWindows(project=PROJECT, environment=ENVIRONMENT, endpoint=ENDPOINT), CALL)


def alarms(home: ReleaseHome, state: str | None = None) -> list[Alarm]:
    with home.database.read() as tx:
        return home.monitoring.list_alarms(tx, ListAlarms(project=PROJECT, environment=ENVIRONMENT, state=state), CALL)


def events(home: ReleaseHome, type: str) -> list[dict]:
    import msgspec

    with home.database.read() as tx:
        rows = tx.execute(select(t.events.c.payload).where(t.events.c.type == type))
        return [msgspec.json.decode(row[0]) for row in rows]


def test_quiet_days_are_reported_and_raise_nothing(home: ReleaseHome) -> None:
    days = Days(home)
    for _ in range(10):
        assert days.pass_one() == []
    found = windows(home)
    assert [w.start for w in found] == [START + d * DAY for d in range(10)]
    assert {(w.predictions, w.outcomes, w.champion) for w in found} == {(ROWS, ROWS, 1)}
    assert all(0.75 < w.metrics["roc_auc"] < 0.95 and 0.1 < w.metrics["brier"] < 0.22 for w in found)
    assert found[0].metrics["latency_p99_us"] == 400
    assert all(w.drift["x"] < 0.5 for w in found)
    home.refuse(10)
    home.monitoring.fold(PROJECT, ENVIRONMENT)
    home.monitoring.tick(PROJECT, ENVIRONMENT, home.endpoint, days.now + DAY)
    assert (windows(home)[-1].rejected, windows(home)[-1].predictions) == (1, 0)


def test_calibration_alarms_once_reminds_and_closes(home: ReleaseHome) -> None:
    days = Days(home)
    raised = []
    for _ in range(18):
        raised += days.pass_one(wrong=0.15)
    opened = [a for a in raised if a.kind == "calibration"]
    assert [a.state for a in opened] == [AlarmState.open]
    assert "predicted" in opened[0].text
    told = events(home, "treadle.calibration.drifted")
    assert [e["reminder"] for e in told] == [0, 1]
    assert {e["endpoint"] for e in told} == {ENDPOINT}
    assert all(e["facts"]["by"] > 0.05 and e["facts"]["champion"] == 1 for e in told)
    closed = []
    for _ in range(9):
        closed += [a for a in days.pass_one() if a.kind == "calibration"]
    assert [(a.state, a.alarm_id) for a in closed] == [(AlarmState.closed, opened[0].alarm_id)]
    assert len(events(home, "treadle.alarm.closed")) >= 1
    assert alarms(home, "open") == []


def test_decay_is_told_with_its_numbers(home: ReleaseHome) -> None:
    days = Days(home)
    for _ in range(9):
        days.pass_one(wrong=0.3)
    (decay,) = [a for a in alarms(home) if a.kind == "decay"]
    assert decay.facts["metric"] == "brier"
    assert decay.facts["by"] >= 0.01
    (told,) = events(home, "treadle.performance.decayed")
    assert told["facts"]["p_value"] < 0.05


def test_drift_names_the_column_and_a_new_champion_starts_anew(home: ReleaseHome) -> None:
    days = Days(home)
    found: list[Alarm] = []
    while not (drift := [a for a in found if a.kind == "drift"]):
        found += days.pass_one(moved=1.0)
        assert days.day < 8
    assert "x (PSI" in drift[0].text
    assert list(events(home, "treadle.drift.detected")[0]["facts"]["columns"]) == ["x"]
    home.version(2, metrics=METRICS)
    home.start(2, now=days.now)
    home.settle(days.now)
    closed = [a for a in days.pass_one(version=2) if a.kind == "drift"]
    assert [(a.state, "version 2 has taken over" in a.text) for a in closed] == [(AlarmState.closed, True)]


def test_outcomes_that_never_come_are_an_alarm(home: ReleaseHome) -> None:
    days = Days(home)
    days.pass_one()
    (silent,) = days.pass_one(outcomes=False)
    assert (silent.kind, silent.facts["source"]) == ("outcomes", "truth.y")
    assert windows(home)[1].outcomes == 0
    assert [a.state for a in days.pass_one()] == [AlarmState.closed]


def test_a_new_process_sees_the_same(home: ReleaseHome) -> None:
    days = Days(home)
    for _ in range(9):
        days.pass_one(wrong=0.15)
    before, raised = windows(home), alarms(home)
    fresh = Monitoring(home.database, home.layout, home.blobs, home.data)
    assert fresh.tick(PROJECT, ENVIRONMENT, home.endpoint, days.now) == []
    assert [replace(w, drift={}) for w in windows(home)] == [replace(w, drift={}) for w in before]
    assert windows(home)[-1].drift == pytest.approx(before[-1].drift)
    assert [a.alarm_id for a in alarms(home)] == [a.alarm_id for a in raised]


def test_outcomes_handed_over_are_not_read_back(home: ReleaseHome) -> None:
    days = Days(home)
    days.pass_one()
    units = home.log(1, [0.5] * 10)
    home.monitoring.fold(PROJECT, ENVIRONMENT)
    home.arrive(1, units, [1.0] * 10)
    import polars as pl

    home.monitoring.observe(PROJECT, "truth", pl.DataFrame({"id": units, "y": [1.0] * 10}), 2)
    home.data.read = None  # type: ignore[method-assign, assignment]
    home.monitoring.tick(PROJECT, ENVIRONMENT, home.endpoint, START + 2 * DAY)
    assert windows(home)[1].outcomes == 10


def test_a_unit_that_the_outcomes_lack_is_an_error_with_a_remedy(home: ReleaseHome) -> None:
    Days(home).pass_one()
    with pytest.raises(TreadleError, match=r"cannot be read from truth\.y by order_id") as raised:
        home.monitoring.tick(PROJECT, ENVIRONMENT, replace(home.endpoint, unit="order_id"), START + 2 * DAY)
    assert "columns order_id and y" in raised.value.remedy


@pytest.mark.parametrize(("worse", "state"), [(1.0, ReleaseState.stopped), (0.0, ReleaseState.inconclusive)])
def test_a_canary_from_log_to_verdict(home: ReleaseHome, worse: float, state: ReleaseState) -> None:
    days = Days(home)
    days.pass_one()
    home.version(2, metrics=METRICS)
    home.start(2, Canary(share=1.0, margin=0.0, deadline_blocks=8), now=days.now - DAY / 2)
    home.settle(days.now - DAY / 2)
    done = []
    while not done:
        days.pass_one(worse=worse)
        done = home.releases.work(PROJECT, ENVIRONMENT, days.now, home.monitoring.evidence)
        assert days.day < 12
    assert done[0].state == state
    evidence = home.monitoring.evidence(replace(done[0], state=ReleaseState.running), days.now)
    assert {b.rows for b in evidence.blocks} == {ROWS}
    assert windows(home)[2].facts["paired"] == ROWS
