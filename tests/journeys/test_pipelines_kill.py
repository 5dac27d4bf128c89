"""`kill -9` at every phase of a step: at most the step in flight is lost, no finished step runs again, every run ends finished."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from treadle.pipelines.faults import PHASES
from treadle.store.db import Database

WORKER = Path(__file__).with_name("pipelines_kill_worker.py")


def battery(url: str, home: Path, *, seed: int, kills: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(WORKER), url, str(home), str(seed), str(kills)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={**os.environ, "TREADLE_TEST_EFFECTS": str(home / "effects.txt")},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("kills", [pytest.param(12, id="12 kills"), pytest.param(210, id="210 kills", marks=pytest.mark.heavy)])
def test_kills_lose_at_most_the_step_in_flight(database: Database, database_url: str, tmp_path: Path, kills: int, capsys: Any) -> None:
    told = battery(database_url, tmp_path, seed=kills, kills=kills)
    with capsys.disabled():
        print(f"\n{database.dialect}: {told}")
    assert told["problems"] == []
    assert told["kills"] >= kills
    assert set(told["histogram"]) == set(PHASES), "every phase was hit"
    assert min(told["histogram"].values()) >= kills // 12
