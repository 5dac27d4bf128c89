"""Step overhead beside plain calls: `python -m bench.steps`.

A chain of 10 steps, a fan-out of 200, a 200 MB frame through 3 steps, each cold and from the cache, through the real worker on a
real home; beside each the same functions called plainly. One fsync of this disk is measured too, because a step commits once.
"""

import datetime as dt
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import treadle.pipelines as tp
from treadle.operations.pipelines import SubmitRun
from treadle.pipelines.service import Pipelines
from treadle.pipelines.worker import Worker
from treadle.records.calls import SYSTEM, Call
from treadle.records.definitions import Project
from treadle.records.ids import new_id
from treadle.store import migrate
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.store.queries import ledger, workshop

PROJECT = "bench"


@tp.step
def plus_one(x: int) -> int:
    return x + 1


@tp.step
def square(x: int) -> int:
    return x * x


@tp.step
def make(rows: int) -> pl.DataFrame:
    generator = np.random.default_rng(7)
    return pl.DataFrame({f"c{i}": generator.standard_normal(rows) for i in range(10)})


@tp.step
def ranked(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("c0").rank().alias("c0"), (pl.col("c1") * pl.col("c2")).alias("c1"))


@tp.step
def sorted_by(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("c3")


@tp.pipeline
def chain(start: int = 0) -> None:
    x = start
    for _ in range(10):
        x = plus_one(x)


@tp.pipeline
def fan_out(start: int = 0) -> None:
    tp.each(square, range(start, start + 200))


@tp.pipeline
def big_frame(rows: int = 2_500_000) -> None:
    sorted_by(ranked(make(rows)))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def fsync_ms(folder: Path) -> float:
    path = folder / "fsync"
    with path.open("wb") as file:
        took = []
        for _ in range(30):
            file.write(b"x" * 4096)
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - start)
    return statistics.median(took) * 1000


def save_plainly(rows: int, folder: Path) -> None:
    """The same three functions, each result written to a file and synced: what keeping results costs at least."""
    frame = make.function(rows)
    for number, work in enumerate((None, ranked, sorted_by)):
        frame = frame if work is None else work.function(frame)
        path = folder / f"{number}.arrow"
        frame.write_ipc(path, compression="uncompressed")
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.unlink()


class Home:
    """A throwaway home with the benchmark's pipelines applied."""

    def __init__(self, root: Path):
        self.database = Database.open(f"sqlite:///{root}/treadle.db")
        migrate.ensure(self.database)
        self.blobs = LocalBlobs(root / "blobs")
        now = dt.datetime.now(dt.UTC)
        definitions = Project(name=PROJECT, pipelines=tuple(p.definition for p in (chain, fan_out, big_frame)))
        row = {"project": PROJECT, "environment": "dev", "digest": "d", "definitions": definitions, "actor": "bench"}
        self.database.write(lambda tx: workshop.apply(tx, {**row, "event_time": now, "recorded_time": now}))

    def run(self, pipeline: Any, **params: Any) -> tuple[float, float]:
        """Wall and CPU seconds of one run, from lease to end."""
        run_id = new_id("run")
        request = SubmitRun(project=PROJECT, pipeline=pipeline.name, run_id=run_id, params=params)
        call = Call(actor=SYSTEM, event_time=dt.datetime.now(dt.UTC))
        self.database.write(lambda tx: Pipelines(self.database).submit(tx, request, call))
        worker = Worker(self.database, self.blobs, load_body=lambda run: pipeline)
        took = timed(lambda: worker.run_due(dt.datetime.now(dt.UTC)))
        with self.database.read() as connection:
            run = ledger.get_run(connection, PROJECT, run_id)
        assert run is not None
        assert run.state == "finished", run.error
        return took


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TREADLE_BENCH_DIR", ".")) as folder:
        root = Path(folder)
        home = Home(root)
        home.run(chain, start=-1000)  # warm: imports, the installed packages' list
        disk = fsync_ms(root)
        told: dict[str, Any] = {"fsync_ms": round(disk, 2)}
        for name, pipeline, steps in (("chain of 10", chain, 10), ("fan-out of 200", fan_out, 200)):
            runs_cold = [home.run(pipeline, start=1000 * (i + 1)) for i in range(3)]
            runs_cached = [home.run(pipeline, start=1000) for _ in range(3)]
            cold, cached = (statistics.median(wall for wall, _ in runs) for runs in (runs_cold, runs_cached))
            cold_cpu, cached_cpu = (statistics.median(cpu for _, cpu in runs) for runs in (runs_cold, runs_cached))
            told[name] = {
                "cold_s": round(cold, 3),
                "cold_ms_a_step": round(cold / steps * 1000, 2),
                "cold_ms_a_step_beside_one_fsync": round(cold / steps * 1000 - disk, 2),
                "cold_cpu_ms_a_step": round(cold_cpu / steps * 1000, 2),
                "cached_s": round(cached, 3),
                "cached_cpu_ms_a_step": round(cached_cpu / steps * 1000, 2),
                "cached_ms_a_step": round(cached / steps * 1000, 2),
                "plain_s": round(timed(pipeline.function)[0], 6),
            }
        rows = 2_500_000
        plain = min(timed(lambda: big_frame.function(rows))[1] for _ in range(2))
        saved = min(timed(lambda: save_plainly(rows, root))[1] for _ in range(2))
        wall, cpu = home.run(big_frame, rows=rows)
        cached_wall, _ = home.run(big_frame, rows=rows)
        told["200 MB frame through 3 steps"] = {
            "plain_cpu_s": round(plain, 2),
            "plain_and_each_frame_written_to_a_file_cpu_s": round(saved, 2),
            "cpu_s": round(cpu, 2),
            "ratio_to_plain": round(cpu / plain, 2),
            "ratio_to_plain_and_written": round(cpu / saved, 2),
            "wall_s": round(wall, 2),
            "cached_s": round(cached_wall, 3),
        }
        home.database.close()
    json.dump(told, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
