"""The conformance suite of blob stores on every store there is."""

import os
import time
from pathlib import Path

import pytest

from treadle.store.blobs import LocalBlobs
from treadle.store.bucket import address
from treadle.store.objects import ObjectBlobs
from treadle.testing.blobs import BlobStoreSuite

pytest.mark.heavy(BlobStoreSuite.test_whoever_is_told_that_a_blob_is_there_finds_it)


class TestLocal(BlobStoreSuite):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> LocalBlobs:
        return LocalBlobs(tmp_path / "blobs")

    def spoil(self, blobs, blob, content):
        blobs.place(blob).write_bytes(content)

    def wait(self, blobs, seconds):
        for blob, _ in list(blobs.listing()):
            os.utime(blobs.place(blob), (time.time() - seconds,) * 2)


@pytest.mark.s3
class TestObjects(BlobStoreSuite):
    @pytest.fixture
    def blobs(self, tmp_path: Path, s3: str) -> ObjectBlobs:
        made = ObjectBlobs(tmp_path / "blobs", address(s3), home_id="home", remembers_s=0)
        made.claim()
        return made

    def spoil(self, blobs, blob, content):
        blobs.bucket.put(f"blobs/{blob[:2]}/{blob[2:]}", content)
        blobs.cache.delete(blob)
