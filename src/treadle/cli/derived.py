"""`treadle api`: every operation as a command, read from the table. What no verb was designed for can still be done."""

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.client.wire import nullable
from treadle.operations.table import Operation, operations
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id

#: Ids that the caller makes; made here where none is given.
_MADE = {"run_id": "run", "approval_id": "apr", "release_id": "rel", "event_id": "evt", "token_id": "tok"}


class _Derived(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(o.command for o in operations().values())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = next((o for o in operations().values() if o.command == cmd_name), None)
        return _command(found) if found else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rooms: dict[str, list[Operation]] = {}
        for operation in operations().values():
            rooms.setdefault(operation.room, []).append(operation)
        for room, table in rooms.items():
            with formatter.section(room):
                formatter.write_dl([(o.command, o.summary.split(". ")[0]) for o in table])


@click.group(cls=_Derived)
def api() -> None:
    """Every operation of the table as a command.

    \b
    Example:
      treadle api list-runs --project flights --limit 5
      treadle api log-metrics --run-id run_1 --metrics '[{"key": "auc", "value": 0.7}]'
    """


def _command(operation: Operation) -> click.Command:
    fields = msgspec.structs.fields(operation.request)
    options: list[click.Parameter] = [
        click.Option(
            ["--" + f.name.replace("_", "-"), f"f_{f.name}"],
            metavar=_metavar(f.type),
            help="Required." if f.required and f.name not in _MADE and f.name != "project" else None,
        )
        for f in fields
    ]
    options.append(click.Option(["--input", "source"], metavar="FILE", help="The request as JSON; - reads standard input."))
    options.append(click.Option(["--idempotency-key"], metavar="KEY", help="A repeat with this key changes nothing."))

    @verb()
    def run(session: Session, source: str | None, idempotency_key: str | None, **given: Any) -> None:
        values = _read(source) if source else {}
        for f in fields:
            text = given[f"f_{f.name}"]
            if text is not None:
                values[f.name] = _value(f.type, text)
            elif f.required and f.name not in values:
                if f.name == "project":
                    values["project"] = session.project()
                elif f.name in _MADE and operation.method == "POST" and f"{{{f.name}}}/" not in operation.path + "/":
                    values[f.name] = new_id(_MADE[f.name])
        try:
            request = msgspec.convert(values, operation.request, strict=False)
        except msgspec.ValidationError as error:
            raise TreadleError(
                f"{operation.name} cannot be made of that: {error}.",
                remedy=f"See its fields: treadle api {operation.command} --help",
            ) from error
        show.as_json(session.call(request, idempotency_key=idempotency_key))

    text = f"{operation.description}\n\n{operation.method} /api{operation.path}, needs {operation.allow}."
    made = click.command(operation.command, help=text, short_help=operation.summary)(run)
    made.params = [*options, *made.params]
    return made


def _read(source: str) -> dict[str, Any]:
    raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise TreadleError(f"{source} holds no JSON object: {error}.", remedy="Write the request's fields as one JSON object.") from error


def _value(kind: Any, text: str) -> Any:
    if nullable(kind) and text in ("", "null"):
        return None
    if _plain(kind):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise TreadleError(f"{text!r} is no JSON: {error}.", remedy="Write the value as JSON, in quotes for the shell.") from error


def _plain(kind: Any) -> bool:
    """Whether a field is one word (text, number, time, yes or no) and not JSON."""
    schema = msgspec.json.schema(kind)
    kinds = [s.get("type") for s in schema.get("anyOf", [schema])]
    return all(k in ("string", "integer", "number", "boolean", "null") for k in kinds) or ("$ref" in schema and "enum" in str(schema))


def _metavar(kind: Any) -> str:
    schema = msgspec.json.schema(kind)
    if not _plain(kind):
        return "JSON"
    one = next((s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"), schema)
    if one.get("format") == "date-time":
        return "TIME"
    return {"integer": "N", "number": "X", "boolean": "true|false"}.get(one.get("type", ""), "TEXT")
