"""States, and the moves that are allowed between them.

Each enum stands beside its table of moves; `move` is the only way from one state to the next, so that an illegal move is one
error with one wording everywhere.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from treadle.records.errors import TreadleError

S = TypeVar("S", bound=StrEnum)


class RunState(StrEnum):
    """A pipeline run."""

    queued = "queued"
    running = "running"
    waiting = "waiting"  # durably waiting for an approval or a time
    cancelling = "cancelling"
    finished = "finished"
    failed = "failed"
    cancelled = "cancelled"


#: States of a run that has ended.
ENDED = (RunState.finished, RunState.failed, RunState.cancelled)


class StepState(StrEnum):
    """A journaled step of a run."""

    running = "running"
    finished = "finished"
    cached = "cached"
    failed = "failed"
    cancelled = "cancelled"


class JobState(StrEnum):
    """A leased job."""

    ready = "ready"
    leased = "leased"
    done = "done"
    dead = "dead"  # attempts used up


class VersionState(StrEnum):
    """A model version."""

    candidate = "candidate"
    validated = "validated"
    approved = "approved"
    released = "released"
    archived = "archived"
    rejected = "rejected"


class ApprovalState(StrEnum):
    """A question put to a person (or a declared policy actor)."""

    waiting = "waiting"
    granted = "granted"
    refused = "refused"
    expired = "expired"
    withdrawn = "withdrawn"  # by who asked, or because its version can no longer be approved


class ReleaseState(StrEnum):
    """The movement of traffic from one variant to another."""

    waiting = "waiting"  # for an approval or for gateways to load the variant
    running = "running"
    promoted = "promoted"
    stopped = "stopped"  # harm shown: the champion stays
    inconclusive = "inconclusive"  # deadline reached without evidence: the champion stays
    rolled_back = "rolled_back"
    failed = "failed"


class AlarmState(StrEnum):
    """An alarm."""

    open = "open"
    closed = "closed"


RUN_MOVES: Mapping[RunState, frozenset[RunState]] = {
    RunState.queued: frozenset({RunState.running, RunState.cancelled, RunState.failed}),
    RunState.running: frozenset(
        {RunState.finished, RunState.failed, RunState.waiting, RunState.cancelling, RunState.cancelled, RunState.queued}
    ),
    RunState.waiting: frozenset({RunState.queued, RunState.running, RunState.cancelled, RunState.failed}),
    RunState.cancelling: frozenset({RunState.cancelled, RunState.finished, RunState.failed}),
    RunState.failed: frozenset({RunState.queued}),  # resume from the failed step
    RunState.cancelled: frozenset({RunState.queued}),
    RunState.finished: frozenset(),
}
VERSION_MOVES: Mapping[VersionState, frozenset[VersionState]] = {
    VersionState.candidate: frozenset({VersionState.validated, VersionState.rejected, VersionState.archived}),
    VersionState.validated: frozenset({VersionState.approved, VersionState.rejected, VersionState.archived}),
    VersionState.approved: frozenset({VersionState.released, VersionState.rejected, VersionState.archived}),
    VersionState.released: frozenset({VersionState.archived, VersionState.approved}),
    VersionState.archived: frozenset({VersionState.validated}),
    VersionState.rejected: frozenset({VersionState.archived}),
}
APPROVAL_MOVES: Mapping[ApprovalState, frozenset[ApprovalState]] = {
    ApprovalState.waiting: frozenset({ApprovalState.granted, ApprovalState.refused, ApprovalState.expired, ApprovalState.withdrawn}),
    ApprovalState.granted: frozenset({ApprovalState.expired}),  # its version went to the archive and came back
    ApprovalState.refused: frozenset(),
    ApprovalState.expired: frozenset(),
    ApprovalState.withdrawn: frozenset(),
}
RELEASE_MOVES: Mapping[ReleaseState, frozenset[ReleaseState]] = {
    ReleaseState.waiting: frozenset({ReleaseState.running, ReleaseState.failed, ReleaseState.rolled_back}),
    ReleaseState.running: frozenset(
        {
            ReleaseState.promoted,
            ReleaseState.stopped,
            ReleaseState.inconclusive,
            ReleaseState.rolled_back,
            ReleaseState.failed,
        }
    ),
    ReleaseState.promoted: frozenset({ReleaseState.rolled_back}),
    ReleaseState.stopped: frozenset(),
    ReleaseState.inconclusive: frozenset(),
    ReleaseState.rolled_back: frozenset(),
    ReleaseState.failed: frozenset(),
}


def move(moves: Mapping[S, frozenset[S]], now: S, then: S, *, what: str) -> S:
    """`then`, if the table allows going there from `now`.

    Raises:
        TreadleError: code `conflict`, naming the states that can be reached instead.
    """
    if then in moves[now]:
        return then
    reachable = ", ".join(sorted(moves[now])) or "nothing: it is final"
    raise TreadleError(
        f"{what} is {now} and cannot become {then}.",
        remedy=f"From {now} it can become: {reachable}.",
        code="conflict",
        details={"now": str(now), "asked": str(then)},
    )
