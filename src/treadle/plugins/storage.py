"""The waist of blob storage."""

from pathlib import Path
from typing import Protocol


class BlobStore(Protocol):
    """Immutable bytes under their BLAKE3 digest.

    What `put` and `put_file` return is durable. Reading checks the digest and raises `TreadleError(code="corrupt")` where it does
    not match, `not_found` where there is none.
    """

    def put(self, content: bytes) -> str:
        """Store bytes; returns the digest. Storing the same bytes again costs nothing."""
        ...

    def put_file(self, path: Path) -> str:
        """Store a file's content; returns the digest."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes."""
        ...

    def path(self, digest: str) -> Path:
        """A verified local file with the content, read-only; valid until garbage collection."""
        ...

    def exists(self, digest: str) -> bool:
        """Whether it is there."""
        ...

    def size(self, digest: str) -> int | None:
        """Its bytes, None where it is not there; it counts as in use from now on."""
        ...

    def delete(self, digest: str) -> int:
        """Remove it; returns the bytes freed (0 where there was none)."""
        ...
