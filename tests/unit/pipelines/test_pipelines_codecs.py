"""What goes in comes out, exactly; what cannot is refused."""

import datetime as dt
import enum
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from polars.testing import assert_frame_equal

from treadle.pipelines import codecs
from treadle.records.errors import TreadleError

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(timezones=st.just(dt.UTC)),
    st.datetimes(),
    st.dates(),
    st.timedeltas(),
)
HASHABLE = st.one_of(st.integers(), st.text(), st.booleans(), st.tuples(st.integers(), st.text()))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
        st.sets(HASHABLE, max_size=4),
    ),
    max_leaves=12,
)


class Point(Struct, frozen=True):
    x: float
    at: dt.datetime


@dataclass
class Pair:
    a: int
    b: str


class Colour(enum.StrEnum):
    red = "red"


def back(value: Any) -> Any:
    encoded = codecs.encode(value)
    return codecs.decode(encoded.codec, encoded.content)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return (
            list(a) == list(b) and all(same(x, b[key]) for key, x in a.items()) if all(type(k) is str for k in a) else a.keys() == b.keys()
        )
    return a == b


@settings(deadline=None, max_examples=200)
@given(VALUES)
def test_plain_values_come_back_exactly(value: Any) -> None:
    encoded = codecs.encode(value)
    if type(value) is bytes:
        assert back(value) == value
        return
    assert encoded.codec == "json"
    restored = codecs.decode(encoded.codec, encoded.content)
    assert same(restored, value) or (isinstance(value, dict) and {*map(repr, restored)} == {*map(repr, value)})
    assert codecs.encode(restored).content == encoded.content


@pytest.mark.parametrize("value", [Point(x=float("nan"), at=dt.datetime(2013, 1, 1, tzinfo=dt.UTC)), Pair(1, "b"), Colour.red])
def test_records(value: Any) -> None:
    assert repr(back(value)) == repr(value)


def test_frames_keep_their_types() -> None:
    frame = pl.DataFrame(
        {"a": [1, None], "t": [dt.datetime(2013, 1, 1, tzinfo=dt.UTC)] * 2, "c": pl.Series(["x", "y"], dtype=pl.Categorical)}
    )
    assert_frame_equal(back(frame), frame)
    assert_frame_equal(back(frame.lazy()).collect(), frame)
    assert back(frame["a"]).to_list() == [1, None]


def test_arrays_come_back_unwritable() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    restored = back(array)
    assert restored.dtype == np.float32
    np.testing.assert_array_equal(restored, array)
    assert not restored.flags.writeable
    assert back(np.float64(2.5)) == 2.5


def test_estimators_through_skops_and_text() -> None:
    import lightgbm
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(1)
    rows = generator.standard_normal((200, 3))
    label = (rows[:, 0] > 0).astype(int)
    model = LogisticRegression().fit(rows, label)
    np.testing.assert_array_equal(back(model).predict_proba(rows), model.predict_proba(rows))
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(rows, label), num_boost_round=3)
    np.testing.assert_array_equal(back(booster).predict(rows), booster.predict(rows))


def test_containers_are_saved_in_parts() -> None:
    encoded = codecs.encode({"frame": pl.DataFrame({"a": [1]}), "n": 3})
    assert encoded.codec == "parts:dict"
    assert [(key, part.codec) for key, part in encoded.parts] == [("frame", "arrow"), ("n", "json")]


@pytest.mark.parametrize("value", [object(), lambda: 1, [object()], np.array([object()]), {1: {2: open}}])
def test_what_cannot_be_saved_is_refused(value: Any) -> None:
    with pytest.raises(TreadleError, match=r"cannot be saved.*Nothing is pickled") as told:
        codecs.encode(value, where="The result of step 0000:x")
    assert told.value.remedy.startswith("Return a polars frame")


def test_local_classes_are_refused() -> None:
    class Local(Struct):
        x: int

    with pytest.raises(TreadleError, match="cannot be found again by its name"):
        codecs.encode(Local(1))


def test_unknown_codecs() -> None:
    with pytest.raises(TreadleError, match="There is no codec 'pickle'"):
        codecs.encode(1, codec="pickle")
    with pytest.raises(TreadleError, match="which this version does not have"):
        codecs.decode("pickle", b"")
    with pytest.raises(TreadleError, match="cannot be imported here"):
        codecs.decode("struct:nowhere:Nothing", b"")
