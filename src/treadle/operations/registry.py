"""The registry's verbs: models, versions, aliases, stages, approvals, comments, cards."""

import datetime as dt

from msgspec import Struct

from treadle.operations.table import Writes, operation
from treadle.records.ledger import Page
from treadle.records.models import Approval, Card, Comment, Comparison, Download, GateResult, ModelVersion, RegisteredModel, Removal, Use

MEASURES = Writes(measures=True)


class ModelVersions(Struct, frozen=True, kw_only=True):
    """A page of versions, newest first."""

    items: list[ModelVersion]
    page: Page


class RegisteredModels(Struct, frozen=True, kw_only=True):
    """A page of registered models, in the order asked for."""

    items: list[RegisteredModel]
    page: Page


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@operation(
    "POST /projects/{project}/models/{model}",
    allow="models:write",
    returns=RegisteredModel,
    writes=Writes("treadle.model.created", "model/{model}"),
)
class CreateModel(Struct, frozen=True, kw_only=True):
    """Make a registered model, without a version yet. A name that is there is a conflict. `created` (microseconds UTC; None: now) is of
    one that was made elsewhere."""

    project: str
    model: str
    description: str = ""
    tags: dict[str, str] = {}
    created: int | None = None


@operation("GET /projects/{project}/models/{model}", allow="read", returns=RegisteredModel)
class GetModel(Struct, frozen=True, kw_only=True):
    """One registered model."""

    project: str
    model: str


@operation("POST /projects/{project}/search/models", allow="read", returns=RegisteredModels)
class SearchModels(Struct, frozen=True, kw_only=True):
    """Registered models that a filter finds, by name where no order is given.

    `name LIKE 'delay%' AND tags.team = 'ops'`; ordered by `name`, `creation_timestamp` or `last_updated_timestamp`, `ASC` or `DESC`.
    Models that have the tag `without_tag` are left out.
    """

    project: str
    filter: str = ""
    order_by: list[str] = []
    limit: int = 100
    page: str | None = None
    without_tag: str = ""


@operation(
    "PUT /projects/{project}/models/{model}",
    allow="models:write",
    returns=RegisteredModel,
    writes=Writes("treadle.model.changed", "model/{model}"),
)
class UpdateModel(Struct, frozen=True, kw_only=True):
    """Describe a model, set and remove its tags; what is not given stays."""

    project: str
    model: str
    description: str | None = None
    tags: dict[str, str] = {}
    remove_tags: list[str] = []


@operation(
    "POST /projects/{project}/models/{model}/name",
    allow="models:write",
    returns=RegisteredModel,
    writes=Writes("treadle.model.renamed", "model/{model}"),
)
class RenameModel(Struct, frozen=True, kw_only=True):
    """Give a model another name: versions, aliases and tags follow. Refused while an endpoint or a release refers to it."""

    project: str
    model: str
    name: str


@operation(
    "DELETE /projects/{project}/models/{model}",
    allow="models:write",
    returns=Removal,
    writes=Writes("treadle.model.deleted", "model/{model}"),
)
class DeleteModel(Struct, frozen=True, kw_only=True):
    """Delete a model with all its versions; refused while something refers to one of them. The numbers are not given again."""

    project: str
    model: str
    preview: bool = False


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@operation(
    "POST /projects/{project}/models/{model}/candidates",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.registered", "model/{model}/{number}"),
)
class CreateVersion(Struct, frozen=True, kw_only=True):
    """Register a model that is not sealed: what a run logged, a logged model, or files that were uploaded.

    The version is a `candidate`: it can be stored, loaded and compared, and not approved or released until it is sealed. `source` is
    `runs:/RUN/PATH`, `models:/MODEL_ID`, `models:/NAME/N` or `mlflow-artifacts:/…`; empty for the files of the run or logged model. Metrics
    are taken from these where none are given. Where there is no such model it is made with `create`. A `number` of the caller's (an import)
    must be above every one the model has had; the same version under it again changes nothing. `created` (microseconds UTC; None: now) is
    of one that was registered elsewhere.
    """

    project: str
    model: str
    number: int = 0
    run_id: str = ""
    model_id: str = ""
    source: str = ""
    run_link: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    metrics: dict[str, float] = {}
    create: bool = False
    created: int | None = None


