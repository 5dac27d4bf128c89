"""`sync`: send the journals of runs that were logged without a server."""

from pathlib import Path

import click

from treadle.cli import show
from treadle.cli.session import Session, verb


@click.command()
@click.argument("spool", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--to", "target", help="A server's address or a home's folder; else where each run was meant to go.")
@verb(store=True)
def sync(session: Session, spool: Path | None, target: str | None) -> int:
    """Send what scripts logged while no server or home was there. Sending twice changes nothing.

    SPOOL is the folder of journals; TREADLE_SPOOL or the home's own where it is not given. Exit code 1 when something was refused.

    \b
    Example:
      treadle sync
      treadle sync ~/laptop-journals --to http://tracking.example:8400
    """
    from treadle.workshop import sdk
    from treadle.workshop.places import spool_path

    folder = spool or spool_path(session.home, session.url)
    done = sdk.sync(folder, target or session.url)
    if session.as_json:
        show.as_json(done)
    elif not done:
        click.echo(f"Nothing waits in {folder}.")
    for told in () if session.as_json else done:
        if told["state"] == "being written":
            click.echo(f"{told['run_id']}  is being written by its own process")
        else:
            click.echo(f"{told['run_id']}  {told['sent']} entries sent" + (f", refused: {told['refused']}" if told.get("refused") else ""))
    return 1 if any(told.get("refused") for told in done) else 0
