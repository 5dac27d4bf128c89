"""The verbs of experiment tracking: experiments, runs that a script logs, their search, logged models, views; files and removal are in
`artifacts`."""

from typing import Any

from msgspec import Struct

from treadle.operations.artifacts import AbortUpload as AbortUpload
from treadle.operations.artifacts import ApplyRetention as ApplyRetention
from treadle.operations.artifacts import CheckFile as CheckFile
from treadle.operations.artifacts import CompleteUpload as CompleteUpload
from treadle.operations.artifacts import DeleteFiles as DeleteFiles
from treadle.operations.artifacts import Files as Files
from treadle.operations.artifacts import GetFile as GetFile
from treadle.operations.artifacts import GetUpload as GetUpload
from treadle.operations.artifacts import ListFiles as ListFiles
from treadle.operations.artifacts import ListRetention as ListRetention
from treadle.operations.artifacts import PutFile as PutFile
from treadle.operations.artifacts import PutPart as PutPart
from treadle.operations.artifacts import RemoveForGood as RemoveForGood
from treadle.operations.artifacts import RetentionRule as RetentionRule
from treadle.operations.artifacts import SetRetention as SetRetention
from treadle.operations.artifacts import StartUpload as StartUpload
from treadle.operations.ledger import Done
from treadle.operations.table import Writes, operation
from treadle.records.ledger import Page
from treadle.records.states import RunState
from treadle.records.tracking import (
    Along,
    Experiment,
    LoggedModel,
    ModelState,
    Point,
    RunDocument,
    RunHead,
    RunInput,
    RunModel,
    SavedView,
    TrackedRun,
    View,
)

MEASURES = Writes(measures=True)


class Experiments(Struct, frozen=True, kw_only=True):
    """A page of experiments."""

    items: list[Experiment]
    page: Page


class TrackedRuns(Struct, frozen=True, kw_only=True):
    """A page of runs, in the order asked for."""

    items: list[TrackedRun]
    page: Page


class RunDocuments(Struct, frozen=True, kw_only=True):
    """A page of runs and what was logged to them, in the order asked for."""

    items: list[RunDocument]
    page: Page


class LoggedModels(Struct, frozen=True, kw_only=True):
    """A page of logged models."""

    items: list[LoggedModel]
    page: Page


class DataRead(Struct, frozen=True, kw_only=True):
    """Data that runs of an experiment read."""

    experiment_id: str
    name: str
    digest: str
    context: str = ""  # training, validation, …


class History(Struct, frozen=True, kw_only=True):
    """A page of metric histories: for each run, the points of one metric by time, step and value."""

    key: str
    points: dict[str, list[Point]]  # by run id
    page: Page


class Columns(Struct, frozen=True, kw_only=True):
    """One metric's history as columns of the same length. A value that is no number is `NaN`, `Infinity` or `-Infinity`.

    Of a history that was thinned out `means` has, at the place of each value, the mean of the part that it stands for (None: of no number);
    else it is None.
    """

    key: str
    run_id: str
    times: list[int]  # microseconds UTC
    steps: list[int]
    values: list[float | str]
    means: list[float | None] | None = None


# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────────────


@operation(
    "POST /projects/{project}/experiments",
    allow="runs:write",
    returns=Experiment,
    writes=Writes("treadle.experiment.created", "experiment/{experiment_id}"),
)
class CreateExperiment(Struct, frozen=True, kw_only=True):
    """Make an experiment under an id of the caller's. A name is taken once in a project, the bin included. `created` (microseconds UTC;
    None: now) is of one that was made elsewhere."""

    project: str
    experiment_id: str
    name: str
    folder: str = ""
    artifact_location: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    created: int | None = None


@operation("GET /projects/{project}/experiments/{experiment}", allow="read", returns=Experiment)
class GetExperiment(Struct, frozen=True, kw_only=True):
    """One experiment, by its id or its name (`by`: id, name, or any: the id first), in the bin or not."""

    project: str
    experiment: str
    by: str = "any"


@operation("GET /projects/{project}/experiments", allow="read", returns=Experiments)
class SearchExperiments(Struct, frozen=True, kw_only=True):
    """Experiments that a filter finds, newest first if no order is given; `folder` takes those below it too, `default` the experiment
    `Default` even before anything was recorded in it."""

    project: str
    filter: str = ""
    order_by: list[str] = []
    view: View = View.active
    folder: str | None = None
    default: bool = False
    limit: int = 100
    page: str | None = None


@operation(
    "PUT /projects/{project}/experiments/{experiment_id}",
    allow="runs:write",
    returns=Experiment,
    writes=Writes("treadle.experiment.changed", "experiment/{experiment_id}"),
)
class UpdateExperiment(Struct, frozen=True, kw_only=True):
    """Rename an experiment, move it to a folder, describe it; what is not given stays."""

    project: str
    experiment_id: str
    name: str | None = None
    folder: str | None = None
    description: str | None = None


