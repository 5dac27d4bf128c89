"""`doctor`, `audit`, `actor`, `token`, `backup`, `restore`, `gc`, `version`: keeping a home."""

import importlib.metadata
import shlex
from pathlib import Path

import click

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.operations.ledger import (
    CollectGarbage,
    CreateActor,
    DisableActor,
    Done,
    EnableActor,
    GarbageReport,
    GrantRole,
    IssueToken,
    ListActors,
    ListTokens,
    RevokeGrant,
    RevokeToken,
    TokenInfo,
    TokenIssued,
    VerifyAudit,
)
from treadle.records.calls import Actor, Role
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.ledger import AuditReport


@click.command()
@verb(remote=False, store=True)
def doctor(session: Session) -> int:
    """Check the home, versions, disk, database, ports and clock, and say what to do. Exit code 1 when something is wrong.

    \b
    Example:
      treadle doctor
    """
    from treadle.records.layout import Layout
    from treadle.workshop.doctor import check

    findings = check(Layout(session.home), store=session.store)
    if session.as_json:
        show.as_json(findings)
    else:
        for finding in findings:
            mark = click.style("ok  ", fg="green") if finding["ok"] else click.style("BAD ", fg="red", bold=True)
            click.echo(f"{mark} {finding['name'].ljust(12)} {finding['text']}")
            if not finding["ok"]:
                click.echo(f"                  To do: {finding['remedy']}")
    return 0 if all(finding["ok"] for finding in findings) else 1


@click.group()
def audit() -> None:
    """Verify the chain of all events; print its head.

    \b
    Example:
      treadle audit verify
    """


@audit.command("verify")
@verb()
def verify(session: Session) -> int:
    """Verify every sealed event against the chain and the heads kept outside the home. Exit code 6 when it does not hold.

    \b
    Example:
      treadle audit verify --json
    """
    report: AuditReport = session.call(VerifyAudit())
    if session.as_json:
        show.as_json(report)
        return 0 if report.intact else 6
    word = click.style("intact", fg="green") if report.intact else click.style("BROKEN", fg="red", bold=True)
    click.echo(f"The chain of {report.sealed:,} events is {word}; head {report.head_seq} {show.short(report.head_hash)}.")
    if report.published_seq is None:
        click.echo("No head is kept outside the home yet: a cut tail would not be noticed.")
    else:
        click.echo(f"The last head kept outside the home is of event {report.published_seq}.")
    tail = f", the oldest for {report.unsealed_seconds:.1f} s" if report.unsealed else ""
    click.echo(f"{report.unsealed:,} events wait to be sealed{tail}. {report.erased:,} payloads were erased.")
    for problem in report.problems:
        click.echo(click.style(f"  {problem}", fg="red"))
    return 0 if report.intact else 6


@audit.command("head")
@verb()
def head(session: Session) -> None:
    """Print the head of the chain, to keep it where a thief of the home cannot reach it.

    \b
    Example:
      treadle audit head >> /mnt/elsewhere/heads
    """
    report: AuditReport = session.call(VerifyAudit())
    if session.as_json:
        show.as_json({"seq": report.head_seq, "hash": report.head_hash})
    else:
        click.echo(f"{report.head_seq} {report.head_hash}")


@click.group()
def actor() -> None:
    """Who may act here, and as what.

    \b
    Example:
      treadle actor add mia --role approver
    """


@actor.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([r.value for r in Role]), default="viewer", show_default=True)
@click.option("--kind", type=click.Choice(["person", "service", "policy"]), default="person", show_default=True)
@click.option("--actor-id", help="The name where left out.")
@verb()
def add_actor(session: Session, name: str, role: str, kind: str, actor_id: str | None) -> None:
    """Create an actor.

    \b
    Example:
      treadle actor add mia --role approver
    """
    made = session.call(CreateActor(actor_id=actor_id or name, name=name, kind=kind, role=Role(role)))
    if session.as_json:
        show.as_json(made)
    else:
        click.echo(f"{made.name} is {made.role}. A token: treadle token add {made.actor_id}")


