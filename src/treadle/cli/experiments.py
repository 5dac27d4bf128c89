"""`experiments` and `search`: what scripts logged, from the command line."""

from typing import Any

import click

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.operations.tracking import (
    BinExperiment,
    CreateExperiment,
    Experiments,
    GetExperiment,
    SearchExperiments,
    SearchRuns,
    SetExperimentTags,
    TrackedRuns,
    UpdateExperiment,
)
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.tracking import Experiment, TrackedRun, View


class _Listing(click.Group):
    """`treadle experiments` alone lists them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, `list` where no command is named."""
        named = next((a for a in args if not a.startswith("-")), None)
        return super().parse_args(ctx, args if named in self.commands or "--help" in args else ["list", *args])


@click.group(cls=_Listing)
def experiments() -> None:
    """Experiments: list, show, create, rename, move to a folder, describe, tag, delete, restore.

    \b
    Example:
      treadle experiments
      treadle experiments create churn --folder growth/2026
      treadle experiments delete churn
    """


@experiments.command("list")
@click.option("--filter", "filter_", default="", metavar="FILTER", help="name LIKE 'churn%' and tags.team = 'growth'")
@click.option("--folder", help="Only those in it and below.")
@click.option("--deleted", is_flag=True, help="Those in the bin.")
@click.option("--limit", default=50, show_default=True)
@verb(project=True)
def list_(session: Session, project: str | None, filter_: str, folder: str | None, deleted: bool, limit: int) -> None:
    """List experiments, newest first.

    \b
    Example:
      treadle experiments list --folder growth
    """
    view = View.deleted if deleted else View.active
    asked = SearchExperiments(project=session.project(project), filter=filter_, folder=folder, view=view, limit=limit)
    page: Experiments = session.call(asked)
    if session.as_json:
        show.as_json(page)
        return
    show.table(
        ("ID", "NAME", "FOLDER", "CREATED", "NOTE"),
        [(e.experiment_id, e.name, e.folder, e.created, e.description[:40]) for e in page.items],
        empty="No experiments yet. A script makes one: treadle.run('churn')",
    )
    if page.page.next:
        click.echo(f"There are more than {limit}: --limit")


@experiments.command("show")
@click.argument("experiment")
@verb(project=True)
def show_(session: Session, experiment: str, project: str | None) -> None:
    """Show one, by id or name.

    \b
    Example:
      treadle experiments show churn
    """
    _told(session, session.call(GetExperiment(project=session.project(project), experiment=experiment)))


@experiments.command()
@click.argument("name")
@click.option("--folder", default="", help="team/quarter")
@click.option("--note", default="", help="What it is about.")
@verb(project=True)
def create(session: Session, name: str, folder: str, note: str, project: str | None) -> None:
    """Make one. A name is taken once in a project, the bin included.

    \b
    Example:
      treadle experiments create churn --folder growth --note "who leaves, and when"
    """
    made = CreateExperiment(project=session.project(project), experiment_id=new_id("exp"), name=name, folder=folder, description=note)
    _told(session, session.call(made))


@experiments.command()
@click.argument("experiment")
@click.option("--name", help="Another name; its id stays.")
@click.option("--folder", help="Another folder; '' is the top.")
@click.option("--note", help="What it is about.")
@verb(project=True)
def change(session: Session, experiment: str, name: str | None, folder: str | None, note: str | None, project: str | None) -> None:
    """Rename one, move it to a folder, or describe it.

    \b
    Example:
      treadle experiments change churn --folder growth/2026
    """
    if name is None and folder is None and note is None:
        raise TreadleError("Nothing to change was given.", remedy="Give --name, --folder or --note.")
    found = _find(session, project, experiment)
    _told(
        session,
        session.call(
            UpdateExperiment(project=found.project, experiment_id=found.experiment_id, name=name, folder=folder, description=note)
        ),
    )


