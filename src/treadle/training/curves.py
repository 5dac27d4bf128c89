"""Curves of a fit, iteration by iteration, on the training rows and on rows held out: taken beside it, so that looking changes nothing.

A curve is name → (iteration, value), with iterations from 1: `train/loss`, `valid/loss`, `train/auc`, `valid/auc`.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Curves = dict[str, list[tuple[int, float]]]
Array = NDArray[np.float64]
#: Rows that a curve's ranks are computed on.
_ROWS = 50_000
_LOSSES = {"binary_logloss", "l2", "l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie", "cross_entropy"}


def of_lightgbm(train: Callable[..., Any], lightgbm: Any, sets: dict[str, Any], *, binary: bool, curves: Curves) -> Any:
    """Call `train` (a `lightgbm.train` that lacks only what is watched) and fill `curves`; returns the booster.

    Args:
        sets: role (`train`, `valid`) → LightGBM's dataset.
    """
    recorded: dict[str, dict[str, list[float]]] = {}
    booster = train(
        valid_sets=list(sets.values()),
        valid_names=list(sets),
        feval=_auc if binary else None,  # its own `metric` would stand in the model's text
        callbacks=[lightgbm.record_evaluation(recorded)],
    )
    for role, metrics in recorded.items():
        for name, values in metrics.items():
            known = "loss" if name in _LOSSES else name
            curves[f"{role}/{known}"] = [(i, float(value)) for i, value in enumerate(values, 1)]
    return booster


def _auc(scores: Array, data: Any) -> tuple[str, float, bool]:
    return "auc", auc(np.asarray(data.get_label(), dtype=np.float64), scores), True


def of_logistic(model: Any, matrices: dict[str, tuple[Array, Array]], curves: Curves) -> None:
    """Fill `curves` for a fitted pipeline that ends in logistic regression.

    Its solver is deterministic, so stopping it after i iterations gives the point that it passed; done at 1, 2, 3, 5, 8, 13, … of them.

    Args:
        matrices: role → (matrix, truth); `train` is what it was fitted on.
    """
    from sklearn.base import clone  # noqa: PLC0415  (with scikit-learn, 1.2 s of CPU)

    ready = {role: (model[:-1].transform(matrix), truth) for role, (matrix, truth) in matrices.items()}
    last = int(np.max(model[-1].n_iter_))
    for i in [n for n in _fibonacci(last) if n < last] + [last]:
        early: Any = clone(model[-1])
        early.set_params(max_iter=max(1, i))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged is what is looked at
            early.fit(*ready["train"])
        for role, (matrix, truth) in ready.items():
            scores = early.predict_proba(matrix)[:, 1]
            curves.setdefault(f"{role}/loss", []).append((i, log_loss(truth, scores)))
            curves.setdefault(f"{role}/auc", []).append((i, auc(truth, scores)))


def _fibonacci(last: int) -> list[int]:
    found = [1, 2]
    while found[-1] < last:
        found.append(found[-1] + found[-2])
    return found


def log_loss(truth: Array, scores: Array) -> float:
    """Mean negative log likelihood of probabilities, clipped at the machine epsilon."""
    p = np.clip(scores, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    return float(-np.mean(truth * np.log(p) + (1 - truth) * np.log1p(-p)))


def auc(truth: Array, scores: Array) -> float:
    """Area under the ROC curve with ties counted half, on at most 50,000 evenly spaced rows. NaN with one class.

    >>> auc(np.array([0.0, 1.0, 1.0]), np.array([0.1, 0.1, 0.9]))
    0.75
    """
    every = -(-len(truth) // _ROWS)
    truth, scores = truth[::every], np.asarray(scores)[::every]
    positive = truth > 0.5
    ones = int(positive.sum())
    if not 0 < ones < len(truth):
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return float((ranks[positive].sum() - ones * (ones + 1) / 2.0) / (ones * (len(truth) - ones)))
