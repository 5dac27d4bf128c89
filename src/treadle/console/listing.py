"""A listing of runs as its address sets it up: filter, order, columns, groups; and what its cells say. Pure functions of records.

A column is named as the filter language names it: `metrics.auc`, `params.depth`, `tags.team`, or one of `ATTRIBUTES`.
"""

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from treadle.console import words
from treadle.console.asked import Address
from treadle.records.tracking import Point, TrackedRun, View

#: Column → its title, and what the filter language orders by (nothing: cannot be ordered by).
ATTRIBUTES: dict[str, tuple[str, str]] = {
    "state": ("state", "attributes.status"),
    "started": ("started", "attributes.start_time"),
    "took": ("took", ""),
    "user": ("user", "attributes.user_id"),
    "ended": ("ended", "attributes.end_time"),
    "experiment": ("experiment", ""),
    "source": ("source", ""),
    "data": ("data", ""),
    "revision": ("revision", ""),
    "run_id": ("run id", "attributes.run_id"),
}
_USUAL = ("state", "started", "took", "user")
#: Metrics and parameters that are shown where nobody chose.
_SHOWN = 5
SIZES = (25, 50, 100, 200)
#: What the machine was doing is no result: shown where asked for.
MACHINE = ("system/", "process/")
#: What `run.watch` and `run.timed` record of the inside, many a run: after the results.
INSIDE = ("watch/", "profile/")
#: Tags that clients set for themselves.
QUIET_TAGS = ("mlflow.", "treadle.")
NOTE = "mlflow.note.content"
LIVE = frozenset({"queued", "running", "waiting", "cancelling"})
EXAMPLES = (
    "metrics.auc > 0.8 and params.depth = '4'",
    "attributes.status = 'FAILED'",
    "tags.team LIKE 'ra%' and metrics.loss < 0.2",
    "params.`max depth` != '3'",
    "datasets.name = 'flights'",
)


class Listing(Struct, frozen=True, kw_only=True):
    """How a table of runs is set up."""

    filter: str = ""
    sort: str = ""
    descending: bool = True
    columns: tuple[str, ...] = ()
    group: str = ""
    view: View = View.active
    size: int = 50
    page: str | None = None

    @property
    def order_by(self) -> list[str]:
        """The order in the filter language."""
        name = ATTRIBUTES[self.sort][1] if self.sort in ATTRIBUTES else "attributes.run_name" if self.sort == "name" else quoted(self.sort)
        return [f"{name} {'DESC' if self.descending else 'ASC'}"] if name else []


def read(here: Address) -> Listing:
    """The listing that an address asks for; what makes no sense in it counts as not said."""
    sort, size = here.get("sort"), here.get("n")
    view = here.get("view")
    return Listing(
        filter=here.get("filter").strip(),
        sort=sort if sortable(sort) else "",
        descending=here.get("dir") != "asc",
        columns=tuple(c for c in here.all("col", 60) if c in ATTRIBUTES or named(c)),
        group=here.get("group") if named(here.get("group")) and not here.get("group").startswith("metrics.") else "",
        view=View(view) if view in View.__members__ else View.active,
        size=int(size) if size.isdigit() and int(size) in SIZES else 50,
        page=here.get("page") or None,
    )


def named(column: str) -> bool:
    """Whether it is a metric's, parameter's or tag's column."""
    kind, _, key = column.partition(".")
    return kind in ("metrics", "params", "tags") and bool(key)


def sortable(column: str) -> bool:
    """Whether the server can order by it.

    >>> sortable("metrics.auc"), sortable("took"), sortable("name")
    (True, False, True)
    """
    return column == "name" or (column in ATTRIBUTES and bool(ATTRIBUTES[column][1])) or named(column)


def quoted(column: str) -> str:
    """A column as the filter language writes it.

    >>> quoted("metrics.auc"), quoted("params.max depth")
    ('metrics.auc', 'params.`max depth`')
    """
    kind, _, key = column.partition(".")
    if not kind or not key:
        return ""
    plain = key.replace("_", "").replace(".", "").isalnum() and key.isascii()
    return f"{kind}.{key}" if plain and key[0].isalpha() else f'{kind}."{key}"' if "`" in key else f"{kind}.`{key}`"


def literal(value: str) -> str | None:
    """A text in quotes, None where it has both kinds, which the language cannot write.

    >>> literal("a"), literal("it's")
    ("'a'", '"it\\'s"')
    """
    if "'" not in value:
        return f"'{value}'"
    return None if '"' in value else f'"{value}"'


def both(one: str, other: str) -> str:
    """Two filters that must both hold."""
    return f"{one} and {other}" if one and other else one or other


# ── what there is ────────────────────────────────────────────────────────────────────────────────────────────────────


class Keys(Struct, frozen=True, kw_only=True):
    """Names that runs of a page bear, the most frequent first."""

    metrics: list[str]
    params: list[str]
    tags: list[str]
    line: str = ""  # the metric that was measured to the highest step: what is drawn first

    @property
    def columns(self) -> list[str]:
        """The same as columns."""
        return [*(f"metrics.{k}" for k in self.metrics), *(f"params.{k}" for k in self.params), *(f"tags.{k}" for k in self.tags)]