@experiments.command()
@click.argument("experiment")
@click.argument("tags", nargs=-1, required=True, metavar="NAME=VALUE...")
@verb(project=True)
def tag(session: Session, experiment: str, tags: tuple[str, ...], project: str | None) -> None:
    """Set tags; NAME= without a value removes one.

    \b
    Example:
      treadle experiments tag churn team=growth old=
    """
    if any("=" not in pair for pair in tags):
        raise TreadleError("A tag is written NAME=VALUE.", remedy="treadle experiments tag churn team=growth")
    pairs = dict(pair.split("=", 1) for pair in tags)
    found = _find(session, project, experiment)
    session.call(
        SetExperimentTags(
            project=found.project,
            experiment_id=found.experiment_id,
            tags={k: v for k, v in pairs.items() if v},
            remove=[k for k, v in pairs.items() if not v],
        )
    )
    _told(session, _find(session, project, found.experiment_id))


@experiments.command()
@click.argument("experiment")
@verb(project=True)
def delete(session: Session, experiment: str, project: str | None) -> None:
    """Put one and its runs into the bin. `restore` takes them back; `treadle remove experiment/ID` removes them for good.

    \b
    Example:
      treadle experiments delete churn
    """
    _bin(session, project, experiment, "deleted")


@experiments.command()
@click.argument("experiment")
@verb(project=True)
def restore(session: Session, experiment: str, project: str | None) -> None:
    """Take one out of the bin, with the runs that went with it.

    \b
    Example:
      treadle experiments restore churn
    """
    _bin(session, project, experiment, "active")


@click.command()
@click.argument("filter_", metavar="FILTER", default="")
@click.option("--experiment", "named", multiple=True, metavar="NAME", help="Only in this experiment (again for more).")
@click.option("--order-by", "order_by", multiple=True, metavar="KEY [DESC]", help="metrics.auc DESC (again for more).")
@click.option("--column", "columns", multiple=True, metavar="KEY", help="metrics.auc, params.depth, tags.team (again for more).")
@click.option("--deleted", is_flag=True, help="Those in the bin.")
@click.option("--limit", default=20, show_default=True)
@verb(project=True)
def search(
    session: Session,
    filter_: str,
    named: tuple[str, ...],
    order_by: tuple[str, ...],
    columns: tuple[str, ...],
    deleted: bool,
    limit: int,
    project: str | None,
) -> None:
    """Find runs by metrics, parameters, tags and attributes; newest first without an order.

    \b
    Example:
      treadle search "metrics.auc > 0.8 and params.depth = '8'" --order-by "metrics.auc DESC" --column metrics.auc
    """
    name = session.project(project)
    page: TrackedRuns = session.call(
        SearchRuns(
            project=name,
            experiments=[_find(session, name, e).experiment_id for e in named],
            filter=filter_,
            order_by=list(order_by),
            view=View.deleted if deleted else View.active,
            limit=limit,
        )
    )
    if session.as_json:
        show.as_json(page)
        return
    columns = columns or tuple(sorted({f"metrics.{p.key}" for r in page.items for p in r.metrics if "/" not in p.key})[:4])
    show.table(
        ("RUN", "NAME", "STATE", "STARTED", *columns),
        [(r.run_id, r.name, r.state, r.created, *(_cell(r, c) for c in columns)) for r in page.items],
        empty="No run is found.",
    )
    if page.page.next:
        click.echo(f"There are more than {limit}: --limit")


def _cell(run: TrackedRun, column: str) -> Any:
    kind, _, key = column.partition(".")
    if kind.startswith("metric"):
        return next((p.value for p in run.metrics if p.key == key), "")
    return (run.params if kind.startswith("param") else run.tags).get(key, "")


def _find(session: Session, project: str | None, experiment: str) -> Experiment:
    return session.call(GetExperiment(project=session.project(project), experiment=experiment))


def _bin(session: Session, project: str | None, experiment: str, lifecycle: str) -> None:
    found = _find(session, project, experiment)
    _told(session, session.call(BinExperiment(project=found.project, experiment_id=found.experiment_id, lifecycle=lifecycle)))


def _told(session: Session, experiment: Experiment) -> None:
    if session.as_json:
        show.as_json(experiment)
        return
    e = experiment
    show.facts(
        [
            ("experiment", e.experiment_id),
            ("name", e.name),
            ("folder", e.folder),
            ("state", e.lifecycle),
            ("created", e.created),
            ("changed", e.updated),
            ("tags", e.tags),
            ("note", e.description),
        ]
    )
