"""Cross-validation: the measured numbers are those of the folds, no future is seen, and the run gets means and deviations."""

import datetime as dt
from statistics import fmean, stdev

import numpy as np
import polars as pl
import pytest

import treadle as tr
from treadle.data import folds
from treadle.evaluation.metrics import brier, roc_auc
from treadle.packaging.crossval import points_of
from treadle.packaging.scoring import score_fitted
from treadle.records.errors import TreadleError
from treadle.training import fit


def rows(n: int = 600, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return pl.DataFrame(
        {
            "a": a,
            "who": rng.integers(0, 30, n),
            "kind": rng.choice(["x", "y"], n).tolist(),
            "late": a + rng.normal(0, 1, n) > 0,
            "at": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=i) for i in range(n)],
        }
    )


def test_the_numbers_are_those_of_fitting_each_fold_by_hand():
    frame = rows()
    found = tr.cross_validate(frame, "logistic", features=["a", "kind"], label="late", folds=4, seed=3)
    by_hand = []
    for train, test in folds.at_random(frame, folds=4, seed=3, stratify="late"):
        model = fit.fit_logistic(frame[train], features=["a", "kind"], label="late", seed=3)
        truth, scores = frame[test]["late"].cast(pl.Float64).to_numpy(), score_fitted(model, frame[test])
        by_hand.append({"roc_auc": roc_auc(truth, scores), "brier": brier(truth, scores)})
    assert [f.metrics for f in found.folds] == by_hand
    assert found.mean == {name: fmean(m[name] for m in by_hand) for name in ("roc_auc", "brier")}
    assert found.std["roc_auc"] == stdev(m["roc_auc"] for m in by_hand)
    assert found.text.startswith(f"roc_auc {found.mean['roc_auc']:.4g} ± ")
    assert found.text.endswith("over 4 folds by chance")
    assert sum(f.test_rows for f in found.folds) == 600


def test_along_time_nothing_of_the_future_is_seen():
    found = tr.cross_validate(rows(), features=["a"], label="late", by="time", gap="5h", folds=3, params={"n_estimators": 5})
    assert [f.train_rows for f in found.folds] == [145, 295, 445]
    for fold in found.folds:
        assert fold.train_until + dt.timedelta(hours=5) < fold.test_from <= fold.test_until


def test_a_leak_through_groups_is_closed():
    """Each person's label is drawn once: known persons give the label away, and grouped folds know none."""
    rng = np.random.default_rng(0)
    label = rng.random(30) < 0.5
    frame = rows(900).with_columns(late=pl.Series(label[rows(900)["who"].to_numpy()]))
    given = {"features": ["who"], "label": "late", "folds": 5, "params": {"n_estimators": 30, "min_data_in_leaf": 5}}
    assert tr.cross_validate(frame, **given).mean["roc_auc"] > 0.95
    assert tr.cross_validate(frame, group="who", **given).mean["roc_auc"] < 0.75


def test_every_kind_of_fit():
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LinearRegression

    frame = rows()
    given = {"features": ["a"], "label": "late", "folds": 3, "metrics": ["roc_auc"]}
    found = [
        tr.cross_validate(frame, "lightgbm", **given),
        tr.cross_validate(frame, tr.fit_lightgbm, **given),
        tr.cross_validate(frame, lambda rows, features, label: tr.fit_logistic(rows, features=features, label=label), **given),
        tr.cross_validate(frame, RandomForestClassifier(20, random_state=0), **given),
    ]
    assert found[0] == found[1]
    assert all(0.6 < one.mean["roc_auc"] < 0.9 for one in found)
    number = tr.cross_validate(frame, LinearRegression(), **{**given, "label": "a", "features": ["who"], "metrics": ["rmse"]})
    assert number.mean["rmse"] == pytest.approx(1, abs=0.2)


def test_what_cannot_be_validated():
    frame = rows(60)
    for changes, text in (
        ({"by": "luck"}, "not made by"),
        ({"fit": "magic"}, "no fit 'magic'"),
        ({"fit": lambda rows, features, label, params: 3}, "gave a int"),
        ({"metrics": ["nice"]}, "no metric"),
        ({"folds": 100}, "do not make"),
        ({"features": ["nothing"]}, "no column"),
    ):
        with pytest.raises(TreadleError, match=text):
            tr.cross_validate(frame, **{"features": ["a"], "label": "late", "params": {"n_estimators": 2}, **changes})


def test_an_open_run_gets_means_and_deviations(tmp_path):
    with tr.run("cv", project="p", home=tmp_path / "home", system_every=None, offline=True) as run:
        found = tr.cross_validate(rows(), "logistic", features=["a"], label="late", folds=3, metrics=["roc_auc"])
        logged = [(entry[2], entry[3]) for entry in run._reader.again() if entry[0] == "m"]
    assert [step for step, _ in logged] == [0, 1, 2]
    assert logged[0][1] == {
        "cv/roc_auc": found.folds[0].metrics["roc_auc"],
        "cv/roc_auc_mean": found.mean["roc_auc"],
        "cv/roc_auc_std": found.std["roc_auc"],
    }
    assert [number for _, number in points_of(found)["cv/roc_auc"]] == [f.metrics["roc_auc"] for f in found.folds]
