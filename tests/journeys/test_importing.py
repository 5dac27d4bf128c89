"""Stores that a real MLflow filled come over whole, however they are read, and however often; and out of one Treadle into another."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from treadle.client.mlflow import MlflowServer
from treadle.operations.registry import GetModel, SearchVersions
from treadle.operations.tracking import GetExperiment, GetLoggedModel, GetTrackedRun, MetricHistory, SearchRuns
from treadle.records.clock import micros
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.tracking import Lifecycle, View
from treadle.workshop import sdk
from treadle.workshop.moving import archive
from treadle.workshop.moving.archive import Archive
from treadle.workshop.moving.database import MlflowDatabase
from treadle.workshop.moving.folder import MlflowFolder
from treadle.workshop.moving.here import Here
from treadle.workshop.moving.importer import Importer, Report
from treadle.workshop.supervisor import living

MLFLOW = Path(__file__).parents[1] / "mlflow"
sys.path.insert(0, str(MLFLOW))

from clients import environment, python  # noqa: E402  (beside the scripts they run)
from record import stock  # noqa: E402

pytestmark = [pytest.mark.mlflow, pytest.mark.timeout(400)]


def fill(uri: str, folder: Path) -> dict[str, Any]:
    variables = environment("new", folder / "client") | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_FILE_STORE": "true"}
    command = [str(python("new")), str(MLFLOW / "fill.py")]
    done = subprocess.run(command, env=variables, cwd=folder / "client", capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """A stock server's address, its folder, and what is in it."""
    if not python("new").exists():
        pytest.fail("There is no environment of an MLflow client; make it: make clients")
    folder = tmp_path_factory.mktemp("mlflow")
    with stock("new", folder) as server:
        yield server, folder, fill(server, folder)


