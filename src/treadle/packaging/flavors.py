"""Flavors: how the bytes of a model become something that predicts.

Predictors behind one method, `predict(matrix) -> scores`: ONNX Runtime where the bundle has an export that was proven equal, LightGBM's
text model, scikit-learn through skops, and XGBoost's files read by `xgb`. No flavor unpickles: skops builds objects from a list of
trusted types, and a type outside scikit-learn's own must be trusted by name by whoever loads the bundle. The heavy libraries are imported
by the flavor that needs them, because a gateway that serves an ONNX export must not pay a second for LightGBM and scikit-learn.
"""

import os
import zipfile
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from treadle.packaging import xgb
from treadle.records.errors import TreadleError

Matrix = NDArray[np.float64]
Scores = NDArray[np.float64]

# OpenMP's threads spin while they wait for each other, which on a busy machine made 0.05 s of LightGBM into 3 s. Read when the first
# library with OpenMP is loaded, hence set before any is.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

#: From this many rows on, LightGBM predicts with two threads: below, waking a thread costs more than it saves.
_THREADED_ROWS = 2000
#: Types beyond skops' own list that building a model may use: plain holders of data that run no code.
_HARMLESS = ("numpy.dtype", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor")


class Predictor(Protocol):
    """Scores rows. One instance may be used by several threads."""

    kind: str

    def predict(self, matrix: Matrix) -> Scores:
        """Scores of a (rows × inputs) float64 matrix with NaN for missing: float64, one a row."""
        ...


class OnnxPredictor:
    """An ONNX graph on one thread of the CPU. Its input is float64 or float32 (then values are rounded); its output `score`, one a row,
    or scikit-learn's pair of labels and probabilities."""

    kind = "onnx"

    def __init__(self, content: bytes):
        import onnxruntime  # noqa: PLC0415  (107 ms of CPU; only where there is an export)

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        taken = self._session.get_inputs()[0]
        self._input = taken.name
        self._dtype = np.float64 if taken.type == "tensor(double)" else np.float32
        self._output = self._session.get_outputs()[-1].name

    def predict(self, matrix: Matrix) -> Scores:
        """Scores; see `Predictor`."""
        result: Any = self._session.run([self._output], {self._input: np.ascontiguousarray(matrix, dtype=self._dtype)})[0]
        scores = result[:, -1] if result.ndim == 2 else result
        return scores.astype(np.float64, copy=False)


class LightgbmPredictor:
    """A LightGBM text model: probability of class 1 for binary objectives, the value for regression."""

    kind = "lightgbm"

    def __init__(self, content: bytes):
        import lightgbm  # noqa: PLC0415  (imports scipy and scikit-learn)

        try:
            self.booster: Any = lightgbm.Booster(model_str=content.decode())
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
            raise _unreadable("LightGBM", error) from error

    def predict(self, matrix: Matrix) -> Scores:
        """Scores; see `Predictor`."""
        threads = 1 if len(matrix) < _THREADED_ROWS else 2
        return np.asarray(self.booster.predict(matrix, num_threads=threads), dtype=np.float64)


class XgboostPredictor:
    """XGBoost's own file, evaluated here without XGBoost: the model that an export is proven against."""

    kind = "xgboost"

    def __init__(self, content: bytes):
        self.model = xgb.read(content)

    def predict(self, matrix: Matrix) -> Scores:
        """Scores; see `Predictor`."""
        return self.model.predict(matrix)


class SklearnPredictor:
    """A scikit-learn estimator read by skops: `predict_proba`'s last column where it has one, else `predict`."""

    kind = "sklearn"

    def __init__(self, content: bytes, trust: Sequence[str] = ()):
        import skops.io  # noqa: PLC0415  (imports scikit-learn)

        try:
            foreign = [name for name in skops.io.get_untrusted_types(data=content) if name not in (*trust, *_HARMLESS)]
            if foreign:
                raise TreadleError(
                    f"The model holds types that nobody here has trusted: {', '.join(foreign)}.",
                    remedy=f"If you know where it comes from, load it with trust={foreign!r}.",
                    code="denied",
                    details={"types": foreign},
                )
            self.estimator: Any = skops.io.loads(content, trusted=[*trust, *_HARMLESS])
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise _unreadable("scikit-learn (skops)", error) from error

    def predict(self, matrix: Matrix) -> Scores:
        """Scores; see `Predictor`."""
        if hasattr(self.estimator, "predict_proba"):
            return np.ascontiguousarray(self.estimator.predict_proba(matrix)[:, -1], dtype=np.float64)
        return np.asarray(self.estimator.predict(matrix), dtype=np.float64)


def load(flavor: str, content: bytes, *, onnx: bytes | None = None, trust: Sequence[str] = ()) -> Predictor:
    """The predictor of a model: the ONNX export where one is given, else the native one.

    Args:
        flavor: `lightgbm`, `sklearn`, `xgboost` or `onnx`.
        content: the native model's bytes.
        onnx: an export that was proven equal to it.
        trust: names of types outside scikit-learn's own that skops may build.

    Raises:
        TreadleError: `bad_request` for an unknown flavor, `corrupt` for bytes that are no such model, `denied` for untrusted types.
    """
    if onnx is not None:
        return OnnxPredictor(onnx)
    if flavor == "lightgbm":
        return LightgbmPredictor(content)
    if flavor == "sklearn":
        return SklearnPredictor(content, trust)
    if flavor == "xgboost":
        return XgboostPredictor(content)
    if flavor == "onnx":
        return OnnxPredictor(content)
    raise TreadleError(f"{flavor!r} is no model flavor.", remedy="Use 'lightgbm', 'sklearn', 'xgboost' or 'onnx'.", code="bad_request")


def _unreadable(what: str, error: Exception) -> TreadleError:
    return TreadleError(
        f"These bytes are no {what} model: {str(error).splitlines()[0] if str(error) else type(error).__name__}.",
        remedy="Seal the bundle again from its run: treadle reproduce MODEL@N",
        code="corrupt",
    )
