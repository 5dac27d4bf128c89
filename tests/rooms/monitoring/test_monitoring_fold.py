"""Folding real segments into a real Delta table."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import polars as pl
import pytest

from treadle.monitoring.fold import COLUMNS, COMPACT_EVERY, Folder, find_folded, fold, recent, typed, whole
from treadle.records.clock import from_micros
from treadle.records.layout import Layout
from treadle.records.serving import LogEntry
from treadle.serving.segments import SegmentWriter, prediction_id, seal_orphans

encode = msgspec.msgpack.Encoder().encode
NOW = 1_359_676_800_000_000


def entry(rows: int = 2, **given) -> LogEntry:
    values = {
        "status": 200,
        "endpoint": "delay",
        "generation": 4,
        "event_time": NOW,
        "recorded_time": NOW + 5,
        "rows": rows,
        "variant": ["champion"] * rows,
        "model_version": [3] * rows,
        "unit": [f"u{i}" for i in range(rows)],
        "propensity": [0.75] * rows,
        "inputs": {"carrier": ["AA", None, "UA"][:rows], "hour": list(range(rows))},
        "features": {"w.temp": [1.5] * rows},
        "output": [0.25] * rows,
        "other": [],
        "other_version": [],
        "latency_us": 700,
    }
    return LogEntry(**{**values, **given})


def refused(**given) -> LogEntry:
    empty = {name: [] for name in ("variant", "model_version", "unit", "propensity", "output")}
    return entry(rows=0, inputs={}, features={}, status=422, error="no", **empty, **given)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home")


def writer(layout: Layout, capacity: int = 1 << 20) -> SegmentWriter:
    return SegmentWriter(layout.gateway("p", "prod").log, project="p", environment="prod", worker="w", capacity=capacity)


def rows(layout: Layout) -> pl.DataFrame:
    return pl.read_delta(str(layout.prediction_table("p", "prod")))


def test_one_row_a_prediction_with_everything_that_was_logged(layout: Layout) -> None:
    log = writer(layout)
    first = log.append(encode(entry(other=[0.5, None], other_version=[4, None], ids=["a", "b"])))
    second = log.append(encode(refused()))
    report = fold(layout, "p", "prod")
    assert (report.requests, report.rows, report.rejected, report.version) == (2, 3, 1, 0)
    table = rows(layout)
    assert set(COLUMNS) <= set(table.columns)
    one, two, three = table.sort("status", "row").to_dicts()
    assert one["prediction_id"] == prediction_id(log.segment, first, 0)
    assert (one["in.carrier"], one["in.hour"], one["ft.w.temp"], one["other"], one["other_version"]) == ("AA", 0, 1.5, 0.5, 4)
    assert (two["in.carrier"], two["other"], two["row_id"], two["unit"], two["propensity"]) == (None, None, "b", "u1", 0.75)
    assert (one["event_time"], one["recorded_time"]) == (from_micros(NOW), from_micros(NOW + 5))
    assert (three["prediction_id"], three["status"], three["error"], three["output"]) == (
        prediction_id(log.segment, second, 0),
        422,
        "no",
        None,
    )
    found = find_folded(layout, "p", "prod", one["prediction_id"])
    assert found is not None
    assert (found["inputs"], found["features"], found["output"]) == ({"carrier": "AA", "hour": 0}, {"w.temp": 1.5}, 0.25)
    assert find_folded(layout, "p", "prod", "x-0-0") is None


def test_folding_goes_on_where_it_stopped(layout: Layout) -> None:
    assert fold(layout, "p", "prod").version == -1
    log, kept = writer(layout), Folder(layout, "p", "prod")
    for i in range(5):
        log.append(encode(entry(event_time=NOW + i)))
        folder = kept if i % 2 else Folder(layout, "p", "prod")
        assert folder.fold().rows == 2
        assert kept.fold().rows == 0
    assert fold(layout, "p", "prod").frame is None
    assert rows(layout)["prediction_id"].n_unique() == rows(layout).height == 10


def test_several_segments_in_one_commit_and_the_table_is_kept_small(layout: Layout) -> None:
    logs, folder = [writer(layout), writer(layout)], Folder(layout, "p", "prod")
    for _ in range(COMPACT_EVERY + 2):
        for log in logs:
            log.append(encode(entry()))
        report = folder.fold()
        assert (report.rows, report.contiguous) == (4, True)
    table = folder.table()
    assert table is not None
    assert len(table.file_uris()) <= 4
    assert rows(layout)["prediction_id"].n_unique() == 4 * (COMPACT_EVERY + 2)


def test_types_that_change_lose_nothing(layout: Layout) -> None:
    log = writer(layout)
    for values in ([1, 2], [1.5, None], ["late", None], [True, False], [None, None]):
        log.append(encode(entry(inputs={"x": values})))
        fold(layout, "p", "prod")
    log.append(encode(entry(inputs={"x": [[1], {"a": 2}], "new": [1, 2.5]})))
    fold(layout, "p", "prod")
    table = whole(rows(layout))
    assert sorted(table["in.x"].drop_nulls().to_list()) == [1.0, 1.5, 2.0]
    assert set(table["in.x.text"].drop_nulls()) == {"late", "[1]", '{"a":2}'}
    assert table["in.x.bool"].drop_nulls().sort().to_list() == [False, True]
    assert table["in.new"].dtype == pl.Float64
    assert typed("in.none", [None], {}) is None


def test_whole_numbers_of_a_float_column_stay_floats(layout: Layout) -> None:
    log = writer(layout)
    for values in ([1.5, 2.5], [1, 2]):
        log.append(encode(entry(inputs={"x": values})))
        fold(layout, "p", "prod")
    assert rows(layout)["in.x"].to_list().count(2.0) == 1
    assert not [c for c in rows(layout).columns if c.startswith("in.x.")]


def test_a_dead_gateways_segment_is_folded_to_its_last_record(layout: Layout) -> None:
    log = writer(layout)
    log.append(encode(entry()))
    log._map.close()
    os.close(log._file)
    folder = Folder(layout, "p", "prod")
    assert folder.fold().rows == 2
    assert folder.drop(older_than_s=0) == []
    seal_orphans(layout.gateway("p", "prod").log)
    assert folder.drop(older_than_s=3600) == []
    assert folder.drop(older_than_s=0) == [log.segment]
    assert (folder.fold().rows, rows(layout).height) == (0, 2)


def test_only_what_is_recent_is_read_back(layout: Layout) -> None:
    log, folder = writer(layout), Folder(layout, "p", "prod")
    for i in range(3):
        log.append(encode(entry(event_time=NOW + i * 1_000_000)))
    log.append(encode(entry(endpoint="other")))
    folder.fold()
    table = folder.table()
    assert table is not None
    assert recent(table, "delay", from_micros(NOW + 1_000_000)).height == 4


_LOOP = """
import sys
from pathlib import Path
from treadle.monitoring.fold import Folder
from treadle.records.layout import Layout
folder = Folder(Layout(Path(sys.argv[1])), "p", "prod")
folder.table()
print("ready", flush=True)
while True:
    folder.fold()
"""


def test_killed_folders_lose_and_double_nothing(layout: Layout) -> None:
    draw, log, expected = random.Random(7), writer(layout, 8 << 20), set()
    for round_ in range(6):
        children = [
            subprocess.Popen([sys.executable, "-c", _LOOP, str(layout.root)], stdout=subprocess.PIPE, text=True)
            for _ in range(1 + round_ % 2)
        ]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        end = time.monotonic() + draw.uniform(0.02, 0.25)
        while time.monotonic() < end:
            offset = log.append(encode(entry(rows=3)))
            expected |= {prediction_id(log.segment, offset, row) for row in range(3)}
            time.sleep(0.002)
        for child in children:
            child.send_signal(signal.SIGKILL)
            child.communicate()
    fold(layout, "p", "prod")
    ids = rows(layout)["prediction_id"].to_list()
    assert len(ids) == len(set(ids))
    assert set(ids) == expected
