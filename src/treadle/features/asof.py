"""The as-of join: for each row, the newest row of another table that was known at its moment.

Row count in is row count out. The newest row at or before the moment counts, if it is not older than the time-to-live (inclusive);
of rows with equal times the one created later, and then the one standing later in the table; what lies in the future or beyond
the time-to-live gives null, and so does a null key or a null time. With a cut-off, rows created after it do not exist: the join
as it could have been made then.

Both tables' keys become dense integers and all times ranks, so that one sorted int64 array answers every question "how many rows
of this key are known at this moment" by binary search; windows (`features.windows`) ask the same index twice.
"""

import datetime as dt
from collections.abc import Sequence

import numpy as np
import polars as pl

from treadle.records.errors import TreadleError


class AsofIndex:
    """Rows of a table by key and time.

    Args:
        frame: the table.
        by: the key's columns.
        time: the column of the moment at which a row is known.
        created: a column that breaks ties of `time`, null first; None where the table's order does.

    Attributes:
        order: int64, table positions of the rows that have a key and a time, in index order (key, time, created, table order).
    """

    def __init__(self, frame: pl.DataFrame, *, by: Sequence[str], time: str, created: str | None = None):
        _require(frame, [*by, time, *([created] if created else [])])
        self.by = tuple(by)
        self._keys = frame.select(self.by).drop_nulls().unique(maintain_order=True).with_row_index("_code")
        codes = self._codes(frame)
        times, timed = micros_of(frame.get_column(time))
        rows = np.flatnonzero((codes >= 0) & timed)
        if created:
            moments, known = micros_of(frame.get_column(created))
            rows = rows[np.argsort(np.where(known, moments, np.iinfo(np.int64).min)[rows], kind="stable")]
        self._times, ranks = np.unique(times[rows], return_inverse=True)
        self._stride = len(self._times) + 1
        marks = codes[rows] * self._stride + ranks
        order = np.argsort(marks, kind="stable")
        self._marks = marks[order]
        self.order = rows[order]

    def codes(self, frame: pl.DataFrame) -> np.ndarray:
        """The key of each row as this index numbers keys, -1 for a key that it has not (or a null): int64.

        Raises:
            TreadleError: `bad_data`: a key column is missing or of another type than in the index's table.
        """
        _require(frame, self.by)
        for name in self.by:
            if frame.schema[name] != self._keys.schema[name] and frame.schema[name] != pl.Null and self._keys.height:
                raise TreadleError(
                    f"The key column {name!r} is {frame.schema[name]} here and {self._keys.schema[name]} in the feature's source.",
                    remedy=f"Cast one of them: pl.col({name!r}).cast(pl.{self._keys.schema[name]}).",
                    code="bad_data",
                    details={"column": name, "expected": str(self._keys.schema[name]), "given": str(frame.schema[name])},
                )
        return self._codes(frame)

    def _codes(self, frame: pl.DataFrame) -> np.ndarray:
        if not self._keys.height:
            return np.full(frame.height, -1, dtype=np.int64)
        columns = frame.select(pl.col(name).cast(self._keys.schema[name]) for name in self.by)
        joined = columns.join(self._keys, on=self.by, how="left", maintain_order="left")
        return joined.get_column("_code").cast(pl.Int64).fill_null(-1).to_numpy()

    def until(self, codes: np.ndarray, moments: np.ndarray, *, inclusive: bool = True) -> np.ndarray:
        """Per question, the index position just behind the last row of that key at (or, exclusive, before) the moment: int64.

        Args:
            codes: from `codes`.
            moments: int64 microseconds since 1970 UTC.
        """
        ranks = np.searchsorted(self._times, moments, side="right" if inclusive else "left")
        return np.searchsorted(self._marks, np.maximum(codes, -1) * self._stride + ranks - 1, side="right")

    def newest(self, codes: np.ndarray, moments: np.ndarray, *, ttl_us: int | None = None) -> np.ndarray:
        """Per question, the table position of the newest row of that key known at the moment, -1 where there is none: int64."""
        if not len(self._marks):
            return np.full(len(codes), -1, dtype=np.int64)
        last = np.maximum(self.until(codes, moments) - 1, 0)
        key, rank = np.divmod(self._marks[last], self._stride)
        found = (codes >= 0) & (key == codes) & (self._times[rank] <= moments)
        if ttl_us is not None:
            found &= moments - self._times[rank] <= ttl_us
        return np.where(found, self.order[last], -1)


def asof_join(  # noqa: PLR0913  (all but the two tables are named options)
    left: pl.DataFrame,
    right: pl.DataFrame,
    *,
    by: Sequence[str],
    left_time: str,
    right_time: str,
    columns: Sequence[str] | None = None,
    created: str | None = None,
    ttl: dt.timedelta | None = None,
    known_by: dt.datetime | None = None,
    prefix: str = "",
) -> pl.DataFrame:
    """`left` with the newest values of `right` as of `left_time`, named `prefix + column`; rows and order of `left` stay.

    Args:
        by: the key, the same names in both.
        columns: those of `right` to take; all but key, time and `created` if None.
        ttl: how old a value may be, inclusive; any age if None.
        known_by: leave out rows of `right` created (or, without `created`, timed) after it.

    Raises:
        TreadleError: `bad_data`: a column is missing, a key has two types, a time is no datetime.
    """
    if known_by is not None:
        right = right.filter(pl.col(created or right_time) <= pl.lit(known_by))
    index = AsofIndex(right, by=by, time=right_time, created=created)
    moments, timed = micros_of(left.get_column(left_time))
    codes = np.where(timed, index.codes(left), -1)
    positions = index.newest(codes, moments, ttl_us=None if ttl is None else ttl // dt.timedelta(microseconds=1))
    taken = [name for name in right.columns if name not in (*by, right_time, created)] if columns is None else list(columns)
    _require(right, taken)
    return left.hstack(take(right, taken, positions, prefix=prefix))


def take(frame: pl.DataFrame, columns: Sequence[str], positions: np.ndarray, *, prefix: str = "") -> list[pl.Series]:
    """The columns at the given table positions, null where the position is -1."""
    if not frame.height:
        return [pl.Series(prefix + name, [None] * len(positions), dtype=frame.schema[name]) for name in columns]
    where = pl.Series(positions).cast(pl.UInt32, strict=False)
    where = where.set(pl.Series(positions < 0), None)
    return [frame.get_column(name).gather(where).alias(prefix + name) for name in columns]


def micros_of(series: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """(microseconds since 1970 UTC as int64, whether there is a time) of a datetime column; a naive one is taken to be UTC.

    Raises:
        TreadleError: `bad_data` for any other dtype.
    """
    if not isinstance(series.dtype, pl.Datetime):
        raise TreadleError(
            f"The column {series.name!r} is {series.dtype}, but times are needed.",
            remedy=f"Make it a UTC datetime: pl.col({series.name!r}).str.to_datetime(time_zone='UTC')",
            code="bad_data",
            details={"column": series.name, "expected": "datetime", "given": str(series.dtype)},
        )
    values = series.dt.cast_time_unit("us").to_physical()
    return values.fill_null(0).to_numpy(), series.is_not_null().to_numpy()


def _require(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise TreadleError(
            f"The column {missing[0]!r} is missing.",
            remedy=f"The table has {', '.join(frame.columns[:20]) or 'no columns'}.",
            code="bad_data",
            details={"column": missing[0]},
        )
