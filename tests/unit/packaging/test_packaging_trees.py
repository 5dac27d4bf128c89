"""The ONNX export of boosted trees equals LightGBM at, below and above every threshold, with missing and unknown values."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.packaging import export, flavors, trees
from treadle.records.errors import TreadleError

FIXED = {"deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1}


def booster(seed, *, missing=True, categories=True, trees_=15, **params):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.integers(0, 12, 800), np.round(rng.random(800), 6), rng.normal(size=800), rng.integers(0, 2, 800)]).astype(
        float
    )
    if missing:
        x[rng.random(x.shape) < 0.1] = np.nan
    filled = np.nan_to_num(x, nan=0.5)
    y = filled[:, 1] + 0.5 * filled[:, 2] + (filled[:, 0] % 3 == 0) + rng.normal(0, 0.3, 800)
    settings_ = {"objective": "binary", **FIXED, **params}
    if settings_["objective"] == "binary":
        y = (y > np.median(y)).astype(float)
    data = lightgbm.Dataset(x, y, categorical_feature=[0, 3] if categories else [], params={"verbosity": -1})
    return lightgbm.train(settings_, data, trees_), x


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000), st.booleans(), st.booleans(), st.sampled_from(["binary", "regression", "regression_l1"]))
def test_equal_on_the_hardest_rows(seed, missing, categories, objective):
    model, x = booster(seed, missing=missing, categories=categories, objective=objective)
    exported = flavors.OnnxPredictor(trees.to_onnx(model, 4))
    hard = np.concatenate(
        [x, export._hard_rows(trees.thresholds(model), x, np.float64), [[12.0, 0.1, 0.2, 7.0], [-1.0, np.nan, 1e300, -1e300]]]
    )
    assert np.abs(exported.predict(hard) - model.predict(hard)).max() < 1e-12


def test_the_float32_converter_is_why():
    """What made us write our own: the usual converter, on the same rows, is wrong by far more than rounding."""
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    model, x = booster(3, categories=False, trees_=40)
    usual = onnxmltools.convert_lightgbm(model, initial_types=[("rows", FloatTensorType([None, 4]))], target_opset=15, zipmap=False)
    hard = export._hard_rows(trees.thresholds(model), x, np.float64)[:-10]
    with np.errstate(over="ignore"):
        wrong = np.abs(flavors.OnnxPredictor(usual.SerializeToString()).predict(hard) - model.predict(hard))
    ours = np.abs(flavors.OnnxPredictor(trees.to_onnx(model, 4)).predict(hard) - model.predict(hard))
    assert ours.max() < 1e-12 < 0.01 < wrong.max()


def test_the_same_bytes_again_and_one_row_at_a_time():
    model, x = booster(1)
    assert trees.to_onnx(model, 4) == trees.to_onnx(model, 4)
    exported = flavors.OnnxPredictor(trees.to_onnx(model, 4))
    one_by_one = np.concatenate([exported.predict(x[i : i + 1]) for i in range(len(x))])
    assert np.abs(exported.predict(x) - one_by_one).max() < 1e-15  # summed in another order
    assert exported.predict(np.asfortranarray(x[:7])).shape == (7,)


def test_stumps_without_splits_and_sigmoid_slopes():
    model, x = booster(5, sigmoid=0.5, trees_=3, min_gain_to_split=30.0)
    exported = flavors.OnnxPredictor(trees.to_onnx(model, 4))
    assert np.abs(exported.predict(x) - model.predict(x)).max() < 1e-12


@pytest.mark.parametrize(
    "params",
    [
        {"objective": "poisson", "categories": False},
        {"zero_as_missing": True, "categories": False},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"min_data_in_leaf": 5000},
    ],
)
def test_what_has_no_exact_counterpart_is_said(params):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 4)), rng.integers(0, 2, 300).astype(float)
    params = {k: v for k, v in params.items() if k != "categories"}
    model = lightgbm.train({"objective": "binary", **FIXED, **params}, lightgbm.Dataset(x, y, params={"verbosity": -1, **params}), 5)
    with pytest.raises(TreadleError) as caught:
        trees.to_onnx(model, 4)
    assert caught.value.code == "not_implemented"


def test_an_export_that_is_not_equal_is_not_kept():
    model, x = booster(2)
    native = flavors.LightgbmPredictor(model.model_to_string().encode())
    other, _ = booster(9)
    assert export.proven(flavors.OnnxPredictor(trees.to_onnx(other, 4)), native, x) > 0.01
    assert export.proven(flavors.OnnxPredictor(trees.to_onnx(model, 4)), native, x) < 1e-12
