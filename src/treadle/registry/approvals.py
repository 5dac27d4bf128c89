"""The verbs of approvals and comments: who let a version into which environment, who talked about it, and what time does to a question."""

import datetime as dt

from msgspec.structs import replace

from treadle.ledger import events
from treadle.ledger.dispatch import Unchanged
from treadle.operations.registry import (
    AddComment,
    DecideApproval,
    GetApproval,
    ListApprovals,
    ListComments,
    RequestApproval,
    WithdrawApproval,
)
from treadle.operations.table import implements
from treadle.packaging import bundle as bundles
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import Clock
from treadle.records.errors import TreadleError
from treadle.records.models import Approval, Comment, ModelVersion
from treadle.records.states import APPROVAL_MOVES, ApprovalState, VersionState, move
from treadle.registry import meaning, policy
from treadle.registry.moves import OUT, approved_for, moved, subject_parts, version_of, withdrawn
from treadle.store.db import Connection
from treadle.store.queries import models
from treadle.store.queries import registry as queries
from treadle.tracking.limits import check_id, check_text

_MOST = 500
_LONGEST = 10_000


class ApprovalVerbs:
    """Approvals and comments. A part of `Registry`."""

    _blobs: BlobStore
    _clock: Clock

    @implements(RequestApproval)
    def request_approval(self, tx: Connection, request: RequestApproval, call: Call) -> Approval | Unchanged:
        """Ask for approval of `model/NAME/N` in an environment. The same id again, or asking while one waits or holds, changes nothing."""
        model, number = subject_parts(request.subject)
        known = queries.find_approval(tx, request.project, request.approval_id)
        if known is not None:
            if (known.environment, known.subject, known.question) == (request.environment, request.subject, request.question):
                return Unchanged(known)
            raise TreadleError(
                f"The approval {request.approval_id} exists and asks something else.",
                remedy="Use a new id for a new question.",
                code="conflict",
            )
        version = version_of(tx, request.project, model, number)
        if version.state in (*OUT, VersionState.candidate):
            if not version.sealed:
                raise unsealed(version, "approved")
            raise _not_asked_about(version)
        waiting = queries.approval_of(tx, request.project, request.environment, request.subject, ApprovalState.waiting)
        if waiting is not None and not _expired(waiting, call.event_time):
            return Unchanged(waiting)
        if waiting is not None:
            expire(tx, waiting, call)
        granted = approved_for(tx, request.project, model, number, request.environment)
        if granted is not None:
            return Unchanged(granted)
        within = policy.declared(tx, request.project, request.environment).approval_within_s
        approval = Approval(
            project=request.project,
            environment=request.environment,
            approval_id=request.approval_id,
            subject=request.subject,
            question=request.question,
            state=ApprovalState.waiting,
            asked_by=call.actor.actor_id,
            asked_time=call.event_time,
            expires=request.expires or (call.event_time + dt.timedelta(seconds=within) if within else None),
        )
        row = {name: getattr(approval, name) for name in approval.__struct_fields__}
        queries.insert_approval(tx, {**row, "state": str(approval.state), "recorded_time": self._clock.now()})
        return approval

    @implements(DecideApproval)
    def decide(self, tx: Connection, request: DecideApproval, call: Call) -> Approval | Unchanged:
        """Grant or refuse; a grant makes a validated version `approved`.

        Raises:
            TreadleError: `denied` where four eyes are asked for and the asker decides, `conflict` where it was decided otherwise.
        """
        approval = approval_by_id(tx, request.project, request.approval_id)
        if request.environment and request.environment != approval.environment:
            raise TreadleError(
                f"The approval {request.approval_id} is for {approval.environment}, not for {request.environment}.",
                remedy=f"Name its own environment, {approval.environment}, or none.",
            )
        then = ApprovalState.granted if request.grant else ApprovalState.refused
        if approval.state == then and approval.decided_by == call.actor.actor_id:
            return Unchanged(approval)
        approval = _as_of(approval, call.event_time)
        if approval.state != ApprovalState.waiting:
            raise _closed(approval, then)
        if (
            request.grant
            and approval.asked_by == call.actor.actor_id
            and policy.declared(tx, approval.project, approval.environment).four_eyes
        ):
            raise TreadleError(
                f"{call.actor.name} asked for this approval, and {approval.environment} wants four eyes.",
                remedy=f"Let another approver decide: treadle approve {request.approval_id} (or declare four_eyes=False).",
                code="denied",
            )
        model, number = subject_parts(approval.subject)
        version = version_of(tx, request.project, model, number) if request.grant else None
        if version is not None:
            if version.state in OUT:
                raise _not_asked_about(version)
            self._check_documents(tx, version, approval.environment)
            meaning.check_allowed(tx, version, approval.environment)
        answer = {"state": str(then), "decided_by": call.actor.actor_id, "decided_time": call.event_time, "comment": request.comment}
        queries.decide_approval(tx, request.project, request.approval_id, answer)
        if version is not None and version.state == VersionState.validated:
            moved(tx, version, VersionState.approved)
        facts = {"model": model, "number": number, "approval_id": request.approval_id, "decided_by": call.actor.actor_id}
        events.append(
            tx,
            call,
            type="treadle.model.approved" if request.grant else "treadle.model.refused",
            subject=approval.subject,
            project=request.project,
            environment=approval.environment,
            payload={**facts, "actor_kind": call.actor.kind, "comment": request.comment},
        )
        return approval_by_id(tx, request.project, request.approval_id)

    @implements(WithdrawApproval)
    def withdraw(self, tx: Connection, request: WithdrawApproval, call: Call) -> Approval | Unchanged:
        """Take a question back.

        Raises:
            TreadleError: `denied` for one that somebody else asked, `conflict` where it does not wait any more.
        """
        approval = _as_of(approval_by_id(tx, request.project, request.approval_id), call.event_time)
        check_text(request.reason, "reason", _LONGEST)
        if approval.state == ApprovalState.withdrawn and approval.decided_by == call.actor.actor_id:
            return Unchanged(approval)
        if approval.state != ApprovalState.waiting:
            raise _closed(approval, ApprovalState.withdrawn)
        if approval.asked_by != call.actor.actor_id:
            raise TreadleError(
                f"{approval.asked_by} asked for the approval {approval.approval_id}, and only who asked takes a question back.",
                remedy=f"Whoever may approve can refuse it: treadle reject {approval.approval_id}",
                code="denied",
            )
        queries.decide_approval(tx, request.project, request.approval_id, withdrawn(call, request.reason))
        return approval_by_id(tx, request.project, request.approval_id)

    @implements(GetApproval)
    def get_approval(self, tx: Connection, request: GetApproval, call: Call) -> Approval:
        """One approval."""
        return _as_of(approval_by_id(tx, request.project, request.approval_id), call.event_time)

    @implements(ListApprovals)
    def list_approvals(self, tx: Connection, request: ListApprovals, call: Call) -> list[Approval]:
        """Approvals, newest first."""
        if request.state is not None and request.state not in list(ApprovalState):
            raise TreadleError(f"{request.state!r} is no state of an approval.", remedy=f"Use one of {', '.join(ApprovalState)}, or none.")
        found = queries.list_approvals(tx, request.project, state=request.state, limit=min(max(request.limit, 1), _MOST))
        if request.state == ApprovalState.expired:  # those that nobody has looked at since
            found = found + queries.list_approvals(tx, request.project, state=ApprovalState.waiting, limit=_MOST)
        shown = [_as_of(a, call.event_time) for a in found]
        return [a for a in shown if request.state in (None, a.state)]

    # ── comments ─────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(AddComment)
    def add_comment(self, tx: Connection, request: AddComment, call: Call) -> Comment | Unchanged:
        """Say something about a thing."""
        check_id(request.comment_id, "comment")
        check_text(request.subject, "subject", 400, needed=True)
        check_text(request.text, "comment", _LONGEST)
        if not request.text.strip():
            raise TreadleError("The comment is empty.", remedy="Say something.", details={"field": "text"})
        if "/" not in request.subject:
            raise TreadleError(f"{request.subject[:80]!r} is no subject.", remedy="Write approval/ID, model/NAME/N, run/ID …")
        if request.subject.startswith("approval/"):
            approval_by_id(tx, request.project, request.subject.partition("/")[2])
        elif request.subject.startswith("model/") and request.subject.count("/") > 1:
            version_of(tx, request.project, *subject_parts(request.subject))
        comment = Comment(
            project=request.project,
            comment_id=request.comment_id,
            subject=request.subject,
            actor=call.actor.actor_id,
            text=request.text,
            event_time=call.event_time,
        )
        row = {name: getattr(comment, name) for name in comment.__struct_fields__}
        if models.insert_comment(tx, {**row, "recorded_time": self._clock.now()}):
            return comment
        known = models.find_comment(tx, request.project, request.comment_id)
        if known is None or (known.subject, known.text, known.actor) != (comment.subject, comment.text, comment.actor):
            raise TreadleError(f"The comment {request.comment_id} exists and says something else.", remedy="Use a new id.", code="conflict")
        return Unchanged(known)

    @implements(ListComments)
    def list_comments(self, tx: Connection, request: ListComments, call: Call) -> list[Comment]:
        """What was said about a thing."""
        return models.list_comments(tx, request.project, request.subject, limit=min(max(request.limit, 1), _MOST))

    # ── what time does ───────────────────────────────────────────────────────────────────────────────────────────

    def is_due(self, connection: Connection, now: dt.datetime) -> bool:
        """Whether `fall_due` has something to do."""
        return bool(models.approvals_past(connection, now)) or bool(policy.untold(connection, now))

    def fall_due(self, tx: Connection, call: Call) -> int:
        """Let questions expire and tell of reviews, as of the call's time; how many events that made."""
        past = models.approvals_past(tx, call.event_time)
        for row in past:
            expire(tx, approval_by_id(tx, row.project, row.approval_id), call)
        return len(past) + policy.tell_due(tx, call)

    def _check_documents(self, tx: Connection, version: ModelVersion, environment: str) -> None:
        wanted = policy.declared(tx, version.project, environment).documents
        if not wanted:
            return
        sealed = bundles.read(self._blobs, version.bundle_digest).card if version.sealed else {}
        written = policy.written_sections(tx, version, sealed)
        missing = [key for key in wanted if not written.get(key)]
        if missing:
            named = f"{version.model}@{version.number}"
            raise TreadleError(
                f"{environment} asks for papers that {named} lacks: {', '.join(missing)}.",
                remedy=f"Write them: treadle models card {named} --write {missing[0]}=TEXT",
                code="conflict",
                details={"missing_documents": missing},
            )


