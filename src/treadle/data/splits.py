"""Training rows and test rows, apart. Pure: a seed is an argument, and the same rows give the same split."""

import datetime as dt

import numpy as np
import polars as pl

from treadle.records.clock import seconds
from treadle.records.errors import TreadleError


def newest_by_key(frame: pl.DataFrame, key: tuple[str, ...] | list[str], time: str | None = None) -> pl.DataFrame:
    """The newest row of each key (the last by `time`, then by position); order stays. Duplicates on both sides of a split would leak."""
    if not key:
        return frame
    ordered = frame.sort(time, maintain_order=True) if time else frame
    return ordered.unique(subset=list(key), keep="last", maintain_order=True)


def time_column(frame: pl.DataFrame, time: str | None = None) -> str:
    """The named column, or else the first datetime of the frame.

    Raises:
        TreadleError: `bad_data`: there is none.
    """
    found = next((n for n, d in frame.schema.items() if isinstance(d, pl.Datetime)), None) if time is None else time
    if found is None or found not in frame.columns:
        raise TreadleError(
            f"The rows have no {'datetime column' if time is None else f'column {time!r}'} to split by.",
            remedy=f"Name one: split_by_time(rows, time=…); there are {', '.join(frame.columns[:20])}.",
            code="bad_data",
        )
    return found


def by_time(frame: pl.DataFrame, *, test: str | dt.timedelta | dt.datetime, time: str | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, test): the test rows are the newest, either the last `test` long or those from the moment `test` on.

    Raises:
        TreadleError: `bad_data`: one side would be empty.
    """
    column = time_column(frame, time)
    moment = test
    if not isinstance(test, dt.datetime):
        newest = frame.get_column(column).max()
        if newest is None:
            raise TreadleError("There are no rows to split.", remedy="Check the dates that the rows were asked for.", code="bad_data")
        moment = newest - dt.timedelta(seconds=seconds(test))  # type: ignore[operator]
    later = pl.col(column) >= pl.lit(moment) if isinstance(test, dt.datetime) else pl.col(column) > pl.lit(moment)
    return _both(frame.filter(~later), frame.filter(later), f"Splitting {frame.height} rows at {moment}")


def at_random(frame: pl.DataFrame, *, test: float = 0.2, seed: int = 0, key: str | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, test): a share `test` (0 to 1) of the rows, or of the values of `key` with all their rows, drawn by `seed`.

    Raises:
        TreadleError: `bad_data`: one side would be empty.
    """
    units = frame.get_column(key).unique(maintain_order=True) if key else pl.Series(np.arange(frame.height))
    draws = np.random.default_rng(seed).permutation(len(units))
    chosen = units.gather(np.sort(draws[: round(test * len(units))]))
    inside = frame.get_column(key).is_in(chosen.implode()) if key else units.is_in(chosen.implode())
    return _both(frame.filter(~inside), frame.filter(inside), f"Drawing {test:g} of {frame.height} rows")


def _both(train: pl.DataFrame, test: pl.DataFrame, what: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    if train.height and test.height:
        return train, test
    raise TreadleError(
        f"{what} leaves {train.height} rows to train on and {test.height} to test on.",
        remedy="Choose another size of the test part, or more rows.",
        code="bad_data",
    )
