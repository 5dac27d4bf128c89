"""How a project declares its features.

A function without parameters returns what the view has: a dict of windows, or a list of columns whose newest values are taken. A
function of a LazyFrame is a transform of the source, whose columns are the features.
"""

import datetime as dt
import inspect
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import polars as pl
from msgspec import structs

from treadle.data.declare import places
from treadle.data.schema import POLARS
from treadle.features.transforms import Transform
from treadle.pipelines.code import code_digest
from treadle.records.clock import seconds
from treadle.records.definitions import Dataset, Entry, FeatureView, Window
from treadle.records.errors import TreadleError


class TransformedView:
    """A feature view whose code stands in the project: callable as it was written, and a definition."""

    def __init__(self, function: Transform, view: FeatureView):
        self.function = function
        self._view = view
        self.__name__ = view.name
        self.__doc__ = function.__doc__

    @cached_property
    def definition(self) -> FeatureView:
        """The view as a record, its code digested."""
        digest, _ = code_digest(self.function)
        path = f"{self.function.__module__}:{self.function.__qualname__}"
        return structs.replace(self._view, transform=Entry(path=path, code=digest))

    @property
    def features(self) -> tuple[str, ...]:
        """The feature columns it gives, `view.feature`."""
        return self.definition.features

    def __call__(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return self.function(frame)

    def __repr__(self) -> str:
        return f"<feature view {self.__name__}>"


AnyView = FeatureView | TransformedView


def view_of(view: AnyView) -> FeatureView:
    """The record of a feature view, however it was declared."""
    return view if isinstance(view, FeatureView) else view.definition


def window(column: str, aggregate: str, *, over: str | dt.timedelta, hop: str | dt.timedelta = "1m") -> Window:
    """An aggregate over `floor((T - over) / hop) * hop <= time <= T`.

    Raises:
        TreadleError: `bad_definition`.
    """
    if aggregate not in ("mean", "sum", "count"):
        raise _wrong(f"{aggregate!r} is no aggregate of a window.", "Use mean, sum or count.")
    try:
        return Window(column=column, aggregate=aggregate, over_s=seconds(over), hop_s=seconds(hop))
    except ValueError as error:
        raise _wrong(f"The window of {column}: {error}.", "Write over='6h', hop='1m'.") from error


def mean(column: str, *, over: str | dt.timedelta, hop: str | dt.timedelta = "1m") -> Window:
    """The mean of a column's values, null where there are none."""
    return window(column, "mean", over=over, hop=hop)


def sum(column: str, *, over: str | dt.timedelta, hop: str | dt.timedelta = "1m") -> Window:
    """The sum of a column's values, 0 where there are none."""
    return window(column, "sum", over=over, hop=hop)


def count(column: str, *, over: str | dt.timedelta, hop: str | dt.timedelta = "1m") -> Window:
    """How many values of a column there are, nulls not counted."""
    return window(column, "count", over=over, hop=hop)


def feature_view(
    *,
    entity: str | Iterable[str],
    source: Dataset | str,
    ttl: str | dt.timedelta | None = None,
    columns: Iterable[str] = (),
    name: str | None = None,
    was: str | None = None,
    **about: Any,
) -> Callable[[Callable[..., Any]], Any]:
    """Declare a feature view by a function.

    Args:
        entity: the key's columns, in the source and in the rows that features are joined to.
        source: the dataset. Its `time` column says when a row is known.
        ttl: how old a newest value may be; any age if None.
        columns: what a transform gives, where it cannot be called on an empty frame of the source's declared columns.
        name: the function's, unless given.
        was: the old name after a rename.
        **about: `owner`, `description` (the first line of the function's docstring, unless given), `restrictions` and `only_in` as for a
            dataset.

    Raises:
        TreadleError: `bad_definition`.
    """
    keys = (entity,) if isinstance(entity, str) else tuple(entity)
    source_name = source if isinstance(source, str) else source.name
    ttl_s = None if ttl is None else seconds(ttl)
    unknown = sorted(set(about) - {"owner", "description", "restrictions", "only_in"})
    if unknown:
        raise _wrong(f"A feature view has no {unknown[0]!r}.", "It takes owner, description, restrictions, only_in.")

    def declare(function: Callable[..., Any]) -> Any:
        called = name or function.__name__
        said = {"description": (inspect.getdoc(function) or "").partition("\n")[0], **about, "only_in": places(about.get("only_in", ()))}
        base: dict[str, Any] = {"name": called, "entity": keys, "source": source_name, "was": was, **said}
        if not inspect.signature(function).parameters:
            made = function()
            if isinstance(made, dict) and made and all(isinstance(w, Window) for w in made.values()):
                return FeatureView(**base, windows=dict(made))
            if isinstance(made, list | tuple) and made and all(isinstance(c, str) for c in made):
                return FeatureView(**base, columns=tuple(made), ttl_s=ttl_s)
            raise _wrong(f"The feature view {called} returns {made!r}.", "Return {name: tr.mean(…)}, or a list of column names.")
        given = tuple(columns) or _columns_of(called, function, source, keys)
        return TransformedView(function, FeatureView(**base, columns=given, ttl_s=ttl_s))

    return declare


def _columns_of(called: str, function: Transform, source: Dataset | str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of a transform, from calling it on an empty frame of its source's schema."""
    if isinstance(source, str) or not source.columns:
        raise _wrong(
            f"The columns of the feature view {called} are not known: its source declares no schema.",
            f"Declare the dataset's columns, or say feature_view(…, columns=[…]) for {called}.",
        )
    empty = pl.LazyFrame(schema={c.name: POLARS[c.dtype] for c in source.columns})
    try:
        names = function(empty).collect_schema().names()
    except pl.exceptions.PolarsError as error:
        raise _wrong(
            f"The feature view {called} fails on its source's schema: {error}.", "Use columns that the dataset declares."
        ) from error
    return tuple(n for n in names if n not in (*keys, source.time))


def _wrong(what: str, remedy: str) -> TreadleError:
    return TreadleError(what, remedy=remedy, code="bad_definition")
