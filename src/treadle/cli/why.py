"""`why` and `reproduce`: explain a prediction, prove a training."""

from typing import Any

import click
import msgspec

from treadle.cli import show
from treadle.cli.registry import version_of
from treadle.cli.session import Session, verb
from treadle.operations.workshop import Chain, WhyPrediction

#: Long facts that a person asks for with --json.
_LONG = ("lock", "files", "gates", "inputs", "features")


@click.command()
@click.argument("prediction_id")
@verb(project=True)
def why(session: Session, prediction_id: str, project: str | None) -> None:
    """Walk from a prediction (its log sealed or not) to the model version, its run, the rows, features, code and environment.

    \b
    Example:
      treadle why 01ks…-0000a1f0-0
    """
    chain: Chain = session.call(WhyPrediction(project=session.project(project), prediction_id=prediction_id))
    if session.as_json:
        show.as_json(chain)
        return
    for number, link in enumerate(chain.links):
        plain = msgspec.to_builtins(link)
        name = plain.pop("link", "?")
        click.echo(f"{'└─ ' if number else ''}{click.style(name, bold=True)}")
        for key, value in plain.items():
            if value not in (None, "", [], {}):
                click.echo(f"     {key.replace('_', ' ')}: {_fact(key, value)}")


@click.command()
@click.argument("version")
@verb(project=True, remote=False)
def reproduce(session: Session, version: str, project: str | None) -> int:
    """Train VERSION (MODEL@N) again from its recorded inputs and compare. Exit code 0 when equal, 1 when not.

    \b
    Example:
      treadle reproduce delay@12
    """
    from treadle.workshop.reproduce import reproduce as again

    model, number = version_of(version)
    answer = again(session.workshop, session.project(project), model, number)
    plain = msgspec.to_builtins(answer)
    if session.as_json:
        show.as_json(plain)
    else:
        show.facts((k.replace("_", " "), v) for k, v in plain.items())
    return 0 if answer.verdict in ("identical", "equal") else 1


def _fact(key: str, value: Any) -> str:
    if key == "views" and isinstance(value, list):
        return "; ".join(f"{v['name']} by {', '.join(v['entity'])} from {v['source']} ({len(v['features'])})" for v in value)
    if key in _LONG and isinstance(value, list):
        return f"{len(value)} (--json shows them)"
    return show.cell(value)