@operation("POST /projects/{project}/experiments/{experiment_id}/tags", allow="runs:write", returns=Done, writes=MEASURES)
class SetExperimentTags(Struct, frozen=True, kw_only=True):
    """Set tags of an experiment, and remove those named in `remove`."""

    project: str
    experiment_id: str
    tags: dict[str, str] = {}
    remove: list[str] = []


@operation(
    "POST /projects/{project}/experiments/{experiment_id}/lifecycle",
    allow="runs:write",
    returns=Experiment,
    writes=Writes("treadle.experiment.{lifecycle}", "experiment/{experiment_id}"),
)
class BinExperiment(Struct, frozen=True, kw_only=True):
    """Put an experiment and its active runs into the bin (`deleted`), or take it and the runs that went with it back (`active`)."""

    project: str
    experiment_id: str
    lifecycle: str


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@operation(
    "POST /projects/{project}/tracked-runs",
    allow="runs:write",
    returns=TrackedRun,
    writes=Writes("treadle.run.created", "run/{run_id}"),
)
class StartRun(Struct, frozen=True, kw_only=True):
    """Record a run that a script executes and logs itself, running from `started` (microseconds UTC; None: now).

    `experiment` is an id or a name; a name that is not there yet becomes an experiment. The same id with the same content changes
    nothing; with other content it is a conflict.
    """

    project: str
    run_id: str
    experiment: str = "0"
    environment: str = "dev"
    name: str = ""
    user: str = ""
    started: int | None = None
    parent_run: str | None = None
    git_revision: str | None = None
    code_digest: str = ""
    environment_digest: str = ""
    tags: dict[str, str] = {}
    params: dict[str, str] = {}


@operation("GET /projects/{project}/tracked-runs/{run_id}", allow="read", returns=TrackedRun)
class GetTrackedRun(Struct, frozen=True, kw_only=True):
    """One run with everything that was logged to it."""

    project: str
    run_id: str


@operation(
    "PUT /projects/{project}/tracked-runs/{run_id}",
    allow="runs:write",
    returns=RunHead,
    writes=Writes("treadle.run.moved", "run/{run_id}"),
)
class UpdateRun(Struct, frozen=True, kw_only=True):
    """Change a run that a script logs: its state (a finished one may go on), its end (microseconds UTC), its name, its experiment.

    A pipeline's run can be renamed and moved to another experiment; its state is the engine's. What was logged is not answered.
    """

    project: str
    run_id: str
    state: RunState | None = None
    ended: int | None = None
    name: str | None = None
    experiment: str | None = None
    error: str | None = None


@operation("POST /projects/{project}/tracked-runs/{run_id}/log", allow="runs:write", returns=Done, writes=MEASURES)
class LogBatch(Struct, frozen=True, kw_only=True):
    """Log metrics, parameters and tags in one transaction: all of them or none.

    The same point or parameter again changes nothing; another value for a parameter that is there is a conflict, which names both.
    """

    project: str
    run_id: str
    metrics: list[Point] = []
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    remove_tags: list[str] = []


@operation("POST /projects/{project}/tracked-runs/{run_id}/inputs", allow="runs:write", returns=Done, writes=MEASURES)
class LogInputs(Struct, frozen=True, kw_only=True):
    """Say what data and logged models a run read, and what logged models it made; datasets become versions in the lineage."""

    project: str
    run_id: str
    inputs: list[RunInput] = []
    models: list[RunModel] = []


@operation(
    "POST /projects/{project}/tracked-runs/{run_id}/lifecycle",
    allow="runs:write",
    returns=RunHead,
    writes=Writes("treadle.run.{lifecycle}", "run/{run_id}"),
)
class BinRun(Struct, frozen=True, kw_only=True):
    """Put a run into the bin (`deleted`) or take it back (`active`)."""

    project: str
    run_id: str
    lifecycle: str


@operation("POST /projects/{project}/search/runs", allow="read", returns=TrackedRuns)
class SearchRuns(Struct, frozen=True, kw_only=True):
    """Runs of experiments (ids; none: all) that a filter finds, in the order asked for, newest first within and without one.

    The filter language is MLflow's: `metrics.auc > 0.8 and params.depth = '4' and tags.kind like 'a%'`. `columns` limits what is
    answered of each run (`metrics.auc`, `params.*`, `tags.kind`, `inputs`); None is everything.
    """

    project: str
    experiments: list[str] = []
    filter: str = ""
    order_by: list[str] = []
    view: View = View.active
    limit: int = 100
    page: str | None = None
    columns: list[str] | None = None


