"""Experiments in the protocol's words."""

import re
import secrets
from typing import Any

from msgspec import Struct

from treadle.api.mlflow import words
from treadle.api.mlflow.table import (
    Context,
    ProtocolError,
    Row,
    Tag,
    check_name,
    check_page_size,
    invalid,
    missing,
    nothing,
    required,
    within,
    writing,
)
from treadle.operations import tracking as ops
from treadle.records.errors import TreadleError
from treadle.records.tracking import Experiment, Lifecycle

#: Experiments of a page, at most.
MOST = 50_000
#: Experiments whose data is asked for at once, at most.
MOST_ASKED = 20
_NUMBER = re.compile(r"-?\d+")


class Create(Struct, frozen=True):
    """What a new one is."""

    name: str = ""
    artifact_location: str = ""
    tags: list[Tag] = []


class One(Struct, frozen=True):
    """Which one."""

    experiment_id: str = ""


class ByName(Struct, frozen=True):
    """Which one, by its name."""

    experiment_name: str = ""


class Update(Struct, frozen=True):
    """What changes."""

    experiment_id: str = ""
    new_name: str = ""


class SetTag(Struct, frozen=True):
    """A tag to set."""

    experiment_id: str = ""
    key: str = ""
    value: str = ""


class DeleteTag(Struct, frozen=True):
    """A tag to remove."""

    experiment_id: str = ""
    key: str = ""


class Search(Struct, frozen=True):
    """What is looked for."""

    max_results: int = 0
    page_token: str = ""
    filter: str = ""
    order_by: list[str] = []
    view_type: str | int = ""


class SearchDatasets(Struct, frozen=True):
    """Of which experiments."""

    experiment_ids: list[str] = []


def told(experiment: Experiment) -> dict[str, Any]:
    """An experiment as clients read it."""
    found: dict[str, Any] = {
        "experiment_id": experiment.experiment_id,
        "name": experiment.name,
        "artifact_location": words.location(experiment.experiment_id, experiment.artifact_location),
        "lifecycle_stage": str(experiment.lifecycle),
        "last_update_time": words.millis(experiment.updated),
        "creation_time": words.millis(experiment.created),
    }
    if experiment.tags:
        found["tags"] = words.pairs(experiment.tags)
    return found


def create(context: Context, request: Create) -> tuple[Any, Any]:
    """`experiments/create`."""
    required(request, "name")
    within("name", request.name, 500)
    for index, tag in enumerate(request.tags):
        check_name(tag.key, f"tags[{index}].key", 250)
        within(f"tags[{index}].value", tag.value, 20_000)
    made = ops.CreateExperiment(
        project=context.project,
        experiment_id=str(10**17 + secrets.randbelow(9 * 10**17)),
        name=request.name,
        artifact_location=request.artifact_location.rstrip("/"),
        tags={tag.key: tag.value for tag in request.tags},
    )
    return made, lambda experiment: {"experiment_id": experiment.experiment_id}


def taken(error: TreadleError) -> ProtocolError | None:
    """A name that is in use."""
    if error.details.get("taken") != "experiment":
        return None
    return ProtocolError("RESOURCE_ALREADY_EXISTS", f"Experiment(name={error.details['name']}) already exists.")


def find(context: Context, experiment_id: str) -> Experiment:
    """An experiment by its id, or the protocol's error."""
    if not experiment_id:
        raise missing("experiment_id")
    return context.call(ops.GetExperiment(project=context.project, experiment=experiment_id, by="id"))


def check_ids(context: Context, experiment_ids: list[str]) -> None:
    """Raises for the first id that is neither a number nor that of an experiment: a slip of the pen, and not a search without a result."""
    for experiment_id in experiment_ids:
        if not _NUMBER.fullmatch(experiment_id):
            find(context, experiment_id)


def get(context: Context, request: One) -> Any:
    """`experiments/get`."""
    return {"experiment": told(find(context, request.experiment_id))}


def get_by_name(context: Context, request: ByName) -> Any:
    """`experiments/get-by-name`."""
    required(request, "experiment_name")
    try:
        found = context.call(ops.GetExperiment(project=context.project, experiment=request.experiment_name, by="name"))
    except TreadleError as error:
        if error.code != "not_found":
            raise
        message = f"Could not find experiment with name '{request.experiment_name}'"
        raise ProtocolError("RESOURCE_DOES_NOT_EXIST", message) from error
    return {"experiment": told(found)}


