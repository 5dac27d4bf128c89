"""The waists of blob storage: what everybody needs, and what garbage collection and backup need besides."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable


class BlobSink(Protocol):
    """Bytes on their way to become a blob. Until `commit` returns nothing has their name, and without it nothing stays."""

    @property
    def size(self) -> int:
        """Bytes so far."""
        ...

    def write(self, chunk: Any) -> None:
        """Append bytes."""
        ...

    def commit(self) -> str:
        """Make a blob of what was written, durably; returns its digest."""
        ...


class BlobStore(Protocol):
    """Immutable bytes under their BLAKE3 digest.

    What `put`, `put_file` and a writer's `commit` return is durable. `get` and `path` check the digest and raise
    `TreadleError(code="corrupt")` where it does not match, `not_found` where there is none; a store on another machine that does not
    answer raises `unavailable`. Whatever was stored, read or asked for counts as in use from that moment: see `CollectableBlobs`.
    """

    def put(self, content: bytes) -> str:
        """Store bytes; returns the digest. Storing the same bytes again costs no space."""
        ...

    def put_file(self, path: Path) -> str:
        """Store a file's content; returns the digest."""
        ...

    def open_write(self) -> AbstractContextManager[BlobSink]:
        """Store bytes that come in pieces, none of them kept in memory."""
        ...

    def open_read(self, digest: str) -> BinaryIO:
        """The bytes as an open file that can seek, not verified: whoever reads all of it can."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes, verified."""
        ...

    def path(self, digest: str) -> Path:
        """A verified local file with the content, read-only; to be opened at once, since it may be collected or give way to others."""
        ...

    def exists(self, digest: str) -> bool:
        """Whether it is there."""
        ...

    def size(self, digest: str) -> int | None:
        """Its bytes, None where it is not there."""
        ...

    def delete(self, digest: str) -> int:
        """Remove it; returns the bytes freed (0 where there was none)."""
        ...


@runtime_checkable
class CollectableBlobs(BlobStore, Protocol):
    """A blob store that can be listed and swept.

    The promise between writers and a sweep: a blob that anybody stored, read or asked for within the last `min_age_s` seconds stays; and
    whoever is told by `put`, `exists` or `size` that a blob is there, while a sweep is at it, is told the truth.

    Attributes:
        at_once: how many blobs are best looked at side by side.
    """

    at_once: int

    def listing(self, *, min_age_s: float = 0) -> Iterator[tuple[str, int]]:
        """(digest, bytes) of every blob that was last used more than `min_age_s` seconds ago, by digest."""
        ...

    def peek(self, digest: str) -> tuple[BinaryIO, int] | None:
        """The bytes as an open file, and how many; looking does not count as use. None where it is not there."""
        ...

    def delete_aged(self, digests: Iterable[str], *, min_age_s: float) -> dict[str, int]:
        """Remove those that nobody used in the last `min_age_s` seconds; returns the bytes freed by each that went."""
        ...

    def sweep(self) -> int:
        """Remove what writers and sweepers that died have left behind; returns the bytes freed."""
        ...

    def maintenance(self, purpose: str) -> AbstractContextManager[None]:
        """Keep garbage collection, backup and moving apart: one of them at a time on a home. Raises `busy`."""
        ...
