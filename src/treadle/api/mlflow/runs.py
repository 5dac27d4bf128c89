"""Runs in the protocol's words: what they are, their lives, their inputs and outputs, and how they are found."""

import json
import threading
import uuid
from typing import Any

import msgspec
from msgspec import Struct

from treadle.api.mlflow import experiments, measures, words
from treadle.api.mlflow.measures import run_of
from treadle.api.mlflow.table import (
    EMPTY,
    Context,
    Int64,
    Row,
    Tag,
    check_millis,
    check_page_size,
    invalid,
    missing,
    nothing,
    required,
    within,
    writing,
    wrong_type,
)
from treadle.api.mlflow.words import NAME_TAG
from treadle.operations import tracking as ops
from treadle.records.states import RunState
from treadle.records.told import data
from treadle.records.tracking import DEFAULT_EXPERIMENT, Lifecycle, RunDocument, RunHead, RunInput, RunModel, TrackedRun

#: Runs of a page, at most.
MOST = 50_000
CONTEXT_TAG = "mlflow.data.context"
HISTORY_TAG = "mlflow.log-model.history"


class Create(Struct, frozen=True):
    """What a new one is."""

    experiment_id: str = ""
    user_id: str = ""
    run_name: str = ""
    start_time: Int64 = 0
    tags: list[Tag] = []


class One(Struct, frozen=True):
    """Which one."""

    run_id: str = ""
    run_uuid: str = ""


class Update(Struct, frozen=True):
    """What changes."""

    run_id: str = ""
    run_uuid: str = ""
    status: str | int | None = None
    end_time: Int64 | None = None
    run_name: str = ""


class Dataset(Struct, frozen=True):
    """A dataset."""

    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetInput(Struct, frozen=True):
    """A dataset that was read."""

    dataset: Dataset = Dataset()
    tags: list[Tag] = []


class Model(Struct, frozen=True):
    """A logged model that was read or made."""

    model_id: str = ""
    step: Int64 = 0


class LogInputs(Struct, frozen=True):
    """What a run read."""

    run_id: str = ""
    run_uuid: str = ""
    datasets: list[DatasetInput] = []
    models: list[Model] = []


class LogOutputs(Struct, frozen=True):
    """What a run made."""

    run_id: str = ""
    run_uuid: str = ""
    models: list[Model] | None = None


class LogModel(Struct, frozen=True):
    """A model that a client of old logged."""

    run_id: str = ""
    run_uuid: str = ""
    model_json: str = ""


class Search(Struct, frozen=True):
    """What is looked for."""

    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: str | int = ""
    max_results: Int64 = 1000
    order_by: list[str] = []
    page_token: str = ""


class Locations:
    """Where experiments keep their files, which never changes: asked once each."""

    MOST = 10_000

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def get(self, context: Context, experiment_id: str) -> str:
        """The location; asks where it is not known."""
        known = self._known.get((context.project, experiment_id))
        if known is None:
            found = experiments.find(context, experiment_id)
            known = words.location(experiment_id, found.artifact_location)
            with self._lock:
                if len(self._known) >= self.MOST:
                    self._known.clear()
                self._known[context.project, experiment_id] = known
        return known

    def known(self, context: Context, experiment_id: str) -> bool:
        """Whether `get` need not ask."""
        return (context.project, experiment_id) in self._known

    def forget(self) -> None:
        """Forget all: experiments were removed for good."""
        with self._lock:
            self._known.clear()


LOCATIONS = Locations()


def info(context: Context, run: RunHead | RunDocument) -> dict[str, Any]:
    """What a run is, without what was logged to it."""
    found: dict[str, Any] = {
        "run_uuid": run.run_id,
        "run_id": run.run_id,
        "experiment_id": run.experiment_id,
        "run_name": run.name,
        "user_id": run.user,
        "status": words.STATUS[run.state],
        "start_time": words.millis(run.started or run.created),
        "artifact_uri": f"{LOCATIONS.get(context, run.experiment_id)}/{run.run_id}/artifacts",
        "lifecycle_stage": str(run.lifecycle),
    }
    if run.ended is not None:
        found["end_time"] = words.millis(run.ended)
    return found


def told(context: Context, run: TrackedRun) -> dict[str, Any]:
    """A run with everything that was logged to it."""
    tags = {**run.tags, NAME_TAG: run.name} if NAME_TAG not in run.tags and _may_lack_name(run) else run.tags
    return _whole(context, run, data(run.metrics, run.params, tags))


