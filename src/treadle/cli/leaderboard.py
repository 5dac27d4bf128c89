"""`leaderboard`, `trend`: models beside each other, and one after the other."""

import math
from collections.abc import Iterator
from typing import Any

import click
from msgspec.structs import replace

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.operations.registry import ListModelVersions
from treadle.operations.tracking import GetExperiment, GetTrackedRun, SearchRuns
from treadle.records.errors import TreadleError
from treadle.records.models import ModelVersion
from treadle.records.tracking import TrackedRun

_BARS = "▁▂▃▄▅▆▇█"
_MOST = 20_000


@click.command()
@click.argument("experiment", required=False)
@click.option("--by", required=True, metavar="METRIC", help="The metric, metrics.auc or auc.")
@click.option("--group", default="", metavar="WHAT", help="Compare methods: params.NAME, tags.NAME, name, user, pipeline.")
@click.option("--better", type=click.Choice(["higher", "lower"]), help="Which way is better, where the metric's name does not say.")
@click.option("--filter", "filter_", default="", metavar="FILTER", help="Only the runs it finds: params.depth = '4'")
@click.option("--limit", default=20, show_default=True, help="Places that are printed; all runs count.")
@verb(project=True)
def leaderboard(
    session: Session, experiment: str | None, by: str, group: str, better: str | None, filter_: str, limit: int, project: str | None
) -> None:
    """Rank the runs of EXPERIMENT (an id or a name; left out: of all) by a metric, best first; equal values share a rank.

    \b
    Example:
      treadle leaderboard churn --by metrics.auc --group params.model
    """
    from treadle.evaluation.leaderboard import better as way
    from treadle.evaluation.leaderboard import rank

    name, metric = session.project(project), by.removeprefix("metrics.")
    found = rank(_runs(session, name, experiment, metric, group, filter_), metric, better=way(metric, better or ""), group=group)
    if session.as_json:
        show.as_json(found)
        return
    spread = any(p.spread is not None for p in found.places)
    columns = ("RANK", "RUN", "NAME", metric.upper(), *(("±",) if spread else ()), *((group.upper(),) if group else ()), "STATE")
    rows: list[tuple[Any, ...]] = []
    for p in found.places[:limit]:
        shared = f"{p.rank}=" if p.tied else str(p.rank)
        rows.append((shared, p.run_id, p.name, p.value, *((p.spread,) if spread else ()), *((p.group,) if group else ()), p.state))
    show.table(columns, rows, empty=f"None of {found.runs} runs has the metric {metric}.")
    if found.groups:
        click.echo()
        groups = [(g.group or "(none)", g.runs, g.best, g.mean, g.std, g.best_run) for g in found.groups]
        show.table((group.upper(), "RUNS", "BEST", "MEAN", "STD", "BEST RUN"), groups)
    if found.places:
        without = f", {found.without} without {metric}" if found.without else ""
        click.echo(f"\n{found.runs} runs{without}; {found.better} is better.")


def _runs(session: Session, project: str, experiment: str | None, metric: str, group: str, filter_: str) -> Iterator[TrackedRun]:
    """The runs a search finds, page by page, with what a leaderboard needs of each."""
    experiments = [session.call(GetExperiment(project=project, experiment=experiment)).experiment_id] if experiment else []
    columns = [f"metrics.{metric}", f"metrics.{metric.removesuffix('_mean')}_std"]
    columns += [group] if group.startswith(("params.", "tags.")) else []
    page: str | None = None
    for _ in range(_MOST // 1000):
        found = session.call(SearchRuns(project=project, experiments=experiments, filter=filter_, limit=1000, page=page, columns=columns))
        yield from found.items
        page = found.page.next
        if page is None:
            return
    raise TreadleError(f"There are more than {_MOST:,} runs.", remedy="Name an experiment, or narrow them: --filter \"params.model = 'x'\"")


@click.command()
@click.argument("model")
@click.option("--by", metavar="METRIC", help="The metric; the first one the newest version has where left out.")
@click.option("--better", type=click.Choice(["higher", "lower"]), help="Which way is better, where the metric's name does not say.")
@verb(project=True)
def trend(session: Session, model: str, by: str | None, better: str | None, project: str | None) -> None:
    """Follow a metric over the versions of MODEL, oldest first: does continuous training make it better?

    \b
    Example:
      treadle trend delay --by roc_auc
    """
    from treadle.evaluation.leaderboard import better as way
    from treadle.evaluation.leaderboard import trend_of

    name = session.project(project)
    versions: list[ModelVersion] = []
    page: str | None = None
    while True:
        found = session.call(ListModelVersions(project=name, model=model, limit=100, page=page))
        versions += [_measured(session, version) for version in found.items]
        page = found.page.next
        if page is None:
            break
    if not versions:
        raise TreadleError(f"There is no model {model}.", remedy="List them: treadle models", code="not_found")
    metrics = sorted({key for version in versions for key in version.metrics})
    metric = (by or next(iter(versions[0].metrics), "")).removeprefix("metrics.")
    if metric not in metrics:
        raise TreadleError(
            f"No version of {model} has the metric {metric!r}.",
            remedy=f"Name one of {', '.join(metrics) or 'none: they were registered without metrics'}.",
            code="not_found",
        )
    told = trend_of(model, versions, metric, better=way(metric, better or ""))
    if session.as_json:
        show.as_json(told)
        return
    values = [s.value for s in told.steps if s.value is not None]
    low, high = min(values), max(values)
    rows = [
        (f"{model}@{s.number}", s.event_time, s.value, _bar(s.value, low, high), _signed(s.change), s.state, s.run_id) for s in told.steps
    ]
    show.table(("VERSION", "TIME", metric.upper(), "", "CHANGE", "STATE", "RUN"), rows)
    click.echo(f"\n{metric} over {len(values)} versions: {told.verdict}; best was {model}@{told.best}.")


def _measured(session: Session, version: ModelVersion) -> ModelVersion:
    """The version with its run's metrics, where it was registered without any."""
    if version.metrics or not version.run_id:
        return version
    try:
        run = session.call(GetTrackedRun(project=version.project, run_id=version.run_id))
    except TreadleError as error:
        if error.code != "not_found":  # a run may be gone, its version not
            raise
        return version
    return replace(version, metrics={p.key: float(p.value) for p in run.metrics if math.isfinite(float(p.value))})


def _bar(value: float | None, low: float, high: float) -> str:
    if value is None:
        return ""
    return _BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] if high > low else _BARS[0]


def _signed(change: float | None) -> str:
    return "" if change is None else f"{change:+.4g}"
