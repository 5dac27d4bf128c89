"""Datasets on both databases: versions, exactly-once, what is refused, what a crash leaves."""

import datetime as dt
import os
import subprocess
import threading

import polars as pl
import pytest

from treadle.data.declare import dataset
from treadle.data.service import DataService, content_digest
from treadle.ledger.dispatch import Dispatcher
from treadle.operations.data import AddDatasetVersion, GetDatasetProfile, GetDatasetVersion, ListDatasetVersions
from treadle.operations.table import implements, operations
from treadle.records.calls import SYSTEM, Actor
from treadle.records.definitions import Column
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.store.blobs import LocalBlobs

FLIGHTS = dataset("flights", time="at", key="id", description="flights", tags=["demo"])


def others(*services: object) -> object:
    """Something that answers for every operation that these services do not implement."""
    bound = {getattr(getattr(type(s), n), "__implements__", None) for s in services for n in dir(type(s))}
    missing = [r for r in operations() if r not in bound]
    return type("Others", (), {f"m{i}": implements(r)(lambda self, tx, request, call: None) for i, r in enumerate(missing)})()


@pytest.fixture
def data(database, tmp_path):
    layout = Layout(tmp_path / "data_home")
    service = DataService(database, layout, LocalBlobs(layout.blobs))
    service.dispatch = Dispatcher(database, [service, others(service)])
    return service


def rows(first: int, count: int, **more) -> pl.DataFrame:
    start = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    return pl.DataFrame(
        {
            "id": range(first, first + count),
            "at": [start + dt.timedelta(hours=i) for i in range(first, first + count)],
            "origin": ["JFK"] * count,
        }
    ).with_columns(**more)


@pytest.mark.parametrize("kind", ["frame", "csv"])
def test_moments_without_a_zone_are_read_as_utc_and_that_is_said_once(data, tmp_path, caplog, kind):
    seen = dataset("seen", time="at", key="id", columns=[Column(name="id", dtype="int64"), Column(name="at", dtype="datetime")])
    told, noon = [], dt.datetime(2013, 1, 1, 12, tzinfo=dt.UTC)

    def append(number: int, zone: str) -> None:
        file = tmp_path / f"{number}.csv"
        file.write_text(f"id,at\n{number},2013-01-01T12:00:00{zone}\n")
        frame = pl.DataFrame({"id": [number], "at": [noon if zone else noon.replace(tzinfo=None)]})
        data.append("p", seen, file if kind == "csv" else frame, actor=SYSTEM)
        told.append([r.getMessage() for r in caplog.records if r.name == "treadle.data"])

    append(1, "Z")
    assert told[-1] == []
    append(2, "")
    assert told[-1][0].startswith("seen: at came without a time zone, read as UTC.")
    append(3, "")
    assert len(told[-1]) == 1
    assert data.read("p", "seen").collect()["at"].to_list() == [noon] * 3


def test_versions_grow_and_stay_readable(data):
    first = data.append("p", FLIGHTS, rows(0, 5), actor=SYSTEM, source="january.csv")
    second = data.append("p", FLIGHTS, rows(5, 3), actor=SYSTEM)
    assert (first.number, first.rows, first.added_rows, first.source) == (1, 5, 5, "january.csv")
    assert (second.number, second.rows, second.added_rows) == (2, 8, 3)
    assert second.known_until == dt.datetime(2013, 1, 1, 7, tzinfo=dt.UTC)
    assert [c.dtype for c in second.columns] == ["int64", "datetime", "string"]
    assert data.read("p", "flights").collect()["id"].to_list() == list(range(8))
    assert data.read("p", "flights", 1).collect()["id"].to_list() == list(range(5))
    assert data.read("p", "flights", after=1, columns=["id"], keep_row=True).collect().to_dict(as_series=False) == {
        "_row": [5, 6, 7],
        "id": [5, 6, 7],
    }
    call = data.dispatch
    listed = call(ListDatasetVersions(project="p", dataset="flights", limit=1), actor=SYSTEM)
    assert [v.number for v in listed.items] == [2]
    rest = call(ListDatasetVersions(project="p", dataset="flights", limit=1, page=listed.page.next), actor=SYSTEM)
    assert [v.number for v in rest.items] == [1]
    assert rest.page.next is None
    assert call(GetDatasetVersion(project="p", dataset="flights", number=0), actor=SYSTEM) == data.version("p", "flights")
    profile = call(GetDatasetProfile(project="p", dataset="flights", number=2), actor=SYSTEM)
    assert profile.rows == 8
    assert profile.columns[2].top == (("JFK", 8),)


