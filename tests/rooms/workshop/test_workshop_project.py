"""Reading a project's folder: what is defined, and what is wrong with it, in words."""

from pathlib import Path

import pytest

from treadle.records.errors import TreadleError
from treadle.workshop.project import load

GOOD = """
import datetime as dt
import treadle as tr

events = tr.dataset("events", time="at", key="id")
dev = tr.environment("dev")

@tr.step
def double(x: int) -> int:
    return 2 * x

@tr.pipeline
def work(x: int = 1):
    return double(x)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "treadle.toml").write_text('project = "p"\nmodule = "loop"\n')
    (tmp_path / "loop.py").write_text(GOOD)
    return tmp_path


def test_collects_what_is_defined(folder: Path) -> None:
    loaded = load(folder)
    assert [d.name for d in loaded.definitions.datasets] == ["events"]
    assert [p.name for p in loaded.definitions.pipelines] == ["work"]
    assert set(loaded.functions) == {"work"}


def test_the_same_text_gives_the_same_definitions(folder: Path) -> None:
    assert load(folder).definitions == load(folder).definitions


def test_a_comment_changes_no_digest_and_a_helper_does(folder: Path) -> None:
    before = load(folder).definitions
    (folder / "loop.py").write_text(GOOD + "\n# a remark\n")
    assert before == load(folder).definitions
    (folder / "loop.py").write_text(GOOD.replace("2 * x", "3 * x"))
    assert before.pipelines[0].entry.code != load(folder).definitions.pipelines[0].entry.code


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("x = (1\n", "loop.py, line 1", "x = (1"),
        ("import no_such_module_of_mine\n", "no_such_module_of_mine", "python -c"),
        ("raise RuntimeError('boom')\n", "boom", "python -c"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 (loop.py, line 2)", "python -c"),
        (f'import treadle as tr\nd = tr.dataset("{"x" * 101}", time="at")\n', "is no dataset name", "at most 100"),
        (GOOD + 'other = tr.dataset("events", time="when")\n', "twice", "another name"),
        (GOOD + 'v = tr.trigger("t", "nothing", when=[tr.when.every("day")])\n', "nothing", "Define it"),
    ],
    ids=["syntax", "import", "raises", "exits", "long", "twice", "dangling"],
)
def test_what_is_wrong_is_named(folder: Path, text: str, what: str, remedy: str) -> None:
    (folder / "loop.py").write_text(text)
    with pytest.raises(TreadleError) as told:
        load(folder)
    assert told.value.code == "bad_definition"
    assert what in told.value.what
    assert remedy in told.value.remedy


def test_no_project_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(TreadleError) as told:
        load(tmp_path)
    assert "treadle init" in told.value.remedy


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("project = ", "not readable"),
        ("module = 'loop'\n", "names no project"),
        ("project = 'p'\nmodul = 'loop'\n", "no setting 'modul'"),
        ("project = 7\n", "project is 7"),
        ("project = 'p'\nmodule = 'gone'\n", "has no gone.py"),
    ],
)
def test_unreadable_settings(folder: Path, text: str, what: str) -> None:
    (folder / "treadle.toml").write_text(text)
    with pytest.raises(TreadleError) as told:
        load(folder)
    assert told.value.code == "bad_definition"
    assert what in told.value.what
