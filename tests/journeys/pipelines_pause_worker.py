"""A worker of three steps, the second of which waits for a file: `python pipelines_pause_worker.py URL HOME NAME RUN`.

Ends once the run has ended.
"""

import datetime as dt
import os
import sys
import time
from pathlib import Path

import treadle.pipelines as tp
from treadle.operations.pipelines import SubmitRun
from treadle.pipelines.service import Pipelines
from treadle.pipelines.worker import Worker
from treadle.records.calls import SYSTEM, Call
from treadle.records.definitions import Project
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.store.queries import ledger as runs
from treadle.store.queries import workshop

URL, HOME, NAME, RUN = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]


def effect(text: str) -> None:
    file = os.open(HOME / "effects.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{NAME} {text}\n".encode())
    os.close(file)


@tp.step(cache=False)
def one() -> int:
    effect("one")
    return 1


@tp.step(cache=False)
def two(before: int) -> int:
    effect("two")
    while not (HOME / "go").exists():
        time.sleep(0.01)
    return before + 1


@tp.step(cache=False)
def three(before: int) -> int:
    effect("three")
    return before + 1


@tp.pipeline
def counting() -> None:
    three(two(one()))


def main() -> None:
    now = dt.datetime.now(dt.UTC)
    with Database.open(URL) as database:
        if NAME == "first":
            definitions = Project(name="pause", pipelines=(counting.definition,))
            row = {"project": "pause", "environment": "dev", "digest": "d", "definitions": definitions, "actor": "test"}
            database.write(lambda tx: workshop.apply(tx, {**row, "event_time": now, "recorded_time": now}))
            request = SubmitRun(project="pause", pipeline="counting", run_id=RUN)
            database.write(lambda tx: Pipelines(database).submit(tx, request, Call(actor=SYSTEM, event_time=now)))
        worker = Worker(database, LocalBlobs(HOME / "blobs"), load_body=lambda run: counting, name=NAME, lease_s=1.0)
        while True:
            worker.run_due()
            with database.read() as connection:
                run = runs.get_run(connection, "pause", RUN)
            if run is not None and run.state == "finished":
                return
            time.sleep(0.05)


if __name__ == "__main__":
    main()
