"""Records of models: evaluation reports, sealed bundles, versions, approvals."""

import datetime as dt
from typing import Any

from msgspec import Struct

from treadle.records.definitions import Column, FeatureView
from treadle.records.states import ApprovalState, VersionState


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


class BundleFile(Struct, frozen=True, kw_only=True):
    """One file of a bundle."""

    path: str
    digest: str
    size: int


class Bundle(Struct, frozen=True, kw_only=True):
    """The manifest of a sealed, content-addressed model package; its digest is the bundle's.

    `flavor` names the predictor: `lightgbm` (text model), `sklearn` (skops). `onnx_equal` is the largest absolute difference between the
    ONNX export and the native model on the proof rows, None where there is no export.
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
    """A registered model version."""

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


class Approval(Struct, frozen=True, kw_only=True):
    """A question, whom it was put to, and the answer."""

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
