"""Registered models, their versions, aliases and stages in the protocol's words. Prompts are registered models with a tag."""

import json
import re
from typing import Any

import msgspec
from msgspec import Struct

from treadle.api.mlflow.registered import (
    PROMPT,
    STAGES,
    check_alias,
    check_alias_form,
    check_model_name,
    check_tag,
    explain,
    filter_of,
    listed,
    model_answer,
    model_named,
    number_of,
    stage_of,
    tags_of,
    taken,
    version_answer,
    version_named,
)
from treadle.api.mlflow.table import EMPTY, Context, Row, Tag, invalid, required, wrong_type
from treadle.operations import registry as ops
from treadle.operations.tracking import GetLoggedModel, GetTrackedRun, UpdateLoggedModel
from treadle.records.errors import TreadleError
from treadle.records.models import ModelVersion
from treadle.tracking.filters import MODEL_VERSIONS, REGISTERED_MODELS

#: The tag of a logged model that lists the versions made of it.
VERSIONS_TAG = "mlflow.modelVersions"
#: Page sizes: of models and of versions, and at most.
MODELS, MOST_MODELS, VERSIONS, MOST_VERSIONS = 100, 1000, 10_000, 200_000


class Create(Struct, frozen=True):
    """A new model."""

    name: str = ""
    description: str = ""
    tags: list[Tag] = []


class One(Struct, frozen=True):
    """Which model."""

    name: str = ""


class Rename(Struct, frozen=True):
    """A model's other name."""

    name: str = ""
    new_name: str = ""


class Update(Struct, frozen=True):
    """A model's other description."""

    name: str = ""
    description: str | None = None


class Search(Struct, frozen=True):
    """What is looked for."""

    filter: str = ""
    max_results: int | None = None
    order_by: list[str] = []
    page_token: str = ""


class Latest(Struct, frozen=True):
    """Of which stages."""

    name: str = ""
    stages: list[str] = []


class ModelTag(Struct, frozen=True):
    """A tag of a model."""

    name: str = ""
    key: str = ""
    value: str = ""


class Alias(Struct, frozen=True):
    """An alias of a model."""

    name: str = ""
    alias: str = ""
    version: str = ""


class CreateVersion(Struct, frozen=True):
    """A new version."""

    name: str = ""
    source: str = ""
    run_id: str = ""
    model_id: str = ""
    run_link: str = ""
    description: str = ""
    tags: list[Tag] = []


class Version(Struct, frozen=True):
    """Which version."""

    name: str = ""
    version: str = ""


class UpdateVersion(Struct, frozen=True):
    """A version's other description."""

    name: str = ""
    version: str = ""
    description: str | None = None


class Transition(Struct, frozen=True):
    """A version's other stage."""

    name: str = ""
    version: str = ""
    stage: str = ""
    archive_existing_versions: bool = False


class VersionTag(Struct, frozen=True):
    """A tag of a version."""

    name: str = ""
    version: str = ""
    key: str = ""
    value: str = ""


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def create(context: Context, given: Create) -> dict[str, Any]:
    """`registered-models/create`."""
    check_model_name(given.name)
    tags = tags_of(given.tags)
    try:
        made = context.call(ops.CreateModel(project=context.project, model=given.name, description=given.description, tags=tags))
    except TreadleError as error:
        if error.code != "conflict":
            raise
        raise taken(context, given.name, prompt=tags.get(PROMPT, "").lower() == "true") from error
    return {"registered_model": model_answer(made)}


def get(context: Context, given: One) -> dict[str, Any]:
    """`registered-models/get`."""
    required(given, "name")
    return {"registered_model": model_answer(model_named(context, given.name))}


def rename(context: Context, given: Rename) -> dict[str, Any]:
    """`registered-models/rename`."""
    required(given, "name")
    check_model_name(given.new_name, "new_name")
    try:
        done = context.call(ops.RenameModel(project=context.project, model=given.name, name=given.new_name))
    except TreadleError as error:
        if error.details.get("exists") != "registered_model":
            raise
        raise taken(context, given.new_name, prompt=False) from error
    return {"registered_model": model_answer(done)}


