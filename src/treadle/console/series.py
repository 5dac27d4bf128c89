"""Quality over time as the chart draws it: days as they were, the mean of the last seven, and how sure that mean is.

One day's figure moves by chance alone, so the line is the mean of the last seven blocks, weighted by their outcomes, and the band is
its 95 % interval from the spread of those blocks (Student's t). The future is empty: nothing is extrapolated.
"""

import datetime as dt
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from treadle.operations.workshop import Overview

#: Blocks that a mean is taken over.
BLOCKS = 7
#: What the first version would have given, had nobody retrained: the metric drawn → its name in a judged month. The AUC is that of days, as
#: the champion's line is; all rows of a month ranked together give a higher one.
_NEVER = {"roc_auc": "roc_auc_by_day", "brier": "brier"}
#: 97.5 % quantiles of Student's t by degrees of freedom.
_T = {3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447}
METRICS = {"roc_auc": "ROC AUC", "brier": "Brier", "calibration": "Calibration"}
_DRAWN = ("roc_auc", "brier", "mean_predicted", "mean_observed")


def series(overview: Overview) -> dict[str, Any] | None:
    """All that the chart needs, small and JSON-able; None where nothing was seen yet. Times in seconds since 1970 UTC."""
    blocks = sorted(overview.quality, key=lambda b: b["start"])
    if not blocks:
        return None
    times = [int(b["start"].timestamp()) for b in blocks]
    step = statistics.median([b - a for a, b in itertools.pairwise(times)]) if len(times) > 1 else 86400
    now = int(overview.now.timestamp()) // 60 * 60
    width = max(now, times[-1]) - times[0]
    return {
        "t": times,
        "now": now,
        "start": times[0] - step,
        "end": max(now, times[-1]) + max(14 * step, width * 0.2),
        "predictions": [b.get("predictions", 0) for b in blocks],
        "outcomes": [b.get("outcomes", 0) for b in blocks],
        "champion": [b.get("champion") for b in blocks],
        "series": {
            **{name: _smooth(blocks, times, name, step) for name in _DRAWN if any(name in b for b in blocks)},
            **_never(overview.judged, blocks),
        },
        "marks": [_mark(m) for m in overview.marks],
    }


def months(overview: Overview) -> list[dict[str, Any]]:
    """The same by month of the block, newest first: counts, outcome-weighted metrics and who served. A month that a judge told of has the
    judge's rows and metrics; the share of labels is the windows'."""
    found = []
    judged = {m["month"]: m for m in overview.judged}
    for month, group in itertools.groupby(sorted(overview.quality, key=lambda b: b["start"]), key=lambda b: f"{b['start']:%Y-%m}"):
        blocks = list(group)
        row: dict[str, Any] = {
            "month": month,
            "predictions": sum(b.get("predictions", 0) for b in blocks),
            "outcomes": sum(b.get("outcomes", 0) for b in blocks),
            "champions": sorted({b["champion"] for b in blocks if b.get("champion") is not None}),
        }
        for name in _DRAWN:
            row[name] = _mean([(b[name], b.get("outcomes", 0)) for b in blocks if b.get(name) is not None])
        told = judged.get(month, {})
        row["labels_in"] = row["outcomes"] / row["predictions"] if row["predictions"] else None
        row["predictions"] = told.get("rows", row["predictions"])
        row |= {name: told[name] for name in _DRAWN if name in told}
        found.append(row)
    return found[::-1]


def _never(judged: Sequence[Mapping[str, Any]], blocks: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float | None]]]:
    """`never_roc_auc` and `never_brier`: each block has its month's value; nothing where no judge has told of it."""
    told: dict[str, Mapping[str, Any]] = {m["month"]: m.get("policies", {}).get("never", {}) for m in judged}
    found: dict[str, dict[str, list[float | None]]] = {}
    for metric, name in _NEVER.items():
        line = [_short(told.get(f"{b['start']:%Y-%m}", {}).get(name)) for b in blocks]
        if any(value is not None for value in line):
            found[f"never_{metric}"] = {"day": [], "line": line, "low": [], "high": []}
    return found


def _smooth(blocks: Sequence[Mapping[str, Any]], times: list[int], name: str, step: float) -> dict[str, list[float | None]]:
    day: list[float | None] = []
    line: list[float | None] = []
    low: list[float | None] = []
    high: list[float | None] = []
    for i, block in enumerate(blocks):
        value = block.get(name)
        first = max(0, i - BLOCKS + 1)
        within = [
            (float(b[name]), int(b.get("outcomes", 0)))
            for b, t in zip(blocks[first : i + 1], times[first : i + 1], strict=True)
            if b.get(name) is not None and times[i] - t < BLOCKS * step + 1
        ]
        mean, error = (_mean(within), _error(within)) if value is not None else (None, None)
        day.append(_short(value))
        line.append(_short(mean))
        low.append(_short(None if mean is None or error is None else mean - error))
        high.append(_short(None if mean is None or error is None else mean + error))
    return {"day": day, "line": line, "low": low, "high": high}


def _mean(pairs: Sequence[tuple[float, int]]) -> float | None:
    weight = sum(n for _, n in pairs)
    return sum(v * n for v, n in pairs) / weight if weight else None


def _error(pairs: Sequence[tuple[float, int]]) -> float | None:
    """Half the width of the mean's 95 % interval; None below four blocks, of which the spread says little."""
    if len(pairs) < 4:
        return None
    spread = statistics.stdev(v for v, _ in pairs)
    return _T[min(len(pairs) - 1, 6)] * spread / math.sqrt(len(pairs))


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 5)


def _mark(mark: Mapping[str, Any]) -> dict[str, Any]:
    end: dt.datetime | None = mark.get("end")
    told = {k: v for k, v in mark.items() if k not in ("start", "end")}
    return {**told, "start": int(mark["start"].timestamp()), "end": int(end.timestamp()) if end else None}
