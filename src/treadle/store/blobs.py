"""Content-addressed blobs on the local disk: temporary name, fsync, rename, fsync of the folder."""

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from blake3 import blake3

from treadle.plugins.storage import BlobStore
from treadle.records.digests import digest as digest_of_bytes
from treadle.records.errors import TreadleError

T = TypeVar("T")

_CHUNK = 1 << 20
#: Half-written files that nobody has touched for so long, in seconds, were left by a process that died.
_ABANDONED = 24 * 3600.0


class BlobWriter:
    """Bytes on their way to become a blob, hashed as they come. Until `commit` nothing has their name, and without it nothing stays."""

    def __init__(self, file: BinaryIO, keep: Callable[[str], None]):
        self._file, self._keep, self._hasher = file, keep, blake3()
        self.size = 0
        self.digest = ""

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        self._hasher.update(chunk)
        self._file.write(chunk)
        self.size += len(chunk)

    def commit(self) -> str:
        """Make a blob of what was written, durably; returns its digest. Writing more is an error."""
        self.digest = self._hasher.hexdigest()
        self._keep(self.digest)
        self._file.close()
        return self.digest


class LocalBlobs:
    """Blobs under `root/ab/cdef…`. A file that is there is complete: it got its name only after its bytes were on disk.

    Args:
        root: the folder; made where it is not there.
        durable: whether a blob is on disk before its digest is told. What is only a copy of something need not be, and is written
            anew each time: its bytes are about to be sent somewhere, and an older copy may have gone bad.
    """

    at_once = 1

    def __init__(self, root: Path, *, durable: bool = True):
        self.root, self._durable = root, durable
        (root / "tmp").mkdir(parents=True, exist_ok=True)

    def put(self, content: bytes) -> str:
        """Store bytes durably; returns their digest."""
        digest = digest_of_bytes(content)
        if not self._durable or not self._touched(digest):
            with self._temporary() as (path, file):
                file.write(content)
                self._keep(path, file, digest)
        return digest

    def put_file(self, path: Path) -> str:
        """Store a file's content durably; returns its digest. The file is copied while it is hashed, in one pass."""
        return from_file(self, path)

    @contextlib.contextmanager
    def open_write(self) -> Iterator[BlobWriter]:
        """Store bytes that come in pieces: `with blobs.open_write() as writer: writer.write(…); digest = writer.commit()`.

        Raises:
            TreadleError: `storage_full`, from whatever in the block met the full disk.
        """

        def keep(digest: str) -> None:
            if not self._durable or not self._touched(digest):
                self._keep(path, file, digest)

        with self._temporary() as (path, file):
            yield BlobWriter(file, keep)

    def open_read(self, digest: str) -> BinaryIO:
        """The bytes as an open file, not verified: whoever reads all of it can. Garbage collection does not take it from the reader.

        Raises:
            TreadleError: `not_found`.
        """
        path = self._existing(digest)
        return _back(lambda: path.open("rb"))

    def size(self, digest: str) -> int | None:
        """Bytes of a blob, None where it is not there. It counts as in use from now: whoever asks is about to refer to it."""
        return _back(self.place(digest).stat).st_size if self._touched(digest) else None

    def get(self, digest: str) -> bytes:
        """The bytes, verified.

        Raises:
            TreadleError: `not_found`, or `corrupt` where the content no longer matches.
        """
        content = _back(self._existing(digest).read_bytes)
        if digest_of_bytes(content) != digest:
            raise self._corrupt(digest)
        return content

    def path(self, digest: str) -> Path:
        """The file, verified. Raises like `get`."""
        path = self._existing(digest)
        if digest_of_file(_back(lambda: path.open("rb"))) != digest:
            raise self._corrupt(digest)
        return path

    def exists(self, digest: str) -> bool:
        """Whether a blob is there (not whether it is intact). It counts as in use from now: whoever asks is about to refer to it."""
        return self._touched(digest)

    def delete(self, digest: str) -> int:
        """Remove a blob; returns the bytes freed."""
        path = self.place(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def delete_aged(self, digests: Iterable[str], *, min_age_s: float) -> dict[str, int]:
        """Remove the blobs that nobody wrote or read in the last `min_age_s` seconds; returns the bytes freed by each that went.

        A writer that stores the same bytes again either touches the file before it is moved away here, and gets it back, or finds none
        and writes it anew. What is young is not moved at all, so that readers find it where it is.
        """
        freed: dict[str, int] = {}
        for digest in digests:
            path, aside = self.place(digest), self.root / "tmp" / secrets.token_hex(8)
            try:
                if path.stat().st_mtime > time.time() - min_age_s:
                    continue
                path.rename(aside)
            except FileNotFoundError:
                continue
            stat = aside.stat()
            if stat.st_mtime > time.time() - min_age_s:  # somebody came between the look and the move
                aside.rename(path)
                continue
            aside.unlink()
            freed[digest] = stat.st_size
        return freed

    def peek(self, digest: str) -> tuple[BinaryIO, int] | None:
        """The bytes as an open file, and how many, without marking them as in use; None where they are not there."""
        path = self.place(digest)
        try:
            file = _back(lambda: path.open("rb"))
        except FileNotFoundError:
            return None
        return file, os.fstat(file.fileno()).st_size

    def maintenance(self, purpose: str) -> contextlib.AbstractContextManager[None]:
        """Keep garbage collection and backup apart: one of them at a time on these blobs.

        Raises:
            TreadleError: `busy`.
        """
        return maintenance(self.root, purpose)

    def listing(self, *, min_age_s: float = 0) -> Iterator[tuple[str, int]]:
        """(digest, bytes) of every blob that was written at least `min_age_s` seconds ago."""
        limit = time.time() - min_age_s
        for folder in sorted(self.root.iterdir()):
            if len(folder.name) == 2:
                for file in sorted(folder.iterdir()):
                    stat = file.stat()
                    if stat.st_mtime <= limit:
                        yield folder.name + file.name, stat.st_size

    def sweep(self, *, min_age_s: float = _ABANDONED) -> int:
        """Remove what writers that died have left half-written; returns the bytes freed."""
        freed = 0
        for file in (self.root / "tmp").iterdir():
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                if file.suffix != ".lock" and stat.st_mtime <= time.time() - min_age_s:
                    file.unlink()
                    freed += stat.st_size
        return freed

    def place(self, digest: str) -> Path:
        """Where a blob's file is or would be."""
        return self.root / place(digest)

    def _touched(self, digest: str) -> bool:
        """Whether the blob is there, marked as in use: garbage collection leaves young files alone."""
        try:
            os.utime(self.place(digest))
        except FileNotFoundError:
            return False
        return True

    def _existing(self, digest: str) -> Path:
        if not self._touched(digest):
            raise no_blob(digest)
        return self.place(digest)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        path = self.root / "tmp" / secrets.token_hex(8)
        try:
            with path.open("xb") as file:
                yield path, file
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise TreadleError(
                    "The disk is full; the blob was not written and nothing refers to it.",
                    remedy="Free space on the disk that holds the home, then repeat the call: treadle gc --dry-run",
                    code="storage_full",
                ) from error
            raise
        finally:
            path.unlink(missing_ok=True)

    def _keep(self, path: Path, file: BinaryIO, digest: str) -> None:
        file.flush()
        if self._durable:
            os.fsync(file.fileno())
        target = self.place(digest)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
        if not self._durable:
            return
        sync(target.parent)

    def _corrupt(self, digest: str) -> TreadleError:
        return TreadleError(
            f"Blob {digest} is corrupt: its content no longer matches its digest.",
            remedy=f"Restore it from a backup, or delete it and run the step that made it again: rm {self.place(digest)}",
            code="corrupt",
        )


def place(digest: str) -> str:
    """Where a blob is within its store: `ab/cdef…`.

    Raises:
        TreadleError: for what is no digest.
    """
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise TreadleError(f"{digest[:80]!r} is no digest.", remedy="A digest is 64 lower-case hexadecimal characters.")
    return f"{digest[:2]}/{digest[2:]}"


class Readable(Protocol):
    """An open file, here or in a bucket."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        ...

    def close(self) -> None:
        """Read no more."""
        ...


def from_file(blobs: BlobStore, path: Path) -> str:
    """Store a file's content in one pass; returns its digest."""
    with path.open("rb") as source, blobs.open_write() as writer:
        while chunk := source.read(_CHUNK):
            writer.write(chunk)
        return writer.commit()


def digest_of_file(file: Readable) -> str:
    """The digest of what is left to be read of an open file, which is closed."""
    hasher = blake3()
    with contextlib.closing(file):
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def no_blob(digest: str) -> TreadleError:
    """The error of a blob that is not there."""
    return TreadleError(
        f"There is no blob {digest}.",
        remedy="It may have been collected; run the step again: treadle run PIPELINE --no-cache",
        code="not_found",
    )


@contextlib.contextmanager
def maintenance(root: Path, purpose: str) -> Iterator[None]:
    """Hold the lock of those who go through all blobs of a home.

    Raises:
        TreadleError: `busy`.
    """
    (root / "tmp").mkdir(parents=True, exist_ok=True)
    file = os.open(root / "tmp" / "maintenance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TreadleError(
                f"Another process is collecting garbage, making a backup or moving the blobs, so {purpose} has to wait.",
                remedy="Try again when it is done.",
                code="busy",
            ) from error
        yield
    finally:
        os.close(file)


def _back(look: Callable[[], T]) -> T:
    """Look at a blob: garbage collection may have it in hand for a moment, and puts it back where somebody has just touched it."""
    for pause in (0.001, 0.002, 0.004, 0.008, 0.016):
        try:
            return look()
        except FileNotFoundError:
            time.sleep(pause)
    return look()
