"""OpenAPI 3.1 of the operations table."""

from typing import Any

import msgspec

from treadle.api.errors import STATUS
from treadle.client.wire import EVENT_TIME, IDEMPOTENCY_KEY, PREFIX, Wire, wires
from treadle.records.errors import ErrorBody

_REF = "#/components/schemas/{name}"


def document(version: str) -> dict[str, Any]:
    """The whole description, as JSON values."""
    table = list(wires().values())
    kinds: list[Any] = [ErrorBody]
    for wire in table:
        kinds += [wire.operation.returns, *([f.type for f in wire.rest] if wire.in_query else [wire.rest_type])]
        kinds += [f.type for f in msgspec.structs.fields(wire.path_type)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_type = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for wire in table:
        paths.setdefault(PREFIX + wire.operation.path, {})[wire.operation.method.lower()] = _entry(wire, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Treadle",
            "version": version,
            "description": "Every operation of a Treadle home. Errors have one shape, whatever the status: ErrorBody.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "tags": [{"name": room} for room in dict.fromkeys(w.operation.room for w in table)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "trd_…; not asked for on loopback"}},
            "responses": {"Error": {"description": _codes(), "content": _json({"$ref": _REF.format(name="ErrorBody")})}},
        },
    }


def _entry(wire: Wire, schemas: dict[str, Any]) -> dict[str, Any]:
    operation = wire.operation
    parameters: list[dict[str, Any]] = [
        {"name": f.name, "in": "path", "required": True, "schema": schemas[repr(f.type)]} for f in msgspec.structs.fields(wire.path_type)
    ]
    if wire.in_query:
        parameters += [{"name": f.name, "in": "query", "required": f.required, "schema": schemas[repr(f.type)]} for f in wire.rest]
    parameters.append(_header(EVENT_TIME, "Business time of the call, RFC 3339; the server's clock where left out.", "date-time"))
    if operation.writes is not None:
        parameters.append(_header(IDEMPOTENCY_KEY, "A repeat with the same key changes nothing and gets the first answer."))
    entry: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": operation.description,
        "tags": [operation.room],
        "x-permission": operation.allow,
        "parameters": parameters,
        "responses": {
            "200": {"description": "The answer.", "content": _json(schemas[repr(operation.returns)])},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if operation.writes is not None and operation.writes.event:
        entry["x-event"] = operation.writes.event
    if not wire.in_query:
        required = any(f.required for f in wire.rest)
        entry["requestBody"] = {"required": required, "content": _json(schemas[repr(wire.rest_type)])}
    return entry


def _header(name: str, text: str, form: str = "") -> dict[str, Any]:
    schema = {"type": "string"} | ({"format": form} if form else {})
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _codes() -> str:
    return "What is wrong, why, and the remedy. " + ", ".join(f"{code}: {status}" for code, status in STATUS.items())
