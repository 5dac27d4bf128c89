"""A home with its blobs in a bucket: chosen once, moved, collected, looked after, backed up; on a real S3 server."""

import datetime as dt
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from treadle.cli import main
from treadle.operations.tracking import PutFile, StartRun, UpdateRun
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.states import RunState
from treadle.store.blobs import LocalBlobs
from treadle.store.bucket import Bucket, address
from treadle.store.objects import ObjectBlobs
from treadle.workshop import blobs as module
from treadle.workshop import open_home
from treadle.workshop.doctor import check
from treadle.workshop.replay import backtest

pytestmark = pytest.mark.s3


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TREADLE_TOKEN", "TREADLE_URL", "TREADLE_ENV", "TREADLE_BLOBS", "TREADLE_BLOB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads.jsonl"))
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TREADLE_PROJECT", "p")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def typed(home, capsys):
    def terminal(*words, code=0):
        capsys.readouterr()
        got = main(list(words))
        said = capsys.readouterr()
        assert got == code, said
        return json.loads(said.out if not code else said.err) if "--json" in words else said.out + said.err

    return terminal


def fails(code):
    return pytest.raises(TreadleError, check=lambda e: e.code == code and bool(e.remedy))


def stored(s3: str) -> dict[str, int]:
    """What is in the bucket under a prefix, seen from outside."""
    return {seen.key: seen.size for seen in Bucket(address(s3)).list("blobs/")}


def log(shop, run_id: str, path: str, content: bytes) -> str:
    """A file of a run that has ended."""
    with shop.blobs.open_write() as writer:
        writer.write(content)
        digest = writer.commit()
    shop.call(StartRun(project="p", run_id=run_id))
    shop.call(PutFile(project="p", owner=run_id, path=path, digest=digest, size=len(content), media_type="text/plain"))
    shop.call(UpdateRun(project="p", run_id=run_id, state=RunState.failed))
    return digest


# ── where they are ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_home_is_told_once_and_remembers(home, s3, monkeypatch):
    with open_home(home, blobs=s3) as shop:
        assert isinstance(shop.blobs, ObjectBlobs)
        digest = shop.blobs.put(b"in the bucket")
    assert list(stored(s3).values()) == [13]
    kept = (home / "blobs.url").read_text()
    assert kept.startswith(s3 + "?endpoint=http://127.0.0.1:")
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in kept
    for told in (None, s3, kept.strip()):
        with open_home(home, blobs=told) as shop:
            assert shop.blobs.get(digest) == b"in the bucket"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_REGION")
    with open_home(home) as shop:
        shop.blobs.cache.delete(digest)
        assert shop.blobs.get(digest) == b"in the bucket", "the way there is kept too"
    for other in ("local", f"{s3}x", f"{s3}?endpoint=http://127.0.0.1:9"):
        with fails("conflict"):
            open_home(home, blobs=other)
    monkeypatch.setenv("TREADLE_BLOBS", f"{s3}x")
    with fails("conflict"):
        open_home(home)


def test_the_variable_chooses_for_new_homes(home, s3, monkeypatch, tmp_path):
    monkeypatch.setenv("TREADLE_BLOBS", s3)
    with open_home(home) as shop:
        assert isinstance(shop.blobs, ObjectBlobs)
    with fails("conflict"):
        open_home(tmp_path / "another home on the same prefix")
    assert not (tmp_path / "another home on the same prefix" / "blobs.url").exists()


def test_a_home_with_blobs_does_not_start_anew_in_a_bucket(home, s3, typed):
    with open_home(home) as shop:
        digest = shop.blobs.put(b"on the disk")
    with fails("conflict"):
        open_home(home, blobs=s3)
    assert not (home / "blobs.url").exists()
    assert stored(s3) == {}
    with open_home(home, blobs="local") as shop:
        assert shop.blobs.get(digest) == b"on the disk"
    told = typed("server", "--port", "0", "--blobs", s3, "--json", code=4)
    assert "treadle blobs move --to" in told["remedy"]


def test_a_home_that_cannot_reach_its_bucket_is_not_made(home, s3):
    with fails("unavailable"):
        open_home(home, blobs="s3://nothing-of-this-name/x")
    assert not (home / "blobs.url").exists()
    with fails("bad_request"):
        open_home(home, blobs="s3:/typo")
    with open_home(home) as shop:
        assert isinstance(shop.blobs, LocalBlobs)


