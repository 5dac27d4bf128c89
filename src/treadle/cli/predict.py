"""`predict`: ask an endpoint, as a program would."""

import csv
import io
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from treadle.cli import show
from treadle.cli.runs import moment
from treadle.cli.session import Session, verb
from treadle.records.clock import micros
from treadle.records.errors import TreadleError


@click.command()
@click.argument("endpoint", required=False)
@click.option("--row", "rows", multiple=True, metavar="JSON", help="One row as a JSON object; may be given again.")
@click.option("--file", "file", metavar="FILE", help="Rows: .json (array), .jsonl, .csv; - reads JSON from standard input.")
@click.option("--at", metavar="TIME", help="Event time of the rows, RFC 3339; now where left out.")
@click.option("--gateway", envvar="TREADLE_GATEWAY", metavar="URL", help="A gateway; the environment's own here where left out.")
@verb(project=True, environment=True)
def predict(
    session: Session,
    endpoint: str | None,
    rows: tuple[str, ...],
    file: str | None,
    at: str | None,
    gateway: str | None,
    project: str | None,
    env: str | None,
) -> None:
    """Ask ENDPOINT for predictions. Each comes with the id that `treadle why` explains.

    \b
    Example:
      treadle predict delay --row '{"carrier": "UA", "origin": "EWR"}' --env prod
    """
    records = [_object(text) for text in rows] + (_rows(file) if file else [])
    if not records:
        raise TreadleError("There is no row to predict.", remedy="Give one: --row '{…}', or many: --file rows.json")
    if gateway is None or endpoint is None:
        name = session.project(project)
        environment = session.environment(name, env)
        gateway = gateway or _address(session, name, environment)
        endpoint = session.endpoint(name, environment, endpoint)
    answer = _ask(gateway, endpoint, records, micros(moment(at)) if at else None)
    if session.as_json:
        show.as_json(answer)
        return
    show.table(
        ("PREDICTION", "VERSION", "VARIANT", "ID"),
        zip(answer["predictions"], answer["model_version"], answer["variant"], answer["ids"], strict=True),
    )


def _address(session: Session, project: str, environment: str) -> str:
    from treadle.records.layout import Layout
    from treadle.workshop.supervisor import living

    note = next((p for p in living(Layout(session.home)) if p.name == f"gateway-{project}-{environment}"), None)
    if note is None:
        raise TreadleError(
            f"No gateway of {project} runs in {environment} at this home.",
            remedy=f"Start it: treadle up, or treadle gateway --env {environment}   (or name one elsewhere: --gateway URL)",
            code="unavailable",
        )
    return note.url


def _ask(gateway: str, endpoint: str, rows: list[dict[str, Any]], event_time: int | None) -> dict[str, Any]:
    import http.client
    from urllib.parse import quote

    parts = urlsplit(gateway if "//" in gateway else f"http://{gateway}")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=30)
    body: dict[str, Any] = {"rows": rows} if event_time is None else {"rows": rows, "event_time": event_time}
    headers = {"Content-Type": "application/json"}
    if os.environ.get("TREADLE_TOKEN"):
        headers["Authorization"] = f"Bearer {os.environ['TREADLE_TOKEN']}"
    try:
        connection.request(
            "POST", f"{parts.path.rstrip('/')}/endpoints/{quote(endpoint, safe='')}/predict", msgspec.json.encode(body), headers
        )
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise TreadleError(
            f"The gateway at {gateway} does not answer: {error}.", remedy="Start it: treadle up", code="unavailable"
        ) from error
    finally:
        connection.close()
    if answer.status != 200:
        from treadle.records.errors import ErrorBody

        try:
            raise msgspec.json.decode(content, type=ErrorBody).error()
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise TreadleError(
                f"The gateway answered {answer.status}: {content[:200]!r}.", remedy="Check its address.", code="unavailable"
            ) from error
    return msgspec.json.decode(content)


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise TreadleError(f"{text!r} is no JSON object: {error}.", remedy="""Write a row like --row '{"carrier": "UA"}'""") from error


def _rows(file: str) -> list[dict[str, Any]]:
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        if file.endswith(".csv"):
            return [{k: _csv(v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(raw.decode("utf-8-sig")))]
        if file.endswith((".jsonl", ".ndjson")):
            return msgspec.json.Decoder(dict[str, Any]).decode_lines(raw)
        return msgspec.json.decode(raw, type=list[dict[str, Any]])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, csv.Error) as error:
        raise TreadleError(
            f"{file} holds no rows: {error}.", remedy="Write a JSON array of objects, JSON lines (.jsonl) or CSV (.csv).", code="bad_data"
        ) from error


def _csv(text: str | None) -> Any:
    """A CSV cell: empty is null, a number is a number."""
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=int | float | bool)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return text
