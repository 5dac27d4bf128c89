"""The online store and its reader as files: other processes, restarts, replacement, marks, forgetting."""

import multiprocessing
import os
import random
import shutil
import time

import pytest

from treadle.online.reader import OnlineReader
from treadle.online.store import SqliteOnline, key_text, stream_of
from treadle.records.definitions import FeatureView, Window
from treadle.records.errors import TreadleError

S = 1_000_000
T0 = 1_357_000_000 * S
LATE = FeatureView(
    name="late", entity=("tail",), source="outcomes", windows={"m": Window(column="late", aggregate="mean", over_s=3600, hop_s=60)}
)
SEATS = FeatureView(name="plane", entity=("tail",), source="planes", columns=("seats", "maker", "old"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "online" / "prod.db"


def push_late(path, tail: str, count: int) -> None:
    with SqliteOnline(path) as store:
        for i in range(count):
            store.push_events(LATE, [(tail,)], [T0 + i * S], {"late": [i % 2 == 0]})


def push_and_stop(store: SqliteOnline) -> None:
    with store.batch():
        assert store.mark("outcomes", 1)
        store.push_events(LATE, [("N1",)], [T0], {"late": [True]})
        raise RuntimeError("the process stops here")


def test_before_there_is_a_file_everything_is_missing(path):
    reader = OnlineReader(path, [LATE, SEATS])
    assert reader.read("late", [("N1",)], [T0]) == {"late.m": [None]}
    assert reader.read("plane", [("N1",)], [T0]) == {"plane.seats": [None], "plane.maker": [None], "plane.old": [None]}
    push_late(path, "N1", 3)
    assert reader.read("late", [("N1",), ("N2",), (None,)], [T0 + 9 * S] * 3) == {"late.m": [2 / 3, None, None]}
    with pytest.raises(TreadleError, match="no feature view 'other'"):
        reader.read("other", [], [])
    reader.close()


def test_values_keep_their_types_and_their_history(path):
    reader = OnlineReader(path, [SEATS])
    with SqliteOnline(path) as store:
        store.push_values(SEATS, [("N1",), ("N1",)], [T0, T0 + 5], {"seats": [100, 120], "maker": ["Boeing", None], "old": [True, False]})
        assert reader.read("plane", [("N1",)] * 3, [T0 - 1, T0 + 4, T0 + 5]) == {
            "plane.seats": [None, 100, 120],
            "plane.maker": [None, "Boeing", None],
            "plane.old": [None, True, False],
        }
        store.push_values(SEATS, [("N1",)], [T0 + 5], {"seats": [121], "maker": ["Airbus"], "old": [None]})
        assert reader.read("plane", [("N1",)], [T0 + 5])["plane.seats"] == [121]
        assert type(reader.read("plane", [("N1",)], [T0])["plane.old"][0]) is bool
    reader.close()


def test_another_process_is_seen_at_once_and_a_restart_reads_the_same(path):
    reader = OnlineReader(path, [LATE])
    worker = multiprocessing.get_context("spawn").Process(target=push_late, args=(path, "N9", 4))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert reader.read("late", [("N9",)], [T0 + 60 * S]) == {"late.m": [0.5]}
    again = OnlineReader(path, [LATE])
    assert again.read("late", [("N9",)], [T0 + 60 * S]) == {"late.m": [0.5]}
    again.close()
    reader.close()


def test_a_replaced_file_is_read_anew(path, tmp_path):
    push_late(path, "N1", 2)
    reader = OnlineReader(path, [LATE])
    assert reader.read("late", [("N1",)], [T0 + 60 * S]) == {"late.m": [0.5]}
    push_late(tmp_path / "other.db", "N1", 1)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.replace(tmp_path / "other.db", path)
    assert reader.read("late", [("N1",)], [T0 + 60 * S]) == {"late.m": [1.0]}
    path.unlink()
    assert reader.read("late", [("N1",)], [T0 + 60 * S]) == {"late.m": [None]}
    reader.close()


def test_a_file_that_is_no_store_is_said_to_be_one(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database, and long enough to be looked at" * 10)
    reader = OnlineReader(path, [LATE])
    with pytest.raises(TreadleError, match="cannot be read") as raised:
        reader.read("late", [("N1",)], [T0])
    assert raised.value.code == "corrupt"


def test_marks_share_the_batch_of_their_rows(path):
    with SqliteOnline(path) as store:
        with pytest.raises(RuntimeError):
            push_and_stop(store)
        assert store.marked("outcomes") == 0
        with store.batch():
            assert store.mark("outcomes", 1)
            store.push_events(LATE, [("N1",)], [T0], {"late": [True]})
        assert not store.mark("outcomes", 1)
        assert store.marked("outcomes") == 1
        reader = OnlineReader(path, [LATE])
        assert reader.read("late", [("N1",)], [T0]) == {"late.m": [1.0]}
        reader.close()


def test_what_is_forgotten_gives_null_and_the_rest_stays_exact(path):
    reader = OnlineReader(path, [LATE, SEATS])
    with SqliteOnline(path) as store:
        store.push_events(LATE, [("N1",)] * 200, [T0 + i * 60 * S for i in range(200)], {"late": [i % 3 == 0 for i in range(200)]})
        store.push_values(
            SEATS, [("N1",), ("N1",), ("N2",)], [T0, T0 + 1, T0], {"seats": [1, 2, 3], "maker": [None] * 3, "old": [None] * 3}
        )
        moments = [T0 + m * 60 * S for m in (150, 199)]
        exact = reader.read("late", [("N1",)] * 2, moments)
        now = T0 + 140 * 60 * S
        removed = store.prune(now)
        assert removed > 50
        assert reader.read("late", [("N1",)] * 2, moments) == exact
        assert OnlineReader(path, [LATE]).read("late", [("N1",)] * 2, moments) == exact
        assert reader.read("late", [("N1",)], [T0 + 60 * S]) == {"late.m": [None]}
        assert reader.read("plane", [("N1",), ("N2",)], [now, now])["plane.seats"] == [2, 3]  # the newest never expires
        assert len(reader._views["late"].keys["N1"].times) < 130
        store.clear()
        assert reader.read("late", [("N1",)], moments[:1]) == {"late.m": [None]}
        assert reader.read("plane", [("N2",)], [now])["plane.seats"] == [None]
    reader.close()


def test_definitions_of_other_shape_have_streams_of_their_own(path):
    wider = FeatureView(
        name="late", entity=("tail",), source="outcomes", windows={"m": Window(column="late", aggregate="mean", over_s=7200, hop_s=60)}
    )
    other = FeatureView(
        name="late", entity=("tail",), source="outcomes", windows={"m": Window(column="delay", aggregate="mean", over_s=3600, hop_s=60)}
    )
    assert stream_of(wider) == stream_of(LATE) != stream_of(other)
    with SqliteOnline(path) as store:
        store.push_events(LATE, [("N1",)], [T0], {"late": [True]})
        store.push_events(other, [("N1",)], [T0], {"delay": [5.5]})
    assert OnlineReader(path, [wider]).read("late", [("N1",)], [T0]) == {"late.m": [1.0]}
    assert OnlineReader(path, [other]).read("late", [("N1",)], [T0]) == {"late.m": [5.5]}


def test_keys_of_several_parts_do_not_collide():
    assert key_text(("a\x1f", "b")) != key_text(("a", "\x1fb"))
    assert key_text(("a\\", "b")) != key_text(("a", "\\b"))
    assert key_text(("a", None)) is None
    assert key_text((7,)) == "7"


def test_a_push_that_does_not_fit_changes_nothing(path):
    with SqliteOnline(path) as store:
        for columns in ({}, {"late": [True]}, {"late": [True, "x"]}):
            with pytest.raises(TreadleError):
                store.push_events(LATE, [("N1",), ("N2",)], [T0, T0], columns)
        with pytest.raises(TreadleError, match="2 keys came with 1 times"):
            store.push_events(LATE, [("N1",), ("N2",)], [T0], {"late": [True, True]})
        reader = OnlineReader(path, [LATE])
        assert reader.read("late", [("N1",)], [T0]) == {"late.m": [None]}
        reader.close()


def test_reads_and_refreshes_are_quick(path):
    """Loose bounds for a busy machine; docs/features.md has the measured figures."""
    random.seed(1)
    views = [
        FeatureView(
            name=name,
            entity=("k",),
            source="o",
            windows={f"w{i}": Window(column="late", aggregate="mean", over_s=3600 * (i + 1), hop_s=60) for i in range(count)},
        )
        for name, count in (("a", 3), ("b", 2), ("c", 2), ("d", 1))
    ]
    reader = OnlineReader(path, views)
    with SqliteOnline(path) as store:
        with store.batch():
            for view in views:
                times = [T0 + random.randrange(86_400) * S for _ in range(5000)]
                store.push_events(view, [(random.choice("xyz"),) for _ in times], times, {"late": [random.random() < 0.3 for _ in times]})
        reader.refresh()
        moment = [T0 + 86_400 * S]
        start = time.process_time()
        for _ in range(2000):
            reader.read_views({view.name: [("x",)] for view in views}, moment)
        row_us = (time.process_time() - start) / 2000 * 1e6
        refreshes = []
        for i in range(100):
            with store.batch():
                for view in views:
                    store.push_events(view, [("x",)], [moment[0] + i], {"late": [True]})
            start = time.process_time()
            reader.refresh()
            refreshes.append((time.process_time() - start) * 1e6)
    reader.close()
    print(f"row of 8 windows {row_us:.1f} us, refresh after a push {sorted(refreshes)[50]:.1f} us")
    assert row_us < 90
    assert sorted(refreshes)[50] < 300
    shutil.rmtree(path.parent)
