"""Proves the log: walks the chain from its first event and compares it with itself and with what was published.

Found are events that were edited, removed, moved or put in between, payloads that no longer match, payloads gone without an
erasure on record, and a chain that is shorter than, or different from, a published head. What happened after the last published
head can be rewritten by whoever owns the database; how many events wait unsealed, and since when, is part of the report.
"""

import datetime as dt
from pathlib import Path

from treadle.ledger import chain
from treadle.records.clock import SystemClock
from treadle.records.ledger import AuditReport
from treadle.store.db import Connection, Database
from treadle.store.queries import events as queries

#: Problems told one by one; beyond it, their number.
_TOLD = 50


def verify(database: Database, heads: Path | None = None) -> AuditReport:
    """Walk the whole chain in one snapshot. `heads` is the file of published heads, None to leave that out."""
    with database.read() as connection:
        return check(connection, heads, now=SystemClock().now())


def check(connection: Connection, heads: Path | None, *, now: dt.datetime) -> AuditReport:
    """The same on a connection; `now` is what the unsealed tail's age is measured against."""
    published, problems = chain.published(heads) if heads is not None and heads.exists() else ({}, [])
    head = queries.last_head(connection)
    erasures = queries.erasures(connection)
    expected = dict(published)
    if head is not None:
        expected.setdefault(*head)
        if expected[head[0]] != head[1]:
            problems.append(f"the chain's head at event {head[0]} is not the one that was published")
    seq, hash, erased = 0, chain.GENESIS, 0
    for event in queries.chain(connection):
        if event.seq != seq + 1:
            problems.append(_removed(seq + 1, event.seq - 1))
        linked = chain.link(hash, event.seq, event)
        if event.hash != linked and event.seq == seq + 1:
            problems.append(f"event {event.seq} ({event.event_id}, {event.type}) was edited, moved or put in")
        if event.payload is None or event.salt is None:
            erased += 1
            if (event.project, f"event/{event.event_id}") not in erasures:
                problems.append(f"the payload of event {event.seq} ({event.event_id}) is gone and no event tells of its erasure")
        elif not chain.payload_fits(event.salt, event.payload, event.payload_digest):
            problems.append(f"the payload of event {event.seq} ({event.event_id}) was edited")
        if expected.pop(event.seq, event.hash) != event.hash:
            problems.append(f"event {event.seq} is not the one that was published as the head: the chain was rewritten")
        seq, hash = event.seq, event.hash or ""
    if expected:
        problems.append(f"{_removed(seq + 1, max(expected))}: the chain ends before its published head")
    waiting, since = queries.unsealed_tail(connection)
    if len(problems) > _TOLD:
        problems = [*problems[:_TOLD], f"and {len(problems) - _TOLD} more"]
    return AuditReport(
        intact=not problems,
        sealed=seq,
        unsealed=waiting,
        unsealed_seconds=0.0 if since is None else max(0.0, (now - since).total_seconds()),
        erased=erased,
        head_seq=seq,
        head_hash=hash,
        published_seq=max(published, default=None),
        problems=problems,
    )


def _removed(first: int, last: int) -> str:
    return f"event {first} was removed" if first == last else f"events {first} to {last} were removed"
