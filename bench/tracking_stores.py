"""Fills a tracking store with runs as teams have them: ours by the store's bulk inserts, MLflow's in the tables of its SQLite file.

A run has 10 params, 10 metrics and 5 tags. Param `rare` is `a` for ten runs, `common` for half of them; all runs stand in one experiment.
"""

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from treadle.records.tracking import Point
from treadle.store import migrate
from treadle.store import tables as t
from treadle.store.db import Connection, Database
from treadle.store.queries import run_documents
from treadle.store.queries.run_documents import Logged
from treadle.store.upsert import insert_rows

PROJECT = "default"
START = 1_700_000_000_000  # milliseconds
_CHUNK = 5_000
REASON = '{"kind":"demand","text":"logged by a script"}'
STATES = ("finished", "finished", "finished", "failed", "cancelled", "running")
STATUS = {"finished": 3, "failed": 4, "cancelled": 5, "running": 1}


class FakeRun(NamedTuple):
    run_id: str
    number: int
    state: str
    start: int
    end: int | None
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def fake_runs(count: int, seed: int = 0) -> list[FakeRun]:
    """The runs, by id: ids are as random as MLflow's."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        state = rng.choice(STATES)
        start = START + number * 1000
        params = {f"p{i}": str(rng.randrange(1000)) for i in range(8)}
        params |= {
            "rare": "a" if number % max(count // 10, 1) == 7 % max(count // 10, 1) else f"b{number % 97}",
            "common": rng.choice("ab"),
        }
        tags = {
            "mlflow.runName": f"{rng.choice(['calm', 'bold', 'wise'])}-{rng.randrange(10**6)}",
            "mlflow.user": rng.choice(["ann", "bob"]),
            "team": rng.choice(["red", "green", "blue", "grey", "pink"]),
            "ticket": f"T-{number}",
            "note": f"note {rng.randrange(10**9)}",
        }
        metrics = {f"m{i}": rng.random() for i in range(10)}
        end = None if state == "running" else start + rng.randrange(10**6)
        identity = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=16).hexdigest()
        made.append(FakeRun(identity, number, state, start, end, params, metrics, tags))
    return sorted(made)


def _chunks(runs: list[FakeRun]) -> Iterator[list[FakeRun]]:
    for start in range(0, len(runs), _CHUNK):
        yield runs[start : start + _CHUNK]


# ── ours ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fill(url: str, count: int, experiment: str, *, seed: int = 0) -> None:
    """Runs into a store, and a history of 100,000 points into the first of them."""
    with Database.open(url) as database:
        migrate.ensure(database)
        for some in _chunks(fake_runs(count, seed)):
            if database.dialect == "sqlite":
                database.write(lambda tx, some=some: _insert(tx, some, experiment))
            else:
                database.write(lambda tx, some=some: _copy(tx, some, experiment))
    if url.startswith("postgresql"):
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")


def _tables(runs: list[FakeRun], experiment: str) -> list[tuple[Any, tuple[str, ...], list[tuple[Any, ...]]]]:
    heads, params, tags, latest, points, documents = [], [], [], [], [], []
    for run in runs:
        of = (PROJECT, run.run_id)
        created = run.start * 1000
        end = None if run.end is None else run.end * 1000
        told = (run.state, run.tags["mlflow.runName"], run.tags["mlflow.user"], "active", "{}", REASON, "", "", "", "", "")
        heads.append((*of, "dev", experiment, "", *told, created, created, created, created, end))
        params += [(*of, k, experiment, created, v, v) for k, v in sorted(run.params.items())]
        tags += [(*of, k, experiment, created, v, v) for k, v in sorted(run.tags.items())]
        latest += [(*of, k, experiment, created, 0, created, v) for k, v in sorted(run.metrics.items())]
        points += [(*of, k, 0, created, v, 0) for k, v in sorted(run.metrics.items())]
        if run.end is not None:  # as the call that ended it would have
            measured = [Point(key=k, value=v, time=created) for k, v in sorted(run.metrics.items())]
            logged = Logged(measured, dict(sorted(run.params.items())), dict(sorted(run.tags.items())))
            documents.append((*of, run_documents.text(logged)))
    columns = (
        *("project", "run_id", "environment", "experiment", "pipeline", "state", "name", "user_name", "lifecycle", "params", "reason"),
        *("actor", "definition_digest", "project_digest", "code_digest", "environment_digest"),
        *("event_time", "recorded_time", "created", "started", "ended"),
    )
    pair = ("project", "run_id", "name", "experiment", "created", "value", "head")
    return [
        (t.runs, columns, heads),
        (t.params, pair, params),
        (t.tags, pair, tags),
        (t.latest_metrics, ("project", "run_id", "name", "experiment", "created", "step", "time", "value"), latest),
        (t.metrics, ("project", "run_id", "name", "step", "time", "value", "nan"), points),
        (t.run_documents, ("project", "run_id", "document"), documents),
    ]


def _insert(tx: Connection, runs: list[FakeRun], experiment: str) -> None:
    tx.exec_driver_sql("PRAGMA cache_size=-1000000")
    for table, columns, rows in _tables(runs, experiment):
        insert_rows(tx, table, columns, rows)


def _copy(tx: Connection, runs: list[FakeRun], experiment: str) -> None:
    raw: Any = tx.connection.driver_connection
    for table, columns, rows in _tables(runs, experiment):
        with raw.cursor().copy(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


# ── MLflow's ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def fill_mlflow(where: Path | str, count: int, experiment: int, *, seed: int = 0) -> None:
    """Runs into the SQLite file, or the PostgreSQL database, of a stock server that has made its tables."""
    parts = (part for some in _chunks(fake_runs(count, seed)) for part in _tables_of_mlflow(some, experiment))
    if isinstance(where, Path):
        with sqlite3.connect(where, timeout=60) as connection:
            for table, columns, rows in parts:
                marks = ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        connection.close()
        return
    import psycopg

    with psycopg.connect(where, autocommit=True) as connection:
        for table, columns, rows in parts:
            with connection.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)
        connection.execute("VACUUM ANALYZE")


def _tables_of_mlflow(runs: list[FakeRun], experiment: int) -> list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
    words = {"finished": "FINISHED", "failed": "FAILED", "cancelled": "KILLED", "running": "RUNNING"}
    heads = [
        (
            *(r.run_id, r.tags["mlflow.runName"], "UNKNOWN", "", "", "", words[r.state], r.start, r.end, "", "active"),
            f"mlflow-artifacts:/{experiment}/{r.run_id}/artifacts",
            experiment,
        )
        for r in runs
    ]
    names = (
        *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time", "end_time"),
        *("source_version", "lifecycle_stage", "artifact_uri", "experiment_id"),
    )
    point, pair = ("key", "value", "timestamp", "run_uuid", "step", "is_nan"), ("key", "value", "run_uuid")
    measured = [(k, v, r.start, r.run_id, 0, False) for r in runs for k, v in r.metrics.items()]
    return [
        ("runs", names, heads),
        ("metrics", point, measured),
        ("latest_metrics", point, measured),
        ("params", pair, [(k, v, r.run_id) for r in runs for k, v in r.params.items()]),
        ("tags", pair, [(k, v, r.run_id) for r in runs for k, v in r.tags.items()]),
    ]
