"""Sealing what was logged: formats that are data become bundles, and programs are refused."""

import json
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
import skops.io
from registry_house import NOW, House
from sklearn.linear_model import LogisticRegression

from treadle.operations import registry as ops
from treadle.packaging import bundle
from treadle.packaging.trees import to_onnx
from treadle.records.errors import TreadleError
from treadle.registry.mlmodel import flavors_of, schema_of
from treadle.store.queries.models import insert_files

P = "flights"
RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(200, 2))
LATE = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int)
MODELS = Path(__file__).parents[1] / "packaging" / "xgboost_models"  # what XGBoost itself wrote and predicted: make.py
XGBOOST = {path.stem: path.read_bytes() for path in MODELS.glob("*.ubj")}
XGBOOST_SAID = np.load(MODELS / "expected.npz")
COLUMNS = [{"type": "double", "name": "wind", "required": True}, {"type": "long", "name": "it's", "required": False}]


def mlmodel(flavor: str, data: str, columns=COLUMNS) -> bytes:
    inputs = json.dumps(columns).replace("'", "''").replace(", ", ",\n    ", 1)  # YAML folds long lines
    return (
        f"artifact_path: model\nflavors:\n  python_function:\n    loader_module: mlflow.{flavor}\n  {flavor}:\n    data: {data}\n"
        f"    code: null\nrun_id: r1\nsignature:\n  inputs: '{inputs}'\n  outputs: null\n"
    ).encode()


def booster(objective="binary", **params):
    given = {"objective": objective, "num_leaves": 4, "verbose": -1, "num_threads": 1, "deterministic": True, **params}
    return lgb.train(given, lgb.Dataset(ROWS, LATE, feature_name=["wind", "rain"]), 5)


@pytest.fixture
def house(database, tmp_path):
    return House(database, tmp_path / "blobs")


def logged(house, files: dict[str, bytes]) -> ops.CreateVersion:
    rows = [(f"model/{path}", house.blobs.put(content), len(content)) for path, content in files.items()]
    house.database.write(lambda tx: insert_files(tx, P, "r1", rows, NOW))
    return house(ops.CreateVersion(project=P, model="delay", run_id="r1", source="runs:/r1/model", create=True))


def sealed(house, number=1, **more):
    digest = house.registry.seal_files(P, "delay", number, **more)
    version = house(ops.SealVersion(project=P, model="delay", number=number, bundle_digest=digest))
    assert version.state == "validated"
    return bundle.load(house.blobs, digest, native=True)


def test_a_lightgbm_text_model(house):
    example = {"columns": ["wind", "it's"], "data": [[0.1, 2], [0.3, 4]]}
    files = {"MLmodel": mlmodel("lightgbm", "model.lgb"), "model.lgb": booster().model_to_string().encode()}
    logged(house, {**files, "input_example.json": json.dumps(example).encode(), "requirements.txt": b"lightgbm==4.6.0\nnumpy\n"})
    manifest, predictor = sealed(house)
    assert (manifest.flavor, manifest.signature.output, manifest.environment) == ("lightgbm", "probability", ("lightgbm==4.6.0",))
    assert [(c.name, c.dtype, c.nullable) for c in manifest.signature.inputs] == [("wind", "float64", False), ("it's", "int64", True)]
    assert manifest.onnx_equal is not None
    np.testing.assert_allclose(predictor.predict(ROWS[:9]), booster().predict(ROWS[:9]))
    assert house.registry.seal_files(P, "delay", 1) == house.version(1).bundle_digest  # the same files, the same bundle
    house.decide(house.ask(1).approval_id)
    assert house.version(1).state == "approved"


def test_an_onnx_graph(house):
    logged(house, {"MLmodel": mlmodel("onnx", "model.onnx"), "model.onnx": to_onnx(booster(), 2)})
    manifest, predictor = sealed(house)
    assert (manifest.flavor, next(f.path for f in manifest.files), manifest.signature.output) == ("onnx", "model.onnx", "value")
    np.testing.assert_allclose(predictor.predict(ROWS[:9]), booster().predict(ROWS[:9]), atol=1e-6)


def test_a_scikit_learn_estimator_by_skops(house):
    fitted = LogisticRegression().fit(ROWS, LATE)
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]
    logged(house, {"MLmodel": mlmodel("sklearn", "model.skops", tensor), "model.skops": skops.io.dumps(fitted)})
    manifest, predictor = sealed(house)
    assert ([c.name for c in manifest.signature.inputs], manifest.signature.output) == (["x0", "x1"], "probability")
    np.testing.assert_allclose(predictor.predict(ROWS[:9]), fitted.predict_proba(ROWS[:9])[:, 1])


