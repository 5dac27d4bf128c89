"""Garbage collection by reachability: what no row refers to, and no blob that a row refers to, is swept.

*Mark*: every digest that stands anywhere in a row of the graph, and, from there on, in the content of reached blobs (the manifest of
a bundle or code snapshot lists its files). Marking errs on the side of keeping: whatever looks like a digest counts.

*Sweep*: blobs that were neither marked nor written or read within `min_age_s`, which must be longer than any writer takes from
storing a blob to committing the row that refers to it.
"""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from treadle.operations.ledger import GarbageReport
from treadle.plugins.storage import BlobStore, CollectableBlobs
from treadle.records.clock import SystemClock
from treadle.records.errors import TreadleError
from treadle.store.db import Connection, Database
from treadle.store.queries import files, home

#: A blob that is no JSON object is searched for digests up to this size, in bytes: manifests and small records, not models or tables.
_SEARCHED = 1 << 18
_PIECE = 1 << 20
_OVERLAP = 65
#: An upload in parts that is not completed within this time is forgotten, and its parts are garbage.
UPLOADS_KEPT = dt.timedelta(days=7)


def reachable(connection: Connection, blobs: CollectableBlobs) -> set[str]:
    """Digests of all blobs that are there and that the graph reaches."""
    found = set(home.referred(connection))
    there = {digest for digest, _ in blobs.listing()}  # after the rows: what they refer to was stored before them

    def look(digest: str) -> set[str]:
        opened = blobs.peek(digest)
        if opened is None:
            return set()
        with opened[0]:
            return digests_in(*opened)

    marked: set[str] = set()
    with ThreadPoolExecutor(blobs.at_once, "treadle-mark") as pool:
        while wave := (found & there) - marked:
            marked |= wave
            found = set().union(*pool.map(look, wave))
    return marked


def digests_in(file: BinaryIO, size: int) -> set[str]:
    """What reads like a digest in content that is a JSON object, or small; read in pieces, whatever its size."""
    found: set[str] = set()
    held = file.read(_PIECE)
    if not held.startswith(b"{") and size > _SEARCHED:
        return found
    while held:
        found.update(home.DIGEST.findall(held.decode("latin-1")))
        more = file.read(_PIECE)
        held = held[-_OVERLAP:] + more if more else b""
    return found


def collect(database: Database, blobs: BlobStore, *, dry_run: bool, min_age_s: float) -> GarbageReport:
    """Sweep, or with `dry_run` say what would be swept. Repeatable: running it again removes what is left.

    Nobody waits for it: what is reachable is read from one snapshot. A row that is written meanwhile refers to a blob that was just
    stored or looked for, which makes it young.
    """
    if not isinstance(blobs, CollectableBlobs):
        raise TreadleError("This blob store cannot be listed.", remedy="Use the store's own life-cycle rules.", code="not_implemented")
    with blobs.maintenance("collecting garbage"):
        if not dry_run:
            database.write(lambda tx: files.forget_uploads(tx, SystemClock().now() - UPLOADS_KEPT))
        with database.read() as connection:
            kept = reachable(connection, blobs)
        swept = [(d, size) for d, size in blobs.listing(min_age_s=min_age_s) if d not in kept]
        if not dry_run:
            swept = list(blobs.delete_aged([d for d, _ in swept], min_age_s=min_age_s).items())
            blobs.sweep()
    return GarbageReport(
        dry_run=dry_run,
        kept=len(kept),
        removed=len(swept),
        freed_bytes=sum(size for _, size in swept),
        digests=[d for d, _ in swept[:1000]],
    )
