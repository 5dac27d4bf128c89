"""The same steps in a real run: journaled, cached where they are functions, and repeated without doubling where they are not."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

import treadle as tr
from treadle.ledger.dispatch import Dispatcher
from treadle.ledger.service import Ledger
from treadle.operations import registry as ops
from treadle.operations.ledger import GetRun
from treadle.operations.pipelines import ListSteps, ReadLog, ResumeRun, SubmitRun
from treadle.pipelines.service import Pipelines
from treadle.pipelines.worker import Worker
from treadle.records.calls import Actor, Role
from treadle.records.definitions import Endpoint, Environment, Project
from treadle.records.digests import digest_of
from treadle.records.states import RunState
from treadle.registry.service import Registry
from treadle.store.blobs import LocalBlobs
from treadle.store.queries import workshop as workshop_queries

NOW = dt.datetime(2013, 2, 15, tzinfo=dt.UTC)
ANA = Actor(actor_id="ana", name="Ana", role=Role.admin)


@tr.step
def rows(seed: int, n: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    share = rng.random(n)
    return pl.DataFrame({"carrier": rng.choice(["AA", "UA"], n).tolist(), "share": share, "late": share + rng.normal(0, 0.2, n) > 0.6})


@tr.pipeline
def train(seed: int = 1):
    learned, test = rows(seed, 1500), rows(99, 500)
    fitted = tr.fit_lightgbm(learned, features=["carrier", "share"], label="late", params={"n_estimators": 5})
    baseline = tr.fit_logistic(learned, features=["carrier"], label="late")
    report = tr.evaluate(fitted, test, metrics=["brier"], slices=["carrier"], baseline=baseline)
    return tr.candidate("delay", fitted, report, gates=[tr.gates.beats_baseline("brier")], rows=learned)


class House:
    def __init__(self, database, root):
        blobs = LocalBlobs(root)
        registry = Registry(database, blobs)
        self.dispatch = Dispatcher(database, [registry, Ledger(database, blobs), Pipelines(database)], complete=False)
        environment = Environment(name="dev", auto_approve="policy")
        endpoints = (Endpoint(name="delay", model="delay"),)
        project = Project(name="flights", pipelines=(train.definition,), environments=(environment,), endpoints=endpoints)
        row = {"project": "flights", "environment": "dev", "digest": digest_of(project), "definitions": project, "actor": "ana"}
        database.write(lambda tx: workshop_queries.apply(tx, {**row, "event_time": NOW, "recorded_time": NOW}))
        self.failing: list[str] = []
        self.resources = {"registry": registry, "project": project}
        self.worker = Worker(database, blobs, self.fragile, name="w", load_body=lambda run: train, resources=self.resources)

    def fragile(self, request, **circumstances):
        """The dispatcher, on a line that breaks after the write and before the answer."""
        answer = self.dispatch(request, **circumstances)
        if type(request).__name__ in self.failing:
            raise ConnectionError("the line broke")
        return answer

    def call(self, request):
        return self.dispatch(request, actor=ANA)

    def run(self, run_id, **params):
        self.call(SubmitRun(project="flights", environment="dev", pipeline="train", run_id=run_id, params=params))
        self.worker.run_due()
        return self.call(GetRun(project="flights", run_id=run_id)).run

    def steps(self, run_id):
        return {s.path: s for s in self.call(ListSteps(project="flights", run_id=run_id))}


@pytest.fixture
def house(database, tmp_path):
    return House(database, tmp_path / "blobs")


def test_a_run_ends_in_an_approved_version(house):
    run = house.run("run_1")
    assert run.state == RunState.finished, run.error
    version = house.call(ops.GetModelVersion(project="flights", model="delay", number=1))
    assert (version.state, version.run_id) == ("approved", "run_1")
    names = [s.name for s in house.steps("run_1").values()]
    assert names == ["rows", "rows", "fit_lightgbm", "fit_logistic", "pin_champion", "evaluate", "record_metrics", "register"]
    text = "\n".join(line.text for line in house.call(ReadLog(project="flights", run_id="run_1")).items)
    assert "passed beats_baseline(brier)" in text
    assert "granted by policy:policy" in text
    assert house.call(GetRun(project="flights", run_id="run_1")).metrics["brier"] == version.metrics["brier"]


def test_what_is_a_function_comes_from_the_cache_and_what_writes_does_not(house):
    house.run("run_1")
    house.run("run_2")
    states = {s.name: s.state for s in house.steps("run_2").values()}
    assert [name for name, state in states.items() if state == "cached"] == ["rows", "fit_lightgbm", "fit_logistic", "evaluate"]
    assert house.call(ops.GetModelVersion(project="flights", model="delay", number=2)).run_id == "run_2"
    third = house.run("run_3", seed=2)
    assert third.state == RunState.finished
    assert {s.name: s.state for s in house.steps("run_3").values()}["fit_lightgbm"] == "finished"


@pytest.mark.parametrize("broken", ["RegisterVersion", "RequestApproval", "DecideApproval", "LogMetrics"])
def test_a_line_that_breaks_after_the_write_doubles_nothing(house, broken):
    house.failing = [broken]
    assert house.run("run_1").state == RunState.failed
    house.failing = []
    house.call(ResumeRun(project="flights", run_id="run_1"))
    house.worker.run_due()
    run = house.call(GetRun(project="flights", run_id="run_1")).run
    assert run.state == RunState.finished, run.error
    versions = house.call(ops.ListModelVersions(project="flights", model="delay")).items
    assert [(v.number, v.state) for v in versions] == [(1, "approved")]
    assert len(house.call(ops.ListApprovals(project="flights", state=None))) == 1
