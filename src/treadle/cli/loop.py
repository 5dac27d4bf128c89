"""`replay` and `demo`: the loop on recorded history."""

from pathlib import Path

import click
import msgspec

from treadle.cli import show
from treadle.cli.runs import moment
from treadle.cli.session import Session, verb


@click.command()
@click.option("--from", "since", metavar="TIME", required=True, help="First day of business time.")
@click.option("--to", "until", metavar="TIME", required=True, help="Last day.")
@click.option("--policy", default="declared", show_default=True, help="declared, never or monthly.")
@verb(project=True, environment=True, remote=False)
def replay(session: Session, since: str, until: str, policy: str, project: str | None, env: str | None) -> None:
    """Drive the loop through recorded history in virtual time: what would the year have looked like under this policy?

    Valid only where predictions do not change outcomes, which an endpoint declares; refused otherwise.

    \b
    Example:
      treadle replay --from 2013-04-01 --to 2013-12-31 --policy monthly
    """
    from treadle.workshop.replay import replay as drive

    name = session.project(project)
    summary = drive(
        session.workshop,
        project=name,
        environment=session.environment(name, env),
        root=session.root,
        since=moment(since),
        until=moment(until),
        policy=policy,
        tell=(lambda text: click.echo(text, err=True)),
    )
    plain = msgspec.to_builtins(summary)
    if session.as_json:
        show.as_json(plain)
        return
    months = plain.get("months", [])
    if months:
        show.table([k.upper() for k in months[0]], [list(m.values()) for m in months])
    show.facts((k.replace("_", " "), v) for k, v in plain.items() if not isinstance(v, list))


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
    from treadle.workshop.demo import run

    answer = run(build)
    if as_json and (build / "summary.json").exists():
        click.echo((build / "summary.json").read_text())
    return answer if isinstance(answer, int) else 0
