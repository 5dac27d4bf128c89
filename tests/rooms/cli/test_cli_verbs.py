"""Verbs on a real home, typed as a person would."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from treadle.cli import main
from treadle.workshop import doctor


class Terminal:
    """Types `treadle …` and reads what it said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]):
        self._capsys = capsys
        self.err = ""

    def __call__(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        got = main(list(words))
        said = self._capsys.readouterr()
        self.err = said.err
        assert got == code, f"treadle {' '.join(words)} ended with {got}: {said.out}{said.err}"
        return said.out

    def findings(self) -> Any:
        self._capsys.readouterr()
        main(["doctor", "--json"])
        return json.loads(self._capsys.readouterr().out)

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))


@pytest.fixture
def treadle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    for name in ("TREADLE_HOME", "TREADLE_TOKEN", "TREADLE_URL", "TREADLE_ENV", "TREADLE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads.jsonl"))
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    path = list(sys.path)
    yield Terminal(capsys)
    sys.path[:] = path
    sys.modules.pop("loop", None)  # the project of the next test has a module of the same name


def test_from_init_to_a_run(treadle: Terminal) -> None:
    assert "wrote loop.py" in treadle("init")
    treadle("init", code=4)
    assert "+ pipeline hello" in treadle("plan")
    assert treadle.json("plan")["base"] == ""
    assert "Applied shop to dev" in treadle("apply", "--yes")
    assert "no definition changes" in treadle("plan")
    assert "counting 5 rows" in treadle("run", "hello", "--rows", "5")
    run = treadle.json("runs")["items"][0]
    assert (run["pipeline"], run["state"], run["params"]) == ("hello", "finished", {"rows": 5})
    again = treadle("run", "hello", "--rows", "5")
    assert "finished" in again
    newest = treadle.json("runs")["items"][0]["run_id"]
    assert "cached" in treadle("why-ran", newest)
    assert "counting 5 rows" in treadle("logs", run["run_id"])
    assert "0000:count" in treadle("runs", run["run_id"])
    assert "treadle.run.finished" in treadle("events")
    treadle("why-ran", newest, "nothing", code=3)
    treadle("run", "none", code=3)
    assert "hello" in treadle.err
    assert "is intact" in treadle("audit", "verify")
    assert len(treadle.json("audit", "head")["hash"]) == 64
    assert all(f["ok"] for f in treadle.findings() if f["name"] != "port")  # somebody else may listen there


def test_a_failing_run_ends_in_one_and_can_be_resumed(treadle: Terminal) -> None:
    treadle("init")
    code = (
        "import pathlib\nimport treadle as tr\ndev = tr.environment('dev')\n"
        "@tr.step\ndef first():\n    return 1\n"
        "@tr.step\ndef shaky(x: int):\n    assert pathlib.Path('mended').exists(), 'not mended'\n    return x\n"
        "@tr.pipeline\ndef flow():\n    return shaky(first()).get()\n"
    )
    Path("loop.py").write_text(code)
    treadle("apply", "--yes")
    said = treadle("run", "flow", code=1)
    assert "not mended" in said
    run_id = treadle.json("runs")["items"][0]["run_id"]
    Path("mended").touch()
    assert "finished" in treadle("resume", run_id)
    assert "keeps its code" in said


def test_json_of_a_run_is_one_document_and_of_its_log_one_a_line(treadle: Terminal) -> None:
    treadle("init")
    treadle("apply", "--yes")
    made = treadle.json("run", "hello", "--rows", "4")
    assert (made["pipeline"], made["state"]) == ("hello", "finished")
    *lines, last = [json.loads(line) for line in treadle("logs", made["run_id"], "-f", "--json").splitlines()]
    assert [line["text"] for line in lines] == ["counting 4 rows"]
    assert last == made


def test_a_run_with_wrong_parameters_ends_in_two_and_leaves_nothing(treadle: Terminal) -> None:
    treadle("init")
    treadle("apply", "--yes")
    before = treadle.json("events")
    treadle("run", "hello", "--rows", "abc", code=2)
    assert "Parameter 'rows' of pipeline hello takes int, and was given \"abc\"." in treadle.err
    assert "To do: Give it as int: treadle run hello --rows 7" in treadle.err
    treadle("run", "hello", "--row", "5", code=2)
    assert "no parameter 'row'" in treadle.err
    assert "rows (int). Was rows meant?" in treadle.err
    treadle("api", "submit-run", "--pipeline", "hello", "--run-id", "run_x", "--params", '{"rows": 1.5}', code=2)
    assert "takes int, and was given 1.5" in treadle.err
    assert treadle.json("runs")["items"] == []
    assert treadle.json("events") == before
    code = "import treadle as tr\n\n\n@tr.pipeline\ndef named(name: str):\n    pass\n"
    Path("loop.py").write_text(code)
    treadle("apply", "--yes")
    treadle("run", "named", code=2)
    assert "needs parameter 'name' (str)" in treadle.err
    treadle("run", "named", "--name", "7", code=2)
    assert "Quote it as text: --name '\"7\"'" in treadle.err
    treadle("run", "named", "--name", '"7"')