def passed_on(context: Context, run: RunDocument) -> dict[str, Any]:
    """The same of a run whose data is in these words already."""
    if not _may_lack_name(run):
        return _whole(context, run, run.data)
    found = msgspec.json.decode(run.data)
    tags = found.setdefault("tags", [])
    if not any(tag["key"] == NAME_TAG for tag in tags):
        tags += words.pairs({NAME_TAG: run.name})
    return _whole(context, run, found)


def _may_lack_name(run: TrackedRun | RunDocument) -> bool:
    """Whether a run's name may be in no tag, where clients look for it: that of a run of ours."""
    return bool(run.name) and run.run_id.startswith("run_")


def _whole(context: Context, run: TrackedRun | RunDocument, told: Any) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    if run.inputs:
        inputs["dataset_inputs"] = [_input(i) for i in run.inputs]
    if run.models:
        if read := [{"model_id": m.model_id} for m in run.models if m.role == "input"]:
            inputs["model_inputs"] = read
        if made := [{"model_id": m.model_id, "step": m.step} for m in run.models if m.role == "output"]:
            outputs["model_outputs"] = made
    return {"info": info(context, run), "data": told, "inputs": inputs, "outputs": outputs}


def _input(given: RunInput) -> dict[str, Any]:
    tags = given.tags if CONTEXT_TAG in given.tags or not given.context else {**given.tags, CONTEXT_TAG: given.context}
    dataset: dict[str, Any] = {"name": given.name, "digest": given.digest, "source_type": given.source_type, "source": given.source}
    dataset |= {key: text for key, text in (("schema", given.schema), ("profile", given.profile)) if text is not None}
    return words.known_keys({"tags": words.pairs(tags), "dataset": dataset})


def create(context: Context, request: Create) -> tuple[Any, Any]:
    """`runs/create`."""
    tags = {tag.key: tag.value[: measures.TAG] for tag in request.tags}
    for index, tag in enumerate(request.tags):  # with any sign in their names: `start_run(tags={"team@site": …})` is sent as it is
        if not tag.key:
            raise missing(f"tags[{index}].key")
        within(f"tags[{index}].key", tag.key, measures.NAME)
        within(f"tags[{index}].value", tags[tag.key], measures.TAG)
    tagged = tags.get(NAME_TAG, "")
    if request.run_name and tagged and request.run_name != tagged:
        raise invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{request.run_name}', mlflow.runName='{tagged}')."
        )
    name = request.run_name or tagged or words.made_up_name()
    within("run_name", name, 400)
    started = check_millis("start_time", request.start_time) or 0
    tags[NAME_TAG] = name
    experiment_id = request.experiment_id or DEFAULT_EXPERIMENT
    # a run is made only in an experiment that is there, and the answer says where its files are: both are known from the second run on
    LOCATIONS.get(context, experiment_id)
    made = ops.StartRun(
        project=context.project,
        run_id=uuid.uuid4().hex,
        experiment=experiment_id,
        name=name,
        user=request.user_id or tags.get("mlflow.user", ""),
        started=started * 1000,
        parent_run=tags.get("mlflow.parentRunId"),
        git_revision=tags.get("mlflow.source.git.commit"),
        tags=tags,
    )
    return made, lambda run: {"run": _new(context, run)}


def _new(context: Context, run: TrackedRun) -> dict[str, Any]:
    """A run as the call that made it is answered: of outputs there is no word yet."""
    found = told(context, run)
    if not found["outputs"]:
        del found["outputs"]
    return found


def _create_at_once(context: Context, request: Create) -> tuple[Any, Any] | None:
    known = LOCATIONS.known(context, request.experiment_id or DEFAULT_EXPERIMENT)
    return create(context, request) if known else None


def _create(context: Context, request: Create) -> Any:
    operation, finish = create(context, request)
    return finish(context.call(operation))


def get(context: Context, request: One) -> Any:
    """`runs/get`."""
    return {"run": told(context, context.call(ops.GetTrackedRun(project=context.project, run_id=run_of(request))))}


def _state(status: str | int | None) -> RunState | None:
    """The state that a word or a number means; None for none, and for a word that is none."""
    state = words.STATE.get(int(status) if isinstance(status, str) and status.isdecimal() else status) if status is not None else None
    if state is None and isinstance(status, int):
        raise wrong_type("status", str(status), "int")
    return state


def update(context: Context, request: Update) -> tuple[Any, Any]:
    """`runs/update`; a status that is none changes nothing."""
    run_id = run_of(request)
    ended = check_millis("end_time", request.end_time)
    within("run_name", request.run_name, 400)
    changed = ops.UpdateRun(
        project=context.project,
        run_id=run_id,
        state=_state(request.status),
        ended=None if ended is None else ended * 1000,
        name=request.run_name or None,
    )
    return changed, lambda run: {"run_info": info(context, run)}


