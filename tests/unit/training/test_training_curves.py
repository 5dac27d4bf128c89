"""Curves beside a fit: they are right, looking changes no byte of the model, and rules read them."""

import numpy as np
import polars as pl
import pytest

import treadle as tr
from treadle.evaluation.metrics import log_loss, roc_auc
from treadle.packaging.scoring import score_fitted
from treadle.records.errors import TreadleError
from treadle.records.rules import diagnose
from treadle.training import curves, fit

FEATURES = ["a", "b", "c", "kind"]


def rows(n: int, seed: int, signal: float = 1.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    late = signal * (x[:, 0] + x[:, 1] * x[:, 2]) + rng.normal(0, 1, n) > 0
    return pl.DataFrame(
        {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": rng.choice(["x", "y"], n).tolist(), "late": late, "minutes": x[:, 0]}
    )


def test_looking_changes_no_byte_of_the_model():
    seen: curves.Curves = {}
    plain = fit.fit_lightgbm(rows(500, 0), features=FEATURES, label="late", params={"n_estimators": 12})
    watched = fit.fit_lightgbm(
        rows(500, 0), features=FEATURES, label="late", params={"n_estimators": 12}, validation=rows(300, 1), curves=seen
    )
    assert watched == plain
    assert sorted(seen) == ["train/auc", "train/loss", "valid/auc", "valid/loss"]
    assert all([step for step, _ in points] == list(range(1, 13)) for points in seen.values())
    held = rows(300, 1)
    truth, scores = fit.truth_of(held, "late"), score_fitted(plain, held)
    assert seen["valid/loss"][-1][1] == pytest.approx(log_loss(truth, scores))
    assert seen["valid/auc"][-1][1] == pytest.approx(roc_auc(truth, scores))
    linear: curves.Curves = {}
    plain = fit.fit_logistic(rows(500, 0), features=FEATURES, label="late")
    watched = fit.fit_logistic(rows(500, 0), features=FEATURES, label="late", validation=held, curves=linear)
    assert np.array_equal(score_fitted(plain, held), score_fitted(watched, held))
    assert linear["valid/loss"][-1][1] == pytest.approx(log_loss(truth, score_fitted(plain, held)))
    losses = [value for _, value in linear["train/loss"]]
    assert losses[0] > losses[-1]
    assert [step for step, _ in linear["train/loss"]][:3] == [1, 2, 3]


def test_regression_has_its_own_loss():
    seen: curves.Curves = {}
    fit.fit_lightgbm(rows(300, 0), features=["a", "b"], label="minutes", params={"objective": "regression", "n_estimators": 5}, curves=seen)
    assert sorted(seen) == ["train/loss"]


def test_validation_rows_without_a_label_are_refused():
    broken = rows(50, 1).with_columns(late=pl.lit(None, dtype=pl.Boolean))
    with pytest.raises(TreadleError, match="missing on 50"):
        tr.fit_lightgbm(rows(300, 0), features=FEATURES, label="late", validation=broken)


def test_real_curves_of_an_overfit_are_found_and_healthy_ones_are_not():
    """120 noisy rows and deep trees learn the noise; many rows, small steps and few leaves do not."""
    seen: curves.Curves = {}
    deep = {"n_estimators": 200, "num_leaves": 63, "min_data_in_leaf": 1, "learning_rate": 0.2}
    fit.fit_lightgbm(rows(120, 0, 0.4), features=FEATURES, label="late", params=deep, validation=rows(1000, 1, 0.4), curves=seen)
    found = diagnose(seen)
    assert {f.rule for f in found} == {"overfitting"}
    assert any("valid/loss" in f.text for f in found)
    healthy: curves.Curves = {}
    mild = {"n_estimators": 60, "num_leaves": 7, "learning_rate": 0.05}
    fit.fit_lightgbm(rows(8000, 0), features=FEATURES, label="late", params=mild, validation=rows(3000, 1), curves=healthy)
    assert diagnose(healthy) == []
    linear: curves.Curves = {}
    fit.fit_logistic(rows(3000, 0), features=FEATURES, label="late", validation=rows(1000, 1), curves=linear)
    assert diagnose(linear) == []


def test_real_curves_of_scikit_learn():
    from sklearn.ensemble import GradientBoostingClassifier

    def trained(n: int, signal: float, **settings: float) -> list[str]:
        frame, held = rows(n, 0, signal), rows(1500, 1, signal)
        x, y = frame.select("a", "b", "c").to_numpy(), frame["late"].to_numpy()
        hx, hy = held.select("a", "b", "c").to_numpy(), held["late"].to_numpy()
        model = GradientBoostingClassifier(random_state=0, **settings).fit(x, y)
        histories = {"train_loss": [], "val_loss": []}
        for name, (matrix, truth) in {"train_loss": (x, y), "val_loss": (hx, hy)}.items():
            for step, scores in enumerate(model.staged_predict_proba(matrix)):
                histories[name].append((step, log_loss(truth.astype(float), scores[:, 1])))
        return [f.rule for f in diagnose(histories)]

    assert trained(100, 0.3, n_estimators=150, max_depth=6, learning_rate=0.3) == ["overfitting"]
    assert trained(3000, 1.0, n_estimators=60, max_depth=2, learning_rate=0.05) == []


def test_the_rank_statistic_is_that_of_evaluation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, scores = (rng.random(50) < 0.4).astype(float), rng.integers(0, 10, 50) / 10
        assert curves.auc(truth, scores) == pytest.approx(roc_auc(truth, scores), nan_ok=True)
        assert curves.log_loss(truth, scores) == pytest.approx(log_loss(truth, scores))
    assert np.isnan(curves.auc(np.ones(3), np.ones(3)))


def test_a_script_that_is_open_gets_them(tmp_path):
    with tr.run("curves", project="p", home=tmp_path / "home", system_every=None, offline=True) as run:
        tr.fit_lightgbm(rows(300, 0), features=FEATURES, label="late", params={"n_estimators": 4}, validation=rows(100, 1))
        logged = [entry for entry in run._reader.again() if entry[0] == "m"]
    assert [entry[2] for entry in logged] == [1, 2, 3, 4]
    assert set(logged[0][3]) == {"train/loss", "train/auc", "valid/loss", "valid/auc"}
