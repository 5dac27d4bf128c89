"""Logged models in the protocol's words."""

import uuid
from typing import Any

from msgspec import Struct

from treadle.api.mlflow import words
from treadle.api.mlflow.experiments import check_ids
from treadle.api.mlflow.runs import LOCATIONS
from treadle.api.mlflow.table import (
    Context,
    Int64,
    Row,
    Tag,
    check_page_size,
    invalid,
    missing,
    nothing,
    required,
    within,
    writing,
    wrong_type,
)
from treadle.operations import tracking as ops
from treadle.records.tracking import LoggedModel, ModelState

#: Logged models of a page, and at most.
PAGE, MOST = 100, 10_000
STATUS = {
    ModelState.pending: "LOGGED_MODEL_PENDING",
    ModelState.ready: "LOGGED_MODEL_READY",
    ModelState.failed: "LOGGED_MODEL_UPLOAD_FAILED",
}
STATE: dict[str | int, ModelState] = {word: state for state, word in STATUS.items()} | dict(enumerate(ModelState, 1))
_BAD = ("/", ":", ".", "%", '"', "'")


class Create(Struct, frozen=True):
    """What a new one is."""

    experiment_id: str = ""
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[Tag] = []
    tags: list[Tag] = []


class One(Struct, frozen=True):
    """Which one."""

    model_id: str = ""
    allow_deleted: bool = False


class Finalize(Struct, frozen=True):
    """How its upload ended."""

    model_id: str = ""
    status: str | int | None = None


class Tags(Struct, frozen=True):
    """Tags to set."""

    model_id: str = ""
    tags: list[Tag] = []


class Params(Struct, frozen=True):
    """Parameters to add."""

    model_id: str = ""
    params: list[Tag] = []


class DeleteTag(Struct, frozen=True):
    """A tag to remove."""

    model_id: str = ""
    tag_key: str = ""


class Dataset(Struct, frozen=True):
    """A dataset."""

    dataset_name: str = ""
    dataset_digest: str = ""


class OrderBy(Struct, frozen=True):
    """A field to order by."""

    field_name: str = ""
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class Search(Struct, frozen=True):
    """What is looked for."""

    experiment_ids: list[str] = []
    filter: str = ""
    datasets: list[Dataset] = []
    max_results: Int64 = PAGE
    order_by: list[OrderBy] = []
    page_token: str = ""


def told(context: Context, model: LoggedModel) -> dict[str, Any]:
    """A logged model as clients read it."""
    info: dict[str, Any] = {
        "model_id": model.model_id,
        "experiment_id": model.experiment_id,
        "name": model.name,
        "creation_timestamp_ms": words.millis(model.created),
        "last_updated_timestamp_ms": words.millis(model.updated),
        "artifact_uri": model.artifact_location or f"{LOCATIONS.get(context, model.experiment_id)}/models/{model.model_id}/artifacts",
        "status": STATUS[model.state],
        "model_type": model.model_type,
        "source_run_id": model.run_id,
    }
    if model.status_message:
        info["status_message"] = model.status_message
    if model.tags:
        info["tags"] = words.pairs(model.tags)
    metrics = [
        {
            "key": p.key,
            "value": words.number(p.value),
            "timestamp": words.millis(p.time),
            "step": p.step,
            "model_id": model.model_id,
            "run_id": p.run_id,
        }
        | ({"dataset_name": p.dataset_name, "dataset_digest": p.dataset_digest} if p.dataset_name else {})
        for p in model.metrics
    ]
    return {"info": info, "data": words.known_keys({"params": words.pairs(model.params), "metrics": metrics})}


def create(context: Context, request: Create) -> Any:
    """`logged-models`."""
    required(request, "experiment_id")
    name = request.name or words.made_up_name()
    if any(sign in name for sign in _BAD) or not name.isprintable():
        raise invalid(
            f"Invalid model name ({name[:200]!r}) provided. Model name must be a non-empty string and cannot contain the following "
            f"characters: {_BAD}"
        )
    within("name", name, 400)
    made = ops.CreateLoggedModel(
        project=context.project,
        model_id=f"m-{uuid.uuid4().hex}",
        experiment_id=request.experiment_id,
        name=name,
        run_id=request.source_run_id,
        model_type=request.model_type,
        params=_pairs(request.params, "params"),
        tags=_pairs(request.tags, "tags"),
    )
    return {"model": told(context, context.call(made))}


