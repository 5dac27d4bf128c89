"""Fitting: a frame of features and a label in, a `Fitted` out.

What the model sees is the matrix of `online.encoding`, the same code that serving runs, so training and serving cannot differ. LightGBM
runs deterministically (row-wise histograms, one seed for all its choices, a fixed number of threads): the same rows give the same
text, byte for byte. The baseline is logistic regression with its imputing, one-hot coding and scaling *inside* one pipeline, so that it,
too, travels as one thing.
"""

import datetime as dt
import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from treadle.online.encoding import encode_frame, signature_of
from treadle.records.clock import utc
from treadle.records.definitions import FeatureView
from treadle.records.errors import TreadleError
from treadle.records.models import Fitted, Signature
from treadle.training.curves import Curves, of_lightgbm, of_logistic

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # see packaging.flavors: threads that spin starve each other

#: LightGBM's settings where the caller says nothing else.
DEFAULTS: dict[str, Any] = {"objective": "binary", "n_estimators": 80, "num_leaves": 31, "learning_rate": 0.1}
#: What makes it deterministic; these are not open to the caller.
FIXED: dict[str, Any] = {"deterministic": True, "force_row_wise": True, "num_threads": 2, "verbosity": -1}
#: Training rows that travel with a fitted model.
SAMPLE_ROWS = 4000
_REGRESSION = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie")


def fit_lightgbm(  # noqa: PLR0913  (each is a thing of its own that a caller may say)
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    label: str,
    params: Mapping[str, Any] | None = None,
    seed: int = 7,
    unknown: Mapping[str, str] | None = None,
    views: Sequence[FeatureView] = (),
    time: str | None = None,
    validation: pl.DataFrame | None = None,
    curves: Curves | None = None,
) -> Fitted:
    """Train boosted trees.

    Args:
        frame: training rows; the label is boolean or 0/1 (binary objective) or a number (regression), and never missing.
        features: columns the model takes, in order: numbers, booleans, strings (categories, coded by sorted order).
        label: the column to predict.
        params: LightGBM parameters over `DEFAULTS`; `n_estimators` is the number of trees.
        seed: of bagging, column sampling and all else that is drawn.
        unknown: rule per string column for categories not seen here: `reject`, `null` or `other`.
        views: feature views that serve some of the features online.
        time: the column whose newest value is recorded as the model's event time; the first datetime column where None.
        validation: held-out rows, looked at and not learned from.
        curves: is filled with loss (and area under the ROC curve) by iteration, `train/loss`, `valid/loss`; the model is the same.

    Raises:
        TreadleError: `bad_data` for no rows, a missing label, a label of one class; `bad_request` for a parameter that is not LightGBM's.
    """
    import lightgbm  # noqa: PLC0415  (1.2 s of CPU with scikit-learn behind it)

    settings = {**DEFAULTS, **(params or {}), **FIXED, "seed": seed}
    trees = int(settings.pop("n_estimators"))
    regression = str(settings["objective"]) in _REGRESSION
    signature, matrix, truth = prepare(frame, features, label, unknown=unknown, views=views, regression=regression)
    categorical = [i for i, column in enumerate(signature.inputs) if column.categories is not None]
    data = lightgbm.Dataset(
        matrix,
        truth,
        feature_name=[f"f{i}" for i in range(matrix.shape[1])],
        categorical_feature=categorical,
        params={"verbosity": -1},
    )
    try:
        train = functools.partial(lightgbm.train, settings, data, num_boost_round=trees)
        if curves is None:
            booster = train()
        else:
            sets = {"train": data}
            if validation is not None:
                held, outcomes = encode_frame(signature, validation), truth_of(validation, label)
                sets["valid"] = lightgbm.Dataset(held, outcomes, reference=data, params={"verbosity": -1})
            booster = of_lightgbm(train, lightgbm, sets, binary=settings["objective"] == "binary", curves=curves)
    except lightgbm.basic.LightGBMError as error:
        raise TreadleError(f"LightGBM refuses: {error}.", remedy="Look up the parameter in LightGBM's documentation.") from error
    return Fitted(
        flavor="lightgbm",
        content=booster.model_to_string(num_iteration=-1).encode(),
        signature=signature,
        label=label,
        params={**settings, "n_estimators": trees},
        output="value" if regression else "probability",
        rows=len(frame),
        event_time=newest(frame, time),
        sample=sample(frame, features),
        views=tuple(view for view in views if set(view.features) & set(features)),
        fit="lightgbm",
        time=time,
    )


