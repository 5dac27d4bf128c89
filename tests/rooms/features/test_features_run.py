"""Training sets in real runs: pinned versions, the cache, and the lineage of what was read."""

import datetime as dt

import polars as pl
import pytest

from treadle.data.declare import dataset
from treadle.data.steps import split_by_time
from treadle.features.declare import feature_view, mean, view_of
from treadle.features.steps import training_set
from treadle.operations.ledger import GetLineage
from treadle.operations.pipelines import ListSteps, SubmitRun
from treadle.operations.workshop import ApplyProject
from treadle.pipelines import pipeline, step
from treadle.pipelines.worker import Worker
from treadle.records.definitions import Environment, Project
from treadle.workshop import open_home

TRIPS = dataset("trips", time="at", key="id", columns={"id": int, "at": "datetime", "line": str, "length": int})
OUTCOMES = dataset("outcomes", time="known_at", key="id")
PROJECT = "trips"
SEEN: list[tuple[int, int]] = []


@feature_view(entity="line", source=OUTCOMES)
def by_line():
    return {"late_1d": mean("late", over="1d")}


@feature_view(entity="line", source=TRIPS)
def last_trip(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("length", long=pl.col("length") > 5)


@step(cache=False)
def look(train: pl.DataFrame, test: pl.DataFrame) -> int:
    SEEN.append((train.height, test.height))
    return train.height


@pipeline
def learn(until: str = "2013-01-20"):
    rows = training_set(TRIPS, features=[by_line, last_trip], label=(OUTCOMES, "late"), until=until)
    train, test = split_by_time(rows, "3d")
    return look(train, test)


def rows(first_day: int, days: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    hours = range(24 * (first_day - 1), 24 * (first_day - 1 + days))
    start = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    trips = pl.DataFrame(
        {
            "id": hours,
            "at": [start + dt.timedelta(hours=h) for h in hours],
            "line": [f"L{h % 3}" for h in hours],
            "length": [h % 9 for h in hours],
        }
    )
    outcomes = trips.select("id", "line", known_at=pl.col("at") + pl.duration(hours=2), late=pl.col("id") % 4 == 0)
    return trips, outcomes


@pytest.fixture
def shop(tmp_path):
    with open_home(tmp_path / "home") as opened:
        views = tuple(view_of(v) for v in (by_line, last_trip))
        project = Project(
            name=PROJECT,
            datasets=(TRIPS, OUTCOMES),
            feature_views=views,
            pipelines=(learn.definition,),
            environments=(Environment(name="dev"),),
        )
        opened.call(ApplyProject(project=PROJECT, environment="dev", definitions=project))
        yield opened


def append(shop, first_day: int, days: int) -> None:
    for definition, frame in zip((TRIPS, OUTCOMES), rows(first_day, days), strict=True):
        shop.data.append(PROJECT, definition, frame, actor=shop.actor)


def execute(shop, run_id: str, **params):
    shop.call(SubmitRun(project=PROJECT, environment="dev", pipeline="learn", run_id=run_id, params=params))
    resources = {"data": shop.data, "db": shop.database}
    worker = Worker(shop.database, shop.blobs, dispatch=shop.dispatch, load_body=lambda run: learn, name="w", resources=resources)
    worker.run_due()
    return {s.name: s for s in shop.call(ListSteps(project=PROJECT, run_id=run_id))}


def test_a_run_pins_what_it_read_and_the_next_one_uses_the_cache(shop):
    append(shop, 1, 15)
    SEEN.clear()
    steps = execute(shop, "run_1")
    assert {name: str(s.state) for name, s in steps.items()} == dict.fromkeys(("pin", "training_set", "split_by_time", "look"), "finished")
    again = execute(shop, "run_2")
    assert str(again["training_set"].state) == "cached"
    append(shop, 16, 2)
    more = execute(shop, "run_3")
    assert str(more["training_set"].state) == "finished"
    assert "pins" in more["training_set"].why
    other = execute(shop, "run_4", until="2013-01-10")
    assert "until" in other["training_set"].why
    assert len(SEEN) == 4
    assert SEEN[0] == SEEN[1] != SEEN[2]
    graph = shop.call(GetLineage(project=PROJECT, digest="run_3", direction="up", depth=1))
    digests = {shop.data.version(PROJECT, name, 2).digest for name in ("trips", "outcomes")}
    assert {e.parent for e in graph.edges} >= digests
