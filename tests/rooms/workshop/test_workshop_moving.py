"""What a home tells another of itself: sealed versions with their bundles, gates and cards; and what is refused on the way."""

import contextlib
import datetime as dt
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.online.encoding import encode_frame
from treadle.operations import registry as ops
from treadle.operations.artifacts import CheckFile, DeleteFiles, GetFile, ListFiles, PutFile, StartUpload
from treadle.operations.ledger import CollectGarbage
from treadle.operations.tracking import CreateExperiment, GetExperiment, SetExperimentTags, StartRun, UpdateRun
from treadle.packaging import bundle as bundles
from treadle.records.errors import TreadleError
from treadle.records.models import GateResult
from treadle.records.states import RunState, VersionState
from treadle.training.fit import fit_logistic
from treadle.workshop import open_home, sdk
from treadle.workshop.home import Workshop
from treadle.workshop.moving import archive
from treadle.workshop.moving.archive import Archive
from treadle.workshop.moving.here import Here
from treadle.workshop.moving.importer import Importer, Report

MADE = dt.datetime(2024, 2, 1, 12, tzinfo=dt.UTC)
ROWS = pl.DataFrame({"x": [0.0, 1.0, 2.0, 3.0] * 20, "late": [False, False, True, True] * 20})
MODEL: dict[str, Any] = {"project": "crm", "model": "churn"}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    """A home with a sealed version of a real model."""
    for name in ("TREADLE_HOME", "TREADLE_TOKEN", "TREADLE_URL", "TREADLE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    with open_home(tmp_path / "first") as opened:
        fitted = fit_logistic(ROWS, features=["x"], label="late")
        proof = encode_frame(fitted.signature, ROWS)
        opened.call(StartRun(project="crm", run_id="r1", experiment="trees"))
        opened.call(UpdateRun(project="crm", run_id="r1", state=RunState.finished))
        digest, _ = bundles.seal(opened.blobs, fitted, project="crm", model="churn", run_id="r1", event_time=MADE, proof=proof)
        gates = (GateResult(gate="at_least auc", passed=True, text="0.9"),)
        opened.call(ops.RegisterVersion(bundle_digest=digest, run_id="r1", metrics={"auc": 0.9}, gates=gates, **MODEL), event_time=MADE)
        opened.call(ops.UpdateCard(sections={"owners": "Ada"}, **MODEL))
        opened.call(ops.UpdateCard(sections={"limits": "Not for business customers."}, number=1, **MODEL))
        opened.call(ops.SetAlias(alias="best", number=1, **MODEL))
        yield opened


def exported(root: Path, file: Path) -> Path:
    """An archive of all models of a home."""
    with contextlib.closing(sdk.HomeSink(root)) as sink:
        here = Here(sink, "crm", lambda owner, path: sink.open_file("crm", owner, path), "first")
        archive.write(here, file, experiments=[], models=["churn"])
    return file


def imported(file: Path, root: Path, project: str = "crm") -> Report:
    with contextlib.closing(Archive(file)) as source, contextlib.closing(sdk.HomeSink(root)) as sink:
        return Importer(source, sink, project).run()


def test_a_sealed_version_comes_over_with_its_bundle_and_can_be_approved_there(shop: Workshop, tmp_path: Path) -> None:
    file = exported(tmp_path / "first", tmp_path / "churn.zip")
    report = imported(file, tmp_path / "second")
    assert report.problems == []
    assert (report.models, report.versions, report.bundles, report.runs, report.aliases) == (1, 1, 1, 1, 1)
    ours: Any = shop.call(ops.GetModelVersion(number=1, **MODEL))
    with open_home(tmp_path / "second") as other:
        theirs = other.call(ops.GetModelVersion(number=1, **MODEL))
        for name in ("bundle_digest", "state", "metrics", "gates", "aliases", "run_id", "source", "event_time", "tags"):
            assert getattr(theirs, name) == getattr(ours, name), name
        assert theirs.state is VersionState.validated
        written = {s.key: s.text for s in other.call(ops.GetCard(number=1, **MODEL)).sections if s.key in ("owners", "limits")}
        assert written == {"owners": "Ada", "limits": "Not for business customers."}
        assert other.call(ops.GetModel(**MODEL)).card == {"owners": "Ada"}
        other.call(CollectGarbage(dry_run=False, min_age_s=0))
        assert other.call(ListFiles(project="crm", owner="", path="incoming")).files == []
        _, predictor = bundles.load(other.blobs, theirs.bundle_digest, native=True)
        _, original = bundles.load(shop.blobs, ours.bundle_digest, native=True)
        rows = np.array([[0.5], [2.5]])
        assert predictor.predict(rows).tolist() == original.predict(rows).tolist()
        asked = ops.RequestApproval(project="crm", approval_id="a", environment="prod", subject="model/churn/1", question="May it?")
        assert other.call(asked).state == "waiting"
    again = imported(file, tmp_path / "second")
    assert (again.problems, again.versions, again.bundles, again.files) == ([], 0, 0, 0)
    assert (again.versions_there, again.aliases_there) == (1, 1)


def test_an_import_that_broke_off_before_the_bundle_goes_on(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = exported(tmp_path / "first", tmp_path / "churn.zip")
    with monkeypatch.context() as broken:

        def gone(*_: Any) -> None:
            raise KeyboardInterrupt

        broken.setattr(sdk.HomeSink, "put_file", gone)
        with pytest.raises(KeyboardInterrupt):
            imported(file, tmp_path / "second")
    assert imported(file, tmp_path / "second").bundles == 1


def test_a_bundle_comes_into_another_project_and_only_whole(shop: Workshop, tmp_path: Path) -> None:
    file = exported(tmp_path / "first", tmp_path / "churn.zip")
    assert imported(file, tmp_path / "second", "other").problems == []
    assert imported(file, tmp_path / "second", "other").versions_there == 1
    with open_home(tmp_path / "second") as other:
        theirs = other.call(ops.GetModelVersion(project="other", model="churn", number=1))
        moved, predictor = bundles.load(other.blobs, theirs.bundle_digest, native=True)
        ours = bundles.read(shop.blobs, shop.call(ops.GetModelVersion(number=1, **MODEL)).bundle_digest)
        assert (moved.project, moved.files, theirs.state) == ("other", ours.files, VersionState.validated)
        assert predictor.predict(np.array([[2.5]])).shape == (1,)
    digest = shop.call(ops.GetModelVersion(number=1, **MODEL)).bundle_digest
    model = next(f for f in bundles.read(shop.blobs, digest).files if f.path == "model.skops")
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"another model" if name == f"blobs/{model.digest}" else old.read(name))
    report = imported(changed, tmp_path / "third")
    assert report.problems[0].partition(" of its bundle")[0] == "churn@1: The file model.skops"
    with open_home(tmp_path / "third") as other:
        assert other.call(ops.GetModel(**MODEL)).versions == 0


def test_the_default_experiment_keeps_what_is_said_of_it_here(shop: Workshop, tmp_path: Path) -> None:
    shop.call(SetExperimentTags(project="crm", experiment_id="0", tags={"team": "a", "kept": "yes"}))
    shop.call(CreateExperiment(project="crm", experiment_id="e", name="old", created=1_700_000_000_000_000))
    with contextlib.closing(sdk.HomeSink(tmp_path / "first")) as sink:
        archive.write(Here(sink, "crm", lambda owner, path: sink.open_file("crm", owner, path), "first"), tmp_path / "all.zip")
    with open_home(tmp_path / "second") as other:
        other.call(SetExperimentTags(project="crm", experiment_id="0", tags={"team": "b"}))
    report = imported(tmp_path / "all.zip", tmp_path / "second")
    assert (report.problems, report.experiments, report.experiments_there) == ([], 2, 1)
    with open_home(tmp_path / "second") as other:
        assert other.call(GetExperiment(project="crm", experiment="0", by="id")).tags == {"team": "b", "kept": "yes"}
        assert other.call(GetExperiment(project="crm", experiment="old")).created.year == 2023


def test_what_is_laid_out_of_a_bundle_is_nobodys_to_change(shop: Workshop) -> None:
    digest = shop.call(ops.GetModelVersion(number=1, **MODEL)).bundle_digest
    evil = {"project": "crm", "owner": "", "digest": shop.blobs.put(b"evil"), "size": 4}
    for path in (f"bundles/{digest}/MLmodel", f"bundles/{digest}/model.skops", "bundles/x"):  # before it is laid out, too
        with pytest.raises(TreadleError, match="of a sealed bundle") as told:
            shop.call(PutFile(path=path, **evil))
        assert told.value.code == "denied"
    assert shop.call(ops.DownloadVersion(number=1, **MODEL)).uri == f"mlflow-artifacts:/bundles/{digest}"
    for request in (
        DeleteFiles(project="crm", owner="", path="bundles"),
        DeleteFiles(project="crm", owner="", path=f"bundles/{digest}/model.skops"),
        StartUpload(project="crm", owner="", upload_id="u", path=f"bundles/{digest}/model.skops"),
        CheckFile(project="crm", owner="", path=f"bundles//{digest}/model.skops"),
    ):
        with pytest.raises(TreadleError) as told:
            shop.call(request)
        assert told.value.code in ("denied", "bad_request"), request
    stands = shop.call(GetFile(project="crm", owner="", path=f"bundles/{digest}/model.skops"))
    assert stands.digest == next(f.digest for f in bundles.read(shop.blobs, digest).files if f.path == "model.skops")
    assert shop.call(PutFile(path="bundles of mine/x", **evil)).size == 4
