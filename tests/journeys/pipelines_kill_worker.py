"""Kills workers at chosen phases of a step, again and again, and checks after every kill what the journal and the side effects say.

A process of its own, warm and without threads, so that each worker is a cheap fork of it:
`python pipelines_kill_worker.py URL HOME SEED KILLS`
prints one JSON object.
"""

import collections
import datetime as dt
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import treadle.pipelines as tp
from treadle.operations.pipelines import SubmitRun
from treadle.pipelines import faults
from treadle.pipelines.service import Pipelines
from treadle.pipelines.worker import Worker
from treadle.records.calls import SYSTEM, Call
from treadle.records.definitions import Project
from treadle.records.ids import new_id
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.store.queries import ledger as runs
from treadle.store.queries import pipelines as queries
from treadle.store.queries import workshop

EFFECTS = Path(os.environ.get("TREADLE_TEST_EFFECTS", "/dev/null"))
PROJECT = "kills"
EXPECTED = {f"{i:04d}:{n}" for i, n in ((0, "load"), (1, "fit"), (5, "publish"))}
EXPECTED |= {f"0002:score[{i}]" for i in range(3)} | {"0003:merge", "0004:flaky"}


def effect(text: str = "") -> None:
    """A side effect that survives the process: one line, on disk."""
    path = tp.context.current().step
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{tp.context.current().run_id} {path} {text}\n".encode())
    os.fsync(file)
    os.close(file)
    faults.passing("running")


@tp.step
def load(seed: int) -> bytes:
    effect()
    return bytes(random.Random(seed).randrange(256) for _ in range(40_000))


@tp.step(cache=False)
def fit(rows: bytes) -> float:
    effect()
    return sum(rows) / len(rows)


@tp.step(cache=False)
def score(part: int, model: float) -> dict[str, float]:
    effect()
    return {"part": part, "score": model * part}


@tp.step(cache=False)
def merge(scores: list[dict[str, float]]) -> tuple[float, ...]:
    effect()
    return tuple(s["score"] for s in scores)


@tp.step(cache=False, retries=2, backoff_s=0.001)
def flaky(total: float) -> float:
    effect()
    if not EFFECTS.with_suffix(f".{tp.context.current().run_id}").exists():
        EFFECTS.with_suffix(f".{tp.context.current().run_id}").touch()
        raise RuntimeError("not yet")
    return total


@tp.step(cache=False)
def publish(total: float) -> str:
    effect()
    return f"total {total}"


@tp.pipeline
def everything(seed: int) -> None:
    rows = load(seed)
    model = fit(rows)
    scores = tp.each(score, [1, 2, 3], model)
    merged = merge(scores)
    if sum(merged.get()) > 0:
        done = flaky(sum(merged.get()))
        publish(done)


def submit(database: Database, seed: int) -> str:
    run_id = new_id("run")
    call = Call(actor=SYSTEM, event_time=dt.datetime.now(dt.UTC))
    request = SubmitRun(project=PROJECT, pipeline="everything", run_id=run_id, params={"seed": seed})
    database.write(lambda tx: Pipelines(database).submit(tx, request, call))
    return run_id


def apply(database: Database) -> None:
    now = dt.datetime.now(dt.UTC)
    definitions = Project(name=PROJECT, pipelines=(everything.definition,))
    row = {"project": PROJECT, "environment": "dev", "digest": "d", "definitions": definitions, "actor": "test"}
    database.write(lambda tx: workshop.apply(tx, {**row, "event_time": now, "recorded_time": now}))


def work(url: str, home: Path, fault: str, **options: float) -> int:
    """Fork a worker that executes what is due and dies at `fault`; returns how it ended, as waitpid does."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            faults.arm(fault)
            database = Database.open(url)
            Worker(database, LocalBlobs(home / "blobs"), load_body=lambda run: everything, name="w", **options).run_due()
            database.close()
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def seen() -> list[tuple[str, str]]:
    return [tuple(line.split()[:2]) for line in EFFECTS.read_text().splitlines()] if EFFECTS.exists() else []  # type: ignore[misc]


def finished(url: str, run_id: str) -> tuple[str, set[str]]:
    with Database.open(url) as database, database.read() as connection:
        run = runs.get_run(connection, PROJECT, run_id)
        assert run is not None
        rows = queries.steps_of(connection, PROJECT, run_id)
        return str(run.state), {row.path for row in rows if row.state in ("finished", "cached")}


def battery(url: str, home: Path, seed: int, kills: int) -> dict[str, object]:
    chance = random.Random(seed)
    histogram: collections.Counter[str] = collections.Counter()
    problems: list[str] = []
    run_count, idle, began = 0, 0, time.monotonic()
    with Database.open(url) as database:
        apply(database)
    while sum(histogram.values()) < kills:
        with Database.open(url) as database:
            run_id = submit(database, seed * 10_000 + run_count)
        run_count += 1
        done: set[str] = set()
        counts: collections.Counter[str] = collections.Counter()
        state, ours, stuck = "queued", 0, 0  # stuck: kills in a row that let no step be finished
        while state != "finished":
            least = min(histogram.get(p, 0) for p in faults.PHASES)
            phase = chance.choice([p for p in faults.PHASES if histogram.get(p, 0) <= least + 3])
            fault = f"{phase}:{1 if phase == 'claimed' else chance.randint(1, 4)}" if ours < 12 and stuck < 6 else ""
            before = collections.Counter(path for run, path in seen() if run == run_id)
            ended = work(url, home, fault)
            state, now_done = finished(url, run_id)
            after = collections.Counter(path for run, path in seen() if run == run_id)
            ran = after - before
            again = done & set(ran)
            if again:
                problems.append(f"{run_id}: finished before, ran again: {sorted(again)} after {fault}")
            if not done <= now_done:
                problems.append(f"{run_id}: finished steps vanished: {sorted(done - now_done)}")
            repeated = [path for path in ran if before[path] and path != "0004:flaky"]
            if len(repeated) > 1:
                problems.append(f"{run_id}: one kill, several steps again: {repeated}")
            if os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL:
                histogram[phase] += 1
                ours += 1
                lost = set(after) - now_done
                if len(lost) > 1:
                    problems.append(f"{run_id}: killed at {fault}, and more than the step in flight is lost: {sorted(lost)}")
            elif os.WEXITSTATUS(ended) == 0:
                idle += bool(fault)
            else:
                problems.append(f"{run_id}: worker ended with {ended} at {fault}")
                break
            if state not in ("running", "finished", "queued"):
                problems.append(f"{run_id}: is {state} after {fault}")
                break
            stuck = 0 if now_done > done else stuck + 1
            done, counts = now_done, after
        if state == "finished" and done != EXPECTED:
            problems.append(f"{run_id}: ended with {sorted(done)}")
        if sum(counts.values()) > len(EXPECTED) + 1 + ours:
            problems.append(f"{run_id}: {sum(counts.values())} side effects of {len(EXPECTED)} steps after {ours} kills")
    return {
        "kills": sum(histogram.values()),
        "histogram": dict(sorted(histogram.items())),
        "runs": run_count,
        "passed_without_kill": idle,
        "side_effects": len(seen()),
        "seconds": round(time.monotonic() - began, 1),
        "problems": problems,
    }


if __name__ == "__main__":
    address, folder, chosen, number = sys.argv[1:]
    print(json.dumps(battery(address, Path(folder), int(chosen), int(number))))