@operation("POST /projects/{project}/search/versions", allow="read", returns=ModelVersions)
class SearchVersions(Struct, frozen=True, kw_only=True):
    """Versions of all models that a filter finds, last changed first where no order is given.

    `name = 'delay' AND metrics.auc > 0.8 AND tags.kind = 'tree'`; the best by a metric is the first ordered by `metrics.auc DESC`.
    """

    project: str
    filter: str = ""
    order_by: list[str] = []
    limit: int = 100
    page: str | None = None
    without_tag: str = ""


@operation(
    "PUT /projects/{project}/models/{model}/versions/{number}",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.version_changed", "model/{model}/{number}"),
)
class UpdateVersion(Struct, frozen=True, kw_only=True):
    """Describe a version, pin it against every clean-up, say when it must be reviewed; what is not given stays."""

    project: str
    model: str
    number: int
    description: str | None = None
    pinned: bool | None = None
    review_due: dt.datetime | None = None


@operation(
    "POST /projects/{project}/models/{model}/versions/{number}/tags",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.version_tagged", "model/{model}/{number}"),
)
class SetVersionTags(Struct, frozen=True, kw_only=True):
    """Set tags of a version, and remove those named in `remove`."""

    project: str
    model: str
    number: int
    tags: dict[str, str] = {}
    remove: list[str] = []


@operation(
    "DELETE /projects/{project}/models/{model}/versions/{number}",
    allow="models:write",
    returns=Removal,
    writes=Writes("treadle.model.version_deleted", "model/{model}/{number}"),
)
class DeleteVersion(Struct, frozen=True, kw_only=True):
    """Delete a version and its free aliases. One that is released, pinned, or referred to is kept, and the error says by what."""

    project: str
    model: str
    number: int
    preview: bool = False


@operation(
    "POST /projects/{project}/models/{model}/versions/{number}/bundle",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.sealed", "model/{model}/{number}"),
)
class SealVersion(Struct, frozen=True, kw_only=True):
    """Give an unsealed version its bundle, after which it goes the usual way: validated, approved, released."""

    project: str
    model: str
    number: int
    bundle_digest: str
    gates: tuple[GateResult, ...] = ()


@operation(
    "POST /projects/{project}/models/{model}/versions/{number}/stage",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.stage_set", "model/{model}/{number}"),
)
class SetStage(Struct, frozen=True, kw_only=True):
    """Put a version into a stage of the older vocabulary (None, Staging, Production, Archived). A stage is a label: it releases nothing.

    With `archive_others` the other versions in that stage become Archived.
    """

    project: str
    model: str
    number: int
    stage: str
    archive_others: bool = False


@operation("POST /projects/{project}/models/{model}/versions/{number}/downloads", allow="read", returns=Download, writes=MEASURES)
class DownloadVersion(Struct, frozen=True, kw_only=True):
    """Where a version's files are; counted."""

    project: str
    model: str
    number: int


@operation("GET /projects/{project}/models/{model}/versions/{number}/uses", allow="read", returns=list[Use])
class GetUses(Struct, frozen=True, kw_only=True):
    """Endpoints, aliases, releases and snapshots that refer to a version; number 0: to the model and any version of it."""

    project: str
    model: str
    number: int


@operation("GET /projects/{project}/models/{model}/compare", allow="read", returns=Comparison)
class CompareVersions(Struct, frozen=True, kw_only=True):
    """Two versions side by side: metrics, parameters, schema, data, code, environment, tags. `other` names the right one's model."""

    project: str
    model: str
    left: int
    right: int
    other: str = ""
    differences: bool = False  # only what differs


