"""Blobs in object storage: the races that sweeping has, the errors that buckets have, the local copies; on a real S3 server."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from treadle.records.digests import digest
from treadle.records.errors import TreadleError
from treadle.store import objects
from treadle.store.bucket import Bucket, address
from treadle.store.objects import ObjectBlobs

pytestmark = pytest.mark.s3


def fails(code, cause=None):
    return pytest.raises(TreadleError, check=lambda e: e.code == code and bool(e.remedy) and (cause is None or e.details["cause"] == cause))


def opened(folder: Path, where: str, home_id: str = "home", **more) -> ObjectBlobs:
    at = address(where)
    return ObjectBlobs(folder, at, home_id=home_id, bucket=Bucket(at, retry_s=2, silence_s=2), **{"remembers_s": 0, **more})


@pytest.fixture
def blobs(tmp_path, s3):
    made = opened(tmp_path / "one", s3)
    made.claim()
    return made


@pytest.fixture
def sweeper(tmp_path, s3, blobs):
    """The same bucket from another machine."""
    return opened(tmp_path / "two", s3)


def keys(blobs, prefix="blobs/"):
    return [seen.key for seen in blobs.bucket.list(prefix)]


def key(name):
    return f"blobs/{name[:2]}/{name[2:]}"


# ── races ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("moment", ["before it is removed", "after it was removed"])
def test_a_writer_waits_for_the_sweep_that_has_its_blob_in_hand(blobs, sweeper, monkeypatch, moment):
    name = blobs.put(b"old, and wanted again")
    remove, waited = sweeper.bucket.delete, []
    writer = threading.Thread(target=lambda: blobs.put(b"old, and wanted again"))

    def hooked(some):
        if key(name) not in some:
            return remove(some)
        if moment == "after it was removed":
            remove(some)
        writer.start()
        writer.join(0.5)
        waited.append(writer.is_alive())
        return remove(some) if moment == "before it is removed" else None

    monkeypatch.setattr(sweeper.bucket, "delete", hooked)
    assert sweeper.delete_aged([name], min_age_s=0) == {name: 21}
    writer.join(10)
    assert not writer.is_alive()
    # One that comes after the removal may be through as soon as it has written: what it wrote is not removed again.
    assert waited == [True]
    assert blobs.bucket.get(key(name)) == b"old, and wanted again"


@pytest.mark.parametrize("verb", ["put", "exists", "size", "get"])
def test_a_sweep_sees_who_came_before_it_looked(blobs, sweeper, monkeypatch, verb):
    name = blobs.put(b"in use after all")
    time.sleep(2.1)
    look, users = sweeper.bucket.head, []

    def hooked(some):
        if some == key(name) and not users:
            users.append(threading.Thread(target=lambda: getattr(blobs, verb)(b"in use after all" if verb == "put" else name)))
            users[0].start()
            while not any(blobs.bucket.list("used/")):
                time.sleep(0.01)
        return look(some)

    monkeypatch.setattr(sweeper.bucket, "head", hooked)
    marks = sweeper._marks
    monkeypatch.setattr(sweeper, "_marks", lambda: (hooked(key(name)), marks())[1])
    assert sweeper.delete_aged([name], min_age_s=1) == {}
    users[0].join(10)
    assert blobs.exists(name)


def test_a_sweep_between_a_write_and_its_look_is_noticed(blobs, sweeper, monkeypatch):
    """All of a sweep fits between the object and the question who has it in hand: its note is gone, and so is the object."""
    notes, swept = blobs._notes, []

    def hooked():
        if not swept:
            swept.append(sweeper.delete_aged([digest(b"swept at once")], min_age_s=0))
        return notes()

    monkeypatch.setattr(blobs, "_notes", hooked)
    name = blobs.put(b"swept at once")
    assert swept == [{name: 13}]
    assert blobs.bucket.get(key(name)) == b"swept at once"


def test_a_sweep_that_died_holds_nobody_up_for_long(blobs, sweeper, monkeypatch):
    name = blobs.put(b"left in hand")
    blobs.bucket.put("collecting/dead", f'["{name}"]'.encode())
    monkeypatch.setattr(objects, "_NOTE_S", 2.0)
    began = time.monotonic()
    assert blobs.exists(name)
    assert time.monotonic() - began < 8
    assert keys(blobs, "collecting/") == ["collecting/dead"]
    assert sweeper.sweep() == 0
    assert keys(blobs, "collecting/") == ["collecting/dead"], "an hour has not passed"


def test_a_slow_sweep_removes_nothing(blobs, sweeper, monkeypatch):
    name = blobs.put(b"not in time")
    monkeypatch.setattr(objects, "_HASTE_S", -1.0)
    assert sweeper.delete_aged([name], min_age_s=0) == {}
    assert blobs.exists(name)
    assert keys(blobs, "collecting/") == []


def test_what_a_process_remembers_protects_for_longer(tmp_path, s3, blobs):
    remembering = opened(tmp_path / "three", s3, remembers_s=5)
    name = blobs.put(b"used once")
    assert remembering.exists(name)
    marks = keys(blobs, "used/")
    assert remembering.exists(name)
    assert keys(blobs, "used/") == marks
    time.sleep(2.1)
    assert remembering.delete_aged([name], min_age_s=1) == {}
    assert blobs.delete_aged([name], min_age_s=1) == {name: 9}
    assert remembering.put(b"used once") == name  # remembering is no proof for a writer
    assert blobs.bucket.get(key(name)) == b"used once"


def test_many_are_swept_in_batches(blobs, sweeper, monkeypatch):
    monkeypatch.setattr(objects, "_BATCH", 7)
    names = [blobs.put(f"{n}".encode()) for n in range(30)]
    assert sweeper.delete_aged(names[:25], min_age_s=0) == {name: len(str(n)) for n, name in enumerate(names[:25])}
    assert sorted(d for d, _ in blobs.listing()) == sorted(names[25:])
    assert keys(blobs, "collecting/") == []


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_wrong_with_a_bucket_is_said(tmp_path, s3, s3_server, monkeypatch):
    def claim(where, **environment):
        with monkeypatch.context() as changed:
            for name, value in environment.items():
                changed.setenv(name, value) if value else changed.delenv(name)
            opened(tmp_path / "x", where).claim()

    with fails("unavailable", "bucket") as told:
        claim("s3://nothing-of-this-name/x")
    assert "nothing-of-this-name" in told.value.what
    assert "NoSuchBucket" in told.value.what
    with fails("unavailable", "credentials") as told:
        claim(s3, AWS_SECRET_ACCESS_KEY="a-wrong-secret")
    assert "a-wrong-secret" not in told.value.what + told.value.remedy + repr(told.value.details)
    with fails("unavailable", "credentials"):
        claim(s3, AWS_ACCESS_KEY_ID="nobody")
    with fails("unavailable", "credentials") as told:
        claim(s3, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert "AWS_ACCESS_KEY_ID" in told.value.remedy
    with fails("unavailable", "endpoint"):
        claim(s3, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    with fails("unavailable", "endpoint") as told:
        claim(s3, AWS_ENDPOINT_URL="http://storage.invalid")
    assert "AWS_ALLOW_HTTP" in told.value.remedy


def test_a_bucket_that_went_away_is_no_missing_blob(blobs, monkeypatch):
    name = blobs.put(b"content")
    blobs.cache.delete(name)
    gone = opened(blobs.root, f"s3://gone-meanwhile/x?endpoint={blobs.bucket.address.endpoint}")
    gone._ours = True
    for call in (lambda: gone.put(b"more"), lambda: gone.get(name), lambda: list(gone.listing())):
        with fails("unavailable", "bucket"):
            call()


def test_a_silent_server_is_given_up(tmp_path, s3, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        began = time.monotonic()
        with fails("unavailable", "endpoint"):
            opened(tmp_path / "x", s3).claim()
        assert time.monotonic() - began < 15


def test_without_the_extra_the_error_says_what_to_install(tmp_path, s3, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "obstore", None)
    with fails("missing_extra") as told:
        opened(tmp_path / "x", s3).claim()
    assert told.value.remedy == "pip install 'treadle[s3]'"


def test_two_homes_do_not_share_a_prefix(tmp_path, s3, blobs):
    other = opened(tmp_path / "other", s3, "another home")
    for call in (other.claim, lambda: other.put(b"x"), lambda: list(other.listing()), lambda: other.delete_aged(["0" * 64], min_age_s=0)):
        with fails("conflict"):
            call()
    with fails("unavailable", "bucket"):
        opened(tmp_path / "unclaimed", f"{s3}-empty").put(b"x")
    blobs.put(b"x")
    blobs.bucket.delete(["home"])
    with fails("conflict"):
        other.claim()


@pytest.mark.parametrize(
    "wrong",
    [
        "s3://key:secret@bucket/x",
        "http://bucket/x",
        "s3://Bucket",
        "s3://bucket/../x",
        "s3://bucket/a b",
        "s3://bucket?secret=x",
        "s3://b",
        "s3://bucket?endpoint=ftp://x",
        "s3://bucket?endpoint=http://key:secret@host",
        "bucket/x",
        "s3://",
    ],
)
def test_wrong_addresses_are_refused(wrong):
    with fails("bad_request") as told:
        address(wrong)
    assert "secret@" not in told.value.what


def test_an_address_is_read_as_it_is_written():
    for url in ("s3://bucket", "s3://bucket/a/b", "s3://bucket/a?endpoint=http://127.0.0.1:9000", "s3://bucket/a?region=eu-west-1"):
        assert str(address(url)) == url
    moved = address("s3://bucket/a?endpoint=http://old:1").resolved({"AWS_ENDPOINT_URL": "http://new:2/", "AWS_REGION": "x"})
    assert str(moved) == "s3://bucket/a?endpoint=http://new:2&region=x"


# ── a server that dies ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.heavy
def test_a_server_killed_in_an_upload_leaves_nothing_and_the_upload_can_be_repeated(tmp_path, monkeypatch):
    from s3_server import BUCKET, S3Server

    server = S3Server(tmp_path / "server")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    server.start()
    try:
        blobs = opened(tmp_path / "home", f"s3://{BUCKET}/here")
        blobs.claim()
        kept = blobs.put(b"stored before")
        content = os.urandom(1 << 20) * 200
        put = blobs.bucket.put

        def killed_on_the_way(name, what):
            def kill():
                time.sleep(0.25)
                server.kill()

            killer = threading.Thread(target=kill)
            killer.start()
            try:
                put(name, what)
            finally:
                killer.join()

        with monkeypatch.context() as changed:
            changed.setattr(blobs.bucket, "put", killed_on_the_way)
            with fails("unavailable", "endpoint"), blobs.open_write() as writer:
                for start in range(0, len(content), 1 << 20):
                    writer.write(content[start : start + (1 << 20)])
                writer.commit()
        for call in (lambda: blobs.get(kept), lambda: blobs.exists(kept), lambda: blobs.put(b"x")):
            with fails("unavailable", "endpoint"):
                call()
        server.start()
        assert blobs.get(kept) == b"stored before"
        assert list(blobs.listing()) == [(kept, 13)]
        assert not blobs.exists(digest(content))
        name = blobs.put(content)
        blobs.cache.delete(name)
        assert blobs.path(name).stat().st_size == len(content)
    finally:
        server.stop()


def test_a_server_that_stops_for_a_moment_is_waited_for(blobs, s3_server):
    name = blobs.put(b"patience")
    blobs.cache.delete(name)
    s3_server.process.send_signal(signal.SIGSTOP)
    try:
        threading.Timer(1.0, lambda: s3_server.process.send_signal(signal.SIGCONT)).start()
        assert blobs.get(name) == b"patience"
    finally:
        s3_server.process.send_signal(signal.SIGCONT)


# ── local copies ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_copies_are_verified_and_fetched_anew(blobs):
    name = blobs.put(b"as it is in the bucket")
    for look in (blobs.get, lambda d: blobs.path(d).read_bytes()):
        blobs.cache.place(name).write_bytes(b"as it was on a bad disk")
        assert look(name) == b"as it is in the bucket"


def test_a_bad_copy_is_never_sent(blobs, tmp_path):
    """What goes up is what was just hashed, even where a spoilt copy of it lies around."""
    name = digest(b"good")
    blobs.cache.put(b"good")
    blobs.cache.place(name).write_bytes(b"evil")
    (tmp_path / "file").write_bytes(b"good")
    assert blobs.put_file(tmp_path / "file") == name
    assert blobs.bucket.get(key(name)) == b"good"


def test_copies_stay_within_their_bound(tmp_path, s3, blobs, monkeypatch):
    monkeypatch.setattr(objects, "_PINNED", 0.0)
    small = opened(tmp_path / "small", s3, cache_bytes=1_000_000)
    names = []
    for n in range(40):
        names.append(small.put(os.urandom(100_000)))
        os.utime(small.cache.place(names[-1]), (n, n))  # used in this order, long ago
        assert sum(size for _, size in small.cache.listing()) <= 1_000_000
    there = [d for d, _ in small.cache.listing()]
    assert 5 <= len(there) < 10
    assert names[-1] in there
    assert names[0] not in there
    assert len(small.get(names[0])) == 100_000
    monkeypatch.setattr(objects, "_PINNED", 600.0)
    paths = [small.path(name) for name in names[:20]]
    assert all(path.exists() for path in paths), "what is in use stays, whatever the bound"


def test_a_full_local_disk_does_not_keep_anyone_from_reading(blobs, monkeypatch):
    name = blobs.put(b"readable")
    blobs.cache.delete(name)

    def full(content):
        raise TreadleError("The disk is full.", remedy="Free some space.", code="storage_full")

    monkeypatch.setattr(blobs.cache, "put", full)
    assert blobs.get(name) == b"readable"


def test_nothing_secret_is_kept(blobs, tmp_path):
    from s3_server import SECRET

    blobs.put(b"x")
    kept = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert kept
    assert [f for f in kept if SECRET.encode() in f.read_bytes()] == []
    assert SECRET not in repr(vars(blobs)) + repr(vars(blobs.bucket)) + str(blobs.bucket.address)


def test_old_marks_are_swept_and_young_ones_stay(blobs, monkeypatch):
    name = blobs.put(b"marked")
    assert blobs.exists(name)
    assert len(keys(blobs, "used/")) == 1
    blobs.sweep()
    assert len(keys(blobs, "used/")) == 1
    import datetime as dt

    monkeypatch.setattr(objects, "_MARKS_KEPT", dt.timedelta(seconds=1))
    time.sleep(2.1)
    blobs.sweep()
    assert keys(blobs, "used/") == []


def test_leaving_takes_every_trace_along(blobs, s3):
    name = blobs.put(b"x")
    assert blobs.exists(name)
    blobs.delete(name)
    blobs.leave()
    assert [seen.key for p in ("home", "blobs/", "used/", "collecting/", "probe/") for seen in blobs.bucket.list(p)] == []
    assert blobs.bucket.get("home") is None
