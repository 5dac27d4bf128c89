"""The verbs of the whole: plan and apply a project, and look at it."""

import datetime as dt
from typing import Any

from msgspec import Struct

from treadle.operations.table import Writes, operation
from treadle.records.definitions import Project
from treadle.records.ledger import Event
from treadle.records.models import Approval


class Change(Struct, frozen=True, kw_only=True):
    """One line of a plan. `action`: add, change, rename, remove, keep. `refused` says what live thing forbids it."""

    action: str
    kind: str
    name: str
    before: str | None = None
    after: str | None = None
    detail: str = ""
    refused: str = ""


class Plan(Struct, frozen=True, kw_only=True):
    """What applying a project would change in an environment."""

    project: str
    environment: str
    base: str  # digest of what is applied now, "" where nothing is
    changes: list[Change]


class Applied(Struct, frozen=True, kw_only=True):
    """What was applied."""

    plan: Plan
    digest: str


class Station(Struct, frozen=True, kw_only=True):
    """One station of the loop: its state in a word, what to say under its name, and when it last changed.

    `state`: healthy, tried, waits, harm, quiet.
    """

    name: str
    state: str
    text: str
    time: dt.datetime | None = None


class Overview(Struct, frozen=True, kw_only=True):
    """The loop of one endpoint at a glance."""

    project: str
    environment: str
    endpoint: str
    sentence: str
    now: dt.datetime
    virtual: bool
    stations: list[Station]
    champion: int | None
    challenger: int | None
    travelling: str | None  # the station whose outgoing arc is being travelled
    waiting: list[Approval]
    figures: dict[str, Any]
    quality: list[dict[str, Any]]  # one per block: start, roc_auc, brier, mean_predicted, mean_observed, predictions, champion
    marks: list[dict[str, Any]]  # releases, alarms, retrainings, canaries on the same axis: kind, start, end, text
    events: list[Event]
    judged: list[dict[str, Any]] = []  # months as judged from outside after a replay: month, rows, metrics, policies


class ProjectSummary(Struct, frozen=True, kw_only=True):
    """A project and where it is applied."""

    name: str
    environments: list[str]
    endpoints: list[str]


@operation("GET /projects", allow="read", returns=list[ProjectSummary])
class ListProjects(Struct, frozen=True, kw_only=True):
    """All projects of this home."""


@operation("GET /projects/{project}/environments/{environment}/applied", allow="read", returns=Project | None)
class GetApplied(Struct, frozen=True, kw_only=True):
    """The definitions that are applied in an environment, None where nothing is."""

    project: str
    environment: str


@operation(
    "POST /projects/{project}/environments/{environment}/apply",
    allow="project:apply",
    returns=Applied,
    writes=Writes("treadle.project.applied", "project/{project}"),
)
class ApplyProject(Struct, frozen=True, kw_only=True):
    """Make the definitions so in an environment. `base` is the digest of what the caller's plan was made against: if another
    apply came between, nothing changes and the error says so."""

    project: str
    environment: str
    definitions: Project
    base: str = ""
    remove: bool = False


@operation("GET /projects/{project}/environments/{environment}/overview", allow="read", returns=Overview)
class GetOverview(Struct, frozen=True, kw_only=True):
    """The loop of one endpoint (the first where none is named)."""

    project: str
    environment: str
    endpoint: str = ""
    since: dt.datetime | None = None


class Chain(Struct, frozen=True, kw_only=True):
    """Why a prediction came out: each link in words and facts, from the prediction back to the rows."""

    prediction_id: str
    links: list[dict[str, Any]]


@operation("GET /projects/{project}/predictions/{prediction_id}/why", allow="read", returns=Chain)
class WhyPrediction(Struct, frozen=True, kw_only=True):
    """Walk from a prediction (its log segment sealed or not) to variant, model version, bundle, run, dataset versions and row
    counts, feature definitions, code revision and environment lock."""

    project: str
    prediction_id: str
