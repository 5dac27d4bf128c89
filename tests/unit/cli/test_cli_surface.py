"""What the command line promises without a home: help, examples, exit codes, cost."""

import importlib
import json
import os
import subprocess
import sys

import click
import pytest

from treadle.cli import COMMANDS, main, show, treadle
from treadle.cli.exits import EXITS
from treadle.cli.runs import _parameters, moment
from treadle.operations import operations
from treadle.records.errors import CODES, TreadleError

VERBS = [(name, *row) for verbs in COMMANDS.values() for name, row in verbs.items()]


def _leaves(command: click.Command, words: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group) and words != ("api",):
        return [leaf for name, sub in command.commands.items() for leaf in _leaves(sub, (*words, name))]
    return [(words, command)]


LEAVES = [
    leaf
    for name, module, attribute, _ in VERBS
    for leaf in _leaves(getattr(importlib.import_module(f"treadle.cli.{module}"), attribute), (name,))
]


def test_exit_codes_cover_exactly_the_error_codes() -> None:
    assert set(EXITS) == set(CODES)
    assert all(0 < code < 126 for code in EXITS.values())


@pytest.mark.parametrize(("words", "command"), LEAVES, ids=lambda leaf: " ".join(leaf) if isinstance(leaf, tuple) else "")
def test_every_verb_has_an_example_and_json_and_home(words: tuple[str, ...], command: click.Command) -> None:
    text = command.help or ""
    assert "Example:" in text
    assert f"treadle {words[0]}" in text
    if words != ("api",):
        options = {o for p in command.params for o in p.opts}
        assert {"--json", "--home"} <= options


@pytest.mark.parametrize(("name", "module", "attribute", "line"), VERBS)
def test_every_verb_says_its_help(name: str, module: str, attribute: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: treadle" in capsys.readouterr().out


@pytest.mark.parametrize("operation", list(operations().values()), ids=lambda o: o.command)
def test_every_operation_has_a_derived_command(operation: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["api", operation.command, "--help"]) == 0  # type: ignore[attr-defined]
    said = capsys.readouterr().out
    assert operation.method in said  # type: ignore[attr-defined]
    assert operation.allow in said  # type: ignore[attr-defined]


def test_a_verb_that_does_not_exist_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stauts"]) == 2
    assert "Did you mean status?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("stauts",), ("plan", "--bogus"), ("actor", "add", "mia", "--role", "king"), ("token", "revoke"), ("api", "x")]
)
def test_misuse_is_told_to_a_program_in_json(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    told = json.loads(said.err)
    assert told["code"] == "bad_request"
    assert told["what"]
    assert told["remedy"].endswith("--help")


def test_a_home_that_is_not_there_is_a_clear_error(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TREADLE_HOME", raising=False)
    assert main(["runs"]) == 3
    said = capsys.readouterr()
    assert "There is no home" in said.err
    assert "treadle apply" in said.err
    assert said.out == ""
    assert not (tmp_path / ".treadle").exists()
    assert main(["runs", "--json"]) == 3
    assert capsys.readouterr().err.startswith('{"code":"not_found"')


def test_a_server_that_is_not_there_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["actor", "list", "--url", "http://127.0.0.1:9"]) == 5
    assert "treadle up" in capsys.readouterr().err


def test_help_is_cheap_and_loads_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "treadle", "--help"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "100"})
    out, err = child.communicate()
    assert child.returncode == 0
    assert all(name in out for name, *_ in VERBS)
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in err.splitlines()}
    assert not loaded & {"sqlalchemy", "polars", "numpy", "rich", "starlette", "sklearn", "lightgbm", "pyarrow", "msgspec"}


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("--until", "2013-03-31", "--seed", "7"), {"until": "2013-03-31", "seed": 7}),
        (("--seed=7", "--fast"), {"seed": 7, "fast": True}),
        (("--max-depth", "-3", '--x={"a":1}'), {"max_depth": -3, "x": {"a": 1}}),
        ((), {}),
    ],
)
def test_parameters_of_a_pipeline(words: tuple[str, ...], values: dict[str, object]) -> None:
    assert _parameters(words) == values


def test_a_parameter_that_stands_alone_is_refused() -> None:
    with pytest.raises(TreadleError, match="stands alone"):
        _parameters(("seven",))


def test_times_a_person_types() -> None:
    assert moment("2013-04-01").isoformat() == "2013-04-01T00:00:00+00:00"
    with pytest.raises(TreadleError, match="is no time"):
        moment("tomorrow")


def test_a_table_off_the_terminal_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    show.table(("A", "LONG"), [("x" * 200, None), (1.23456, {"k": 2.0})])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "x" * 200
    assert lines[2].split() == ["1.235", "k=2"]


def test_the_group_is_click_s() -> None:
    assert isinstance(treadle, click.Group)
