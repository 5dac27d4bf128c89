"""`release` and `rollback`: moving an endpoint's traffic, and taking it back."""

import click

from treadle.cli import show
from treadle.cli.registry import version_of
from treadle.cli.session import Session, verb
from treadle.operations.registry import GetModelVersion
from treadle.operations.releases import GetRelease, ListReleases, RollbackRelease, StartRelease
from treadle.operations.workshop import GetApplied
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.releases import Release
from treadle.records.states import ReleaseState


@click.group()
def release() -> None:
    """Move an endpoint's traffic from one model version to another.

    \b
    Example:
      treadle release start delay --version 4 --env prod
      treadle release list --env prod
    """


@release.command("start")
@click.argument("endpoint")
@click.option("--version", metavar="N", help="Number, or MODEL@N; the newest where left out.")
@click.option("--direct", is_flag=True, help="All traffic at once, without the declared canary.")
@click.option("--release-id", help="An id of your own; the same one again changes nothing.")
@verb(project=True, environment=True)
def start(
    session: Session, endpoint: str, version: str | None, direct: bool, release_id: str | None, project: str | None, env: str | None
) -> None:
    """Start moving ENDPOINT to a version, by the strategy it declares.

    \b
    Example:
      treadle release start delay --version 4 --env prod
    """
    name = session.project(project)
    environment = session.environment(name, env)
    applied = session.call(GetApplied(project=name, environment=environment))
    declared = next((e for e in applied.endpoints if e.name == endpoint), None) if applied else None
    if declared is None:
        names = ", ".join(e.name for e in applied.endpoints) if applied else ""
        raise TreadleError(
            f"{name} has no endpoint {endpoint!r} in {environment}.",
            remedy=f"Its endpoints: {names or 'none'}. Apply one: treadle apply --env {environment}",
            code="not_found",
        )
    if version is None:
        number = session.call(GetModelVersion(project=name, model=declared.model, number=0)).number
    else:
        _, number = version_of(version if "@" in version else f"{declared.model}@{version}")
    _told(
        session,
        session.call(
            StartRelease(
                project=name,
                environment=environment,
                release_id=release_id or new_id("rel"),
                endpoint=endpoint,
                version=number,
                strategy=None if direct else declared.release,
            )
        ),
    )


@release.command("list")
@click.option("--endpoint", help="Only this endpoint's.")
@click.option("--state", type=click.Choice([s.value for s in ReleaseState]), help="Only these.")
@click.option("--limit", default=20, show_default=True)
@verb(project=True, environment=True)
def list_releases(session: Session, endpoint: str | None, state: str | None, limit: int, project: str | None, env: str | None) -> None:
    """List releases, newest first.

    \b
    Example:
      treadle release list --env prod
    """
    name = session.project(project)
    environment = session.environment(name, env)
    found: list[Release] = session.call(ListReleases(project=name, environment=environment, endpoint=endpoint, state=state, limit=limit))
    if session.as_json:
        show.as_json(found)
        return
    show.table(
        ("RELEASE", "ENDPOINT", "FROM", "TO", "HOW", "STATE", "STARTED", "ENDED", "WHY"),
        [
            (
                r.release_id,
                r.endpoint,
                r.from_version,
                r.to_version,
                "canary" if r.strategy and r.from_version else "direct",
                r.state,
                r.started,
                r.ended,
                r.reason,
            )
            for r in found
        ],
        empty="No release yet. Start one: treadle release start ENDPOINT",
    )


@release.command("show")
@click.argument("release_id")
@verb(project=True, environment=True)
def show_release(session: Session, release_id: str, project: str | None, env: str | None) -> None:
    """Show one release with its evidence.

    \b
    Example:
      treadle release show rel_01ks… --env prod
    """
    name = session.project(project)
    r: Release = session.call(GetRelease(project=name, environment=session.environment(name, env), release_id=release_id))
    if session.as_json:
        show.as_json(r)
        return
    show.facts(
        [
            ("release", r.release_id),
            ("endpoint", r.endpoint),
            ("model", r.model),
            ("from", r.from_version),
            ("to", r.to_version),
            ("strategy", "canary" if r.strategy and r.from_version else "direct"),
            ("state", r.state),
            ("verdict", r.verdict),
            ("reason", r.reason),
            ("generation", r.generation),
            ("started", r.started),
            ("ended", r.ended),
            ("by", r.actor),
        ]
    )


@release.command("rollback")
@click.argument("endpoint")
@click.option("--release-id", help="This release; the newest that moved traffic where left out.")
@click.option("--reason", default="", help="Kept with it.")
@verb(project=True, environment=True)
def release_rollback(session: Session, endpoint: str, release_id: str | None, reason: str, project: str | None, env: str | None) -> None:
    """Take the newest release of ENDPOINT back: the version that served before serves again.

    \b
    Example:
      treadle release rollback delay --env prod
    """
    _back(session, endpoint, release_id, reason, project, env)


@click.command()
@click.argument("endpoint", required=False)
@click.option("--release-id", help="This release; the newest that moved traffic where left out.")
@click.option("--reason", default="", help="Kept with it.")
@verb(project=True, environment=True)
def rollback(session: Session, endpoint: str | None, release_id: str | None, reason: str, project: str | None, env: str | None) -> None:
    """Put the version that served ENDPOINT before back. The same as `treadle release rollback`.

    \b
    Example:
      treadle rollback delay --env prod --reason "complaints from JFK"
    """
    _back(session, endpoint, release_id, reason, project, env)


def _back(session: Session, endpoint: str | None, release_id: str | None, reason: str, project: str | None, env: str | None) -> None:
    name = session.project(project)
    environment = session.environment(name, env)
    if release_id is None:
        endpoint = session.endpoint(name, environment, endpoint)
        found: list[Release] = session.call(ListReleases(project=name, environment=environment, endpoint=endpoint))
        moved = [r for r in found if r.state in (ReleaseState.waiting, ReleaseState.running, ReleaseState.promoted)]
        if not moved:
            raise TreadleError(
                f"No release of {endpoint} in {environment} can be taken back.",
                remedy=f"See what there was: treadle release list --env {environment}",
                code="not_found",
            )
        release_id = moved[0].release_id
    _told(session, session.call(RollbackRelease(project=name, environment=environment, release_id=release_id, reason=reason)))


def _told(session: Session, r: Release) -> None:
    if session.as_json:
        show.as_json(r)
        return
    came = f"{r.from_version} → " if r.from_version is not None else ""
    click.echo(f"{r.release_id}  {r.endpoint} in {r.environment}: {r.model} {came}{r.to_version}  {show.state(str(r.state))}")
    if r.reason:
        click.echo(f"  {r.reason}")
