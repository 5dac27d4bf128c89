"""What the graph reaches is kept; the rest goes, when it is old enough."""

import io
import json
import os
import time

import pytest

from treadle.ledger import Dispatcher, Ledger, lineage, sealer
from treadle.operations import ledger as ops
from treadle.records.calls import SYSTEM
from treadle.records.errors import TreadleError
from treadle.records.ledger import Version
from treadle.store.blobs import LocalBlobs


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def dispatch(database, blobs):
    return Dispatcher(database, [Ledger(database, blobs)], complete=False)


def collect(dispatch, **options):
    return dispatch(ops.CollectGarbage(**options), actor=SYSTEM)


def age(blobs, seconds):
    for digest, _ in list(blobs.listing()):
        os.utime(blobs.place(digest), (time.time() - seconds,) * 2)


def test_reachable_blobs_stay_and_others_go(database, blobs, dispatch):
    model = blobs.put(b"m" * 300_000)
    lock = blobs.put(b"lock")
    bundle = blobs.put(json.dumps({"files": [{"path": "model.txt", "digest": model, "size": 300_000}], "card": {"lock": lock}}).encode())
    plot = blobs.put(b"plot")
    orphans = [blobs.put(b"orphan"), blobs.put(json.dumps({"files": [{"digest": "f" * 64}]}).encode())]
    database.write(lambda tx: lineage.add_version(tx, Version(project="p", digest=bundle, kind="bundle", name="delay")))
    dispatch(ops.CreateRun(project="p", run_id="r"), actor=SYSTEM)
    dispatch(ops.RecordArtifact(project="p", run_id="r", path="a", digest=plot, size=4), actor=SYSTEM)
    young = collect(dispatch, dry_run=False)
    assert (young.removed, young.kept) == (0, 4)
    age(blobs, 7200)
    dry = collect(dispatch)
    assert sorted(dry.digests) == sorted(orphans)
    assert all(blobs.place(d).exists() for d in orphans)
    done = collect(dispatch, dry_run=False)
    assert (sorted(done.digests), done.freed_bytes) == (sorted(orphans), dry.freed_bytes)
    assert all(blobs.exists(d) for d in (model, lock, bundle, plot))
    assert not any(blobs.exists(d) for d in orphans)
    sealer.seal(database)
    told = dispatch(ops.ListEvents(project="*", type="treadle.garbage.collected"), actor=SYSTEM).items
    assert len(told) == 2  # the dry run is no event


def test_every_kind_of_row_keeps_its_blobs(database, blobs, dispatch):
    """A digest in any column of any table that is not the log of what happened counts, in JSON too."""
    from sqlalchemy import insert

    from treadle.store import tables as t

    digests = [blobs.put(f"{i}".encode()) for i in range(9)]
    now = sealer._clock.now()
    step = {"project": "p", "run_id": "r", "path": "0:s", "name": "s", "state": "finished", "cache_key": "", "components": {}, "why": ""}
    snapshot = {"project": "p", "environment": "dev", "generation": 1, "event_time": now, "recorded_time": now}
    applied = {"project": "p", "environment": "dev", "digest": "x", "actor": "a", "event_time": now, "recorded_time": now}

    upload = {"project": "p", "upload_id": "u", "run_id": "r", "path": "a", "recorded_time": now}
    model = {"project": "p", "model": "m", "actor": "a", "tags": {}, "created": now, "updated": now}
    tag = {"project": "p", "model": "m", "number": 1, "name": "n", "head": ""}
    comment = {"project": "p", "comment_id": "c", "subject": "s", "actor": "a", "event_time": now, "recorded_time": now}
    cached = {"project": "p", "cache_key": "k", "step": "s", "components": {}, "codec": "json", "run_id": "r", "recorded_time": now}

    def write(tx):
        tx.execute(
            insert(t.steps), {**step, "output": digests[0], "attempt": 1, "content": b"\x83\xa1d\xd9@" + digests[3].encode() + b"\x00"}
        )
        tx.execute(insert(t.uploads), {**upload, "parts": {"1": {"digest": digests[4], "size": 1}}})
        tx.execute(insert(t.models), {**model, "card": {"figure": digests[5]}})
        tx.execute(insert(t.version_tags), {**tag, "value": f"see {digests[6]}"})
        tx.execute(insert(t.comments), {**comment, "text": f"this: {digests[7]}."})
        tx.execute(insert(t.step_cache), {**cached, "output": digests[0], "content": digests[8].encode()})
        tx.execute(insert(t.snapshots), {**snapshot, "body": {"variants": [{"bundle": digests[1]}]}})
        tx.execute(insert(t.applied), {**applied, "definitions": {"code": f"code:{digests[2]}"}})

    database.write(write)
    age(blobs, 7200)
    assert collect(dispatch).removed == 0


def test_a_blob_in_use_is_young(blobs, dispatch):
    kept, read, gone = blobs.put(b"again"), blobs.put(b"read"), blobs.put(b"gone")
    age(blobs, 7200)
    assert blobs.put(b"again") == kept
    blobs.get(read)
    assert collect(dispatch, dry_run=False).digests == [gone]
    assert blobs.delete_aged([kept], min_age_s=3600) == {}
    assert blobs.get(kept) == b"again"


def test_one_collection_at_a_time(blobs, dispatch):
    with blobs.maintenance("a test"), pytest.raises(TreadleError, check=lambda e: e.code == "busy"):
        collect(dispatch)


def test_what_is_silent_keeps_nothing_and_every_other_table_does():
    from treadle.store import tables as t
    from treadle.store.queries import home

    assert set(home._KEEPING) | set(home._SILENT) == set(t.metadata.sorted_tables)


def test_a_digest_is_found_wherever_a_large_file_has_it(blobs, monkeypatch):
    from treadle.ledger import garbage

    monkeypatch.setattr(garbage, "_PIECE", 100)
    digests = [f"{n:064x}" for n in range(1, 40)]
    for gap in (1, 35, 36, 37, 99):
        content = b'{"' + b"".join(b"-" * gap + d.encode() for d in digests) + b"}"
        assert garbage.digests_in(io.BytesIO(content), len(content)) >= set(digests)


def test_nobody_waits_for_a_collection(database, blobs, dispatch, monkeypatch):
    """A write that comes while it marks is done before it is: it holds no transaction."""
    from treadle.ledger import garbage

    told = []

    def slow(connection, store):
        dispatch(ops.CreateRun(project="p", run_id="meanwhile"), actor=SYSTEM)
        told.append("written")
        return set()

    monkeypatch.setattr(garbage, "reachable", slow)
    collect(dispatch, dry_run=False)
    assert told == ["written"]


def test_an_upload_that_nobody_completes_is_forgotten(database, blobs, dispatch):
    import datetime as dt

    from sqlalchemy import func, insert, select

    from treadle.store import tables as t

    now = sealer._clock.now()
    rows = [
        {"project": "p", "upload_id": f"u{days}", "run_id": "r", "path": "a", "parts": {}, "recorded_time": now - dt.timedelta(days=days)}
        for days in (6, 8)
    ]
    database.write(lambda tx: tx.execute(insert(t.uploads), rows))
    collect(dispatch)
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(t.uploads)).scalar() == 2
    collect(dispatch, dry_run=False)
    with database.read() as connection:
        assert connection.execute(select(t.uploads.c.upload_id)).scalars().all() == ["u6"]