def fit_logistic(  # noqa: PLR0913  (each is a thing of its own that a caller may say)
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    label: str,
    seed: int = 7,
    regularisation: float = 1.0,
    unknown: Mapping[str, str] | None = None,
    views: Sequence[FeatureView] = (),
    time: str | None = None,
    validation: pl.DataFrame | None = None,
    curves: Curves | None = None,
) -> Fitted:
    """Train the baseline: logistic regression. Arguments and errors as for `fit_lightgbm`; `regularisation` is scikit-learn's C.

    Categories are one-hot coded (unseen ones to all zeros), numbers imputed by their median and scaled, all inside the saved pipeline.
    """
    import skops.io  # noqa: PLC0415  (with scikit-learn, 1.2 s of CPU)
    from sklearn.compose import ColumnTransformer  # noqa: PLC0415
    from sklearn.impute import SimpleImputer  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import Pipeline  # noqa: PLC0415
    from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: PLC0415

    signature, matrix, truth = prepare(frame, features, label, unknown=unknown, views=views)
    coded = [i for i, column in enumerate(signature.inputs) if column.categories is not None]
    numbers = [i for i in range(len(signature.inputs)) if i not in coded]
    parts = []
    if coded:
        codes = Pipeline(
            [("impute", SimpleImputer(strategy="constant", fill_value=-1)), ("onehot", OneHotEncoder(handle_unknown="ignore"))]
        )
        parts.append(("codes", codes, coded))
    if numbers:
        scaled = Pipeline([("impute", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", StandardScaler())])
        parts.append(("numbers", scaled, numbers))
    model = Pipeline(
        [
            ("columns", ColumnTransformer(parts, sparse_threshold=0)),
            ("logistic", LogisticRegression(C=regularisation, max_iter=1000, random_state=seed)),
        ]
    )
    model.fit(matrix, truth)
    if curves is not None:
        looked_at = {"train": (matrix, truth)}
        if validation is not None:
            looked_at["valid"] = (encode_frame(signature, validation), truth_of(validation, label))
        of_logistic(model, looked_at, curves)
    return Fitted(
        flavor="sklearn",
        content=skops.io.dumps(model),
        signature=signature,
        label=label,
        params={"model": "logistic", "C": regularisation, "seed": seed},
        rows=len(frame),
        event_time=newest(frame, time),
        sample=sample(frame, features),
        views=tuple(view for view in views if set(view.features) & set(features)),
        fit="logistic",
        time=time,
    )


def refit(fitted: Fitted, frame: pl.DataFrame) -> Fitted:
    """Train the same again on other rows: the fit, features, label, parameters, seed and rules for unknown categories of `fitted`.

    What is made of rows is made of these: categories, imputed values, the sample that travels along.

    Args:
        fitted: what `fit_lightgbm` or `fit_logistic` returned.
        frame: training rows with its features and label.

    Raises:
        TreadleError: `bad_request` for a model that was taken over, which only its owner can fit; what the fit raises.
    """
    if not fitted.fit:
        raise TreadleError(
            f"A {fitted.flavor} model that was taken over cannot be fitted again: how it was trained is not known here.",
            remedy="Fit it on all rows yourself and take that over, or train it by tr.fit_lightgbm or tr.fit_logistic.",
            code="bad_request",
        )
    given: dict[str, Any] = {
        "features": [column.name for column in fitted.signature.inputs],
        "label": fitted.label,
        "seed": fitted.params["seed"],
        "unknown": {column.name: column.unknown for column in fitted.signature.inputs if column.categories is not None},
        "views": fitted.views,
        "time": fitted.time,
    }
    if fitted.fit == "logistic":
        return fit_logistic(frame, regularisation=fitted.params["C"], **given)
    return fit_lightgbm(frame, params={k: v for k, v in fitted.params.items() if k not in FIXED and k != "seed"}, **given)


def take_over(
    model: Any,
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    label: str,
    output: str = "probability",
    params: Mapping[str, Any] | None = None,
    unknown: Mapping[str, str] | None = None,
    views: Sequence[FeatureView] = (),
    time: str | None = None,
) -> Fitted:
    """Your own trained model as a `Fitted`: a LightGBM Booster or LGBM estimator, or any scikit-learn estimator.

    It must have been fitted on `prepare(frame, features, label)`'s matrix (or on numeric columns in the order of `features`, which is
    the same). `output` is `probability` or `value`.

    Raises:
        TreadleError: `bad_request` for a model of another library.
    """
    signature, _, _ = prepare(frame, features, label, unknown=unknown, views=views, regression=output == "value")
    booster = model if hasattr(model, "model_to_string") else getattr(model, "booster_", None)
    if booster is not None:
        flavor, content = "lightgbm", booster.model_to_string(num_iteration=-1).encode()
    elif hasattr(model, "predict") and hasattr(model, "get_params"):
        import skops.io  # noqa: PLC0415  (with scikit-learn, 1.2 s of CPU)

        flavor, content = "sklearn", skops.io.dumps(model)
    else:
        raise TreadleError(
            f"A {type(model).__name__} cannot be sealed.", remedy="Give a LightGBM model or a scikit-learn estimator (or pipeline)."
        )
    return Fitted(
        flavor=flavor,
        content=content,
        signature=signature,
        label=label,
        params=dict(params or {}),
        output=output,
        rows=len(frame),
        event_time=newest(frame, time),
        sample=sample(frame, features),
        views=tuple(view for view in views if set(view.features) & set(features)),
    )


def prepare(
    frame: pl.DataFrame,
    features: Sequence[str],
    label: str,
    *,
    unknown: Mapping[str, str] | None = None,
    views: Sequence[FeatureView] = (),
    regression: bool = False,
) -> tuple[Signature, np.ndarray, np.ndarray]:
    """(signature, matrix rows × features float64, truth float64) of training rows.

    Raises:
        TreadleError: `bad_data` where there is nothing to learn from.
    """
    absent = [name for name in (*features, label) if name not in frame.columns]
    if absent:
        raise TreadleError(
            f"The training rows have no column {', '.join(absent)}.", remedy=f"They have: {', '.join(frame.columns)}.", code="bad_data"
        )
    if not len(frame) or not features:
        raise TreadleError(
            f"There is nothing to learn from: {len(frame)} rows, {len(features)} features.",
            remedy="Check the time range of the training set.",
            code="bad_data",
        )
    truth = truth_of(frame, label)
    if not regression and not set(np.unique(truth)) == {0.0, 1.0}:
        kinds = ", ".join(f"{v:g}" for v in np.unique(truth)[:5])
        raise TreadleError(
            f"A binary model needs both classes, 0 and 1; the label {label!r} holds only {kinds}.",
            remedy="Check the label's column, or train with objective='regression'.",
            code="bad_data",
        )
    output = "value" if regression else "probability"
    signature = signature_of(frame, list(features), views=views, unknown=unknown, output=output)
    return signature, encode_frame(signature, frame), truth


def truth_of(frame: pl.DataFrame, label: str) -> np.ndarray:
    """The label as float64.

    Raises:
        TreadleError: `bad_data` where it is missing on some rows or is no number.
    """
    column = frame[label]
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise TreadleError(
            f"The label {label!r} is {column.dtype}, no number.",
            remedy=f"Make it boolean or a number: pl.col({label!r}) == ...",
            code="bad_data",
        )
    missing = column.null_count()
    if missing:
        raise TreadleError(
            f"The label {label!r} is missing on {missing} of {len(column)} rows.",
            remedy=f"Leave out rows whose outcome is not known yet: rows.drop_nulls({label!r})",
            code="bad_data",
        )
    return column.cast(pl.Float64).to_numpy()


def sample(frame: pl.DataFrame, features: Sequence[str]) -> bytes:
    """Evenly spaced training rows, at most `SAMPLE_ROWS`, as an Arrow file: what a bundle is proven on and drift is measured against."""
    rows = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), SAMPLE_ROWS)).astype(np.int64))
    buffer = io.BytesIO()
    frame.select(features)[rows].write_ipc(buffer, compression="zstd")
    return buffer.getvalue()


def newest(frame: pl.DataFrame, time: str | None) -> dt.datetime | None:
    """The newest value of a time column, UTC; of the first datetime column where `time` is None. None where there is none."""
    time = time or next((name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime)), None)
    if time is None or time not in frame.columns:
        return None
    value = frame[time].max()
    return utc(value) if isinstance(value, dt.datetime) else None