def update(context: Context, given: Update) -> dict[str, Any]:
    """`registered-models/update`."""
    required(given, "name")
    done = context.call(ops.UpdateModel(project=context.project, model=given.name, description=given.description or ""))
    return {"registered_model": model_answer(done)}


def delete(context: Context, given: One) -> dict[str, Any]:
    """`registered-models/delete`."""
    required(given, "name")
    context.call(ops.DeleteModel(project=context.project, model=given.name))
    return EMPTY


def search(context: Context, given: Search) -> dict[str, Any]:
    """`registered-models/search`; prompts are left out unless the filter asks for them."""
    if given.max_results is not None and not 0 <= given.max_results <= MOST_MODELS:
        raise wrong_type("max_results", f'"{given.max_results}"', "str")
    filter, without = filter_of(given.filter, given.order_by, REGISTERED_MODELS)
    if given.max_results == 0:
        return EMPTY
    found = context.call(
        ops.SearchModels(
            project=context.project,
            filter=filter,
            order_by=given.order_by,
            limit=given.max_results or MODELS,
            page=given.page_token or None,
            without_tag=without,
        )
    )
    return listed("registered_models", [model_answer(m) for m in found.items], found.page.next)


def latest(context: Context, given: Latest) -> dict[str, Any]:
    """`registered-models/get-latest-versions`: the highest version of each stage asked for."""
    required(given, "name")
    stages = [stage_of(stage) for stage in given.stages] or list(STAGES)
    found = [v for v in model_named(context, given.name).latest if v.stage in stages]
    return listed("model_versions", [version_answer(v) for v in found])


def set_tag(context: Context, given: ModelTag) -> dict[str, Any]:
    """`registered-models/set-tag`."""
    required(given, "name", "key")
    check_tag(given.key, given.value)
    context.call(ops.UpdateModel(project=context.project, model=given.name, tags={given.key: given.value}))
    return EMPTY


def delete_tag(context: Context, given: ModelTag) -> dict[str, Any]:
    """`registered-models/delete-tag`."""
    required(given, "name", "key")
    check_tag(given.key, "")
    context.call(ops.UpdateModel(project=context.project, model=given.name, remove_tags=[given.key]))
    return EMPTY


# ── aliases ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def set_alias(context: Context, given: Alias) -> dict[str, Any]:
    """`POST registered-models/alias`."""
    required(given, "name", "alias", "version")
    check_alias(given.alias)
    number = number_of(given.name, given.version)
    context.call(ops.SetAlias(project=context.project, model=given.name, alias=given.alias, number=number))
    return EMPTY


def get_alias(context: Context, given: Alias) -> dict[str, Any]:
    """`GET registered-models/alias`; `latest` is the highest version."""
    required(given, "name", "alias")
    check_alias_form(given.alias)
    if given.alias.lower() == "latest":
        newest = model_named(context, given.name).newest
        if not newest:
            raise invalid(f"Registered model alias {given.alias} not found.")
        return {"model_version": version_answer(version_named(context, given.name, newest))}
    try:
        found = context.call(ops.ResolveAlias(project=context.project, model=given.name, alias=given.alias))
    except TreadleError as error:
        if error.code != "not_found":
            raise
        model_named(context, given.name)
        raise invalid(f"Registered model alias {given.alias} not found.") from error
    return {"model_version": version_answer(found)}


