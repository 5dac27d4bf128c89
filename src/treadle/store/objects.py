"""Content-addressed blobs in S3-compatible object storage, with a bounded local copy of what is in use.

PREFIX/home                 whose blobs these are: two homes under one prefix would collect each other's
PREFIX/blobs/ab/cdef…       the blobs; an object that is there is complete, for that is how object storage writes
PREFIX/used/HOUR/DIGEST     a mark that a blob was used again (an object's own time cannot be renewed without writing all of it anew)
PREFIX/collecting/ID        digests that a sweep has in hand

*Nobody who is told that a blob is there loses it.* A sweep (1) writes down what it has in hand, (2) looks how old each is, by the
server's clock and the marks, (3) removes the old, (4) strikes its note out. Whoever stores or uses a blob (1) writes the object or a
mark, (2) reads the notes, and waits while one names the blob, (3) looks whether the blob is there, and only then says so; a writer
that finds it gone writes it anew. Either the sweep sees the mark, or the writer sees the note, or the writer sees what the sweep
did. That holds wherever a write is seen by all reads that follow it, as S3 and its kin promise, and asks for no conditional writes.
A sweep that died leaves its note; it counts for `_NOTE_S` seconds by the server's clock, and a live sweep removes nothing later than
`_HASTE_S` after it wrote one.

A process remembers for `remembers_s` what it used, and marks it once in that time; a sweep leaves blobs alone for that much longer.
"""

import contextlib
import datetime as dt
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from blake3 import blake3

from treadle.records.digests import digest as digest_of_bytes
from treadle.records.errors import TreadleError
from treadle.store.blobs import BlobWriter, LocalBlobs, from_file, maintenance, no_blob, place
from treadle.store.bucket import Address, Bucket, ObjectFile, Seen

_CHUNK = 1 << 20
#: Bytes of local copies, about; those used within the last `_PINNED` seconds stay whatever their size.
CACHE_BYTES = 2_000_000_000
_PINNED = 600.0
#: Digests that one note of a sweep names.
_BATCH = 500
_NOTE_S, _HASTE_S = 180.0, 30.0
#: Marks are kept so long, so this is the longest age that a sweep can tell; and how long a just seen blob is believed to be there.
_MARKS_KEPT = dt.timedelta(days=7)
_BELIEVED_S = 10.0
_REMEMBERED = 100_000