def approval_by_id(tx: Connection, project: str, approval_id: str) -> Approval:
    """One approval.

    Raises:
        TreadleError: `not_found`.
    """
    found = queries.find_approval(tx, project, approval_id)
    if found is None:
        raise TreadleError(f"There is no approval {approval_id}.", remedy="See what waits: treadle approvals", code="not_found")
    return found


def unsealed(version: ModelVersion, what: str) -> TreadleError:
    """The error of an unsealed version that is to be approved or released."""
    named = f"{version.model}@{version.number}"
    return TreadleError(
        f"{named} has no sealed bundle and cannot be {what}.",
        remedy=f"Seal it first: treadle models seal {named}",
        code="conflict",
        details={"state": str(version.state), "sealed": False},
    )


def _not_asked_about(version: ModelVersion) -> TreadleError:
    """The error of a rejected or archived version that is to be approved."""
    named = f"{version.model}@{version.number}"
    failed = "; ".join(gate.text for gate in version.gates if not gate.passed)
    back = f"Take it back from the archive first, unless it was rejected: treadle models move {named} validated"
    return TreadleError(
        f"{named} is {version.state} and cannot be approved{': ' + failed if failed else ''}.",
        remedy=back if version.state == VersionState.archived else "Train a version that passes its gates: treadle run PIPELINE",
        code="conflict",
    )


