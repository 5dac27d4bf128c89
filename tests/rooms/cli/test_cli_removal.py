"""The bin, removal and retention, typed as a person would."""

import json

import pytest

from treadle.cli import main
from treadle.operations.tracking import CreateExperiment, GetTrackedRun, LogInputs, StartRun, UpdateRun
from treadle.records.states import RunState
from treadle.records.tracking import RunInput
from treadle.workshop import open_home


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    for name in ("TREADLE_TOKEN", "TREADLE_URL", "TREADLE_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads.jsonl"))
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TREADLE_PROJECT", "p")
    with open_home(tmp_path / "home") as shop:
        for run_id in ("r1", "r2", "open"):
            shop.call(StartRun(project="p", run_id=run_id))
        for run_id in ("r1", "r2"):
            shop.call(UpdateRun(project="p", run_id=run_id, state=RunState.failed))

    def terminal(*words, code=0):
        capsys.readouterr()
        got = main(list(words))
        said = capsys.readouterr()
        assert got == code, said
        return json.loads(said.out) if "--json" in words else said.out

    terminal.home = tmp_path / "home"
    return terminal


def test_the_bin(typed):
    assert [r["run_id"] for r in typed("runs", "--json")["items"]] == ["open", "r2", "r1"]
    assert typed("runs", "r1", "--json")["run"]["run_id"] == "r1"
    assert "r1 is in the bin." in typed("runs", "delete", "r1", "r2")
    assert [r["lifecycle"] for r in typed("runs", "restore", "r2", "--json")] == ["active"]
    typed("runs", "delete", "none", code=3)


def test_a_run_that_a_script_logged_is_shown_with_what_it_logged(typed):
    with open_home(typed.home) as shop:
        shop.call(StartRun(project="p", run_id="s", experiment="churn", name="deeper trees", user="ada", params={"depth": "8"}))
        shop.call(
            LogInputs(project="p", run_id="s", inputs=[RunInput(name="visits", digest="9f31c2aa", source="v.csv", context="training")])
        )
    said = [" ".join(line.split()) for line in typed("runs", "s").splitlines()]
    for line in ("name deeper trees", "experiment churn", "by ada", "parameters depth=8", "data read visits 9f31c2aa (training)"):
        assert line in said
    assert "steps" not in typed("runs", "s")
    typed("runs", "delete", "s")
    assert "in the bin since" in typed("runs", "s")


def test_an_experiment_is_named_by_its_name_too(typed):
    with open_home(typed.home) as shop:
        shop.call(CreateExperiment(project="p", experiment_id="77", name="trees/deep one"))
        shop.call(StartRun(project="p", run_id="r9", experiment="77"))
        shop.call(UpdateRun(project="p", run_id="r9", state=RunState.finished))
    assert "of experiment 77 after 3 days" in typed("retention", "set", "rule", "runs", "--days", "3", "--experiment", "trees/deep one")
    typed("retention", "set", "rule", "runs", "--days", "3", "--experiment", "nothing", code=3)
    said = typed("remove", "experiment/trees/deep one", "--project", "p")
    assert "Would remove 1 run, 1 experiment" in said
    assert "Do it: treadle remove 'experiment/trees/deep one' --project p --yes" in said
    assert "kept: experiment/nothing: there is no such experiment" in typed("remove", "experiment/nothing", code=1)
    assert "Removed 1 run, 1 experiment" in typed("remove", "experiment/trees/deep one", "experiment/77", "--yes")


def test_removal_shows_first_and_asks(typed):
    said = typed("remove", "run/r1", "run/open")
    assert "Would remove 1 run" in said
    assert "  run/r1" in said
    assert "kept: run/open: it has not ended" in said
    assert "Nothing was removed. Do it: treadle remove run/r1 run/open --yes" in said
    assert typed("remove", "run/r1", "--json")["preview"] is True
    assert "Removed 1 run" in typed("remove", "run/r1", "run/open", "--yes", "--erase-events")
    typed("remove", "run/r1", "--yes", code=1)
    typed("remove", code=2)
    typed("remove", "nothing/x", code=2)
    typed("runs", "delete", "r2")
    assert typed("remove", "--binned-before", "2100-01-01", "--yes", "--json")["runs"] == 1
    assert "given back" in typed("remove", "--compact", "--yes")
    with open_home(typed.home) as shop:
        assert shop.call(GetTrackedRun(project="p", run_id="open")).run_id == "open"
    assert "intact" in typed("audit", "verify")


def test_retention_rules(typed):
    assert "No rules" in typed("retention", "list")
    assert "old: failed runs after 30 days, but not those tagged keep" in typed(
        "retention", "set", "old", "failed_runs", "--days", "30", "--keep-tagged", "keep"
    )
    assert [r["rule_id"] for r in typed("retention", "list", "--json")] == ["old"]
    assert "Would remove nothing" in typed("retention", "apply", "--yes")
    assert "taken back" in typed("retention", "set", "old", "failed_runs", "--days", "0")
    typed("retention", "set", "old", "everything", "--days", "1", code=2)
