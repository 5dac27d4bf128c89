"""Backing up a home and bringing it back, as the command line calls it."""

from pathlib import Path
from typing import Any

import msgspec

from treadle.records.layout import Layout
from treadle.store import backup as store
from treadle.workshop.home import Workshop


def backup(workshop: Workshop, target: Path, *, with_blobs: bool = True) -> dict[str, Any]:
    """Copy a live home to `target`; what was copied, in figures. Without blobs, it says in which bucket they are."""
    return _plain(store.backup(workshop.layout, workshop.database, workshop.blobs, target, with_blobs=with_blobs))


def restore(source: Path, layout: Layout) -> dict[str, Any]:
    """Make a home from a copy; refused where the home is not empty."""
    return _plain(store.restore(source, layout))


def _plain(told: Any) -> dict[str, Any]:
    plain = msgspec.to_builtins(told, enc_hook=str)
    return plain if isinstance(plain, dict) else {}
