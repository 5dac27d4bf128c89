"""Several processes on one home: no "database is locked", nobody starves, and `kill -9` loses nothing acknowledged."""

import os
import signal
import subprocess
import sys
import time

import pytest

from treadle.ledger import audit, events, sealer

WRITER = """
import datetime as dt, os, sys, threading, time
from treadle.ledger import events, sealer
from treadle.records.calls import SYSTEM, Call
from treadle.store.db import Database

url, name, acknowledged, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
call = Call(actor=SYSTEM, event_time=dt.datetime(2013, 3, 1, tzinfo=dt.UTC))
database = Database.open(url)
file = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
print("ready", flush=True)
sys.stdin.readline()
end, lock, number = time.monotonic() + seconds, threading.Lock(), [0]

def write():
    while time.monotonic() < end:
        with lock:
            number[0] += 1
            mine = f"{name}-{number[0]}"
        database.write(lambda tx: events.append(tx, call, type="t.e", subject=mine, project="p"))
        os.write(file, (mine + "\\n").encode())

threads = [threading.Thread(target=write) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
database.close()
"""


def start(url, folder, count, seconds):
    environment = {**os.environ, "PYTHONPATH": "src"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, f"w{i}", str(folder / f"w{i}"), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for i in range(count)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    return started


def acknowledged(folder, count):
    return [(folder / f"w{i}").read_text().split() for i in range(count)]


def written(database):
    sealer.seal_all(database)
    seen, seq = [], 0
    with database.read() as connection:
        while page := events.events_after(connection, "p", seq, (), 10_000):
            seen += [e.subject for e in page]
            seq = page[-1].seq
    return seen


@pytest.mark.heavy
def test_five_processes_write_as_fast_as_they_can(database, database_url, tmp_path):
    processes = start(database_url, tmp_path, 5, 3)
    for process in processes:
        _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (0, "")
    shares = [len(lines) for lines in acknowledged(tmp_path, 5)]
    total = sum(shares)
    print(f"{database.dialect}: {total} writes in 3 s, shares {shares}")
    assert min(shares) >= 0.1 * total, shares
    assert sorted(written(database)) == sorted(name for lines in acknowledged(tmp_path, 5) for name in lines)
    assert audit.verify(database).intact


@pytest.mark.parametrize("round", [0, *(pytest.param(later, marks=pytest.mark.heavy) for later in (1, 2))])
def test_kill_9_loses_nothing_acknowledged(database, database_url, tmp_path, round):
    processes = start(database_url, tmp_path, 3, 30)
    time.sleep(0.4 + 0.15 * round)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    told = {name for lines in acknowledged(tmp_path, 3) for name in lines}
    assert len(told) > 0
    there = written(database)
    assert told <= set(there)
    assert len(there) == len(set(there))
    assert audit.verify(database).intact
