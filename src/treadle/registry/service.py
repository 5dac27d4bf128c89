"""The registry's verbs, and the moves that only a release may make.

Every change is written with its event and its lineage in one transaction. The functions at module level (`move_alias`, `move_state`,
`approved_for`) run inside a transaction of the caller's: releases use them, no face does.
"""

from treadle.ledger import events, lineage
from treadle.ledger.dispatch import Unchanged
from treadle.operations.registry import (
    DecideApproval,
    GetApproval,
    GetModelVersion,
    ListApprovals,
    ListModelVersions,
    ModelVersions,
    MoveVersion,
    RegisterVersion,
    RequestApproval,
    ResolveAlias,
    SetAlias,
)
from treadle.operations.table import implements
from treadle.packaging import bundle as bundles
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import Clock, SystemClock
from treadle.records.definitions import Project, definition_digest
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ledger import Edge, Page, Version
from treadle.records.models import Approval, Bundle, ModelVersion
from treadle.records.states import APPROVAL_MOVES, VERSION_MOVES, ApprovalState, VersionState, move
from treadle.store.db import Connection, Database
from treadle.store.queries import registry as queries

#: Aliases that endpoints follow, with or without `.ENVIRONMENT` behind them.
PROTECTED = ("champion", "challenger")
_MOST = 500


