"""The code of a feature view: from the rows of its source to the rows whose newest values count.

A transform is a function of a LazyFrame. It may keep the key and time columns, and then filter and reorder as it likes; where it
gives up one of them it must keep every row in its place, and they are put back beside its columns.
"""

import importlib
from collections.abc import Callable

import polars as pl

from treadle.records.definitions import Entry, FeatureView
from treadle.records.errors import TreadleError

Transform = Callable[[pl.LazyFrame], pl.LazyFrame]


def resolve(entry: Entry) -> Transform:
    """The function that an entry names, imported from the project's code.

    Raises:
        TreadleError: `bad_definition`: it is not there any more.
    """
    module, _, name = entry.path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise TreadleError(
            f"The transform {entry.path} of a feature view cannot be imported: {error}.",
            remedy="Run inside the project's folder, or apply the project again after moving its code: treadle apply",
            code="bad_definition",
        ) from error
    return getattr(found, "function", found)


def apply(view: FeatureView, frame: pl.DataFrame, time: str, transform: Transform | None) -> pl.DataFrame:
    """The rows of a view's source after its transform, with key, time and the view's columns.

    Raises:
        TreadleError: `bad_data`: the transform lost a column, or rows together with the key or time.
    """
    if transform is None:
        return frame
    made = transform(frame.lazy()).collect()
    lost = [name for name in (*view.entity, time) if name not in made.columns]
    if lost and made.height != frame.height:
        raise TreadleError(
            f"The transform of {view.name} made {made.height} rows of {frame.height} and dropped {', '.join(lost)}.",
            remedy=f"Let it keep {', '.join((*view.entity, time))} when it filters or aggregates rows.",
            code="bad_data",
            details={"view": view.name},
        )
    made = made.hstack(frame.select(lost)) if lost else made
    missing = [name for name in view.columns if name not in made.columns]
    if missing:
        raise TreadleError(
            f"The transform of {view.name} gives no column {missing[0]!r}.",
            remedy=f"It gives {', '.join(made.columns)}; declare those, or return what is declared.",
            code="bad_data",
            details={"view": view.name, "column": missing[0]},
        )
    return made
