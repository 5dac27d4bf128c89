"""`models`: what was learned: find it, look at it, compare it, describe it, name it, seal it, delete it."""

import datetime as dt
from pathlib import Path
from typing import Any

import click

from treadle.cli import show
from treadle.cli.registry import json_bytes, pair, print_removal, print_uses, print_version, print_versions, said, served, version_of
from treadle.cli.session import Session, verb
from treadle.operations.registry import (
    AddComment,
    CompareVersions,
    DeleteAlias,
    DeleteModel,
    DeleteVersion,
    GetCard,
    GetModel,
    GetModelVersion,
    GetUses,
    ListApprovals,
    ListModelVersions,
    MoveVersion,
    RenameModel,
    RequestApproval,
    SealVersion,
    SearchModels,
    SearchVersions,
    SetAlias,
    SetVersionTags,
    UpdateCard,
    UpdateModel,
    UpdateVersion,
)
from treadle.records.clock import seconds
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.models import IMAGE_TAG, Approval, Comparison, ModelVersion, RegisteredModel, Removal


class Models(click.Group):
    """`treadle models delay` is `treadle models versions delay`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with `versions` where no subcommand is named."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["versions", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Models)
def models() -> None:
    """Models and their versions; MODEL@N names a version.

    \b
    Example:
      treadle models delay
      treadle models show delay@12
      treadle models compare delay@11 delay@12
    """


@models.command()
@click.argument("model", required=False)
@click.option("--limit", default=20, show_default=True)
@verb(project=True)
def versions(session: Session, model: str | None, project: str | None, limit: int) -> None:
    """List versions of MODEL; where none is named, of the models that endpoints serve, else of all. MODEL@N shows one.

    \b
    Example:
      treadle models versions delay
      treadle models delay@12
    """
    name = session.project(project)
    if model and "@" in model:
        wanted, number = version_of(model)
        print_version(session, session.call(GetModelVersion(project=name, model=wanted, number=number)))
        return
    names = [model] if model else served(session, name)
    if not names:
        names = [m.model for m in session.call(SearchModels(project=name, limit=limit)).items]
    found = [v for m in names for v in session.call(ListModelVersions(project=name, model=m, limit=limit)).items]
    print_versions(session, found, empty="No version yet. A pipeline registers one with tr.candidate(…).")


@models.command(name="list")
@click.option("--filter", "filter_", default="", metavar="FILTER", help="name LIKE 'd%' AND tags.team = 'ops'")
@click.option("--order-by", multiple=True, metavar="FIELD", help="name, creation_timestamp, last_updated_timestamp; DESC behind it.")
@click.option("--limit", default=50, show_default=True)
@verb(project=True)
def list_models(session: Session, filter_: str, order_by: tuple[str, ...], limit: int, project: str | None) -> None:
    """List registered models.

    \b
    Example:
      treadle models list --filter "tags.team = 'ops'"
    """
    request = SearchModels(project=session.project(project), filter=filter_, order_by=list(order_by), limit=limit)
    found: list[RegisteredModel] = session.call(request).items
    if session.as_json:
        show.as_json(found)
        return
    columns = ("MODEL", "VERSIONS", "NEWEST", "ALIASES", "TAGS", "UPDATED", "DESCRIPTION")
    rows = [(m.model, m.versions, m.newest or None, m.aliases, m.tags, m.updated, m.description[:60]) for m in found]
    show.table(columns, rows, empty="No model yet. A pipeline registers one with tr.candidate(…).")


@models.command()
@click.argument("filter_", metavar="[FILTER]", default="")
@click.option("--by", metavar="METRIC", help="Best first by this metric: auc; +loss where less is better.")
@click.option("--limit", default=20, show_default=True)
@verb(project=True)
def search(session: Session, filter_: str, by: str | None, limit: int, project: str | None) -> None:
    """Find versions of all models by FILTER; --by METRIC puts the best first.

    \b
    Example:
      treadle models search "name = 'delay' AND metrics.brier < 0.1" --by +brier
    """
    metric = (by or "").removeprefix("+")
    order = [f"metrics.`{metric}` {'ASC' if by and by.startswith('+') else 'DESC'}"] if metric else []
    request = SearchVersions(project=session.project(project), filter=filter_, order_by=order, limit=limit)
    print_versions(session, session.call(request).items, empty="Nothing fits.")


@models.command(name="show")
@click.argument("model")
@verb(project=True)
def show_(session: Session, model: str, project: str | None) -> None:
    """Show a model, or one version of it, and who uses it.

    \b
    Example:
      treadle models show delay
      treadle models show delay@12
    """
    name = session.project(project)
    if "@" in model:
        wanted, number = version_of(model)
        version: ModelVersion = session.call(GetModelVersion(project=name, model=wanted, number=number))
        uses = session.call(GetUses(project=name, model=wanted, number=version.number))
        subject = f"model/{wanted}/{version.number}"
        approvals: list[Approval] = session.call(ListApprovals(project=name, state=None, limit=500))
        print_version(session, version, uses=uses, approvals=[a for a in approvals if a.subject == subject])
        return
    found: RegisteredModel = session.call(GetModel(project=name, model=model))
    uses = session.call(GetUses(project=name, model=model, number=0))
    if session.as_json:
        show.as_json({"model": found, "uses": uses})
        return
    facts = [(key, getattr(found, key)) for key in ("model", "description", "versions", "newest", "aliases", "tags")]
    show.facts([*facts, ("made", found.created), ("by", found.actor), ("changed", found.updated), ("card", ", ".join(found.card))])
    print_uses(uses)


@models.command()
@click.argument("left")
@click.argument("right")
@click.option("--all", "everything", is_flag=True, help="What is the same too.")
@verb(project=True)
def compare(session: Session, left: str, right: str, everything: bool, project: str | None) -> None:
    """Show what differs between two versions: metrics, parameters, schema, data, code, packages, tags.

    \b
    Example:
      treadle models compare delay@11 delay@12
    """
    (model, one), (other, two) = version_of(left), version_of(right)
    request = CompareVersions(project=session.project(project), model=model, left=one, right=two, other=other, differences=not everything)
    found: Comparison = session.call(request)
    if session.as_json:
        show.as_json(found)
        return
    rows = [(i.section, i.name, i.left, i.right, "" if i.change is None or i.same else f"{i.change:+.4g}") for i in found.items]
    show.table(
        ("WHAT", "NAME", left, right, "CHANGE"),
        rows,
        empty="Nothing of what could be compared differs." if found.unread else "Nothing differs.",
    )
    for told in found.unread:
        click.echo(f"Inputs, parameters, data, code and packages were not compared. {told}", err=True)


@models.command()
@click.argument("thing")
@click.argument("tags", nargs=-1, metavar="KEY=VALUE…")
@click.option("--remove", multiple=True, metavar="KEY", help="Take a tag away.")
@verb(project=True)
def tag(session: Session, thing: str, tags: tuple[str, ...], remove: tuple[str, ...], project: str | None) -> None:
    """Set tags of a model or version.

    \b
    Example:
      treadle models tag delay@12 kind=tree reviewed=yes --remove draft
    """
    given = dict(pair(text, "tag") for text in tags)
    name = session.project(project)
    if "@" in thing:
        model, number = version_of(thing)
        done: Any = session.call(SetVersionTags(project=name, model=model, number=number, tags=given, remove=list(remove)))
    else:
        done = session.call(UpdateModel(project=name, model=thing, tags=given, remove_tags=list(remove)))
    said(session, done, f"{thing}: {show.cell(done.tags) or 'no tags'}")


@models.command()
@click.argument("version", metavar="MODEL@NUMBER")
@click.argument("image", metavar="IMAGE@sha256:…")
@verb(project=True)
def image(session: Session, version: str, image: str, project: str | None) -> None:
    """Say which container image a version is in, by the image's digest.

    Found again by that: treadle models search "tags.`treadle.image` = '…'".

    \b
    Example:
      treadle models image delay@12 registry.example.org/delay@sha256:9f86d081…
    """
    model, number = version_of(version)
    done = session.call(SetVersionTags(project=session.project(project), model=model, number=number, tags={IMAGE_TAG: image}))
    said(session, done, f"{version} is in {image}")


@models.command()
@click.argument("version", metavar="MODEL@NUMBER")
@click.argument("state", type=click.Choice(["rejected", "archived", "validated"]))
@click.option("--reason", default="", help="Why, for the record.")
@verb(project=True)
def move(session: Session, version: str, state: str, reason: str, project: str | None) -> None:
    """Reject or archive a version; validated takes one back from the archive, unless it was rejected before.

    \b
    Example:
      treadle models move delay@3 archived --reason "nobody uses it"
    """
    model, number = version_of(version)
    done = session.call(MoveVersion(project=session.project(project), model=model, number=number, state=state, reason=reason))
    said(session, done, f"{version} is {done.state}")


@models.command()
@click.argument("thing")
@click.argument("text")
@verb(project=True)
def describe(session: Session, thing: str, text: str, project: str | None) -> None:
    """Describe a model or version.

    \b
    Example:
      treadle models describe delay "Will this flight arrive more than 15 minutes late?"
    """
    name = session.project(project)
    if "@" in thing:
        model, number = version_of(thing)
        done: Any = session.call(UpdateVersion(project=name, model=model, number=number, description=text))
    else:
        done = session.call(UpdateModel(project=name, model=thing, description=text))
    said(session, done, f"{thing}: {text}")


@models.command()
@click.argument("thing")
@click.argument("name")
@click.option("--delete", is_flag=True, help="Take the alias NAME of the model away.")
@verb(project=True)
def alias(session: Session, thing: str, name: str, delete: bool, project: str | None) -> None:
    """Let the alias NAME stand for a version. Aliases that endpoints follow move by releases only.

    \b
    Example:
      treadle models alias delay@12 best
      treadle models alias delay best --delete
    """
    where = session.project(project)
    if delete:
        done: Any = session.call(DeleteAlias(project=where, model=thing.partition("@")[0], alias=name))
        said(session, done, f"{name} names nothing now")
        return
    model, number = version_of(thing)
    done = session.call(SetAlias(project=where, model=model, alias=name, number=number))
    said(session, done, f"{name} is {thing}")


@models.command()
@click.argument("version")
@click.option("--format", "format_", type=click.Choice(["md", "html", "json"]), default="md", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it there.")
@click.option("--write", multiple=True, metavar="SECTION=TEXT", help="Write a section by hand: intended_use, limits, …")
@click.option("--of-model", is_flag=True, help="With --write: for every version of the model.")
@verb(project=True)
def card(
    session: Session, version: str, format_: str, output: Path | None, write: tuple[str, ...], of_model: bool, project: str | None
) -> None:
    """Print the model card of a version, or write a section of it.

    \b
    Example:
      treadle models card delay@12 --format html -o card.html
      treadle models card delay@12 --write "intended_use=To warn passengers of late arrivals."
    """
    name = session.project(project)
    model, number = version_of(version)
    if write:
        sections = dict(pair(text, "section") for text in write)
        done = session.call(UpdateCard(project=name, model=model, number=0 if of_model else number, sections=sections))
        said(session, done, f"wrote {', '.join(sections)} of {model if of_model else version}")
        return
    made = session.call(GetCard(project=name, model=model, number=number, format="json" if session.as_json else format_))
    if session.as_json or format_ == "json":
        show.as_json(made) if output is None else output.write_bytes(json_bytes(made))
    elif output is None:
        click.echo(made.text, nl=False)
    else:
        output.write_text(made.text)
        click.echo(f"wrote {output}")


@models.command()
@click.argument("version")
@click.option("--trust", multiple=True, metavar="TYPE", help="A type outside scikit-learn's own that the model may hold.")
@verb(project=True, remote=False)
def seal(session: Session, version: str, trust: tuple[str, ...], project: str | None) -> None:
    """Make a sealed bundle of a logged model's files (ONNX, LightGBM, scikit-learn by skops), so that it can be approved and released.

    \b
    Example:
      treadle models seal churn@3
    """
    name = session.project(project)
    model, number = version_of(version)
    digest = session.workshop.registry.seal_files(name, model, number, trust=trust)
    done: ModelVersion = session.call(SealVersion(project=name, model=model, number=number, bundle_digest=digest))
    said(session, done, f"{version} is {done.state}, sealed as {show.short(done.bundle_digest)}")


@models.command()
@click.argument("thing")
@click.option("--preview", is_flag=True, help="Only say what would go, and what keeps the rest.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@verb(project=True)
def delete(session: Session, thing: str, preview: bool, yes: bool, project: str | None) -> None:
    """Delete a version, or a model with all its versions. Their numbers are not given again.

    \b
    Example:
      treadle models delete churn@3 --preview
      treadle models delete churn@3 --yes
    """
    name = session.project(project)
    request: Any = DeleteModel(project=name, model=thing, preview=True)
    if "@" in thing:
        model, number = version_of(thing)
        request = DeleteVersion(project=name, model=model, number=number, preview=True)
    would: Removal = session.call(request)
    if preview or (not session.as_json and not would.kept and not yes):
        print_removal(session, thing, would)
    if preview:
        return
    if not (yes or session.as_json or would.kept):
        click.confirm("Delete it?", abort=True)
    done: Removal = session.call(type(request)(**{f: getattr(request, f) for f in request.__struct_fields__ if f != "preview"}))
    said(session, done, f"deleted {thing}")


@models.command()
@click.argument("model")
@click.argument("name")
@verb(project=True)
def rename(session: Session, model: str, name: str, project: str | None) -> None:
    """Give a model another name; versions, aliases, tags and approvals follow.

    \b
    Example:
      treadle models rename churn leavers
    """
    done = session.call(RenameModel(project=session.project(project), model=model, name=name))
    said(session, done, f"{model} is {name} now")


@models.command()
@click.argument("version")
@click.option("--off", is_flag=True, help="Let clean-ups take it again.")
@verb(project=True)
def pin(session: Session, version: str, off: bool, project: str | None) -> None:
    """Keep a version from every clean-up.

    \b
    Example:
      treadle models pin delay@7
    """
    model, number = version_of(version)
    done = session.call(UpdateVersion(project=session.project(project), model=model, number=number, pinned=not off))
    said(session, done, f"{version} is {'no longer ' if off else ''}pinned")


@models.command()
@click.argument("version")
@click.option("--next", "next_", default="90d", show_default=True, metavar="TIME", help="When it is due again.")
@click.option("--comment", default="", help="What was found.")
@verb(project=True)
def review(session: Session, version: str, next_: str, comment: str, project: str | None) -> None:
    """Say that a version was looked at, and when it is due again.

    \b
    Example:
      treadle models review delay@12 --next 90d --comment "slices as before"
    """
    model, number = version_of(version)
    name = session.project(project)
    try:
        due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds(next_))
    except ValueError as error:
        raise TreadleError(str(error), remedy="Write for example --next 90d") from error
    if comment:
        session.call(AddComment(project=name, comment_id=new_id("com"), subject=f"model/{model}/{number}", text=comment))
    done: ModelVersion = session.call(UpdateVersion(project=name, model=model, number=number, review_due=due))
    said(session, done, f"{version} is due for review {show.cell(done.review_due)}")


@models.command()
@click.argument("version")
@verb(project=True, environment=True)
def ask(session: Session, version: str, project: str | None, env: str | None) -> None:
    """Ask for approval of a version in an environment.

    \b
    Example:
      treadle models ask delay@12 --env prod
    """
    name = session.project(project)
    where = session.environment(name, env)
    model, number = version_of(version)
    asked = RequestApproval(
        project=name,
        approval_id=new_id("apr"),
        environment=where,
        subject=f"model/{model}/{number}",
        question=f"May {version} serve in {where}?",
    )
    done: Approval = session.call(asked)
    text = f"asked ({done.approval_id}); somebody else answers: treadle approve {version} --env {where}"
    if done.approval_id != asked.approval_id:
        answer = f"treadle approve {version} --env {where}"
        granted = f"{version} is approved in {where} already, by {done.decided_by} ({done.approval_id})"
        waiting = f"{done.asked_by} asked already ({done.approval_id}); it waits for an answer: {answer}"
        text = granted if done.state == "granted" else waiting
    said(session, done, text)