@operation(
    "POST /projects/{project}/models/{model}/versions",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.registered", "model/{model}/{number}"),
)
class RegisterVersion(Struct, frozen=True, kw_only=True):
    """Register a sealed bundle as the next version of a model. The same bundle from the same run again changes nothing.

    The version starts as `validated` where all gates passed, as `rejected` where one did not. One that was registered elsewhere (an
    import) brings its `number`, which must be above every one the model has had, and when that was (`created`, microseconds UTC).
    """

    project: str
    model: str
    bundle_digest: str
    run_id: str
    metrics: dict[str, float] = {}
    gates: tuple[GateResult, ...] = ()
    description: str = ""
    tags: dict[str, str] = {}
    number: int = 0
    created: int | None = None


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
    "DELETE /projects/{project}/models/{model}/aliases/{alias}",
    allow="models:write",
    returns=RegisteredModel,
    writes=Writes("treadle.model.alias_deleted", "model/{model}"),
)
class DeleteAlias(Struct, frozen=True, kw_only=True):
    """Take a free alias away; one that is not there is fine. Aliases that an endpoint follows are moved by a release only."""

    project: str
    model: str
    alias: str


@operation(
    "POST /projects/{project}/models/{model}/versions/{number}/state",
    allow="models:write",
    returns=ModelVersion,
    writes=Writes("treadle.model.moved", "model/{model}/{number}"),
)
class MoveVersion(Struct, frozen=True, kw_only=True):
    """Move a version to `rejected` or `archived`, or from the archive back to `validated`, unless it was rejected before. Other states are
    reached by approvals and releases."""

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
    """Ask for approval of a model version in an environment. Where one waits or is granted already, that is the answer.

    Unanswered, it expires at `expires` (business time); where that is not given, as the environment declares.
    """

    project: str
    approval_id: str
    environment: str
    subject: str
    question: str
    expires: dt.datetime | None = None


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


@operation(
    "POST /projects/{project}/approvals/{approval_id}/withdrawal",
    allow="models:write",
    returns=Approval,
    writes=Writes("treadle.approval.withdrawn", "approval/{approval_id}"),
)
class WithdrawApproval(Struct, frozen=True, kw_only=True):
    """Take a question back that waits for its answer. Whoever asked may."""

    project: str
    approval_id: str
    reason: str = ""


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


# ── comments, cards ──────────────────────────────────────────────────────────────────────────────────────────────────


@operation(
    "POST /projects/{project}/comments",
    allow="models:write",
    returns=Comment,
    writes=Writes("treadle.comment.added", "{subject}"),
)
class AddComment(Struct, frozen=True, kw_only=True):
    """Say something about a thing: `approval/ID`, `model/NAME/N`, `run/ID`. The same id again changes nothing."""

    project: str
    comment_id: str
    subject: str
    text: str


@operation("GET /projects/{project}/comments", allow="read", returns=list[Comment])
class ListComments(Struct, frozen=True, kw_only=True):
    """What was said about a thing, in the order it was said."""

    project: str
    subject: str
    limit: int = 100


@operation("GET /projects/{project}/models/{model}/versions/{number}/card", allow="read", returns=Card)
class GetCard(Struct, frozen=True, kw_only=True):
    """The model card of a version (0: the newest): sections as a record, and with `format` `md` or `html` as a text too."""

    project: str
    model: str
    number: int
    format: str = "json"


@operation(
    "PUT /projects/{project}/models/{model}/card",
    allow="models:write",
    returns=RegisteredModel,
    writes=Writes("treadle.model.card_changed", "model/{model}"),
)
class UpdateCard(Struct, frozen=True, kw_only=True):
    """Write sections of a model's card (`intended_use`, `limits`, …): of one version, or with `number` 0 of all. Empty text removes one."""

    project: str
    model: str
    sections: dict[str, str]
    number: int = 0
