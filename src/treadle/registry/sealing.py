"""From a logged model's files to a sealed bundle, where that can be done without running what is inside.

ONNX graphs, LightGBM's text models, XGBoost's own files and scikit-learn estimators in skops' format are read as data. A pickle is a
program: it is refused, and the error says how to log the model otherwise. The signature that was logged gives the inputs; the bundle is
proven on the example that was logged, or on made-up rows where there is none.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from treadle.packaging import bundle as bundles
from treadle.packaging import flavors, xgb
from treadle.plugins.storage import BlobStore
from treadle.records.errors import TreadleError
from treadle.records.models import Fitted, InputColumn, ModelVersion, Signature
from treadle.registry.evidence import gather, model_files
from treadle.registry.mlmodel import flavors_of
from treadle.store.db import Connection

_DTYPES = {"double": "float64", "float": "float64", "long": "int64", "integer": "int64", "boolean": "bool"}
_EXAMPLES = ("serving_input_example.json", "input_example.json")
_MADE_UP = 32
HOW = (
    "Log it in a format that is data: mlflow.onnx.log_model, mlflow.xgboost.log_model, mlflow.lightgbm.log_model of a Booster, or "
    'mlflow.sklearn.log_model(…, serialization_format="skops").'
)


class Files:
    """The files of an unsealed version, read when they are asked for."""

    def __init__(self, blobs: BlobStore, found: Sequence[tuple[str, str, int]]):
        self._blobs = blobs
        self.digests = {path: digest for path, digest, _ in found}

    def get(self, path: str) -> bytes | None:
        """One file's bytes, None where there is none."""
        digest = self.digests.get(path)
        return None if digest is None else self._blobs.get(digest)

    def text(self, path: str) -> str:
        """One file as text, empty where there is none."""
        return (self.get(path) or b"").decode(errors="replace")


def make_bundle(tx: Connection, blobs: BlobStore, version: ModelVersion, *, trust: Sequence[str] = ()) -> str:
    """Seal the files of a version; returns the bundle's digest, the same for the same files. Reads the database only.

    Args:
        trust: types outside scikit-learn's own that skops may build.

    Raises:
        TreadleError: `not_found` where it has no files here, `not_implemented` for a format that cannot be read as data, `denied` for
            types that nobody trusted, `bad_data` where nothing says what the inputs are.
    """
    named = f"{version.model}@{version.number}"
    files = Files(blobs, model_files(tx, version))
    if not files.digests:
        raise TreadleError(
            f"There are no files of {named} in this home ({version.source or 'no source'}).",
            remedy="Log the model to this server and register that, or register its bundle: treadle.candidate(…)",
            code="not_found",
        )
    flavor, content = _content(named, files)
    columns = _columns(named, files, flavor, content)
    if flavor == "xgboost":
        columns = _in_its_order(named, xgb.read(content), columns)
    output = _output(named, flavor, content, trust)
    known = gather(tx, blobs, version)
    signature = Signature(inputs=columns, output=output)
    digest, _ = bundles.seal(
        blobs,
        Fitted(flavor=flavor, content=content, signature=signature, label="", params=dict(known.params), output=output),
        project=version.project,
        model=version.model,
        run_id=version.run_id,
        event_time=version.event_time,
        proof=_proof(files, columns),
        trained_on=[d.digest for d in known.data],
        code_digest=known.code.get("code snapshot", ""),
        environment=[f"{name}=={number}" for name, number in known.environment.items()],
        card={"params": dict(known.params), "source": version.source, "model_id": version.model_id},
        trust=trust,
    )
    return digest


def _content(named: str, files: Files) -> tuple[str, bytes]:
    """Which of our flavors it is, and the native model's bytes."""
    told = flavors_of(files.text("MLmodel"))
    data = {name: settings.get("data") or settings.get("pickled_model") or "" for name, settings in told.items()}
    if "onnx" in told and (content := files.get(data["onnx"] or "model.onnx")):
        return "onnx", content
    if "lightgbm" in told:
        content = files.get(data["lightgbm"] or "model.lgb") or b""
        if content.startswith(b"tree\n"):
            return "lightgbm", content
    if "xgboost" in told:
        content = files.get(data["xgboost"] or "model.ubj") or b""
        if content[:1] == b"{":
            alone = told["xgboost"].get("model_class", "").endswith(".Booster")
            return "xgboost", content if alone else xgb.best_only(content)
    for path in (data.get("sklearn", ""), *(p for p in files.digests if p.endswith(".skops"))):
        if path.endswith(".skops") and (content := files.get(path)):
            return "sklearn", content
    if not told:  # files without an MLmodel: one that says itself what it is
        for path in files.digests:
            content = files.get(path) or b""
            if path.endswith(".onnx"):
                return "onnx", content
            if path.endswith(".txt") and content.startswith(b"tree\n"):
                return "lightgbm", content
    kinds = ", ".join(name for name in told if name != "python_function") or "no known format"
    raise TreadleError(
        f"{named} cannot be sealed: its files ({kinds}: {', '.join(sorted(files.digests)[:6])}) cannot be read as data here.",
        remedy=HOW,
        code="not_implemented",
        details={"flavors": sorted(told)},
    )


