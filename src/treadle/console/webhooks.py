"""Who is told when models change: the webhooks of a project, how to try one, and what became of deliveries."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from treadle.console.asked import Address, Fields
from treadle.console.desk import Desk, check_same_origin
from treadle.console.notices import Notice, notice
from treadle.operations.webhooks import (
    CreateWebhook,
    DeleteWebhook,
    ListWebhookDeliveries,
    ListWebhooks,
    TryWebhook,
    UpdateWebhook,
    WebhookDeliveries,
    Webhooks,
)
from treadle.records.calls import Role
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.models import Webhook, WebhookTest

_PAGE = 50
#: What the form offers; those of prompts are asked for by MLflow's clients.
EVENTS = {
    "registered_model.created": "a model is made",
    "model_version.created": "a version is registered",
    "model_version_alias.created": "an alias is set or moved",
    "model_version_alias.deleted": "an alias is taken away",
    "model_version_tag.set": "a version is tagged",
    "model_version_tag.deleted": "a version's tag is taken away",
}
#: State of a webhook or a delivery → one of the five of the console.
TONES = {"active": "healthy", "delivered": "healthy", "waiting": "tried", "failed": "harm"}


def page(desk: Desk) -> Response:
    """The webhooks, and the newest deliveries."""
    return _page(desk)


def _page(desk: Desk, error: TreadleError | None = None, typed: Fields | None = None, told: Notice | None = None) -> Response:
    here = Address.of(desk.request)
    found: Webhooks = desk.call(ListWebhooks(project=desk.project, limit=1000))
    names = {w.webhook_id: w.name for w in found.items}
    of, state = here.get("webhook"), here.get("state")
    asked = ListWebhookDeliveries(
        project=desk.project,
        webhook_id=of if of in names else "",
        state=state if state in ("waiting", "delivered", "failed", "dropped") else "",
        limit=_PAGE,
        page=here.get("page") or None,
    )
    sent: WebhookDeliveries = desk.call(asked)
    return desk.page(
        "webhooks.html",
        status=400 if error else 200,
        here=here,
        sentence=_sentence(found.items),
        notice=told or notice(here, desk.base),
        hooks=found.items,
        names=names,
        forget=next((w for w in found.items if w.webhook_id == here.get("forget")), None),
        sent=sent.items,
        asked=asked,
        older=here.to(page=sent.page.next) + "#deliveries" if sent.page.next else "",
        newest=here.to(page=None) + "#deliveries" if here.get("page") else "",
        events=EVENTS,
        tones=TONES,
        writes=desk.actor.role != Role.viewer,
        error=error,
        typed=typed or Fields([]),
    )


def _sentence(hooks: list[Webhook]) -> str:
    if not hooks:
        return "Nobody is told when models change."
    active = sum(w.state == "active" for w in hooks)
    off = f"; {len(hooks) - active:,} switched off" if active < len(hooks) else ""
    return f"{active:,} address{'es are' if active != 1 else ' is'} told when models change{off}."


def change(desk: Desk, fields: Fields) -> Response:
    """Make, try, switch or forget a webhook."""
    check_same_origin(desk.request)
    what, webhook = fields.get("act"), fields.get("webhook")
    there = f"{desk.base}/webhooks"
    if what == "test":
        return _tried(desk, webhook)
    if what in ("active", "disabled"):
        desk.call(UpdateWebhook(project=desk.project, webhook_id=webhook, state=what))
        return RedirectResponse(f"{there}?said=saved", 303)
    if what == "forget":
        desk.call(DeleteWebhook(project=desk.project, webhook_id=webhook))
        return RedirectResponse(f"{there}?said=webhook_gone", 303)
    if what != "add":
        raise TreadleError("The form does not say what to do with the webhook.", remedy="Use one of its buttons.")
    address = fields.get("address")
    try:
        desk.call(
            CreateWebhook(
                project=desk.project,
                webhook_id=new_id("whk"),
                name=fields.get("name") or address.partition("://")[2].partition("/")[0] or address,
                address=address,
                events=fields.all("event"),
                secret=fields.get("secret"),
            )
        )
    except TreadleError as error:
        if error.code in ("denied", "unauthenticated"):
            raise
        return _page(desk, error, fields)
    return RedirectResponse(f"{there}?said=webhook", 303)


def _tried(desk: Desk, webhook: str) -> Response:
    """The page, with what the address answered."""
    done: WebhookTest = desk.call(TryWebhook(project=desk.project, webhook_id=webhook, delivery_id=new_id("dlv")))
    said: dict[bool, dict[str, Any]] = {
        True: {"tone": "healthy", "text": f"An example of {done.event} was sent, and answered with {done.status}."},
        False: {"tone": "harm", "text": f"An example of {done.event} did not arrive: {done.error or f'the answer was {done.status}'}"},
    }
    return _page(desk, told=Notice(**said[done.success]))
