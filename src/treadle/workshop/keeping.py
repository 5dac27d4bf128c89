"""Backing up a home and bringing it back, as the command line calls it."""

from pathlib import Path
from typing import Any

import msgspec

from treadle.ledger import sealer
from treadle.records.clock import SystemClock
from treadle.records.layout import Layout
from treadle.store import backup as store
from treadle.store.db import Database
from treadle.store.migrate import ensure
from treadle.workshop.home import Workshop, store_url


def backup(workshop: Workshop, target: Path, *, with_blobs: bool = True) -> dict[str, Any]:
    """Copy a live home to `target`; what was copied, in figures. Without blobs, it says in which bucket they are."""
    return _plain(store.backup(workshop.layout, workshop.database, workshop.blobs, target, with_blobs=with_blobs))


def restore(source: Path, layout: Layout, address: str | None = None) -> dict[str, Any]:
    """Make a home from a copy; refused where the home is not empty.

    Args:
        address: URL of an empty metadata database; the home's own SQLite file where None.
    """
    if address is None:
        made = store.restore(source, layout)
    else:
        with Database.open(address) as empty:
            made = store.restore(source, layout, empty, url=address)
    with Database.open(store_url(layout)) as database:
        ensure(database)
        old, new = sealer.heads_path(made.home_id), sealer.heads_path(sealer.home_id(database))
        if old == new and old.exists():  # it goes on as the home it was copied from: what that one published since stays, beside
            old = old.rename(old.with_name(f"{old.name}.before-{SystemClock().now():%Y%m%dT%H%M%S%f}"))
        later = sealer.carry_heads(old, new, database)
    return _plain(made) | {"later_events": later}


def _plain(told: Any) -> dict[str, Any]:
    plain = msgspec.to_builtins(told, enc_hook=str)
    return plain if isinstance(plain, dict) else {}