@operation("POST /projects/{project}/search/run-documents", allow="read", returns=RunDocuments)
class SearchRunDocuments(Struct, frozen=True, kw_only=True):
    """The same search for whoever passes its page on: what was logged to a run comes as the JSON that MLflow's clients read."""

    project: str
    experiments: list[str] = []
    filter: str = ""
    order_by: list[str] = []
    view: View = View.active
    limit: int = 100
    page: str | None = None


@operation("POST /projects/{project}/search/inputs", allow="read", returns=list[DataRead])
class SearchInputs(Struct, frozen=True, kw_only=True):
    """The data that runs of these experiments read, each once for each context, by name and digest; at most `limit`."""

    project: str
    experiments: list[str]
    limit: int = 1000


@operation("GET /projects/{project}/history/{key}", allow="read", returns=History)
class MetricHistory(Struct, frozen=True, kw_only=True):
    """Every point of one metric of one run or several; `most` thins each run's out evenly to so many, ends kept (0: all)."""

    project: str
    key: str
    run_ids: list[str]
    most: int = 0
    limit: int = 25_000
    page: str | None = None


@operation("GET /projects/{project}/tracked-runs/{run_id}/columns/{key}", allow="read", returns=Columns)
class MetricColumns(Struct, frozen=True, kw_only=True):
    """One run's history of one metric by time, step and value, quick to read and to draw; `most` thins it out as in MetricHistory.

    `low` and `high` are the ends of a part of it: steps, or with `along` microseconds, `time` UTC or `relative` to the run's first point.
    The points beside the part come too, so that a line goes on to its edges.
    """

    project: str
    run_id: str
    key: str
    most: int = 0
    along: Along = Along.step
    low: int | None = None
    high: int | None = None


# ── logged models ────────────────────────────────────────────────────────────────────────────────────────────────────


@operation(
    "POST /projects/{project}/logged-models",
    allow="runs:write",
    returns=LoggedModel,
    writes=Writes("treadle.logged_model.created", "logged-model/{model_id}"),
)
class CreateLoggedModel(Struct, frozen=True, kw_only=True):
    """Announce a model whose files follow. `created` (microseconds UTC; None: now) is of one that was made elsewhere."""

    project: str
    model_id: str
    experiment_id: str = "0"
    name: str = ""
    run_id: str = ""
    model_type: str = ""
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    created: int | None = None


@operation("GET /projects/{project}/logged-models/{model_id}", allow="read", returns=LoggedModel)
class GetLoggedModel(Struct, frozen=True, kw_only=True):
    """One logged model."""

    project: str
    model_id: str
    deleted: bool = False


@operation(
    "PUT /projects/{project}/logged-models/{model_id}",
    allow="runs:write",
    returns=LoggedModel,
    writes=Writes("treadle.logged_model.moved", "logged-model/{model_id}"),
)
class UpdateLoggedModel(Struct, frozen=True, kw_only=True):
    """Say that a logged model's files are there, or will not come; set and remove tags, add parameters."""

    project: str
    model_id: str
    state: ModelState | None = None
    status_message: str = ""
    tags: dict[str, str] = {}
    remove_tags: list[str] = []
    params: dict[str, str] = {}


@operation(
    "DELETE /projects/{project}/logged-models/{model_id}",
    allow="runs:write",
    returns=Done,
    writes=Writes("treadle.logged_model.deleted", "logged-model/{model_id}"),
)
class BinLoggedModel(Struct, frozen=True, kw_only=True):
    """Put a logged model into the bin."""

    project: str
    model_id: str


@operation("POST /projects/{project}/search/logged-models", allow="read", returns=LoggedModels)
class SearchLoggedModels(Struct, frozen=True, kw_only=True):
    """Logged models of experiments that a filter finds; `datasets` (name, digest pairs) limit which measurements a metric means."""

    project: str
    experiments: list[str] = []
    filter: str = ""
    order_by: list[dict[str, Any]] = []  # {"field_name": "metrics.auc", "ascending": false, "dataset_name": …, "dataset_digest": …}
    datasets: list[dict[str, str]] = []
    limit: int = 50
    page: str | None = None


# ── views ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@operation("PUT /projects/{project}/views/{view_id}", allow="runs:write", returns=SavedView, writes=MEASURES)
class SaveView(Struct, frozen=True, kw_only=True):
    """Keep a listing as it is set up, under a name; the same id again replaces it."""

    project: str
    view_id: str
    page: str
    name: str
    query: dict[str, Any]


@operation("GET /projects/{project}/views", allow="read", returns=list[SavedView])
class ListViews(Struct, frozen=True, kw_only=True):
    """Saved views of a page (`runs`, `models`), by name."""

    project: str
    page: str = "runs"


@operation("DELETE /projects/{project}/views/{view_id}", allow="runs:write", returns=Done, writes=MEASURES)
class DeleteView(Struct, frozen=True, kw_only=True):
    """Forget a saved view."""

    project: str
    view_id: str