def get(context: Context, request: One) -> Any:
    """`logged-models/ID`."""
    found = context.call(ops.GetLoggedModel(project=context.project, model_id=request.model_id, deleted=request.allow_deleted))
    return {"model": told(context, found)}


def finalize(context: Context, request: Finalize) -> Any:
    """The files are there, or will not come."""
    required(request, "status")
    state = STATE.get(request.status or 0)
    if state is None:
        raise wrong_type("status", f'"{str(request.status)[:80]}"', "str")
    changed = ops.UpdateLoggedModel(project=context.project, model_id=request.model_id, state=state)
    return {"model": told(context, context.call(changed))}


def delete(context: Context, request: One) -> tuple[Any, Any]:
    """Into the bin."""
    return ops.BinLoggedModel(project=context.project, model_id=request.model_id), nothing


def set_tags(context: Context, request: Tags) -> tuple[Any, Any]:
    """Set tags."""
    return ops.UpdateLoggedModel(project=context.project, model_id=request.model_id, tags=_pairs(request.tags, "tags")), nothing


def delete_tag(context: Context, request: DeleteTag) -> tuple[Any, Any]:
    """Remove a tag."""
    return ops.UpdateLoggedModel(project=context.project, model_id=request.model_id, remove_tags=[request.tag_key]), nothing


def log_params(context: Context, request: Params) -> tuple[Any, Any]:
    """Add parameters."""
    return ops.UpdateLoggedModel(project=context.project, model_id=request.model_id, params=_pairs(request.params, "params")), nothing


def search(context: Context, request: Search) -> Any:
    """`logged-models/search`."""
    required(request, "experiment_ids")
    check_ids(context, request.experiment_ids)
    datasets = [{"name": d.dataset_name, "digest": d.dataset_digest} for d in request.datasets]
    if any(not d["name"] for d in datasets):
        raise invalid("`dataset_name` in the `datasets` clause must be specified.")
    order = [
        {"field_name": o.field_name, "ascending": o.ascending}
        | ({"dataset_name": o.dataset_name} if o.dataset_name else {})
        | ({"dataset_digest": o.dataset_digest} if o.dataset_digest else {})
        for o in request.order_by
    ]
    found = context.call(
        ops.SearchLoggedModels(
            project=context.project,
            experiments=request.experiment_ids,
            filter=request.filter,
            order_by=order,
            datasets=datasets,
            limit=min(check_page_size("max_results", request.max_results or PAGE, 2**63), MOST),
            page=request.page_token or None,
        )
    )
    answer: dict[str, Any] = {"models": [told(context, model) for model in found.items]} if found.items else {}
    if found.page.next:
        answer["next_page_token"] = found.page.next
    return answer


def _pairs(given: list[Tag], name: str) -> dict[str, str]:
    for index, pair in enumerate(given):
        if not pair.key:
            raise missing(f"{name}[{index}].key")
        within(f"{name}[{index}].key", pair.key, 250)
        within(f"{name}[{index}].value", pair.value, 8000)
    return {pair.key: pair.value for pair in given}


ROWS = [
    Row("POST", "/logged-models", Create, create),
    Row("GET", "/logged-models/{model_id}", One, get),
    Row("PATCH", "/logged-models/{model_id}", Finalize, finalize),
    writing("/logged-models/{model_id}", One, delete, method="DELETE"),
    writing("/logged-models/{model_id}/tags", Tags, set_tags, method="PATCH"),
    writing("/logged-models/{model_id}/tags/{tag_key}", DeleteTag, delete_tag, method="DELETE"),
    writing("/logged-models/{model_id}/params", Params, log_params),
    Row("POST", "/logged-models/search", Search, search),
]
