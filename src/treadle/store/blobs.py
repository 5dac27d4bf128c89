"""Content-addressed blobs on the local disk: temporary name, fsync, rename, fsync of the folder."""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from treadle.records.digests import digest as digest_of_bytes
from treadle.records.errors import TreadleError

_CHUNK = 1 << 20


class LocalBlobs:
    """Blobs under `root/ab/cdef…`. A file that is there is complete: it got its name only after its bytes were on disk."""

    def __init__(self, root: Path):
        self.root = root
        (root / "tmp").mkdir(parents=True, exist_ok=True)

    def put(self, content: bytes) -> str:
        """Store bytes durably; returns their digest."""
        digest = digest_of_bytes(content)
        if not self._file(digest).exists():
            with self._temporary() as (path, file):
                file.write(content)
                self._keep(path, file, digest)
        return digest

    def put_file(self, path: Path) -> str:
        """Store a file's content durably; returns its digest. The file is copied while it is hashed, in one pass."""
        hasher = blake3()
        with path.open("rb") as source, self._temporary() as (copy, file):
            while chunk := source.read(_CHUNK):
                hasher.update(chunk)
                file.write(chunk)
            digest = hasher.hexdigest()
            if not self._file(digest).exists():
                self._keep(copy, file, digest)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes, verified.

        Raises:
            TreadleError: `not_found`, or `corrupt` where the content no longer matches.
        """
        content = self._existing(digest).read_bytes()
        if digest_of_bytes(content) != digest:
            raise self._corrupt(digest)
        return content

    def path(self, digest: str) -> Path:
        """The file, verified. Raises like `get`."""
        path = self._existing(digest)
        hasher = blake3()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
        if hasher.hexdigest() != digest:
            raise self._corrupt(digest)
        return path

    def exists(self, digest: str) -> bool:
        """Whether a blob is there (not whether it is intact)."""
        return self._file(digest).exists()

    def delete(self, digest: str) -> int:
        """Remove a blob; returns the bytes freed."""
        path = self._file(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def listing(self, *, min_age_s: float = 0) -> Iterator[tuple[str, int]]:
        """(digest, bytes) of every blob that was written at least `min_age_s` seconds ago."""
        limit = time.time() - min_age_s
        for folder in sorted(self.root.iterdir()):
            if len(folder.name) == 2:
                for file in sorted(folder.iterdir()):
                    stat = file.stat()
                    if stat.st_mtime <= limit:
                        yield folder.name + file.name, stat.st_size

    def _file(self, digest: str) -> Path:
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise TreadleError(f"{digest[:80]!r} is no digest.", remedy="A digest is 64 lower-case hexadecimal characters.")
        return self.root / digest[:2] / digest[2:]

    def _existing(self, digest: str) -> Path:
        path = self._file(digest)
        if not path.exists():
            raise TreadleError(
                f"There is no blob {digest}.",
                remedy="It may have been collected; run the step again: treadle run PIPELINE --no-cache",
                code="not_found",
            )
        os.utime(path)  # in use: garbage collection leaves young files alone
        return path

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        path = self.root / "tmp" / secrets.token_hex(8)
        try:
            with path.open("xb") as file:
                yield path, file
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
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
        os.fsync(file.fileno())
        target = self._file(digest)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _corrupt(self, digest: str) -> TreadleError:
        return TreadleError(
            f"Blob {digest} is corrupt: its content no longer matches its digest.",
            remedy=f"Restore it from a backup, or delete it and run the step that made it again: rm {self._file(digest)}",
            code="corrupt",
        )
