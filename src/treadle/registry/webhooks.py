"""The verbs of webhooks: addresses that are told when models, versions, tags and aliases change.

What is told is in `hearing`, which addresses may be called in `addresses`, and how it is sent in `treadle.workshop.webhooks`.
"""

import datetime as dt

from treadle.ledger import events
from treadle.ledger.dispatch import Unchanged
from treadle.operations.ledger import Done
from treadle.operations.table import implements
from treadle.operations.webhooks import (
    CreateWebhook,
    DeleteWebhook,
    GetWebhook,
    ListWebhookDeliveries,
    ListWebhooks,
    UpdateWebhook,
    WebhookDeliveries,
    Webhooks,
)
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import Clock, from_micros, micros
from treadle.records.errors import TreadleError
from treadle.records.ledger import Page
from treadle.records.models import Webhook
from treadle.registry.addresses import check_address
from treadle.registry.hearing import EVENTS
from treadle.store.db import Connection
from treadle.store.queries import deliveries
from treadle.store.queries import webhooks as queries
from treadle.tracking.limits import check_id, check_text

STATES = ("active", "disabled")
#: What a delivery can be in.
_DELIVERY_STATES = ("waiting", "delivered", "failed", "dropped")


class WebhookVerbs:
    """Webhooks. A part of `Registry`."""

    _blobs: BlobStore
    _clock: Clock

    @implements(CreateWebhook)
    def create_webhook(self, tx: Connection, request: CreateWebhook, call: Call) -> Webhook | Unchanged:
        """Keep an address.

        Raises:
            TreadleError: `bad_request` for an address that may not be called, or an event that there is not.
        """
        check_id(request.webhook_id, "webhook")
        check_address(request.address)
        check(name=request.name, events=request.events, description=request.description, state=request.state)
        now = self._clock.now()
        row = {name: getattr(request, name) for name in ("project", "webhook_id", "name", "events", "description", "state")}
        row |= {"url": request.address, "secret": request.secret or None, "actor": call.actor.actor_id, "created": now, "updated": now}
        if not queries.insert_webhook(tx, row):
            known = _found(tx, request.project, request.webhook_id)
            if (known.url, known.events, known.name) == (request.address, request.events, request.name):
                return Unchanged(known)
            raise TreadleError(f"There is a webhook {request.webhook_id} already.", remedy="Use a new id.", code="conflict")
        _tell(tx, call, request.project, request.webhook_id, "created", {"url": request.address, "events": request.events})
        return _found(tx, request.project, request.webhook_id)

    @implements(GetWebhook)
    def get_webhook(self, tx: Connection, request: GetWebhook, call: Call) -> Webhook:
        """One webhook."""
        return _found(tx, request.project, request.webhook_id)

    @implements(ListWebhooks)
    def list_webhooks(self, tx: Connection, request: ListWebhooks, call: Call) -> Webhooks:
        """Newest first."""
        before = _before(request.page)
        limit = min(max(request.limit, 1), 1000)
        found = queries.list_webhooks(tx, request.project, before=before, limit=limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        return Webhooks(items=found[:limit], page=Page(next=None if last is None else f"{micros(last.created)}_{last.webhook_id}"))

    @implements(UpdateWebhook)
    def update_webhook(self, tx: Connection, request: UpdateWebhook, call: Call) -> Webhook | Unchanged:
        """Change a webhook."""
        known = _found(tx, request.project, request.webhook_id)
        names = ("name", "events", "description", "state")
        asked = {"name": request.name, "url": request.address, "events": request.events, "description": request.description}
        given = {name: value for name, value in {**asked, "state": request.state}.items() if value is not None}
        if request.address is not None and request.address != known.url:  # one that was allowed once can still be disabled
            check_address(request.address)
        check(**{name: given.get(name, getattr(known, name)) for name in names})
        changed = {name: value for name, value in given.items() if value != getattr(known, name)}
        if request.secret is not None:
            changed["secret"] = request.secret or None
        if not changed:
            return Unchanged(known)
        queries.update_webhook(tx, request.project, request.webhook_id, {**changed, "updated": self._clock.now()})
        told = {name: value for name, value in changed.items() if name != "secret"}
        _tell(tx, call, request.project, request.webhook_id, "changed", {**told, "secret": "secret" in changed})
        return _found(tx, request.project, request.webhook_id)

    @implements(DeleteWebhook)
    def delete_webhook(self, tx: Connection, request: DeleteWebhook, call: Call) -> Done:
        """Forget a webhook."""
        _found(tx, request.project, request.webhook_id)
        queries.delete_webhook(tx, request.project, request.webhook_id)
        _tell(tx, call, request.project, request.webhook_id, "deleted", {})
        return Done(changed=True)

    @implements(ListWebhookDeliveries)
    def list_deliveries(self, tx: Connection, request: ListWebhookDeliveries, call: Call) -> WebhookDeliveries:
        """Newest first."""
        if request.state and request.state not in _DELIVERY_STATES:
            raise TreadleError(f"{request.state[:40]!r} is no state of a delivery.", remedy=f"Use one of {', '.join(_DELIVERY_STATES)}.")
        if request.webhook_id:
            _found(tx, request.project, request.webhook_id)
        before = _before(request.page)
        limit = min(max(request.limit, 1), 1000)
        found = deliveries.list_deliveries(
            tx, request.project, webhook_id=request.webhook_id, state=request.state, before=before, limit=limit + 1
        )
        last = found[limit - 1] if len(found) > limit else None
        page = Page(next=None if last is None else f"{micros(last.created)}_{last.delivery_id}")
        return WebhookDeliveries(items=found[:limit], page=page)


def _before(page: str | None) -> tuple[dt.datetime, str] | None:
    """Where the last page ended."""
    if not page:
        return None
    created, _, one = page.partition("_")
    if not created.isascii() or not created.isdigit() or len(created) > 17 or not one:
        raise TreadleError("Invalid page token, it is none of this listing", remedy="Use the token of the page before, or none.")
    return from_micros(int(created)), one


def check(*, name: str, events: list[str], description: str, state: str) -> None:
    """Raises for what may not be kept."""
    check_text(name, "name", 250, needed=True)
    check_text(description, "description", 10_000)
    unknown = [event for event in events if event not in EVENTS]
    if unknown or not events:
        raise TreadleError(
            f"There is no event {unknown[0][:80]!r} of webhooks." if unknown else "A webhook needs at least one event.",
            remedy=f"Use some of {', '.join(EVENTS)}.",
        )
    if state not in STATES:
        raise TreadleError(f"{state[:40]!r} is no state of a webhook.", remedy="Use active or disabled.")


def no_webhook(webhook_id: str) -> TreadleError:
    """The error of one that is not there."""
    return TreadleError(
        f"There is no webhook {webhook_id[:80]}.",
        remedy="See what there is: treadle api list-webhooks",
        code="not_found",
        details={"missing": "webhook", "id": webhook_id[:80]},
    )


def _found(tx: Connection, project: str, webhook_id: str) -> Webhook:
    found = queries.find_webhook(tx, project, webhook_id)
    if found is None:
        raise no_webhook(webhook_id)
    return found


def _tell(tx: Connection, call: Call, project: str, webhook_id: str, what: str, payload: dict[str, object]) -> None:
    events.append(tx, call, type=f"treadle.webhook.{what}", subject=f"webhook/{webhook_id}", project=project, payload=payload)