def test_a_home_opens_without_its_bucket(home, s3, monkeypatch):
    """Looking at what the database has needs no object storage, and what needs it says so."""
    with open_home(home, blobs=s3) as shop:
        log(shop, "r1", "a.txt", b"content")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with open_home(home) as shop:
        shop.call(StartRun(project="p", run_id="r2"))
        with fails("unavailable"):
            shop.blobs.put(b"more")


def test_a_pipeline_has_its_results_and_its_code_in_the_bucket(home, s3, typed, monkeypatch, tmp_path):
    monkeypatch.delenv("TREADLE_PROJECT")
    monkeypatch.setenv("TREADLE_HOME", str(home))
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    path = list(sys.path)
    try:
        typed("init")
        typed("apply", "--yes", "--blobs", s3)
        assert stored(s3), "the project's code and its environment"
        (tmp_path / "shop" / "loop.py").write_text(_LARGE)
        typed("apply", "--yes")
        assert "finished" in typed("run", "large")
        assert 2_000_000 in stored(s3).values()
        shutil.rmtree(home / "blobs" / "cache")
        assert "finished" in typed("run", "large")
        newest = typed("runs", "--json")["items"][0]["run_id"]
        assert "cached" in typed("why-ran", newest)
        monkeypatch.setenv("TREADLE_BLOBS", s3)
        start = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
        with open_home(home) as shop, fails("bad_definition"):  # it has no endpoint, which is seen on the copy
            backtest(shop, project="shop", environment="dev", history=tmp_path, since=start, until=start, policy="never")
        copy = home.parent / "replays" / "never-20130101-20130101"
        assert not Layout(copy).blobs_url.exists()
        assert 2_000_000 in [size for _, size in LocalBlobs(Layout(copy).blobs).listing()], "a replay has blobs of its own"
    finally:
        sys.path[:] = path
        sys.modules.pop("loop", None)


_LARGE = """
import treadle as tr


@tr.step
def make() -> bytes:
    return b"x" * 2_000_000


@tr.step
def measure(content: bytes) -> int:
    return len(content)


@tr.pipeline
def large():
    return measure(make())
"""


# ── moving ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_blobs_move_to_a_bucket_and_back(home, s3, typed, monkeypatch):
    with open_home(home) as shop:
        digests = {log(shop, f"r{n}", "a.bin", os.urandom(1000 * (n + 1))) for n in range(20)}
        big = shop.blobs.put(os.urandom(9_000_000))
    digests.add(big)
    monkeypatch.setenv("TREADLE_BLOBS", s3)  # said before it is so: moving makes it so
    told = typed("blobs", "move", "--to", s3, "--json")
    assert (told["blobs"], told["copied"], told["kept"]) == (len(digests), len(digests), False)
    assert len(stored(s3)) == len(digests)
    assert list(LocalBlobs(home / "blobs").listing()) == []
    with open_home(home) as shop:
        assert all(shop.blobs.exists(d) for d in digests)
    told = typed("blobs", "where", "--json")
    assert (told["place"].partition("?")[0], told["blobs"]) == (s3, len(digests))
    assert typed("blobs", "move", "--to", s3, "--json", code=4)["code"] == "conflict"
    typed("blobs", "move", "--to", "local", "--json")
    monkeypatch.delenv("TREADLE_BLOBS")
    assert stored(s3) == {}
    assert Bucket(address(s3)).get("home") is None
    with open_home(home) as shop:
        assert isinstance(shop.blobs, LocalBlobs)
        assert {d for d, _ in shop.blobs.listing()} == digests
        assert all(shop.blobs.get(d) for d in digests)


