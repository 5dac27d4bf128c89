"""What a run shows of its inside: what the rules find, where its time went, what its tensors looked like.

Both parts are asked for after the page stands, so that nobody waits for rules or files. What is drawn of files was uploaded by
somebody: whatever does not have the form that `run.timed` and `run.watch` give it is left out.
"""

import contextlib
import json
import math
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from treadle.console import files, words
from treadle.console import listing as listings
from treadle.console.asked import Address
from treadle.console.desk import Desk
from treadle.console.files import PARSED, head, opened
from treadle.operations.diagnosis import DiagnoseRun
from treadle.operations.tracking import GetTrackedRun
from treadle.records.diagnosis import Diagnosis, Finding
from treadle.records.errors import TreadleError
from treadle.records.ledger import Artifact
from treadle.records.tracking import TrackedRun

#: Where `run.timed` and `run.watch` leave what they saw.
PROFILE, TENSORS = "debug/profile.json", "debug/tensors.parquet"
#: The largest table of tensors that is read; sections, tensors, steps and bars that are drawn.
_LARGEST = 64 * 1024 * 1024
_SECTIONS, _TENSORS, _STEPS, _BARS = 60, 300, 5000, 200
#: The drawing of a histogram.
WIDE, HIGH = 480, 120
_FACTS = (("mean", "mean"), ("std", "deviation"), ("norm", "norm"), ("min", "least"), ("max", "greatest"))
_NUMBERS = ("mean", "std", "min", "max", "norm", "zeros", "saturated", "dead", "nan")
#: Shares above which a cell wants attention, as the rules have them.
_MUCH = {"saturated": 0.5, "dead": 0.4, "nan": 0.0}
_TONES = {"critical": "harm", "warning": "waits", "info": "tried"}


# ── findings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def diagnosis(desk: Desk) -> Response:
    """The findings of the rules; of a run at work, until now."""
    run_id = desk.request.path_params["run_id"]
    one: TrackedRun = desk.call(GetTrackedRun(project=desk.project, run_id=run_id))
    try:
        found: Diagnosis | None = desk.call(DiagnoseRun(project=desk.project, run_id=run_id))
        failed = None
    except TreadleError as error:
        found, failed = None, error
    return desk.swapped(
        desk.fragment(
            "_diagnosis.html",
            again=f"{desk.base}{words.path('runs', run_id)}/diagnosis" if str(one.state) in listings.LIVE else "",
            findings=[_finding(f) for f in found.findings] if found else [],
            quiet=_quiet(found, one) if found else "",
            failed=failed,
        )
    )


def examined(one: TrackedRun) -> bool:
    """Whether the run has a metric that says something of its training."""
    return any(not p.key.startswith(listings.MACHINE) for p in one.metrics)


def _finding(one: Finding) -> dict[str, Any]:
    first, last = one.first_step, one.last_step
    if first is None and last is None:
        steps = ""
    elif first is None or last is None or first == last:
        steps = f"step {last if first is None else first:,}"
    else:
        steps = f"steps {first:,} to {last:,}"
    return {
        "severity": one.severity,
        "tone": _TONES.get(one.severity, "quiet"),
        "rule": one.rule.replace("_", " "),
        "text": one.text,
        "advice": one.advice,
        "steps": steps,
        "metrics": one.metrics[:6],
        "more": max(0, len(one.metrics) - 6),
    }


def _quiet(found: Diagnosis, one: TrackedRun) -> str:
    if not found.examined:
        return "No metric was long enough to be examined."
    n = found.examined
    so_far = " so far" if str(one.state) in listings.LIVE else ""
    return f"The rules found nothing wrong{so_far} in {n:,} metric{'s' if n != 1 else ''}."


# ── what its files say ───────────────────────────────────────────────────────────────────────────────────────────────


def has_files(desk: Desk, run_id: str) -> bool:
    """Whether the run left a profile or a table of tensors."""
    return any(files.at(desk, run_id, path) is not None for path in (PROFILE, TENSORS))


def page(desk: Desk) -> Response:
    """Where the time went, and the tensors, one of them drawn: `tensor` and `step` of the address."""
    run_id = desk.request.path_params["run_id"]
    asked = Address.of(desk.request)
    home = desk.base + words.path("runs", run_id)
    shown: dict[str, Any] = {"profile": None, "tensors": None, "notes": []}
    profile, tensors = files.at(desk, run_id, PROFILE), files.at(desk, run_id, TENSORS)
    if profile is not None:
        try:
            shown["profile"] = spent(json.loads(_whole(desk, profile)))
        except (ValueError, RecursionError, TreadleError) as error:
            shown["notes"].append(f"{PROFILE} cannot be read ({str(error)[:200]}).")
    if tensors is not None:
        try:
            shown["tensors"] = watched(desk, tensors, asked.get("tensor"), asked.get("step", most=20))
        except (ValueError, TreadleError) as error:
            shown["notes"].append(f"{TENSORS} cannot be read ({str(error)[:200]}).")
    html = desk.fragment("_insides.html", home=home, here=f"{home}/insides", files=f"{home}/files", wide=WIDE, high=HIGH, **shown)
    return desk.swapped(html)


