"""Fitting: deterministic, the same on any number of threads, and clear about what it cannot learn from."""

import datetime as dt
import io

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from treadle.evaluation.metrics import roc_auc
from treadle.packaging.scoring import score_fitted
from treadle.records.definitions import FeatureView, Window
from treadle.records.errors import TreadleError
from treadle.training import fit, reproduce

VIEW = FeatureView(
    name="lateness",
    entity=("carrier",),
    source="flights",
    windows={"share": Window(column="late", aggregate="mean", over_s=3600, hop_s=60)},
)
FEATURES = ["carrier", "distance", "lateness.share", "night"]


def rows(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    share = rng.random(n)
    frame = pl.DataFrame(
        {
            "carrier": rng.choice(["AA", "UA", None], n).tolist(),
            "distance": rng.integers(80, 3000, n),
            "lateness.share": share,
            "night": rng.random(n) < 0.3,
            "minutes": share * 30 + rng.normal(0, 3, n),
            "at": [dt.datetime(2013, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=i) for i in range(n)],
        }
    )
    return frame.with_columns(late=pl.col("minutes") > 15)


def small(frame, **changes):
    return fit.fit_lightgbm(
        frame, **{"features": FEATURES, "label": "late", "params": {"n_estimators": 10}, "views": [VIEW], "time": "at", **changes}
    )


def test_the_same_rows_give_the_same_bytes():
    first, again = small(rows()), small(rows())
    assert first == again
    assert small(rows(), seed=8, params={"n_estimators": 10, "bagging_fraction": 0.5, "bagging_freq": 1}).content != first.content
    assert first.event_time == dt.datetime(2013, 1, 2, 9, 19, tzinfo=dt.UTC)
    assert first.views == (VIEW,)
    assert [c.origin for c in first.signature.inputs] == ["request", "request", "view", "request"]
    assert len(pl.read_ipc(io.BytesIO(first.sample))) == 2000
    linear = [fit.fit_logistic(rows(), features=FEATURES, label="late") for _ in range(2)]
    assert np.array_equal(score_fitted(linear[0], rows()), score_fitted(linear[1], rows()))


@pytest.mark.parametrize(
    "first",
    [
        lambda rows: small(rows, unknown={"carrier": "other"}, params={"n_estimators": 7, "num_leaves": 5}, seed=3),
        lambda rows: fit.fit_lightgbm(rows, features=["distance"], label="minutes", params={"objective": "regression"}),
        lambda rows: fit.fit_logistic(rows, features=FEATURES, label="late", regularisation=0.1, seed=5, views=[VIEW], time="at"),
    ],
    ids=["trees", "regression", "logistic"],
)
def test_a_refit_is_the_same_fit_on_other_rows(first):
    half, whole = rows().head(1000).with_columns(carrier=pl.lit("AA")), rows()
    again, wanted = fit.refit(first(half), whole), first(whole)
    assert structs.replace(again, content=b"") == structs.replace(wanted, content=b"")
    assert np.array_equal(score_fitted(again, whole), score_fitted(wanted, whole))  # an archive of skops holds the time it was written
    assert not np.array_equal(score_fitted(again, whole), score_fitted(first(half), whole))


def test_a_model_that_was_taken_over_cannot_be_fitted_again():
    import lightgbm

    booster = lightgbm.train({"verbosity": -1}, lightgbm.Dataset(rows().select("distance").to_numpy(), rows()["late"].to_numpy()), 2)
    taken = fit.take_over(booster, rows(), features=["distance"], label="late")
    with pytest.raises(TreadleError, match="taken over cannot be fitted again") as caught:
        fit.refit(taken, rows())
    assert "tr.fit_lightgbm" in caught.value.remedy


def test_both_learn_and_regression_too():
    train, test = rows(), rows(seed=1)
    truth = test["late"].cast(float).to_numpy()
    assert roc_auc(truth, score_fitted(small(train), test)) > 0.95
    assert roc_auc(truth, score_fitted(fit.fit_logistic(train, features=FEATURES, label="late"), test)) > 0.95
    value = small(train, label="minutes", params={"objective": "regression", "n_estimators": 40})
    assert (value.output, value.signature.output) == ("value", "value")
    assert np.abs(score_fitted(value, test) - test["minutes"].to_numpy()).mean() < 4


def test_your_own_estimator_is_taken_over():
    import lightgbm
    from sklearn.ensemble import HistGradientBoostingClassifier

    train = rows(600)
    _, matrix, truth = fit.prepare(train, FEATURES, "late")
    for model in (HistGradientBoostingClassifier(max_iter=5), lightgbm.LGBMClassifier(n_estimators=5, verbosity=-1, n_jobs=1)):
        model.fit(matrix, truth)
        taken = fit.take_over(model, train, features=FEATURES, label="late")
        assert np.allclose(score_fitted(taken, train), model.predict_proba(matrix)[:, 1])
    with pytest.raises(TreadleError, match="cannot be sealed"):
        fit.take_over(object(), train, features=FEATURES, label="late")


@pytest.mark.parametrize(
    ("frame", "changes", "words"),
    [
        (rows(0), {}, "nothing to learn from"),
        (rows(), {"features": []}, "nothing to learn from"),
        (rows(), {"label": "tardy"}, "no column tardy"),
        (rows().with_columns(late=pl.lit(True)), {}, "holds only 1"),
        (rows().with_columns(late=pl.when(pl.col("night")).then("late")), {}, "missing on"),
        (rows(), {"label": "carrier"}, "no number"),
        (rows(), {"features": ["at"]}, "at"),
        (rows(), {"params": {"objective": "nonsense"}}, "LightGBM refuses"),
    ],
)
def test_what_cannot_be_learned_from(frame, changes, words):
    with pytest.raises(TreadleError, match=words) as caught:
        small(frame, **changes)
    assert caught.value.remedy


def test_reproduction_verdicts():
    first, again = small(rows()), small(rows())
    scores = score_fitted(first, rows())
    same = reproduce.compare(first.content, again.content, predictions=scores, again=score_fitted(again, rows()))
    assert (same.verdict, same.equal_digest, same.max_difference) == ("identical", True, 0.0)
    linear = reproduce.compare(b"a", b"b", predictions=scores, again=scores + 1e-12)
    assert linear.verdict == "equal"
    other = reproduce.compare(
        b"a",
        b"b",
        predictions=scores,
        again=scores + 0.1,
        before={"code": "abc", "environment": ["numpy==2.0"], "trained_on": ["d1"]},
        after={"code": "abc", "environment": ["numpy==2.1"], "trained_on": ["d1"]},
    )
    assert other.verdict == "different"
    assert other.changed == ("environment: -numpy==2.0, +numpy==2.1",)
    assert "0.1" in other.text
    assert reproduce.compare(b"a", b"b", predictions=scores, again=scores[:-1]).verdict == "different"
    assert reproduce.compare(b"a", b"b").verdict == "different"
