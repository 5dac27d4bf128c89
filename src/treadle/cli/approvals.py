"""`approvals`, `approve`, `reject`: who agrees to what was learned."""

import click

from treadle.cli import show
from treadle.cli.registry import version_of
from treadle.cli.session import Session, verb
from treadle.operations.registry import DecideApproval, ListApprovals
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
        ("APPROVAL", "SUBJECT", "ENV", "STATE", "ASKED BY", "ASKED", "DECIDED BY", "QUESTION"),
        [(a.approval_id, a.subject, a.environment, a.state, a.asked_by, a.asked_time, a.decided_by, a.question) for a in found],
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


def _decide(session: Session, approval: str, *, grant: bool, comment: str, project: str | None, env: str | None) -> None:
    name = session.project(project)
    if "@" in approval:
        model, number = version_of(approval)
        subject = f"model/{model}/{number}"
        waiting: list[Approval] = session.call(ListApprovals(project=name))
        fitting = [a for a in waiting if a.subject == subject and env in (None, a.environment)]
        if len(fitting) != 1:
            where = ", ".join(a.environment for a in fitting)
            raise TreadleError(
                f"{approval} waits in {where}." if fitting else f"No approval of {approval} waits.",
                remedy="Name the environment: --env ENV" if fitting else "See what waits: treadle approvals",
                code="bad_request" if fitting else "not_found",
            )
        approval = fitting[0].approval_id
    decided: Approval = session.call(DecideApproval(project=name, approval_id=approval, grant=grant, comment=comment))
    if session.as_json:
        show.as_json(decided)
        return
    click.echo(f"{decided.subject} in {decided.environment}: {show.state(str(decided.state))} by {decided.decided_by}")