def _whole(desk: Desk, file: Artifact) -> bytes:
    if file.size > PARSED:
        raise ValueError("it is larger than 4 MB")
    return head(desk, file, PARSED + 1)


class Section(Struct, frozen=True, kw_only=True):
    """A bar: what a section took, and how much of it in none of the sections inside it; shares in percent of the whole."""

    name: str
    path: str
    depth: int
    seconds: str
    share: str
    calls: str
    mean: str
    width: float
    own: float


def spent(told: Any) -> dict[str, Any]:
    """Sections of a profile as bars, each followed by those in it, the longest first.

    >>> made = spent([{"section": "step", "seconds": 8.0, "count": 2}, {"section": "step/load", "seconds": 6.0, "count": 2}])
    >>> [(s.name, s.depth, s.width, s.own, s.mean) for s in made["sections"]], made["total"]
    ([('step', 0, 100.0, 25.0, '4 s'), ('load', 1, 75.0, 75.0, '3 s')], '8 s')
    """
    if not isinstance(told, list):
        raise ValueError("it is no list of sections")
    known: dict[str, tuple[float, int]] = {}
    for row in told[:5000]:
        path, seconds, count = (row.get(k) for k in ("section", "seconds", "count")) if isinstance(row, dict) else (None, None, None)
        real = _real(seconds)
        if isinstance(path, str) and path and real is not None and real >= 0:
            known[path[:400]] = (real, count if isinstance(count, int) and count > 0 else 0)
    inside: dict[str, list[str]] = {}
    for path in known:
        above = path.rpartition("/")[0]
        while above and above not in known:
            above = above.rpartition("/")[0]
        inside.setdefault(above, []).append(path)
    total = sum(known[p][0] for p in inside.get("", []))
    made: list[Section] = []
    waiting = [(p, 0) for p in sorted(inside.get("", []), key=lambda p: known[p][0])]
    while waiting:
        path, depth = waiting.pop()
        seconds, count = known[path]
        parts = inside.get(path, [])
        above = path.rpartition("/")[0]
        own = max(0.0, seconds - sum(known[p][0] for p in parts))
        made.append(
            Section(
                name=path.rpartition("/")[2] if above in known else path,
                path=path,
                depth=min(depth, 6),
                seconds=lasted(seconds),
                share=share(seconds / total if total else None),
                calls=f"{count:,}" if count else "—",
                mean=lasted(seconds / count) if count else "—",
                width=round(min(100.0, 100 * seconds / total), 2) if total else 0.0,
                own=round(min(100.0, 100 * own / total), 2) if total else 0.0,
            )
        )
        waiting += [(p, depth + 1) for p in sorted(parts, key=lambda p: known[p][0])]
    return {"sections": made[:_SECTIONS], "more": max(0, len(made) - _SECTIONS), "total": lasted(total)}


def lasted(seconds: float) -> str:
    """Seconds with three digits at most.

    >>> lasted(0.0000042), lasted(0.0123), lasted(4.0), lasted(75.2), lasted(4000.0), lasted(0)
    ('4.2 µs', '12.3 ms', '4 s', '75.2 s', '1 h 7 min', '0 s')
    """
    if not seconds:
        return "0 s"
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    if seconds < 600:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def share(value: float | None) -> str:
    """A share that does not round what there is to nothing.

    >>> share(0.0), share(0.0002), share(0.031), share(0.9999), share(1.0), share(None)
    ('0', '<0.1 %', '3.1 %', '>99.9 %', '100 %', '—')
    """
    if value is None:
        return "—"
    if not 0 < value < 1:
        return f"{value * 100:.0f} %" if value else "0"
    if value < 0.001:
        return "<0.1 %"
    return ">99.9 %" if value > 0.999 else f"{value * 100:.1f} %" if value < 0.1 else f"{value * 100:.0f} %"


