"""What the graph reaches is kept; the rest goes, when it is old enough."""

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
    assert all(blobs.exists(d) for d in orphans)
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

    digests = [blobs.put(f"{i}".encode()) for i in range(3)]
    now = sealer._clock.now()
    step = {"project": "p", "run_id": "r", "path": "0:s", "name": "s", "state": "finished", "cache_key": "", "components": {}, "why": ""}
    snapshot = {"project": "p", "environment": "dev", "generation": 1, "event_time": now, "recorded_time": now}
    applied = {"project": "p", "environment": "dev", "digest": "x", "actor": "a", "event_time": now, "recorded_time": now}

    def write(tx):
        tx.execute(insert(t.steps), {**step, "output": digests[0], "attempt": 1})
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
    assert blobs.delete_aged(kept, min_age_s=3600) == 0
    assert blobs.get(kept) == b"again"


def test_one_collection_at_a_time(blobs, dispatch):
    with blobs.maintenance("a test"), pytest.raises(TreadleError, check=lambda e: e.code == "busy"):
        collect(dispatch)
