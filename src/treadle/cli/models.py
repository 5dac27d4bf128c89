"""`models`, `approvals`, `approve`, `reject`: what was learned, and who agrees to it."""

import click

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.operations.registry import DecideApproval, GetModelVersion, ListApprovals, ListModelVersions
from treadle.operations.workshop import GetApplied, ListProjects
from treadle.records.errors import TreadleError
from treadle.records.models import Approval, ModelVersion


@click.command()
@click.argument("model", required=False)
@click.option("--limit", default=20, show_default=True)
@verb(project=True)
def models(session: Session, model: str | None, project: str | None, limit: int) -> None:
    """List versions of MODEL (of every model of the project's endpoints where none is named); MODEL@N shows one.

    \b
    Example:
      treadle models delay
      treadle models delay@12
    """
    name = session.project(project)
    if model and "@" in model:
        wanted, number = version_of(model)
        _one(session, session.call(GetModelVersion(project=name, model=wanted, number=number)))
        return
    names = [model] if model else _served(session, name)
    found = [v for m in names for v in session.call(ListModelVersions(project=name, model=m, limit=limit)).items]
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
        empty="No version yet. A pipeline registers one with tr.candidate(…).",
    )


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


def version_of(text: str) -> tuple[str, int]:
    """`delay@12` as model and number.

    >>> version_of("delay@12")
    ('delay', 12)
    """
    model, _, number = text.partition("@")
    if not model or not number.isdigit():
        raise TreadleError(f"{text!r} names no model version.", remedy="Write MODEL@NUMBER, for example delay@12 (treadle models)")
    return model, int(number)


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


def _served(session: Session, project: str) -> list[str]:
    environments = next((p.environments for p in session.call(ListProjects()) if p.name == project), [])
    applied = [session.call(GetApplied(project=project, environment=e)) for e in environments]
    return sorted({endpoint.model for a in applied if a for endpoint in a.endpoints})


def _one(session: Session, v: ModelVersion) -> None:
    if session.as_json:
        show.as_json(v)
        return
    show.facts(
        [
            ("version", f"{v.model}@{v.number}"),
            ("state", v.state),
            ("aliases", v.aliases),
            ("metrics", v.metrics),
            ("run", v.run_id),
            ("bundle", v.bundle_digest),
            ("registered", v.event_time),
            ("by", v.actor),
            ("description", v.description),
            ("tags", v.tags),
        ]
    )
    for gate in v.gates:
        click.echo(f"  {click.style('pass', fg='green') if gate.passed else click.style('fail', fg='red')}  {gate.text}")
