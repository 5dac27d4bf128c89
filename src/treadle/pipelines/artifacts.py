"""Results at rest: small ones beside their journal row, larger ones in the blob store, containers as a manifest of parts.

A blob costs two fsyncs of its own; a result of a few kilobytes that stands in the row is on disk with the commit that was needed
anyway.
"""

import re
from typing import Any

import msgspec
from msgspec import Struct

from treadle.pipelines import codecs
from treadle.pipelines.handle import Handle
from treadle.plugins.storage import BlobStore
from treadle.records.digests import canonical, digest

#: Largest result that stands in its journal row, in bytes.
INLINE = 16_384
#: A result that names a blob stands in a blob itself, where garbage collection follows it.
_DIGEST = re.compile(rb"[0-9a-f]{64}")


class Saved(Struct, frozen=True):
    """Where a result is: digest and codec; its bytes, where they stand in the row."""

    digest: str
    codec: str
    content: bytes | None = None


class Artifacts:
    """Saves and loads the results of steps."""

    def __init__(self, blobs: BlobStore):
        self.blobs = blobs

    def save(self, value: Any, *, codec: str | None = None, where: str = "The result") -> tuple[Saved, Any]:
        """Save a value durably, or ready to stand in a row; returns where, and the value as further steps should see it."""
        encoded = codecs.encode(value, codec=codec, where=where)
        if encoded.parts:
            return self._save_parts(encoded), value
        saved = self._keep(encoded, inline=True)
        return saved, value if codecs.shares_memory(encoded.codec) else codecs.decode(encoded.codec, encoded.content)

    def load(self, saved: Saved) -> Any:
        """The value, verified.

        Raises:
            TreadleError: `not_found` or `corrupt`.
        """
        if saved.codec.startswith("parts:"):
            parts = {key: self.load(part) for key, part in self.parts(saved).items()}
            shape = saved.codec.removeprefix("parts:")
            return parts if shape == "dict" else (tuple if shape == "tuple" else list)(parts.values())
        if saved.content is not None:
            return codecs.decode(saved.codec, saved.content)
        if saved.codec == "arrow":
            return codecs.decode(saved.codec, self.blobs.path(saved.digest))
        return codecs.decode(saved.codec, self.blobs.get(saved.digest))

    def exists(self, saved: Saved) -> bool:
        """Whether all of it is still there."""
        if saved.content is not None:
            return True
        if not self.blobs.exists(saved.digest):
            return False
        return not saved.codec.startswith("parts:") or all(self.exists(part) for part in self.parts(saved).values())

    def parts(self, saved: Saved) -> dict[Any, Saved]:
        """Key → element of a container."""
        manifest = msgspec.json.decode(self.blobs.get(saved.digest))
        return {f["key"]: Saved(f["digest"], f["codec"]) for f in manifest["files"]}

    def handle(self, saved: Saved, path: str, *, value: Any = ...) -> Handle[Any]:
        """A handle of a result; `value` where it is at hand."""
        given = {} if value is ... else {"value": value}
        if not saved.codec.startswith("parts:"):
            return Handle(saved.digest, saved.codec, path, lambda: self.load(saved), **given)

        def parts() -> dict[Any, Handle[Any]]:
            held = {} if value is ... else (value if isinstance(value, dict) else dict(enumerate(value)))
            return {key: self.handle(p, f"{path}[{key!r}]", value=held.get(key, ...)) for key, p in self.parts(saved).items()}

        return Handle(saved.digest, saved.codec, path, lambda: self.load(saved), parts=parts, **given)

    def _keep(self, encoded: codecs.Encoded, *, inline: bool) -> Saved:
        if inline and len(encoded.content) <= INLINE and not _DIGEST.search(encoded.content):
            return Saved(digest(encoded.content), encoded.codec, encoded.content)
        return Saved(self.blobs.put(encoded.content), encoded.codec)

    def _save_parts(self, encoded: codecs.Encoded) -> Saved:
        files = []
        for key, part in encoded.parts:
            saved = self._save_parts(part) if part.parts else self._keep(part, inline=False)
            files.append({"path": str(key), "key": key, "digest": saved.digest, "size": len(part.content), "codec": saved.codec})
        return Saved(self.blobs.put(canonical({"kind": "parts", "files": files})), encoded.codec)
