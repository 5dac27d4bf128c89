"""Webhooks in the protocol's words: kept, listed, changed, tried."""

import re
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from treadle.api.mlflow import words
from treadle.api.mlflow.table import EMPTY, Context, Row, invalid, required
from treadle.operations import webhooks as ops
from treadle.records.ids import new_id
from treadle.records.models import Webhook

_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)
_STATES = {"ACTIVE": "active", "DISABLED": "disabled"}


class Event(Struct, frozen=True):
    """What is heard of."""

    entity: str = ""
    action: str = ""


class Create(Struct, frozen=True):
    """A new webhook."""

    name: str = ""
    url: str = ""
    description: str = ""
    events: list[Event] = []
    secret: str = ""
    status: str = "ACTIVE"


class Update(Struct, frozen=True):
    """What changes."""

    webhook_id: str = ""
    name: str | None = None
    url: str | None = None
    description: str | None = None
    events: list[Event] = []
    secret: str | None = None
    status: str | None = None


class One(Struct, frozen=True):
    """Which one."""

    webhook_id: str = ""


class Trial(Struct, frozen=True):
    """Which one, and of which event."""

    webhook_id: str = ""
    event: Event | None = None


class Listing(Struct, frozen=True):
    """Which page."""

    max_results: int = 100
    page_token: str = ""


def create(context: Context, given: Create) -> dict[str, Any]:
    """`POST webhooks`."""
    required(given, "name", "url", "events")
    _check(given.name, given.url)
    made = context.call(
        ops.CreateWebhook(
            project=context.project,
            webhook_id=new_id("whk"),
            name=given.name,
            address=given.url,
            events=_events(given.events),
            description=given.description,
            secret=given.secret,
            state=_state(given.status),
        )
    )
    return {"webhook": _answer(made)}


def get(context: Context, given: One) -> dict[str, Any]:
    """`GET webhooks/ID`."""
    return {"webhook": _answer(context.call(ops.GetWebhook(project=context.project, webhook_id=given.webhook_id)))}


def listing(context: Context, given: Listing) -> dict[str, Any]:
    """`GET webhooks`."""
    if not 1 <= given.max_results <= 1000:
        raise invalid("max_results must be between 1 and 1000.")
    page = given.page_token or None
    found = context.call(ops.ListWebhooks(project=context.project, limit=given.max_results, page=page))
    answer: dict[str, Any] = {"webhooks": [_answer(w) for w in found.items]} if found.items else {}
    return answer | ({"next_page_token": found.page.next} if found.page.next else {})


def update(context: Context, given: Update) -> dict[str, Any]:
    """`PATCH webhooks/ID`."""
    _check(given.name, given.url)
    done = context.call(
        ops.UpdateWebhook(
            project=context.project,
            webhook_id=given.webhook_id,
            name=given.name,
            address=given.url,
            events=_events(given.events) if given.events else None,
            description=given.description,
            secret=given.secret,
            state=None if given.status is None else _state(given.status),
        )
    )
    return {"webhook": _answer(done)}


def delete(context: Context, given: One) -> dict[str, Any]:
    """`DELETE webhooks/ID`."""
    context.call(ops.DeleteWebhook(project=context.project, webhook_id=given.webhook_id))
    return EMPTY


def test(context: Context, given: Trial) -> dict[str, Any]:
    """`POST webhooks/ID/test`: sends an example. What was answered is told by its status; the body is not kept."""
    event = _events([given.event])[0] if given.event is not None else ""
    done = context.call(ops.TryWebhook(project=context.project, webhook_id=given.webhook_id, delivery_id=new_id("try"), event=event))
    told = {"response_status": done.status, "error_message": done.error or None}
    return {"result": {"success": done.success, **{name: value for name, value in told.items() if value is not None}}}


def _check(name: str | None, url: str | None) -> None:
    """What a webhook of the protocol may be called, and the literal words for an address that is none."""
    if name is not None and not _NAME.fullmatch(name):
        raise invalid(
            f"Webhook name {name[:100]!r} is invalid. It must start and end with a letter or digit, be less than 63 characters long, and "
            "contain only letters, digits, dots (.), underscores (_), and hyphens (-)."
        )
    if url is None:
        return
    if not url.strip():
        raise invalid(f"Webhook URL cannot be empty or just whitespace: {url[:100]!r}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise invalid(f"Invalid webhook URL {url[:200]!r}: {error!r}") from error
    if parts.scheme not in ("https", "http"):
        raise invalid(f"Invalid webhook URL scheme: {parts.scheme[:40]!r}. Allowed schemes are: https.")
    if not parts.hostname:
        raise invalid(f"Webhook URL must include a hostname: {url[:200]!r}")


def _answer(webhook: Webhook) -> dict[str, Any]:
    parts = [event.partition(".") for event in webhook.events]
    return {
        "webhook_id": webhook.webhook_id,
        "name": webhook.name,
        **({"description": webhook.description} if webhook.description else {}),
        "url": webhook.url,
        "events": [{"entity": entity.upper(), "action": action.upper()} for entity, _, action in parts],
        "status": webhook.state.upper(),
        "creation_timestamp": words.millis(webhook.created),
        "last_updated_timestamp": words.millis(webhook.updated),
    }


def _events(events: list[Event]) -> list[str]:
    return list(dict.fromkeys(f"{event.entity.lower()}.{event.action.lower()}" for event in events))


def _state(status: str) -> str:
    if status.upper() not in _STATES:
        raise invalid(f"Invalid webhook status: {status[:40]}. Valid statuses are: ['ACTIVE', 'DISABLED']")
    return _STATES[status.upper()]


ROWS: list[Row] = [
    Row("POST", "/webhooks", Create, create),
    Row("GET", "/webhooks", Listing, listing),
    Row("GET", "/webhooks/{webhook_id}", One, get),
    Row("PATCH", "/webhooks/{webhook_id}", Update, update),
    Row("DELETE", "/webhooks/{webhook_id}", One, delete),
    Row("POST", "/webhooks/{webhook_id}/test", Trial, test),
]