def delete_alias(context: Context, given: Alias) -> dict[str, Any]:
    """`DELETE registered-models/alias`."""
    required(given, "name", "alias")
    check_alias_form(given.alias)
    context.call(ops.DeleteAlias(project=context.project, model=given.name, alias=given.alias))
    return EMPTY


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def create_version(context: Context, given: CreateVersion) -> dict[str, Any]:
    """`model-versions/create`: an unsealed version."""
    required(given, "name", "source")
    source = _numbered(context, given.source)
    if not given.run_id:
        _check_run(context, source)
    made = context.call(
        ops.CreateVersion(
            project=context.project,
            model=given.name,
            source=source,
            run_id=given.run_id,
            model_id=given.model_id,
            run_link=given.run_link,
            description=given.description,
            tags=tags_of(given.tags),
        )
    )
    if made.model_id:
        _tell_model(context, made)
    return {"model_version": version_answer(made)}


_OF_RUN = re.compile(r"(?:runs:/+|mlflow-artifacts:/+[^/]+/(?=[^/]+/artifacts(?:/|$)))(?P<run>[^/]+)(?:/.*)?", re.DOTALL)


def _check_run(context: Context, source: str) -> None:
    """Raises where a source is the files of a run that is not there, and the request names no run of its own."""
    named = _OF_RUN.fullmatch(source)
    if named is None:
        return
    try:
        context.call(GetTrackedRun(project=context.project, run_id=named["run"]))
    except TreadleError as error:
        if error.code != "not_found":
            raise
        raise invalid(
            f"Invalid model version source: '{source[:200]}'. The run_id request parameter must identify the resource that contains the "
            "source."
        ) from None


_NAMED = re.compile(r"models:/+(?P<name>[^/@]+)(?:@(?P<alias>[^/]+)|/(?P<word>[A-Za-z]+))")


def _numbered(context: Context, source: str) -> str:
    """A source that names another version by alias, stage or `latest`, by its number: what the words mean later is another matter."""
    named = _NAMED.fullmatch(source)
    if named is None:
        return source
    name, alias, word = named.groups()
    if alias is not None or word == "latest":
        return f"models:/{name}/{get_alias(context, Alias(name=name, alias=alias or word))['model_version']['version']}"
    stage = stage_of(word)
    found = next((v for v in model_named(context, name).latest if v.stage == stage), None)
    if found is None:
        raise invalid(f"No versions of model with name '{name}' and stage '{stage}' found")
    return f"models:/{name}/{found.number}"


def _tell_model(context: Context, made: ModelVersion) -> None:
    """Note on the logged model which versions were made of it: a tag that clients read."""
    known = context.call(GetLoggedModel(project=context.project, model_id=made.model_id)).tags.get(VERSIONS_TAG, "")
    try:
        listed_there = msgspec.json.decode(known or b"[]", type=list[dict[str, Any]])
    except msgspec.DecodeError:
        listed_there = []
    listed_there.append({"name": made.model, "version": made.number})
    tags = {VERSIONS_TAG: json.dumps(listed_there)}
    context.call(UpdateLoggedModel(project=context.project, model_id=made.model_id, tags=tags))


def get_version(context: Context, given: Version) -> dict[str, Any]:
    """`model-versions/get`."""
    required(given, "name", "version")
    return {"model_version": version_answer(version_named(context, given.name, number_of(given.name, given.version)))}


def update_version(context: Context, given: UpdateVersion) -> dict[str, Any]:
    """`model-versions/update`."""
    required(given, "name", "version")
    number = number_of(given.name, given.version)
    request = ops.UpdateVersion(project=context.project, model=given.name, number=number, description=given.description or "")
    return {"model_version": version_answer(context.call(request))}


def delete_version(context: Context, given: Version) -> dict[str, Any]:
    """`model-versions/delete`."""
    required(given, "name", "version")
    context.call(ops.DeleteVersion(project=context.project, model=given.name, number=number_of(given.name, given.version)))
    return EMPTY


