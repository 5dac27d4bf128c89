"""The chart of quality over time, as the overview and the station of monitoring show it: its data, its words, its table by month."""

from typing import Any

from treadle.console import words
from treadle.console.desk import Desk
from treadle.console.series import METRICS, months, series
from treadle.operations.workshop import GetApplied, Overview
from treadle.records.definitions import Project

_MARKS = {"release": "healthy", "canary": "tried", "alarm": "waits"}


def context(desk: Desk, seen: Overview) -> dict[str, Any]:
    """What `_quality.html` is made of."""
    drawn = series(seen)
    return {
        "chart": drawn,
        "chart_label": chart_label(seen, drawn),
        "metrics": METRICS,
        "months": months(seen),
        "marks": [{**m, "tone": _MARKS.get(m["kind"], "quiet")} for m in reversed(seen.marks)],
        "version_base": f"{desk.base}{words.path('models', model_of(desk, seen))}",
    }


def chart_label(seen: Overview, drawn: dict[str, Any] | None) -> str:
    """The chart in words, for those who do not see it."""
    if not drawn:
        return ""
    last = next((v for v in reversed(drawn["series"].get("roc_auc", {}).get("line", [])) if v is not None), None)
    alarms = sum(m["kind"] == "alarm" for m in drawn["marks"])
    releases = sum(m["kind"] == "release" for m in drawn["marks"])
    told = f"; ROC AUC over the last seven is {words.metric(last)}" if last is not None else ""
    never = next((v for v in reversed(drawn["series"].get("never_roc_auc", {}).get("line", [])) if v is not None), None)
    told += f", and never retrained it would have been {words.metric(never)} in that month" if never is not None else ""
    marks = f"{releases} promoted, {alarms} alarm{'s' if alarms != 1 else ''}. The table below has it by month."
    return f"Quality of {seen.endpoint} over {len(drawn['t'])} days{told}; {marks}"


def model_of(desk: Desk, seen: Overview) -> str:
    """The model that the endpoint serves."""
    applied: Project | None = desk.call(GetApplied(project=desk.project, environment=desk.environment))
    return next((e.model for e in applied.endpoints if e.name == seen.endpoint), seen.endpoint) if applied else seen.endpoint
