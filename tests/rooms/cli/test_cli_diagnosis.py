"""`diagnose`, `diff`, `leaderboard`, `trend` on a real home, over runs that scripts logged."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

import treadle as tr
from treadle.cli import main
from treadle.operations.registry import CreateVersion


class Terminal:
    def __init__(self, capsys: pytest.CaptureFixture[str], home: Path):
        self._capsys, self._home = capsys, home

    def __call__(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        got = main([*words, "--home", str(self._home), "--project", "p"])
        said = self._capsys.readouterr()
        assert got == code, f"{said.out}{said.err}"
        return said.out + said.err

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TREADLE_HOME", "TREADLE_URL", "TREADLE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads.jsonl"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def treadle(home: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys, home)


def logged(home: Path, **more: Any) -> tr.run:
    return tr.run("churn", project="p", home=home, system_every=None, **more)


def test_a_training_is_diagnosed_and_its_child_compared(treadle: Terminal, home: Path):
    with logged(home, params={"depth": 9}) as bad:
        for step in range(40):
            run_values = {"train/loss": 0.7 * math.exp(-step / 10), "valid/loss": 0.4 + 0.3 * math.exp(-step / 3) + 0.004 * step}
            bad.log(run_values, step)
        bad.watch("dense/gradient", [0.1, 0.2], 0)
        with bad.timed("train"):
            pass
    with logged(home, params={"depth": 4}, parent=bad.run_id) as good:
        for step in range(40):
            good.log({"train/loss": 0.7 * math.exp(-step / 10), "valid/loss": 0.1 + 0.7 * math.exp(-step / 10)}, step)
    said = treadle("diagnose", bad.run_id, "--inside", code=1)
    assert "overfitting" in said
    assert "valid/loss was best at step" in said
    assert "dense/gradient" in said
    assert "train" in said
    assert treadle.json("diagnose", good.run_id)["findings"] == []
    assert "Nothing found in 2 metrics" in treadle("diagnose", good.run_id)
    said = treadle("diff", good.run_id)
    assert said.startswith("Only parameters changed (depth 9 → 4). Metrics: valid/loss")
    assert "(better)" in said
    assert treadle.json("diff", good.run_id, bad.run_id)["related"] == "child"
    treadle("diagnose", "nope", code=3)
    treadle("diff", bad.run_id, code=2)


def test_something_critical_ends_in_one(treadle: Terminal, home: Path):
    with logged(home) as run:
        run.log(loss=0.5)
        run.log(loss=math.nan)
    assert "critical" in treadle("diagnose", run.run_id, code=1)
    with logged(home) as run:
        pass
    assert "no metrics" in treadle("diagnose", run.run_id)


def test_runs_are_ranked_with_ties_and_by_group(treadle: Terminal, home: Path):
    for model, auc in (("trees", 0.9), ("trees", 0.7), ("linear", 0.8), ("linear", 0.8), ("linear", math.nan)):
        with logged(home, name=model, params={"model": model}) as run:
            run.log(auc=auc)
    board = treadle.json("leaderboard", "churn", "--by", "metrics.auc", "--group", "params.model")
    assert [(p["rank"], p["value"], p["tied"]) for p in board["places"]] == [
        (1, 0.9, False),
        (2, 0.8, True),
        (2, 0.8, True),
        (4, 0.7, False),
    ]
    assert (board["runs"], board["without"], board["better"]) == (5, 1, "higher")
    groups = {g["group"]: g for g in board["groups"]}
    assert (groups["trees"]["runs"], groups["trees"]["best"], groups["trees"]["mean"]) == (2, 0.9, pytest.approx(0.8))
    assert groups["linear"]["std"] == 0
    said = treadle("leaderboard", "churn", "--by", "auc", "--group", "params.model", "--limit", "2")
    assert "2=" in said
    assert "5 runs, 1 without auc; higher is better." in said
    assert treadle.json("leaderboard", "--by", "auc", "--filter", "params.model = 'trees'")["runs"] == 2
    assert "None of 5 runs" in treadle("leaderboard", "churn", "--by", "other", "--better", "lower")
    treadle("leaderboard", "churn", "--by", "other", code=2)
    treadle("leaderboard", "nowhere", "--by", "auc", code=3)
    treadle("leaderboard", "churn", "--by", "auc", "--group", "colour", code=2)


def test_a_model_is_followed_over_its_versions(treadle: Terminal, home: Path):
    with logged(home) as run:
        run.log(roc_auc=0.77, lost=math.nan)
    with tr.open_home(home) as shop:
        for auc in (0.66, 0.68, 0.70, 0.72, 0.75, 0.78):
            shop.call(CreateVersion(project="p", model="delay", metrics={"roc_auc": auc}, source="s3://elsewhere", create=True))
        shop.call(CreateVersion(project="p", model="delay", run_id=run.run_id, source="s3://elsewhere"))
    told = treadle.json("trend", "delay", "--by", "roc_auc")
    assert (told["verdict"], told["best"]) == ("better", 6)
    assert [s["number"] for s in told["steps"]] == [1, 2, 3, 4, 5, 6, 7]
    assert told["steps"][1]["change"] == pytest.approx(0.02)
    said = treadle("trend", "delay")
    assert "roc_auc over 7 versions: better; best was delay@6." in said
    treadle("trend", "delay", "--by", "brier", code=3)


def test_a_pipeline_goes_on_from_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
):
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    monkeypatch.setattr(sys, "path", list(sys.path))

    def typed(*words: str) -> Any:
        capsys.readouterr()
        assert main([*words, "--json"]) == 0, capsys.readouterr()
        return capsys.readouterr().out

    typed("init")
    typed("apply", "--yes")
    typed("run", "hello", "--rows", "5", "--run-id", "one")
    typed("run", "hello", "--rows", "6", "--run-id", "two", "--parent", "one")
    sys.modules.pop("loop", None)
    found = json.loads(typed("diff", "two"))
    assert (found["before"], found["after"], found["related"]) == ("one", "two", "parent")
    assert found["text"].startswith("Only parameters changed (rows 5 → 6).")
    assert main(["run", "hello", "--rows", "6", "--run-id", "three", "--parent", "nope"]) == 3
