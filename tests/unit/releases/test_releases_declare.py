"""Constructors of definitions."""

import doctest

import pytest

from treadle.monitoring import budget
from treadle.monitoring import declare as monitoring
from treadle.records.definitions import Canary, Condition
from treadle.records.errors import TreadleError
from treadle.releases import declare, sequential


@pytest.mark.parametrize("module", [declare, monitoring, sequential, budget])
def test_doctests(module) -> None:
    assert doctest.testmod(module).failed == 0


def test_a_canary() -> None:
    made = declare.canary(0.5, guard=declare.not_harmed("brier", margin=0.001), deadline="21d")
    assert made == Canary(share=0.5, metric="brier", margin=0.001, deadline_blocks=21)


def test_an_endpoint_in_full() -> None:
    made = declare.endpoint(
        "delay",
        model="delay",
        release=declare.canary(),
        monitor=monitoring.monitor(
            outcome="arrivals.late",
            outcome_within="12h",
            decay=monitoring.decayed("roc_auc", by=0.05),
            calibration=monitoring.calibration(by=0.07),
            drift=monitoring.false_alarms("1/month"),
        ),
        retrain=monitoring.retrain(
            "delay_model", when=[monitoring.decayed("roc_auc", by=0.05), monitoring.every("quarter")], at_most_every="14d", budget="6/year"
        ),
        unit="flight_id",
    )
    assert (made.monitor.decay_metric, made.monitor.calibration_by, made.monitor.outcome_within_s) == ("roc_auc", 0.07, 43_200)
    assert made.retrain is not None
    assert (made.retrain.name, made.retrain.budget, made.retrain.budget_window_s) == ("retrain-delay_model", 6, 31_536_000)
    assert made.retrain.when[1] == Condition(kind="cron", cron="0 0 1 1,4,7,10 *")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: declare.canary(1.5), "share"),
        (lambda: declare.canary(deadline="36h"), "no multiple"),
        (lambda: declare.canary(deadline="3d"), "can never decide"),
        (lambda: declare.canary(deadline="soon"), "no duration"),
        (lambda: declare.not_harmed(alpha=2), "probability"),
        (lambda: declare.not_harmed(margin=-1), "negative"),
        (lambda: declare.endpoint("e", model="m", monitor=monitoring.monitor(outcome="late")), "names no column"),
        (lambda: monitoring.monitor(window="36h"), "three whole blocks"),
        (lambda: monitoring.false_alarms("often"), "no rate"),
        (lambda: monitoring.retrain("p", when=[]), "no condition"),
        (lambda: monitoring.retrain(7, when=[monitoring.drifted()]), "neither a definition"),
        (lambda: monitoring.every("fortnight"), "no period"),
        (lambda: monitoring.grown(0.5), "factor"),
        (lambda: monitoring.decayed(by=0), "positive"),
        (lambda: monitoring.trigger("t", "p", when=[monitoring.drifted()], budget="0.5/year"), "whole number"),
    ],
)
def test_what_is_refused_names_the_remedy(wrong, said: str) -> None:
    with pytest.raises(TreadleError, match=said) as raised:
        wrong()
    assert raised.value.code == "bad_definition"
    assert raised.value.remedy.startswith("Write for example")
