"""Where a home's blobs are: on its own disk, or in a bucket, as `blobs.url` in the home says; and moving them.

A home is told once (`--blobs`, TREADLE_BLOBS). Told otherwise later, it refuses: it would not find what it has. `move` copies every blob,
reads it back, and only then lets the home point elsewhere; one that was interrupted goes on where it was.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from blake3 import blake3

from treadle.plugins.storage import CollectableBlobs
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.store.blobs import LocalBlobs, digest_of_file, sync
from treadle.store.bucket import Address, address
from treadle.store.objects import CACHE_BYTES, ObjectBlobs
from treadle.workshop.supervisor import living

LOCAL = "local"
_CHUNK = 1 << 20
_WHERE = "See: treadle blobs where"


def open_blobs(layout: Layout, told: str | None, home_id: str) -> CollectableBlobs:
    """A home's blobs, where it is told that they are, or where it was told before.

    Raises:
        TreadleError: `conflict` where they are elsewhere; `unavailable` where a new home cannot use the bucket.
    """
    told = told or os.environ.get("TREADLE_BLOBS") or None
    wrong = mismatch(layout, told)
    if wrong is not None:
        raise wrong
    kept = kept_address(layout)
    if kept is not None:
        return _bucket(layout, kept, home_id)
    if told is None or told == LOCAL:
        return LocalBlobs(layout.blobs)
    opened = _bucket(layout, address(told), home_id)
    opened.claim()
    _keep(layout, opened)
    return opened


def mismatch(layout: Layout, told: str | None) -> TreadleError | None:
    """The error of a home whose blobs are elsewhere than one says."""
    kept, wanted = kept_address(layout), None if told is None or told == LOCAL else address(told)
    if told is None or (kept is None and wanted is None):
        return None
    if kept is not None:
        same = wanted is not None and wanted.place == kept.place and wanted.endpoint in ("", kept.endpoint)
        there = "" if same else f"in {kept}"
    else:
        there = "on its own disk" if next(LocalBlobs(layout.blobs).listing(), None) is not None else ""
    if not there:
        return None
    return TreadleError(
        f"The blobs of this home are not in {told}: they are {there}.",
        remedy=f"Leave out --blobs and TREADLE_BLOBS, or move them: treadle blobs move --to {told}",
        code="conflict",
    )


def kept_address(layout: Layout) -> Address | None:
    """The bucket of a home, None where its blobs are on its own disk."""
    return address(layout.blobs_url.read_text().strip()) if layout.blobs_url.exists() else None


def there(layout: Layout) -> str:
    """Where a home's blobs are, as `open_home` takes it, whatever TREADLE_BLOBS says of where they shall be."""
    return str(kept_address(layout) or LOCAL)


def _bucket(layout: Layout, where: Address, home_id: str) -> ObjectBlobs:
    told = os.environ.get("TREADLE_BLOB_CACHE", "")
    if told and not told.isdigit():
        raise TreadleError(f"TREADLE_BLOB_CACHE={told[:80]!r} is no number of bytes.", remedy="Write bytes: TREADLE_BLOB_CACHE=2000000000")
    return ObjectBlobs(layout.blobs, where, home_id=home_id, cache_bytes=int(told) if told else CACHE_BYTES)


def _keep(layout: Layout, blobs: ObjectBlobs) -> None:
    """Write down where the blobs are: bucket, prefix and the way there, nothing secret."""
    fresh = layout.blobs_url.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(f"{blobs.bucket.address}\n")
    sync(fresh)
    fresh.replace(layout.blobs_url)
    sync(layout.root)


def where(layout: Layout, blobs: CollectableBlobs) -> dict[str, Any]:
    """Where the blobs are, how many, and what copies take here."""
    sizes = [size for _, size in blobs.listing()]
    told: dict[str, Any] = {"place": LOCAL, "blobs": len(sizes), "bytes": sum(sizes)}
    if isinstance(blobs, ObjectBlobs):
        copies = sum(size for _, size in blobs.cache.listing())
        told |= {"place": str(blobs.bucket.address), "copies_bytes": copies}
    return told


