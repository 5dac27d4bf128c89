"""The conformance suite of blob stores: what everybody who keeps blobs may count on, run on the local disk and on object storage.

Inherit from `BlobStoreSuite` in a test module of yours, and give it a store:

    class TestMine(BlobStoreSuite):
        @pytest.fixture
        def blobs(self, tmp_path):
            return MyBlobs(tmp_path)
"""

import contextlib
import io
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from treadle.plugins.storage import CollectableBlobs
from treadle.records.digests import digest
from treadle.records.errors import TreadleError

NOBODY = digest(b"nobody stored this")
BIG = b"0123456789abcdef" * 1_300_000  # 20.8 MB: more than one part of a large upload


@contextlib.contextmanager
def fails(code: str) -> Iterator[None]:
    """The block raises a `TreadleError` of this code, with a remedy."""
    raised: TreadleError | None = None
    try:
        yield
    except TreadleError as error:
        raised = error
    assert raised is not None, f"nothing was raised, {code} was expected"
    assert raised.code == code, f"{raised.code}, not {code}: {raised.what}"
    assert raised.remedy


class BlobStoreSuite:
    """Tests of one store; `blobs` is a fixture of the subclass: an empty store in which a blob's age can be told to the second."""

    def spoil(self, blobs: CollectableBlobs, blob: str, content: bytes) -> None:
        """Put other bytes where a blob is."""
        raise NotImplementedError

    def wait(self, blobs: CollectableBlobs, seconds: float) -> None:
        """Let all that is in the store become older by so much."""
        time.sleep(seconds + 1.1)  # ages are cut to the second

    def test_what_was_put_comes_back(self, blobs: CollectableBlobs, tmp_path: Path) -> None:
        for content in (b"", b"x", b"\x00\xff" * 5000, BIG):
            name = blobs.put(content)
            assert name == digest(content)
            assert (blobs.get(name), blobs.size(name), blobs.exists(name)) == (content, len(content), True)
            assert blobs.path(name).read_bytes() == content
            with blobs.open_read(name) as file:
                assert file.read() == content
        (tmp_path / "file").write_bytes(BIG[:-1])
        assert blobs.put_file(tmp_path / "file") == digest(BIG[:-1])
        assert dict(blobs.listing()) == {digest(c): len(c) for c in (b"", b"x", b"\x00\xff" * 5000, BIG, BIG[:-1])}
        assert [d for d, _ in blobs.listing()] == sorted(d for d, _ in blobs.listing())

    def test_a_reader_seeks(self, blobs: CollectableBlobs) -> None:
        name = blobs.put(BIG)
        with blobs.open_read(name) as file:
            assert file.seek(len(BIG) - 5) == len(BIG) - 5
            assert file.read(100) == BIG[-5:]
            assert file.read(100) == b""
            file.seek(3_000_001)
            assert (file.read(7), file.tell()) == (BIG[3_000_001:3_000_008], 3_000_008)
            file.seek(11)
            assert file.read(9_000_000) == BIG[11:9_000_011], "a read is short at the end only"
            file.seek(-4, io.SEEK_END)
            assert file.read() == BIG[-4:]

    def test_pieces_become_one_blob_and_the_same_bytes_are_stored_once(self, blobs: CollectableBlobs) -> None:
        for pieces in ((b"ab", b"", b"c"), (bytearray(b"a"), memoryview(b"bc"))):
            with blobs.open_write() as writer:
                for piece in pieces:
                    writer.write(piece)
                assert writer.size == 3
                assert writer.commit() == digest(b"abc")
        assert blobs.put(b"abc") == digest(b"abc")
        assert list(blobs.listing()) == [(digest(b"abc"), 3)]

    def test_without_a_commit_nothing_stays(self, blobs: CollectableBlobs) -> None:
        with blobs.open_write() as writer:
            writer.write(b"half")
        with contextlib.suppress(ZeroDivisionError), blobs.open_write() as writer:
            writer.write(b"half of a half")
            raise ZeroDivisionError
        assert list(blobs.listing()) == []

    def test_what_is_not_there_is_said(self, blobs: CollectableBlobs) -> None:
        assert (blobs.exists(NOBODY), blobs.size(NOBODY), blobs.peek(NOBODY), blobs.delete(NOBODY)) == (False, None, None, 0)
        for look in (blobs.get, blobs.path, blobs.open_read):
            with fails("not_found"):
                look(NOBODY)
        for wrong in ("", "x", "../" * 20 + "abcd", NOBODY.upper(), NOBODY + "0"):
            with fails("bad_request"):
                blobs.get(wrong)
            with fails("bad_request"):
                blobs.delete(wrong)

    def test_spoilt_content_is_not_given_out(self, blobs: CollectableBlobs) -> None:
        name = blobs.put(b"as it was")
        self.spoil(blobs, name, b"as it is!")
        for look in (blobs.get, blobs.path):
            with fails("corrupt"):
                look(name)

    def test_what_is_deleted_is_gone_and_can_come_back(self, blobs: CollectableBlobs) -> None:
        name = blobs.put(b"in and out")
        assert (blobs.delete(name), blobs.delete(name), blobs.exists(name)) == (10, 0, False)
        assert list(blobs.listing()) == []
        with fails("not_found"):
            blobs.get(name)
        assert (blobs.put(b"in and out"), blobs.get(name)) == (name, b"in and out")

    def test_only_what_nobody_used_lately_is_swept(self, blobs: CollectableBlobs) -> None:
        old, again, asked, read, sized = (blobs.put(c) for c in (b"old", b"again", b"asked", b"read", b"sized"))
        self.wait(blobs, 2)
        assert blobs.put(b"again") == again
        assert blobs.exists(asked)
        assert blobs.get(read) == b"read"
        assert blobs.size(sized) == 5
        young = blobs.put(b"young")
        assert list(blobs.listing(min_age_s=2)) == [(old, 3)]
        everything = [old, again, asked, read, sized, young, NOBODY]
        assert blobs.delete_aged(everything, min_age_s=2) == {old: 3}
        assert not blobs.exists(old)
        assert [blobs.get(d) for d in (again, asked, read, sized, young)] == [b"again", b"asked", b"read", b"sized", b"young"]
        blobs.sweep()
        assert blobs.delete_aged(everything, min_age_s=2) == {}
        assert sum(blobs.delete_aged(everything, min_age_s=0).values()) == 5 + 5 + 4 + 5 + 5

    def test_looking_is_no_use(self, blobs: CollectableBlobs) -> None:
        name = blobs.put(b"looked at")
        self.wait(blobs, 1)
        opened = blobs.peek(name)
        assert opened is not None
        with opened[0] as file:
            assert (file.read(), opened[1]) == (b"looked at", 9)
        assert blobs.delete_aged([name], min_age_s=1) == {name: 9}

    def test_whoever_is_told_that_a_blob_is_there_finds_it(self, blobs: CollectableBlobs) -> None:
        """Writers store the same old blobs again and again while they are swept: none that was just stored is missing."""
        contents = [f"content {n}".encode() for n in range(15)]
        names = [blobs.put(content) for content in contents]
        end, lost, stored, went = time.monotonic() + 8, [], [0], [0]

        def write(seed: int) -> None:
            chance = random.Random(seed)
            while time.monotonic() < end and not lost:
                content = chance.choice(contents)
                found = blobs.peek(blobs.put(content))
                if found is None:
                    lost.append(content)
                    break
                with found[0] as file:
                    lost.extend([content] if file.read() != content else [])
                stored[0] += 1
                time.sleep(chance.random() * 0.4)

        writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            went[0] += len(blobs.delete_aged(names, min_age_s=0.2))
            time.sleep(0.02)
        for writer in writers:
            writer.join()
        assert lost == []
        assert stored[0] > 20
        assert went[0] > 5, "too little was swept for a race"

    def test_one_maintenance_at_a_time(self, blobs: CollectableBlobs) -> None:
        with blobs.maintenance("a test"):
            with fails("busy"), blobs.maintenance("another"):
                raise AssertionError("two at a time")
        with blobs.maintenance("a third"):
            pass
