"""A run's journal and its shipping, against a sink that keeps what it is told the way a server does."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.client import capture
from treadle.client.journal import Reader, journals
from treadle.client.run import Run, current
from treadle.client.shipping import drain, ship
from treadle.operations.tracking import LogBatch, LogInputs, StartRun, UpdateRun
from treadle.records.errors import TreadleError


class Kept:
    """What a server would have: points as a set, parameters and tags by name, files by path."""

    def __init__(self, fail: int = 0):
        self.runs: dict[str, StartRun] = {}
        self.points: dict[str, set[tuple[str, int, int | None, float | str]]] = {}
        self.params: dict[str, dict[str, str]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.states: dict[str, list[Any]] = {}
        self.inputs: list[LogInputs] = []
        self.calls = 0
        self.fail = fail
        self.refuse: type | None = None

    def call(self, request: Any) -> Any:
        self.calls += 1
        if self.fail and self.calls % self.fail == 0:
            self._take(request)  # taken, and the answer lost
            raise TreadleError("gone", remedy="try again", code="unavailable")
        if self.refuse is not None and isinstance(request, self.refuse):
            raise TreadleError("no", remedy="ask somebody", code="denied")
        self._take(request)

    def _take(self, request: Any) -> None:
        msgspec.json.decode(msgspec.json.encode(request), type=type(request))  # it travels as it is
        if isinstance(request, StartRun):
            assert self.runs.setdefault(request.run_id, request) == request
        elif isinstance(request, LogBatch):
            assert len(request.metrics) <= 10_000
            points = {(p.key, p.step, p.time, p.value) for p in request.metrics}
            self.points.setdefault(request.run_id, set()).update(points)
            self.params.setdefault(request.run_id, {}).update(request.params)
            self.tags.setdefault(request.run_id, {}).update(request.tags)
        elif isinstance(request, UpdateRun):
            self.states.setdefault(request.run_id, []).append(request.state)
        elif isinstance(request, LogInputs):
            self.inputs.append(request)

    def put_file(self, project: str, run_id: str, path: str, file: Path, media_type: str) -> None:
        self.files.setdefault(run_id, {})[path] = file.read_bytes()

    def close(self) -> None:
        pass


def opened(tmp_path: Path, kept: Kept | None = None, **more: Any) -> Run:
    connect = None if kept is None else lambda: kept
    return Run("tests", project="p", spool=tmp_path / "spool", target="here", connect=connect, system_every=None, ship_every=0.02, **more)


def test_what_a_script_logs_arrives(tmp_path):
    kept = Kept()
    (tmp_path / "model.txt").write_text("weights")
    with opened(tmp_path, kept, name="first", params={"depth": 4}, tags={"kind": "try"}, seed=3) as run:
        assert current() is run
        run.log({"loss": 0.5, "auc": 0.7}, 1)
        run.log(loss=0.4)
        run.log(loss=0.3)
        run.log({"bad": math.nan, "far": -math.inf}, 9)
        run.log_artifact(tmp_path / "model.txt", "models")
        run.log_text("hello", "notes/a.txt")
        run.log_dict({"a": 1}, "a.json")
        run.log_table({"x": [1, 2]}, "t.csv")
        run.use("flights", digest="12")
    assert current() is None
    start = kept.runs[run.run_id]
    assert (start.experiment, start.name) == ("tests", "first")
    assert start.tags["treadle.command"]
    steps = {(key, step, value) for key, step, _, value in kept.points[run.run_id]}
    assert steps == {("loss", 1, 0.5), ("auc", 1, 0.7), ("loss", 0, 0.4), ("loss", 1, 0.3), ("bad", 9, "NaN"), ("far", 9, "-Infinity")}
    assert kept.params[run.run_id] == {"depth": "4", "seed": "3"}
    assert kept.tags[run.run_id] == {"kind": "try"}
    assert kept.files[run.run_id]["models/model.txt"] == b"weights"
    assert kept.files[run.run_id]["t.csv"] == b"x\n1\n2\n"
    assert b"msgspec==" in kept.files[run.run_id]["environment/requirements.txt"]
    assert kept.states[run.run_id] == ["finished"]
    assert kept.inputs[0].inputs[0].name == "flights"
    assert journals(tmp_path / "spool") == []


def test_a_run_ends_as_its_block_does(tmp_path):
    kept = Kept()
    with pytest.raises(ZeroDivisionError), opened(tmp_path, kept) as run:
        _ = 1 / 0
    assert kept.states[run.run_id] == ["failed"]
    with pytest.raises(TreadleError, match="has ended"):
        run.log(loss=1)


def test_runs_stand_in_each_other(tmp_path):
    kept = Kept()
    with opened(tmp_path, kept) as outer:
        with opened(tmp_path, kept) as inner:
            assert current() is inner
        assert current() is outer
    assert kept.runs[inner.run_id].parent_run == outer.run_id


def test_a_changed_parameter_is_refused_at_once(tmp_path):
    with opened(tmp_path, Kept()) as run:
        run.log_params(lr=0.1)
        run.log_params(lr=0.1)
        with pytest.raises(TreadleError, match="already and cannot become"):
            run.log_params(lr=0.2, other=1)
        run.log_params(other=2)  # nothing of the refused call was kept


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", "a\\b", "a\0b"])
def test_paths_stay_in_the_run(tmp_path, path):
    with opened(tmp_path, Kept()) as run, pytest.raises(TreadleError, match="no path"):
        run.log_text("x", path)


def test_values_are_numbers(tmp_path):
    with opened(tmp_path, Kept()) as run, pytest.raises(TreadleError, match="no number"):
        run.log(loss="much")


def test_without_a_server_nothing_is_lost(tmp_path):
    with opened(tmp_path) as run:
        run.log(loss=1.0)
    kept = Kept()
    (path,) = journals(tmp_path / "spool")
    drain(Reader(path), kept)
    assert {p[0] for p in kept.points[run.run_id]} == {"loss"}
    assert kept.states[run.run_id] == ["finished"]


def test_what_is_refused_is_kept_with_the_answer(tmp_path):
    kept = Kept()
    kept.refuse = LogBatch
    with opened(tmp_path, kept) as run:
        run.log(loss=1.0)
    assert kept.states[run.run_id] == ["finished"]
    (line,) = (tmp_path / "spool" / f"{run.run_id}.refused").read_bytes().splitlines()
    told = msgspec.json.decode(line)
    assert told["error"]["code"] == "denied"
    assert told["entries"][-1][3] == {"loss": 1.0}


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    with opened(tmp_path) as run:
        run.log(loss=1.0)
    (path,) = journals(tmp_path / "spool")
    with path.open("ab") as file:
        file.write(b'["m",1,2,{"lo')
    kept = Kept()
    ship(Reader(path), kept)
    assert len(kept.points[run.run_id]) == 1


def test_one_ships_at_a_time(tmp_path):
    with opened(tmp_path) as run:
        run.log(loss=1.0)
    (path,) = journals(tmp_path / "spool")
    with Reader(path).alone() as first, Reader(path).alone() as second:
        assert (first, second) == (True, False)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from treadle.client.run import Run
    run = Run("tests", project="p", spool=Path(sys.argv[1]), target="here", connect=None, system_every=None)
    for i in range(1000):
        run.log({"loss": i}, i)
        print(i, flush=True)
        if i == 400:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_script_loses_nothing_it_logged(tmp_path):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (path,) = journals(tmp_path)
    reader = Reader(path)
    assert reader.abandoned()
    kept = Kept()
    ship(reader, kept)
    assert sorted(p[1] for p in kept.points[reader.header.run_id]) == list(range(401))


def test_threads_log_side_by_side(tmp_path):
    kept = Kept()
    with opened(tmp_path, kept) as run:
        threads = [threading.Thread(target=lambda n=n: [run.log({f"m{n}": i}, i) for i in range(200)]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(kept.points[run.run_id]) == 800


ENTRIES = st.lists(
    st.one_of(
        st.tuples(st.just("log"), st.sampled_from("abc"), st.integers(0, 50), st.floats(allow_nan=False, allow_infinity=False)),
        st.tuples(st.just("tag"), st.sampled_from("xy"), st.integers(0, 5)),
        st.tuples(st.just("param"), st.sampled_from("pqrs")),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(entries=ENTRIES, fail=st.integers(0, 5), stops=st.integers(1, 4))
def test_lost_answers_and_restarts_change_nothing(tmp_path_factory, entries, fail, stops):
    """Whatever answers are lost, and however often shipping starts anew: what is there at the end is what was logged."""
    spool = tmp_path_factory.mktemp("spool")
    run = Run("tests", project="p", spool=spool, target="here", connect=None, system_every=None)
    tags: dict[str, str] = {}
    count = 0
    for entry in entries:
        if entry[0] == "log":
            run.log({entry[1]: entry[3]}, entry[2])
            count += 1
        elif entry[0] == "tag":
            run.set_tags({entry[1]: str(entry[2])})
            tags[entry[1]] = str(entry[2])
        else:
            run.log_params({entry[1]: 1})
    run.finish()
    kept = Kept(fail=fail if fail != 1 else 0)
    (path,) = journals(spool)
    for _ in range(200):
        try:
            ship(Reader(path), kept)
            break
        except TreadleError:
            continue
    for _ in range(stops):  # shipping it all again changes nothing
        (path.with_suffix(".shipped")).unlink()
        kept.fail = 0
        ship(Reader(path), kept)
    logged = {(e[1], e[2], e[3]) for e in entries if e[0] == "log"}
    assert {(k, s, v) for k, s, _, v in kept.points.get(run.run_id, set())} == logged
    assert kept.tags.get(run.run_id, {}) == tags
    assert kept.params.get(run.run_id, {}) == {e[1]: "1" for e in entries if e[0] == "param"}


def test_code_is_captured(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    assert capture.code(tmp_path) == capture.Code()
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "a.py").write_text("x = 1\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    clean = capture.code(tmp_path)
    assert (clean.dirty, clean.diff, len(clean.revision or "")) == (False, b"", 40)
    (tmp_path / "a.py").write_text("x = 2\n")
    dirty = capture.code(tmp_path)
    assert dirty.dirty
    assert b"+x = 2" in dirty.diff


def test_the_machine_is_measured(tmp_path):
    kept = Kept()
    run = Run("t", project="p", spool=tmp_path, target="here", connect=lambda: kept, system_every=0.05, ship_every=0.02)
    threading.Event().wait(0.2)
    run.finish()
    names = {p[0] for p in kept.points[run.run_id]}
    assert {"system/cpu_percent", "process/memory_mb"} <= names
    assert os.getpid()
