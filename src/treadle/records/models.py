"""Records of models: evaluation reports, sealed bundles, versions, approvals."""

import datetime as dt
from typing import Any

from msgspec import Struct

from treadle.records.definitions import Column, FeatureView
from treadle.records.states import ApprovalState, VersionState

#: Sections of a model card that a machine cannot know: key → (title, what to write).
CARD_SECTIONS: dict[str, tuple[str, str]] = {
    "intended_use": ("Intended use", "Who uses the predictions, for which decisions, and what they are not meant for."),
    "limits": ("Limits", "Where the model is known to be wrong, untested or out of its range."),
    "fairness": ("Fairness", "Which groups were looked at, what was found, and what follows from it."),
    "risks": ("Risks and mitigations", "What can go wrong for whom, and what is done about it."),
    "data": ("Data, in words", "How the data came about, what is missing from it, personal data in it."),
    "owners": ("Owners", "Who answers for the model, and how to reach them."),
    "maintenance": ("Maintenance", "When it is reviewed, retrained and retired."),
}


class SliceMetrics(Struct, frozen=True, kw_only=True):
    """Metrics on the rows where `column` has `value`."""

    column: str
    value: str
    rows: int
    metrics: dict[str, float]


class Report(Struct, frozen=True, kw_only=True):
    """An evaluation on held-out rows: metrics over all of them and by slice, and who else was scored on the same rows."""

    rows: int
    metrics: dict[str, float]
    slices: tuple[SliceMetrics, ...] = ()
    champion: dict[str, float] | None = None
    champion_version: int | None = None
    champion_until: dt.datetime | None = None  # the newest row the champion learned from, where its bundle says
    champion_as_judged: bool = False  # scored as it was before its refit, which has learned from some of the rows
    baseline: dict[str, float] | None = None
    test_digest: str = ""
    test_from: dt.datetime | None = None
    test_until: dt.datetime | None = None
    directions: dict[str, int] = {}  # of metrics that are the user's own: 1 higher is better, -1 lower, 0 neither


class GateResult(Struct, frozen=True, kw_only=True):
    """One gate's answer, in words and numbers."""

    gate: str
    passed: bool
    text: str
    facts: dict[str, Any] = {}


class InputColumn(Struct, frozen=True, kw_only=True):
    """One input of a model.

    `origin` is `request` (the caller sends it) or `view` (the gateway reads it online by the entity's key). A string column has
    its `categories` in code order; `unknown` is the column's rule for others.
    """

    name: str
    dtype: str
    nullable: bool = True
    origin: str = "request"
    view: str | None = None
    categories: tuple[str, ...] | None = None
    unknown: str = "null"


class Signature(Struct, frozen=True, kw_only=True):
    """What a model takes and gives. `inputs` stand in the order of the model's matrix; `keys` are entity keys and others that a
    request carries beside them (not model inputs by themselves)."""

    inputs: tuple[InputColumn, ...]
    keys: tuple[Column, ...] = ()
    output: str = "probability"  # probability | value | label
    classes: tuple[str, ...] = ()


#: The tag of a version that holds the container image it is in, by digest.
IMAGE_TAG = "treadle.image"


class Fitted(Struct, frozen=True, kw_only=True):
    """A trained model as a fit step returns it, before it is sealed: plain bytes in a format that needs no unpickling.

    `content` is LightGBM's text model (`lightgbm`) or skops bytes (`sklearn`). `features` of the training frame
    are the inputs of `signature`,
    in its order. `output` is what a prediction is: `probability` (of class 1) or `value`.
    """

    flavor: str
    content: bytes
    signature: Signature
    label: str
    params: dict[str, Any] = {}
    output: str = "probability"
    rows: int = 0  # it was trained on
    event_time: dt.datetime | None = None  # latest row it was trained on, where that is known
    sample: bytes = b""  # evenly spaced training rows, an Arrow file
    views: tuple[FeatureView, ...] = ()  # that serve some of its features online
    fit: str = ""  # the fit of `training.fit` that made it and can be repeated, `lightgbm` or `logistic`; nothing for one taken over
    time: str | None = None  # the time column that fit was given


class BundleFile(Struct, frozen=True, kw_only=True):
    """One file of a bundle."""

    path: str
    digest: str
    size: int


class Bundle(Struct, frozen=True, kw_only=True):
    """The manifest of a sealed, content-addressed model package; its digest is the bundle's.

    `flavor` names the predictor: `lightgbm` (text model), `sklearn` (skops), `onnx` (the graph itself). `onnx_equal` is the largest
    absolute difference between the ONNX export and the native model on the proof rows, None where there is no export.
    """

    format: int
    model: str
    flavor: str
    signature: Signature
    views: tuple[FeatureView, ...]
    files: tuple[BundleFile, ...]
    onnx_equal: float | None
    environment: tuple[str, ...]  # name==version of the distributions it was trained with
    python: str
    code_digest: str
    run_id: str
    project: str
    trained_on: tuple[str, ...]  # digests of dataset versions
    event_time: dt.datetime
    card: dict[str, Any] = {}


