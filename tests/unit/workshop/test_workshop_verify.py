"""The judge's arithmetic."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from treadle.evaluation.metrics import roc_auc
from treadle.workshop.verify import months, policy_months


def test_policies_by_month_and_by_day() -> None:
    chance = np.random.default_rng(3)
    n = 3000
    at = [dt.datetime(2013, 2, 20, 12, tzinfo=dt.UTC) + dt.timedelta(minutes=int(m)) for m in np.sort(chance.integers(0, 20 * 1440, n))]
    truth = (chance.random(n) < 0.3).astype(float)
    level = np.array([t.day % 5 for t in at]) / 10  # days differ in level, which ranking a month together sees and ranking days does not
    rows = pl.DataFrame(
        {
            "event_time": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
            "month": [f"{t:%Y-%m}" for t in at],
            "truth": pl.Series([None if i % 10 == 0 else v for i, v in enumerate(truth)], dtype=pl.Float64),
            "model_version": [1] * n,
            "output": 0.3 * truth + chance.random(n) * 0.5,
            "never": 0.1 * truth + chance.random(n) * 0.5 + level,
        }
    )
    told = policy_months(rows, {"never": "never", "declared": "output"})
    assert list(told) == ["2013-02", "2013-03"]
    served = {m["month"]: m for m in months(rows)}
    for month, policies in told.items():
        assert {k: v for k, v in policies["declared"].items() if k != "roc_auc_by_day"} == {
            k: served[month][k] for k in ("roc_auc", "brier", "mean_predicted", "mean_observed")
        }
        part = rows.filter((pl.col("month") == month) & pl.col("truth").is_not_null())
        days = [day for _, day in part.group_by(pl.col("event_time").dt.date())]
        each = [(roc_auc(d["truth"].to_numpy(), d["never"].to_numpy()), d.height) for d in days]
        assert policies["never"]["roc_auc_by_day"] == pytest.approx(sum(a * w for a, w in each) / sum(w for _, w in each))
        assert policies["never"]["roc_auc"] < policies["never"]["roc_auc_by_day"] < policies["declared"]["roc_auc"]


def test_a_day_of_one_kind_ranks_nothing() -> None:
    day = dt.datetime(2013, 3, 1, tzinfo=dt.UTC)
    rows = pl.DataFrame(
        {
            "event_time": pl.Series([day, day, day + dt.timedelta(days=1)], dtype=pl.Datetime("us", "UTC")),
            "month": ["2013-03"] * 3,
            "truth": [0.0, 1.0, 1.0],
            "model_version": [1] * 3,
            "output": [0.1, 0.2, 0.05],
        }
    )
    assert policy_months(rows, {"declared": "output"})["2013-03"]["declared"]["roc_auc_by_day"] == 1.0