def _columns(named: str, files: Files, flavor: str, content: bytes) -> tuple[InputColumn, ...]:
    """The inputs: those of the logged signature, else those that the model itself names."""
    matched = re.search(r"^  inputs: '((?:[^']|'')*)'", files.text("MLmodel"), re.M)
    written = re.sub(r"\n\s*", " ", matched[1]).replace("''", "'") if matched else "[]"
    try:
        logged = [c for c in json.loads(written) if isinstance(c, dict)]
    except ValueError:
        logged = []
    if logged and all(c.get("name") and c.get("type") in _DTYPES for c in logged):
        return tuple(InputColumn(name=str(c["name"]), dtype=_DTYPES[c["type"]], nullable=not c.get("required", True)) for c in logged)
    odd = [f"{c.get('name', '?')} ({c.get('type', '?')})" for c in logged if c.get("type") not in (*_DTYPES, "tensor")]
    if odd:
        raise TreadleError(
            f"{named} takes inputs that are no numbers: {', '.join(odd[:6])}.",
            remedy="Encode them before the model, or train it in a pipeline here: treadle.fit_lightgbm keeps categories with the model.",
            code="not_implemented",
        )
    names = _own_names(flavor, content)
    width = next((c["tensor-spec"]["shape"][-1] for c in logged if c.get("type") == "tensor" and c.get("tensor-spec", {}).get("shape")), 0)
    if not names and isinstance(width, int) and 0 < width < 100_000:
        names = [f"x{i}" for i in range(width)]
    if not names:
        raise TreadleError(
            f"Nothing says what the inputs of {named} are.",
            remedy="Log the model with a signature: mlflow.models.infer_signature(inputs, predictions)",
            code="bad_data",
        )
    return tuple(InputColumn(name=name, dtype="float64") for name in names)


def _in_its_order(named: str, model: xgb.Boosted, columns: tuple[InputColumn, ...]) -> tuple[InputColumn, ...]:
    """The columns as the trees count them."""
    if len(columns) != model.inputs:
        raise TreadleError(
            f"The signature of {named} has {len(columns)} inputs, its trees {model.inputs}.",
            remedy="Log the model with the signature of what it was trained on: mlflow.models.infer_signature(inputs, predictions)",
            code="bad_data",
        )
    by_name = {column.name: column for column in columns}
    return tuple(by_name[name] for name in model.names) if set(by_name) == set(model.names) else columns


def _own_names(flavor: str, content: bytes) -> list[str]:
    if flavor == "xgboost":
        model = xgb.read(content)
        return model.names or [f"x{i}" for i in range(model.inputs)]
    if flavor != "lightgbm":
        return []
    matched = re.search(rb"^feature_names=(.*)$", content, re.M)
    return matched[1].decode().split() if matched else []


def _output(named: str, flavor: str, content: bytes, trust: Sequence[str]) -> str:
    """Whether a prediction is a probability of class 1 or a value; several classes are refused."""
    several = 0
    probability = False
    if flavor == "lightgbm":
        if re.search(rb"^pandas_categorical:\[.*\[", content, re.M):
            raise TreadleError(
                f"{named} was trained on pandas categories, whose codes are not in its text.",
                remedy="Train on numbers, or here: treadle.fit_lightgbm keeps categories with the model.",
                code="not_implemented",
            )
        matched = re.search(rb"^num_class=(\d+)$", content, re.M)
        several = int(matched[1]) if matched else 1
        probability = re.search(rb"^objective=(binary|cross_entropy)", content, re.M) is not None
    elif flavor == "xgboost":
        probability = xgb.read(content).link == "sigmoid"
    elif flavor == "sklearn":
        estimator = flavors.SklearnPredictor(content, trust).estimator
        several = len(getattr(estimator, "classes_", ())) - 1
        probability = hasattr(estimator, "predict_proba")
    if several > 1:
        raise TreadleError(
            f"{named} tells more than two classes apart; a bundle holds one score a row.",
            remedy="Seal one model for each class, or serve it elsewhere.",
            code="not_implemented",
        )
    return "probability" if probability else "value"


def _proof(files: Files, columns: Sequence[InputColumn]) -> Any:
    """Rows to prove the bundle on: the logged example, and made-up ones, the same each time."""
    width = len(columns)
    rows = np.random.default_rng(7).normal(size=(_MADE_UP, width))
    rows[0], rows[1] = 0.0, 1.0
    for path in _EXAMPLES:
        example = _example(files.get(path), [c.name for c in columns])
        if example is not None:
            return np.concatenate([example, rows])
    return rows


def _example(content: bytes | None, names: Sequence[str]) -> Any:
    """A logged example in pandas' `split` form, as rows; None where it has another."""
    try:
        read = msgspec.json.decode(content or b"")
        split = read.get("dataframe_split", read)
        places = [split["columns"].index(name) for name in names]
        rows = np.array([[float(row[i]) for i in places] for row in split["data"]], dtype=np.float64)
    except (msgspec.DecodeError, AttributeError, KeyError, ValueError, TypeError, IndexError):
        return None
    return rows[:1000] if rows.ndim == 2 and len(rows) and np.isfinite(rows).all() else None
