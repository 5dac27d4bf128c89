"""Curves and cross-validation in a real run: journaled, cached, and there in a run that the cache answers for."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

import treadle as tr
from treadle.ledger import Dispatcher, Ledger
from treadle.operations.diagnosis import DiagnoseRun
from treadle.operations.pipelines import ListSteps, SubmitRun
from treadle.operations.tracking import GetTrackedRun
from treadle.pipelines.service import Pipelines
from treadle.pipelines.worker import Worker
from treadle.records.calls import SYSTEM
from treadle.records.definitions import Project
from treadle.records.digests import digest_of
from treadle.records.states import RunState
from treadle.store.blobs import LocalBlobs
from treadle.store.queries import workshop as workshop_queries
from treadle.tracking.service import services

NOW = dt.datetime(2026, 2, 15, tzinfo=dt.UTC)


@tr.step
def made(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    share = rng.random(n)
    return pl.DataFrame({"carrier": rng.choice(["AA", "UA"], n).tolist(), "share": share, "late": share + rng.normal(0, 0.2, n) > 0.6})


@tr.pipeline
def train(seed: int = 1):
    learned, held = made(1500, seed), made(500, 99)
    tr.fit_lightgbm(learned, features=["carrier", "share"], label="late", params={"n_estimators": 12}, validation=held)
    tr.fit_logistic(learned, features=["share"], label="late")
    return tr.cross_validate(learned, "logistic", features=["share", "carrier"], label="late", folds=3)


@pytest.fixture
def submit(database, tmp_path):
    """Runs the pipeline under an id, and gives the dispatcher."""
    blobs = LocalBlobs(tmp_path / "blobs")
    dispatch = Dispatcher(database, [Ledger(database, blobs), Pipelines(database), *services(blobs)], complete=False)
    project = Project(name="p", pipelines=(train.definition,))
    row = {"project": "p", "environment": "dev", "digest": digest_of(project), "definitions": project, "actor": "ana"}
    database.write(lambda tx: workshop_queries.apply(tx, {**row, "event_time": NOW, "recorded_time": NOW}))
    worker = Worker(database, blobs, dispatch, name="w", load_body=lambda run: train, resources={"project": project})

    def run(run_id):
        dispatch(SubmitRun(project="p", environment="dev", pipeline="train", run_id=run_id), actor=SYSTEM)
        worker.run_due()
        return lambda request: dispatch(request, actor=SYSTEM)

    return run


def test_a_run_has_curves_and_folds_and_so_has_one_from_the_cache(submit):
    call = None
    for run_id in ("first", "again"):
        call = submit(run_id)
        run = call(GetTrackedRun(project="p", run_id=run_id))
        assert run.state == RunState.finished, run.error
        metrics = {p.key: (p.step, p.value) for p in run.metrics}
        assert {"train/loss", "train/auc", "valid/loss", "valid/auc", "cv/brier", "cv/roc_auc_mean", "cv/roc_auc_std"} <= set(metrics)
        assert metrics["valid/loss"][0] == 12
        assert metrics["cv/roc_auc"][0] == 2
        assert call(DiagnoseRun(project="p", run_id=run_id)).findings == []
    steps = call(ListSteps(project="p", run_id="again"))
    assert {s.name: str(s.state) for s in steps} == {
        "made": "cached",
        "fit_lightgbm": "cached",
        "fit_logistic": "cached",
        "record_points": "finished",
        "cross_validate": "cached",
    }
