"""Records of experiments: what a person or a training script logs, and how it is found again."""

import datetime as dt
from enum import StrEnum
from typing import Any

from msgspec import Raw, Struct

from treadle.records.states import RunState


class Lifecycle(StrEnum):
    """Whether a thing is in use or in the bin. What is in the bin can be restored, or removed for good."""

    active = "active"
    deleted = "deleted"


class View(StrEnum):
    """Which of them a listing shows."""

    active = "active"
    deleted = "deleted"
    all = "all"


class Along(StrEnum):
    """What a part of a metric's history is measured along."""

    step = "step"
    time = "time"  # microseconds UTC
    relative = "relative"  # microseconds since the first point


class ModelState(StrEnum):
    """A logged model: its files are on their way, there, or did not arrive."""

    pending = "pending"
    ready = "ready"
    failed = "failed"


#: The experiment that every project has, and its name.
DEFAULT_EXPERIMENT = "0"
DEFAULT_NAME = "Default"


class Experiment(Struct, frozen=True, kw_only=True):
    """A group of runs. `artifact_location` is empty where its files are in this home."""

    project: str
    experiment_id: str
    name: str
    folder: str = ""
    lifecycle: Lifecycle = Lifecycle.active
    artifact_location: str = ""
    description: str = ""
    actor: str = ""
    tags: dict[str, str] = {}
    created: dt.datetime
    updated: dt.datetime
    deleted: dt.datetime | None = None


class Point(Struct, frozen=True, kw_only=True, gc=False):
    """One measurement.

    `value` is a number, or where JSON has none for it `NaN`, `Infinity` or `-Infinity`; `time` is in microseconds since 1970 UTC, None
    for the time of the call; `model_id` and the dataset's name and digest say what was measured, on what.
    """

    key: str
    value: float | str
    step: int = 0
    time: int | None = None
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class RunInput(Struct, frozen=True, kw_only=True):
    """Data that a run read. `digest` is its maker's word for its content."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None
    context: str = ""  # training, validation, …
    tags: dict[str, str] = {}


class RunModel(Struct, frozen=True, kw_only=True):
    """A logged model that a run read (`input`) or made (`output`)."""

    model_id: str
    role: str
    step: int = 0


class RunHead(Struct, frozen=True, kw_only=True):
    """What a run is, without what was logged to it.

    A pipeline's run has its `pipeline`; the engine moves it. Any other is moved by whoever logs it.
    """

    project: str
    run_id: str
    experiment_id: str
    name: str
    user: str
    state: RunState
    lifecycle: Lifecycle
    actor: str
    created: dt.datetime
    started: dt.datetime | None = None
    ended: dt.datetime | None = None
    deleted: dt.datetime | None = None
    error: str | None = None
    pipeline: str = ""
    parent_run: str | None = None
    git_revision: str | None = None


class TrackedRun(RunHead, frozen=True, kw_only=True):
    """A run as it is found: what it is, the latest value of each metric, its parameters, tags, inputs and models."""

    metrics: list[Point] = []
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: list[RunInput] = []
    models: list[RunModel] = []


class RunDocument(Struct, frozen=True, kw_only=True):
    """A run for whoever passes it on: what was logged to it as the JSON that it is kept as.

    `data` has the latest of each metric (key, value, timestamp in milliseconds UTC, step), `params` and `tags` (key, value), each by name
    and left out where there are none. `created`, `started` and `ended` are in microseconds UTC.
    """

    run_id: str
    experiment_id: str
    name: str
    user: str
    state: RunState
    lifecycle: Lifecycle
    created: int
    started: int | None
    ended: int | None
    data: Raw
    inputs: list[RunInput] = []
    models: list[RunModel] = []


class LoggedModel(Struct, frozen=True, kw_only=True):
    """A model that a run logged: files under its own id, not yet a version of a registered model."""

    project: str
    model_id: str
    experiment_id: str
    name: str
    run_id: str = ""
    state: ModelState = ModelState.pending
    status_message: str = ""
    model_type: str = ""
    lifecycle: Lifecycle = Lifecycle.active
    artifact_location: str = ""
    actor: str = ""
    created: dt.datetime
    updated: dt.datetime
    deleted: dt.datetime | None = None
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: list["ModelPoint"] = []


class ModelPoint(Struct, frozen=True, kw_only=True):
    """A measurement of a logged model, by a run, on data."""

    key: str
    value: float | str
    step: int
    time: int
    run_id: str
    dataset_name: str = ""
    dataset_digest: str = ""


class UploadPart(Struct, frozen=True):
    """A part of an upload: a blob."""

    digest: str
    size: int


class Upload(Struct, frozen=True, kw_only=True):
    """A file that arrives in parts, by number; each is a blob until all of them make the file."""

    project: str
    upload_id: str
    owner: str
    path: str
    parts: dict[int, UploadPart] = {}
    recorded_time: dt.datetime


class SavedView(Struct, frozen=True, kw_only=True):
    """A listing as somebody set it up: filter, order, columns, charts."""

    project: str
    view_id: str
    page: str
    name: str
    actor: str
    query: dict[str, Any]
    recorded_time: dt.datetime


class Removed(Struct, frozen=True, kw_only=True):
    """What a removal takes with it, or took: things by kind, rows and bytes, and what keeps the rest.

    `kept` says of each thing that stays what refers to it, in words.
    """

    preview: bool
    binned: int = 0  # that went to the bin only
    runs: int = 0
    experiments: int = 0
    models: int = 0
    versions: int = 0
    logged_models: int = 0
    artifacts: int = 0
    metric_points: int = 0
    freed_bytes: int = 0
    things: list[str] = []  # `run/…`, `model/delay/3`; the first thousand
    kept: list[str] = []