def check(sink: Any, told: dict[str, Any], report: Report) -> None:
    """Everything that was filled in is there."""
    assert report.problems == []
    for run_id, expected in told["runs"].items():
        run = sink.call(GetTrackedRun(project="p", run_id=run_id))
        assert run.name == expected["name"]
        assert run.params["note"] == "ü/ñ"
        assert [(i.name, i.context) for i in run.inputs] == [("rows", "training")]
        experiment = sink.call(GetExperiment(project="p", experiment=run.experiment_id, by="id"))
        assert experiment.name == expected["experiment"]
        points = sink.call(MetricHistory(project="p", key="loss", run_ids=[run_id])).points[run_id]
        assert [(p.step, p.value, p.time) for p in points] == [(s, 1 / (s + 1), (1_700_000_000_000 + s) * 1000) for s in range(900)]
        with sink.open_file("p", run_id, "notes/deep/a b.txt") as file:
            assert file.read().startswith(b"hello")
        children = sink.call(SearchRuns(project="p", filter=f"tags.`mlflow.parentRunId` = '{run_id}'", view=View.all))
        assert [c.name for c in children.items] == ["child"]
    assert sink.call(GetTrackedRun(project="p", run_id=told["deleted"])).lifecycle == Lifecycle.deleted
    assert sink.call(GetExperiment(project="p", experiment="import 1")).tags["team"] == "growth"
    assert sink.call(GetModel(project="p", model="churn")).description == "who leaves"
    versions = sink.call(SearchVersions(project="p", filter="name = 'churn'")).items
    assert sorted((v.number, v.aliases, v.description) for v in versions) == [(1, ("best",), "the first"), (2, (), "")]
    assert next(v for v in versions if v.number == 2).tags["seen"] == "yes"
    for model_id, recall in told["logged"].items():
        logged = sink.call(GetLoggedModel(project="p", model_id=model_id))
        assert [(m.key, m.value, m.run_id) for m in logged.metrics if m.key == "recall"] == [("recall", recall, logged.run_id)]
    assert sink.call(GetExperiment(project="p", experiment="0", by="id")).tags["kept"] == "yes"
    made = {
        "experiment": sink.call(GetExperiment(project="p", experiment="import 1")).created,
        "model": sink.call(GetModel(project="p", model="churn")).created,
        "version": next(v for v in versions if v.number == 1).event_time,
    }
    assert {name: micros(moment) // 1000 for name, moment in made.items()} == told["made"]


def bring(source: Any, home: Path, told: dict[str, Any]) -> None:
    """Twice: the second time nothing is there to come."""
    sink = sdk.HomeSink(home)
    try:
        report = Importer(source, sink, "p").run()
        check(sink, told, report)
        again = Importer(source, sink, "p").run()
        assert (again.runs, again.points, again.files, again.versions, again.logged_models, again.aliases) == (0, 0, 0, 0, 0, 0)
        assert (again.versions_there, again.logged_models_there, again.aliases_there) == (2, 2, 1)
        check(sink, told, again)
    finally:
        source.close()
        sink.close()


def test_from_a_running_server(filled, tmp_path):
    server, _, told = filled
    bring(MlflowServer(server), tmp_path / "home", told)


def test_from_its_database(filled, tmp_path):
    _, folder, told = filled
    bring(MlflowDatabase(f"sqlite:///{folder}/mlflow.db", folder / "artifacts"), tmp_path / "home", told)


def test_an_imported_model_is_loaded_by_its_client(filled, tmp_path):
    """By name and version, from a Treadle server, it predicts what it predicted where it came from."""
    server, _, told = filled
    with contextlib.closing(MlflowServer(server)) as source, contextlib.closing(sdk.HomeSink(tmp_path / "home")) as sink:
        Importer(source, sink, "p").run()
    process = subprocess.Popen([sys.executable, "-m", "treadle", "server", "--home", str(tmp_path / "home"), "--port", "0"])
    try:
        while (note := next((n for n in living(Layout(tmp_path / "home")) if n.name == "server"), None)) is None:
            assert process.poll() is None
            time.sleep(0.05)
        (tmp_path / "client").mkdir()
        variables = environment("new", tmp_path / "client") | {"MLFLOW_TRACKING_URI": f"{note.url}/mlflow/p"}
        code = "import mlflow; print(*mlflow.sklearn.load_model('models:/churn@best').predict_proba([[1.4]])[0]);"
        code += "print(*mlflow.sklearn.load_model('models:/churn/2').predict_proba([[1.4]])[0])"
        done = subprocess.run([str(python("new")), "-c", code], env=variables, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert [float(p) for p in done.stdout.splitlines()[-1].split()] == told["prediction"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def test_an_interrupted_import_goes_on(filled, tmp_path):
    server, _, told = filled

    class Breaking(sdk.HomeSink):
        calls = 0

        def call(self, request: Any) -> Any:
            Breaking.calls += 1
            if Breaking.calls % 40 == 0:
                raise TreadleError("gone", remedy="start it again", code="unavailable")
            return super().call(request)

    sink = Breaking(tmp_path / "home")
    for _ in range(60):
        with contextlib.suppress(TreadleError), contextlib.closing(MlflowServer(server)) as source:
            report = Importer(source, sink, "p").run()
            break
    else:
        pytest.fail("it never came to an end")
    sink.close()
    whole = sdk.HomeSink(tmp_path / "home")
    check(whole, told, report)
    whole.close()


def test_from_its_folder(tmp_path):
    (tmp_path / "client").mkdir()
    told = fill((tmp_path / "mlruns").as_uri(), tmp_path)
    bring(MlflowFolder(tmp_path / "mlruns"), tmp_path / "home", told)


def test_from_one_treadle_into_another(filled, tmp_path):
    server, _, told = filled
    first = sdk.HomeSink(tmp_path / "first")
    try:
        with contextlib.closing(MlflowServer(server)) as source:
            Importer(source, first, "p").run()
        here = Here(first, "p", lambda owner, path: first.open_file("p", owner, path), "first")
        archive.write(here, tmp_path / "all.zip")
        made = archive.write(here, tmp_path / "model.zip", experiments=[], models=["churn"])
        assert (made.models, made.runs) == (1, 2)
    finally:
        first.close()
    bring(Archive(tmp_path / "all.zip"), tmp_path / "second", told)
    part = sdk.HomeSink(tmp_path / "third")
    with contextlib.closing(Archive(tmp_path / "model.zip")) as source, contextlib.closing(part):
        assert Importer(source, part, "p").run().versions == 2


def test_an_archive_that_was_cut_is_refused(filled, tmp_path):
    _, folder, _ = filled
    source = MlflowDatabase(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    with contextlib.closing(source):
        archive.write(source, tmp_path / "a.zip")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(TreadleError, match="no whole archive"):
        Archive(tmp_path / "cut.zip")
