"""Registered models and versions in the protocol's form, and the literal words in which requests about them are refused."""

import re
from typing import Any

from treadle.api.mlflow import words
from treadle.api.mlflow.table import Context, ProtocolError, Tag, check_name, invalid, missing, within
from treadle.operations import registry as ops
from treadle.records.errors import TreadleError
from treadle.records.filters import Comparison
from treadle.records.models import ModelVersion, RegisteredModel
from treadle.tracking.filters import Language, parse_filter, parse_order, written

PROMPT = "mlflow.prompt.is_prompt"
STAGES = ("None", "Staging", "Production", "Archived")
_TAG_KEY, _TAG_VALUE, _ALIAS = 250, 100_000, 255
_LONGEST_NAME = 200


def model_answer(model: RegisteredModel) -> dict[str, Any]:
    """A registered model in the protocol's form; what is empty is left out."""
    answer: dict[str, Any] = {
        "name": model.model,
        "creation_timestamp": words.millis(model.created),
        "last_updated_timestamp": words.millis(model.updated),
    }
    if model.description:
        answer["description"] = model.description
    if model.latest:
        answer["latest_versions"] = [version_answer(v, aliases=False) for v in model.latest]
    if model.tags:
        answer["tags"] = [{"key": k, "value": v} for k, v in sorted(model.tags.items())]
    if model.aliases:
        answer["aliases"] = [{"alias": a, "version": str(n)} for a, n in sorted(model.aliases.items())]
    return answer


def version_answer(version: ModelVersion, *, aliases: bool = True) -> dict[str, Any]:
    """A version in the protocol's form."""
    answer: dict[str, Any] = {
        "name": version.model,
        "version": str(version.number),
        "creation_timestamp": words.millis(version.recorded_time),
        "last_updated_timestamp": words.millis(version.updated),
        "current_stage": version.stage,
        "description": version.description,
        "source": version.source or f"mlflow-artifacts:/bundles/{version.bundle_digest}",
        "run_id": version.run_id,
        "status": version.status,
        "run_link": version.run_link,
    }
    if version.status_message:
        answer["status_message"] = version.status_message
    if version.tags:
        answer["tags"] = [{"key": k, "value": v} for k, v in sorted(version.tags.items())]
    if aliases and version.aliases:
        answer["aliases"] = list(version.aliases)
    return answer


def listed(name: str, items: list[Any], token: str | None = None) -> dict[str, Any]:
    """An answer with a list, left out where it is empty, and the token of the next page."""
    answer: dict[str, Any] = {name: items} if items else {}
    if token:
        answer["next_page_token"] = token
    return answer


def model_named(context: Context, name: str) -> RegisteredModel:
    """A model."""
    return context.call(ops.GetModel(project=context.project, model=name))


def version_named(context: Context, name: str, number: int) -> ModelVersion:
    """A version."""
    return context.call(ops.GetModelVersion(project=context.project, model=name, number=number))


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


def explain(error: TreadleError) -> ProtocolError | None:
    """The literal words for a model or version that is not there, and for what may not be searched or stored."""
    told = error.details
    if told.get("missing") == "registered_model":
        return ProtocolError("RESOURCE_DOES_NOT_EXIST", f"Registered Model with name={told['id']} not found")
    if told.get("missing") == "model_version":
        return ProtocolError("RESOURCE_DOES_NOT_EXIST", no_version(told["model"], told["number"]))
    if told.get("field") in ("source", "filter", "page", "stage"):
        return invalid(error.what)
    return None


def no_version(name: str, number: object) -> str:
    """The words for a version that is not there."""
    return f"Model Version (name={name}, version={number}) not found"


def number_of(name: str, version: str) -> int:
    """The number of a version, written as a text."""
    if not re.fullmatch(r"[+-]?\d+", version.strip(), re.A):
        raise invalid(f"Parameter 'version' must be an integer, got '{version[:80]}'.")
    number = int(version) if len(version) < 40 else -1
    if not 0 < number < 2**63:
        raise ProtocolError("RESOURCE_DOES_NOT_EXIST", no_version(name, version.strip()[:40]))
    return number


def check_model_name(name: str, parameter: str = "name") -> None:
    """A name for a model, or the protocol's error."""
    if not name.strip():
        raise missing(parameter)
    if "/" in name or ":" in name:
        raise invalid(f"Invalid model name {name[:200]!r}. Names cannot contain '/' or ':'.")
    if name in (".", ".."):
        check_name(name, "name", _LONGEST_NAME)
    within(parameter, name, _LONGEST_NAME)


def check_alias_form(alias: str) -> None:
    """What an alias may look like that is only read or removed, or the protocol's error."""
    if not re.fullmatch(r"[\w-]+", alias):
        raise invalid(f"Invalid alias name: '{alias[:200]}'. Names may only contain alphanumerics, underscores (_), and dashes (-).")
    if len(alias) > _ALIAS:
        raise invalid(f"'Registered model alias name' exceeds the maximum length of {_ALIAS} characters")


def check_alias(alias: str) -> None:
    """A name for an alias, or the protocol's error."""
    check_alias_form(alias)
    if alias.lower() == "latest":
        raise invalid("'latest' alias name (case insensitive) is reserved.")
    if re.fullmatch(r"[vV]\d+", alias):
        raise invalid(f"Version alias name '{alias}' is reserved.")


def check_tag(key: str, value: str) -> None:
    """A tag, or the protocol's error."""
    check_name(key, "key", _TAG_KEY)
    within("value", value, _TAG_VALUE)


def tags_of(tags: list[Tag]) -> dict[str, str]:
    """Tags by key."""
    for tag in tags:
        check_tag(tag.key, tag.value)
    return {tag.key: tag.value for tag in tags}


def stage_of(stage: str) -> str:
    """A stage, however it is written."""
    found = next((s for s in STAGES if s.lower() == stage.lower()), None)
    if found is None:
        raise invalid(f"Invalid Model Version stage: {stage[:80]}. Value must be one of {', '.join(STAGES)}.")
    return found


def taken(context: Context, name: str, *, prompt: bool) -> ProtocolError:
    """The error of a name that is in use."""
    there = model_named(context, name).tags.get(PROMPT, "").lower() == "true"
    if there == prompt:
        return ProtocolError("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.")
    ours, theirs = ("prompt", "registered model") if prompt else ("registered model", "prompt")
    return ProtocolError(
        "RESOURCE_ALREADY_EXISTS",
        f"Tried to create a {ours} with name {name!r}, but the name is already taken by a {theirs}. "
        "MLflow does not allow creating a model and a prompt with the same name.",
    )


def filter_of(text: str, order_by: list[str], language: Language) -> tuple[str, str]:
    """The filter without what it says of prompts, and the tag of the models to leave out."""
    parse_order(order_by, language)
    found = parse_filter(text, language)
    asked = [c for c in found if c.kind == "tag" and c.key == PROMPT]
    hidden = all((c.op, c.value) in (("=", "false"), ("!=", "true")) for c in asked)
    kept: list[Comparison] = [c for c in found if c not in asked] if hidden else list(found)
    try:
        text = written(kept)
    except ValueError as error:  # a text with quotes of both kinds, for which the language has none
        if hidden and asked:
            raise invalid(f"Invalid filter string: {text[:200]!r}: {error}") from error
    return text, PROMPT if hidden else ""
