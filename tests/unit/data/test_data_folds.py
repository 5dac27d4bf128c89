"""Folds: every row is tested as often as it should be, groups stay together, and no row is trained on that is younger than a test."""

import datetime as dt
import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.data import folds
from treadle.records.errors import TreadleError

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def frame(minutes: list[int], groups: list[str | None] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "at": [START + dt.timedelta(minutes=m) for m in minutes],
            "who": groups or [str(m) for m in minutes],
            "late": [m % 2 == 0 for m in minutes],
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


@given(st.integers(2, 60), st.integers(2, 6), st.integers(0, 99))
def test_each_row_is_tested_once(n, k, seed):
    rows = frame(list(range(n)))
    if n < k:
        with pytest.raises(TreadleError, match="do not make"):
            folds.at_random(rows, folds=k, seed=seed)
        return
    made = folds.at_random(rows, folds=k, seed=seed, stratify="late")
    assert sorted(np.concatenate([f.test for f in made]).tolist()) == list(range(n))
    for fold in made:
        assert sorted([*fold.train, *fold.test]) == list(range(n))
        assert abs(len(fold.test) - n / k) <= 1
        assert abs(rows["late"].to_numpy()[fold.test].sum() - rows["late"].sum() / k) <= 1.5
    again = folds.at_random(rows, folds=k, seed=seed, stratify="late")
    assert all(np.array_equal(a.test, b.test) for a, b in zip(made, again, strict=True))


@given(st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=1, max_size=40), st.integers(2, 4))
def test_groups_stay_together(groups, k):
    rows = frame(list(range(len(groups))), groups)
    if len(set(groups)) < k:
        with pytest.raises(TreadleError, match="values of 'who'"):
            folds.at_random(rows, folds=k, group="who")
        return
    for fold in folds.at_random(rows, folds=k, group="who"):
        assert len(fold.test)
        assert not {groups[i] for i in fold.train} & {groups[i] for i in fold.test}


@given(
    st.lists(st.integers(0, 200), min_size=2, max_size=80),
    st.integers(2, 5),
    st.integers(0, 30),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_nothing_of_the_future_is_trained_on(minutes, k, gap, grouped, draw):
    rows = frame(minutes, [draw.choice("abcdef") for _ in minutes])
    try:
        made = folds.forward(rows, folds=k, gap=dt.timedelta(minutes=gap), group="who" if grouped else None)
    except TreadleError:  # too few rows for it; told apart below
        return
    assert len(made) == k
    at, who = np.array(minutes), rows["who"].to_numpy()
    for before, after in itertools.pairwise(made):
        assert at[before.test].max() < at[after.test].min()
    for fold in made:
        assert at[fold.train].max() + gap < at[fold.test].min() or (gap == 0 and at[fold.train].max() < at[fold.test].min())
        assert not grouped or not set(who[fold.train]) & set(who[fold.test])


def test_forward_chaining_grows():
    made = folds.forward(frame(list(range(60))), folds=5)
    assert [(len(f.train), len(f.test)) for f in made] == [(10, 10), (20, 10), (30, 10), (40, 10), (50, 10)]
    dates = pl.DataFrame({"day": [dt.date(2026, 1, d) for d in range(1, 13)]})
    assert [len(f.train) for f in folds.forward(dates, folds=2, time="day", gap="1d")] == [3, 7]


def test_what_makes_no_folds():
    rows = frame(list(range(10)))
    cases = [
        (lambda: folds.at_random(rows, folds=1), "1 folds are none"),
        (lambda: folds.at_random(rows, folds=2, group="nobody"), "no column 'nobody'"),
        (lambda: folds.forward(rows.with_columns(at=None), folds=2, time="at"), "have no at"),
        (lambda: folds.forward(frame([1] * 10), folds=2), "leave nothing"),
        (lambda: folds.forward(rows, folds=2, gap="9d"), "leave nothing"),
        (lambda: folds.forward(pl.DataFrame({"n": [1, 2, 3, 4]}), folds=2, time="n", gap="1d"), "means nothing"),
    ]
    for call, text in cases:
        with pytest.raises(TreadleError, match=text):
            call()
