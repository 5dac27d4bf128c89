"""The table of runs, of one experiment or of all: filtered, ordered and paged by the server, so that it behaves with 100,000 runs as
with ten; and what is done with the runs that are ticked.

The address holds all of it. While somebody looks, the table is asked for again and swapped in when it has changed.
"""

from typing import Any

from msgspec import Struct
from starlette.responses import RedirectResponse, Response

from treadle.console import listing as listings
from treadle.console import words
from treadle.console.asked import Address, Fields, back
from treadle.console.desk import Desk, check_same_origin, version_of
from treadle.console.groups import MOST, Group, gather, grouped
from treadle.console.listing import Listing, Shown
from treadle.console.notices import notice
from treadle.operations.tracking import (
    BinRun,
    DeleteView,
    Experiments,
    GetExperiment,
    ListViews,
    SaveView,
    SearchExperiments,
    SearchRuns,
    TrackedRuns,
    UpdateRun,
)
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.ledger import Page
from treadle.records.tracking import Experiment, SavedView, TrackedRun, View

#: What the address keeps for the charts, which the browser draws.
CHART = ("chart", "key", "x", "log", "smooth", "from", "until", "cx", "cy", "cz", "dim", "sel")
_COMMAND = """import mlflow
mlflow.set_tracking_uri("{url}")
mlflow.set_experiment("{name}")
with mlflow.start_run():
    mlflow.log_metric("loss", 0.3)

# or, without MLflow
import treadle
with treadle.run("{name}") as run:
    run.log({{"loss": 0.3}})"""


class Column(Struct, frozen=True, kw_only=True):
    """A heading."""

    id: str
    title: str
    kind: str
    href: str | None
    sorted: str  # "", ascending, descending
    num: bool


class Line(Struct, frozen=True, kw_only=True):
    """A row."""

    run_id: str
    name: str
    href: str
    live: bool
    child: bool
    cells: list[Shown]


def page(desk: Desk) -> Response:
    """The whole page, or with `part=table` what is swapped in."""
    return _page(desk)


def _page(desk: Desk, error: TreadleError | None = None) -> Response:
    here = Address.of(desk.request)
    part = here.get("part") == "table"
    here = Address(here.path, here.hidden("part"))
    wanted = listings.read(here)
    experiment = experiment_of(desk)
    found, error = _search(desk, wanted, experiment, error)
    keys = listings.keys(found.items)
    columns = wanted.columns or listings.usual(keys, everywhere=experiment is None)
    groups, group_metrics, bounded = _groups(desk, wanted, experiment, columns, keys, here, error)
    called = {e.experiment_id: e.name for e in _choices(desk)} if "experiment" in columns else {}
    context: dict[str, Any] = {
        "experiment": experiment,
        "listing": wanted,
        "here": here,
        "title": experiment.name if experiment else "Runs",
        "sentence": "The filter cannot be read." if error else _sentence(wanted, found, experiment, groups, bounded),
        "columns": [_column(c, wanted, here) for c in columns],
        "name_column": _column("name", wanted, here),
        "lines": [_line(r, columns, desk, called) for r in found.items],
        "groups": groups,
        "group_metrics": group_metrics,
        "older": here.to(page=found.page.next) if found.page.next else "",
        "newest": here.to(page=None) if wanted.page else "",
        "live": here.to(part="table"),
        "error": error,
        "chosen": columns,
        "keys": keys,
        "extra": [c for c in columns if c not in keys.columns and c not in listings.ATTRIBUTES],
        "drawn": _drawn(found.items),
        "bulk": f"{desk.base}/runs",
        "path_of_files": here.path,
    }
    html = desk.fragment("_runs.html", **context)
    if part:
        return desk.swapped(html, status=400 if error else 200)
    views: list[SavedView] = desk.call(ListViews(project=desk.project, page="runs"))
    scope = experiment.experiment_id if experiment else ""
    return desk.page(
        "runs.html",
        status=400 if error else 200,
        table=html,
        version=version_of(html),
        notice=notice(here, desk.base),
        views=[_view(desk, v) for v in views if v.query.get("experiment", "") == scope],
        scope=scope,
        examples=[(e, here.to(filter=e, page=None)) for e in listings.EXAMPLES],
        attributes=listings.ATTRIBUTES,
        sizes=listings.SIZES,
        choices=_choices(desk),
        command=_COMMAND.format(url=str(desk.request.base_url).rstrip("/"), name=experiment.name if experiment else "my-experiment"),
        **context,
    )


