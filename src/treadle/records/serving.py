"""Records of the data plane: snapshots that gateways pull, acknowledgements they give, predictions they log."""

import datetime as dt
from typing import Any

from msgspec import Struct


class Variant(Struct, frozen=True, kw_only=True):
    """A model version behind an endpoint."""

    name: str  # champion | challenger
    model_version: int
    bundle_digest: str


class Split(Struct, frozen=True, kw_only=True):
    """How units are divided: a share of them goes to `challenger`; with `paired`, both variants score those units."""

    share: float = 0.0
    paired: bool = True
    salt: str = ""


class ServedEndpoint(Struct, frozen=True, kw_only=True):
    """An endpoint as a gateway needs it."""

    name: str
    model: str
    champion: Variant | None
    challenger: Variant | None = None
    split: Split = Split()
    unit: str = ""
    release_id: str | None = None


class Snapshot(Struct, frozen=True, kw_only=True):
    """Everything that a gateway of one environment serves, immutable and numbered."""

    project: str
    environment: str
    generation: int
    endpoints: tuple[ServedEndpoint, ...]
    published: dt.datetime


class Ack(Struct, frozen=True, kw_only=True):
    """A gateway worker's word about a generation."""

    worker: str
    generation: int
    state: str  # ready | error
    error: str = ""
    pid: int = 0
    time: dt.datetime | None = None


class LogEntry(Struct, frozen=True, kw_only=True, array_like=True):
    """One request as the gateway logs it (MessagePack, one array). Columns have one value a row.

    `unit` and `propensity` are per row: the randomisation unit, and the probability with which it got the variant that answered.
    `variant` per row is the one that answered; `output` its scores; `other` the scores of the paired variant where both scored,
    else None. `features` are the values read online, `feature_time` when they were as of. Times are microseconds since 1970 UTC.
    """

    status: int  # 200, or the 4xx/5xx it was answered with
    endpoint: str
    generation: int
    event_time: int
    recorded_time: int
    rows: int
    variant: list[str]
    model_version: list[int]
    unit: list[str]
    propensity: list[float]
    inputs: dict[str, list[Any]]
    features: dict[str, list[Any]]
    output: list[float | None]
    other: list[float | None]
    other_version: list[int | None]
    latency_us: int
    request_id: str = ""
    error: str = ""
    ids: list[str] = []  # the caller's own row ids, empty where it gave none


class Segment(Struct, frozen=True, kw_only=True):
    """A segment file's header."""

    segment: str
    project: str
    environment: str
    worker: str
    opened: int
    format: int = 1