@actor.command("list")
@verb()
def list_actors(session: Session) -> None:
    """Everybody who may act here, with roles and grants.

    \b
    Example:
      treadle actor list
    """
    found: list[Actor] = session.call(ListActors())
    if session.as_json:
        show.as_json(found)
        return
    rows = [(a.actor_id, a.name, a.kind, a.role, _grants(a), "disabled" if a.disabled else "") for a in found]
    show.table(("ACTOR", "NAME", "KIND", "ROLE", "GRANTED", ""), rows)


def _grants(a: Actor) -> str:
    return ", ".join(f"{g.role} in {g.project}/{g.environment}" for g in a.grants)


@actor.command("grant")
@click.argument("actor_id")
@click.argument("role", type=click.Choice([r.value for r in Role]))
@click.option("--project", default="*", show_default=True, help="Only in this project.")
@click.option("--env", default="*", show_default=True, help="Only in this environment.")
@verb()
def grant_role(session: Session, actor_id: str, role: str, project: str, env: str) -> None:
    """Give ACTOR_ID a role on top of its own, everywhere or in a project and environment.

    \b
    Example:
      treadle actor grant mia approver --project flights --env prod
    """
    made: Actor = session.call(GrantRole(actor_id=actor_id, role=Role(role), in_project=project, in_environment=env))
    if session.as_json:
        show.as_json(made)
    else:
        click.echo(f"{made.name} is {made.role}, and {_grants(made)}.")


@actor.command("revoke")
@click.argument("actor_id")
@click.option("--project", default="*", show_default=True, help="The project it was granted in.")
@click.option("--env", default="*", show_default=True, help="The environment it was granted in.")
@verb()
def revoke_grant(session: Session, actor_id: str, project: str, env: str) -> None:
    """Take back what ACTOR_ID was granted in exactly this project and environment.

    \b
    Example:
      treadle actor revoke mia --project flights --env prod
    """
    _say(
        session,
        session.call(RevokeGrant(actor_id=actor_id, in_project=project, in_environment=env)),
        "Revoked.",
        "There was no such grant.",
    )


@actor.command("disable")
@click.argument("actor_id")
@verb()
def disable_actor(session: Session, actor_id: str) -> None:
    """Let ACTOR_ID's tokens open nothing, from the next request on.

    \b
    Example:
      treadle actor disable mia
    """
    _say(session, session.call(DisableActor(actor_id=actor_id)), "Disabled.", "It was disabled before.")


@actor.command("enable")
@click.argument("actor_id")
@verb()
def enable_actor(session: Session, actor_id: str) -> None:
    """Undo disabling: tokens that were not revoked open again.

    \b
    Example:
      treadle actor enable mia
    """
    _say(session, session.call(EnableActor(actor_id=actor_id)), "Enabled.", "It was not disabled.")


def _say(session: Session, done: Done, changed: str, unchanged: str) -> None:
    if session.as_json:
        show.as_json(done)
    else:
        click.echo(changed if done.changed else unchanged)


@click.group()
def token() -> None:
    """Tokens: secrets by which an actor is known beyond this machine.

    \b
    Example:
      treadle token add owner
    """


@token.command("add")
@click.argument("actor_id")
@verb()
def add_token(session: Session, actor_id: str) -> None:
    """Issue a token for ACTOR_ID. It is shown once; the home keeps only its argon2id hash.

    \b
    Example:
      export TREADLE_TOKEN=$(treadle token add owner)
    """
    issued: TokenIssued = session.call(IssueToken(actor_id=actor_id, token_id=new_id("tok")))
    if session.as_json:
        show.as_json(issued)
        return
    click.echo(issued.token)
    click.echo(f"Shown once. Revoke it with: treadle token revoke {actor_id} {issued.token_id}", err=True)


