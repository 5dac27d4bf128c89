"""`import` and `export`: experiments and models from elsewhere, and to elsewhere."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.records.errors import TreadleError
from treadle.records.moving import Source

if TYPE_CHECKING:
    from treadle.workshop.moving.importer import Report

#: What a report counts, as one and as many.
_COUNTED = (
    ("experiment", "experiments"),
    ("run", "runs"),
    ("point", "points"),
    ("logged model", "logged models"),
    ("model", "models"),
    ("version", "versions"),
    ("bundle", "bundles"),
    ("alias", "aliases"),
    ("file", "files"),
)


@click.command("import")
@click.argument("source")
@click.option("--artifacts", type=click.Path(path_type=Path), help="With a database: the folder that mlflow-artifacts:/ stands for.")
@click.option("--experiment", "experiments", multiple=True, metavar="NAME", help="Only this experiment (again for more).")
@click.option("--no-models", is_flag=True, help="Leave the registered models.")
@verb(project=True)
def import_(
    session: Session, source: str, artifacts: Path | None, experiments: tuple[str, ...], no_models: bool, project: str | None
) -> int:
    """Bring experiments, runs with their whole history, artifacts and models from elsewhere.

    SOURCE is a running MLflow server (http://…), its database (sqlite:///mlflow.db, postgresql://…), its folder (mlruns), or an archive
    of `treadle export`. An import that was interrupted goes on when it is started again; what is there is not changed. Exit code 1 where
    something did not come over.

    \b
    Example:
      treadle import http://127.0.0.1:5000 --project churn
      treadle import sqlite:///mlflow.db --artifacts mlartifacts
    """
    from treadle.workshop import sdk
    from treadle.workshop.moving.importer import Importer
    from treadle.workshop.places import project_here

    opened = _source(source, artifacts)
    sink = sdk.connect(session.url or str(session.home))
    try:
        importer = Importer(opened, sink, project or project_here(), tell=_told(session))
        report = importer.run(experiments=experiments or None, models=not no_models)
    finally:
        opened.close()
        sink.close()
    if session.as_json:
        show.as_json(to_builtins(report))
    else:
        click.echo(f"{report.source} → {report.project}: {_counts(report, '') or 'nothing new'}.")
        if there := _counts(report, "_there"):
            click.echo(f"  there before: {there}")
        for problem in report.problems:
            click.echo(f"  did not come over: {problem}")
    return 1 if report.problems else 0


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--experiment", "experiments", multiple=True, metavar="NAME", help="Only this experiment (again for more).")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model, with the runs it was made by (again for more).")
@verb(project=True)
def export(session: Session, file: Path, experiments: tuple[str, ...], models: tuple[str, ...], project: str | None) -> int:
    """Write experiments and models with all their runs and files into one archive, which `treadle import` reads.

    \b
    Example:
      treadle export churn.zip --experiment churn
      treadle export delay.zip --model delay
    """
    from treadle.workshop import sdk
    from treadle.workshop.moving import archive
    from treadle.workshop.moving.here import Here
    from treadle.workshop.places import project_here

    name = project or project_here()
    target = session.url or str(session.home)
    sink = sdk.connect(target)
    some = bool(experiments or models)
    try:
        here = Here(sink, name, lambda owner, path: sink.open_file(name, owner, path), f"{target} {name}")
        made = archive.write(here, file, experiments=experiments if some else None, models=models if some else None, tell=_told(session))
    finally:
        sink.close()
    if session.as_json:
        told = to_builtins(made)
        show.as_json({k: v for k, v in told.items() if k != "places"})
    else:
        size = f"{made.bytes / 1e6:.1f} MB"
        click.echo(f"{file}: {made.experiments} experiments, {made.runs} runs, {made.models} models, {made.files} files ({size}).")
    return 0


def _counts(report: "Report", suffix: str) -> str:
    """How many of each came, or were there; what there is none of is left out."""
    told = [f"{n:,} {one if n == 1 else many}" for one, many in _COUNTED if (n := getattr(report, f"{many.replace(' ', '_')}{suffix}", 0))]
    return ", ".join(told) + (f" ({report.bytes / 1e6:.1f} MB)" if report.files and not suffix else "")


def _source(source: str, artifacts: Path | None) -> Source:
    from treadle.client.mlflow import MlflowServer
    from treadle.workshop.moving.archive import Archive
    from treadle.workshop.moving.database import MlflowDatabase
    from treadle.workshop.moving.folder import MlflowFolder

    if source.startswith(("http://", "https://")):
        return MlflowServer(source)
    if source.startswith(("sqlite:", "postgresql")):
        return MlflowDatabase(source, artifacts)
    path = Path(source.removeprefix("file://"))
    if path.is_dir():
        return MlflowFolder(path)
    if path.exists():
        return Archive(path)
    raise TreadleError(
        f"There is nothing at {source}.",
        remedy="Give a server (http://…), a database (sqlite:///…), a folder (mlruns) or an archive of treadle export.",
        code="not_found",
    )


def _told(session: Session) -> Callable[[str], None]:
    """A line to the terminal for each thing, over the line before it."""
    if session.as_json or not sys.stderr.isatty():
        return lambda _: None
    return lambda line: click.echo(f"\r\033[K{line[:100]}", err=True, nl=False)
