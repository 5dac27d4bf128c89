import datetime as dt
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.serving import Ack, LogEntry, Snapshot
from treadle.serving import segments, snapshots
from treadle.serving.log import PredictionLog
from treadle.serving.segments import SegmentReader, SegmentWriter, find, parse_prediction_id, prediction_id


def writer(folder, capacity=1 << 16):
    return SegmentWriter(folder, project="p", environment="e", worker="w", capacity=capacity)


def entry(number: int, text: str = "") -> LogEntry:
    return LogEntry(
        status=200,
        endpoint="x",
        generation=1,
        event_time=number,
        recorded_time=2,
        rows=2,
        variant=["champion"] * 2,
        model_version=[1, 1],
        unit=["a", "b"],
        propensity=[1.0, 1.0],
        inputs={"a": [1, text]},
        features={},
        output=[0.1, 0.2],
        other=[None, None],
        other_version=[None, None],
        latency_us=3,
    )


def encoded(number: int, text: str = "") -> bytes:
    return segments._encoder.encode(entry(number, text))


def test_what_is_appended_is_read_back_while_open_and_after_sealing(tmp_path):
    writing = writer(tmp_path)
    offsets = [writing.append(encoded(i)) for i in range(20)]
    reader = SegmentReader(writing.path)
    assert [(o, e.event_time) for o, e in reader.entries()] == list(zip(offsets, range(20), strict=True))
    assert (reader.sealed, reader.is_open()) == (False, True)
    more = writing.append(encoded(20))
    assert [o for o, _ in reader.entries(reader.end)] == [more]
    writing.close()
    writing.close()
    assert [o for o, _ in reader.entries(limit=3)] == offsets[:3]
    assert [o for o, _ in reader.entries()] == [*offsets, more]
    assert (reader.sealed, reader.is_open()) == (True, False)
    assert writing.path.stat().st_size == reader.end + 8
    assert list(reader.entries(reader.end)) == []
    assert reader.header.project == "p"


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(0, 3000), max_size=40), keep=st.floats(0, 1))
def test_a_file_cut_anywhere_is_readable_to_its_last_complete_record(sizes, keep):
    with tempfile.TemporaryDirectory() as folder:
        writing = writer(Path(folder), 1 << 20)
        ends = []
        for number, size in enumerate(sizes):
            writing.append(encoded(number, "x" * size))
            ends.append(writing.end)
        cut = writing.start + int((writing.end - writing.start) * keep)
        writing._map.close()
        os.ftruncate(writing._file, cut)
        os.close(writing._file)
        complete = sum(end <= cut for end in ends)
        reader = SegmentReader(writing.path)
        assert [e.event_time for _, e in reader.entries()] == list(range(complete))
        assert segments.seal_orphans(Path(folder)) == [writing.path]
        assert segments.seal_orphans(Path(folder)) == []
        assert [e.event_time for _, e in reader.entries()] == list(range(complete))
        assert reader.sealed


def test_a_damaged_record_of_a_sealed_segment_is_told(tmp_path):
    writing = writer(tmp_path)
    offsets = [writing.append(encoded(i, "payload")) for i in range(3)]
    writing.close()
    content = bytearray(writing.path.read_bytes())
    content[offsets[1] + 20] ^= 1
    writing.path.write_bytes(content)
    reader = SegmentReader(writing.path)
    with pytest.raises(TreadleError, match=f"damaged at offset {offsets[1]}"):
        list(reader.entries())


def test_a_file_that_is_no_segment(tmp_path):
    (tmp_path / "01.seg").write_bytes(b"hello")
    with pytest.raises(TreadleError, match="no prediction log segment"):
        SegmentReader(tmp_path / "01.seg")


def test_find_opens_one_file_at_one_place(tmp_path):
    writing = writer(tmp_path)
    first, second = writing.append(encoded(1)), writing.append(encoded(2))
    header, found, row = find(tmp_path, prediction_id(writing.segment, second, 1))
    assert (header.segment, found.event_time, row) == (writing.segment, 2, 1)
    for wrong in (prediction_id(writing.segment, first + 1, 0), prediction_id(writing.segment, first, 2), prediction_id("01abc", first, 0)):
        with pytest.raises(TreadleError) as error:
            find(tmp_path, wrong)
        assert error.value.code == "not_found"
    for wrong in ("", "a-b", "../../etc/passwd-1-1", "a-1-1-1", "ab-0x1_0-1", "a.b-1-1", "a-1--1"):
        with pytest.raises(TreadleError, match="no prediction id"):
            parse_prediction_id(wrong)
    writing.close()


