"""Training as pipeline steps.

The functions here are what a project calls. Each resolves, in the body of the run, what a step must be given by value (the columns of
feature views, the rules for unknown categories from the datasets' schemas) and then calls the journaled step, so that the cache key holds
all that the fit depends on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from treadle.pipelines import step
from treadle.pipelines.context import peek
from treadle.pipelines.measures import record_points
from treadle.records.definitions import FeatureView, Project, bare
from treadle.records.errors import TreadleError
from treadle.records.models import Fitted
from treadle.training import fit
from treadle.training.curves import Curves


def fit_lightgbm(
    rows: Any,
    *,
    features: Sequence[Any],
    label: str,
    params: Mapping[str, Any] | None = None,
    seed: int = 7,
    unknown: Mapping[str, str] | None = None,
    time: str | None = None,
    validation: Any = None,
    curves: bool = False,
) -> Fitted:
    """Train boosted trees as a step; see `training.fit.fit_lightgbm`.

    Args:
        rows: training rows, a frame or the handle of one.
        features: column names, and feature views, which stand for all their columns.
        label: the column to predict.
        params: LightGBM parameters.
        seed: of all that is drawn.
        unknown: rule per string column; default: what the datasets' schemas say, else `null`.
        time: the rows' time column.
        validation: held-out rows, or their handle: the run gets `valid/loss` and `valid/auc` by iteration beside the training's. The
            model learns nothing from them and is the same.
        curves: the same of the training rows alone.
    """
    names, views = columns_of(features)
    given = (rows, names, label, dict(params or {}), seed, unknown_rules(names, unknown), views, time)
    if validation is None and not curves:
        return _fit_lightgbm(*given)
    fitted, points = _fit_lightgbm_watched(*given, validation)
    record_points(points)
    return fitted


def fit_logistic(
    rows: Any,
    *,
    features: Sequence[Any],
    label: str,
    regularisation: float = 1.0,
    seed: int = 7,
    unknown: Mapping[str, str] | None = None,
    time: str | None = None,
    validation: Any = None,
    curves: bool = False,
) -> Fitted:
    """Train the linear baseline as a step; see `training.fit.fit_logistic`, and `fit_lightgbm` here for the arguments."""
    names, views = columns_of(features)
    given = (rows, names, label, regularisation, seed, unknown_rules(names, unknown), views, time)
    if validation is None and not curves:
        return _fit_logistic(*given)
    fitted, points = _fit_logistic_watched(*given, validation)
    record_points(points)
    return fitted


@step(name="refit")
def refit(fitted: Fitted, rows: pl.DataFrame) -> Fitted:
    """Train the same model again on other rows as a step; see `training.fit.refit`."""
    return fit.refit(fitted, rows)


@step(name="fit_lightgbm")
def _fit_lightgbm(
    rows: pl.DataFrame,
    features: list[str],
    label: str,
    params: dict[str, Any],
    seed: int,
    unknown: dict[str, str],
    views: tuple[FeatureView, ...],
    time: str | None,
) -> Fitted:
    return fit.fit_lightgbm(rows, features=features, label=label, params=params, seed=seed, unknown=unknown, views=views, time=time)


@step(name="fit_logistic")
def _fit_logistic(
    rows: pl.DataFrame,
    features: list[str],
    label: str,
    regularisation: float,
    seed: int,
    unknown: dict[str, str],
    views: tuple[FeatureView, ...],
    time: str | None,
) -> Fitted:
    return fit.fit_logistic(
        rows, features=features, label=label, regularisation=regularisation, seed=seed, unknown=unknown, views=views, time=time
    )


@step(name="fit_lightgbm")
def _fit_lightgbm_watched(
    rows: pl.DataFrame,
    features: list[str],
    label: str,
    params: dict[str, Any],
    seed: int,
    unknown: dict[str, str],
    views: tuple[FeatureView, ...],
    time: str | None,
    validation: pl.DataFrame | None,
) -> tuple[Fitted, Curves]:
    seen: Curves = {}
    given: dict[str, Any] = {"params": params, "seed": seed, "unknown": unknown, "views": views, "time": time}
    return fit.fit_lightgbm(rows, features=features, label=label, validation=validation, curves=seen, **given), seen


@step(name="fit_logistic")
def _fit_logistic_watched(
    rows: pl.DataFrame,
    features: list[str],
    label: str,
    regularisation: float,
    seed: int,
    unknown: dict[str, str],
    views: tuple[FeatureView, ...],
    time: str | None,
    validation: pl.DataFrame | None,
) -> tuple[Fitted, Curves]:
    seen: Curves = {}
    given: dict[str, Any] = {"regularisation": regularisation, "seed": seed, "unknown": unknown, "views": views, "time": time}
    return fit.fit_logistic(rows, features=features, label=label, validation=validation, curves=seen, **given), seen


def columns_of(features: Sequence[Any]) -> tuple[list[str], tuple[FeatureView, ...]]:
    """(column names, the feature views among them) of what a project gives as features.

    A name `view.feature` of a view of the running project brings that view along.

    Raises:
        TreadleError: `bad_definition` for something that is neither a name nor a feature view, or a column named twice.
    """
    names: list[str] = []
    views: dict[str, FeatureView] = {}
    project = _project()
    known = {name: view for view in (project.feature_views if project else ()) for name in view.features}
    for feature in features:
        view = getattr(feature, "definition", feature)
        if isinstance(view, FeatureView):
            names += view.features
            views[view.name] = bare(view)
        elif isinstance(feature, str):
            names.append(feature)
            if feature in known:
                views.setdefault(known[feature].name, bare(known[feature]))
        else:
            raise TreadleError(f"{feature!r} is no feature.", remedy="Give names of columns, or feature views.", code="bad_definition")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TreadleError(f"Features named twice: {', '.join(twice)}.", remedy="Name each once.", code="bad_definition")
    return names, tuple(views.values())


_STRICTNESS = ("null", "other", "reject")


def unknown_rules(names: Sequence[str], unknown: Mapping[str, str] | None) -> dict[str, str]:
    """Rule per column for unknown categories: what the schemas of the project's datasets say, overridden by the caller.

    Where several datasets have a column of that name, the strictest rule holds: a refusal that one of them asks for is not lost.
    """
    project = _project()
    declared: dict[str, str] = {}
    for column in (c for dataset in (project.datasets if project else ()) for c in dataset.columns if c.dtype == "string"):
        declared[column.name] = max(declared.get(column.name, "null"), column.unknown, key=_STRICTNESS.index)
    return {name: rule for name, rule in {**declared, **(unknown or {})}.items() if name in names}


def _project() -> Project | None:
    running = peek()
    found = running.resources.get("project") if running else None
    return found if isinstance(found, Project) else None