def _closed(approval: Approval, then: ApprovalState) -> TreadleError:
    """The error of a question that has its answer, or whose time is over."""
    named = approval.subject.removeprefix("model/").replace("/", "@")
    expired = approval.state == ApprovalState.expired
    when = (None if approval.decided_by else approval.expires) if expired else approval.decided_time
    by = f" by {approval.decided_by}" if approval.decided_by and not expired else ""
    remedy = f"Ask again: treadle models ask {named} --env {approval.environment}"
    if approval.state == ApprovalState.granted:
        remedy = f"Nothing is left to answer. What should not be released any more is rejected: treadle models move {named} rejected"
    return TreadleError(
        f"The approval {approval.approval_id} of {named} in {approval.environment} "
        f"{'has' if expired else 'was'} {approval.state}{by}{f' at {when:%Y-%m-%d %H:%M} UTC' if when else ''}.",
        remedy=remedy,
        code="conflict",
        details={"now": str(approval.state), "asked": str(then)},
    )


def _expired(approval: Approval, now: dt.datetime) -> bool:
    return approval.state == ApprovalState.waiting and approval.expires is not None and approval.expires <= now


def _as_of(approval: Approval, now: dt.datetime) -> Approval:
    """As it is at a time: expired from its time on, whether or not that was written down yet."""
    return replace(approval, state=ApprovalState.expired) if _expired(approval, now) else approval


def expire(tx: Connection, approval: Approval, call: Call) -> None:
    """Let a question, or what was granted, hold no more; an event says so."""
    move(APPROVAL_MOVES, approval.state, ApprovalState.expired, what=f"Approval {approval.approval_id}")
    queries.decide_approval(tx, approval.project, approval.approval_id, {"state": str(ApprovalState.expired)})
    events.append(
        tx,
        call,
        type="treadle.approval.expired",
        subject=approval.subject,
        project=approval.project,
        environment=approval.environment,
        payload={"approval_id": approval.approval_id, "expires": approval.expires},
    )