def experiment_of(desk: Desk) -> Experiment | None:
    """The experiment that the path names, None where it names none."""
    wanted = desk.request.path_params.get("experiment_id")
    return desk.call(GetExperiment(project=desk.project, experiment=wanted, by="id")) if wanted is not None else None


def _search(
    desk: Desk, wanted: Listing, experiment: Experiment | None, error: TreadleError | None
) -> tuple[TrackedRuns, TreadleError | None]:
    """The runs; a filter that cannot be read is an error that the page shows above what was typed."""
    try:
        return desk.call(
            SearchRuns(
                project=desk.project,
                experiments=[experiment.experiment_id] if experiment else [],
                filter=wanted.filter,
                order_by=wanted.order_by,
                view=wanted.view,
                limit=wanted.size,
                page=wanted.page,
            )
        ), error
    except TreadleError as told:
        if told.code != "bad_request":
            raise
        return TrackedRuns(items=[], page=Page()), told


def _groups(
    desk: Desk,
    wanted: Listing,
    experiment: Experiment | None,
    columns: tuple[str, ...],
    keys: listings.Keys,
    here: Address,
    error: TreadleError | None,
) -> tuple[list[Group], list[str], bool]:
    if not wanted.group or error:
        return [], [], False
    metrics = [c.partition(".")[2] for c in columns if c.startswith("metrics.")] or keys.metrics[:5]
    runs, bounded = gather(desk, wanted, [experiment.experiment_id] if experiment else [], metrics)
    return grouped(runs, wanted, metrics, here), metrics, bounded


def _sentence(wanted: Listing, found: TrackedRuns, experiment: Experiment | None, groups: list[Group], bounded: bool) -> str:
    where = experiment.name if experiment else "this project"
    n = len(found.items)
    if not n:
        if wanted.filter:
            return f"No run of {where} matches this filter."
        if wanted.view == View.deleted:
            return f"The bin of {where} is empty."
        return f"No run has been logged to {where} yet." if not wanted.page else "There are no further runs."
    kind = " in the bin" if wanted.view == View.deleted else " that match the filter" if wanted.filter else ""
    order = ", newest first"
    if wanted.order_by:
        name = "name" if wanted.sort == "name" else listings.title(wanted.sort)
        order = f", by {name} from the {'highest' if wanted.descending else 'lowest'}"
    if groups:
        of = f"the first {MOST:,} runs{kind}{order}; there are more" if bounded else f"{sum(g.count for g in groups):,} runs{kind}"
        return f"{len(groups):,} group{'s' if len(groups) != 1 else ''} by {wanted.group} of {of}."
    live = sum(str(r.state) in listings.LIVE for r in found.items)
    said = f"{'The first ' if found.page.next and not wanted.page else ''}{n:,} {'run' if n == 1 else 'runs'}"
    more = "; more follow" if found.page.next else ""
    running = f" {live} of them {'is' if live == 1 else 'are'} not done yet." if live else ""
    return f"{said} of {where}{kind}{order}{more}.{running}"


def _column(column: str, wanted: Listing, here: Address) -> Column:
    href = None
    if listings.sortable(column):
        descending = not wanted.descending if wanted.sort == column else column != "name"
        href = here.to(sort=column, dir=None if descending else "asc", page=None)
    kind = column.partition(".")[0] if listings.named(column) else ""
    return Column(
        id=column,
        title="run" if column == "name" else listings.title(column),
        kind=kind,
        href=href,
        sorted=("descending" if wanted.descending else "ascending") if wanted.sort == column else "",
        num=kind == "metrics" or column == "took",
    )


def _line(run: TrackedRun, columns: tuple[str, ...], desk: Desk, called: dict[str, str]) -> Line:
    values = {p.key: p for p in run.metrics}
    return Line(
        run_id=run.run_id,
        name=listings.name_of(run),
        href=desk.base + words.path("runs", run.run_id),
        live=str(run.state) in listings.LIVE,
        child=bool(run.parent_run or run.tags.get("mlflow.parentRunId")),
        cells=[listings.cell(run, c, desk.now, desk.base, values, called) for c in columns],
    )


