"""`webhooks`: addresses that are told when models, versions, tags and aliases change."""

import os

import click

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.operations.webhooks import CreateWebhook, DeleteWebhook, ListWebhookDeliveries, ListWebhooks, TryWebhook
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.models import Webhook, WebhookDelivery, WebhookTest

#: The exit code of a trial that nobody answered well, as of whatever is unavailable.
EXIT_UNANSWERED = 5
#: Where `add` finds the secret: a command line is seen by others.
SECRET = "TREADLE_WEBHOOK_SECRET"


class _Listing(click.Group):
    """A group that lists where no verb of it is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with `list` put in."""
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group(cls=_Listing)
def webhooks() -> None:
    """Addresses that are told when models, versions, tags and aliases change. Hosts are allowed by TREADLE_WEBHOOK_HOSTS.

    \b
    Example:
      treadle webhooks add https://hooks.example.com/models --event model_version.created
      treadle webhooks deliveries
    """


@webhooks.command("list")
@verb(project=True)
def listing(session: Session, project: str | None) -> None:
    """List webhooks, newest first.

    \b
    Example:
      treadle webhooks list
    """
    name = session.project(project)
    found: list[Webhook] = []
    page = None
    while True:
        part = session.call(ListWebhooks(project=name, limit=1000, page=page))
        found += part.items
        page = part.page.next
        if page is None:
            break
    if session.as_json:
        show.as_json(found)
        return
    show.table(
        ("WEBHOOK", "NAME", "STATE", "ADDRESS", "EVENTS", "SIGNED"),
        [(w.webhook_id, w.name, w.state, w.url, ", ".join(w.events), "yes" if w.signed else "no") for w in found],
        empty="Nobody is told.",
    )


@webhooks.command()
@click.argument("address")
@click.option("--event", "events", multiple=True, required=True, help="model_version.created, …; may be repeated.")
@click.option("--name", default="", help="What it is called; the address's host where none is given.")
@click.option("--disabled", is_flag=True, help="Keep it, and tell it nothing yet.")
@verb(project=True)
def add(session: Session, address: str, events: tuple[str, ...], name: str, disabled: bool, project: str | None) -> None:
    """Tell ADDRESS of events. Deliveries are signed with the secret in TREADLE_WEBHOOK_SECRET, where it is set.

    \b
    Example:
      treadle webhooks add https://hooks.example.com/models --event model_version.created
    """
    made: Webhook = session.call(
        CreateWebhook(
            project=session.project(project),
            webhook_id=new_id("whk"),
            name=name or address.partition("://")[2].partition("/")[0] or address,
            address=address,
            events=list(events),
            secret=os.environ.get(SECRET, ""),
            state="disabled" if disabled else "active",
        )
    )
    if session.as_json:
        show.as_json(made)
        return
    click.echo(f"{made.webhook_id}: {made.url} is told of {', '.join(made.events)}. Try it: treadle webhooks test {made.webhook_id}")


@webhooks.command()
@click.argument("webhook")
@verb(project=True)
def remove(session: Session, webhook: str, project: str | None) -> None:
    """Forget WEBHOOK, and what was to be delivered to it.

    \b
    Example:
      treadle webhooks remove whk_01ks…
    """
    done = session.call(DeleteWebhook(project=session.project(project), webhook_id=webhook))
    if session.as_json:
        show.as_json(done)
        return
    click.echo(f"{webhook} is told nothing any more.")


@webhooks.command()
@click.argument("webhook")
@click.option("--event", default="", help="Of which event; the first that it is told of where none is given.")
@verb(project=True)
def test(session: Session, webhook: str, event: str, project: str | None) -> int:
    """Send an example to WEBHOOK now, and say what it answers.

    \b
    Example:
      treadle webhooks test whk_01ks…
    """
    done: WebhookTest = session.call(
        TryWebhook(project=session.project(project), webhook_id=webhook, delivery_id=new_id("try"), event=event)
    )
    if session.as_json:
        show.as_json(done)
        return 0 if done.success else EXIT_UNANSWERED
    if not done.success:
        raise TreadleError(
            f"{webhook} was not told: {done.error}.",
            remedy="See that the receiver runs, and that TREADLE_WEBHOOK_HOSTS names its host.",
            code="unavailable",
        )
    click.echo(f"{webhook} answered {done.status} to {done.event}.")
    return 0


@webhooks.command()
@click.argument("webhook", default="")
@click.option("--state", default="", help="waiting, delivered, failed or dropped.")
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@verb(project=True)
def deliveries(session: Session, webhook: str, state: str, limit: int, project: str | None) -> None:
    """List what was told to WEBHOOK, or to all, in the last seven days.

    \b
    Example:
      treadle webhooks deliveries --state waiting
    """
    asked = ListWebhookDeliveries(project=session.project(project), webhook_id=webhook, state=state, limit=limit)
    found: list[WebhookDelivery] = session.call(asked).items
    if session.as_json:
        show.as_json(found)
        return
    show.table(
        ("DELIVERY", "WEBHOOK", "EVENT", "STATE", "ATTEMPTS", "NEXT", "STATUS", "ERROR", "SINCE"),
        [(d.delivery_id, d.webhook_id, d.event, d.state, d.attempts, d.due, d.status, d.error, d.created) for d in found],
    )