@token.command("list")
@click.argument("actor_id")
@verb()
def list_tokens(session: Session, actor_id: str) -> None:
    """ACTOR_ID's tokens: when each was made and revoked, never its secret.

    \b
    Example:
      treadle token list owner
    """
    found: list[TokenInfo] = session.call(ListTokens(actor_id=actor_id))
    if session.as_json:
        show.as_json(found)
    else:
        rows = [(t.token_id, t.created_time, t.revoked_time) for t in found]
        show.table(("TOKEN", "CREATED", "REVOKED"), rows, empty=f"No tokens. Issue one: treadle token add {actor_id}")


@token.command("revoke")
@click.argument("actor_id")
@click.argument("token_id")
@verb()
def revoke_token(session: Session, actor_id: str, token_id: str) -> None:
    """Revoke a token, from the next request on.

    \b
    Example:
      treadle token revoke owner tok_01ks…
    """
    _say(session, session.call(RevokeToken(actor_id=actor_id, token_id=token_id)), "Revoked.", "It was revoked before.")


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--without-blobs", is_flag=True, help="Leave blobs that are in object storage there, and say which are needed.")
@verb(remote=False)
def backup(session: Session, target: Path, without_blobs: bool) -> None:
    """Copy a home to TARGET while it is in use: consistent, every digest verified. Blobs in object storage are copied too.

    \b
    Example:
      treadle backup /mnt/backups/2013-04-01
    """
    from treadle.workshop.keeping import backup as copy

    told = copy(session.workshop, target, with_blobs=not without_blobs)
    if session.as_json:
        show.as_json(told)
    else:
        click.echo(f"Copied to {target}.")
        facts = (
            (name, f"{len(value)} (--json shows them)" if isinstance(value, list | dict) else value)
            for name, value in told.items()
            if value
        )
        show.facts(facts)


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@verb(remote=False, store=True)
def restore(session: Session, source: Path) -> None:
    """Make the home (--home) from a backup. A home that is not empty is refused.

    \b
    Example:
      treadle restore /mnt/backups/2013-04-01 --home .treadle
    """
    from treadle.records.layout import Layout
    from treadle.workshop.keeping import restore as back

    told = back(source, Layout(session.home), session.store)
    if session.as_json:
        show.as_json(told)
    else:
        click.echo(f"Restored to {session.home}, a home of its own. Check it: treadle doctor --home {shlex.quote(str(session.home))}")
        if told["later_events"]:
            click.echo(f"The home it was copied from has published {told['later_events']} more events since; they are not in it.")


@click.command()
@click.option("--dry-run/--no-dry-run", default=True, show_default=True, help="Only say what would go.")
@click.option("--min-age", default="1h", show_default=True, help="Keep what is younger: writers may be about to refer to it.")
@verb()
def gc(session: Session, dry_run: bool, min_age: str) -> None:
    """Remove blobs that nothing in the graph refers to.

    \b
    Example:
      treadle gc               (says what would go)
      treadle gc --no-dry-run
    """
    from treadle.records.clock import seconds

    try:
        age = 0 if min_age in ("0", "0s") else seconds(min_age)
    except ValueError as error:
        raise TreadleError(str(error), remedy="Write --min-age 30m") from error
    report: GarbageReport = session.call(CollectGarbage(dry_run=dry_run, min_age_s=age))
    if session.as_json:
        show.as_json(report)
        return
    verb_ = "would go" if report.dry_run else "removed"
    click.echo(f"{report.removed:,} blobs {verb_} ({show.size(report.freed_bytes)}), {report.kept:,} kept.")
    if report.dry_run and report.removed:
        click.echo("Remove them: treadle gc --no-dry-run")


@click.command()
@verb()
def version(session: Session) -> None:
    """Print the version of this installation (and of the server, with --url).

    \b
    Example:
      treadle version --json
    """
    here = {"version": importlib.metadata.version("treadle")}
    if session.url:
        from treadle.client import Client

        with Client(session.url) as client:
            here["server"] = client.version()["version"]
    if session.as_json:
        show.as_json(here)
    else:
        show.facts(here.items())