def test_the_digest_chains_over_what_was_appended(data):
    first = data.append("p", FLIGHTS, rows(0, 5), actor=SYSTEM, profile=False)
    same = data.append("q", FLIGHTS, rows(0, 5).rechunk(), actor=SYSTEM, profile=False)
    assert first.digest == same.digest
    again = data.append("p", FLIGHTS, rows(0, 5), actor=SYSTEM, profile=False)
    assert again.number == 2
    assert again.digest != first.digest
    computed = data.dispatch(GetDatasetProfile(project="p", dataset="flights", number=1), actor=SYSTEM)
    assert computed.rows == 5
    assert computed == data.profile("p", "flights", 1)


def test_the_content_digest_sees_values_only():
    frame = pl.DataFrame({"x": [1, None, 3], "s": ["a", None, "c"], "at": [dt.datetime(2013, 1, 1), None, None]})
    other = pl.concat([frame[:1], frame[1:]], rechunk=False)
    hidden = pl.DataFrame({"x": [1, 77, 3], "s": ["a", "zz", "c"], "at": [dt.datetime(2013, 1, 1)] * 3}).with_columns(
        pl.when(pl.Series([True, False, True])).then(pl.col("x", "s")), at=pl.when(pl.Series([True, False, False])).then(pl.col("at"))
    )
    assert frame.equals(hidden)
    assert content_digest(frame) == content_digest(other) == content_digest(hidden)
    assert content_digest(frame) != content_digest(frame.with_columns(x=pl.Series([1, 0, 3])))
    assert content_digest(frame) != content_digest(frame.rename({"x": "y"}))


def test_an_application_appends_exactly_once(data):
    one = data.append("p", FLIGHTS, rows(0, 5), actor=SYSTEM, app=("feed", 1), profile=False)
    two = data.append("p", FLIGHTS, rows(5, 5), actor=SYSTEM, app=("feed", 2), profile=False)
    assert data.append("p", FLIGHTS, rows(0, 5), actor=SYSTEM, app=("feed", 1), profile=False) == one
    assert data.append("p", FLIGHTS, rows(5, 5), actor=SYSTEM, app=("feed", 2), profile=False) == two
    assert data.read("p", "flights").collect().height == 10


