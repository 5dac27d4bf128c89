"""Profiles: near the exact numbers, mergeable, reproducible where they are references, and PSI that sees what it should."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.evaluation import profiles as p
from treadle.records.errors import TreadleError


def frame(n, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "temp": rng.normal(shift, 1, n),
            "hour": rng.integers(0, 24, n),
            "carrier": rng.choice(["AA", "UA", "B6"], n, p=[0.5, 0.3, 0.2]).tolist(),
            "late": rng.random(n) < 0.2,
        }
    ).with_columns(pl.when(pl.col("temp") > 1.5).then(None).otherwise("temp").alias("temp"))


def test_no_shift_is_small_and_shifts_are_seen():
    reference = p.profile(frame(20_000), reference=True)
    same = p.psi_by_column(reference, p.profile(frame(5_000, seed=1)))
    assert max(same.values()) < 0.02
    moved = p.psi_by_column(reference, p.profile(frame(5_000, seed=2, shift=1.0)))
    assert moved["temp"] > 0.5 > 0.02 > moved["carrier"]
    gone = p.profile(frame(5_000).with_columns(carrier=pl.lit("new"), hour=pl.lit(None, dtype=pl.Int64)))
    assert p.psi_by_column(reference, gone)["carrier"] > 5
    assert p.psi_by_column(reference, gone)["hour"] > 5


def test_psi_is_near_the_exact_one():
    old, new = frame(30_000)["temp"].drop_nulls().to_numpy(), frame(30_000, 1, 0.5)["temp"].drop_nulls().to_numpy()
    edges = np.quantile(old, np.arange(1, 10) / 10)
    r, w = (np.bincount(np.searchsorted(edges, v), minlength=10) / len(v) for v in (old, new))
    exact = float(np.sum((w - r) * np.log(w / r)))
    sketched = p.psi(p.column_sketch(pl.Series("t", old), reference=True), p.column_sketch(pl.Series("t", new)))
    assert sketched == pytest.approx(exact, abs=0.02)


def test_a_reference_is_the_same_bytes_again():
    rows = frame(50_000)
    first, again = (p.to_bytes(p.profile(rows, reference=True)) for _ in range(2))
    assert first == again
    assert len(first) < 20_000
    assert p.from_bytes(first) == p.profile(rows, reference=True)
    with pytest.raises(TreadleError, match="no profile"):
        p.from_bytes(b"nonsense")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=80), st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=80))
def test_merging_is_the_profile_of_both(one, other):
    a, b = (
        pl.DataFrame(
            {"x": pl.Series(v, dtype=pl.Float64), "s": pl.Series([None if x is None else str(int(x) % 3) for x in v], dtype=pl.String)}
        )
        for v in (one, other)
    )
    merged, whole = p.merge(p.profile(a), p.profile(b)), p.profile(pl.concat([a, b]))
    assert merged.rows == whole.rows
    x, y = merged.columns["x"], whole.columns["x"]
    assert (x.rows, x.missing, x.low, x.high) == (y.rows, y.missing, y.low, y.high)
    assert x.mean == pytest.approx(y.mean, abs=1e-6)
    assert x.std == pytest.approx(y.std, rel=1e-6, abs=1e-3)
    assert merged.columns["s"] == whole.columns["s"]
    assert p.quantiles(x, [0.5]) == p.quantiles(y, [0.5])
    assert p.psi(x, y) == 0


def test_odd_columns():
    odd = pl.DataFrame({"nothing": [None, None], "inf": [float("inf"), 1.0], "when": pl.Series([0, 1]).cast(pl.Datetime("us", "UTC"))})
    made = p.profile(odd)
    assert set(made.columns) == {"nothing", "inf"}
    assert made.columns["inf"].missing == 1
    assert p.psi_by_column(made, made) == {"nothing": 0.0, "inf": 0.0}
    with pytest.raises(TreadleError, match="number in one profile"):
        p.psi(made.columns["inf"], p.column_sketch(pl.Series("inf", ["a"])))
    many = p.column_sketch(pl.Series("tail", [f"N{i}" for i in range(1000)]))
    assert (len(many.top), many.rest) == (200, 800)
