"""A home of the first schema is brought to this release's and reads as it was written."""

import contextlib
import datetime as dt
import sqlite3
from pathlib import Path

import pytest

from treadle.ledger import Dispatcher, Ledger, audit, sealer
from treadle.operations import ledger as ops
from treadle.records.calls import SYSTEM
from treadle.records.clock import UTC
from treadle.store import backup, migrate
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.store.migrations import HEAD

DUMP = Path(__file__).parent / "schema_0001.sql"


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "home" / "treadle.db"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(DUMP.read_text())
    return path


def check(database, blobs):
    dispatch = Dispatcher(database, [Ledger(database, blobs)], complete=False)
    detail = dispatch(ops.GetRun(project="flights", run_id="run_1"), actor=SYSTEM)
    assert (detail.run.state, detail.run.params, detail.tags) == ("running", {"seed": 7}, {"owner": "ada"})
    assert detail.run.event_time == dt.datetime(2013, 3, 31, 12, tzinfo=UTC)
    assert detail.metrics == {"brier": 0.15}
    assert len(dispatch(ops.GetLineage(project="flights", digest="b" * 64), actor=SYSTEM).edges) == 1
    assert [a.actor_id for a in dispatch(ops.ListActors(), actor=SYSTEM)] == ["ben", "owner"]
    assert sealer.seal(database) == 1
    report = audit.verify(database)
    assert (report.intact, report.sealed) == (True, 4)
    dispatch(ops.MoveRun(project="flights", run_id="run_1", state="finished"), actor=SYSTEM)


def test_the_first_schema_comes_to_this_one(old, tmp_path):
    with Database.open(f"sqlite:///{old}") as database:
        assert migrate.revision(database) == "0001"
        migrate.ensure(database)
        assert migrate.revision(database) == HEAD
        check(database, LocalBlobs(tmp_path / "blobs"))


@pytest.mark.postgres
def test_the_first_schema_moves_to_postgresql(old, tmp_path, postgres_schema):
    with Database.open(postgres_schema) as database:
        backup.load_database(old, database)
        check(database, LocalBlobs(tmp_path / "blobs"))
