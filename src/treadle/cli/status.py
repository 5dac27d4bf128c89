"""`status` and `events`: where the loop stands, and what happened."""

import time

import click

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.operations.ledger import Events, ListEvents, ListRuns
from treadle.operations.workshop import GetApplied, GetOverview, ListProjects, Overview
from treadle.records.ledger import Event

_POLL = 0.5


@click.command()
@click.argument("endpoint", required=False)
@verb(project=True, environment=True)
def status(session: Session, endpoint: str | None, project: str | None, env: str | None) -> None:
    """The loop of ENDPOINT at a glance: each station, champion and challenger, quality, what waits for a person.

    \b
    Example:
      treadle status delay --env prod
    """
    name = session.project(project)
    if env is None:
        environments = next((p.environments for p in session.call(ListProjects()) if p.name == name), [])
        env = "prod" if "prod" in environments else None
    environment = session.environment(name, env)
    applied = session.call(GetApplied(project=name, environment=environment))
    if applied is not None and not applied.endpoints and endpoint is None and not session.as_json:
        click.echo(f"{name} is applied in {environment} and has no endpoint, so there is no loop to look at. Its runs:")
        found = session.call(ListRuns(project=name, environment=environment, limit=5)).items
        show.table(("RUN", "PIPELINE", "STATE", "TIME"), [(r.run_id, r.pipeline, r.state, r.event_time) for r in found])
        return
    seen: Overview = session.call(GetOverview(project=name, environment=environment, endpoint=endpoint or ""))
    if session.as_json:
        show.as_json(seen)
        return
    now = show.cell(seen.now) + (" (replayed)" if seen.virtual else "")
    click.echo(f"{click.style(seen.endpoint, bold=True)}, {seen.project} in {seen.environment}, {now}")
    click.echo(seen.sentence)
    click.echo()
    show.table(("STATION", "STATE", "", "SINCE"), [(s.name, s.state, s.text, s.time) for s in seen.stations])
    if seen.figures:
        click.echo()
        show.facts((k.replace("_", " "), v) for k, v in seen.figures.items() if not isinstance(v, (dict, list)))
    if seen.waiting:
        click.echo()
        for a in seen.waiting:
            click.echo(f"waits for a person: {a.question}  treadle approve {a.approval_id}")


@click.command()
@click.option("--type", "type_", metavar="TYPE", help="Only these; may end in *: treadle.model.*")
@click.option("--subject", help="Only about this: model/delay/3")
@click.option("--limit", default=30, show_default=True)
@click.option("--follow", "-f", is_flag=True, help="Go on as they are sealed, until interrupted.")
@verb(project=True, environment=True)
def events(
    session: Session, type_: str | None, subject: str | None, limit: int, follow: bool, project: str | None, env: str | None
) -> None:
    """Print the newest sealed events, oldest first. A worker seals them in order within a second.

    \b
    Example:
      treadle events --type 'treadle.release.*' -f
    """
    name = session.project(project)
    ask = ListEvents(project=name, environment=env, type=type_, subject=subject, newest=True, limit=limit)
    page: Events = session.call(ask)
    found = page.items[::-1]
    if session.as_json and not follow:
        show.as_json(found)
        return
    if not found and not follow:
        click.echo("No events yet.")
    for event in found:
        _print(session, event)
    after = f"[{found[-1].seq}]" if found else None  # a page token of theirs
    while follow:
        time.sleep(_POLL)
        page = session.call(ListEvents(project=name, environment=env, type=type_, subject=subject, limit=500, page=after))
        for event in page.items:
            _print(session, event)
            after = f"[{event.seq}]"


def _print(session: Session, event: Event) -> None:
    if session.as_json:
        show.line_json(event)
        return
    where = f" in {event.environment}" if event.environment else ""
    click.echo(f"{event.seq or '-':>6}  {show.cell(event.event_time)}  {event.type}  {event.subject}{where}  by {event.actor}")