@pytest.mark.parametrize(("kept", "expected"), [("xgboost.core.Booster", "early_all"), ("xgboost.sklearn.XGBClassifier", "early")])
def test_an_xgboost_model_predicts_as_its_class_does(house, kept, expected):
    columns = [{"type": "double", "name": name, "required": False} for name in "abcd"]
    told = mlmodel("xgboost", "model.ubj", columns).replace(b"    code: null", f"    model_class: {kept}\n    code: null".encode())
    logged(house, {"MLmodel": told, "model.ubj": XGBOOST["early"]})
    manifest, predictor = sealed(house)
    assert (manifest.flavor, manifest.signature.output) == ("xgboost", "probability")
    assert manifest.onnx_equal is not None  # it is served by ONNX Runtime, without XGBoost
    np.testing.assert_allclose(predictor.predict(XGBOOST_SAID["rows"]), XGBOOST_SAID[expected], atol=2e-7)
    served = bundle.load(house.blobs, house.version(1).bundle_digest)[1]
    assert served.kind == "onnx"
    np.testing.assert_allclose(served.predict(XGBOOST_SAID["rows"]), XGBOOST_SAID[expected], atol=2e-7)
    house.decide(house.ask(1).approval_id)
    assert house.version(1).state == "approved"


def test_xgboosts_own_order_of_inputs_counts(house):
    columns = [{"type": "double", "name": name} for name in "dcba"]
    logged(house, {"MLmodel": mlmodel("xgboost", "model.ubj", columns), "model.ubj": XGBOOST["logistic"]})
    manifest, _ = sealed(house)
    assert [c.name for c in manifest.signature.inputs] == list("abcd")


class Foreign:
    """A type that nobody trusted."""


def test_what_is_not_sealed(house):
    import pickle

    several = lgb.train(
        {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}, lgb.Dataset(ROWS, np.arange(200) % 3), 2
    )
    words = [{"type": "string", "name": "carrier"}]
    text = booster().model_to_string().encode()
    cases = [
        ({"MLmodel": mlmodel("sklearn", "model.pkl"), "model.pkl": pickle.dumps(LogisticRegression())}, "not_implemented", "read as data"),
        ({"MLmodel": mlmodel("xgboost", "model.ubj"), "model.ubj": b"\x80pickle"}, "not_implemented", "xgboost"),
        ({"MLmodel": mlmodel("xgboost", "model.ubj"), "model.ubj": b"{}"}, "corrupt", "XGBoost"),
        ({"MLmodel": mlmodel("xgboost", "model.ubj"), "model.ubj": XGBOOST["classes"]}, "not_implemented", "several outputs"),
        ({"MLmodel": mlmodel("xgboost", "model.ubj"), "model.ubj": XGBOOST["logistic"]}, "bad_data", "2 inputs, its trees 4"),
        ({"MLmodel": mlmodel("lightgbm", "model.lgb"), "model.lgb": several.model_to_string().encode()}, "not_implemented", "two classes"),
        ({"MLmodel": mlmodel("lightgbm", "model.lgb", words), "model.lgb": text}, "not_implemented", "carrier"),
        ({"MLmodel": mlmodel("onnx", "model.onnx", []), "model.onnx": to_onnx(booster(), 2)}, "bad_data", "inputs"),
        ({"MLmodel": mlmodel("lightgbm", "model.lgb"), "model.lgb": b"tree\nrubbish"}, "corrupt", "LightGBM"),
    ]
    for number, (files, code, said) in enumerate(cases, 1):
        rows = [(f"case{number}/{path}", house.blobs.put(content), len(content)) for path, content in files.items()]
        house.database.write(lambda tx, rows=rows: insert_files(tx, P, "r1", rows, NOW))
        request = ops.CreateVersion(project=P, model="delay", run_id="r1", source=f"runs:/r1/case{number}", create=True)
        assert house(request).number == number
        with pytest.raises(TreadleError, match=said) as caught:
            house.registry.seal_files(P, "delay", number)
        assert caught.value.code == code
        assert house.version(number).state == "candidate"
    house(ops.CreateVersion(project=P, model="delay", source="s3://bucket/m"))
    with pytest.raises(TreadleError, match="no files") as caught:
        house.registry.seal_files(P, "delay", len(cases) + 1)


def test_a_folder_says_what_it_is_without_yaml():
    text = mlmodel("lightgbm", "model.lgb").decode()
    assert flavors_of(text) == {
        "python_function": {"loader_module": "mlflow.lightgbm"},
        "lightgbm": {"data": "model.lgb", "code": "null"},
    }
    assert schema_of(text) == {"input wind": "double", "input it's": "long (optional)"}
    assert schema_of("signature:\n  inputs: '[broken'\n") == {}