@pytest.mark.parametrize("app", [None, ("feed", 2)])
def test_a_crash_before_the_ledger_was_told_loses_and_doubles_nothing(data, app):
    data.append("p", FLIGHTS, rows(0, 5), actor=SYSTEM, profile=False)
    whole, data.dispatch = data.dispatch, None
    with pytest.raises(AssertionError):
        data.append("p", FLIGHTS, rows(5, 5), actor=SYSTEM, app=app, profile=False, event_time=dt.datetime(2013, 2, 1, tzinfo=dt.UTC))
    data.dispatch = whole
    assert data.version("p", "flights").number == 1
    assert data.read("p", "flights").collect().height == 5
    if app:
        retried = data.append("p", FLIGHTS, rows(5, 5), actor=SYSTEM, app=app, profile=False)
        assert (retried.number, retried.rows) == (2, 10)
        assert retried.event_time == dt.datetime(2013, 2, 1, tzinfo=dt.UTC)
    else:
        later = data.append("p", FLIGHTS, rows(10, 1), actor=SYSTEM, profile=False)
        assert (later.number, later.rows) == (3, 11)
    assert data.read("p", "flights").collect()["id"].is_unique().all()


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (rows(5, 2).drop("origin"), "origin (string) is missing"),
        (rows(5, 2).rename({"origin": "from"}), "from is not in the schema"),
        (rows(5, 2, id=pl.Series(["a", "b"])), "id is string and is declared int64"),
        (rows(5, 2, extra=pl.lit(1)), "extra is not in the schema"),
        (rows(5, 2, at=pl.lit(None)), "have no at"),
        (rows(5, 0), "no rows"),
        (rows(5, 2, _row=pl.lit(1)), "_row"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(data, frame, word):
    data.append("p", FLIGHTS, rows(0, 5), actor=SYSTEM)
    with pytest.raises(TreadleError) as raised:
        data.append("p", FLIGHTS, frame, actor=SYSTEM)
    assert word in raised.value.what
    assert raised.value.code == "bad_data"
    assert data.version("p", "flights").number == 1
    assert data.tables.newest(data.layout.table("p", "flights")).version() == 0


def test_a_definition_may_add_a_column_and_not_drop_one(data):
    data.append("p", FLIGHTS, rows(0, 2), actor=SYSTEM)
    columns = data.version("p", "flights").columns
    wider = dataset("flights", time="at", key="id", columns=[*columns, Column(name="dest", dtype="string")])
    data.append("p", wider, rows(2, 2, dest=pl.lit("BOS")), actor=SYSTEM)
    assert data.read("p", "flights").collect()["dest"].to_list() == [None, None, "BOS", "BOS"]
    assert data.read("p", "flights", 1).collect().columns == ["id", "at", "origin"]
    narrower = dataset("flights", time="at", key="id", columns=columns[:2])
    with pytest.raises(TreadleError, match="drops the column origin"):
        data.append("p", narrower, rows(4, 1).drop("origin"), actor=SYSTEM)


def test_who_may_append(data):
    with pytest.raises(TreadleError, match="may not append") as raised:
        data.append("p", FLIGHTS, rows(0, 1), actor=Actor(actor_id="v", name="viewer"))
    assert raised.value.code == "denied"
    with pytest.raises(TreadleError, match="has no rows yet"):
        data.read("p", "flights")


def test_the_same_version_again_changes_nothing_and_another_is_a_conflict(data):
    version = data.append("p", FLIGHTS, rows(0, 2), actor=SYSTEM, profile=False)
    request = AddDatasetVersion(
        project="p",
        dataset="flights",
        digest=version.digest,
        delta_version=version.delta_version,
        rows=2,
        added_rows=2,
        columns=version.columns,
        source="",
    )
    assert data.dispatch(request, actor=SYSTEM) == version
    with pytest.raises(TreadleError, match="other rows"):
        data.dispatch(AddDatasetVersion(**{f: getattr(request, f) for f in request.__struct_fields__} | {"rows": 3}), actor=SYSTEM)
    fields = {f: getattr(request, f) for f in request.__struct_fields__}
    with pytest.raises(TreadleError, match="is at version 1 now"):
        data.dispatch(AddDatasetVersion(**fields | {"digest": "0" * 64, "parent": "1" * 64}), actor=SYSTEM)


def test_two_threads_append_and_every_row_is_there_in_order(data):
    def feed(offset: int) -> None:
        for i in range(8):
            data.append("p", FLIGHTS, rows(offset + i * 3, 3), actor=SYSTEM, profile=False)

    threads = [threading.Thread(target=feed, args=(offset,)) for offset in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = data.versions("p", "flights")
    assert [v.number for v in versions] == list(range(16, 0, -1))
    ids = data.read("p", "flights").collect()["id"].to_list()
    assert sorted(ids) == [*range(24), *range(1000, 1024)]
    assert [i for i in ids if i < 1000] == list(range(24))
    for version in versions:
        assert data.read("p", "flights", version.number).collect()["id"].to_list() == ids[: version.rows]


def test_compaction_keeps_every_version(data):
    for i in range(55):
        data.append("p", FLIGHTS, rows(i, 1), actor=SYSTEM, profile=False)
    table = data.tables.newest(data.layout.table("p", "flights"))
    assert len(table.file_uris()) < 10
    assert data.read("p", "flights").collect()["id"].to_list() == list(range(55))
    assert data.read("p", "flights", 30).collect()["id"].to_list() == list(range(30))


def fill(data, frame: pl.DataFrame) -> None:
    for _ in range(100):
        data.append("p", dataset("noise"), frame, actor=SYSTEM, profile=False)


def test_a_full_disk_takes_nothing_half(data, tmp_path):
    small = data.layout.root / "tables"
    small.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        frame = pl.DataFrame({"noise": [os.urandom(20).hex() for _ in range(3000)]})
        with pytest.raises(TreadleError) as raised:
            fill(data, frame)
        appended = data.version("p", "noise").number
        assert appended > 2
        assert raised.value.code == "storage_full"
        assert data.read("p", "noise").collect().height == 3000 * appended
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        assert data.append("p", dataset("noise"), frame, actor=SYSTEM, profile=False).number == appended + 1
        assert data.read("p", "noise").collect().height == 3000 * (appended + 1)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_table_whose_files_are_gone_is_corrupt(data):
    data.append("p", FLIGHTS, rows(0, 2), actor=SYSTEM)
    data.append("p", FLIGHTS, rows(2, 2), actor=SYSTEM)
    for log in data.layout.table("p", "flights").glob("_delta_log/*0.json"):
        log.unlink()
    with pytest.raises(TreadleError) as raised:
        data.read("p", "flights", 1)
    assert raised.value.code == "corrupt"
