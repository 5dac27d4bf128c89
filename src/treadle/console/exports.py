"""Runs taken out of the console: as CSV, as a notebook that finds the same runs again, and as columns for the charts."""

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from treadle.console import listing as listings
from treadle.console.asked import Address
from treadle.console.desk import Desk
from treadle.console.listing import Listing
from treadle.console.runs import experiment_of
from treadle.operations.tracking import Columns, MetricColumns, SearchRuns, TrackedRuns
from treadle.records.errors import TreadleError
from treadle.records.tracking import Along, Experiment, TrackedRun

_PAGE = 1000
#: Runs that a scatter, contour or parallel chart is made of, at most.
MOST_DRAWN = 1000
#: Points of all lines of a chart together, and of one line at most, where nobody asks for every point.
_POINTS, _LINE = 24_000, 2400
_HEAD = ("run_id", "name", "experiment_id", "state", "user", "started", "ended")
_FORMULA = ("=", "@", "+", "-", "\t", "\r")


def _pages(desk: Desk, wanted: Listing, experiment: Experiment | None, columns: list[str] | None) -> Iterator[TrackedRuns]:
    page = None
    while True:
        found: TrackedRuns = desk.call(
            SearchRuns(
                project=desk.project,
                experiments=[experiment.experiment_id] if experiment else [],
                filter=wanted.filter,
                order_by=wanted.order_by,
                view=wanted.view,
                limit=_PAGE,
                page=page,
                columns=columns,
            )
        )
        yield found
        page = found.page.next
        if page is None:
            return


def as_csv(desk: Desk) -> Response:
    """Every run that the filter finds, in the listing's order, page after page as it is read."""
    wanted, experiment = listings.read(Address.of(desk.request)), experiment_of(desk)
    chosen = [c for c in wanted.columns if listings.named(c)] or None
    first = next(_pages(desk, wanted, experiment, chosen))
    columns = chosen
    if columns is None:  # what any of them has stands in the head, so all of them are read once for their columns where one page is not all
        every = _pages(desk, wanted, experiment, None) if first.page.next else [first]
        columns = listings.keys(run for found in every for run in found.items).columns

    def lines() -> Iterator[str]:
        yield _csv([*_HEAD, *columns])
        for found in _pages(desk, wanted, experiment, chosen) if first.page.next else [first]:
            yield "".join(_csv(_row(run, columns)) for run in found.items)

    name = f"{experiment.experiment_id if experiment else desk.project}-runs.csv"
    headers = {"content-disposition": f'attachment; filename="{safe_name(name)}"', "cache-control": "no-store"}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


def _row(run: TrackedRun, columns: list[str]) -> list[str]:
    values = {f"metrics.{p.key}": repr(float(p.value)) for p in run.metrics}
    values |= {f"params.{k}": _safe(v) for k, v in run.params.items()}
    values |= {f"tags.{k}": _safe(v) for k, v in run.tags.items()}
    times = [
        t.isoformat(timespec="microseconds") if t else "" for t in (run.started or run.created, run.ended)
    ]  # one form: pandas reads no two
    head = [run.run_id, _safe(run.name), run.experiment_id, str(run.state), _safe(run.user), *times]
    return [*head, *(values.get(c, "") for c in columns)]