def _drawn(runs: list[TrackedRun]) -> list[dict[str, Any]]:
    """What the charts know of the runs on the page without asking."""
    return [{"id": r.run_id, "name": listings.name_of(r), "live": str(r.state) in listings.LIVE} for r in runs]


def _view(desk: Desk, view: SavedView) -> dict[str, Any]:
    scope = str(view.query.get("experiment", ""))
    path = f"{desk.base}{words.path('experiments', scope, 'runs')}" if scope else f"{desk.base}/runs"
    pairs = [(str(p[0]), str(p[1])) for p in view.query.get("address", []) if isinstance(p, (list, tuple)) and len(p) == 2]
    return {"id": view.view_id, "name": view.name, "by": view.actor, "href": Address(path, pairs).to()}


def _choices(desk: Desk) -> list[Experiment]:
    """Experiments that runs can be moved to: the newest hundred; others by their id."""
    found: Experiments = desk.call(SearchExperiments(project=desk.project, limit=100))
    return found.items


# ── what is done with them ───────────────────────────────────────────────────────────────────────────────────────────


def act(desk: Desk, fields: Fields) -> Response:
    """Compare, bin, restore, move or remove the runs that are ticked."""
    check_same_origin(desk.request)
    runs, what = fields.all("run")[:200], fields.get("act")
    home = f"{desk.base}/runs"
    if not runs:
        raise TreadleError("No run was ticked, so nothing was done.", remedy="Tick runs in the table (key x), then use the button again.")
    if what == "compare":
        return RedirectResponse(f"{desk.base}/compare?runs={words.quote(','.join(runs), safe=',')}", 303)
    if what == "remove":
        return RedirectResponse(f"{desk.base}/removals?" + "&".join(f"thing={words.quote(f'run/{r}', safe='')}" for r in runs), 303)
    if what in ("bin", "restore"):
        for run_id in runs:
            desk.call(BinRun(project=desk.project, run_id=run_id, lifecycle="deleted" if what == "bin" else "active"))
        return back(fields, home, said="binned" if what == "bin" else "restored", done=str(len(runs)), undo=",".join(runs))
    if what == "move":
        target: Experiment | None = desk.maybe(GetExperiment(project=desk.project, experiment=fields.get("experiment")))
        if target is None:
            return back(fields, home, said="moved_nowhere", sel=",".join(runs))
        for run_id in runs:
            desk.call(UpdateRun(project=desk.project, run_id=run_id, experiment=target.experiment_id))
        there = f"{desk.base}{words.path('experiments', target.experiment_id, 'runs')}"
        return RedirectResponse(f"{there}?said=moved&done={len(runs)}", 303)
    raise TreadleError("The form does not say what to do with the runs.", remedy="Use one of its buttons.")


def views(desk: Desk, fields: Fields) -> Response:
    """Keep the table as it is set up under a name, give a view another name, or forget it."""
    check_same_origin(desk.request)
    scope = fields.get("experiment")
    home = f"{desk.base}{words.path('experiments', scope, 'runs')}" if scope else f"{desk.base}/runs"
    if fields.get("act") == "forget":
        desk.call(DeleteView(project=desk.project, view_id=fields.get("view")))
        return back(fields, home, said="view_deleted")
    name = fields.get("name")[:200]
    if not name:
        raise TreadleError("A view needs a name.", remedy="Say what it shows, such as: best of each depth")
    asked = Address.parse(fields.get("back") or home)
    query = {"experiment": scope, "address": [[k, v] for k, v in asked.hidden("page", "said", "done", "undo", "sel")]}
    known: list[SavedView] = desk.call(ListViews(project=desk.project, page="runs"))
    same = next((v.view_id for v in known if v.name == name and v.query.get("experiment", "") == scope), None)
    if fields.get("act") == "rename":
        wanted = fields.get("view")
        renamed = next((v for v in known if v.view_id == wanted), None)
        if renamed is None:
            raise TreadleError("This view is forgotten already.", remedy="Keep the table under a name anew.", code="not_found")
        if same not in (None, wanted):
            raise TreadleError(
                f"There is a view named {name!r} here already.", remedy="Use another name, or forget that one.", code="conflict"
            )
        desk.call(SaveView(project=desk.project, view_id=wanted, page="runs", name=name, query=renamed.query))
        return back(fields, home, said="view_renamed")
    desk.call(SaveView(project=desk.project, view_id=same or new_id("view"), page="runs", name=name, query=query))
    return back(fields, home, said="view_saved")