def keys(runs: Iterable[TrackedRun]) -> Keys:
    """What the runs of a page were measured by and told."""
    metrics: Counter[str] = Counter()
    furthest: dict[str, int] = {}
    params: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for run in runs:
        metrics.update({p.key for p in run.metrics})
        for p in run.metrics:
            if not p.key.startswith(MACHINE + INSIDE):
                furthest[p.key] = max(p.step, furthest.get(p.key, p.step))
        params.update(run.params.keys())
        tags.update(run.tags.keys())
    return Keys(
        metrics=sorted(metrics, key=lambda k: (k.startswith(MACHINE), k.startswith(INSIDE), -metrics[k], k)),
        params=sorted(params, key=lambda k: (-params[k], k)),
        tags=sorted(tags, key=lambda k: (k.startswith(QUIET_TAGS), -tags[k], k)),
        line=max(sorted(furthest), key=lambda k: (furthest[k], metrics[k]), default=""),
    )


def usual(found: Keys, *, everywhere: bool) -> tuple[str, ...]:
    """The columns that are shown where nobody chose."""
    metrics = [k for k in found.metrics if not k.startswith(MACHINE + INSIDE)][:_SHOWN]
    return (
        *(("experiment",) if everywhere else ()),
        *_USUAL,
        *(f"metrics.{k}" for k in metrics),
        *(f"params.{k}" for k in found.params[:_SHOWN]),
    )


def asked_columns(columns: Sequence[str]) -> list[str] | None:
    """What the search has to answer of each run for these columns to be filled."""
    more = {"source": "tags.mlflow.source.name", "data": "inputs"}
    return [more.get(c, c) for c in columns if c in more or named(c)]


# ── cells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(value: float | str) -> float:
    """A point's value as a number."""
    return float(value)


def told(value: float | str) -> str:
    """A metric's value as a table shows it.

    >>> told(0.74812), told(0.69), told("NaN"), told("-Infinity"), told(3.0), told(59.2571), told(1234567.0), told(1.5e12), told(2e-7)
    ('0.7481', '0.6900', 'NaN', '−∞', '3', '59.26', '1,234,567', '1.5e+12', '2e-07')
    """
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value) or abs(value) > 1.797e308:
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    size = abs(value)
    if size < 1e-3 or size >= 1e9:
        return f"{value:.3g}"
    return f"{value:.4f}" if size < 10 else f"{value:.2f}" if size < 1000 else f"{value:,.1f}"


def took(run: TrackedRun, now: dt.datetime) -> str:
    """How long a run took, or has been taking."""
    if run.started is None:
        return "—"
    if run.ended is not None:  # no time at all: it ran while a replay's clock stood still
        return words.span((run.ended - run.started).total_seconds()) if run.ended > run.started else "—"
    return f"{words.span((now - run.started).total_seconds())} so far" if str(run.state) in LIVE and now > run.started else "—"


def name_of(run: TrackedRun) -> str:
    """What a run is called; a pipeline's by the pipeline, and the end of its id, which tells it from others."""
    return run.name or (f"{run.pipeline} {run.run_id[-6:]}" if run.pipeline else run.run_id)


class Shown(Struct, frozen=True, kw_only=True):
    """A cell of the table."""

    text: str
    title: str = ""
    num: bool = False
    time: dt.datetime | None = None
    tone: str = ""
    href: str = ""


def cell(run: TrackedRun, column: str, now: dt.datetime, base: str, values: dict[str, Point], called: dict[str, str]) -> Shown:
    """What a run says in a column; `values` are its metrics by name, `called` names of experiments by id."""
    kind, _, key = column.partition(".")
    if kind == "metrics":
        point = values.get(key)
        return Shown(text=told(point.value), title=f"{point.value!r} at step {point.step}", num=True) if point else Shown(text="", num=True)
    if kind in ("params", "tags"):
        value = (run.params if kind == "params" else run.tags).get(key)
        return Shown(text="" if value is None else value[:60] or "“”", title=value[:1000] if value and len(value) > 60 else "")
    if column == "state":
        return Shown(text=str(run.state), tone=words.tone(run.state))
    if column in ("started", "ended"):
        return Shown(text="—", time=(run.started or run.created) if column == "started" else run.ended)
    if column == "took":
        return Shown(text=took(run, now), num=True)
    if column == "experiment":
        name = called.get(run.experiment_id, run.experiment_id)
        return Shown(text=name[:60], title=run.experiment_id, href=f"{base}{words.path('experiments', run.experiment_id, 'runs')}")
    if column == "data":
        return Shown(text=", ".join(f"{i.name} {i.digest[:8]}" for i in run.inputs[:3]))
    plain: dict[str, Any] = {
        "user": run.user or run.actor,
        "source": run.tags.get("mlflow.source.name", "").rpartition("/")[2] or run.pipeline,
        "revision": (run.git_revision or "")[:10],
        "run_id": run.run_id,
    }
    return Shown(text=plain[column])


def title(column: str) -> str:
    """A column's heading."""
    return ATTRIBUTES[column][0] if column in ATTRIBUTES else column.partition(".")[2]
