"""The metrics equal scikit-learn's, ties and edges included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from treadle.evaluation import metrics as ours
from treadle.records.errors import TreadleError

rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60)


def arrays(pairs):
    truth = np.array([t for t, _ in pairs], dtype=np.float64)
    return truth, np.array([s / 20 for _, s in pairs], dtype=np.float64)


@settings(deadline=None, max_examples=150)
@given(rows)
def test_classification_metrics_equal_scikit_learn(pairs):
    truth, scores = arrays(pairs)
    labels = scores >= 0.5
    assert ours.brier(truth, scores) == pytest.approx(theirs.brier_score_loss(truth, scores, pos_label=1))
    assert ours.log_loss(truth, scores) == pytest.approx(theirs.log_loss(truth, scores, labels=[0, 1]))
    assert ours.accuracy(truth, scores) == pytest.approx(theirs.accuracy_score(truth, labels))
    assert ours.rmse(truth, scores) == pytest.approx(theirs.root_mean_squared_error(truth, scores))
    assert ours.mae(truth, scores) == pytest.approx(theirs.mean_absolute_error(truth, scores))
    if labels.any():
        assert ours.precision(truth, scores) == pytest.approx(theirs.precision_score(truth, labels))
    if truth.any():
        assert ours.recall(truth, scores) == pytest.approx(theirs.recall_score(truth, labels))
        assert ours.average_precision(truth, scores) == pytest.approx(theirs.average_precision_score(truth, scores))
    if truth.any() or labels.any():
        assert ours.f1(truth, scores) == pytest.approx(theirs.f1_score(truth, labels))
    if 0 < truth.sum() < len(truth):
        assert ours.roc_auc(truth, scores) == pytest.approx(theirs.roc_auc_score(truth, scores))
        assert ours.r2(truth, scores) == pytest.approx(theirs.r2_score(truth, scores))


def test_an_undefined_metric_is_left_out():
    ones, scores = np.ones(5), np.linspace(0.1, 0.9, 5)
    found = ours.measure(ones, scores, [ours.find("roc_auc"), ours.find("brier")])
    assert list(found) == ["brier"]
    assert ours.measure(np.empty(0), np.empty(0), [ours.find("brier")]) == {}


def test_calibration_sees_a_shift_that_auc_does_not():
    rng = np.random.default_rng(0)
    p = rng.random(20_000) * 0.5
    truth = (rng.random(20_000) < p).astype(float)
    assert ours.roc_auc(truth, p) == pytest.approx(ours.roc_auc(truth, p + 0.2))
    assert ours.calibration_gap(truth, p) < 0.01 < 0.19 < ours.calibration_gap(truth, p + 0.2)
    assert ours.calibration_error(truth, p) < 0.02 < 0.18 < ours.calibration_error(truth, p + 0.2)
    assert ours.brier_skill(truth, np.full_like(p, truth.mean())) == pytest.approx(0)


def test_own_metrics_and_unknown_names():
    @ours.metric(better="lower")
    def worst(truth, scores):
        return float(np.abs(truth - scores).max())

    assert (ours.find(worst).name, ours.find(worst).direction) == ("worst", -1)
    with pytest.raises(TreadleError, match="no metric") as caught:
        ours.find("acuracy")
    assert "accuracy" in caught.value.remedy
    with pytest.raises(TreadleError, match="direction"):
        ours.metric(better="up")
