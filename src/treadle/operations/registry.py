"""The registry's verbs: versions, aliases, approvals."""

from msgspec import Struct

from treadle.operations.table import Writes, operation
from treadle.records.ledger import Page
from treadle.records.models import Approval, GateResult, ModelVersion


class ModelVersions(Struct, frozen=True, kw_only=True):
    """A page of versions, newest first."""

    items: list[ModelVersion]
    page: Page


@operation(
    "POST /projects/{project}/models/{model}/versions",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.registered", "model/{model}/{number}"),
)
class RegisterVersion(Struct, frozen=True, kw_only=True):
    """Register a sealed bundle as the next version of a model. The same bundle from the same run again changes nothing.

    The version starts as `validated` where all gates passed, as `rejected` where one did not.
    """

    project: str
    model: str
    bundle_digest: str
    run_id: str
    metrics: dict[str, float] = {}
    gates: tuple[GateResult, ...] = ()
    description: str = ""
    tags: dict[str, str] = {}


@operation("GET /projects/{project}/models/{model}/versions", allow="read", returns=ModelVersions)
class ListModelVersions(Struct, frozen=True, kw_only=True):
    """Versions of a model, newest first."""

    project: str
    model: str
    limit: int = 50
    page: str | None = None


@operation("GET /projects/{project}/models/{model}/versions/{number}", allow="read", returns=ModelVersion)
class GetModelVersion(Struct, frozen=True, kw_only=True):
    """One version; number 0 is the newest."""

    project: str
    model: str
    number: int


@operation("GET /projects/{project}/models/{model}/aliases/{alias}", allow="read", returns=ModelVersion)
class ResolveAlias(Struct, frozen=True, kw_only=True):
    """The version an alias names."""

    project: str
    model: str
    alias: str


@operation(
    "PUT /projects/{project}/models/{model}/aliases/{alias}",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.alias_set", "model/{model}/{number}"),
)
class SetAlias(Struct, frozen=True, kw_only=True):
    """Point an alias at a version. Aliases that an endpoint follows (`champion`, `challenger`) move by a release only."""

    project: str
    model: str
    alias: str
    number: int


@operation(
    "POST /projects/{project}/models/{model}/versions/{number}/state",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.moved", "model/{model}/{number}"),
)
class MoveVersion(Struct, frozen=True, kw_only=True):
    """Move a version to `rejected` or `archived`. Other states are reached by approvals and releases."""

    project: str
    model: str
    number: int
    state: str
    reason: str = ""


@operation(
    "POST /projects/{project}/approvals",
    allow="models:write",
    returns=Approval,
    writes=Writes("treadle.approval.requested", "{subject}"),
)
class RequestApproval(Struct, frozen=True, kw_only=True):
    """Ask for approval of a model version in an environment."""

    project: str
    approval_id: str
    environment: str
    subject: str
    question: str


@operation(
    "POST /projects/{project}/approvals/{approval_id}",
    allow="approvals:decide",
    returns=Approval,
    writes=Writes("treadle.approval.decided", "approval/{approval_id}"),
)
class DecideApproval(Struct, frozen=True, kw_only=True):
    """Grant or refuse. With four eyes asked for by the environment, whoever asked cannot grant.

    An approver of one environment alone names it; it must be the approval's own.
    """

    project: str
    approval_id: str
    grant: bool
    comment: str = ""
    environment: str = ""


@operation("GET /projects/{project}/approvals/{approval_id}", allow="read", returns=Approval)
class GetApproval(Struct, frozen=True, kw_only=True):
    """One approval."""

    project: str
    approval_id: str


@operation("GET /projects/{project}/approvals", allow="read", returns=list[Approval])
class ListApprovals(Struct, frozen=True, kw_only=True):
    """Approvals of a project, newest first; by default those that wait."""

    project: str
    state: str | None = "waiting"
    limit: int = 50