def test_an_interrupted_move_goes_on_and_has_changed_nothing(home, s3, typed, monkeypatch):
    with open_home(home) as shop:
        digests = [shop.blobs.put(os.urandom(5000)) for _ in range(30)]
    carry, carried = module._carry, []

    def breaks(blobs, target, digest):
        if len(carried) >= 10:
            raise TreadleError("The cable was pulled.", remedy="Put it back.", code="unavailable")
        carried.append(digest)
        carry(blobs, target, digest)

    with monkeypatch.context() as changed:
        changed.setattr(module, "_carry", breaks)
        typed("blobs", "move", "--to", s3, code=5)
    assert not (home / "blobs.url").exists()
    there = len(stored(s3))
    assert 10 <= there < 30
    with open_home(home) as shop:
        assert all(shop.blobs.get(d) for d in digests)
    told = typed("blobs", "move", "--to", s3, "--keep", "--json")
    assert (told["blobs"], told["copied"]) == (30, 30 - there)
    assert len(list(LocalBlobs(home / "blobs").listing())) == 30
    told = typed("blobs", "move", "--to", s3, "--json")  # as after one that was interrupted when it had switched
    assert (told["blobs"], told["copied"]) == (30, 0)
    assert list(LocalBlobs(home / "blobs").listing()) == []
    with open_home(home) as shop:
        assert all(shop.blobs.get(d) for d in digests)


def test_a_move_reads_back_what_it_relies_on(home, s3, typed):
    with open_home(home) as shop:
        digest, home_id = shop.blobs.put(b"moved once"), shop.home_id
    bucket = Bucket(address(s3))
    bucket.put("home", home_id.encode())
    bucket.put(f"blobs/{digest[:2]}/{digest[2:]}", b"moved 0nce")
    assert typed("blobs", "move", "--to", s3, "--json", code=6)["code"] == "corrupt"
    with open_home(home) as shop:
        assert shop.blobs.get(digest) == b"moved once"


def test_a_home_in_use_is_not_moved(home, s3, typed):
    with open_home(home) as shop:
        shop.blobs.put(b"x")
    (home / "processes").mkdir(exist_ok=True)
    (home / "processes" / "worker.json").write_text(json.dumps({"name": "worker", "pid": os.getpid()}))
    assert typed("blobs", "move", "--to", s3, "--json", code=4)["code"] == "busy"
    assert not (home / "blobs.url").exists()


# ── space ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_removal_gives_the_bucket_its_space_back(home, s3, typed):
    content = os.urandom(300_000)
    with open_home(home, blobs=s3) as shop:
        log(shop, "r1", "weights.bin", content)
        kept = log(shop, "r2", "notes.txt", b"notes")
    assert sum(stored(s3).values()) == 300_005
    preview = typed("remove", "run/r1", "--json")
    assert (preview["preview"], preview["freed_bytes"]) == (True, 300_000)
    assert sum(stored(s3).values()) == 300_005
    done = typed("remove", "run/r1", "--yes", "--min-age", "0", "--json")
    assert done["freed_bytes"] >= 300_000
    assert stored(s3) == {f"blobs/{kept[:2]}/{kept[2:]}": 5}
    assert [d for d, _ in LocalBlobs(home / "blobs" / "cache").listing()] == [kept], "the copy here goes, too"


def test_garbage_is_shown_first_and_then_collected(home, s3, typed):
    with open_home(home, blobs=s3) as shop:
        kept = log(shop, "r1", "a.txt", b"referred to")
        manifest = shop.blobs.put(json.dumps({"files": [{"digest": shop.blobs.put(b"in a manifest")}]}).encode())
        log(shop, "r2", "bundle.json", shop.blobs.get(manifest))
        for n in range(5):
            shop.blobs.put(f"orphan {n}".encode())
    young = typed("gc", "--json")
    assert (young["removed"], young["kept"]) == (0, 3)
    dry = typed("gc", "--min-age", "0", "--json")
    assert (dry["removed"], dry["freed_bytes"], len(stored(s3))) == (5, 40, 8)
    assert "5 blobs removed (40 B), 3 kept" in typed("gc", "--min-age", "0", "--no-dry-run")
    assert len(stored(s3)) == 3
    with open_home(home) as shop:
        assert shop.blobs.get(kept) == b"referred to"


def test_emptying_the_bin_frees_the_bucket(home, s3, typed):
    with open_home(home, blobs=s3) as shop:
        log(shop, "r1", "a.bin", b"x" * 1000)
        typed("runs", "delete", "r1")
        assert stored(s3)
        assert typed("remove", "--binned-before", "2100-01-01", "--yes", "--min-age", "0", "--json")["runs"] == 1
    assert stored(s3) == {}


