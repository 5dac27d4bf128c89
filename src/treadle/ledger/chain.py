"""The chain's arithmetic: hash of an event's place, and the published heads. Pure but for reading one file."""

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from treadle.records.clock import micros
from treadle.records.digests import canonical, digest

#: What stands before the first event.
GENESIS = "0" * 64


class Head(Struct, frozen=True, kw_only=True):
    """A place in the chain and the hash there, as published."""

    seq: int
    hash: str
    time: dt.datetime


def link(before: str, seq: int, event: Any) -> str:
    """The hash at `seq`: BLAKE3 of the hash before and the canonical JSON of the event's place and facts.

    `event` is anything with an event's fields; its payload stands for itself by `payload_digest`.
    """
    facts = [
        seq,
        event.event_id,
        event.project,
        event.environment,
        event.type,
        event.subject,
        event.actor,
        micros(event.event_time),
        micros(event.recorded_time),
        event.payload_digest,
    ]
    return digest(before.encode() + canonical(facts))


def payload_fits(salt: str, payload: str, payload_digest: str) -> bool:
    """Whether a stored payload is the one that the chain stands on."""
    return digest(salt.encode() + payload.encode()) == payload_digest


def published(path: Path) -> tuple[dict[int, str], list[str]]:
    """(hash by sequence number, problems) of a file of published heads. A line cut short by a crash is passed over if it is the last."""
    heads: dict[int, str] = {}
    problems: list[str] = []
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            head = msgspec.json.decode(line, type=Head)
        except (msgspec.ValidationError, msgspec.DecodeError):
            if number < len(lines):
                problems.append(f"line {number} of the published heads cannot be read")
            continue
        if heads.setdefault(head.seq, head.hash) != head.hash:
            problems.append(f"two different heads were published for event {head.seq}")
    return heads, problems
