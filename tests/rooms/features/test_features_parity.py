"""Windows by brute force, in batch and online: equal bit for bit, whatever order the events came in."""

import datetime as dt
import math
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.features.join import Source, join_features
from treadle.features.materialise import push
from treadle.online.reader import OnlineReader
from treadle.online.store import SqliteOnline
from treadle.records.clock import from_micros
from treadle.records.definitions import FeatureView, Window
from treadle.records.errors import TreadleError

T0 = 1_357_000_000  # seconds since 1970
SECOND = 1_000_000
times = st.integers(0, 4000)
keys = st.none() | st.sampled_from(["a", "b"])
values = st.tuples(
    st.none() | st.booleans(),
    st.none() | st.integers(-(10**6), 10**6) | st.integers(-(2**45), 2**45),
    st.none() | st.floats(-1e6, 1e6) | st.just(math.nan),
)
events = st.lists(st.tuples(keys, times, values), max_size=40)
questions = st.lists(st.tuples(keys, times), min_size=1, max_size=15)
windows = st.fixed_dictionaries(
    {
        f"{column}_{aggregate}": st.builds(
            Window,
            column=st.just(column),
            aggregate=st.just(aggregate),
            over_s=st.sampled_from([60, 90, 600, 3600]),
            hop_s=st.sampled_from([1, 60, 7]),
        )
        for column in ("flag", "whole", "real")
        for aggregate in ("mean", "sum", "count")
    }
)


def frame_of(made) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "k": [k for k, *_ in made],
            "at": [from_micros((T0 + t) * SECOND) for _, t, _ in made],
            "flag": [v[0] for *_, v in made],
            "whole": [v[1] for *_, v in made],
            "real": [v[2] for *_, v in made],
        },
        schema={"k": pl.String, "at": pl.Datetime("us", "UTC"), "flag": pl.Boolean, "whole": pl.Int64, "real": pl.Float64},
    )


def brute(made, key, moment, window: Window):
    """The docstring of `Window`, read aloud."""
    column = ("flag", "whole", "real").index(window.column)
    start = (T0 + moment - window.over_s) // window.hop_s * window.hop_s
    inside = [v[column] for k, t, v in made if k == key and key is not None and start <= T0 + t <= T0 + moment]
    inside = [v for v in inside if v is not None and not (isinstance(v, float) and math.isnan(v))]
    total = sum(round(v * 1e6) if isinstance(v, float) else int(v) * 10**6 for v in inside)
    if window.aggregate == "count":
        return len(inside)
    if window.aggregate == "sum":
        return float(Fraction(total, 10**6))
    return float(Fraction(total, 10**6 * len(inside))) if inside else None


