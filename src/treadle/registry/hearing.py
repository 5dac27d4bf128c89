"""What webhooks are told: Treadle's events in the words of MLflow's webhooks.

A registered model that is marked as a prompt is told of as one. An event may say several things (two tags were set), each of which is a
delivery of its own. The parts of a request that its event has only the digest of are taken from the record as it is now.
"""

from typing import Any

import msgspec

from treadle.records.ledger import Event
from treadle.records.models import ModelVersion, RegisteredModel
from treadle.store.db import Connection
from treadle.store.queries import models, registry

Said = tuple[str, dict[str, Any]]
_TAGS = ("model_version_tag", "prompt_tag", "prompt_version_tag")
_ALIASES = ("model_version_alias", "prompt_alias")
#: What can be heard of: entity and action.
EVENTS = (
    *(f"{entity}.created" for entity in ("registered_model", "model_version", "prompt", "prompt_version", *_ALIASES)),
    *(f"{entity}.set" for entity in _TAGS),
    *(f"{entity}.deleted" for entity in (*_TAGS, *_ALIASES)),
)
#: Types of events that say something.
TYPES = (
    "treadle.model.created",
    "treadle.model.changed",
    "treadle.model.registered",
    "treadle.model.version_tagged",
    "treadle.model.alias_set",
    "treadle.model.alias_moved",
    "treadle.model.alias_deleted",
)
IS_PROMPT, TEXT, KIND = "mlflow.prompt.is_prompt", "mlflow.prompt.text", "_mlflow_prompt_type"
_OWN = (IS_PROMPT, TEXT, KIND)


def heard(connection: Connection, event: Event) -> list[Said]:
    """What an event says, each thing with its data; nothing where its payload was erased."""
    if event.payload is None or event.type not in TYPES:
        return []
    told: dict[str, Any] = event.payload
    name = str(told.get("model", ""))
    known = models.find_model(connection, event.project, name)
    tags = _tags(told, {} if known is None else known.tags) if event.type.endswith(("created", "changed")) else {}
    is_prompt = _marked(tags) or (known is not None and _marked(known.tags))
    if event.type == "treadle.model.created":
        return [_created(told, name, tags, is_prompt, known)]
    if event.type == "treadle.model.changed":
        return _tagged("prompt_tag", {"name": name}, tags, told.get("remove_tags", [])) if is_prompt else []
    if "alias" in event.type:
        return _aliased("prompt_alias" if is_prompt else "model_version_alias", name, told)
    number = int(told.get("number", 0))
    version = registry.find_version(connection, event.project, name, number) if number else None
    tags = _tags(told, {} if version is None else version.tags)
    if event.type == "treadle.model.version_tagged":
        kind = "prompt_version_tag" if is_prompt else "model_version_tag"
        return _tagged(kind, {"name": name, "version": str(number)}, tags, told.get("remove", []))
    data = {"name": name, "version": str(number), "tags": tags, "description": _text(told.get("description"), version)}
    if is_prompt or _marked(tags):
        return [("prompt_version.created", {**data, "tags": _shown(tags), "template": tags.get(TEXT, "")})]
    run_id = told.get("run_id") or (version.run_id if version else "")
    source = _text(told.get("source")) or (version.source if version else "") or (f"runs:/{run_id}/model" if run_id else "")
    return [("model_version.created", {**data, "source": source, "run_id": run_id or None})]


def example(event: str) -> dict[str, Any]:
    """Data of an event as a test tells it."""
    entity, _, action = event.partition(".")
    data: dict[str, Any] = {"name": "example"}
    if entity in ("registered_model", "prompt", "model_version", "prompt_version"):
        data |= {"description": "An example, sent by a test.", "tags": {"example": "yes"}}
    if entity.removesuffix("_tag") in ("model_version", "prompt_version"):
        data |= {"version": "1"}
    if entity == "model_version":
        data |= {"source": "runs:/example/model", "run_id": "example"}
    if entity == "prompt_version":
        data |= {"template": "Hello {{name}}"}
    if entity.endswith("_tag"):
        data |= {"key": "example", "value": "yes"} if action == "set" else {"key": "example"}
    if entity.endswith("_alias"):
        data |= {"alias": "example", "version": "1"} if action == "created" else {"alias": "example"}
    return data


def body(event: str, time: str, data: dict[str, Any]) -> str:
    """What is posted."""
    entity, _, action = event.partition(".")
    return msgspec.json.encode({"entity": entity, "action": action, "timestamp": time, "data": data}).decode()


def _created(told: dict[str, Any], name: str, tags: dict[str, str], is_prompt: bool, known: RegisteredModel | None) -> Said:
    data = {"name": name, "tags": _shown(tags) if is_prompt else tags, "description": _text(told.get("description"), known)}
    return ("prompt.created" if is_prompt else "registered_model.created", data)


def _tagged(entity: str, owner: dict[str, str], tags: dict[str, str], removed: Any) -> list[Said]:
    gone = [str(key) for key in removed] if isinstance(removed, list) else []
    told: list[Said] = [(f"{entity}.set", {**owner, "key": key, "value": value}) for key, value in tags.items() if key not in gone]
    return told + [(f"{entity}.deleted", {**owner, "key": key}) for key in gone]


def _aliased(entity: str, name: str, told: dict[str, Any]) -> list[Said]:
    number = told.get("to", told.get("number"))
    data = {"name": name, "alias": str(told.get("alias", ""))}
    return [(f"{entity}.created", {**data, "version": str(number)}) if number else (f"{entity}.deleted", data)]


def _tags(told: dict[str, Any], now: dict[str, str]) -> dict[str, str]:
    """Tags as the event has them; where they were too large for it, those of now."""
    tags = told.get("tags") or {}
    digested = list(tags) == ["digest"] and len(str(tags["digest"])) == 64 and "digest" not in now
    return dict(now) if digested else dict(tags)


def _text(value: Any, now: RegisteredModel | ModelVersion | None = None) -> str | None:
    """Text as the event has it; where it was too large for it, the description of now."""
    if isinstance(value, dict):
        return now.description if now is not None else None
    return value if isinstance(value, str) and value else None


def _marked(tags: dict[str, str]) -> bool:
    return tags.get(IS_PROMPT, "").lower() == "true"


def _shown(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key not in _OWN}
