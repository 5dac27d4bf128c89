"""XGBoost's files, read without XGBoost: what it predicted itself stands beside them."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.packaging import export, ubjson, xgb
from treadle.packaging.flavors import OnnxPredictor, XgboostPredictor
from treadle.packaging.trees import from_xgboost
from treadle.records.errors import TreadleError
from treadle.records.models import Fitted, InputColumn, Signature

MODELS = Path(__file__).parent / "xgboost_models"
SAID = np.load(MODELS / "expected.npz")
ROWS = SAID["rows"]
READABLE = ("logistic", "squared", "poisson", "dart", "forest")


def content(name: str) -> bytes:
    return (MODELS / f"{name}.ubj").read_bytes()


@pytest.mark.parametrize("name", READABLE)
def test_it_predicts_what_xgboost_predicts(name: str) -> None:
    """Up to float32's rounding of the sum of the leaves, which XGBoost does and this does not."""
    assert np.isnan(ROWS).any()
    np.testing.assert_allclose(xgb.read(content(name)).predict(ROWS), SAID[name], rtol=1e-7, atol=2e-7 * np.abs(SAID[name]).max())


@pytest.mark.parametrize("name", READABLE)
def test_the_graph_is_equal_at_every_threshold_too(name: str) -> None:
    inputs = tuple(InputColumn(name=letter, dtype="float64") for letter in "abcd")
    fitted = Fitted(flavor="xgboost", content=content(name), signature=Signature(inputs=inputs), label="")
    made, difference = export.export(fitted, XgboostPredictor(content(name)), ROWS)
    assert made is not None
    assert difference is not None
    assert difference < 1e-9
    np.testing.assert_allclose(OnnxPredictor(made).predict(ROWS[:1]), xgb.read(content(name)).predict(ROWS[:1]), rtol=1e-12)


def test_a_value_beside_a_threshold_goes_where_float32_sends_it() -> None:
    """1e-12 above a threshold is the threshold in float32, hence not below it: right. A float64 comparison would agree here and differ
    1e-12 below it."""
    model = xgb.read(content("squared"))
    feature, threshold = xgb.thresholds(model)[3]
    rows = np.repeat(ROWS[:1], 3, axis=0)
    rows[:, feature] = threshold, threshold - 1e-12, np.nextafter(np.float32(threshold), np.float32(-np.inf))
    at, just_below, below = model.predict(rows)
    assert at == just_below != below
    np.testing.assert_array_equal(OnnxPredictor(from_xgboost(model)).predict(rows), model.predict(rows))


def test_json_and_ubjson_are_the_same_model() -> None:
    written = xgb.read((MODELS / "forest.json").read_bytes())
    np.testing.assert_array_equal(written.predict(ROWS), xgb.read(content("forest")).predict(ROWS))


def test_the_best_iteration_is_kept() -> None:
    cut = xgb.best_only(content("early"))
    assert len(xgb.read(cut).trees) < len(xgb.read(content("early")).trees)
    np.testing.assert_allclose(xgb.read(cut).predict(ROWS), SAID["early"], atol=2e-7)
    assert xgb.best_only(cut) == cut
    assert xgb.best_only(content("logistic")) == content("logistic")


@pytest.mark.parametrize(("name", "why"), [("classes", "several outputs"), ("linear", "gblinear"), ("categories", "categories")])
def test_what_is_not_read_says_why(name: str, why: str) -> None:
    with pytest.raises(TreadleError, match=why) as told:
        xgb.read(content(name))
    assert told.value.code == "not_implemented"
    assert "mlflow.onnx" in told.value.remedy


def test_a_file_cut_anywhere_is_corrupt() -> None:
    whole = content("logistic")
    for size in range(0, len(whole), 97):
        with pytest.raises(TreadleError) as told:
            xgb.read(whole[:size])
        assert told.value.code == "corrupt"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(content("logistic")) - 1), st.binary(min_size=1, max_size=9))
def test_a_damaged_file_is_refused_or_read_and_never_more(at: int, damage: bytes) -> None:
    whole = content("logistic")
    with contextlib.suppress(TreadleError):
        model = xgb.read(whole[:at] + damage + whole[at + len(damage) :])
        assert model.predict(np.zeros((3, model.inputs))).shape == (3,)


@pytest.mark.parametrize(
    "bad",
    [b"", b"{", b"[$Z#L\x00\x00\x00\xff\x00\x00\x00\x00", b"[$d]", b"x", b"SU\xff", b"[" * 100, b"Zi", b"[#d\x00\x00\x00\x00", b"{i\xff"],
)
def test_no_ubjson(bad: bytes) -> None:
    with pytest.raises(TreadleError, match="no UBJSON") as told:
        ubjson.decode(bad)
    assert told.value.code == "corrupt"


def test_ubjson_values() -> None:
    assert ubjson.decode(b"{i\x01a[i\x05SU\x02hiTFZC!NI\x01\x00]i\x01b[$i#i\x02\x01\xff}") == {
        "a": [5, "hi", True, False, None, "!", 256],
        "b": pytest.approx(np.array([1, -1])),
    }
    assert ubjson.decode(b"{#i\x01i\x01a[#i\x02i\x01d?\x80\x00\x00") == {"a": [1, 1.0]}