def test_definitions_that_cannot_be_read(treadle: Terminal) -> None:
    treadle("plan", code=2)
    assert "treadle init" in treadle.err
    treadle("init", "über", code=2)
    assert not Path("über").exists()
    treadle("init")
    Path("loop.py").write_text("import treadle as tr\nx = (\n")
    treadle("plan", code=2)
    assert "loop.py, line" in treadle.err
    Path("loop.py").write_text("import nothing_like_this\n")
    treadle("plan", code=2)
    assert "nothing_like_this" in treadle.err
    Path("treadle.toml").write_text("project = ")
    treadle("plan", code=2)


def test_actors_and_tokens(treadle: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    treadle("init")
    treadle("apply", "--yes")
    treadle("actor", "add", "ann", "--role", "viewer")
    treadle("actor", "add", "ann", "--role", "admin", code=4)
    assert {a["actor_id"] for a in treadle.json("actor", "list")} >= {"owner", "ann"}
    token = treadle("token", "add", "ann").strip()
    assert token.startswith("trd_")
    assert "Shown once" in treadle.err
    listed = treadle.json("token", "list", "ann")
    assert (len(listed), listed[0]["revoked_time"]) == (1, None)
    assert listed[0]["token_id"] in token
    assert token.rpartition("_")[2] not in treadle("token", "list", "ann") + str(listed)
    assert "No tokens" in treadle("token", "list", "owner")
    assert "ann is viewer, and editor in shop/dev." in treadle("actor", "grant", "ann", "editor", "--project", "shop", "--env", "dev")
    assert "editor in shop/dev" in treadle("actor", "list")
    assert "Revoked." in treadle("actor", "revoke", "ann", "--project", "shop", "--env", "dev")
    assert "no such grant" in treadle("actor", "revoke", "ann")
    treadle("actor", "disable", "owner", code=4)
    assert "cannot be disabled" in treadle.err
    assert "Disabled." in treadle("actor", "disable", "ann")
    assert "disabled" in treadle("actor", "list")
    with monkeypatch.context() as inside:
        inside.setenv("TREADLE_TOKEN", token)
        treadle("runs", code=4)
    assert treadle.json("actor", "enable", "ann") == {"changed": True}
    monkeypatch.setenv("TREADLE_TOKEN", token)
    assert treadle.json("api", "who-am-i")["actor_id"] == "ann"
    treadle("apply", "--yes", code=4)
    treadle("actor", "add", "bob", code=4)
    assert "actors:admin" in treadle.err
    monkeypatch.setenv("TREADLE_TOKEN", token + "0")
    treadle("runs", code=4)


def test_derived_commands_fill_in_project_and_ids(treadle: Terminal) -> None:
    treadle("init")
    treadle("apply", "--yes")
    made = json.loads(treadle("api", "create-run", "--params", '{"a": 1}', "--environment", "dev"))
    assert made["run_id"].startswith("run_")
    treadle("api", "log-metrics", "--run-id", made["run_id"], "--metrics", '[{"key": "auc", "value": 0.5}]')
    assert json.loads(treadle("api", "get-run", "--run-id", made["run_id"]))["metrics"] == {"auc": 0.5}
    treadle("api", "log-metrics", "--run-id", made["run_id"], "--metrics", "[", code=2)
    treadle("api", "log-metrics", "--run-id", made["run_id"], code=2)
    Path("request.json").write_text(json.dumps({"run_id": made["run_id"], "tags": {"x": "y"}}))
    assert json.loads(treadle("api", "set-tags", "--input", "request.json")) == {"changed": True}


def test_data_in_and_looked_at(treadle: Terminal) -> None:
    treadle("init")
    treadle("apply", "--yes")
    Path("events.csv").write_text("time,id,value\n2013-01-01T00:00:00Z,1,5\n2013-01-02T00:00:00Z,2,7\n")
    assert "2 rows" in treadle("data", "ingest", "events", "events.csv")
    assert "events@1" in treadle("data", "versions", "events")
    assert "2 rows" in treadle("data", "profile", "events")
    Path("empty.csv").write_text("")
    treadle("data", "ingest", "events", "empty.csv", code=2)
    treadle("data", "ingest", "events", "none.csv", code=3)
    treadle("data", "ingest", "nothing", "events.csv", code=3)
    assert "events" in treadle.err


def test_backup_restore_and_garbage(treadle: Terminal, tmp_path: Path) -> None:
    treadle("init")
    treadle("apply", "--yes")
    treadle("run", "hello")
    before = treadle.json("runs")
    treadle("backup", str(tmp_path / "copy"))
    treadle("restore", str(tmp_path / "copy"), code=4)
    new = str(tmp_path / "a new one")
    assert f"treadle doctor --home '{new}'" in treadle("restore", str(tmp_path / "copy"), "--home", new)
    assert treadle.json("runs", "--home", new) == before
    assert treadle.json("gc")["dry_run"] is True
    treadle("gc", "--min-age", "soon", code=2)


def test_what_has_nothing_to_show_says_so(treadle: Terminal) -> None:
    treadle("init")
    treadle("apply", "--yes")
    assert "Nothing waits" in treadle("approvals")
    assert "No version yet" in treadle("models")
    assert "No release yet" in treadle("release", "list")
    assert "No runs yet" in treadle("runs")
    treadle("models", "delay@x", code=2)
    treadle("approve", "delay@1", code=3)
    treadle("release", "start", "delay", code=3)
    treadle("rollback", "delay", code=3)
    treadle("predict", "delay", "--row", "{}", code=5)
    assert "treadle up" in treadle.err
    treadle("predict", "delay", "--row", "x", code=2)
    treadle("why", "none-0-0", code=3)
    assert treadle.json("version")["version"]


def test_a_broken_chain_ends_in_six(treadle: Terminal) -> None:
    import sqlite3

    treadle("init")
    treadle("apply", "--yes")
    treadle("run", "hello")
    with sqlite3.connect(".treadle/treadle.db") as raw:
        raw.execute("UPDATE events SET actor = 'somebody' WHERE seq = 2")
    assert "BROKEN" in treadle("audit", "verify", code=6)
    assert "BAD  audit" in treadle("doctor", code=1)


def test_doctor_finds_what_is_wrong(treadle: Terminal, tmp_path: Path) -> None:
    said = treadle("doctor", "--home", str(tmp_path / "none"), code=1)
    assert "is not there" in said
    treadle("init")
    treadle("apply", "--yes")
    blob = next(p for p in Path(".treadle/blobs").glob("??/*") if p.parent.name != "tmp" and p.is_file())
    blob.chmod(0o600)
    blob.write_bytes(b"damaged")
    (Path(".treadle/processes")).mkdir(exist_ok=True)
    Path(".treadle/processes/worker.json").write_text('{"pid": 999999999, "port": 0}')
    found = {f["name"]: f for f in treadle.json("doctor", code=1)}
    assert not found["blobs"]["ok"]
    assert not found["processes"]["ok"]
    assert found["database"]["ok"]
    assert all(f["remedy"] for f in found.values() if not f["ok"])


def test_doctor_notices_a_clock_that_went_back(treadle: Terminal) -> None:
    treadle("init")
    treadle("apply", "--yes")
    later = time.time() + 3600
    os.utime(".treadle/treadle.db", (later, later))
    found = {f["name"]: f for f in treadle.json("doctor", code=1)}
    assert "went back" in found["clock"]["text"]


def test_a_replay_needs_time_a_champion_and_no_worker(treadle: Terminal) -> None:
    treadle("init")
    treadle("apply", "--yes")
    treadle("replay", "delay", "--history", ".", "--from", "2013-02-01", "--to", "2013-01-01", code=2)
    treadle("replay", "--history", ".", "--from", "2013-01-01", "--to", "2013-02-01", code=2)
    Path(".treadle/processes").mkdir(exist_ok=True)
    Path(".treadle/processes/worker.json").write_text(json.dumps({"pid": os.getpid()}))
    treadle("replay", "--history", ".", "--from", "2013-01-01", "--to", "2013-02-01", code=4)
    assert "real clock" in treadle.err


def test_output_into_a_closed_pipe_is_no_error(treadle: Terminal) -> None:
    treadle("init")
    treadle("apply", "--yes")
    command = f"{sys.executable} -m treadle events | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")


