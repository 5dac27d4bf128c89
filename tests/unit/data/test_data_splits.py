"""Splits: nothing on both sides, nothing lost, the same for the same seed."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.data.splits import at_random, by_time, newest_by_key
from treadle.records.errors import TreadleError

T0 = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)


def rows(days: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(days), "at": [T0 + dt.timedelta(days=i) for i in range(days)], "group": [i % 7 for i in range(days)]})


def test_by_time_takes_the_newest():
    train, test = by_time(rows(30), test="7d")
    assert (train.height, test["id"].to_list()) == (23, list(range(23, 30)))
    train, test = by_time(rows(30), test=T0 + dt.timedelta(days=20), time="at")
    assert (train.height, test.height) == (20, 10)
    for bad in ({"test": "60d"}, {"test": "7d", "time": "nothing"}):
        with pytest.raises(TreadleError) as raised:
            by_time(rows(30), **bad)
        assert raised.value.code == "bad_data"


@settings(deadline=None, max_examples=50)
@given(st.integers(20, 200), st.floats(0.1, 0.9), st.integers(0, 99), st.booleans())
def test_random_splits_are_whole_disjoint_and_repeatable(count, share, seed, grouped):
    key = "group" if grouped else None
    train, test = at_random(rows(count), test=share, seed=seed, key=key)
    assert sorted(train["id"].to_list() + test["id"].to_list()) == list(range(count))
    assert at_random(rows(count), test=share, seed=seed, key=key)[1].equals(test)
    if grouped:
        assert not set(train["group"]) & set(test["group"])
    else:
        assert test.height == round(share * count)


def test_the_newest_row_of_a_key_counts():
    frame = pl.DataFrame({"id": [1, 2, 1, 1], "at": [5, 1, 9, 9], "x": [0, 1, 2, 3]})
    assert newest_by_key(frame, ["id"], "at")["x"].to_list() == [1, 3]
    assert newest_by_key(frame, [], "at").height == 4