def _real(value: object) -> float | None:
    """A finite number; None for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    with contextlib.suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None


def watched(desk: Desk, file: Artifact, wanted: str, step: str) -> dict[str, Any]:
    """The last look at every tensor, and one of them as a histogram.

    Raises:
        ValueError: no table as `run.watch` keeps it.
    """
    import polars as pl  # noqa: PLC0415  (only who looks at a table waits for it)

    if file.size > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST // 1024 // 1024} MB")
    try:
        with contextlib.closing(opened(desk, file)) as table:
            schema = pl.read_parquet_schema(table)
            if "name" not in schema or "step" not in schema:
                raise ValueError("it has no columns name and step")
            table.seek(0)
            columns = [k for k in ("name", "step", "kind", *_NUMBERS) if k in schema]
            frame = pl.read_parquet(table, columns=columns)
            floats = [pl.col(k).cast(pl.Float64, strict=False) for k in columns if k in _NUMBERS]
            frame = frame.with_columns(pl.col("name").cast(pl.String), pl.col("step").cast(pl.Int64), *floats).drop_nulls(["name", "step"])
            last = frame.sort("step", maintain_order=True).unique("name", keep="last")
            order = {name: i for i, name in enumerate(frame["name"].unique(maintain_order=True).to_list())}
            rows = sorted(last.to_dicts(), key=lambda r: order[r["name"]])
            if not rows:
                raise ValueError("it has no row")
            name = wanted if wanted in order else rows[0]["name"]
            steps = frame.filter(pl.col("name") == name)["step"].unique().sort().to_list()
            at = int(step) if step.lstrip("-").isdecimal() and int(step) in set(steps) else steps[-1]
            table.seek(0)
            chosen = pl.scan_parquet(table).filter(pl.col("name").cast(pl.String) == name, pl.col("step") == at).head(1).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, OverflowError) as error:
        raise ValueError(str(error)) from error
    look = chosen.to_dicts()[0] if chosen.height else {}
    return {
        "rows": [_row(r, r["name"] == name) for r in rows[:_TENSORS]],
        "more": max(0, len(rows) - _TENSORS),
        "names": list(order)[:_TENSORS] if name in list(order)[:_TENSORS] else [name, *list(order)[: _TENSORS - 1]],
        "name": name,
        "steps": steps[-_STEPS:] if at in steps[-_STEPS:] else [at, *steps[-_STEPS:]],
        "step": at,
        "facts": _facts(look),
        "bars": bars(look.get("counts"), look.get("edges")),
    }


def _row(row: dict[str, Any], chosen: bool) -> dict[str, Any]:
    cells = [{"text": _told(row.get("norm")), "tone": "", "title": repr(row.get("norm"))}]
    for key in ("zeros", "saturated", "dead", "nan"):
        value = _real(row.get(key))
        much = value is not None and key in _MUCH and value > _MUCH[key]
        cells.append({"text": share(value), "tone": ("harm" if key == "nan" else "waits") if much else "", "title": repr(row.get(key))})
    return {"name": row["name"], "kind": str(row.get("kind") or ""), "step": row["step"], "cells": cells, "chosen": chosen}


def _told(value: object) -> str:
    return listings.told(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else "—"


def _facts(look: dict[str, Any]) -> list[tuple[str, str]]:
    shape = look.get("shape")
    facts = [("shape", " × ".join(str(n) for n in shape[:8]) or "a number")] if isinstance(shape, list) else []
    facts += [(said, _told(look.get(key))) for key, said in _FACTS]
    return facts


class Bars(Struct, frozen=True, kw_only=True):
    """A histogram: rectangles, where 0 lies if it lies inside, and what stands under the ends."""

    rects: list[tuple[float, float, float, float, str]]  # x, y, width, height, what it says
    zero: float | None
    low: str
    high: str
    most: str


def bars(counts: object, edges: object) -> Bars | None:
    """A histogram's drawing; None where there is none to draw.

    >>> made = bars([1, 0, 3], [-1.0, 0.0, 1.0, 2.0])
    >>> made.rects[0], made.zero, made.low, made.high, len(made.rects)
    ((0.5, 80.0, 159.0, 40.0, '1 between -1 and 0'), 160.0, '-1', '2', 2)
    """
    if not isinstance(counts, list) or not isinstance(edges, list) or not 0 < len(counts) <= _BARS or len(edges) != len(counts) + 1:
        return None
    numbers, ends = [_real(c) for c in counts], [_real(e) for e in edges]
    heights, places = [n for n in numbers if n is not None and n >= 0], [e for e in ends if e is not None]
    if len(heights) != len(numbers) or len(places) != len(ends) or not max(heights):
        return None
    most, broad = max(heights), WIDE / len(heights)
    rects = []
    for i, n in enumerate(heights):
        if n:
            tall = round(max(1.5, n / most * HIGH), 2)
            said = f"{n:,.0f} between {listings.told(places[i])} and {listings.told(places[i + 1])}"
            rects.append((round(i * broad + 0.5, 2), round(HIGH - tall, 2), round(broad - 1, 2), tall, said))
    low, high = places[0], places[-1]
    inside = low < 0 < high and math.isfinite(high - low)
    return Bars(
        rects=rects,
        zero=round(-low / (high - low) * WIDE, 2) if inside else None,
        low=listings.told(low),
        high=listings.told(high),
        most=f"{most:,.0f}",
    )