class ModelVersion(Struct, frozen=True, kw_only=True):
    """A registered model version.

    `bundle_digest` is empty until the version is sealed: it can be stored, loaded and compared before, and released only after. `stage` is
    the older vocabulary of MLflow clients and moves nothing. `previous` is the version before it, None for the first.
    """

    project: str
    model: str
    number: int
    state: VersionState
    bundle_digest: str
    run_id: str
    metrics: dict[str, float]
    gates: tuple[GateResult, ...]
    aliases: tuple[str, ...]
    actor: str
    event_time: dt.datetime
    recorded_time: dt.datetime | None = None
    description: str = ""
    tags: dict[str, str] = {}
    stage: str = "None"
    source: str = ""  # where its files are: `runs:/…`, `models:/m-…`, `mlflow-artifacts:/…`; empty for a bundle of ours
    model_id: str = ""  # the logged model it was made of
    run_link: str = ""
    status: str = "READY"
    status_message: str = ""
    pinned: bool = False
    downloads: int = 0
    review_due: dt.datetime | None = None
    updated: dt.datetime | None = None
    previous: int | None = None

    @property
    def sealed(self) -> bool:
        """Whether it has a bundle."""
        return bool(self.bundle_digest)


class RegisteredModel(Struct, frozen=True, kw_only=True):
    """A model as a thing of its own: what people say of it, its aliases, and the newest version of each stage."""

    project: str
    model: str
    description: str
    actor: str
    tags: dict[str, str]
    card: dict[str, str]  # sections that people wrote, for every version
    created: dt.datetime
    updated: dt.datetime
    versions: int = 0
    newest: int = 0
    aliases: dict[str, int] = {}
    latest: list[ModelVersion] = []


class Use(Struct, frozen=True, kw_only=True):
    """Something that refers to a model or version. `keeps`: it cannot be deleted while this is so."""

    kind: str  # endpoint | alias | release | snapshot | pin | copy
    name: str
    text: str
    keeps: bool
    environment: str = ""
    number: int = 0


class Removal(Struct, frozen=True, kw_only=True):
    """What a deletion takes with it, or with `preview` would, and what keeps it from being done."""

    preview: bool
    versions: list[int]
    aliases: list[str]
    kept: list[str]


class Difference(Struct, frozen=True, kw_only=True):
    """One fact of two versions side by side; None where a version has none. `change` is the right number less the left one."""

    section: str  # facts | metrics | params | schema | data | code | environment | tags
    name: str
    left: Any
    right: Any
    same: bool
    change: float | None = None


class Comparison(Struct, frozen=True, kw_only=True):
    """Two versions side by side."""

    left: ModelVersion
    right: ModelVersion
    items: list[Difference]
    unread: list[str] = []  # which version's bundle or files cannot be read now, and why; what only they say is not compared then


class Download(Struct, frozen=True, kw_only=True):
    """Where a version's files are, and how often that was asked."""

    uri: str
    downloads: int


class Comment(Struct, frozen=True, kw_only=True):
    """What somebody said about a thing."""

    project: str
    comment_id: str
    subject: str  # approval/…, model/delay/3, run/…
    actor: str
    text: str
    event_time: dt.datetime


class Webhook(Struct, frozen=True, kw_only=True):
    """An address that is told of events. Its secret is never answered."""

    project: str
    webhook_id: str
    name: str
    url: str
    events: list[str]  # registered_model.created, model_version.created, …
    description: str
    state: str  # active | disabled
    actor: str
    created: dt.datetime
    updated: dt.datetime
    signed: bool = False  # it has a secret


class WebhookDelivery(Struct, frozen=True, kw_only=True):
    """One event on its way to one webhook."""

    project: str
    webhook_id: str
    delivery_id: str
    event_id: str
    event: str  # model_version.created, …
    state: str  # waiting | delivered | failed (given up) | dropped (the webhook was disabled meanwhile)
    attempts: int
    due: dt.datetime | None  # of the next attempt, where it waits
    status: int | None  # of the last answer
    error: str | None
    created: dt.datetime
    updated: dt.datetime


class WebhookTest(Struct, frozen=True, kw_only=True):
    """What became of a test delivery. The body of the answer is not kept."""

    success: bool
    delivery_id: str
    event: str
    status: int | None = None
    error: str = ""


class Approval(Struct, frozen=True, kw_only=True):
    """A question, whom it was put to, and the answer. After `expires`, business time, it can no longer be granted."""

    project: str
    environment: str
    approval_id: str
    subject: str  # model/delay/3
    question: str
    state: ApprovalState
    asked_by: str
    asked_time: dt.datetime
    decided_by: str | None = None
    decided_time: dt.datetime | None = None
    comment: str = ""
    expires: dt.datetime | None = None


class CardField(Struct, frozen=True, kw_only=True):
    """One line of a card: a name and what is known, in words."""

    name: str
    text: str


class CardTable(Struct, frozen=True, kw_only=True):
    """A table of a card."""

    columns: list[str]
    rows: list[list[str]]


class CardSection(Struct, frozen=True, kw_only=True):
    """A section of a card. `text` was written by people; `missing` says how to write it where nobody has."""

    key: str
    title: str
    fields: list[CardField] = []
    tables: list[CardTable] = []
    text: str = ""
    missing: str = ""


class Card(Struct, frozen=True, kw_only=True):
    """A model card: what the record knows of a version, and what people wrote."""

    project: str
    model: str
    number: int
    state: str
    made: dt.datetime
    sections: list[CardSection]
    text: str = ""  # rendered, where Markdown or HTML was asked for
    unread: str = ""  # why the bundle or the logged files cannot be read now; what only they say is missing from the sections then
