"""A worker that is stopped for longer than its lease: another finishes the run, and the one that wakes up changes nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from treadle.records.ids import new_id
from treadle.store.db import Database

WORKER = Path(__file__).with_name("pipelines_pause_worker.py")


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects.txt"


def start(url: str, home: Path, name: str, run_id: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(WORKER), url, str(home), name, run_id])


def wait_for(effects: Path, text: str) -> None:
    for _ in range(1500):
        if effects.exists() and text in effects.read_text().split("\n"):
            return
        time.sleep(0.02)
    raise AssertionError(f"{text} never came: {effects.read_text() if effects.exists() else 'nothing'}")


def test_a_paused_worker_is_fenced(database: Database, database_url: str, tmp_path: Path, effects: Path) -> None:
    run_id = new_id("run")
    first = start(database_url, tmp_path, "first", run_id)
    try:
        wait_for(effects, "first one")
        wait_for(effects, "first two")
        os.kill(first.pid, signal.SIGSTOP)
        second = start(database_url, tmp_path, "second", run_id)
        try:
            wait_for(effects, "second two")
            (tmp_path / "go").touch()
            assert second.wait(30) == 0
        finally:
            second.kill()
        os.kill(first.pid, signal.SIGCONT)
        assert first.wait(30) == 0
    finally:
        first.kill()
    assert effects.read_text().split() == "first one first two second two second three".split()
