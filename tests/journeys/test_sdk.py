"""`treadle.run` from real scripts: into a home, to a server, without either, and killed in the middle."""

import datetime as dt
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import treadle as tr
from treadle.client import Client
from treadle.operations.tracking import GetTrackedRun, ListFiles, MetricHistory
from treadle.records.layout import Layout
from treadle.records.states import RunState
from treadle.workshop import sdk
from treadle.workshop.supervisor import living

SCRIPT = """
    import os, signal, sys
    import treadle as tr
    with tr.run("churn", name="first", params={"depth": 3}, tags={"kind": "try"}, seed=7, system_every=None) as run:
        print(run.run_id, flush=True)
        for step in range(300):
            run.log({"loss": 1 / (step + 1), "auc": step / 300}, step)
            if step == 200 and "--kill" in sys.argv:
                os.kill(os.getpid(), signal.SIGKILL)
        run.log({"odd": float("nan")})
        run.log_table({"x": [1, 2], "y": ["a", "b"]}, "tables/t.parquet")
        run.log_text("<b>bold</b>", "notes/a b.html")
        with tr.run("churn", parent=None, system_every=None) as child:
            child.log(loss=1)
"""


def script(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, "TREADLE_HOME": str(folder / "home"), "TREADLE_PROJECT": "p", **environment}
    code = [sys.executable, "-W", "error", "-c", textwrap.dedent(SCRIPT), *arguments]
    return subprocess.run(code, cwd=folder, env=told, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    home = tmp_path / "served"
    process = subprocess.Popen([sys.executable, "-m", "treadle", "server", "--home", str(home), "--port", "0"])
    try:
        url = None
        end = time.monotonic() + 60
        while url is None:
            assert process.poll() is None
            assert time.monotonic() < end
            url = next((n.url for n in living(Layout(home)) if n.name == "server"), None)
            time.sleep(0.02)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def check(sink: Any, run_id: str, *, steps: int = 300) -> None:
    """What the script logged is there, once."""
    run = sink.call(GetTrackedRun(project="p", run_id=run_id))
    assert (run.name, run.params["depth"], run.params["seed"], run.tags["kind"]) == ("first", "3", "7", "try")
    assert run.tags["treadle.command"]
    history = sink.call(MetricHistory(project="p", key="loss", run_ids=[run_id]))
    assert [(p.step, p.value) for p in history.points[run_id]] == [(s, 1 / (s + 1)) for s in range(steps)]


def test_into_a_home(tmp_path):
    done = script(tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    run_id = done.stdout.split()[0]
    sink = sdk.HomeSink(tmp_path / "home")
    try:
        check(sink, run_id)
        found = sink.call(ListFiles(project="p", owner=run_id))
        assert {"tables", "notes", "environment"} <= set(found.folders)
        with sink.open_file("p", run_id, "notes/a b.html") as file:
            assert file.read() == b"<b>bold</b>"
    finally:
        sink.close()
    frame = tr.runs("metrics.auc > 0.9", order_by=["metrics.loss"], project="p", home=tmp_path / "home")
    assert frame["run_id"].to_list() == [run_id]
    children = tr.runs(project="p", home=tmp_path / "home")
    assert children.height == 2
    assert not list((tmp_path / "home" / "spool").iterdir())


def test_to_a_server(tmp_path, server):
    done = script(tmp_path, TREADLE_URL=server)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    run_id = done.stdout.split()[0]
    with Client(server) as client:
        check(client, run_id)
        with client.get_file("p", run_id, "notes/a b.html") as file:
            assert file.read() == b"<b>bold</b>"
        assert client.call(GetTrackedRun(project="p", run_id=run_id)).state == RunState.finished


def test_a_killed_script_is_sent_later_and_closed_as_failed(tmp_path, server):
    done = script(tmp_path, "--kill", TREADLE_URL=server, TREADLE_SPOOL=str(tmp_path / "spool"))
    assert done.returncode == -signal.SIGKILL
    run_id = done.stdout.split()[0]
    for _ in range(2):  # the second time there is nothing left
        sdk.sync(tmp_path / "spool")
    with Client(server) as client:
        check(client, run_id, steps=201)
        run = client.call(GetTrackedRun(project="p", run_id=run_id))
        assert (run.state, run.error) == (RunState.failed, "its process ended without closing it")
    assert not list((tmp_path / "spool").iterdir())


def test_without_a_server_and_synced_by_the_command(tmp_path, server):
    done = script(tmp_path, TREADLE_URL="http://127.0.0.1:9", TREADLE_SPOOL=str(tmp_path / "spool"), TREADLE_OFFLINE="1")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    run_id = done.stdout.split()[0]
    command = [sys.executable, "-m", "treadle", "sync", str(tmp_path / "spool"), "--to", server, "--json"]
    assert subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.count('"shipped"') == 2
    with Client(server) as client:
        check(client, run_id)


def test_data_that_is_read_is_noted_without_being_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads.jsonl"))
    definition = tr.dataset("flights", time="at", key="id")
    rows = pl.DataFrame({"id": [1, 2], "at": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 2})
    with tr.open_home(tmp_path / "home") as shop:
        made = shop.data.append("p", definition, rows, actor=shop.actor)
        with tr.run("churn", project="p", home=tmp_path / "home", system_every=None) as run:
            shop.data.read("p", "flights").collect()
            shop.data.read("p", "flights").collect()
        found = shop.call(GetTrackedRun(project="p", run_id=run.run_id))
    assert [(i.name, i.digest, i.source) for i in found.inputs] == [("flights", made.digest, "p/flights@1")]
