"""Runs side by side: parameters, metrics, tags, inputs, environment, code, or only what differs; and their lines in one chart."""

import difflib
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from treadle.console import files, words
from treadle.console import listing as listings
from treadle.console.asked import Address
from treadle.console.desk import Desk
from treadle.operations.diagnosis import CompareRuns
from treadle.operations.tracking import GetTrackedRun
from treadle.records.errors import TreadleError
from treadle.records.tracking import RunInput, TrackedRun

#: Runs that a page has room for.
MOST = 20
_LINES, _BYTES = 400, 512 * 1024
_TEXTS = (("environment/requirements.txt", "Installed packages"), ("code/uncommitted.patch", "Changes that were not committed"))


class Row(Struct, frozen=True, kw_only=True):
    """One fact of every run. `best` are the places of the highest and lowest number; `same`: all agree."""

    name: str
    cells: list[str]
    same: bool
    num: bool = False
    high: int | None = None
    low: int | None = None


class Section(Struct, frozen=True, kw_only=True):
    """Facts of a kind; `hidden` is how many agree and are left out."""

    id: str
    title: str
    rows: list[Row]
    hidden: int


def page(desk: Desk) -> Response:
    """The table; `only=1` leaves out what is the same."""
    here = Address.of(desk.request)
    ids = [r for r in dict.fromkeys(",".join(here.all("runs")).split(",")) if r][:MOST]
    if not ids:
        raise TreadleError(
            "No run is named to be compared.", remedy=f"Tick runs in a table and press Compare: {desk.base}/runs", code="not_found"
        )
    runs: list[TrackedRun] = [desk.call(GetTrackedRun(project=desk.project, run_id=r)) for r in ids]
    only = here.get("only") == "1"
    sections = [s for s in facts(runs, only) if s.rows or s.hidden]
    differ = sum(not r.same for s in sections for r in s.rows)
    names = ", ".join(listings.name_of(r) for r in runs[:4]) + (" and others" if len(runs) > 4 else "")
    single = "One run is shown; compare needs two." if len(runs) == 1 else f"{len(runs)} runs side by side: {names}. {_many(differ)}."
    return desk.page(
        "compare.html",
        sentence=single,
        changed=_changed(desk, ids) if len(runs) == 2 else "",
        runs=[
            {
                "id": r.run_id,
                "name": listings.name_of(r),
                "href": desk.base + words.path("runs", r.run_id),
                "state": r.state,
                "without": here.to(runs=",".join(i for i in ids if i != r.run_id)),
            }
            for r in runs
        ],
        sections=sections,
        only=only,
        toggle=here.to(only=None if only else "1"),
        keys=_lines(listings.keys(runs)),
        drawn=[{"id": r.run_id, "name": listings.name_of(r), "live": str(r.state) in listings.LIVE} for r in runs],
        diffs=differences(desk, runs) if len(runs) == 2 else [],
        pair=len(runs) == 2,
    )


def _changed(desk: Desk, ids: list[str]) -> str:
    """What changed from the first to the second, and so may be the cause; or why that cannot be told now."""
    try:
        return desk.call(CompareRuns(project=desk.project, run_id=ids[1], since=ids[0])).text
    except TreadleError as error:
        return "" if error.code == "not_found" else f"It cannot be told now. {error.what} {error.remedy}"


def _lines(keys: listings.Keys) -> list[str]:
    """Metrics to draw, the longest line first."""
    return sorted(keys.metrics, key=lambda k: (k != keys.line, k.startswith(listings.INSIDE)))


def _many(n: int) -> str:
    return "They agree in everything that was recorded" if not n else f"They differ in {n:,} fact{'s' if n != 1 else ''}"


