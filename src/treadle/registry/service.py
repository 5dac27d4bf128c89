"""The registry's verbs: bundles become versions, versions move, aliases name them.

Every change is written with its event and its lineage in one transaction. What happens inside a transaction of the caller's is in
`moves`, which releases use and no face does; the verbs of models, unsealed versions, approvals, cards and webhooks have files of their own.
"""

import datetime as dt
from collections.abc import Sequence

from treadle.ledger.dispatch import Unchanged
from treadle.operations.registry import (
    GetModelVersion,
    ListModelVersions,
    ModelVersions,
    MoveVersion,
    RegisterVersion,
    ResolveAlias,
    SetAlias,
)
from treadle.operations.table import implements
from treadle.packaging import bundle as bundles
from treadle.plugins.storage import BlobStore
from treadle.records.calls import SYSTEM, Call
from treadle.records.clock import Clock, SystemClock
from treadle.records.definitions import Project
from treadle.records.errors import TreadleError
from treadle.records.ledger import Page
from treadle.records.models import ModelVersion
from treadle.records.states import ApprovalState, VersionState
from treadle.registry import meaning
from treadle.registry.approvals import ApprovalVerbs, approval_by_id, expire, unsealed
from treadle.registry.cards import CardVerbs
from treadle.registry.models import ModelVerbs
from treadle.registry.moves import (
    OUT,
    PROTECTED,
    approved_for,
    check_name,
    draw,
    is_protected,
    model_node,
    move_alias,
    move_state,
    moved,
    resolve,
    subject_parts,
    version_of,
    withdraw,
)
from treadle.registry.sealing import make_bundle
from treadle.registry.uses import check_free, followed_by
from treadle.registry.versions import VersionVerbs
from treadle.registry.webhooks import WebhookVerbs
from treadle.store.db import Connection, Database
from treadle.store.queries import events as event_queries
from treadle.store.queries import models as model_queries
from treadle.store.queries import registry as queries
from treadle.tracking.limits import moment_of

__all__ = [
    "PROTECTED",
    "Registry",
    "approved_for",
    "is_protected",
    "model_node",
    "move_alias",
    "move_state",
    "resolve",
    "subject_parts",
    "version_of",
]

_MOST = 500


