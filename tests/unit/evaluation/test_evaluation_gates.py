"""Gates say yes and no for the stated reason, and no where they cannot judge."""

import numpy as np
import polars as pl
import pytest

from treadle.evaluation import declare, gates, metrics
from treadle.evaluation.report import report
from treadle.records.definitions import Gate
from treadle.records.errors import TreadleError
from treadle.records.models import Report, SliceMetrics


def made(**changes):
    slices = tuple(
        SliceMetrics(column="carrier", value=v, rows=n, metrics={"roc_auc": a})
        for v, n, a in (("AA", 900, 0.7), ("UA", 300, 0.6), ("YV", 20, 0.4))
    )
    return Report(**{"rows": 1220, "metrics": {"roc_auc": 0.68, "brier": 0.15}, "slices": slices, **changes})


@pytest.mark.parametrize(
    ("gate", "changes", "passed", "words"),
    [
        (declare.no_worse("brier", by=0.002), {}, True, "no champion"),
        (declare.no_worse("brier", by=0.002), {"champion": {"brier": 0.149}, "champion_version": 3}, True, "champion 3"),
        (declare.no_worse("brier", by=0.002), {"champion": {"brier": 0.147}}, False, "0.0030 worse"),
        (declare.no_worse("roc_auc", by=0.01), {"champion": {"roc_auc": 0.70}}, False, "0.0200 worse"),
        (declare.no_worse("roc_auc", by=0.01), {"champion": {"roc_auc": 0.60}}, True, "0.0800 better"),
        (declare.no_worse("log_loss"), {"champion": {"log_loss": 0.4}}, False, "not measured"),
        (declare.at_least("roc_auc", 0.65), {}, True, "0.65"),
        (declare.at_least("roc_auc", 0.69), {}, False, "0.69"),
        (declare.at_most("brier", 0.2), {}, True, "0.2"),
        (declare.at_most("brier", 0.1), {}, False, "0.1"),
        (declare.at_most("mae", 0.1), {}, False, "not measured"),
        (declare.slice_floor("roc_auc", 0.55), {}, True, "worst is carrier=UA"),
        (declare.slice_floor("roc_auc", 0.65), {}, False, "carrier=UA 0.6000 (300 rows)"),
        (declare.slice_floor("roc_auc", 0.55, min_rows=10), {}, False, "carrier=YV"),
        (declare.slice_floor("roc_auc", 0.55, slices=["origin"]), {}, False, "no slices by origin"),
        (declare.slice_floor("roc_auc", 0.55), {"slices": ()}, False, "cannot be judged"),
        (declare.beats_baseline("roc_auc", by=0.01), {"baseline": {"roc_auc": 0.66}}, True, "0.0200 better"),
        (declare.beats_baseline("brier", by=0.01), {"baseline": {"brier": 0.155}}, False, "at least 0.01"),
        (declare.beats_baseline("brier"), {"baseline": {"brier": 0.15}}, False, "equal"),
        (declare.beats_baseline("brier"), {}, False, "No baseline"),
    ],
)
def test_gates(gate, changes, passed, words):
    (result,) = gates.judge([gate], made(**changes))
    assert result.passed is passed
    assert words in result.text
    assert result.gate == f"{gate.kind}({gate.metric})"


def test_what_cannot_be_a_gate():
    with pytest.raises(TreadleError, match="no gate"):
        gates.judge([Gate(kind="better_weather", metric="brier")], made())
    with pytest.raises(TreadleError, match="no better or worse"):
        gates.judge([declare.no_worse("mean_predicted")], made(champion={"mean_predicted": 1.0}, metrics={"mean_predicted": 1.0}))
    with pytest.raises(TreadleError, match="negative"):
        declare.no_worse("brier", by=-0.1)


def test_a_metric_of_ones_own_can_be_gated_on():
    @metrics.metric(better="lower")
    def worst(truth, scores):
        return float(np.abs(truth - scores).max())

    truth, frame = np.array([0.0, 1.0]), pl.DataFrame({"a": [1, 2]})
    mine = report(truth, np.array([0.1, 0.5]), frame, metrics=[worst], champion=np.array([0.1, 0.9]))
    (result,) = gates.judge([declare.no_worse("worst", by=0.1)], mine)
    assert not result.passed
    assert result.facts["worse_by"] == pytest.approx(0.4)


def test_report_slices_and_range():
    frame = pl.DataFrame(
        {
            "carrier": ["AA", "AA", None, "UA"],
            "night": [True, False, True, False],
            "at": [__import__("datetime").datetime(2013, 1, d, tzinfo=__import__("datetime").UTC) for d in (3, 1, 2, 4)],
        }
    )
    truth, scores = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.2, 0.8, 0.6, 0.4])
    got = report(truth, scores, frame, metrics=["brier", "roc_auc"], slices=["carrier", "night"], time="at")
    assert [(s.column, s.value, s.rows) for s in got.slices] == [
        ("carrier", "AA", 2),
        ("carrier", "UA", 1),
        ("carrier", "null", 1),
        ("night", "false", 2),
        ("night", "true", 2),
    ]
    assert "roc_auc" not in got.slices[1].metrics
    assert (got.test_from.day, got.test_until.day) == (1, 4)
    numbers = report(np.zeros(100), np.zeros(100), pl.DataFrame({"x": [*range(99), None]}), metrics=["brier"], slices=["x"])
    assert sum(s.rows for s in numbers.slices) == 100
    assert len(numbers.slices) == 5
    for bad in ({"champion": np.array([0.1])}, {"baseline": np.array([0.1, np.nan, 0, 0])}):
        with pytest.raises(TreadleError, match="finite"):
            report(truth, scores, frame, **bad)
    with pytest.raises(TreadleError, match="no column 'origin'"):
        report(truth, scores, frame, slices=["origin"])
    with pytest.raises(TreadleError, match="0 outcomes"):
        report(np.empty(0), np.empty(0), frame)