def facts(runs: list[TrackedRun], only: bool) -> list[Section]:
    """Every kind of fact, the rows in the order of their names."""
    values = [{p.key: p for p in r.metrics} for r in runs]
    metrics = [
        _numbers(key, [float(v[key].value) if key in v else None for v in values])
        for key in sorted({k for v in values for k in v}, key=lambda k: (k.startswith(listings.MACHINE), k.startswith(listings.INSIDE), k))
    ]
    params = [_row(k, [r.params.get(k) for r in runs]) for k in sorted({k for r in runs for k in r.params})]
    about = [
        _row("state", [str(r.state) for r in runs]),
        _row("experiment", [r.experiment_id for r in runs]),
        _row("started", [f"{words.moment(r.started or r.created)} UTC" for r in runs]),
        _row("took", [listings.took(r, r.ended) if r.ended else None for r in runs]),
        _row("by", [r.user or r.actor for r in runs]),
        _row("part of", [r.parent_run for r in runs]),
    ]
    code = [_row("git revision", [r.git_revision or r.tags.get("mlflow.source.git.commit") for r in runs])]
    for key, name in (
        ("treadle.git.branch", "branch"),
        ("treadle.git.dirty", "uncommitted changes"),
        ("treadle.command", "command"),
        ("mlflow.source.name", "source"),
        ("treadle.python", "Python"),
        ("treadle.os", "system"),
        ("treadle.host", "host"),
    ):
        code.append(_row(name, [r.tags.get(key) for r in runs]))
    inputs = [
        _row(name, [", ".join(_input(i) for i in r.inputs if i.name == name) or None for r in runs])
        for name in sorted({i.name for r in runs for i in r.inputs})
    ]
    shown = sorted({k for r in runs for k in r.tags if not k.startswith(listings.QUIET_TAGS)})
    tags = [_row(k, [r.tags.get(k) for r in runs]) for k in shown]
    named = (
        ("about", "About", about),
        ("metrics", "Metrics, the latest", metrics),
        ("params", "Parameters", params),
        ("tags", "Tags", tags),
        ("inputs", "Data they read", inputs),
        ("code", "Code and environment", code),
    )
    made = []
    for id, title, rows in named:
        rows = [r for r in rows if any(c != "—" for c in r.cells)]
        kept = [r for r in rows if not only or not r.same]
        made.append(Section(id=id, title=title, rows=kept, hidden=len(rows) - len(kept)))
    return made


def _input(one: RunInput) -> str:
    return f"{one.digest} ({one.context})" if one.context else one.digest


def _row(name: str, cells: list[str | None]) -> Row:
    return Row(name=name, cells=["—" if c is None else c for c in cells], same=len(set(cells)) == 1)


def _numbers(name: str, values: list[float | None]) -> Row:
    told = [listings.told(v) if v is not None else "—" for v in values]
    real = [(v, i) for i, v in enumerate(values) if v is not None and v == v]
    spread = len({v for v, _ in real}) > 1
    return Row(
        name=name,
        cells=told,
        same=len({repr(v) for v in values}) == 1,
        num=True,
        high=max(real)[1] if spread else None,
        low=min(real)[1] if spread else None,
    )


def differences(desk: Desk, runs: list[TrackedRun]) -> list[dict[str, Any]]:
    """What two runs' packages and uncommitted changes differ in, line by line, where both were recorded."""
    found = []
    for path, title in _TEXTS:
        try:
            one, other = (_text(desk, r.run_id, path) for r in runs)
        except TreadleError as error:
            found.append({"title": title, "lines": [], "cut": False, "unread": f"{error.what} {error.remedy}"})
            continue
        if one is None or other is None or one == other:
            continue
        lines = list(difflib.unified_diff(one, other, lineterm="", n=2))[2 : _LINES + 2]
        found.append({"title": title, "lines": lines, "cut": len(lines) >= _LINES, "unread": ""})
    return found


def _text(desk: Desk, run_id: str, path: str) -> list[str] | None:
    """The lines of a run's file; None where it has none.

    Raises:
        TreadleError: where it is there and cannot be read.
    """
    file = files.at(desk, run_id, path)
    if file is None:
        return None
    with desk.workshop.blobs.open_read(file.digest) as opened:
        return opened.read(_BYTES).decode("utf-8", "replace").splitlines()