class Registry:
    """Versions, aliases and approvals of all projects."""

    def __init__(self, database: Database, blobs: BlobStore, *, clock: Clock | None = None):
        self._database = database
        self._blobs = blobs
        self._clock = clock or SystemClock()

    # ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(RegisterVersion)
    def register(self, tx: Connection, request: RegisterVersion, call: Call) -> ModelVersion | Unchanged:
        """Register a bundle; see the operation.

        Raises:
            TreadleError: `not_found` where the bundle is not in this home, `bad_request` where it is another model's, `conflict` for
                the same bundle of the same run with other metrics, gates, description or tags.
        """
        _check_name(request.model, "model")
        sealed = bundles.read(self._blobs, request.bundle_digest)
        if (sealed.project, sealed.model, sealed.run_id) != (request.project, request.model, request.run_id):
            raise TreadleError(
                f"The bundle was sealed as {sealed.project}/{sealed.model} of run {sealed.run_id}, not as "
                f"{request.project}/{request.model} of run {request.run_id}.",
                remedy="Register it under the project, model and run it was sealed for, or seal it again.",
            )
        number = queries.last_number(tx, request.project, request.model) + 1
        known = queries.find_registered(tx, request.project, request.model, request.bundle_digest, request.run_id)
        if known is not None:
            return _again(known, request)
        state = VersionState.validated if all(gate.passed for gate in request.gates) else VersionState.rejected
        version = ModelVersion(
            project=request.project,
            model=request.model,
            number=number,
            state=state,
            bundle_digest=request.bundle_digest,
            run_id=request.run_id,
            metrics=request.metrics,
            gates=request.gates,
            aliases=(),
            actor=call.actor.actor_id,
            event_time=call.event_time,
            recorded_time=self._clock.now(),
            description=request.description,
            tags=request.tags,
        )
        fields = {name: getattr(version, name) for name in version.__struct_fields__ if name not in ("aliases", "state")}
        queries.insert_version(tx, {**fields, "state": str(state)})
        _draw(tx, version, sealed)
        return version

    @implements(ListModelVersions)
    def list_versions(self, tx: Connection, request: ListModelVersions, call: Call) -> ModelVersions:
        """Versions of a model, newest first."""
        before = None
        if request.page is not None:
            if not request.page.isdigit():
                raise TreadleError(f"{request.page!r} is no page of this listing.", remedy="Use the `next` of the page before, or none.")
            before = int(request.page)
        limit = min(max(request.limit, 1), _MOST)
        found = queries.list_versions(tx, request.project, request.model, before=before, limit=limit + 1)
        more = str(found[limit - 1].number) if len(found) > limit else None
        return ModelVersions(items=found[:limit], page=Page(next=more))

    @implements(GetModelVersion)
    def get(self, tx: Connection, request: GetModelVersion, call: Call) -> ModelVersion:
        """One version; number 0 is the newest."""
        return version_of(tx, request.project, request.model, request.number)

    @implements(MoveVersion)
    def move(self, tx: Connection, request: MoveVersion, call: Call) -> ModelVersion | Unchanged:
        """Reject or archive a version.

        Raises:
            TreadleError: `conflict` where an alias that an endpoint follows points at it, or its state does not allow the move.
        """
        version = version_of(tx, request.project, request.model, request.number)
        if request.state not in (VersionState.rejected, VersionState.archived):
            raise TreadleError(
                f"A version is not moved to {request.state!r} by hand.",
                remedy="Use rejected or archived; approvals and releases make the other moves: treadle approve, treadle release start",
            )
        if version.state == request.state:
            return Unchanged(version)
        followed = [alias for alias in version.aliases if is_protected(alias)]
        if followed:
            raise TreadleError(
                f"{request.model}@{version.number} is the {followed[0]} and serves.",
                remedy="Release another version or roll back first: treadle release rollback ENDPOINT",
                code="conflict",
            )
        return _moved(tx, version, VersionState(request.state))

    # ── aliases ──────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(ResolveAlias)
    def resolve(self, tx: Connection, request: ResolveAlias, call: Call) -> ModelVersion:
        """The version an alias names. `champion` without an environment is that of the environment where it moved last."""
        found = resolve(tx, request.project, request.model, request.alias)
        if found is None:
            raise TreadleError(
                f"The model {request.model} has no alias {request.alias!r}.",
                remedy=f"See its versions and their aliases: treadle models {request.model}",
                code="not_found",
            )
        return found

    @implements(SetAlias)
    def set_alias(self, tx: Connection, request: SetAlias, call: Call) -> ModelVersion | Unchanged:
        """Point a free alias at a version.

        Raises:
            TreadleError: `denied` for an alias that endpoints follow.
        """
        _check_name(request.alias, "alias")
        if is_protected(request.alias):
            raise TreadleError(
                f"Endpoints follow the alias {request.alias!r}; it moves by a release only.",
                remedy="Release the version instead: treadle release start ENDPOINT --version N",
                code="denied",
            )
        version = version_of(tx, request.project, request.model, request.number)
        if request.alias in version.aliases:
            return Unchanged(version)
        queries.put_alias(tx, request.project, request.model, request.alias, version.number, self._clock.now())
        return version_of(tx, request.project, request.model, version.number)

    # ── approvals ────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(RequestApproval)
    def request_approval(self, tx: Connection, request: RequestApproval, call: Call) -> Approval | Unchanged:
        """Ask for approval of `model/NAME/N` in an environment. The same id again, or asking while one waits, changes nothing."""
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
        if version.state in (VersionState.rejected, VersionState.archived, VersionState.candidate):
            failed = "; ".join(gate.text for gate in version.gates if not gate.passed)
            raise TreadleError(
                f"{model}@{number} is {version.state} and cannot be approved{': ' + failed if failed else ''}.",
                remedy="Train a version that passes its gates: treadle run PIPELINE",
                code="conflict",
            )
        waiting = queries.approval_of(tx, request.project, request.environment, request.subject, ApprovalState.waiting)
        if waiting is not None:
            return Unchanged(waiting)
        approval = Approval(
            project=request.project,
            environment=request.environment,
            approval_id=request.approval_id,
            subject=request.subject,
            question=request.question,
            state=ApprovalState.waiting,
            asked_by=call.actor.actor_id,
            asked_time=call.event_time,
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
        move(APPROVAL_MOVES, approval.state, then, what=f"Approval {request.approval_id}")
        if request.grant and approval.asked_by == call.actor.actor_id and _four_eyes(tx, approval):
            raise TreadleError(
                f"{call.actor.name} asked for this approval, and {approval.environment} wants four eyes.",
                remedy=f"Let another approver decide: treadle approve {request.approval_id} (or declare four_eyes=False).",
                code="denied",
            )
        answer = {"state": str(then), "decided_by": call.actor.actor_id, "decided_time": call.event_time, "comment": request.comment}
        queries.decide_approval(tx, request.project, request.approval_id, answer)
        model, number = subject_parts(approval.subject)
        version = version_of(tx, request.project, model, number)
        if request.grant and version.state == VersionState.validated:
            _moved(tx, version, VersionState.approved)
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

    @implements(GetApproval)
    def get_approval(self, tx: Connection, request: GetApproval, call: Call) -> Approval:
        """One approval."""
        return approval_by_id(tx, request.project, request.approval_id)

    @implements(ListApprovals)
    def list_approvals(self, tx: Connection, request: ListApprovals, call: Call) -> list[Approval]:
        """Approvals, newest first."""
        if request.state is not None and request.state not in list(ApprovalState):
            raise TreadleError(f"{request.state!r} is no state of an approval.", remedy=f"Use one of {', '.join(ApprovalState)}, or none.")
        return queries.list_approvals(tx, request.project, state=request.state, limit=min(max(request.limit, 1), _MOST))

    # ── for steps, which have no transaction ─────────────────────────────────────────────────────────────────────

    def champion(self, project: str, model: str, environment: str) -> ModelVersion | None:
        """The version that serves in an environment; where none does, the one that became champion last anywhere."""
        with self._database.read() as connection:
            found = resolve(connection, project, model, "champion", environment)
            return found or resolve(connection, project, model, "champion")

    def applied(self, project: str) -> dict[str, Project]:
        """environment → the definitions applied there."""
        with self._database.read() as connection:
            return queries.applied_environments(connection, project)

    def datasets_of_run(self, project: str, run_id: str) -> list[str]:
        """Digests of the dataset versions that a run has read."""
        with self._database.read() as connection:
            return queries.datasets_of_run(connection, project, run_id)


# ── inside a transaction of the caller's ─────────────────────────────────────────────────────────────────────────────


def version_of(tx: Connection, project: str, model: str, number: int = 0) -> ModelVersion:
    """A version; number 0 is the newest.

    Raises:
        TreadleError: `not_found`.
    """
    found = queries.find_version(tx, project, model, number)
    if found is None:
        raise TreadleError(
            f"The model {model} has no version {number}." if number else f"There is no model {model} in {project}.",
            remedy="See what there is: treadle models",
            code="not_found",
        )
    return found


def resolve(tx: Connection, project: str, model: str, alias: str, environment: str = "") -> ModelVersion | None:
    """The version that an alias names, None where there is none. With an environment, `alias.ENVIRONMENT`; a protected alias without one is
    that of the environment where it moved last."""
    if environment and is_protected(alias):
        return queries.find_alias(tx, project, model, f"{alias}.{environment}")
    found = queries.find_alias(tx, project, model, alias)
    return found or (queries.newest_alias(tx, project, model, alias) if alias in PROTECTED else None)


def move_alias(
    tx: Connection, call: Call, *, project: str, model: str, alias: str, number: int | None, environment: str = "", reason: str = ""
) -> None:
    """Move an alias, a protected one too, with its event; `number` None removes it. For releases. With an environment it is
    `alias.ENVIRONMENT` that moves, since staging and production have each a champion of their own."""
    full = f"{alias}.{environment}" if environment else alias
    now = queries.find_alias(tx, project, model, full)
    before = None if now is None else now.number
    if before == number:
        return
    if number is not None:
        version_of(tx, project, model, number)
    queries.put_alias(tx, project, model, full, number, SystemClock().now())
    events.append(
        tx,
        call,
        type="treadle.model.alias_moved",
        subject=f"model/{model}/{number or before}",
        project=project,
        environment=environment,
        payload={"model": model, "alias": full, "from": before, "to": number, "reason": reason},
    )


def move_state(tx: Connection, call: Call, *, project: str, model: str, number: int, state: VersionState, reason: str = "") -> ModelVersion:
    """Move a version's state by the table of moves, with its event; already there is fine. For releases."""
    version = version_of(tx, project, model, number)
    if version.state == state:
        return version
    moved = _moved(tx, version, state)
    payload = {"model": model, "number": number, "from": str(version.state), "to": str(state), "reason": reason}
    events.append(tx, call, type="treadle.model.moved", subject=f"model/{model}/{number}", project=project, payload=payload)
    return moved


def approved_for(tx: Connection, project: str, model: str, number: int, environment: str) -> Approval | None:
    """The approval that lets a version into an environment, None where nobody has granted one (or it is rejected or archived)."""
    version = version_of(tx, project, model, number)
    if version.state not in (VersionState.approved, VersionState.released):
        return None
    return queries.approval_of(tx, project, environment, f"model/{model}/{number}", ApprovalState.granted)


def approval_by_id(tx: Connection, project: str, approval_id: str) -> Approval:
    """One approval.

    Raises:
        TreadleError: `not_found`.
    """
    found = queries.find_approval(tx, project, approval_id)
    if found is None:
        raise TreadleError(f"There is no approval {approval_id}.", remedy="See what waits: treadle approvals", code="not_found")
    return found


def is_protected(alias: str) -> bool:
    """Whether endpoints follow an alias.

    >>> is_protected("champion"), is_protected("champion.prod"), is_protected("best")
    (True, True, False)
    """
    return alias.partition(".")[0] in PROTECTED


def subject_parts(subject: str) -> tuple[str, int]:
    """(model, number) of `model/NAME/N`.

    >>> subject_parts("model/delay/3")
    ('delay', 3)
    """
    kind, _, rest = subject.partition("/")
    model, _, number = rest.rpartition("/")
    if kind != "model" or not model or not number.isdigit():
        raise TreadleError(f"{subject!r} is no subject of an approval.", remedy="Write model/NAME/N, e.g. model/delay/3.")
    return model, int(number)


def model_node(project: str, model: str, number: int) -> str:
    """The digest under which a model version stands in the lineage graph."""
    return digest_of(["model", project, model, number])


def _moved(tx: Connection, version: ModelVersion, state: VersionState) -> ModelVersion:
    move(VERSION_MOVES, version.state, state, what=f"{version.model}@{version.number}")
    queries.set_state(tx, version.project, version.model, version.number, state)
    return version_of(tx, version.project, version.model, version.number)


def _again(known: ModelVersion, request: RegisterVersion) -> Unchanged:
    same = (known.metrics, known.gates, known.description, known.tags) == (
        request.metrics,
        request.gates,
        request.description,
        request.tags,
    )
    if not same:
        raise TreadleError(
            f"This bundle is registered as {known.model}@{known.number}, with other metrics, gates, description or tags.",
            remedy="A registered version does not change; train and register a new one.",
            code="conflict",
        )
    return Unchanged(known)


def _four_eyes(tx: Connection, approval: Approval) -> bool:
    project = queries.applied_project(tx, approval.project, approval.environment)
    declared = next((e for e in project.environments if e.name == approval.environment), None) if project else None
    return declared is None or declared.four_eyes


def _draw(tx: Connection, version: ModelVersion, sealed: Bundle) -> None:
    """The version, its bundle and what that was made from, in the lineage graph."""
    project, bundle, run = version.project, version.bundle_digest, version.run_id
    node = model_node(project, version.model, version.number)
    facts = {"flavor": sealed.flavor, "onnx_equal": sealed.onnx_equal, "python": sealed.python}
    known = [
        Version(project=project, digest=bundle, kind="bundle", name=version.model, number=version.number, facts=facts),
        Version(project=project, digest=node, kind="model", name=version.model, number=version.number, facts={"bundle": bundle}),
    ]
    edges = [(node, bundle, "packages"), (bundle, run, "sealed_by")]
    edges += [(bundle, digest, "trained_on") for digest in sealed.trained_on]
    if sealed.code_digest:
        known.append(Version(project=project, digest=sealed.code_digest, kind="code", name="code"))
        edges.append((bundle, sealed.code_digest, "code"))
    for view in sealed.views:
        digest = definition_digest(view)
        known.append(Version(project=project, digest=digest, kind="definition", name=f"feature_view/{view.name}"))
        edges.append((bundle, digest, "features"))
    if sealed.environment:
        lock = digest_of(list(sealed.environment))
        known.append(Version(project=project, digest=lock, kind="environment", name="lock", facts={"packages": len(sealed.environment)}))
        edges.append((bundle, lock, "environment"))
    for entry in known:
        lineage.add_version(tx, entry, event_time=version.event_time)
    lineage.add_edges(tx, [Edge(project=project, child=child, parent=parent, role=role, run_id=run) for child, parent, role in edges])


def _check_name(name: str, what: str) -> None:
    if not name or len(name) > 200 or not all(c.isalnum() or c in "_-." for c in name):
        raise TreadleError(f"{name!r} is no name for a {what}.", remedy="Use letters, digits, '_', '-' and '.', at most 200.")
