"""Verdicts: schema skew halts, value skew asks for retraining, and noise does neither."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from treadle.data.declare import check, column, dataset
from treadle.data.profiles import profile
from treadle.data.schema import conform, infer
from treadle.data.validate import psi, require, validate
from treadle.records.errors import TreadleError


def too_far(frame: pl.DataFrame) -> pl.Expr:
    return pl.col("distance") > 4000


def odd(frame: pl.DataFrame) -> pl.Series:
    return frame["id"] % 2 == 1


FLIGHTS = dataset(
    "flights",
    time="at",
    key="id",
    columns=[
        column("id", int, nullable=False),
        column("at", dt.datetime),
        column("origin", str, values=["JFK", "LGA", "EWR"]),
        column("distance", float, minimum=0, maximum=5000),
        column("precip", float),
        column("tail", str),
    ],
)


def rows(count: int, seed: int, **more) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    start = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    return pl.DataFrame(
        {
            "id": np.arange(count),
            "at": [start + dt.timedelta(minutes=i) for i in range(count)],
            "origin": random.choice(["JFK", "LGA", "EWR"], count),
            "distance": random.gamma(4, 250, count).clip(0, 4900),
            "precip": np.where(random.random(count) < 0.93, 0.0, random.random(count)),
            "tail": [f"N{i}" for i in random.integers(0, 3000, count)],
        }
    ).with_columns(**more)


REFERENCE = profile(rows(20_000, 1), FLIGHTS.columns)


@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("count", [300, 5000])
def test_more_of_the_same_is_good(seed, count):
    verdict = validate(FLIGHTS, rows(count, seed), REFERENCE)
    assert verdict.decision == "go", verdict.findings


@pytest.mark.parametrize(
    ("frame", "check_name", "name"),
    [
        (rows(50, 2).drop("origin"), "missing_column", "origin"),
        (rows(50, 2, extra=pl.lit(1)), "unexpected_column", "extra"),
        (rows(50, 2, distance=pl.lit("far")), "retyped_column", "distance"),
        (rows(50, 2, origin=pl.lit("ATL")), "values", "origin"),
        (rows(50, 2, distance=pl.lit(-1.0)), "minimum", "distance"),
        (rows(50, 2, distance=pl.lit(9999.0)), "maximum", "distance"),
        (rows(50, 2, id=pl.lit(None, dtype=pl.Int64)), "null", "id"),
        (rows(0, 2), "empty", None),
    ],
)
def test_schema_skew_halts(frame, check_name, name):
    verdict = validate(FLIGHTS, frame, REFERENCE)
    assert verdict.decision == "halt"
    assert (check_name, name) in [(f.check, f.column) for f in verdict.findings if f.effect == "halt"]
    with pytest.raises(TreadleError) as raised:
        require(verdict, what="flights")
    assert raised.value.code == "bad_data"


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"distance": pl.col("distance") * 2}, "distance"),
        ({"origin": pl.lit("JFK")}, "origin"),
        ({"precip": pl.lit(0.5)}, "precip"),
        ({"tail": pl.when(pl.col("id") % 2 == 0).then(pl.col("tail"))}, "tail"),
        ({"distance": pl.lit(None, dtype=pl.Float64)}, "distance"),
    ],
)
def test_value_skew_asks_for_retraining(more, name):
    verdict = validate(FLIGHTS, rows(2000, 3, **more).with_columns(pl.col("distance").clip(0, 5000)), REFERENCE)
    assert verdict.decision == "retrain"
    assert [f.column for f in verdict.findings] == [name]
    assert require(verdict, what="flights") is verdict


def test_duplicates_are_noted_and_checks_of_the_project_count():
    twice = pl.concat([rows(10, 1), rows(10, 1)[:2]])
    verdict = validate(FLIGHTS, twice)
    assert (verdict.decision, verdict.findings[0].check, verdict.findings[0].rows) == ("go", "duplicate_key", 2)
    checked = dataset("flights", key="id", columns=FLIGHTS.columns, checks=[too_far, check(odd, halt=False)])
    functions = {"too_far": too_far, "odd": odd}
    verdict = validate(checked, rows(10, 1, distance=pl.lit(4500.0)), checks=functions)
    assert verdict.decision == "halt"
    assert [(f.check, f.effect, f.rows) for f in verdict.findings] == [("too_far", "halt", 10), ("odd", "note", 5)]
    assert validate(checked, rows(10, 1, distance=pl.lit(10.0)), checks=functions).decision == "go"
    with pytest.raises(TreadleError, match="gave 1 values"):
        validate(checked, rows(10, 1), checks={"too_far": lambda f: [True], "odd": odd})


def test_psi_of_equal_shares_is_zero():
    assert psi(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0
    assert psi(np.array([0.5, 0.5]), np.array([0.9, 0.1])) == pytest.approx(0.4 * np.log(1.8) - 0.4 * np.log(0.2))


def test_conforming_changes_representation_and_never_meaning():
    schema = infer(rows(3, 1))
    narrow = rows(3, 1).with_columns(pl.col("id").cast(pl.Int8), pl.col("at").dt.replace_time_zone(None), pl.lit(None).alias("precip"))
    made = conform(narrow, schema, what="flights")
    assert made.schema == rows(3, 1).select(made.columns).schema
    assert made["at"].equals(rows(3, 1)["at"])
    local = rows(3, 1).with_columns(pl.col("at").dt.convert_time_zone("America/New_York"))
    assert conform(local, schema, what="flights")["at"].equals(rows(3, 1)["at"])
    with pytest.raises(TreadleError, match="does not hold"):
        infer(pl.DataFrame({"x": [[1]]}))


def test_declarations_that_cannot_be_are_refused():
    for wrong in (
        lambda: dataset("a b"),
        lambda: dataset("a", columns=[column("x", str), column("x", str)]),
        lambda: dataset("a", time="t", columns=[column("x", str)]),
        lambda: column("x", "decimal"),
        lambda: column("x", str, unknown="guess"),
        lambda: check(lambda frame: frame),
    ):
        with pytest.raises(TreadleError) as raised:
            wrong()
        assert raised.value.code == "bad_definition"
    assert dataset("a", columns={"x": str, "t": "datetime"}, key="x").columns[1].dtype == "datetime"