def _safe(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _csv(values: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(values)
    return out.getvalue()


def safe_name(name: str) -> str:
    """A file name that a header can carry."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:120]


def as_notebook(desk: Desk) -> Response:
    """A notebook that asks for the same runs with `treadle.runs`."""
    here = Address.of(desk.request)
    wanted, experiment = listings.read(here), experiment_of(desk)
    arguments = [json.dumps(wanted.filter, ensure_ascii=False)] if wanted.filter else []
    if experiment:
        arguments.append(f"experiments=[{json.dumps(experiment.experiment_id)}]")
    if wanted.order_by:
        arguments.append(f"order_by={json.dumps(wanted.order_by, ensure_ascii=False)}")
    server = str(desk.request.base_url).rstrip("/")
    arguments += [f"project={json.dumps(desk.project)}", f"url={json.dumps(server)}", "limit=10_000"]
    shown = [c for c in wanted.columns if listings.named(c)]
    query = "runs = treadle.runs(\n    " + ",\n    ".join(arguments) + ",\n)\nruns"
    of = experiment.name if experiment else desk.project
    cells = [
        _cell("markdown", f"# Runs of {of}\n\nThe table that the console showed, asked again.", 0),
        _cell("code", "import treadle\n\n" + query, 1),
    ]
    if shown:
        kept = ", ".join(json.dumps(c, ensure_ascii=False) for c in ["run_id", "name", *shown])
        cells.append(_cell("code", f"runs.select([c for c in [{kept}] if c in runs.columns])", 2))
    notebook = {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}
    name = safe_name(f"{experiment.experiment_id if experiment else desk.project}-runs.ipynb")
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return Response(json.dumps(notebook, indent=1, ensure_ascii=False), media_type="application/x-ipynb+json", headers=headers)


def _cell(kind: str, source: str, place: int) -> dict[str, Any]:
    cell: dict[str, Any] = {"id": f"{kind}-{place}", "cell_type": kind, "metadata": {}, "source": source}
    return {**cell, "execution_count": None, "outputs": []} if kind == "code" else cell


def as_columns(desk: Desk) -> Response:
    """The runs at the head of the listing as columns of the dimensions asked for (`d=params.depth&d=metrics.auc`), for the charts."""
    here = Address.of(desk.request)
    wanted, experiment = listings.read(here), experiment_of(desk)
    dims = [d for d in here.all("d", 20) if listings.named(d)]
    found: TrackedRuns = desk.call(
        SearchRuns(
            project=desk.project,
            experiments=[experiment.experiment_id] if experiment else [],
            filter=wanted.filter,
            order_by=wanted.order_by,
            view=wanted.view,
            limit=MOST_DRAWN,
            columns=dims,
        )
    )
    columns: dict[str, list[Any]] = {}
    for dim in dims:
        kind, _, key = dim.partition(".")
        if kind == "metrics":
            columns[dim] = [next((finite(p.value) for p in r.metrics if p.key == key), None) for r in found.items]
        else:
            columns[dim] = [(r.params if kind == "params" else r.tags).get(key) for r in found.items]
    told = {"runs": [r.run_id for r in found.items], "names": [listings.name_of(r) for r in found.items], "columns": columns}
    return _json({**told, "more": found.page.next is not None})


def history(desk: Desk) -> Response:
    """One metric of some runs as columns (`key=loss&run=…&run=…`), lowest and highest of each part of a long line unless `every=1`.

    `from` and `until` ask for what a chart has zoomed in on, along its `x`: steps, or seconds where that is `relative` or `time`.
    """
    here = Address.of(desk.request)
    key, runs = here.get("key"), here.all("run", 50)
    if not key or not runs:
        raise TreadleError("Which metric of which runs?", remedy="Ask for ?key=loss&run=run_…")
    most = 0 if here.get("every") == "1" else max(min(_POINTS // len(runs), _LINE), 50)
    along, low, high = _part(here)
    lines = []
    for run_id in runs:
        wanted = MetricColumns(project=desk.project, run_id=run_id, key=key, most=most, along=along, low=low, high=high)
        found: Columns = desk.call(wanted)
        values = [finite(v) for v in found.values]
        real = [v for v in values if v is not None]
        lines.append(
            {
                "id": run_id,
                "step": found.steps,
                "time": [t // 1000 for t in found.times],
                "value": values,
                "thinned": found.means is not None,
                "mean": found.means,
                "min": min(real, default=None),
                "max": max(real, default=None),
            }
        )
    return _json({"key": key, "lines": lines})


def _part(here: Address) -> tuple[Along, int | None, int | None]:
    """What a chart has zoomed in on; everything where the address does not say it in numbers."""
    along = {"relative": Along.relative, "time": Along.time}.get(here.get("x"), Along.step)
    try:
        ends = [float(here.get(name)) * (1 if along == Along.step else 1e6) for name in ("from", "until")]
    except ValueError:
        return along, None, None
    if not all(abs(end) < 2**62 for end in ends):
        return along, None, None
    return along, math.floor(ends[0]), math.ceil(ends[1])


def finite(value: float | str) -> float | None:
    """A value that a chart can draw; None for what it cannot."""
    value = float(value)
    return value if math.isfinite(value) and abs(value) < 1.7e308 else None


def _json(told: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(told), media_type="application/json", headers={"cache-control": "no-store"})