class ObjectBlobs:
    """Blobs in a bucket.

    Args:
        root: a local folder for copies, for what is on its way, and for the lock of maintenance.
        address: the bucket and prefix.
        home_id: whose blobs they are; the first use compares it with the bucket's.
        cache_bytes: how much of the local disk copies take, about.
        remembers_s: for how many seconds a process remembers that it used a blob.
        bucket: the bucket, where it is to be used with other time limits.
    """

    at_once = 16

    def __init__(
        self,
        root: Path,
        address: Address,
        *,
        home_id: str,
        cache_bytes: int = CACHE_BYTES,
        remembers_s: float = 600.0,
        bucket: Bucket | None = None,
    ):
        self.root, self.home_id = root, home_id
        self.bucket = bucket or Bucket(address)
        self.cache = LocalBlobs(root / "cache", durable=False)
        self._limit, self._remembers_s = cache_bytes, remembers_s
        self._ours = False
        self._added = cache_bytes  # so that the first copy of a process looks at what is there
        self._used: dict[str, tuple[float, int]] = {}

    # ── whose they are ───────────────────────────────────────────────────────────────────────────────────────────

    def claim(self) -> None:
        """Make this prefix the home's, where it is nobody's yet.

        Raises:
            TreadleError: `conflict` where another home has it; `unavailable`.
        """
        if self.bucket.get("home") is None:
            if next(self.bucket.list("blobs/"), None) is not None:
                raise self._foreign("of a home that left no name")
            self.bucket.put("home", self.home_id.encode())
        self._check()

    def leave(self) -> None:
        """Take the claim and all marks back, once the blobs are gone: the prefix is nobody's then."""
        self._check()
        for prefix in ("used/", "collecting/", "probe/"):
            while batch := [seen.key for seen in islice(self.bucket.list(prefix), 1000)]:
                self.bucket.delete(batch)
        self.bucket.delete(["home"])
        self._ours = False

    def _check(self) -> None:
        if self._ours:
            return
        found = self.bucket.get("home")
        if found is None:
            raise TreadleError(
                f"{self.bucket.address.place} holds no home's blobs: its object `home` is missing.",
                remedy="Is it the right bucket, prefix and endpoint? Look at HOME/blobs.url and AWS_ENDPOINT_URL.",
                code="unavailable",
                details={"cause": "bucket"},
            )
        if found.decode(errors="replace") != self.home_id:
            raise self._foreign("of another home")
        self._ours = True

    def _foreign(self, whose: str) -> TreadleError:
        return TreadleError(
            f"{self.bucket.address.place} has the blobs {whose}, and two homes would collect each other's.",
            remedy="Give each home a prefix of its own: --blobs s3://BUCKET/OTHER",
            code="conflict",
        )

    # ── storing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, content: bytes) -> str:
        """Store bytes; returns their digest once the bucket has all of them."""
        digest = digest_of_bytes(content)
        self._store(digest, content, len(content))
        self._copy(content)
        return digest

    def put_file(self, path: Path) -> str:
        """Store a file's content; returns its digest once the bucket has all of it."""
        return from_file(self, path)

    @contextlib.contextmanager
    def open_write(self) -> Iterator["ObjectWriter"]:
        """Store bytes that come in pieces. They wait on the local disk until their digest is known, and go up when they are committed.

        Raises:
            TreadleError: `storage_full`, of the local disk or the bucket; `unavailable`.
        """
        with self.cache.open_write() as spool:
            yield ObjectWriter(self, spool)

    def _keep(self, digest: str, size: int) -> None:
        self._store(digest, self.cache.place(digest), size)
        self._trim(size)

    def _store(self, digest: str, content: bytes | Path, size: int) -> None:
        self._check()
        key = _key(digest)
        there = self.bucket.head(key)
        for _ in range(5):
            if there is None:
                self.bucket.put(key, content)
                there = self._settled(digest)
            else:
                there = self._marked(digest)
            if there is not None:
                break
        if there is None or there.size != size:
            arrived = "is removed as often as it is written" if there is None else f"has {there.size:,} of its {size:,} bytes"
            raise TreadleError(
                f"Blob {digest} {arrived} in {self.bucket.address.place}; it does not count as stored.",
                remedy=f"See that nothing but this home writes there, remove {key}, and repeat the call.",
                code="unavailable",
                details={"cause": "bucket"},
            )
        self._remember(digest, size)

    # ── using ────────────────────────────────────────────────────────────────────────────────────────────────────

    def size(self, digest: str) -> int | None:
        """Bytes of a blob, None where it is not there. It counts as in use from now: whoever asks is about to refer to it."""
        since, size = self._used.get(digest, (0.0, 0))
        if since and time.monotonic() - since < min(_BELIEVED_S, self._remembers_s):
            return size
        there = self._in_use(digest)
        return None if there is None else there.size

    def exists(self, digest: str) -> bool:
        """Whether a blob is there (not whether it is intact). It counts as in use from now: whoever asks is about to refer to it."""
        return self.size(digest) is not None

    def get(self, digest: str) -> bytes:
        """The bytes, verified; from the local copy where there is one.

        Raises:
            TreadleError: `not_found`, `unavailable`, or `corrupt` where the bucket's content no longer matches.
        """
        self._existing(digest)
        held = self.cache.peek(digest) if self.cache.exists(digest) else None
        if held is not None:
            with held[0] as file:
                content = file.read()
            if digest_of_bytes(content) == digest:
                return content
            self.cache.delete(digest)
        content = self.bucket.get(_key(digest))
        if content is None:
            raise no_blob(digest)
        if digest_of_bytes(content) != digest:
            raise self._corrupt(digest)
        self._copy(content)
        return content

    def path(self, digest: str) -> Path:
        """A local copy, verified; it stays for `_PINNED` seconds at least. Raises like `get`, and `storage_full`."""
        self._existing(digest)
        if self.cache.exists(digest):
            try:
                return self.cache.path(digest)
            except TreadleError as error:
                if error.code not in ("corrupt", "not_found"):
                    raise
                self.cache.delete(digest)
        opened = self.stored(digest)
        if opened is None:
            raise no_blob(digest)
        hasher = blake3()
        with opened as source, self.cache.open_write() as copy:
            while chunk := source.read(_CHUNK):
                hasher.update(chunk)
                copy.write(chunk)
            if hasher.hexdigest() != digest:
                raise self._corrupt(digest)
            copy.commit()
        self._trim(opened.size)
        return self.cache.place(digest)

    def open_read(self, digest: str) -> BinaryIO:
        """The bytes as an open file, not verified: the local copy where there is one, else as they arrive.

        Raises:
            TreadleError: `not_found`, `unavailable`.
        """
        self._existing(digest)
        self.cache.exists(digest)  # a use of the copy, too
        opened = self.peek(digest)
        if opened is None:
            raise no_blob(digest)
        return opened[0]

    def _existing(self, digest: str) -> None:
        """Note a use; `not_found` where there is nothing to use."""
        if not self._remembered(digest) and self._in_use(digest) is None:
            raise no_blob(digest)

    def _in_use(self, digest: str) -> Seen | None:
        """What the bucket has, marked as used unless this process did so lately."""
        self._check()
        there = self.bucket.head(_key(digest)) if self._remembered(digest) else self._marked(digest)
        if there is None:
            self._used.pop(digest, None)
        elif not self._remembered(digest):
            self._remember(digest, there.size)
        return there

    def _marked(self, digest: str) -> Seen | None:
        """Leave a mark, and see whether the blob is there after that. One mark an hour and blob, never written again when it is old."""
        place(digest)
        self.bucket.put(f"used/{int(time.time()) // 3600}/{digest}", b"")
        return self._settled(digest)

    def _settled(self, digest: str) -> Seen | None:
        """What is there of a blob that was just written or marked, once no sweep has it in hand."""
        pause = 0.02
        while any(digest in self._note(note.key) for note in self._notes()):
            time.sleep(pause)
            pause = min(pause * 2, 1.0)
        return self.bucket.head(_key(digest))

    def _notes(self) -> list[Seen]:
        """What sweeps that live have in hand."""
        notes = list(self.bucket.list("collecting/"))
        if not notes:
            return []
        since = self._now() - dt.timedelta(seconds=_NOTE_S)
        return [note for note in notes if note.changed > since]

    def _note(self, key: str) -> list[str]:
        return json.loads(self.bucket.get(key) or b"[]")

    def _remembered(self, digest: str) -> bool:
        since = self._used.get(digest)
        return since is not None and time.monotonic() - since[0] < self._remembers_s

    def _remember(self, digest: str, size: int) -> None:
        if len(self._used) >= _REMEMBERED:
            for old in list(self._used)[: _REMEMBERED // 2]:
                self._used.pop(old, None)
        self._used.pop(digest, None)  # so that the dictionary is ordered by time
        self._used[digest] = (time.monotonic(), size)

    # ── going through all ────────────────────────────────────────────────────────────────────────────────────────

    def listing(self, *, min_age_s: float = 0) -> Iterator[tuple[str, int]]:
        """(digest, bytes) of every blob that nobody stored or used for at least `min_age_s` seconds, by the server's clock."""
        self._check()
        marks = self._marks() if min_age_s else {}
        now = self._now() if min_age_s else None
        for seen in self.bucket.list("blobs/"):
            digest = "".join(seen.key.split("/")[-2:])
            if now is None or self._aged(now, max(seen.changed, marks.get(digest, seen.changed)), min_age_s):
                yield digest, seen.size

    def peek(self, digest: str) -> tuple[BinaryIO, int] | None:
        """The bytes as an open file, and how many, without marking them as in use; None where they are not there."""
        opened = self.cache.peek(digest)
        if opened is None and (found := self.stored(digest)) is not None:
            opened = cast(BinaryIO, found), found.size
        return opened

    def stored(self, digest: str) -> ObjectFile | None:
        """What the bucket itself has, whatever copies there are, without marking it as in use; None where there is nothing."""
        return self.bucket.open(_key(digest))

    def delete(self, digest: str) -> int:
        """Remove a blob; returns the bytes freed."""
        self._check()
        there = self.bucket.head(_key(digest))
        if there is not None:
            self.bucket.delete([_key(digest)])
        self._forget(digest)
        return 0 if there is None else there.size

    def delete_aged(self, digests: Iterable[str], *, min_age_s: float) -> dict[str, int]:
        """Remove the blobs that nobody stored or used in the last `min_age_s` seconds; returns the bytes freed by each that went.

        A writer that stores the same bytes again meanwhile, or asks for them, is not told that they are there until they are there to
        stay: see the top of this file.
        """
        self._check()
        freed: dict[str, int] = {}
        left = iter(sorted(digests))
        with ThreadPoolExecutor(self.at_once, "treadle-sweep") as pool:
            while batch := list(islice(left, _BATCH)):
                freed |= self._sweep_batch(batch, min_age_s, pool)
        for digest in freed:
            self._forget(digest)
        return freed

    def _sweep_batch(self, batch: list[str], min_age_s: float, pool: ThreadPoolExecutor) -> dict[str, int]:
        note, began = f"collecting/{secrets.token_hex(8)}", time.monotonic()
        self.bucket.put(note, json.dumps(batch).encode())
        try:
            now = self.bucket.head(note)
            marks = self._marks()
            seen = [s for s in pool.map(self.bucket.head, [_key(d) for d in batch]) if s is not None]
            old: dict[str, int] = {}
            for one in seen:
                digest = "".join(one.key.split("/")[-2:])
                if now is not None and self._aged(now.changed, max(one.changed, marks.get(digest, one.changed)), min_age_s):
                    old[digest] = one.size
            if not old or time.monotonic() - began > _HASTE_S:
                return {}
            self.bucket.delete([_key(d) for d in old])
            return old
        finally:
            self.bucket.delete([note])

    def sweep(self) -> int:
        """Remove old marks, notes of sweeps that died, and what writers that died have left on the local disk; returns the bytes freed."""
        self._check()
        now = self._now()
        old = [s for s in self.bucket.list("used/") if s.changed < now - _MARKS_KEPT]
        old += [s for prefix in ("collecting/", "probe/") for s in self.bucket.list(prefix) if s.changed < now - dt.timedelta(hours=1)]
        while old:
            batch, old = old[:1000], old[1000:]
            self.bucket.delete([s.key for s in batch])
        return self.cache.sweep()

    def maintenance(self, purpose: str) -> contextlib.AbstractContextManager[None]:
        """Keep garbage collection, backup and moving apart. Raises `busy`."""
        return maintenance(self.root, purpose)

    def probe(self) -> tuple[float, float]:
        """Write, read and remove an object; (seconds that it took, seconds that this machine's clock is ahead of the server's).

        Raises:
            TreadleError: `unavailable`; `corrupt` where something else came back.
        """
        key, content, began = f"probe/{secrets.token_hex(8)}", secrets.token_bytes(64), time.monotonic()
        self.bucket.put(key, content)
        wrote = dt.datetime.now(dt.UTC)
        seen, back = self.bucket.head(key), self.bucket.get(key)
        self.bucket.delete([key])
        if back != content or seen is None or self.bucket.get(key) is not None:
            raise TreadleError(
                f"{self.bucket.address.place} does not give back what was just written, or keeps what was just removed.",
                remedy="Use object storage in which a write is seen by every read that follows it, as in S3.",
                code="corrupt",
            )
        return time.monotonic() - began, (wrote - seen.changed).total_seconds()

    def _now(self) -> dt.datetime:
        """The server's clock: what time a fresh object has."""
        key = f"probe/{secrets.token_hex(8)}"
        self.bucket.put(key, b"")
        seen = self.bucket.head(key)
        self.bucket.delete([key])
        return dt.datetime.now(dt.UTC) if seen is None else seen.changed

    def _marks(self) -> dict[str, dt.datetime]:
        """When blobs were last used again, of those that were."""
        marks: dict[str, dt.datetime] = {}
        for seen in self.bucket.list("used/"):
            digest = seen.key.rpartition("/")[2]
            marks[digest] = max(seen.changed, marks.get(digest, seen.changed))
        return marks

    def _aged(self, now: dt.datetime, last: dt.datetime, min_age_s: float) -> bool:
        """Whether a last use is old. Both times are cut to the second, so one second more must lie between them."""
        return not min_age_s or (now - last).total_seconds() >= min_age_s + self._remembers_s + 1

    # ── the local copies ─────────────────────────────────────────────────────────────────────────────────────────

    def _copy(self, content: bytes) -> None:
        """Keep a copy, where the local disk has room: without one the next read asks the bucket, and nothing else is worse."""
        try:
            self.cache.put(content)
        except TreadleError as error:
            if error.code != "storage_full":
                raise
            return
        self._trim(len(content))

    def _trim(self, added: int) -> None:
        """Let the copies that were used least lately go, once an eighth of the limit has come in."""
        self._added += added
        if self._added <= self._limit // 8:
            return
        self._added = 0
        copies: list[tuple[float, int, Path]] = []
        for file in self.cache.root.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                copies.append((stat.st_mtime, stat.st_size, file))
        total, before = sum(size for _, size, _ in copies), time.time() - _PINNED
        for used, size, file in sorted(copies):
            if total <= self._limit - self._limit // 4 or used > before:
                break
            file.unlink(missing_ok=True)
            total -= size

    def _forget(self, digest: str) -> None:
        self._used.pop(digest, None)
        self.cache.delete(digest)

    def _corrupt(self, digest: str) -> TreadleError:
        where = f"{self.bucket.address.place}/{_key(digest)}"
        return TreadleError(
            f"Blob {digest} is corrupt: its content in the bucket no longer matches its digest.",
            remedy=f"Restore it from a backup, or remove it and run the step that made it again: {where}",
            code="corrupt",
        )


class ObjectWriter:
    """Bytes on their way into the bucket, on the local disk until they are committed."""

    def __init__(self, blobs: ObjectBlobs, spool: BlobWriter):
        self._blobs, self._spool = blobs, spool

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._spool.size

    def write(self, chunk: Any) -> None:
        """Append bytes."""
        self._spool.write(chunk)

    def commit(self) -> str:
        """Send what was written; returns its digest once the bucket has all of it."""
        digest = self._spool.commit()
        self._blobs._keep(digest, self._spool.size)  # noqa: SLF001  (one class in two halves)
        return digest


def _key(digest: str) -> str:
    return f"blobs/{place(digest)}"
