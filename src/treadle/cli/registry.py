"""What the verbs of models and approvals print, and how a version is named on the command line."""

from collections.abc import Sequence
from typing import Any

import click

from treadle.cli import show
from treadle.cli.session import Session
from treadle.operations.workshop import GetApplied, ListProjects
from treadle.records.errors import TreadleError
from treadle.records.models import Approval, ModelVersion, Removal


def version_of(text: str) -> tuple[str, int]:
    """`delay@12` as model and number.

    >>> version_of("delay@12")
    ('delay', 12)
    """
    model, _, number = text.rpartition("@")
    if not model or not number.isdigit():
        raise TreadleError(f"{text!r} names no model version.", remedy="Write MODEL@NUMBER, for example delay@12 (treadle models)")
    return model, int(number)


def said(session: Session, done: Any, text: str) -> None:
    """What was done: the record, or a line about it."""
    if session.as_json:
        show.as_json(done)
    else:
        click.echo(text)


def json_bytes(made: Any) -> bytes:
    """A record as indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(made), indent=2)


def pair(text: str, what: str) -> tuple[str, str]:
    """`KEY=VALUE` in two."""
    key, found, value = text.partition("=")
    if not found or not key:
        raise TreadleError(f"{text[:80]!r} is no {what}.", remedy="Write KEY=VALUE.")
    return key, value


def print_removal(session: Session, thing: str, would: Removal) -> None:
    """What would go, and what keeps the rest."""
    if session.as_json:
        show.as_json(would)
        return
    named = f" and the aliases {', '.join(would.aliases)}" if would.aliases else ""
    click.echo(f"{thing}: {len(would.versions)} version{'' if len(would.versions) == 1 else 's'}{named} would go")
    for reason in would.kept:
        click.echo(f"  kept: {reason}")


def print_uses(uses: list[Any]) -> None:
    """Who uses a model or version."""
    if uses:
        rows = [(u.kind, u.environment, u.name, u.number or None, "yes" if u.keeps else "", u.text) for u in uses]
        show.table(("USED BY", "ENV", "NAME", "VERSION", "KEEPS IT", "IN WORDS"), rows)


def print_versions(session: Session, found: list[ModelVersion], *, empty: str) -> None:
    """Versions as a table."""
    if session.as_json:
        show.as_json(found)
        return
    show.table(
        ("MODEL", "STATE", "ALIASES", "METRICS", "GATES", "RUN", "TIME"),
        [
            (
                f"{v.model}@{v.number}",
                v.state,
                v.aliases,
                v.metrics,
                f"{sum(g.passed for g in v.gates)}/{len(v.gates)}",
                v.run_id,
                v.event_time,
            )
            for v in found
        ],
        empty=empty,
    )


def served(session: Session, project: str) -> list[str]:
    """The models that the project's endpoints serve."""
    environments = next((p.environments for p in session.call(ListProjects()) if p.name == project), [])
    applied = [session.call(GetApplied(project=project, environment=e)) for e in environments]
    return sorted({endpoint.model for a in applied if a for endpoint in a.endpoints})


def print_version(session: Session, v: ModelVersion, *, uses: list[Any] | None = None, approvals: Sequence[Approval] = ()) -> None:
    """One version, what was answered about it, and who uses it."""
    if session.as_json:
        show.as_json(v if uses is None else {"version": v, "uses": uses, "approvals": approvals})
        return
    show.facts(
        [
            ("version", f"{v.model}@{v.number}"),
            ("state", v.state),
            ("aliases", v.aliases),
            ("metrics", v.metrics),
            ("run", v.run_id),
            ("bundle", v.bundle_digest or "not sealed (treadle models seal)"),
            ("source", v.source),
            ("stage", "" if v.stage == "None" else v.stage),
            ("pinned", "yes" if v.pinned else ""),
            ("downloads", v.downloads or None),
            ("review due", v.review_due),
            ("registered", v.event_time),
            ("by", v.actor),
            ("description", v.description),
            ("tags", v.tags),
        ]
    )
    for gate in v.gates:
        click.echo(f"  {click.style('pass', fg='green') if gate.passed else click.style('fail', fg='red')}  {gate.text}")
    for a in approvals:
        answered = f" by {a.decided_by} {show.cell(a.decided_time)}" if a.decided_by else f", asked by {a.asked_by}"
        if a.decided_by and a.state == "expired":  # it held until its version went to the archive
            answered = f", was granted{answered}"
        comment = f": {a.comment}" if a.comment else ""
        click.echo(f"  {a.environment}  {show.state(str(a.state))}{answered}{comment}")
    print_uses(uses or [])
