"""All features of a table of rows, each row as of its own moment.

This is the one definition of what a feature's value is: training sets are made with it, and the online store must give the same bits
(a test compares them, and so does the replay of the demo).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from treadle.features.asof import AsofIndex, micros_of, take
from treadle.features.transforms import Transform, apply, resolve
from treadle.features.windows import window_features
from treadle.online.windows import SECOND
from treadle.records.definitions import FeatureView
from treadle.records.errors import TreadleError


class Source(NamedTuple):
    """A dataset's rows, in the order they were appended, and the name of their time column: the moment at which a row is known."""

    frame: pl.DataFrame
    time: str


def join_features(
    rows: pl.DataFrame,
    *,
    time: str,
    views: Iterable[FeatureView],
    sources: Mapping[str, Source],
    transforms: Mapping[str, Transform] | None = None,
) -> pl.DataFrame:
    """`rows` with a column `view.feature` per feature of each view; row count and order stay.

    Args:
        rows: entity columns of all views, and `time`.
        time: the column of each row's moment.
        views: the feature views; a source may be shared.
        sources: by dataset name. Rows later than a row's moment do not exist for it.
        transforms: by view name, in place of importing the view's own.

    Raises:
        TreadleError: `bad_data`: a column is missing or of a type that does not fit; `not_found`: a source is missing.
    """
    moments, timed = micros_of(rows.get_column(time))
    indexes: dict[tuple[str, str, tuple[str, ...]], tuple[AsofIndex, np.ndarray]] = {}
    added: list[pl.Series] = []
    for view in views:
        source = _source(view, sources)
        transform = (transforms or {}).get(view.name) or (resolve(view.transform) if view.transform else None)
        frame = apply(view, source.frame, source.time, transform)
        shared = (view.source, "" if transform is None else view.name, view.entity)
        if shared not in indexes:
            index = AsofIndex(frame, by=view.entity, time=source.time)
            indexes[shared] = (index, np.where(timed, index.codes(rows), -1))
        index, codes = indexes[shared]
        if view.windows:
            named = {f"{view.name}.{name}": window for name, window in view.windows.items()}
            added += window_features(frame, index, codes, moments, named)
        else:
            positions = index.newest(codes, moments, ttl_us=None if view.ttl_s is None else view.ttl_s * SECOND)
            added += take(frame, view.columns, positions, prefix=f"{view.name}.")
    return rows.hstack(added)


def _source(view: FeatureView, sources: Mapping[str, Source]) -> Source:
    if view.source not in sources:
        raise TreadleError(
            f"The feature view {view.name} reads the dataset {view.source!r}, which was not given.",
            remedy=f"Pass it in sources; there are {', '.join(sources) or 'none'}.",
            code="not_found",
        )
    return sources[view.source]