def update(context: Context, request: Update) -> Any:
    """`experiments/update`."""
    required(request, "experiment_id", "new_name")
    within("name", request.new_name, 500)
    known = find(context, request.experiment_id)
    if known.lifecycle != Lifecycle.active:
        raise ProtocolError("INVALID_STATE", "Cannot rename a non-active experiment.")
    context.call(ops.UpdateExperiment(project=context.project, experiment_id=request.experiment_id, name=request.new_name))
    return {}


def _renamed(error: TreadleError) -> ProtocolError | None:
    if error.details.get("taken") != "experiment":
        return None
    return ProtocolError("BAD_REQUEST", f"Experiment(name={error.details['name']}) already exists. {error.remedy}")


def _bin(wanted: Lifecycle) -> Any:
    def move(context: Context, request: One) -> Any:
        known = find(context, request.experiment_id)
        if known.lifecycle == wanted:
            raise ProtocolError("RESOURCE_DOES_NOT_EXIST", f"No Experiment with id={request.experiment_id} exists")
        context.call(ops.BinExperiment(project=context.project, experiment_id=request.experiment_id, lifecycle=str(wanted)))
        return {}

    return move


def set_tag(context: Context, request: SetTag) -> tuple[Any, Any]:
    """`experiments/set-experiment-tag`."""
    required(request, "experiment_id", "key")
    check_name(request.key, "key", 250)
    within("value", request.value, 20_000)
    made = ops.SetExperimentTags(project=context.project, experiment_id=request.experiment_id, tags={request.key: request.value})
    return made, nothing


def delete_tag(context: Context, request: DeleteTag) -> tuple[Any, Any]:
    """`experiments/delete-experiment-tag`."""
    required(request, "experiment_id", "key")
    return ops.SetExperimentTags(project=context.project, experiment_id=request.experiment_id, remove=[request.key]), nothing


def search(context: Context, request: Search) -> Any:
    """`experiments/search`."""
    found = context.call(
        ops.SearchExperiments(
            project=context.project,
            filter=request.filter,
            order_by=request.order_by,
            view=words.view(request.view_type, "view_type"),
            limit=check_page_size("max_results", request.max_results, MOST),
            page=request.page_token or None,
            default=True,
        )
    )
    answer: dict[str, Any] = {"experiments": [told(e) for e in found.items]} if found.items else {}
    if found.page.next:
        answer["next_page_token"] = found.page.next
    return answer


def search_datasets(context: Context, request: SearchDatasets) -> Any:
    """`experiments/search-datasets`."""
    asked = len(request.experiment_ids)
    if not asked:
        raise invalid("SearchDatasets request must specify at least one experiment_id.")
    if asked > MOST_ASKED:
        raise invalid(f"SearchDatasets request cannot specify more than {MOST_ASKED} experiment_ids. Received {asked} experiment_ids.")
    check_ids(context, request.experiment_ids)
    found = context.call(ops.SearchInputs(project=context.project, experiments=request.experiment_ids))
    told = [
        {"experiment_id": data.experiment_id, "name": data.name, "digest": data.digest}
        | ({"context": data.context} if data.context else {})
        for data in found
    ]
    return {"dataset_summaries": told} if told else {}


ROWS = [
    writing("/experiments/create", Create, create, explain=taken),
    Row("GET", "/experiments/get", One, get),
    Row("GET", "/experiments/get-by-name", ByName, get_by_name),
    Row("POST", "/experiments/update", Update, update, explain=_renamed),
    Row("POST", "/experiments/delete", One, _bin(Lifecycle.deleted)),
    Row("POST", "/experiments/restore", One, _bin(Lifecycle.active)),
    writing("/experiments/set-experiment-tag", SetTag, set_tag),
    writing("/experiments/delete-experiment-tag", DeleteTag, delete_tag),
    Row("POST", "/experiments/search", Search, search),
    Row("GET", "/experiments/search", Search, search),
    Row("POST", "/experiments/search-datasets", SearchDatasets, search_datasets),
]
