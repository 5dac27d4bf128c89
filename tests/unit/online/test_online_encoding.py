"""The matrix of a model: lists and frames give the same bits; what does not fit is named."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.online.encoding import encode, encode_frame, signature_of
from treadle.records.definitions import FeatureView, Window
from treadle.records.errors import TreadleError
from treadle.records.models import InputColumn, Signature

WORDS = ["JFK", "LGA", "EWR", "", "ü", "never seen"]
rows = st.lists(
    st.tuples(
        st.none() | st.sampled_from(WORDS),
        st.none() | st.integers(-(2**62), 2**62),
        st.none() | st.floats(allow_infinity=True, allow_nan=True),
        st.none() | st.booleans(),
    ),
    max_size=12,
)


def bits(matrix: np.ndarray) -> bytes:
    return np.ascontiguousarray(np.where(np.isnan(matrix), np.nan, matrix)).tobytes()


def signature(unknown: str) -> Signature:
    return Signature(
        inputs=(
            InputColumn(name="origin", dtype="string", categories=("", "EWR", "JFK", "LGA", "ü"), unknown=unknown),
            InputColumn(name="distance", dtype="int64"),
            InputColumn(name="temp", dtype="float64"),
            InputColumn(name="holiday", dtype="bool"),
        )
    )


@settings(deadline=None, max_examples=150)
@given(rows, st.sampled_from(["null", "other"]))
def test_lists_and_frames_give_the_same_bits(made, unknown):
    columns = {name: [row[i] for row in made] for i, name in enumerate(("origin", "distance", "temp", "holiday"))}
    schema = {"origin": pl.String, "distance": pl.Int64, "temp": pl.Float64, "holiday": pl.Boolean}
    frame = pl.DataFrame(columns, schema=schema)
    assert bits(encode(signature(unknown), columns)) == bits(encode_frame(signature(unknown), frame))


def test_codes_follow_the_categories_and_the_rule():
    columns = {"origin": ["JFK", "ATL", None], "distance": [1, 2.0, None], "temp": [1, None, 0.5], "holiday": [True, None, False]}
    null = encode(signature("null"), columns)
    assert null[0].tolist() == [2.0, 1.0, 1.0, 1.0]
    assert math.isnan(null[1, 0])
    assert math.isnan(null[2, 0])
    assert encode(signature("other"), columns)[1, 0] == 5.0
    with pytest.raises(TreadleError, match="unknown category 'ATL'") as raised:
        encode(signature("reject"), columns)
    assert raised.value.details["column"] == "origin"
    frame = pl.DataFrame({**columns, "distance": [1, 2, None], "temp": [1.0, None, 0.5]})
    with pytest.raises(TreadleError, match="unknown category 'ATL'"):
        encode_frame(signature("reject"), frame)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("origin", 3),
        ("origin", True),
        ("distance", "3"),
        ("distance", 3.5),
        ("distance", True),
        ("temp", "warm"),
        ("temp", True),
        ("temp", 10**400),
        ("holiday", 1),
        ("holiday", "yes"),
        ("holiday", [True]),
    ],
)
def test_a_wrong_type_is_named(column, value):
    columns = {"origin": ["JFK"], "distance": [1], "temp": [0.5], "holiday": [True], column: [value]}
    with pytest.raises(TreadleError) as raised:
        encode(signature("null"), columns)
    assert raised.value.code == "bad_request"
    assert raised.value.details["column"] == column
    assert raised.value.details["expected"]
    assert raised.value.remedy


def test_missing_and_short_columns_are_named():
    with pytest.raises(TreadleError, match="distance is missing"):
        encode(signature("null"), {"origin": ["JFK"]})
    with pytest.raises(TreadleError, match="has 2 values, where others have 1"):
        encode(signature("null"), {"origin": ["JFK"], "distance": [1, 2], "temp": [1], "holiday": [True]})


def test_a_null_where_none_is_allowed():
    strict = Signature(inputs=(InputColumn(name="x", dtype="float64", nullable=False),))
    with pytest.raises(TreadleError, match="may not be null"):
        encode(strict, {"x": [None]})
    with pytest.raises(TreadleError, match="may not be null"):
        encode_frame(strict, pl.DataFrame({"x": [None, 1.0]}))


def test_signature_of_training_rows():
    late = Window(column="late", aggregate="mean", over_s=3600, hop_s=60)
    view = FeatureView(name="by_origin", entity=("origin",), source="outcomes", windows={"late_1h": late})
    frame = pl.DataFrame(
        {"origin": ["JFK", "EWR", None], "carrier": ["UA", "AA", "UA"], "by_origin.late_1h": [0.5, None, 1.0], "n": [1, 2, 3]}
    )
    made = signature_of(frame, ["carrier", "n", "by_origin.late_1h"], views=[view], unknown={"carrier": "other"})
    assert [(c.name, c.dtype, c.origin, c.unknown) for c in made.inputs] == [
        ("carrier", "string", "request", "other"),
        ("n", "int64", "request", "null"),
        ("by_origin.late_1h", "float64", "view", "null"),
    ]
    assert made.inputs[0].categories == ("AA", "UA")
    assert made.inputs[2].view == "by_origin"
    assert [(k.name, k.dtype) for k in made.keys] == [("origin", "string")]
    with pytest.raises(TreadleError, match="no model takes"):
        signature_of(frame.with_columns(at=pl.datetime(2013, 1, 1)), ["at"])
    with pytest.raises(TreadleError, match="have no column 'nothing'"):
        signature_of(frame, ["nothing"])
