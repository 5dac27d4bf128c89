"""The verbs of webhooks. An address is kept only where a server may be told to call it.

A server that calls any address it is given can be made to call what only it can reach: its own loopback, the cloud's metadata service.
So loopback, private and link-local addresses are refused outright, and any host that is not on the allow-list (TREADLE_WEBHOOK_HOSTS,
host names with commas between) is kept but would not be called. Deliveries are not sent yet; see docs/models.md.
"""

import ipaddress
import os
from urllib.parse import urlsplit

from treadle.ledger import events
from treadle.ledger.dispatch import Unchanged
from treadle.operations.ledger import Done
from treadle.operations.table import implements
from treadle.operations.webhooks import CreateWebhook, DeleteWebhook, GetWebhook, ListWebhooks, UpdateWebhook, Webhooks
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import Clock, from_micros, micros
from treadle.records.errors import TreadleError
from treadle.records.ledger import Page
from treadle.records.models import Webhook
from treadle.store.db import Connection
from treadle.store.queries import webhooks as queries
from treadle.tracking.limits import check_id, check_text

ALLOWED = "TREADLE_WEBHOOK_HOSTS"
STATES = ("active", "disabled")
_TAGS = ("model_version_tag", "prompt_tag", "prompt_version_tag")
_ALIASES = ("model_version_alias", "prompt_alias")
#: What can be heard of: entity and action.
EVENTS = (
    *(f"{entity}.created" for entity in ("registered_model", "model_version", "prompt", "prompt_version", *_ALIASES)),
    *(f"{entity}.set" for entity in _TAGS),
    *(f"{entity}.deleted" for entity in (*_TAGS, *_ALIASES)),
)


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
        check(name=request.name, url=request.address, events=request.events, description=request.description, state=request.state)
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
        before = None
        if request.page:
            created, _, webhook_id = request.page.partition("_")
            if not created.isascii() or not created.isdigit() or len(created) > 17 or not webhook_id:
                raise TreadleError("Invalid page token, it is none of this listing", remedy="Use the token of the page before, or none.")
            before = (from_micros(int(created)), webhook_id)
        limit = min(max(request.limit, 1), 1000)
        found = queries.list_webhooks(tx, request.project, before=before, limit=limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        return Webhooks(items=found[:limit], page=Page(next=None if last is None else f"{micros(last.created)}_{last.webhook_id}"))

    @implements(UpdateWebhook)
    def update_webhook(self, tx: Connection, request: UpdateWebhook, call: Call) -> Webhook | Unchanged:
        """Change a webhook."""
        known = _found(tx, request.project, request.webhook_id)
        names = ("name", "url", "events", "description", "state")
        asked = {"name": request.name, "url": request.address, "events": request.events, "description": request.description}
        given = {name: value for name, value in {**asked, "state": request.state}.items() if value is not None}
        check(**{**{name: getattr(known, name) for name in names}, **given})
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


def check(*, name: str, url: str, events: list[str], description: str, state: str) -> None:
    """Raises for what may not be kept."""
    check_text(name, "name", 250, needed=True)
    check_text(description, "description", 10_000)
    check_address(url)
    unknown = [event for event in events if event not in EVENTS]
    if unknown or not events:
        raise TreadleError(
            f"There is no event {unknown[0][:80]!r} of webhooks." if unknown else "A webhook needs at least one event.",
            remedy=f"Use some of {', '.join(EVENTS)}.",
        )
    if state not in STATES:
        raise TreadleError(f"{state[:40]!r} is no state of a webhook.", remedy="Use active or disabled.")


def check_address(url: str) -> None:
    """Raises for an address that a server must not be told to call."""
    check_text(url, "address", 2000, needed=True)
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise _refused(url, str(error)) from error
    if not url.isprintable() or parts.scheme not in ("https", "http") or not host:
        raise _refused(url, "it is no https address")
    if parts.username is not None or parts.password is not None:
        raise _refused(url, "it has a name or password in it")
    named = (host, f"{host}:{port}") if port else (host,)
    if any(name in allowed_hosts() for name in named):
        return
    if parts.scheme != "https":
        raise _refused(url, "it is not https")
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or _is_inside(host):
        raise _refused(url, "it names this machine, or an address that only it can reach")


def allowed_hosts() -> frozenset[str]:
    """Hosts that this server may call: the setting's."""
    return frozenset(name.strip().lower() for name in os.environ.get(ALLOWED, "").split(",") if name.strip())


def _is_inside(host: str) -> bool:
    """Whether a host is written as an address that is not of the public internet, in any of the forms that resolvers take."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        # 127.1, 0x7f000001, 2130706433: what is all digits and dots, or hexadecimal, is an address to a resolver
        return host.rpartition(".")[2].removeprefix("0x").isalnum() and (host.rpartition(".")[2][:1].isdigit())


def _refused(url: str, why: str) -> TreadleError:
    return TreadleError(
        f"The address {url[:200]!a} is refused: {why}.",
        remedy=f"Use https and a public host, or have the operator name the host in {ALLOWED}.",
        details={"field": "url"},
    )


def _found(tx: Connection, project: str, webhook_id: str) -> Webhook:
    found = queries.find_webhook(tx, project, webhook_id)
    if found is None:
        raise TreadleError(
            f"There is no webhook {webhook_id[:80]}.", remedy="See what there is: treadle api list-webhooks", code="not_found"
        )
    return found


def _tell(tx: Connection, call: Call, project: str, webhook_id: str, what: str, payload: dict[str, object]) -> None:
    events.append(tx, call, type=f"treadle.webhook.{what}", subject=f"webhook/{webhook_id}", project=project, payload=payload)