def _bin(wanted: Lifecycle) -> Any:
    def plan(context: Context, request: One) -> tuple[Any, Any]:
        return ops.BinRun(project=context.project, run_id=run_of(request), lifecycle=str(wanted)), nothing

    return plan


def log_inputs(context: Context, request: LogInputs) -> tuple[Any, Any]:
    """`runs/log-inputs`."""
    run_id = run_of(request)
    inputs: list[RunInput] = []
    for index, given in enumerate(request.datasets):
        data, path = given.dataset, f"datasets[{index}].dataset"
        for name in ("name", "digest", "source_type", "source"):
            if not getattr(data, name):
                raise invalid(f"Dataset {name} cannot be None or empty. It is missing in {path}.")
        for name, limit in (("name", 500), ("digest", 36), ("source", 65_535), ("schema", 1_048_575), ("profile", 16_777_215)):
            within(name, getattr(data, name), limit)
        for tag in given.tags:
            within("key", tag.key, 255)
            within("value", tag.value, 500)
        tags = {tag.key: tag.value for tag in given.tags}
        inputs.append(
            RunInput(
                name=data.name,
                digest=data.digest,
                source_type=data.source_type,
                source=data.source,
                schema=data.schema,
                profile=data.profile,
                context=tags.get(CONTEXT_TAG, ""),
                tags=tags,
            )
        )
    models = [RunModel(model_id=m.model_id, role="input", step=m.step) for m in request.models]
    return ops.LogInputs(project=context.project, run_id=run_id, inputs=inputs, models=models), nothing


def log_outputs(context: Context, request: LogOutputs) -> tuple[Any, Any]:
    """`runs/outputs`."""
    run_id = run_of(request)
    if request.models is None:
        raise missing("models")
    models = [RunModel(model_id=m.model_id, role="output", step=m.step) for m in request.models]
    return ops.LogInputs(project=context.project, run_id=run_id, models=models), nothing


def log_model(context: Context, request: LogModel) -> Any:
    """`runs/log-model`, by which clients of old say what model they logged: kept in a tag."""
    run_id = run_of(request)
    required(request, "model_json")
    try:
        model = json.loads(request.model_json)
    except (ValueError, RecursionError):
        raise invalid(f"Malformed model info. \n {request.model_json[:1000]} \n is not a valid JSON.") from None
    lacking = {"artifact_path", "flavors", "utc_time_created", "run_id"} - set(model if isinstance(model, dict) else ())
    if lacking:
        raise invalid(f"Model json is missing mandatory fields: {lacking}")
    run = context.call(ops.GetTrackedRun(project=context.project, run_id=run_id))
    try:
        known = json.loads(run.tags.get(HISTORY_TAG, "[]"))
    except ValueError:
        known = []
    kept = json.dumps([*known, model])
    while len(kept) > 90_000 and known:
        known = known[1:]
        kept = json.dumps([*known, model])
    context.call(ops.LogBatch(project=context.project, run_id=run_id, tags={HISTORY_TAG: kept}))
    return EMPTY


def search(context: Context, request: Search) -> Any:
    """`runs/search`."""
    if request.max_results > MOST:
        raise wrong_type("max_results", str(request.max_results), "int")
    check_page_size("max_results", request.max_results, MOST)
    experiments.check_ids(context, request.experiment_ids)
    view = words.view(request.run_view_type, "run_view_type")
    if not request.experiment_ids:
        return EMPTY
    found = context.call(
        ops.SearchRunDocuments(
            project=context.project,
            experiments=request.experiment_ids,
            filter=request.filter,
            order_by=request.order_by,
            view=view,
            limit=request.max_results,
            page=request.page_token or None,
        )
    )
    answer: dict[str, Any] = {"runs": [passed_on(context, run) for run in found.items]} if found.items else {}
    if found.page.next:
        answer["next_page_token"] = found.page.next
    return answer


ROWS = [
    Row("POST", "/runs/create", Create, _create, write=_create_at_once),
    Row("GET", "/runs/get", One, get),
    writing("/runs/update", Update, update, asks=lambda context, run: not LOCATIONS.known(context, run.experiment_id)),
    writing("/runs/delete", One, _bin(Lifecycle.deleted)),
    writing("/runs/restore", One, _bin(Lifecycle.active)),
    writing("/runs/log-inputs", LogInputs, log_inputs),
    writing("/runs/outputs", LogOutputs, log_outputs),
    Row("POST", "/runs/log-model", LogModel, log_model),
    Row("POST", "/runs/search", Search, search),
    *measures.ROWS,
]