class Registry(ModelVerbs, VersionVerbs, ApprovalVerbs, CardVerbs, WebhookVerbs):
    """Models, versions, aliases and approvals of all projects."""

    def __init__(self, database: Database, blobs: BlobStore, *, clock: Clock | None = None):
        super().__init__(blobs, clock or SystemClock())
        self._database = database

    # ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(RegisterVersion)
    def register(self, tx: Connection, request: RegisterVersion, call: Call) -> ModelVersion | Unchanged:
        """Register a bundle; see the operation.

        Raises:
            TreadleError: `not_found` where the bundle is not in this home, `bad_request` where it is another model's, `conflict` for
                the same bundle of the same run with other metrics or gates.
        """
        check_name(request.model, "model")
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
        if request.number and request.number < number:
            raise TreadleError(
                f"{request.model}@{request.number} is or was another version.",
                remedy="Leave the number out, and it becomes the next one.",
                code="conflict",
            )
        state = VersionState.validated if all(gate.passed for gate in request.gates) else VersionState.rejected
        version = ModelVersion(
            project=request.project,
            model=request.model,
            number=request.number or number,
            state=state,
            bundle_digest=request.bundle_digest,
            run_id=request.run_id,
            metrics=request.metrics,
            gates=request.gates,
            aliases=(),
            actor=call.actor.actor_id,
            event_time=moment_of(request.created, call.event_time),
            recorded_time=moment_of(request.created, self._clock.now()),
            description=request.description,
            tags=request.tags,
            updated=self._clock.now(),
        )
        fields = {name: getattr(version, name) for name in version.__struct_fields__ if name not in ("aliases", "state", "previous")}
        queries.insert_version(tx, {**fields, "state": str(state)})
        views, labels = meaning.said(tx, version, sealed)
        draw(tx, version, sealed, views=views, labels=labels)
        return version_of(tx, version.project, version.model, version.number)

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
        """Reject or archive a version, or take it back from the archive: it is validated then, and asked about anew.

        Raises:
            TreadleError: `conflict` where an alias that an endpoint follows points at it, its state does not allow the move, or it was
                rejected before it was archived.
        """
        version = version_of(tx, request.project, request.model, request.number)
        back = request.state == VersionState.validated and version.state == VersionState.archived
        if not back and request.state not in (VersionState.rejected, VersionState.archived):
            raise TreadleError(
                f"A version is not moved to {request.state!r} by hand.",
                remedy="Use rejected or archived, or validated for one that is archived; approvals and releases make the other moves: "
                "treadle approve, treadle release start",
            )
        if version.state == request.state:
            return Unchanged(version)
        followed = [alias for alias in version.aliases if followed_by(tx, request.project, request.model, alias)]
        if followed:
            raise TreadleError(
                f"{request.model}@{version.number} is the {followed[0]} and serves.",
                remedy="Release another version or roll back first: treadle release rollback ENDPOINT",
                code="conflict",
            )
        if back:
            _check_back(tx, version)
            for asked in model_queries.approvals_of(tx, version.project, f"model/{version.model}/{version.number}"):
                if asked.state == ApprovalState.granted:  # it is asked about anew
                    expire(tx, approval_by_id(tx, version.project, asked.approval_id), call)
        then = moved(tx, version, VersionState(request.state))
        if then.state in OUT:
            reason = f"{version.model}@{version.number} is {then.state}{': ' + request.reason if request.reason else ''}"
            withdraw(tx, call, project=version.project, model=version.model, number=version.number, reason=reason)
        return then

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
        check_name(request.alias, "alias")
        check_free(tx, request.project, request.model, request.alias, request.number)
        version = version_of(tx, request.project, request.model, request.number)
        if request.alias in version.aliases:
            return Unchanged(version)
        queries.put_alias(tx, request.project, request.model, request.alias, version.number, self._clock.now())
        return version_of(tx, request.project, request.model, version.number)

    # ── for steps, which have no transaction ─────────────────────────────────────────────────────────────────────

    def champion(self, project: str, model: str, environment: str) -> ModelVersion | None:
        """The version that serves in an environment; where none does, the one that became champion last anywhere."""
        with self._database.read() as connection:
            found = resolve(connection, project, model, "champion", environment) or resolve(connection, project, model, "champion")
            return found if found is not None and found.sealed else None

    def applied(self, project: str) -> dict[str, Project]:
        """environment → the definitions applied there."""
        with self._database.read() as connection:
            return queries.applied_environments(connection, project)

    def datasets_of_run(self, project: str, run_id: str) -> list[str]:
        """Digests of the dataset versions that a run has read."""
        with self._database.read() as connection:
            return queries.datasets_of_run(connection, project, run_id)

    def seal_files(self, project: str, model: str, number: int, *, trust: Sequence[str] = ()) -> str:
        """Seal the files of an unsealed version where they are; returns the bundle's digest, which `SealVersion` takes. See `sealing`."""
        with self._database.read() as connection:
            return make_bundle(connection, self._blobs, version_of(connection, project, model, number), trust=trust)

    def tick(self, now: dt.datetime) -> int:
        """What time does: questions expire, reviews fall due. Safe to call by several workers at once; how many events it wrote."""
        with self._database.read() as connection:
            if not self.is_due(connection, now):
                return 0
        call = Call(actor=SYSTEM, event_time=now)
        return self._database.write(lambda tx: self.fall_due(tx, call))


def _check_back(tx: Connection, version: ModelVersion) -> None:
    """That a version may leave the archive: it is sealed, its gates passed, and nobody rejected it before."""
    named = f"{version.model}@{version.number}"
    if not version.sealed:
        raise unsealed(version, "validated")
    subject = f"model/{version.model}/{version.number}"
    failed = [gate.gate for gate in version.gates if not gate.passed]
    if failed or event_queries.was_moved(tx, version.project, subject, str(VersionState.rejected)):
        raise TreadleError(
            f"{named} was rejected{f' by {failed[0]}' if failed else ''} before it was archived, and stays so.",
            remedy="Train again; a new version is judged by itself.",
            code="conflict",
        )


def _again(known: ModelVersion, request: RegisterVersion) -> Unchanged:
    """Tags and description may have been changed since; what was measured may not."""
    if (known.metrics, known.gates) != (request.metrics, request.gates):
        raise TreadleError(
            f"This bundle is registered as {known.model}@{known.number}, with other metrics or gates.",
            remedy="What was measured of a version does not change; train and register a new one.",
            code="conflict",
        )
    return Unchanged(known)
