"""`replay` and `demo`: the loop on recorded history."""

import datetime as dt
from pathlib import Path

import click
import msgspec

from treadle.cli import show
from treadle.cli.runs import moment
from treadle.cli.session import Session, verb
from treadle.operations.releases import GetSnapshot
from treadle.operations.workshop import GetApplied, ListProjects
from treadle.records.errors import TreadleError


@click.command()
@click.argument("endpoint", required=False)
@click.option(
    "--history", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="A folder with a file a dataset."
)
@click.option("--from", "since", metavar="TIME", required=True, help="First moment of business time.")
@click.option("--to", "until", metavar="TIME", required=True, help="Where to stop, exclusive.")
@click.option("--ingest", "first", is_flag=True, help="Ingest what was known before --from first.")
@click.option(
    "--policy",
    type=click.Choice(["declared", "never", "monthly"]),
    default="declared",
    show_default=True,
    help="When to retrain. Another policy than the declared one is tried on a copy of the home, in replays/ beside it.",
)
@verb(project=True, environment=True, remote=False, store=True, blobs=True)
def replay(
    session: Session,
    endpoint: str | None,
    history: Path,
    since: str,
    until: str,
    first: bool,
    policy: str,
    project: str | None,
    env: str | None,
) -> None:
    """Drive the loop of ENDPOINT through recorded history in virtual time, under the policy that it declares.

    The home's own gateways, log, monitors, triggers and releases are at work; only the clock is virtual. Valid only where predictions
    do not change outcomes, which an endpoint declares; refused otherwise. Use a home of its own for it.

    \b
    Example:
      treadle replay delay --env prod --history history --from 2013-02-01 --to 2013-12-31
      treadle replay delay --env prod --history history --from 2013-02-01 --to 2013-04-01 --policy monthly
    """
    from treadle.records.clock import VirtualClock, utc
    from treadle.workshop.history import History
    from treadle.workshop.replay import Progress, Replay, ingest
    from treadle.workshop.supervisor import gateway_folders, gateways, living

    start, end = utc(moment(since)), utc(moment(until))
    if end <= start:
        raise TreadleError(f"From {start:%Y-%m-%d} to {end:%Y-%m-%d} there is no time.", remedy="Give --to a later time than --from.")
    session.clock = VirtualClock(start)
    workshop = session.workshop
    working = [note for note in living(workshop.layout) if note.name.startswith("worker")]
    if working:
        raise TreadleError(
            f"A worker (pid {working[0].pid}) turns this home by the real clock; both at once would mix two times.",
            remedy="Stop it (treadle up: Ctrl-C), or replay in another home: --home DIR",
            code="busy",
        )
    name = session.project(project)
    environment = session.environment(name, env)
    endpoint = session.endpoint(name, environment, endpoint)
    definitions = session.call(GetApplied(project=name, environment=environment))
    record = History(history, definitions.datasets if definitions else ())
    if first:
        for dataset, rows in ingest(workshop, name, record, until=start).items():
            click.echo(f"ingested {rows:,} rows of {dataset}", err=True)
    _serves(session, name, environment, endpoint, start)
    if policy != "declared":
        _try(session, name, environment, history, start, end, policy)
        return

    def told(where: Progress) -> None:
        click.echo(f"{where.now:%Y-%m-%d}  {where.share:4.0%}  {where.predictions:,} predictions", err=True)

    gateway_folders(workshop)
    places = [(p.name, e) for p in session.call(ListProjects()) if p.name == name for e in p.environments]
    with gateways(workshop.layout, places):
        seen = Replay(workshop, name, environment, endpoint, record, progress=told).run(start, end)
    if session.as_json:
        show.as_json(seen)
    else:
        show.facts((k.replace("_", " "), v) for k, v in msgspec.to_builtins(seen).items())


def _try(session: Session, project: str, environment: str, history: Path, start: dt.datetime, end: dt.datetime, policy: str) -> None:
    """Another policy, on a copy."""
    from treadle.workshop.replay import backtest

    seen = backtest(
        session.workshop,
        project=project,
        environment=environment,
        history=history,
        since=start,
        until=end,
        policy=policy,
        tell=lambda text: click.echo(text, err=True),
    )
    if session.as_json:
        show.as_json(seen)
        return
    show.table([name.upper() for name in seen.months[0]] if seen.months else [], [list(m.values()) for m in seen.months])
    click.echo(f"{seen.predictions:,} predictions, {seen.retrainings} retrainings under the policy {policy!r}; look around: {seen.home}")


def _serves(session: Session, project: str, environment: str, endpoint: str, start: dt.datetime) -> None:
    """Raise where the endpoint has no champion yet: a replay asks it from its first block on."""
    try:
        served = session.call(GetSnapshot(project=project, environment=environment)).snapshot.endpoints
    except TreadleError as error:
        if error.code != "not_found":
            raise
        served = ()
    if not any(e.name == endpoint and e.champion is not None for e in served):
        raise TreadleError(
            f"Nothing serves {endpoint} in {environment} yet, so there is nobody to ask.",
            remedy=f"Train and release a first version: treadle run PIPELINE --at {start:%Y-%m-%d}, then treadle release start {endpoint}",
            code="conflict",
        )


@click.command()
@click.option(
    "--build", type=click.Path(file_okay=False, path_type=Path), default=Path("build/demo"), show_default=True, help="Where its home goes."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--home", hidden=True)
def demo(build: Path, as_json: bool, home: str | None) -> int:
    """The closed loop on a real year of flights: train, gate, approve, release, serve, watch, retrain. Under three minutes.

    \b
    Example:
      treadle demo
    """
    from rich.console import Console

    from treadle.workshop.demo import run

    answer = run(build, console=Console(stderr=True) if as_json else None)
    if as_json and (build / "summary.json").exists():
        click.echo((build / "summary.json").read_text())
    return answer if isinstance(answer, int) else 0
