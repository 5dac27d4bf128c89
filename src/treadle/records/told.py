"""What was logged, in the form that MLflow's clients read: made once of a run that has ended, and passed on from then (`RunDocument`)."""

import math
from collections.abc import Iterable
from typing import Any

from treadle.records.tracking import Point


def number(value: float | str | None) -> float | str:
    """A measured value (None: NaN); what JSON has no number for by its word.

    >>> number(float("nan")), number(None), number(float("-inf")), number(2.0)
    ('NaN', 'NaN', '-Infinity', 2.0)
    """
    if value is None:
        return "NaN"
    if isinstance(value, str) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def pairs(named: dict[str, str]) -> list[dict[str, str]]:
    """Tags and parameters as a list."""
    return [{"key": key, "value": text} for key, text in named.items()]


def measured(points: Iterable[Point]) -> list[dict[str, Any]]:
    """Measurements, their times in milliseconds."""
    return [
        {
            "key": p.key,
            "value": v if type(v := p.value) is float and v - v == 0.0 else number(v),
            "timestamp": 0 if (time := p.time) is None else time // 1000,
            "step": p.step,
        }
        for p in points
    ]


def data(metrics: Iterable[Point], params: dict[str, str], tags: dict[str, str]) -> dict[str, Any]:
    """The latest of each metric, parameters and tags of a run; those there are none of are left out."""
    told = {"metrics": measured(metrics), "params": pairs(params), "tags": pairs(tags)}
    return {name: part for name, part in told.items() if part}
