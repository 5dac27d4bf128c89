"""`treadle up`: real processes, started, killed, ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from treadle.client import Client
from treadle.operations.ledger import CreateRun, GetRun, ListRuns
from treadle.operations.workshop import ApplyProject, ListProjects
from treadle.records.definitions import Endpoint, Environment, Project
from treadle.records.layout import Layout
from treadle.workshop.supervisor import Note, alive, living

SECONDS = 40.0


def until(condition: Callable[[], object], seconds: float = SECONDS) -> object:
    """The first true answer; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError("did not come in time")


class Up:
    """One `treadle up` of a home."""

    def __init__(self, home: Path, *words: str):
        self.layout = Layout(home)
        self.output = home.parent / "up.out"
        with self.output.open("ab") as out:
            command = [sys.executable, "-m", "treadle", "up", "--home", str(home), "--port", "0", *words]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def note(self, name: str) -> Note | None:
        return next((n for n in living(self.layout) if n.name == name), None)

    def client(self) -> Client:
        note = until(lambda: self.note("server"))
        assert isinstance(note, Note)
        return Client(note.url)

    def ready(self) -> None:
        until(lambda: "Ready in" in self.output.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.output.read_text()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Up]:
    for name in ("TREADLE_HOME", "TREADLE_TOKEN", "TREADLE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads.jsonl"))
    started = Up(tmp_path / "home")
    yield started
    started.stop()


def test_up_is_ready_applies_kills_and_ends(up: Up) -> None:
    up.ready()
    pids = {n.name: n.pid for n in living(up.layout)}
    assert set(pids) == {"server", "worker"}
    client = up.client()
    definitions = Project(name="shop", endpoints=(Endpoint(name="delay", model="delay"),), environments=(Environment(name="dev"),))
    client.call(ApplyProject(project="shop", environment="dev", definitions=definitions))
    gateway = until(lambda: up.note("gateway-shop-dev"))
    assert isinstance(gateway, Note)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as raw:
        raw.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert b" 200 " in raw.recv(4096)

    # A child that dies comes back; what it had acknowledged is there.
    client.call(CreateRun(project="shop", run_id="before"))
    client.close()
    for name in ("server", "worker", "gateway-shop-dev"):
        note = up.note(name)
        assert note is not None
        os.kill(note.pid, signal.SIGKILL)
    for name in ("server", "worker", "gateway-shop-dev"):
        until(lambda name=name: (n := up.note(name)) is not None and n.pid not in {*pids.values(), gateway.pid})
    again = up.client()
    assert again.call(GetRun(project="shop", run_id="before")).run.run_id == "before"

    # SIGTERM in the middle of writes: every acknowledged one is kept, everything ends.
    kept: list[str] = []
    with contextlib.suppress(Exception):
        for number in range(9_000):
            kept.append(again.call(CreateRun(project="shop", run_id=f"run_{number}")).run_id)
            if number == 50:
                up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0
    assert living(up.layout) == []
    assert "All stopped." in up.output.read_text()
    second = Up(up.layout.root)
    try:
        client = second.client()
        found = {r.run_id for r in client.call(ListRuns(project="shop", limit=10_000)).items}
        assert found >= set(kept)
        assert [p.name for p in client.call(ListProjects())] == ["shop"]
        client.close()
    finally:
        second.stop()
    again.close()


def test_one_up_a_home_and_one_process_a_port(up: Up, tmp_path: Path) -> None:
    up.ready()
    words = [sys.executable, "-m", "treadle", "up", "--json"]
    second = subprocess.run([*words, "--home", str(up.layout.root), "--port", "0"], capture_output=True, text=True, timeout=60)
    assert second.returncode == 4
    error = json.loads(second.stderr.splitlines()[-1])
    assert error["code"] == "busy"
    assert str(up.process.pid) in error["what"]
    server = up.note("server")
    assert server is not None
    third = subprocess.run(
        [*words, "--home", str(tmp_path / "third"), "--port", str(server.port)], capture_output=True, text=True, timeout=60
    )
    assert third.returncode == 4
    error = json.loads(third.stderr.splitlines()[-1])
    assert str(server.port) in error["what"]
    assert "--port" in error["remedy"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_children_end_when_the_supervisor_is_killed(up: Up) -> None:
    up.ready()
    pids = [n.pid for n in living(up.layout)]
    up.process.kill()
    up.process.wait(10)
    until(lambda: not any(alive(pid) for pid in pids))


def test_beyond_loopback_without_a_token_says_how(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "treadle", "up", "--home", str(home), "--port", "0", "--host", "0.0.0.0", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    error = json.loads(done.stderr.splitlines()[-1])
    assert (error["code"], "treadle token add owner" in error["remedy"]) == ("denied", True)
    assert living(Layout(home)) == []
