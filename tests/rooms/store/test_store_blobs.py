"""Blobs that come in pieces: whole or not there at all."""

import errno
import os
import time

import pytest

from treadle.records.digests import digest
from treadle.records.errors import TreadleError
from treadle.store import blobs as module
from treadle.store.blobs import LocalBlobs


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


def left(blobs):
    return [f for f in (blobs.root / "tmp").iterdir() if f.suffix != ".lock"]


def store(blobs, *pieces):
    with blobs.open_write() as writer:
        for piece in pieces:
            writer.write(piece)
        return writer.commit()


def test_pieces_become_the_blob_of_the_whole(blobs):
    pieces = [b"", b"a" * 3_000_000, b"b", bytearray(b"c"), memoryview(b"d")]
    with blobs.open_write() as writer:
        for piece in pieces:
            writer.write(piece)
        assert writer.size == 3_000_003
        assert not list(blobs.listing())
        whole = writer.commit()
    assert whole == digest(b"".join(bytes(p) for p in pieces)) == blobs.put(b"".join(bytes(p) for p in pieces))
    assert (blobs.size(whole), left(blobs)) == (3_000_003, [])
    with blobs.open_read(whole) as file:
        assert len(file.read()) == 3_000_003
    assert blobs.size(digest(b"another")) is None
    with pytest.raises(TreadleError, check=lambda e: e.code == "not_found"):
        blobs.open_read(digest(b"another"))


def test_what_is_not_committed_leaves_nothing(blobs):
    with blobs.open_write() as writer:
        writer.write(b"half")
    with pytest.raises(TypeError):
        store(blobs, b"half", None)
    assert (list(blobs.listing()), left(blobs)) == ([], [])


def test_the_same_bytes_twice_are_one_blob(blobs):
    assert store(blobs, b"same") == store(blobs, b"sa", b"me")
    assert [size for _, size in blobs.listing()] == [4]


def test_a_full_disk_is_told_and_leaves_nothing(blobs, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(TreadleError, check=lambda e: e.code == "storage_full"):
        store(blobs, b"too much")
    assert (list(blobs.listing()), left(blobs)) == ([], [])


def test_what_dead_writers_left_is_swept(blobs):
    for name, age in (("dead", 90_000), ("alive", 60)):
        (blobs.root / "tmp" / name).write_bytes(b"12345")
        os.utime(blobs.root / "tmp" / name, (time.time() - age,) * 2)
    with blobs.maintenance("a test"):
        assert blobs.sweep() == 5
    assert [f.name for f in left(blobs)] == ["alive"]