def search_versions(context: Context, given: Search) -> dict[str, Any]:
    """`model-versions/search`."""
    if given.max_results is not None and given.max_results > MOST_VERSIONS:
        raise wrong_type("max_results", f'"{given.max_results}"', "str")
    if given.max_results is not None and given.max_results < 1:
        raise invalid(f"Invalid value for max_results. It must be a positive integer, but got {given.max_results}")
    filter, without = filter_of(given.filter, given.order_by, MODEL_VERSIONS)
    found = context.call(
        ops.SearchVersions(
            project=context.project,
            filter=filter,
            order_by=given.order_by,
            limit=given.max_results or VERSIONS,
            page=given.page_token or None,
            without_tag=without,
        )
    )
    return listed("model_versions", [version_answer(v, aliases=False) for v in found.items], found.page.next)


def download_uri(context: Context, given: Version) -> dict[str, Any]:
    """`model-versions/get-download-uri`; counted as a download."""
    required(given, "name")
    number = number_of(given.name, given.version)
    return {"artifact_uri": context.call(ops.DownloadVersion(project=context.project, model=given.name, number=number)).uri}


def transition(context: Context, given: Transition) -> dict[str, Any]:
    """`model-versions/transition-stage`."""
    required(given, "name", "version", "stage")
    stage = stage_of(given.stage)
    if given.archive_existing_versions and stage not in ("Staging", "Production"):
        raise invalid(
            f"Model version transition cannot archive existing model versions because '{stage}' is not an Active stage. "
            "Valid stages are ['Staging', 'Production']"
        )
    number = number_of(given.name, given.version)
    request = ops.SetStage(
        project=context.project, model=given.name, number=number, stage=stage, archive_others=given.archive_existing_versions
    )
    return {"model_version": version_answer(context.call(request))}


def set_version_tag(context: Context, given: VersionTag) -> dict[str, Any]:
    """`model-versions/set-tag`."""
    required(given, "name", "version", "key")
    check_tag(given.key, given.value)
    number = number_of(given.name, given.version)
    context.call(ops.SetVersionTags(project=context.project, model=given.name, number=number, tags={given.key: given.value}))
    return EMPTY


def delete_version_tag(context: Context, given: VersionTag) -> dict[str, Any]:
    """`model-versions/delete-tag`."""
    required(given, "name", "version", "key")
    check_tag(given.key, "")
    number = number_of(given.name, given.version)
    context.call(ops.SetVersionTags(project=context.project, model=given.name, number=number, remove=[given.key]))
    return EMPTY


_MODEL = "/registered-models/"
_VERSION = "/model-versions/"
_ALL: list[tuple[str, str, type, Any]] = [
    ("POST", _MODEL + "create", Create, create),
    ("GET", _MODEL + "get", One, get),
    ("POST", _MODEL + "rename", Rename, rename),
    ("PATCH", _MODEL + "update", Update, update),
    ("DELETE", _MODEL + "delete", One, delete),
    ("GET", _MODEL + "search", Search, search),
    ("GET", _MODEL + "get-latest-versions", Latest, latest),
    ("POST", _MODEL + "get-latest-versions", Latest, latest),
    ("POST", _MODEL + "set-tag", ModelTag, set_tag),
    ("DELETE", _MODEL + "delete-tag", ModelTag, delete_tag),
    ("POST", _MODEL + "alias", Alias, set_alias),
    ("GET", _MODEL + "alias", Alias, get_alias),
    ("DELETE", _MODEL + "alias", Alias, delete_alias),
    ("POST", _VERSION + "create", CreateVersion, create_version),
    ("GET", _VERSION + "get", Version, get_version),
    ("PATCH", _VERSION + "update", UpdateVersion, update_version),
    ("DELETE", _VERSION + "delete", Version, delete_version),
    ("GET", _VERSION + "search", Search, search_versions),
    ("GET", _VERSION + "get-download-uri", Version, download_uri),
    ("POST", _VERSION + "transition-stage", Transition, transition),
    ("POST", _VERSION + "set-tag", VersionTag, set_version_tag),
    ("DELETE", _VERSION + "delete-tag", VersionTag, delete_version_tag),
]
ROWS: list[Row] = [Row(method, path, request, handle, explain=explain) for method, path, request, handle in _ALL]
