"""Fills a home with made-up runs, straight through the store: 100,000 of them in the time that a server would need for a thousand."""

import datetime as dt
import math
import random
import time
from typing import Any

from treadle.records.clock import micros
from treadle.store import tables as t
from treadle.store.upsert import insert_rows
from treadle.workshop.home import Workshop

PARAMS = ("depth", "lr", "loss", "leaves", "seed")
METRICS = ("auc", "brier", "logloss", "recall")
_BATCH = 5000
_REASON = '{"kind":"demand","text":"a script"}'


def fill(shop: Workshop, runs: int, *, project: str = "default", experiment: str = "77", name: str = "depths", seed: int = 1) -> list[str]:
    """Make an experiment of so many finished runs, one a minute until now; their ids, the oldest first."""
    chance = random.Random(seed)
    now = time.time_ns() // 1000
    first = now - runs * 60_000_000
    made = [f"{seed:04x}{i:028x}" for i in range(runs)]
    at = {"project": project, "experiment_id": experiment}
    row = (project, experiment, name, "ops/autumn", "active", "", "How **deep** should a tree be?", "ada", first, now)
    columns = ("project", "experiment_id", "name", "folder", "lifecycle", "artifact_location", "description", "actor", "created", "updated")
    shop.database.write(lambda tx: insert_rows(tx, t.experiments, columns, [row]))
    for start in range(0, runs, _BATCH):
        part = [(i, made[i], first + i * 60_000_000) for i in range(start, min(start + _BATCH, runs))]
        shop.database.write(lambda tx, part=part: _insert(tx, at, part, chance))
    return made


def _insert(tx: Any, at: dict[str, str], part: list[tuple[int, str, int]], chance: random.Random) -> None:
    project, experiment = at["project"], at["experiment_id"]
    heads: list[Any] = []
    params: list[Any] = []
    tags: list[Any] = []
    latest: list[Any] = []
    points: list[Any] = []
    for i, run, created in part:
        state = "failed" if i % 17 == 3 else "finished"
        about = (project, run, "dev", experiment, "", state, f"depth-{i}", "ada" if i % 3 else "grace", "active", "{}", _REASON, "ada")
        heads.append((*about, *[""] * 4, *[created] * 4, created + 1_000_000 * (20 + i % 70)))
        depth, rate = 2 + i % 9, (0.3, 0.1, 0.03, 0.01)[i % 4]
        told = {"depth": str(depth), "lr": str(rate), "loss": ("log", "square")[i % 2], "leaves": str(2**depth), "seed": str(i)}
        params += [(project, run, k, experiment, created, v, v[:200]) for k, v in told.items()]
        said = {"team": ("ops", "rail", "air")[i % 3], "mlflow.source.name": "train.py", "mlflow.user": "ada"}
        tags += [(project, run, k, experiment, created, v, v[:200]) for k, v in said.items()]
        good = 0.62 + 0.03 * math.log(depth + 1) - 0.02 * abs(math.log10(rate) + 1.2) + chance.gauss(0, 0.012)
        values = {"auc": good, "brier": 0.32 - good / 5, "logloss": 0.9 - good / 2 + chance.gauss(0, 0.01), "recall": chance.random()}
        for k, v in values.items():
            latest.append((project, run, k, experiment, created, 9, created, v))
            points.append((project, run, k, 9, created, v, 0))
    insert_rows(tx, t.runs, _HEADS, heads)
    insert_rows(tx, t.params, ("project", "run_id", "name", "experiment", "created", "value", "head"), params)
    insert_rows(tx, t.tags, ("project", "run_id", "name", "experiment", "created", "value", "head"), tags)
    insert_rows(tx, t.latest_metrics, ("project", "run_id", "name", "experiment", "created", "step", "time", "value"), latest)
    insert_rows(tx, t.metrics, ("project", "run_id", "name", "step", "time", "value", "nan"), points)


_HEADS = (
    *("project", "run_id", "environment", "experiment", "pipeline", "state", "name", "user_name", "lifecycle", "params"),
    *("reason", "actor", "definition_digest", "project_digest", "code_digest", "environment_digest"),
    *("event_time", "recorded_time", "created", "started", "ended"),
)


def line(shop: Workshop, run: str, points: int, *, key: str = "loss", project: str = "default", experiment: str = "77") -> None:
    """Give a run a metric with so many points, a second apart."""
    chance = random.Random(7)
    start = micros_ago(points)
    rows = [
        (project, run, key, i, start + i * 1_000_000, 2.0 * math.exp(-5 * i / points) + 0.2 + abs(chance.gauss(0, 0.05)), 0)
        for i in range(points)
    ]
    last = rows[-1]
    shop.database.write(lambda tx: insert_rows(tx, t.metrics, ("project", "run_id", "name", "step", "time", "value", "nan"), rows))
    latest = (project, run, key, experiment, start, last[3], last[4], last[5])
    columns = ("project", "run_id", "name", "experiment", "created", "step", "time", "value")
    shop.database.write(lambda tx: insert_rows(tx, t.latest_metrics, columns, [latest]))


def micros_ago(seconds: int) -> int:
    """The time so many seconds ago."""

    return micros(dt.datetime.now(dt.UTC)) - seconds * 1_000_000
