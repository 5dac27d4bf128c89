"""The year judged from outside: everything here is recomputed from the Delta tables and the client's own list of acknowledged ids.

Nothing of the loop's counters is used, so a loop that lost, doubled or invented predictions would be found out.
"""

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from treadle.evaluation.metrics import brier, roc_auc
from treadle.records.layout import Layout

ZONE = "America/New_York"


def logged(layout: Layout, project: str, environment: str, endpoint: str) -> pl.DataFrame:
    """All rows of an endpoint in the prediction table."""
    path = layout.prediction_table(project, environment)
    return pl.scan_delta(str(path)).filter(pl.col("endpoint") == endpoint).collect()


def table(layout: Layout, project: str, dataset: str) -> pl.DataFrame:
    """A dataset's newest state."""
    return pl.read_delta(str(layout.table(project, dataset)))


def traffic(rows: pl.DataFrame, acknowledged: Path, asked: int) -> dict[str, int]:
    """What was sent (rows of the requests' dataset), acknowledged (the client's list), logged, lost, doubled and rejected."""
    ids = pl.Series(acknowledged.read_text().split(), dtype=pl.String)
    answered = rows.filter(pl.col("status") == 200)
    lost = ids.unique().is_in(answered["prediction_id"].implode()).not_().sum()
    return {
        "sent": asked,
        "acknowledged": len(ids),
        "logged": answered["prediction_id"].n_unique(),
        "lost": int(lost),
        "duplicated": answered.height - answered["prediction_id"].n_unique() + len(ids) - ids.n_unique(),
        "rejected": rows.height - answered.height,
    }


def with_truth(rows: pl.DataFrame, outcomes: pl.DataFrame, *, unit: str, label: str, known: str) -> pl.DataFrame:
    """Answered predictions with their outcome, where it came, and the local month they fall in."""
    truth = outcomes.select(pl.col(unit).alias("unit"), pl.col(label).cast(pl.Float64).alias("truth"), pl.col(known).alias("known_at"))
    month = pl.col("event_time").dt.convert_time_zone(ZONE).dt.strftime("%Y-%m")
    return rows.filter(pl.col("status") == 200).join(truth, on="unit", how="left").with_columns(month=month)


def months(rows: pl.DataFrame, score: str = "output") -> list[dict[str, Any]]:
    """Per month: rows, and AUC, Brier, mean predicted and observed over those whose outcome came."""
    told = []
    for (month,), part in sorted(rows.group_by("month")):
        judged = part.filter(pl.col("truth").is_not_null())
        truth, scores = judged["truth"].to_numpy(), judged[score].to_numpy()
        mostly = part["model_version"].mode().sort()[0]
        told.append(
            {
                "month": month,
                "rows": part.height,
                "champion": mostly,
                "roc_auc": roc_auc(truth, scores),
                "brier": brier(truth, scores),
                "mean_predicted": float(scores.mean()),
                "mean_observed": float(truth.mean()),
            }
        )
    return told


def policy_months(rows: pl.DataFrame, scores: Mapping[str, str]) -> dict[str, dict[str, dict[str, float]]]:
    """month → policy → what `months` tells of its scores, and `roc_auc_by_day`: the mean of its days' AUC (UTC), weighted by outcomes,
    which is what a chart of days can be compared with. `scores` names each policy's column."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for policy, column in scores.items():
        for month in months(rows, column):
            kept = {name: month[name] for name in ("roc_auc", "brier", "mean_predicted", "mean_observed")}
            told.setdefault(month["month"], {})[policy] = kept
    known = rows.filter(pl.col("truth").is_not_null()).with_columns(day=pl.col("event_time").dt.date())
    daily: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for (month, _day), part in sorted(known.group_by("month", "day")):
        truth = part["truth"].to_numpy()
        if 0 < truth.sum() < len(truth):  # else nothing can be ranked
            for policy, column in scores.items():
                daily.setdefault((month, policy), []).append((roc_auc(truth, part[column].to_numpy()), len(truth)))
    for (month, policy), days in daily.items():
        told[month][policy]["roc_auc_by_day"] = sum(auc * n for auc, n in days) / sum(n for _, n in days)
    return told


def mean_of(told: Iterable[Mapping[str, Any]], retrainings: int) -> dict[str, Any]:
    """Means over months, each month counting the same."""
    listed = list(told)
    return {
        "roc_auc": float(np.mean([m["roc_auc"] for m in listed])),
        "brier": float(np.mean([m["brier"] for m in listed])),
        "retrainings": retrainings,
    }


def month_of(moment: dt.datetime) -> str:
    """The local month of a moment, `2013-02`."""
    return moment.astimezone(zoneinfo.ZoneInfo(ZONE)).strftime("%Y-%m")
