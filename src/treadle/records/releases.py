"""Records of releases."""

import datetime as dt
from typing import Any

from msgspec import Struct

from treadle.records.definitions import Canary
from treadle.records.states import ReleaseState


class Block(Struct, frozen=True, kw_only=True):
    """Paired outcomes of one block: `difference` is mean(challenger loss - champion loss), positive = challenger worse."""

    start: dt.datetime
    rows: int
    difference: float
    scale: float = 1.0  # how far apart the variants' scores are (root mean square): the size of difference to expect, outcomes unseen


class Evidence(Struct, frozen=True, kw_only=True):
    """What a release has seen: blocks in order of time, those of today not yet closed left out."""

    blocks: tuple[Block, ...] = ()
    acknowledged: bool = False  # every live gateway worker serves the release's generation
    error: str = ""  # what a live worker said when it could not load the release's generation
    complete_until: dt.datetime | None = None  # outcomes of predictions before this moment are all in


class Release(Struct, frozen=True, kw_only=True):
    """The movement of an endpoint from one model version to another. `strategy` is None for a direct switch."""

    project: str
    environment: str
    release_id: str
    endpoint: str
    model: str
    from_version: int | None
    to_version: int
    strategy: Canary | None
    state: ReleaseState
    generation: int
    actor: str
    started: dt.datetime  # business time
    ended: dt.datetime | None = None
    verdict: str = ""
    reason: str = ""
    facts: dict[str, Any] = {}  # e-values, blocks
    approval_id: str | None = None