@settings(deadline=None, max_examples=120)
@given(events, questions, windows, st.integers(1, 4), st.randoms(use_true_random=False))
def test_batch_and_online_equal_brute_force(made, asked, declared, batches, random):
    view = FeatureView(name="v", entity=("k",), source="events", windows=declared)
    rows = pl.DataFrame(
        {"k": [k for k, _ in asked], "t": [from_micros((T0 + t) * SECOND) for _, t in asked]},
        schema={"k": pl.String, "t": pl.Datetime("us", "UTC")},
    )
    expected = {f"v.{n}": [brute(made, k, t, w) for k, t in asked] for n, w in declared.items()}
    source = Source(frame_of(made), "at")
    joined = join_features(rows, time="t", views=[view], sources={"events": source})
    batch = joined.select(view.features).to_dict(as_series=False)
    assert batch == expected

    shuffled = list(made)
    random.shuffle(shuffled)
    with TemporaryDirectory() as folder:
        reader = OnlineReader(Path(folder) / "online.db", [view])
        with SqliteOnline(Path(folder) / "online.db") as store:
            step = max(len(shuffled) // batches, 1)
            for first in range(0, len(shuffled), step):  # late events: a reader that has seen some takes in the rest
                push(store, view, frame_of(shuffled[first : first + step]), time="at")
                reader.refresh()
            online = reader.read("v", [(k,) for k, _ in asked], [(T0 + t) * SECOND for _, t in asked])
            fresh = OnlineReader(Path(folder) / "online.db", [view])
            assert fresh.read("v", [(k,) for k, _ in asked], [(T0 + t) * SECOND for _, t in asked]) == online
            fresh.close()
        reader.close()
    assert [float(v).hex() if v is not None else None for c in online.values() for v in c] == [
        float(v).hex() if v is not None else None for c in batch.values() for v in c
    ]


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(keys, times, st.none() | st.floats(allow_nan=False), st.none() | st.sampled_from(["x", "y"])), max_size=25),
    questions,
    st.none() | st.integers(1, 2000),
    st.integers(1, 3),
)
def test_newest_values_online_equal_the_join(made, asked, ttl, batches):
    view = FeatureView(name="v", entity=("k",), source="s", columns=("number", "word"), ttl_s=ttl)
    frame = pl.DataFrame(
        {
            "k": [m[0] for m in made],
            "at": [from_micros((T0 + m[1]) * SECOND) for m in made],
            "number": [m[2] for m in made],
            "word": [m[3] for m in made],
        },
        schema={"k": pl.String, "at": pl.Datetime("us", "UTC"), "number": pl.Float64, "word": pl.String},
    )
    rows = pl.DataFrame(
        {"k": [k for k, _ in asked], "t": [from_micros((T0 + t) * SECOND) for _, t in asked]},
        schema={"k": pl.String, "t": pl.Datetime("us", "UTC")},
    )
    batch = join_features(rows, time="t", views=[view], sources={"s": Source(frame, "at")}).select(view.features).to_dict(as_series=False)
    with TemporaryDirectory() as folder, SqliteOnline(Path(folder) / "online.db") as store:
        reader = OnlineReader(Path(folder) / "online.db", [view])
        step = max(frame.height // batches, 1)
        for first in range(0, frame.height, step):
            push(store, view, frame[first : first + step], time="at")
            reader.refresh()
        assert reader.read("v", [(k,) for k, _ in asked], [(T0 + t) * SECOND for _, t in asked]) == batch
        reader.close()


def test_a_transform_gives_its_columns():
    frame = pl.DataFrame({"k": ["a", "a"], "at": [from_micros(T0 * SECOND), from_micros((T0 + 60) * SECOND)], "celsius": [10.0, 20.0]})
    view = FeatureView(name="w", entity=("k",), source="s", columns=("fahrenheit",))
    rows = pl.DataFrame({"k": ["a"], "t": [from_micros((T0 + 59) * SECOND)]})

    def transform(source: pl.LazyFrame) -> pl.LazyFrame:
        return source.select(fahrenheit=pl.col("celsius") * 1.8 + 32)

    joined = join_features(rows, time="t", views=[view], sources={"s": Source(frame, "at")}, transforms={"w": transform})
    assert joined["w.fahrenheit"].to_list() == [50.0]
    with pytest.raises(TreadleError, match="made 1 rows of 2"):
        join_features(rows, time="t", views=[view], sources={"s": Source(frame, "at")}, transforms={"w": lambda f: transform(f).head(1)})


def test_what_cannot_be_added_is_refused():
    view = FeatureView(name="v", entity=("k",), source="s", windows={"x": Window(column="x", aggregate="sum", over_s=60, hop_s=60)})
    rows = pl.DataFrame({"k": ["a"], "t": [from_micros(T0 * SECOND)]})
    for bad in ([math.inf], ["text"], [dt.date(2013, 1, 1)], [1e13]):
        frame = pl.DataFrame({"k": ["a"], "at": [from_micros(T0 * SECOND)], "x": bad})
        with pytest.raises(TreadleError) as raised:
            join_features(rows, time="t", views=[view], sources={"s": Source(frame, "at")})
        assert raised.value.code == "bad_data"
    with pytest.raises(TreadleError, match="was not given"):
        join_features(rows, time="t", views=[view], sources={})