def move(
    layout: Layout, blobs: CollectableBlobs, to: str, home_id: str, *, keep: bool = False, tell: Callable[[str], None] = print
) -> dict[str, Any]:
    """Copy all blobs to another place, verify each there, and let the home use it; then remove them where they were.

    Args:
        to: `s3://BUCKET/PREFIX`, or `local`.
        keep: leave the blobs where they were, too.
        tell: told of progress, in words.

    Raises:
        TreadleError: `busy` while a process runs on the home, `conflict` where they are there already or the place is another home's,
            `corrupt` for a blob that is not what its name says. The home is as it was then, and asking again goes on from there.
    """
    blobs, target = _ends(layout, blobs, to, home_id)
    running = living(layout)
    if running:
        raise TreadleError(
            f"{', '.join(note.name for note in running)} runs on this home, and would go on using the old place.",
            remedy=f"Stop it first: kill {running[0].pid}",
            code="busy",
        )
    with blobs.maintenance("moving the blobs"):
        there = dict(target.listing())
        all_of_them = list(blobs.listing())
        wanted = [(digest, size) for digest, size in all_of_them if there.get(digest) != size]
        tell(f"{len(all_of_them):,} blobs, {len(all_of_them) - len(wanted):,} of them there already.")
        with ThreadPoolExecutor(8, "treadle-move") as pool:
            for done, _ in enumerate(pool.map(lambda one: _carry(blobs, target, one[0]), wanted), 1):
                if done % 1000 == 0:
                    tell(f"{done:,} of {len(wanted):,} copied.")
            tell("Reading them back.")
            for _ in pool.map(lambda one: _verify(target, one[0]), all_of_them):
                pass
        if isinstance(target, ObjectBlobs):
            _keep(layout, target)
        else:
            layout.blobs_url.unlink(missing_ok=True)
            sync(layout.root)
        if not keep:
            for digest, _ in all_of_them:
                blobs.delete(digest)
            if isinstance(blobs, ObjectBlobs):
                blobs.leave()
    return {"place": to, "blobs": len(all_of_them), "copied": len(wanted), "bytes": sum(size for _, size in all_of_them), "kept": keep}


def _ends(layout: Layout, blobs: CollectableBlobs, to: str, home_id: str) -> tuple[CollectableBlobs, CollectableBlobs]:
    """From where to where: what a move that was interrupted after it had switched left on the disk is still to be cleared."""
    kept, wanted = kept_address(layout), None if to == LOCAL else address(to)
    if wanted is None and kept is not None:
        return blobs, LocalBlobs(layout.blobs)
    if wanted is not None and (kept is None or wanted.place != kept.place or wanted.endpoint not in ("", kept.endpoint)):
        made = _bucket(layout, wanted, home_id)
        made.claim()
        return blobs, made
    left = LocalBlobs(layout.blobs)
    if kept is not None and next(left.listing(), None) is not None:
        return left, blobs
    raise TreadleError(f"The blobs are {'on the disk' if kept is None else f'in {kept.place}'} already.", remedy=_WHERE, code="conflict")


def _carry(blobs: CollectableBlobs, target: CollectableBlobs, digest: str) -> None:
    opened = blobs.peek(digest)
    if opened is None:
        raise _lost(digest)
    with opened[0] as source, target.open_write() as writer:
        hasher = blake3()
        while chunk := source.read(_CHUNK):
            hasher.update(chunk)
            writer.write(chunk)
        if hasher.hexdigest() != digest:
            raise _lost(digest)
        writer.commit()


def _verify(target: CollectableBlobs, digest: str) -> None:
    """Read a blob back from where it is now, not from a copy here."""
    opened = target.peek(digest) if not isinstance(target, ObjectBlobs) else None
    file = target.stored(digest) if isinstance(target, ObjectBlobs) else opened and opened[0]
    if file is None:
        raise _lost(digest)
    if digest_of_file(file) != digest:
        raise _lost(digest)


def _lost(digest: str) -> TreadleError:
    return TreadleError(
        f"Blob {digest} is missing or not what its name says; nothing was moved.",
        remedy="Restore it from a backup, or delete it and run the step that made it again; then repeat the move: treadle doctor",
        code="corrupt",
    )
