"""The verbs of webhooks: addresses that are to be told when models and versions change."""

from msgspec import Struct

from treadle.operations.ledger import Done
from treadle.operations.table import Writes, operation
from treadle.records.ledger import Page
from treadle.records.models import Webhook, WebhookDelivery, WebhookTest

#: Their events are written by hand: a request has the secret in it, and an event must not.
TOLD = Writes(measures=True)


class Webhooks(Struct, frozen=True, kw_only=True):
    """A page of webhooks, newest first."""

    items: list[Webhook]
    page: Page


class WebhookDeliveries(Struct, frozen=True, kw_only=True):
    """A page of deliveries, newest first."""

    items: list[WebhookDelivery]
    page: Page


@operation(
    "POST /projects/{project}/webhooks",
    allow="models:write",
    returns=Webhook,
    writes=TOLD,
)
class CreateWebhook(Struct, frozen=True, kw_only=True):
    """Keep an address with the events it wants (`model_version.created`, …). The secret signs deliveries and is never answered.

    The operator names the hosts that may be called: TREADLE_WEBHOOK_HOSTS.
    """

    project: str
    webhook_id: str
    name: str
    address: str
    events: list[str]
    description: str = ""
    secret: str = ""
    state: str = "active"


@operation("GET /projects/{project}/webhooks/{webhook_id}", allow="read", returns=Webhook)
class GetWebhook(Struct, frozen=True, kw_only=True):
    """One webhook."""

    project: str
    webhook_id: str


@operation("GET /projects/{project}/webhooks", allow="read", returns=Webhooks)
class ListWebhooks(Struct, frozen=True, kw_only=True):
    """Webhooks of a project, newest first."""

    project: str
    limit: int = 100
    page: str | None = None


@operation(
    "PUT /projects/{project}/webhooks/{webhook_id}",
    allow="models:write",
    returns=Webhook,
    writes=TOLD,
)
class UpdateWebhook(Struct, frozen=True, kw_only=True):
    """Change a webhook; what is not given stays."""

    project: str
    webhook_id: str
    name: str | None = None
    address: str | None = None
    events: list[str] | None = None
    description: str | None = None
    secret: str | None = None
    state: str | None = None


@operation(
    "DELETE /projects/{project}/webhooks/{webhook_id}",
    allow="models:write",
    returns=Done,
    writes=TOLD,
)
class DeleteWebhook(Struct, frozen=True, kw_only=True):
    """Forget a webhook."""

    project: str
    webhook_id: str


@operation(
    "POST /projects/{project}/webhooks/{webhook_id}/test",
    allow="models:write",
    returns=WebhookTest,
    writes=Writes("treadle.webhook.tested", "webhook/{webhook_id}"),
)
class TryWebhook(Struct, frozen=True, kw_only=True):
    """Send an example of an event (by default the first that it is told of) to a webhook now, once, and say what it answered."""

    project: str
    webhook_id: str
    delivery_id: str
    event: str = ""


@operation("GET /projects/{project}/webhook-deliveries", allow="read", returns=WebhookDeliveries)
class ListWebhookDeliveries(Struct, frozen=True, kw_only=True):
    """Deliveries of the last days, newest first: of one webhook or all, in one state (waiting, delivered, failed, dropped) or any."""

    project: str
    webhook_id: str = ""
    state: str = ""
    limit: int = 100
    page: str | None = None
