"""A live home is copied whole, and restored whole or not at all."""

import contextlib
import json
import sqlite3
import threading

import pytest

from treadle.ledger import audit, events, sealer
from treadle.records.calls import SYSTEM, Call
from treadle.records.clock import SystemClock
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.store import backup, migrate
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.store.queries import events as event_queries
from treadle.store.queries import home


def fails(code):
    return pytest.raises(TreadleError, check=lambda e: e.code == code and bool(e.remedy))


def tell(database, number):
    call = Call(actor=SYSTEM, event_time=SystemClock().now())
    database.write(lambda tx: events.append(tx, call, type="t.e", subject=str(number), project="p", event_id=f"evt_{number}"))


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "home")


@pytest.fixture
def blobs(layout, database):
    blobs = LocalBlobs(layout.blobs)
    for i in range(5):
        blobs.put(f"blob {i}".encode())
    table = layout.table("p", "flights")
    (table / "_delta_log").mkdir(parents=True)
    (table / "_delta_log" / "00000000000000000000.json").write_text("{}")
    (table / "part-0.parquet").write_bytes(b"PAR1")
    layout.online("p", "dev").parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(layout.online("p", "dev"))) as online:
        online.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (7);")
    layout.processes.mkdir()
    (layout.processes / "api.json").write_text("{}")
    return blobs


def test_a_backup_is_whole_and_comes_back(layout, database, blobs, tmp_path):
    for i in range(20):
        tell(database, i)
    sealer.seal(database, publish=tmp_path / "heads")
    made = backup.backup(layout, database, blobs, tmp_path / "copies" / "one")
    assert backup.verify(tmp_path / "copies" / "one") == []
    names = {f.path for f in made.files}
    assert "treadle.db" in names
    assert sum(name.startswith("blobs/") for name in names) == 5
    assert not any(name.startswith("processes/") or name.endswith((".lock", "-wal")) for name in names)
    new = Layout(tmp_path / "new")
    assert backup.restore(tmp_path / "copies" / "one", new) == made
    with Database.open(new.database_url) as restored:
        migrate.ensure(restored)
        assert audit.verify(restored, tmp_path / "heads").intact
        assert sealer.home_id(restored) != sealer.home_id(database) == made.home_id
        tell(restored, 20)
    assert LocalBlobs(new.blobs).get(blobs.put(b"blob 3")) == b"blob 3"
    with contextlib.closing(sqlite3.connect(new.online("p", "dev"))) as online:
        assert online.execute("SELECT x FROM t").fetchall() == [(7,)]


def test_a_restore_replaces_nothing(layout, database, blobs, tmp_path):
    backup.backup(layout, database, blobs, tmp_path / "copy")
    with fails("conflict"):
        backup.restore(tmp_path / "copy", layout)
    with fails("conflict"):
        backup.backup(layout, database, blobs, tmp_path / "copy")
    with fails("not_found"):
        backup.restore(tmp_path / "nothing", Layout(tmp_path / "new"))


@pytest.mark.parametrize("damage", ["blob", "database", "missing", "manifest", "newer", "outside"])
def test_a_damaged_backup_restores_nothing(layout, database, blobs, tmp_path, damage):
    copy = tmp_path / "copy"
    backup.backup(layout, database, blobs, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    code = "corrupt"
    blob = copy / next(f["path"] for f in manifest["files"] if f["path"].startswith("blobs/"))
    if damage == "blob":
        blob.write_bytes(b"blab 0")
    elif damage == "database":
        with (copy / "treadle.db").open("r+b") as file:
            file.seek(200)
            file.write(b"?")
    elif damage == "missing":
        blob.unlink()
    elif damage == "manifest":
        (copy / "manifest.json").write_text("{")
    elif damage == "newer":
        (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
        code = "newer_schema"
    elif damage == "outside":
        manifest["files"][0]["path"] = "../outside"
        (copy / "manifest.json").write_text(json.dumps(manifest))
    with fails(code):
        backup.restore(copy, Layout(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_a_corrupt_blob_is_not_backed_up(layout, database, blobs, tmp_path):
    blobs.place(blobs.put(b"blob 1")).write_bytes(b"spoilt")
    with fails("corrupt"):
        backup.backup(layout, database, blobs, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_backup_and_garbage_collection_keep_apart(layout, database, blobs, tmp_path):
    with blobs.maintenance("a test"), fails("busy"):
        backup.backup(layout, database, blobs, tmp_path / "copy")


def test_a_backup_of_a_home_that_is_written_to_is_consistent(layout, database, blobs, tmp_path):
    """Every blob a backed-up event names is in the backup, and the chain in it holds, whatever was written meanwhile."""
    stop, written = threading.Event(), []

    def write():
        number = 0
        while not stop.is_set():
            digest = blobs.put(f"written {number}".encode())
            call = Call(actor=SYSTEM, event_time=SystemClock().now())
            database.write(lambda tx, s=digest: events.append(tx, call, type="t.e", subject=s, project="p"))  # noqa: B023
            number += 1
            written.append(digest)
            if number % 10 == 0:
                sealer.seal(database)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while len(written) < 30:
            assert thread.is_alive()
        before = len(written)
        backup.backup(layout, database, blobs, tmp_path / "copy")
    finally:
        stop.set()
        thread.join()
    new = Layout(tmp_path / "new")
    backup.restore(tmp_path / "copy", new)
    with Database.open(new.database_url) as restored:
        sealer.seal_all(restored)
        assert audit.verify(restored).intact
        with restored.read() as connection:
            there = event_queries.list_events(connection, "p", limit=10_000)
    assert len(there) >= before - 1
    assert all(LocalBlobs(new.blobs).exists(e.subject) for e in there)


def test_a_backup_goes_to_either_database(layout, database, blobs, tmp_path, postgres_schema):
    tell(database, 1)
    sealer.seal(database)
    made = backup.backup(layout, database, blobs, tmp_path / "copy")
    with Database.open(postgres_schema) as other:
        if other.dialect == database.dialect:
            with fails("conflict"):
                backup.restore(tmp_path / "copy", Layout(tmp_path / "new"), other)
            return
        backup.restore(tmp_path / "copy", Layout(tmp_path / "new"), other)
        assert audit.verify(other).sealed == 1
        with other.read() as connection:
            assert home.get_value(connection, "home_id") not in (None, made.home_id)
