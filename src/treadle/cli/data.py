"""`data`: bring rows in, look at what came."""

from pathlib import Path
from typing import Any

import click

from treadle.cli import show
from treadle.cli.runs import moment
from treadle.cli.session import Session, verb
from treadle.operations.data import DatasetVersions, GetDatasetProfile, ListDatasetVersions
from treadle.operations.workshop import GetApplied
from treadle.records.data import DatasetVersion, TableProfile
from treadle.records.definitions import definition_digest
from treadle.records.errors import TreadleError


@click.group()
def data() -> None:
    """Bring data in; look at versions and profiles.

    \b
    Example:
      treadle data ingest flights january.parquet
      treadle data show flights
    """


@data.command("ingest")
@click.argument("dataset")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--at", metavar="TIME", help="Business time of the arrival, RFC 3339; now where left out.")
@verb(project=True, environment=True, remote=False)
def ingest(session: Session, dataset: str, files: tuple[Path, ...], at: str | None, project: str | None, env: str | None) -> None:
    """Append FILES (CSV, Parquet, Arrow, JSON lines; .gz) to DATASET, each a version. A schema error writes nothing.

    \b
    Example:
      treadle data ingest flights january.parquet
    """
    name = session.project(project)
    environment = session.environment(name, env)
    applied = session.call(GetApplied(project=name, environment=environment))
    definition = next((d for d in applied.datasets if d.name == dataset), None) if applied else None
    if definition is None:
        names = ", ".join(d.name for d in applied.datasets) if applied else ""
        raise TreadleError(
            f"{name} has no dataset {dataset!r} in {environment}.",
            remedy=f"Its datasets: {names or 'none'}. Define it, then: treadle apply --env {environment}",
            code="not_found",
        )
    workshop = session.workshop
    when = moment(at) if at else workshop.clock.now()
    made: list[DatasetVersion] = [
        workshop.data.append(name, definition, file, actor=workshop.actor, event_time=when, source=str(file)) for file in files
    ]
    if session.as_json:
        show.as_json(made)
        return
    for version in made:
        click.echo(f"{dataset}@{version.number}  {version.added_rows:,} rows from {version.source}, {version.rows:,} in all")


@data.command("show")
@click.argument("dataset")
@verb(project=True, environment=True)
def about(session: Session, dataset: str, project: str | None, env: str | None) -> None:
    """What is said about DATASET: where it comes from, whose it is, what it must not be used for; its labels, views, newest version.

    \b
    Example:
      treadle data show flights
    """
    name = session.project(project)
    environment = session.environment(name, env)
    applied = session.call(GetApplied(project=name, environment=environment))
    found = next((d for d in applied.datasets if d.name == dataset), None) if applied else None
    if found is None:
        raise TreadleError(
            f"{name} has no dataset {dataset!r} in {environment}.",
            remedy=f"Its datasets: {', '.join(d.name for d in applied.datasets) if applied else 'none'}.",
            code="not_found",
        )
    labels = [x for x in applied.labels if x.dataset == dataset]
    views = [v for v in applied.feature_views if v.source == dataset]
    page: DatasetVersions = session.call(ListDatasetVersions(project=name, dataset=dataset, limit=1))
    newest = page.items[0] if page.items else None
    if session.as_json:
        show.as_json({"dataset": found, "labels": labels, "feature_views": views, "newest": newest})
        return
    show.facts(
        [
            ("dataset", found.name),
            ("is", found.description),
            ("comes from", found.provenance),
            ("owner", found.owner),
            ("licence", found.license),
            ("restrictions", found.restrictions),
            ("only in", found.only_in),
            ("tags", found.tags),
            ("key", found.key),
            ("known at", f"{found.time}, in UTC" if found.time else ""),
            ("newest", f"{dataset}@{newest.number}, {newest.rows:,} rows, digest {show.short(newest.digest)}" if newest else ""),
            ("arrived", newest.event_time if newest else None),
            ("from", newest.source if newest else ""),
        ]
    )
    if labels:
        show.table(
            ("LABEL", "COLUMN", "MEANS", "SOURCE", "CONFIDENCE", "OWNER", "DEFINITION"),
            [(x.name, x.column, x.description, x.source, x.confidence, x.owner, show.short(definition_digest(x))) for x in labels],
        )
    if views:
        show.table(
            ("FEATURE VIEW", "ENTITY", "MEANS", "OWNER", "DEFINITION"),
            [(v.name, v.entity, v.description, v.owner, show.short(definition_digest(v))) for v in views],
        )


@data.command("versions")
@click.argument("dataset")
@click.option("--limit", default=20, show_default=True)
@verb(project=True)
def versions(session: Session, dataset: str, limit: int, project: str | None) -> None:
    """List versions of DATASET, newest first.

    \b
    Example:
      treadle data versions flights
    """
    page: DatasetVersions = session.call(ListDatasetVersions(project=session.project(project), dataset=dataset, limit=limit))
    if session.as_json:
        show.as_json(page)
        return
    show.table(
        ("VERSION", "ROWS", "ADDED", "DIGEST", "SOURCE", "TIME"),
        [(f"{dataset}@{v.number}", v.rows, v.added_rows, show.short(v.digest), v.source, v.event_time) for v in page.items],
        empty=f"No version yet. Bring rows in: treadle data ingest {dataset} FILE",
    )


@data.command("profile")
@click.argument("dataset")
@click.option("--number", default=0, help="Version; 0 is the newest.")
@verb(project=True)
def profile(session: Session, dataset: str, number: int, project: str | None) -> None:
    """Types, missing values, cardinality and distribution of each column of a version.

    \b
    Example:
      treadle data profile flights --number 1
    """
    seen: TableProfile = session.call(GetDatasetProfile(project=session.project(project), dataset=dataset, number=number))
    if session.as_json:
        show.as_json(seen)
        return
    click.echo(f"{seen.rows:,} rows")
    show.table(
        ("COLUMN", "TYPE", "MISSING", "DISTINCT", "MIN", "MEAN", "MAX", "MOST FREQUENT"),
        [
            (
                c.name,
                "datetime UTC" if c.dtype == "datetime" else c.dtype,
                _share(c),
                c.distinct,
                c.minimum,
                c.mean,
                c.maximum,
                [t for t, _ in c.top[:3]],
            )
            for c in seen.columns
        ],
    )


def _type(column: Any) -> str:
    return "datetime UTC" if column.dtype == "datetime" else column.dtype


def _share(column: Any) -> str:
    return f"{column.missing / column.rows:.1%}" if column.rows else ""
