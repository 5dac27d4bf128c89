"""ONNX export, kept only where it is proven equal.

An export that differs from its model on one row in ten thousand is worse than none, so the proof looks for trouble: the real rows that
the caller gives, and for trees a row at, just below and just above every threshold, with missing values and extremes. An
export that fails for any reason costs nothing but speed: the bundle is then served by the model itself.
"""

from typing import Any

import numpy as np

from treadle.packaging import trees, xgb
from treadle.packaging.flavors import LightgbmPredictor, Matrix, OnnxPredictor, Predictor, SklearnPredictor, XgboostPredictor
from treadle.records.errors import TreadleError
from treadle.records.models import Fitted

#: Largest absolute difference between export and model for which the export is kept.
TOLERANCE = 1e-6
_MOST_THRESHOLDS = 20_000


def export(fitted: Fitted, native: Predictor, proof: Matrix) -> tuple[bytes | None, float | None]:
    """(ONNX model, largest difference on the proof rows); (None, difference or None) where it is not equal or cannot be made.

    Args:
        fitted: the model.
        native: its own predictor.
        proof: real rows, encoded.
    """
    inputs = len(fitted.signature.inputs)
    try:
        if isinstance(native, LightgbmPredictor):
            content = trees.to_onnx(native.booster, inputs)
            proof = np.concatenate([proof, _hard_rows(trees.thresholds(native.booster), proof, np.float64)])
        elif isinstance(native, XgboostPredictor):
            content = trees.from_xgboost(native.model)
            proof = np.concatenate([proof, _hard_rows(xgb.thresholds(native.model), proof, np.float32)])
        elif isinstance(native, SklearnPredictor):
            content = _from_sklearn(native.estimator, inputs)
        else:
            return None, None
    except (TreadleError, RecursionError):  # a tree may be deeper than Python goes
        return None, None
    difference = proven(OnnxPredictor(content), native, proof)
    return (content, difference) if difference <= TOLERANCE else (None, difference)


def proven(exported: Predictor, native: Predictor, rows: Matrix) -> float:
    """The largest absolute difference on `rows`; infinite where the export gives something that is no finite number."""
    said, meant = exported.predict(rows), native.predict(rows)
    if said.shape != meant.shape or not np.isfinite(said).all():
        return float("inf")
    return float(np.max(np.abs(said - meant), initial=0.0))


def _hard_rows(found: list[tuple[int, float]], proof: Matrix, kind: Any) -> Matrix:
    """Rows made from proof rows, each with one input put at a threshold or its neighbour among numbers of `kind`; and rows of extremes."""
    found = found[:_MOST_THRESHOLDS]
    features = np.repeat(np.array([f for f, _ in found], dtype=np.int64), 3)
    at = np.array([v for _, v in found], dtype=kind)
    values = np.stack([at, np.nextafter(at, kind(-np.inf)), np.nextafter(at, kind(np.inf))], axis=1).astype(np.float64).reshape(-1)
    rows = proof[np.arange(len(features)) % len(proof)].copy()
    rows[np.arange(len(features)), features] = values
    extremes = np.array([[value] * proof.shape[1] for value in (np.nan, 0.0, -1.0, 1e6, 1e300, -1e300)])
    missing = np.repeat(proof[:1], proof.shape[1], axis=0)
    np.fill_diagonal(missing, np.nan)
    return np.concatenate([rows, extremes, missing])


def _from_sklearn(estimator: Any, inputs: int) -> bytes:
    """scikit-learn through skl2onnx, in float64 where its operators allow that, else in float32.

    Raises:
        TreadleError: `not_implemented` where it does not convert.
    """
    import skl2onnx  # noqa: PLC0415  (1.6 s of CPU; only where a bundle is sealed)
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType  # noqa: PLC0415

    problem: Exception | None = None
    for tensor in (DoubleTensorType, FloatTensorType):
        try:
            options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
            model: Any = skl2onnx.convert_sklearn(
                estimator,
                "treadle",
                initial_types=[("rows", tensor([None, inputs]))],
                options=options and {id(estimator): options},
                target_opset=17,
            )
            _in_order(model)
            content = model.SerializeToString(deterministic=True)
            OnnxPredictor(content)  # some conversions succeed and cannot be loaded
            return content
        except Exception as error:  # noqa: BLE001  (the converter and ONNX Runtime raise of many kinds; each means: served natively)
            problem = error
    raise TreadleError(f"No ONNX export: {problem}", remedy="It is served natively.", code="not_implemented") from problem


def _in_order(model: Any) -> None:
    """Put the operator sets that a model imports into the order of their names: skl2onnx writes them in the order of a Python set, which
    the process's hash seed decides, and a bundle's digest must not depend on that."""
    wanted = sorted((imported.domain, imported.version) for imported in model.opset_import)
    for imported, (domain, version) in zip(model.opset_import, wanted, strict=True):
        imported.domain, imported.version = domain, version
