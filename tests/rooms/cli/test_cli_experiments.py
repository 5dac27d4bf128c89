"""Experiments and the search of runs, typed as a person would; and what sync, import and export say."""

import json

import pytest

from treadle.cli import main
from treadle.workshop import sdk


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    for name in ("TREADLE_TOKEN", "TREADLE_URL", "TREADLE_ENV", "TREADLE_PROJECT", "TREADLE_SPOOL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads.jsonl"))
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with sdk.run("churn", name="first", params={"depth": 8}, system_every=None) as run:
        run.log({"auc": 0.9}, 1)
        run.log_text("hello", "notes.md")

    def terminal(*words, code=0):
        capsys.readouterr()
        got = main(list(words))
        said = capsys.readouterr()
        assert got == code, said
        return json.loads(said.out) if "--json" in words else said.out + said.err

    terminal.run_id = run.run_id
    return terminal


def test_experiments_from_making_to_the_bin(typed):
    typed("experiments", "create", "second", "--folder", "a/b", "--note", "what for")
    assert {e["name"] for e in typed("experiments", "--json")["items"]} >= {"churn", "second"}
    assert [e["name"] for e in typed("experiments", "list", "--folder", "a", "--json")["items"]] == ["second"]
    assert typed("experiments", "change", "churn", "--folder", "x", "--json")["folder"] == "x"
    assert typed("experiments", "tag", "churn", "team=growth", "old=1", "--json")["tags"] == {"team": "growth", "old": "1"}
    assert typed("experiments", "tag", "churn", "old=", "--json")["tags"] == {"team": "growth"}
    typed("experiments", "delete", "churn")
    assert typed("search", "--json")["items"] == []
    assert [r["run_id"] for r in typed("search", "--deleted", "--json")["items"]] == [typed.run_id]
    typed("experiments", "restore", "churn")
    assert typed("experiments", "show", "churn", "--json")["lifecycle"] == "active"


def test_runs_are_found(typed):
    said = typed("search", "metrics.auc > 0.8 and params.depth = '8'", "--experiment", "churn", "--order-by", "metrics.auc DESC")
    assert typed.run_id in said
    assert "0.9" in said
    assert "No run is found." in typed("search", "metrics.auc > 0.95")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["search", "metrics.auc >"], 2, "metrics.auc"),
        (["search", "--experiment", "none"], 3, "none"),
        (["experiments", "change", "churn"], 2, "Nothing to change"),
        (["experiments", "tag", "churn", "x"], 2, "NAME=VALUE"),
        (["experiments", "create", "churn"], 4, "churn"),
        (["import", "nowhere"], 3, "nothing at nowhere"),
        (["import", "sqlite:///nowhere.db"], 3, "no file"),
        (["export", "a.zip", "--model", "none"], 3, "none"),
    ],
)
def test_what_cannot_be_done_says_so(typed, words, code, text):
    assert text in typed(*words, code=code)


def test_there_and_back(typed, tmp_path):
    assert "1 runs" in typed("export", "all.zip")
    typed("export", "all.zip", code=4)
    report = typed("import", "all.zip", "--project", "copy", "--json")
    assert (report["runs"], report["points"], report["problems"]) == (1, 1, [])
    assert typed("search", "--project", "copy", "--json")["items"][0]["run_id"] == typed.run_id
    assert typed("import", "all.zip", "--project", "copy", "--json")["runs_there"] == 1
    assert "Nothing waits" in typed("sync")
