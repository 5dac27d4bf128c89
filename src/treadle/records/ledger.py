"""Records of the ledger: runs, their measurements, lineage and events."""

import datetime as dt
from typing import Any

from msgspec import Struct

from treadle.records.states import RunState, StepState


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened. `seq` and `hash` are None until the sealer has given the event its place in the chain;
    `payload` is None where it was erased, and `payload_digest` still stands in the chain."""

    event_id: str
    project: str
    environment: str
    type: str  # CloudEvents type, `treadle.model.registered`
    subject: str  # what it is about: `model/delay/3`, `run/run_…`
    actor: str
    event_time: dt.datetime
    recorded_time: dt.datetime
    payload: dict[str, Any] | None
    payload_digest: str
    seq: int | None = None
    hash: str | None = None


#: In a replay an event happened this far, in business time, from when it was recorded; or nothing is virtual about it.
_REPLAYED = dt.timedelta(days=2)


def was_replayed(event: Event) -> bool:
    """Whether an event happened in virtual time."""
    return abs(event.recorded_time - event.event_time) > _REPLAYED


class Reason(Struct, frozen=True, kw_only=True):
    """Why a run was started: the trigger and condition that fired and the event they read, or who asked."""

    kind: str  # demand | cron | dataset | decayed | calibration | drifted | grown | event | resume
    text: str
    trigger: str | None = None
    event_id: str | None = None
    facts: dict[str, Any] = {}


class Run(Struct, frozen=True, kw_only=True):
    """One execution of a pipeline, pinned to the definitions, code and environment it ran with."""

    project: str
    environment: str
    run_id: str
    experiment: str
    pipeline: str
    state: RunState
    params: dict[str, Any]
    reason: Reason
    actor: str
    definition_digest: str
    project_digest: str
    code_digest: str
    environment_digest: str
    event_time: dt.datetime
    recorded_time: dt.datetime
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    error: str | None = None
    git_revision: str | None = None
    parent_run: str | None = None


class Step(Struct, frozen=True, kw_only=True):
    """One journaled call of a step. `path` is its place in the body: `0003:fit`, `0004:score[2]`."""

    project: str
    run_id: str
    path: str
    name: str
    state: StepState
    cache_key: str
    components: dict[str, str]  # what the cache key is made of: code, inputs, parameters, environment
    why: str  # why it ran or was skipped, in words
    output: str | None = None  # digest of the artifact
    codec: str | None = None
    attempt: int = 1
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    worker: str | None = None
    error: str | None = None


class Metric(Struct, frozen=True, kw_only=True):
    """One measurement. `step` counts within a run; `time` is when it was measured."""

    key: str
    value: float
    step: int = 0
    time: dt.datetime | None = None


class Artifact(Struct, frozen=True, kw_only=True):
    """A file of a run: a path, and the digest it has now."""

    project: str
    run_id: str
    path: str
    digest: str
    size: int
    media_type: str = "application/octet-stream"


class Version(Struct, frozen=True, kw_only=True):
    """A node of the lineage graph: anything immutable. `kind`: dataset, features, model, bundle, report, run, code,
    environment, definition."""

    project: str
    digest: str
    kind: str
    name: str
    number: int | None = None
    facts: dict[str, Any] = {}
    recorded_time: dt.datetime | None = None


class Edge(Struct, frozen=True, kw_only=True):
    """`child` was made from, or with, `parent`, in that role."""

    project: str
    child: str
    parent: str
    role: str
    run_id: str | None = None


class Page(Struct, frozen=True, kw_only=True):
    """A listing's end: the token of the next page, None at the last."""

    next: str | None = None


class AuditReport(Struct, frozen=True, kw_only=True):
    """What verifying the chain found."""

    intact: bool
    sealed: int
    unsealed: int
    unsealed_seconds: float
    erased: int
    head_seq: int
    head_hash: str
    published_seq: int | None
    problems: list[str]