def test_an_interrupted_run_says_what_becomes_of_it(treadle: Terminal) -> None:
    treadle("init")
    code = (
        "import time\nimport treadle as tr\ndev = tr.environment('dev')\n"
        "@tr.step\ndef slow():\n    print('at it', flush=True)\n    time.sleep(2)\n"
        "@tr.pipeline\ndef flow():\n    slow()\n"
    )
    Path("loop.py").write_text(code)
    treadle("apply", "--yes")
    words = [sys.executable, "-c", "import sys; from treadle.cli import main; sys.exit(main())", "run", "flow"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        run_id = process.stdout.readline().split()[0]
        assert "at it" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert f"treadle cancel {run_id}" in said
    assert "Traceback" not in said
    assert treadle.json("runs")["items"][0]["state"] == "finished"


def test_a_full_disk_is_told_as_one() -> None:
    def full() -> list[dict[str, Any]]:
        raise OSError(errno.ENOSPC, "No space left on device")

    (finding,) = doctor._guarded("disk", full)
    assert finding["text"] == "No space left on device"
    assert "Free space" in finding["remedy"]


def test_events_are_followed(treadle: Terminal) -> None:
    treadle("init")
    treadle("apply", "--yes")
    treadle("run", "hello")
    words = [sys.executable, "-c", "import sys; from treadle.cli import main; sys.exit(main())", "events", "-f"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while "treadle.run.finished" not in process.stdout.readline():
            assert process.poll() is None
        treadle("run", "hello", "--rows", "9")
        while "treadle.run.finished" not in process.stdout.readline():
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGINT)
        assert "Error" not in process.stderr.read()
    assert process.returncode == 130
