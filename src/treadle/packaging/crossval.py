"""Cross-validation: fit and measure several times, each on rows that the fit has not seen.

Each fold goes the whole way that a candidate goes: fit, encode as serving does, score, measure. The means and deviations go to the run
that is going on: `cv/roc_auc` by fold, `cv/roc_auc_mean`, `cv/roc_auc_std`.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import polars as pl

from treadle.data import folds as splits
from treadle.evaluation.metrics import Array, MetricKind, find, measure
from treadle.online.encoding import encode_frame
from treadle.packaging.scoring import score_fitted
from treadle.pipelines import step, value
from treadle.pipelines.measures import record_points
from treadle.records.clock import seconds
from treadle.records.errors import TreadleError
from treadle.records.models import Fitted
from treadle.records.validation import CrossValidation, FoldMetrics
from treadle.training import fit as fits
from treadle.training import steps as training

#: What may be named instead of given.
FITS: dict[str, Callable[..., Fitted]] = {"lightgbm": training.fit_lightgbm, "logistic": training.fit_logistic}


def cross_validate(  # noqa: PLR0913  (how to fit, how to split, what to measure)
    rows: Any,
    fit: Any = "lightgbm",
    *,
    features: Sequence[Any],
    label: str,
    folds: int = 5,
    by: str = "random",
    time: str | None = None,
    group: str | None = None,
    gap: str | dt.timedelta | None = None,
    metrics: Sequence[Any] = ("roc_auc", "brier"),
    seed: int = 7,
    **settings: Any,
) -> CrossValidation:
    """Measure a way of fitting on several folds; the run gets each fold's metrics, their means and standard deviations.

    Args:
        rows: rows with features and label, or their handle.
        fit: `lightgbm`, `logistic`, an estimator of scikit-learn (cloned for each fold), or a function of (rows, features=, label=) that
            gives a `Fitted`, such as `tr.fit_lightgbm`.
        features: column names and feature views.
        label: the column to predict.
        folds: how many.
        by: `random`, each row tested once; or `time`, forward chaining: trained on the past of what is tested.
        time: the time column; the first datetime column where None.
        group: a column whose values never stand on both sides.
        gap: with `time`: how long it takes until a row's label is known, `1d`; younger rows are not trained on.
        metrics: names of `evaluation.metrics`, or functions marked by `@metric`.
        seed: of the folds and the fits.
        settings: for the fit: `params=`, `regularisation=`, …

    Raises:
        TreadleError: `bad_data` for rows that do not make the folds; `bad_definition` for a metric that is none.

    >>> cross_validate(rows, features=["a"], label="late", by="time").text  # doctest: +SKIP
    'roc_auc 0.81 ± 0.02, brier 0.14 ± 0.01 over 5 folds by time'
    """
    if by not in ("random", "time"):
        raise TreadleError(f"Folds are not made by {by!r}.", remedy="Write by='random' or by='time'.")
    if isinstance(fit, str) and fit not in FITS:
        raise TreadleError(f"There is no fit {fit!r}.", remedy=f"Name one of {', '.join(FITS)}, or give a function or an estimator.")
    names, _ = training.columns_of(features)
    if fit in (*FITS, *FITS.values()):
        settings = {"seed": seed, **settings}
        settings["unknown"] = training.unknown_rules(names, settings.get("unknown"))
    how = {"folds": folds, "by": by, "time": time, "group": group, "gap": seconds(gap) if gap else None}
    measured = _cross_validate(rows, fit, names, label, list(metrics), seed, how, settings)
    record_points(points_of(value(measured)))
    return measured


@step(name="cross_validate")
def _cross_validate(
    rows: pl.DataFrame,
    fit: Any,
    features: list[str],
    label: str,
    metrics: list[Any],
    seed: int,
    how: dict[str, Any],
    settings: dict[str, Any],
) -> CrossValidation:
    time, group, by = how["time"], how["group"], how["by"]
    if by == "time":
        made = splits.forward(rows, folds=how["folds"], time=time, group=group, gap=how["gap"])
    else:
        outcomes = rows[label] if label in rows.columns else None
        binary = outcomes is not None and (outcomes.dtype == pl.Boolean or outcomes.n_unique() <= 2)
        made = splits.at_random(rows, folds=how["folds"], seed=seed, group=group, stratify=label if binary else None)
    kinds = [find(metric) for metric in metrics]
    moments = time or next((name for name, kind in rows.schema.items() if isinstance(kind, pl.Datetime)), None)
    found: list[FoldMetrics] = []
    for number, fold in enumerate(made):
        train, test = rows[fold.train], rows[fold.test]
        scores = _scores(fit, train, test, features, label, settings)
        found.append(_fold(number, train, test, label, scores, kinds, moments))
    names = [kind.name for kind in kinds]
    values = {name: [f.metrics[name] for f in found if name in f.metrics] for name in names}
    return CrossValidation(
        by=by,
        group=group,
        folds=tuple(found),
        mean={name: fmean(some) for name, some in values.items() if some},
        std={name: stdev(some) for name, some in values.items() if len(some) > 1},
    )


def _scores(fit: Any, train: pl.DataFrame, test: pl.DataFrame, features: list[str], label: str, settings: Mapping[str, Any]) -> Array:
    """Scores of the test rows by a model of the training rows."""
    if hasattr(fit, "get_params"):
        from sklearn.base import clone  # noqa: PLC0415  (with scikit-learn, 1.2 s of CPU)

        estimator: Any = clone(fit)
        probable = hasattr(estimator, "predict_proba")
        signature, matrix, truth = fits.prepare(train, features, label, regression=not probable)
        estimator.fit(matrix, truth)
        held = encode_frame(signature, test)
        scores = estimator.predict_proba(held)[:, 1] if probable else estimator.predict(held)
        return np.asarray(scores, dtype=np.float64)
    made = FITS[fit] if isinstance(fit, str) else fit
    fitted = made(train, features=features, label=label, **settings)
    if not isinstance(fitted, Fitted):
        raise TreadleError(
            f"The fit gave a {type(fitted).__name__}.", remedy="Let it give a Fitted: tr.fit_lightgbm, or training.fit.take_over(…)"
        )
    return score_fitted(fitted, test)


def _fold(
    number: int, train: pl.DataFrame, test: pl.DataFrame, label: str, scores: Array, kinds: Sequence[MetricKind], time: str | None
) -> FoldMetrics:
    edges: dict[str, Any] = {}
    if time is not None and isinstance(train.schema[time], pl.Datetime):
        edges = {"train_until": train[time].max(), "test_from": test[time].min(), "test_until": test[time].max()}
    measured = measure(fits.truth_of(test, label), scores, kinds)
    return FoldMetrics(fold=number, train_rows=train.height, test_rows=test.height, metrics=measured, **edges)


def points_of(found: CrossValidation) -> dict[str, list[tuple[int, float]]]:
    """What the run gets: each fold's metrics by its number, means and deviations."""
    points: dict[str, list[tuple[int, float]]] = {}
    for fold in found.folds:
        for name, number in fold.metrics.items():
            points.setdefault(f"cv/{name}", []).append((fold.fold, number))
    points |= {f"cv/{name}_mean": [(0, number)] for name, number in found.mean.items()}
    return points | {f"cv/{name}_std": [(0, number)] for name, number in found.std.items()}
