"""Profiles: what a column looks like, small enough to keep for every day and mergeable, and how far apart two of them are.

Numbers are kept as an Apache DataSketches KLL sketch (k = 800: ranks to about 0.3 %) with moments; strings and booleans as counts of
the 200 most frequent values and the rest. The reference of a bundle is made from evenly spaced order statistics instead of the stream, so
that sealing the same rows again gives the same bytes (KLL draws random bits once it compacts). Monitoring keeps one profile a window and
asks `psi` how far it is from the reference. Time and encoding: plain numbers and names; nothing here knows of models.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl
from msgspec import Struct, structs

from treadle.records.errors import TreadleError

K = 800
TOP = 200
BINS = 10


class ColumnSketch(Struct, frozen=True, kw_only=True):
    """One column. `kind` is `number` or `category`; `mean` and `m2` (sum of squared differences from it), `low` and `high` are of
    the `rows - missing` values that are there; `sketch` is a serialised KLL sketch of float32; `rest` counts what is not among `top`."""

    name: str
    kind: str
    rows: int
    missing: int
    mean: float = 0.0
    m2: float = 0.0
    low: float | None = None
    high: float | None = None
    sketch: bytes = b""
    top: dict[str, int] = {}
    rest: int = 0

    @property
    def known(self) -> int:
        """Values that are there."""
        return self.rows - self.missing

    @property
    def std(self) -> float:
        """Standard deviation of the values (n - 1), 0 for fewer than two."""
        return math.sqrt(self.m2 / (self.known - 1)) if self.known > 1 else 0.0


class Profile(Struct, frozen=True, kw_only=True):
    """Columns of a window or a training set, by name."""

    rows: int
    columns: dict[str, ColumnSketch]
    format: int = 1


def profile(frame: pl.DataFrame, columns: Iterable[str] | None = None, *, reference: bool = False) -> Profile:
    """The profile of a frame; columns that are neither numbers, strings nor booleans are left out.

    Args:
        frame: rows.
        columns: names, all where None.
        reference: make it reproducible byte for byte; such a profile is not for merging.
    """
    names = list(frame.columns) if columns is None else list(columns)
    found = (column_sketch(frame[name], reference=reference) for name in names)
    return Profile(rows=len(frame), columns={sketch.name: sketch for sketch in found if sketch is not None})


def column_sketch(column: pl.Series, *, reference: bool = False) -> ColumnSketch | None:
    """The sketch of one column, None for a dtype that has none."""
    if column.dtype == pl.Null:
        return ColumnSketch(name=column.name, kind="number", rows=len(column), missing=len(column), sketch=_kll(np.empty(0)))
    if column.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
        return _categories(column)
    if not column.dtype.is_numeric():
        return None
    values = column.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    values = values[np.isfinite(values)]
    if not len(values):
        return ColumnSketch(name=column.name, kind="number", rows=len(column), missing=len(column), sketch=_kll(values))
    mean = float(values.mean())
    kept = _order_statistics(values) if reference else values
    return ColumnSketch(
        name=column.name,
        kind="number",
        rows=len(column),
        missing=len(column) - len(values),
        mean=mean,
        m2=float(((values - mean) ** 2).sum()),
        low=float(values.min()),
        high=float(values.max()),
        sketch=_kll(kept),
    )


def merge(one: Profile, other: Profile) -> Profile:
    """The profile of both windows together; columns that only one has are kept.

    Raises:
        TreadleError: `conflict` for a column that is a number in one and a category in the other.
    """
    columns = dict(one.columns)
    for name, sketch in other.columns.items():
        columns[name] = _merged(columns[name], sketch) if name in columns else sketch
    return Profile(rows=one.rows + other.rows, columns=columns)


def to_bytes(made: Profile) -> bytes:
    """A profile as MessagePack."""
    return msgspec.msgpack.encode(made)


def from_bytes(content: bytes) -> Profile:
    """The inverse of `to_bytes`.

    Raises:
        TreadleError: `corrupt`.
    """
    try:
        return msgspec.msgpack.decode(content, type=Profile)
    except msgspec.DecodeError as error:
        raise TreadleError(f"These bytes are no profile: {error}.", remedy="Seal the bundle again from its run.", code="corrupt") from error


def psi(reference: ColumnSketch, window: ColumnSketch, *, bins: int = BINS) -> float:
    """Population stability index of a window against a reference, with "missing" as a bin of its own; 0 where either is empty.

    Sum over bins of (w - r) ln(w / r); numbers are cut at the reference's quantiles, categories compared by its most frequent
    values, the rest pooled. Shares are smoothed by half a row a bin, so that an empty bin gives a large number and not infinity.

    Raises:
        TreadleError: `conflict` where one is a number and the other a category.
    """
    _same_kind(reference, window)
    if not reference.rows or not window.rows:
        return 0.0
    old, new = cells(reference, window, bins=bins)
    smooth = 0.5
    r = (old + smooth) / (old.sum() + smooth * len(old))
    w = (new + smooth) / (new.sum() + smooth * len(new))
    return float(np.sum((w - r) * np.log(w / r)))


def cells(reference: ColumnSketch, window: ColumnSketch, *, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """(reference rows, window rows) by cell, the last cell being the missing: what `psi` and other distances compare."""
    if reference.kind == "category":
        named = sorted(set(reference.top))
        old = [*(reference.top[n] for n in named), reference.rest, reference.missing]
        there = [window.top.get(n, 0) for n in named]
        return np.array(old, dtype=np.float64), np.array([*there, window.known - sum(there), window.missing], dtype=np.float64)
    if not reference.known:
        return np.array([0.0, reference.missing]), np.array([float(window.known), window.missing])
    made = _read(reference.sketch)
    edges = sorted({float(e) for e in made.get_quantiles([i / bins for i in range(1, bins)])})
    old = _shares(made, edges) * reference.known
    if window.known:
        new = _shares(_read(window.sketch), edges) * window.known
    else:
        new = np.zeros(len(old))
    return np.append(old, float(reference.missing)), np.append(new, float(window.missing))


def psi_by_column(reference: Profile, window: Profile, *, bins: int = BINS) -> Mapping[str, float]:
    """`psi` of every column that both have."""
    both = (name for name in reference.columns if name in window.columns)
    return {name: psi(reference.columns[name], window.columns[name], bins=bins) for name in both}


def quantiles(sketch: ColumnSketch, at: Iterable[float]) -> list[float]:
    """Approximate quantiles (0 to 1) of a number column; empty where it has no value."""
    return [] if sketch.kind != "number" or not sketch.known else [float(v) for v in _read(sketch.sketch).get_quantiles(list(at))]


def _shares(sketch: Any, edges: list[float]) -> np.ndarray:
    """Share of the values in each cell that the edges make."""
    below = np.asarray(sketch.get_cdf(edges, True), dtype=np.float64)
    return np.diff(below, prepend=np.zeros(1))


def _categories(column: pl.Series) -> ColumnSketch:
    there = column.drop_nulls().cast(pl.String)
    counted = there.value_counts()
    pairs = sorted(zip(counted[there.name].to_list(), counted["count"].to_list(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return ColumnSketch(
        name=column.name,
        kind="category",
        rows=len(column),
        missing=len(column) - len(there),
        top=dict(pairs[:TOP]),
        rest=sum(count for _, count in pairs[TOP:]),
    )


def _merged(one: ColumnSketch, other: ColumnSketch) -> ColumnSketch:
    _same_kind(one, other)
    rows, missing = one.rows + other.rows, one.missing + other.missing
    if one.kind == "category":
        names = sorted({*one.top, *other.top}, key=lambda n: (-(one.top.get(n, 0) + other.top.get(n, 0)), n))
        counts = {n: one.top.get(n, 0) + other.top.get(n, 0) for n in names}
        top = dict(list(counts.items())[:TOP])
        return structs.replace(one, rows=rows, missing=missing, top=top, rest=rows - missing - sum(top.values()))
    if not one.known or not other.known:
        return structs.replace(one if one.known else other, rows=rows, missing=missing)
    both = _read(one.sketch)
    both.merge(_read(other.sketch))
    n, m = one.known, other.known
    gap = other.mean - one.mean
    return structs.replace(  # moments of two parts: Chan, Golub & LeVeque 1979
        one,
        rows=rows,
        missing=missing,
        mean=one.mean + gap * m / (n + m),
        m2=one.m2 + other.m2 + gap * gap * n * m / (n + m),
        low=min(v for v in (one.low, other.low) if v is not None),
        high=max(v for v in (one.high, other.high) if v is not None),
        sketch=both.serialize(),
    )


def _order_statistics(values: np.ndarray) -> np.ndarray:
    """At most K values that stand for all: those in the middle of K equal parts of the sorted values."""
    ordered = np.sort(values)
    return ordered if len(ordered) <= K else ordered[((np.arange(K) + 0.5) * len(ordered) / K).astype(np.int64)]


def _kll(values: np.ndarray) -> bytes:
    datasketches = _sketches()
    made = datasketches.kll_floats_sketch(K)
    if len(values):
        made.update(np.array(values, dtype=np.float32))  # a copy: the sketch refuses read-only arrays
    return made.serialize()


def _sketches() -> Any:
    import datasketches  # noqa: PLC0415  (loaded where a profile is made or read)

    return datasketches


def _read(content: bytes) -> Any:
    return _sketches().kll_floats_sketch.deserialize(content)


def _same_kind(one: ColumnSketch, other: ColumnSketch) -> None:
    if one.kind != other.kind:
        raise TreadleError(
            f"The column {one.name} is a {one.kind} in one profile and a {other.kind} in the other.",
            remedy="Send the column with the dtype it was trained with.",
            code="conflict",
        )
