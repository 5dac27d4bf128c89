"""`blobs`: where the blobs of a home are, and moving them to object storage and back."""

from typing import Any

import click

from treadle.cli import show
from treadle.cli.session import Session, verb


@click.group()
def blobs() -> None:
    """Say where the blobs are; move them to object storage and back.

    \b
    Example:
      treadle blobs where
      treadle blobs move --to s3://models/delay
    """


def _opened(session: Session) -> Any:
    """The home with its blobs where they are, whatever TREADLE_BLOBS says of where they shall be."""
    from treadle.records.layout import Layout
    from treadle.workshop.blobs import there

    session.blobs = there(Layout(session.home))
    return session.workshop


@blobs.command("where")
@verb(remote=False)
def where(session: Session) -> None:
    """Say where the blobs are, how many, and how large.

    \b
    Example:
      treadle blobs where --json
    """
    from treadle.workshop.blobs import where as look

    shop = _opened(session)
    told = look(shop.layout, shop.blobs)
    if session.as_json:
        show.as_json(told)
    else:
        show.facts((name.replace("_", " "), show.size(value) if "bytes" in name else value) for name, value in told.items())


@blobs.command("move")
@click.option("--to", "target", required=True, metavar="URL", help="s3://bucket/prefix, or local.")
@click.option("--keep", is_flag=True, help="Leave the blobs where they were, too.")
@verb(remote=False)
def move(session: Session, target: str, keep: bool) -> None:
    """Copy all blobs to another place, read each back, and let the home use that place from now on.

    Stop what runs on the home first. One that was interrupted goes on where it was: repeat the command.

    \b
    Example:
      treadle blobs move --to s3://models/delay
      treadle blobs move --to local
    """
    from treadle.workshop.blobs import move as carry

    shop = _opened(session)
    told = carry(
        shop.layout, shop.blobs, target, shop.home_id, keep=keep, tell=lambda text: None if session.as_json else click.echo(text, err=True)
    )
    if session.as_json:
        show.as_json(told)
    else:
        click.echo(f"Moved {told['blobs']:,} blobs ({show.size(told['bytes'])}) to {target}. Start again: treadle up")
