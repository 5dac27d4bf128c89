"""`approvals`, `approve`, `reject`, `withdraw`: who agrees to what was learned."""

import click

from treadle.cli import show
from treadle.cli.registry import version_of
from treadle.cli.session import Session, verb
from treadle.operations.registry import DecideApproval, ListApprovals, WithdrawApproval
from treadle.records.errors import TreadleError
from treadle.records.models import Approval


@click.command()
@click.option("--all", "everything", is_flag=True, help="The decided ones too.")
@verb(project=True)
def approvals(session: Session, project: str | None, everything: bool) -> None:
    """List what waits for a person.

    \b
    Example:
      treadle approvals
    """
    found = session.call(ListApprovals(project=session.project(project), state=None if everything else "waiting"))
    if session.as_json:
        show.as_json(found)
        return
    show.table(
        ("APPROVAL", "SUBJECT", "ENV", "STATE", "ASKED BY", "ASKED", "EXPIRES", "DECIDED BY", "QUESTION"),
        [(a.approval_id, a.subject, a.environment, a.state, a.asked_by, a.asked_time, a.expires, a.decided_by, a.question) for a in found],
        empty="Nothing waits.",
    )


@click.command()
@click.argument("approval")
@click.option("--comment", default="", help="Kept with the decision.")
@verb(project=True, environment=True)
def approve(session: Session, approval: str, comment: str, project: str | None, env: str | None) -> None:
    """Grant APPROVAL: its id, or the model version it asks about.

    \b
    Example:
      treadle approve delay@3 --env prod --comment "looked at the slices"
    """
    _decide(session, approval, grant=True, comment=comment, project=project, env=env)


@click.command()
@click.argument("approval")
@click.option("--comment", default="", help="Kept with the decision.")
@verb(project=True, environment=True)
def reject(session: Session, approval: str, comment: str, project: str | None, env: str | None) -> None:
    """Refuse APPROVAL: its id, or the model version it asks about.

    \b
    Example:
      treadle reject delay@3 --comment "worse at JFK"
    """
    _decide(session, approval, grant=False, comment=comment, project=project, env=env)


@click.command()
@click.argument("approval")
@click.option("--reason", default="", help="Kept with it.")
@verb(project=True, environment=True)
def withdraw(session: Session, approval: str, reason: str, project: str | None, env: str | None) -> None:
    """Take back a question that you asked: its id, or the model version it asks about.

    \b
    Example:
      treadle withdraw delay@3 --env prod --reason "the slices were of last year"
    """
    name = session.project(project)
    asked = _waiting(session, approval, name, env)
    done: Approval = session.call(WithdrawApproval(project=name, approval_id=asked, reason=reason))
    if session.as_json:
        show.as_json(done)
        return
    click.echo(f"{done.subject} in {done.environment}: {show.state(str(done.state))}")


def _waiting(session: Session, approval: str, project: str, env: str | None) -> str:
    """The id of an approval that waits; where none of a version does, the error says what became of the last."""
    if "@" not in approval:
        return approval
    model, number = version_of(approval)
    subject = f"model/{model}/{number}"

    def asked(state: str | None) -> list[Approval]:
        found: list[Approval] = session.call(ListApprovals(project=project, state=state, limit=500))
        return [a for a in found if a.subject == subject and env in (None, a.environment)]

    waiting = asked("waiting")
    if len(waiting) > 1:
        where = ", ".join(a.environment for a in waiting)
        raise TreadleError(f"{approval} waits in {where}.", remedy="Name the environment: --env ENV")
    found = waiting or asked(None)
    if found:
        return found[0].approval_id
    raise TreadleError(f"No approval of {approval} waits.", remedy="See what waits: treadle approvals", code="not_found")


def _decide(session: Session, approval: str, *, grant: bool, comment: str, project: str | None, env: str | None) -> None:
    name = session.project(project)
    approval = _waiting(session, approval, name, env)
    decided: Approval = session.call(DecideApproval(project=name, approval_id=approval, grant=grant, comment=comment))
    if session.as_json:
        show.as_json(decided)
        return
    click.echo(f"{decided.subject} in {decided.environment}: {show.state(str(decided.state))} by {decided.decided_by}")
