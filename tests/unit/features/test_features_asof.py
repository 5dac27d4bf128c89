"""The as-of join against a brute-force reference: row count, newest, ties, time-to-live, cut-off."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.features.asof import asof_join
from treadle.records.errors import TreadleError

T0 = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
minutes = st.integers(0, 30)
keys = st.none() | st.sampled_from(["a", "b", "c"])
lefts = st.lists(st.tuples(keys, st.none() | minutes), max_size=15)
rights = st.lists(st.tuples(keys, st.none() | minutes, st.none() | minutes, st.none() | st.integers(0, 99)), max_size=25)


def at(minute: int | None) -> dt.datetime | None:
    return None if minute is None else T0 + dt.timedelta(minutes=minute)


def brute(left, right, *, ttl, created, known_by):
    answer = []
    for key, moment in left:
        best = None
        for place, (k, time, made, value) in enumerate(right):
            if key is None or moment is None or k != key or time is None or time > moment:
                continue
            if ttl is not None and moment - time > ttl:
                continue
            if known_by is not None and ((made if created else time) is None or (made if created else time) > known_by):
                continue
            rank = (time, (-1 if made is None else made) if created else 0, place)
            if best is None or rank > best[0]:
                best = (rank, value)
        answer.append(None if best is None else best[1])
    return answer


@settings(deadline=None, max_examples=300)
@given(lefts, rights, st.none() | st.integers(0, 10), st.booleans(), st.none() | minutes)
def test_equals_brute_force(left, right, ttl, created, known_by):
    frame = pl.DataFrame(
        {"row": range(len(left)), "k": [k for k, _ in left], "t": [at(m) for _, m in left]},
        schema={"row": pl.Int64, "k": pl.String, "t": pl.Datetime("us", "UTC")},
    )
    source = pl.DataFrame(
        {"k": [r[0] for r in right], "at": [at(r[1]) for r in right], "made": [at(r[2]) for r in right], "v": [r[3] for r in right]},
        schema={"k": pl.String, "at": pl.Datetime("us", "UTC"), "made": pl.Datetime("us", "UTC"), "v": pl.Int64},
    )
    joined = asof_join(
        frame,
        source,
        by=["k"],
        left_time="t",
        right_time="at",
        columns=["v"],
        created="made" if created else None,
        ttl=None if ttl is None else dt.timedelta(minutes=ttl),
        known_by=at(known_by),
        prefix="f.",
    )
    assert joined.select(frame.columns).equals(frame)
    assert joined["f.v"].to_list() == brute(left, right, ttl=ttl, created=created, known_by=known_by)


def test_expired_and_future_values_keep_their_rows():
    frame = pl.DataFrame({"k": ["a", "b"], "t": [at(10), at(10)]})
    source = pl.DataFrame({"k": ["a", "b"], "at": [at(1), at(11)], "v": [1, 2]})
    joined = asof_join(frame, source, by=["k"], left_time="t", right_time="at", ttl=dt.timedelta(minutes=5))
    assert joined["v"].to_list() == [None, None]


def test_a_corrected_row_replaces_the_old_value():
    frame = pl.DataFrame({"k": ["a"], "t": [at(10)]})
    source = pl.DataFrame({"k": ["a", "a"], "at": [at(5), at(5)], "made": [at(9), at(6)], "v": [2, 1]})
    assert asof_join(frame, source, by=["k"], left_time="t", right_time="at", created="made")["v"].to_list() == [2]
    assert asof_join(frame, source, by=["k"], left_time="t", right_time="at", columns=["v"])["v"].to_list() == [1]


def test_keys_of_several_columns_and_other_types():
    frame = pl.DataFrame({"o": ["x", "x", None], "n": [1, 2, 1], "t": [at(3)] * 3})
    source = pl.DataFrame({"o": ["x", "x"], "n": [1, 2], "at": [at(1), at(2)], "v": [True, False]})
    assert asof_join(frame, source, by=["o", "n"], left_time="t", right_time="at")["v"].to_list() == [True, False, None]
    with pytest.raises(TreadleError, match="is String here and Int64"):
        asof_join(frame.with_columns(pl.col("n").cast(pl.String)), source, by=["o", "n"], left_time="t", right_time="at")
    with pytest.raises(TreadleError, match="times are needed"):
        asof_join(frame, source, by=["o"], left_time="n", right_time="at")
    with pytest.raises(TreadleError, match="'w' is missing"):
        asof_join(frame, source, by=["o"], left_time="t", right_time="at", columns=["w"])


def test_empty_tables():
    frame = pl.DataFrame({"k": ["a"], "t": [at(1)]})
    source = pl.DataFrame(schema={"k": pl.String, "at": pl.Datetime("us", "UTC"), "v": pl.Float64})
    assert asof_join(frame, source, by=["k"], left_time="t", right_time="at")["v"].to_list() == [None]
    assert asof_join(frame.clear(), source, by=["k"], left_time="t", right_time="at").height == 0
