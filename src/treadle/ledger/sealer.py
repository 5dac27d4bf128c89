"""Gives events their order: a sequence number without gaps, and a hash over the one before.

Writers never queue behind the chain: they commit their events unsealed, and one sealer at a time gives places to what waits, in
one transaction. The hash covers everything of an event but its payload, for which a salted digest stands (`chain.link`). The head
is then published to a file outside the home: whoever rewrites the database, chain and all, cannot reach what was published.
"""

import os
from pathlib import Path

import msgspec

from treadle.ledger import chain
from treadle.records.clock import SystemClock
from treadle.store.db import Connection, Database
from treadle.store.queries import events as queries
from treadle.store.queries import home

_clock = SystemClock()


def seal(database: Database, *, limit: int = 1000, publish: Path | None = None) -> int:
    """Seal up to `limit` waiting events, and publish the new head; returns how many were sealed. Safe wherever several do it."""
    with database.read() as connection:
        if not queries.any_unsealed(connection):
            return 0
    with database.alone("seal"):
        sealed, head = database.write(lambda tx: _seal(tx, limit))
    if sealed and head is not None and publish is not None:
        publish_head(publish, head)
    return sealed


def seal_all(database: Database, *, publish: Path | None = None) -> int:
    """Seal until nothing waits; returns how many were sealed."""
    total = 0
    while sealed := seal(database, limit=10_000, publish=publish):
        total += sealed
    return total


def _seal(tx: Connection, limit: int) -> tuple[int, chain.Head | None]:
    waiting = queries.unsealed(tx, limit)
    if not waiting:
        return 0, None
    seq, hash = queries.last_head(tx) or (0, chain.GENESIS)
    places: list[tuple[str, str, int, str]] = []
    for event in waiting:
        seq += 1
        hash = chain.link(hash, seq, event)
        places.append((event.project, event.event_id, seq, hash))
    now = _clock.now()
    queries.seal(tx, places, now)
    return len(places), chain.Head(seq=seq, hash=hash, time=now)


def heads_path(home_id: str) -> Path:
    """Where a home's heads are published: `$TREADLE_HEADS/ID.jsonl`, or the same under `~/.local/state/treadle/heads`."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    folder = os.environ.get("TREADLE_HEADS") or f"{state}/treadle/heads"
    return Path(folder).expanduser() / f"{home_id}.jsonl"


def home_id(database: Database) -> str:
    """The id that a home got when it was made."""
    with database.read() as connection:
        return home.get_value(connection, "home_id") or ""


def carry_heads(old: Path, new: Path, database: Database) -> int:
    """Publish for a restored home the heads that the home it was copied from published up to the copy; how many events it published after.

    The copy's chain stays bound to what was published, and the two homes go separate ways from there.
    """
    with database.read() as connection:
        last, _ = queries.last_head(connection) or (0, chain.GENESIS)
    if not old.exists():
        return 0
    heads, _ = chain.published(old)
    for seq, hash in sorted(heads.items()):
        if seq <= last:
            publish_head(new, chain.Head(seq=seq, hash=hash, time=_clock.now()))
    return max(max(heads, default=0) - last, 0)


def publish_head(path: Path, head: chain.Head) -> None:
    """Append a head to the file and have it on disk. A line is written in one go, so several sealers may publish."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, msgspec.json.encode(head) + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