# ── doctor ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_doctor_looks_at_the_bucket(home, s3, monkeypatch):
    with open_home(home, blobs=s3) as shop:
        digests = [shop.blobs.put(f"{n}".encode()) for n in range(3)]

    def look():
        return {finding["name"]: finding for finding in check(Layout(home))}

    found = look()
    assert found["bucket"]["ok"]
    assert s3 in found["bucket"]["text"]
    assert found["bucket clock"]["ok"]
    assert "3 of 3 read" in found["blobs"]["text"]
    assert [seen.key for seen in Bucket(address(s3)).list("probe/")] == []
    Bucket(address(s3)).put(f"blobs/{digests[0][:2]}/{digests[0][2:]}", b"?")
    LocalBlobs(home / "blobs" / "cache").delete(digests[0])
    assert not look()["blobs"]["ok"]
    with monkeypatch.context() as changed:
        changed.setenv("TREADLE_BLOBS", f"{s3}-other")
        assert "move" in look()["blobs place"]["remedy"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    found = look()
    assert found["database"]["ok"]
    assert "does not answer" in found["blobs"]["text"]
    assert "AWS_ENDPOINT_URL" in found["blobs"]["remedy"]


# ── backup ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_backup_has_the_blobs_of_the_bucket(home, s3, typed, tmp_path):
    with open_home(home, blobs=s3) as shop:
        digests = {log(shop, f"r{n}", "a.bin", os.urandom(2000)) for n in range(5)}
    typed("backup", str(tmp_path / "copy"))
    assert not (tmp_path / "copy" / "blobs" / "cache").exists()
    assert {d for d, _ in LocalBlobs(tmp_path / "copy" / "blobs").listing()} == digests
    typed("restore", str(tmp_path / "copy"), "--home", str(tmp_path / "new"))
    with open_home(tmp_path / "new") as shop:
        assert isinstance(shop.blobs, LocalBlobs)
        assert all(len(shop.blobs.get(d)) == 2000 for d in digests)
    broken = next(iter(digests))
    Bucket(address(s3)).put(f"blobs/{broken[:2]}/{broken[2:]}", b"broken")
    LocalBlobs(home / "blobs" / "cache").delete(broken)
    assert typed("backup", str(tmp_path / "another"), "--json", code=6)["code"] == "corrupt"
    assert not (tmp_path / "another").exists()


def test_a_backup_without_blobs_names_the_bucket_and_what_it_needs_there(home, s3, typed, tmp_path):
    with open_home(home, blobs=s3) as shop:
        digest = log(shop, "r1", "a.bin", b"stays in the bucket")
    typed("backup", str(tmp_path / "copy"), "--without-blobs")
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_text())
    assert (manifest["format"], manifest["blobs"].partition("?")[0], manifest["needs"]) == (2, s3, [digest])
    assert not (tmp_path / "copy" / "blobs").exists()
    typed("restore", str(tmp_path / "copy"), "--home", str(tmp_path / "new"))
    with open_home(tmp_path / "new") as shop:
        assert isinstance(shop.blobs, ObjectBlobs)
        assert shop.blobs.get(digest) == b"stays in the bucket"
        shop.blobs.delete(digest)
    told = typed("restore", str(tmp_path / "copy"), "--home", str(tmp_path / "third"), "--json", code=6)
    assert "lacks 1 of the 1 blobs" in told["what"]
    assert not (tmp_path / "third").exists()


def test_a_backup_without_the_blobs_of_the_disk_is_refused(home, s3, typed, tmp_path):
    with open_home(home) as shop:
        shop.blobs.put(b"x")
    assert "--without-blobs" in typed("backup", str(tmp_path / "copy"), "--without-blobs", "--json", code=2)["remedy"]
    assert not (tmp_path / "copy").exists()


def test_the_size_of_copies_is_a_setting(home, s3, monkeypatch):
    monkeypatch.setenv("TREADLE_BLOB_CACHE", "12345")
    with open_home(home, blobs=s3) as shop:
        assert shop.blobs._limit == 12345
    monkeypatch.setenv("TREADLE_BLOB_CACHE", "2 GB")
    with fails("bad_request"):
        open_home(home)
    assert Layout(home).blobs_url.exists()
