"""Keeping the online store equal to the datasets.

The datasets are the truth. For each source the store remembers the number of the version that it has (a mark, in the same transaction as
the rows), so pushing can stop anywhere and go on: no row is missing and none counts twice. What is pushed is exactly what
`features.join` reads, so both give the same bits.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import polars as pl

from treadle.features.asof import micros_of
from treadle.features.transforms import Transform, apply, resolve
from treadle.online.store import SqliteOnline
from treadle.online.windows import SECOND, columns_of, reach
from treadle.records.clock import from_micros
from treadle.records.data import DatasetVersion
from treadle.records.definitions import Dataset, FeatureView, Project
from treadle.records.errors import TreadleError

DAY_US = 86_400_000_000


class Reads(Protocol):
    """What is needed of the data room."""

    def newest(self, project: str, dataset: str) -> DatasetVersion | None:
        """The newest version."""
        ...

    def read(self, project: str, dataset: str, number: int = 0, *, after: int = 0) -> pl.LazyFrame:
        """The rows of a version that version `after` had not."""
        ...


def push(store: SqliteOnline, view: FeatureView, rows: pl.DataFrame, *, time: str, transform: Transform | None = None) -> None:
    """Push rows of a view's source, in the order they were appended.

    Args:
        store: the online store.
        view: the view.
        rows: rows of its source.
        time: the source's time column.
        transform: in place of importing the view's own.

    Raises:
        TreadleError: `bad_data`: a column is missing or of a type that is no feature.
    """
    transform = transform or (resolve(view.transform) if view.transform else None)
    rows = apply(view, rows, time, transform)
    names = columns_of(view) if view.windows else view.columns
    missing = [n for n in (*view.entity, time, *names) if n not in rows.columns]
    if missing:
        raise TreadleError(
            f"The rows for the feature view {view.name} lack {missing[0]!r}.",
            remedy=f"Its source must have {', '.join((*view.entity, time, *names))}.",
            code="bad_data",
            details={"view": view.name, "column": missing[0]},
        )
    moments, timed = micros_of(rows.get_column(time))
    if not timed.all():
        rows, moments = rows.filter(pl.Series(timed)), moments[np.flatnonzero(timed)]
    keys = list(rows.select(view.entity).iter_rows())
    columns = {n: _plain(view, rows.get_column(n)) for n in names}
    (store.push_events if view.windows else store.push_values)(view, keys, moments.tolist(), columns)


def push_version(
    store: SqliteOnline,
    views: Iterable[FeatureView],
    dataset: Dataset,
    rows: pl.DataFrame,
    version: DatasetVersion,
    *,
    transforms: Mapping[str, Transform] | None = None,
    now_us: int | None = None,
) -> bool:
    """Push the rows that a version added, once: False where the store had it, or where it lacks versions before it (`catch_up` then).

    Args:
        store: the online store.
        views: all views; those of other sources are passed over.
        dataset: the dataset.
        rows: the rows that the version added.
        version: what `DataService.append` returned.
        transforms: by view name, in place of importing the views' own.
        now_us: business time; what no read from a day before it on needs is forgotten.
    """
    with store.batch():
        if store.marked(dataset.name) != version.number - 1 or not store.mark(dataset.name, version.number):
            return False
        _push_all(store, views, dataset, rows, transforms or {})
        if now_us is not None:
            store.prune(now_us - DAY_US)
    return True


def catch_up(
    store: SqliteOnline,
    data: Reads,
    project: Project,
    *,
    transforms: Mapping[str, Transform] | None = None,
    now_us: int | None = None,
) -> int:
    """Push everything that the sources of a project's views have and the store has not; returns the rows pushed."""
    pushed = 0
    used = {view.source for view in project.feature_views}
    for dataset in project.datasets:
        version = data.newest(project.name, dataset.name) if dataset.name in used else None
        if version is None or store.marked(dataset.name) >= version.number:
            continue
        with store.batch():
            before = store.marked(dataset.name)
            rows = data.read(project.name, dataset.name, version.number, after=before).collect()
            if store.mark(dataset.name, version.number):
                needed = _needed(rows, project, dataset, now_us)
                _push_all(store, project.feature_views, dataset, needed, transforms or {})
                if now_us is not None and needed.height < rows.height:
                    store.prune(now_us - DAY_US, always=True)  # in the same transaction: nobody reads as if they were there
                pushed += rows.height
    if now_us is not None:
        store.prune(now_us - DAY_US)
    return pushed


def rebuild(
    store: SqliteOnline,
    data: Reads,
    project: Project,
    *,
    transforms: Mapping[str, Transform] | None = None,
    now_us: int | None = None,
) -> int:
    """Forget everything and push it again, in one transaction: readers see the old store until the new one is whole."""
    with store.batch():
        store.clear()
        return catch_up(store, data, project, transforms=transforms, now_us=now_us)


def _needed(rows: pl.DataFrame, project: Project, dataset: Dataset, now_us: int | None) -> pl.DataFrame:
    """The rows that a read from a day before now on can still need: what is older would be pushed only to be pruned."""
    views = [view for view in project.feature_views if view.source == dataset.name]
    if now_us is None or any(not view.windows and view.ttl_s is None for view in views):
        return rows
    keep = max((reach(view) if view.windows else (view.ttl_s or 0) * SECOND for view in views), default=0)
    since = from_micros(now_us - DAY_US - keep)
    return rows.filter(pl.col(_time(dataset)).dt.replace_time_zone("UTC") >= since) if rows.height else rows


def _push_all(
    store: SqliteOnline, views: Iterable[FeatureView], dataset: Dataset, rows: pl.DataFrame, transforms: Mapping[str, Transform]
) -> None:
    for view in views:
        if view.source == dataset.name:
            push(store, view, rows, time=_time(dataset), transform=transforms.get(view.name))


def _time(dataset: Dataset) -> str:
    if dataset.time is None:
        raise TreadleError(
            f"The dataset {dataset.name} has features but no time column.",
            remedy=f"Declare when its rows are known: tr.dataset({dataset.name!r}, time=…)",
            code="bad_definition",
        )
    return dataset.time


def _plain(view: FeatureView, series: pl.Series) -> list[Any]:
    kind = series.dtype
    if not (kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Null, pl.Categorical, pl.Enum)):
        raise TreadleError(
            f"The feature {view.name}.{series.name} is {kind}, which no model takes.",
            remedy="Derive a number, string or boolean from it in the view's transform.",
            code="bad_data",
            details={"view": view.name, "column": series.name},
        )
    return (series.cast(pl.Float64) if kind.is_decimal() else series).to_list()