def test_rotation_keeps_every_record_and_seals_the_full_segments(tmp_path):
    log = PredictionLog(tmp_path, project="p", environment="e", worker="w", capacity=8192, flush_s=0.001)
    places = [log.append(encoded(i, "x" * 500)) for i in range(100)]
    big = log.append(encoded(100, "y" * 20_000))
    done = []
    log.when_durable(done.append)
    deadline = time.monotonic() + 5
    while not done:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    log.close()
    assert done == [None]
    found = [(r.segment, o) for path in segments.segments(tmp_path) for r in [SegmentReader(path)] for o, _ in r.entries()]
    assert sorted(found) == sorted([*places, big])
    assert len({segment for segment, _ in places}) > 5
    for path in segments.segments(tmp_path):
        reader = SegmentReader(path)
        list(reader.payloads())
        assert reader.sealed


def test_an_empty_segment_is_sealed_and_small(tmp_path):
    log = PredictionLog(tmp_path, project="p", environment="e", worker="w", capacity=8192)
    log.close()
    (path,) = segments.segments(tmp_path)
    reader = SegmentReader(path)
    assert (list(reader.entries()), reader.sealed, path.stat().st_size < 200) == ([], True, True)


def test_a_full_disk_is_an_error_and_not_a_bus_error(tmp_path):
    code = """
import resource, signal, sys
from pathlib import Path
from treadle.records.errors import TreadleError
from treadle.serving.segments import SegmentWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    SegmentWriter(Path(sys.argv[1]), project="p", environment="e", worker="w", capacity=1 << 20)
except TreadleError as error:
    print(error.code)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("storage_full", 0), done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert list(tmp_path.iterdir()) == []


def test_a_writer_killed_in_the_middle_loses_no_record_it_told_of(tmp_path):
    code = """
import sys
from pathlib import Path
from treadle.serving.segments import SegmentWriter
writing = SegmentWriter(Path(sys.argv[1]), project="p", environment="e", worker="w", capacity=1 << 24)
for number in range(10**6):
    writing.append(b"\\xc0" * 100)
    if number % 100 == 99:
        print(number + 1, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    told = [int(child.stdout.readline()) for _ in range(50)][-1]
    child.send_signal(signal.SIGKILL)
    told = max([told, *(int(line) for line in child.communicate()[0].split("\n")[:-1])])
    (path,) = segments.seal_orphans(tmp_path)
    assert len(list(SegmentReader(path).payloads())) >= told


# ── snapshots and acknowledgements ───────────────────────────────────────────────────────────────────────────────────


def snapshot(generation: int, project: str = "p") -> Snapshot:
    return Snapshot(project=project, environment="e", generation=generation, endpoints=(), published=dt.datetime(2013, 1, 1, tzinfo=dt.UTC))


def test_the_newest_snapshot_is_the_highest_number(tmp_path):
    here = Layout(tmp_path).gateway("p", "e")
    assert snapshots.newest(here) is None
    for number in (9, 100, 12):
        snapshots.write(here, snapshot(number))
    snapshots.write(here, snapshot(12))
    assert snapshots.newest(here) == snapshot(100)
    assert snapshots.generations(here) == [100, 12, 9]
    with pytest.raises(TreadleError) as error:
        snapshots.write(here, snapshot(12, project="q"))
    assert error.value.code == "conflict"
    (here.snapshots / "00000101.json").write_text("{")
    with pytest.raises(TreadleError) as error:
        snapshots.newest(here)
    assert error.value.code == "corrupt"


def test_only_live_workers_count(tmp_path):
    here = Layout(tmp_path).gateway("p", "e")
    assert snapshots.acknowledged(here, 5)
    me, pid = snapshots.worker_name(), os.getpid()
    snapshots.write_ack(here, Ack(worker=me, generation=4, state="ready", pid=pid))
    snapshots.write_ack(here, Ack(worker=f"{pid}-1", generation=1, state="ready", pid=pid))  # an earlier process of this pid
    child = subprocess.Popen([sys.executable, "-c", ""])
    dead = snapshots.worker_name(child.pid)
    snapshots.write_ack(here, Ack(worker=dead, generation=1, state="ready", pid=child.pid))
    while child.poll() is None:
        time.sleep(0.01)
    assert snapshots.live_workers(here) == [me]
    assert len(snapshots.read_acks(here, live=False)) == 3
    assert not snapshots.acknowledged(here, 5)
    snapshots.write_ack(here, Ack(worker=me, generation=5, state="error", error="no", pid=pid))
    assert not snapshots.acknowledged(here, 5)
    snapshots.write_ack(here, Ack(worker=me, generation=5, state="ready", pid=pid))
    assert snapshots.acknowledged(here, 5)
    snapshots.remove_ack(here, me)
    assert snapshots.live_workers(here) == []
