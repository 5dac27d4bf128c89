"""What changed from one run to another: what a result is made of, and what came of it. Pure; `Insides` brings what is known of both."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from treadle.records.diagnosis import Change, RunDifference
from treadle.records.rules import ASIDE, direction
from treadle.records.tracking import TrackedRun

#: Tags that tell a run's surroundings: tag → (what, name).
_TAGS = {
    "treadle.git.branch": ("code", "branch"),
    "treadle.git.dirty": ("code", "uncommitted changes"),
    "treadle.command": ("code", "command"),
    "treadle.python": ("package", "python"),
    "treadle.host": ("machine", "host"),
    "treadle.os": ("machine", "os"),
    "treadle.cpus": ("machine", "cpus"),
}
#: In the order of a sentence.
KINDS = ("data", "parameter", "code", "package", "machine")
_TELL = 6
_NAMED = {"data": "data", "parameter": "parameters", "code": "code", "package": "packages"}


class Known(Struct, frozen=True, kw_only=True):
    """What is known of a run: its record, its packages by name, the data it read by name, digests of code and definitions."""

    run: TrackedRun
    packages: dict[str, str] = {}
    data: dict[str, list[str]] = {}
    digests: dict[str, str] = {}


def compare(before: Known, after: Known) -> RunDifference:
    """What is in one of them and not, or otherwise, in the other."""
    one, two = before.run, after.run
    inputs = [
        *_changes("data", before.data, after.data),
        *_changes("parameter", one.params, two.params),
        *_changes("code", _code(before), _code(after)),
    ]
    for kind in ("code", "package", "machine"):
        told = [{name: run.tags[tag] for tag, (what, name) in _TAGS.items() if what == kind and tag in run.tags} for run in (one, two)]
        inputs += _changes(kind, *told)
    if before.packages and after.packages:
        inputs += _changes("package", before.packages, after.packages)
    elif before.digests.get("environment_digest") != after.digests.get("environment_digest"):
        digests = (known.digests.get("environment_digest", "")[:12] or None for known in (before, after))
        inputs.append(Change(what="package", name="environment", before=next(digests), after=next(digests)))
    metrics = _changes("metric", _metrics(one), _metrics(two))
    related = "parent" if two.parent_run == one.run_id else "child" if one.parent_run == two.run_id else ""
    return RunDifference(
        project=two.project,
        before=one.run_id,
        after=two.run_id,
        related=related,
        inputs=sorted(inputs, key=lambda c: (KINDS.index(c.what), c.name)),
        metrics=metrics,
        text=_text(inputs, metrics),
    )


def _code(known: Known) -> dict[str, str]:
    names = {"code_digest": "code", "project_digest": "definitions"}
    told = {name: known.digests[key][:12] for key, name in names.items() if key in known.digests}
    return {**told, **({"revision": known.run.git_revision} if known.run.git_revision else {})}


def _metrics(run: TrackedRun) -> dict[str, float | str]:
    found = {p.key: p.value for p in run.metrics if not p.key.startswith(ASIDE[:3])}
    return {key: value if isinstance(value, str) or value == value else "NaN" for key, value in found.items()}


def _changes(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    names = sorted({*before, *after})
    return [Change(what=what, name=n, before=before.get(n), after=after.get(n)) for n in names if before.get(n) != after.get(n)]


def _text(inputs: list[Change], metrics: list[Change]) -> str:
    kinds = [kind for kind in KINDS if any(c.what == kind for c in inputs)]
    causes = [kind for kind in kinds if kind != "machine"]
    if not causes:
        said = "Nothing that a result is made of changed" + (", only the machine" if kinds else "")
        return f"{said}: {'what differs is chance.' if metrics else 'and the metrics are the same.'}"
    told = "; ".join(f"{kind}: {_list([c for c in inputs if c.what == kind])}" for kind in causes)
    only = f"Only {_NAMED[causes[0]]} changed ({told.partition(': ')[2]})" if len(causes) == 1 else f"Changed {told}"
    came = _list([c for c in metrics if isinstance(c.before, float) and isinstance(c.after, float)])
    return f"{only}. Metrics: {came}." if came else f"{only}."


def _list(changes: list[Change]) -> str:
    told = [f"{c.name} {_short(c.before)} → {_short(c.after)}{_better(c)}" for c in changes[:_TELL]]
    return ", ".join(told) + (f" and {len(changes) - _TELL} more" if len(changes) > _TELL else "")


def _better(change: Change) -> str:
    if change.what != "metric" or not direction(change.name):
        return ""
    return " (better)" if (change.after - change.before) * direction(change.name) > 0 else " (worse)"


def _short(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
