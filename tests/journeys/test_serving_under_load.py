"""Real gateways under load: killed, switched, restarted without a database. What was acknowledged is in the log, once."""

import signal
import threading
import time
from collections import Counter

import pytest

from treadle.client.inference import InferenceClient
from treadle.records.errors import TreadleError
from treadle.serving import snapshots
from treadle.serving.segments import SegmentReader, find, prediction_id, segments
from treadle.testing.gateways import ENDPOINT, NOW_US, GatewayProcess, TinyHome, flights, running_gateway


@pytest.fixture
def home(tmp_path) -> TinyHome:
    home = TinyHome(tmp_path / "home")
    home.publish(1)
    return home


class Caller(threading.Thread):
    """Sends requests one after another until told to stop, and remembers what was acknowledged."""

    def __init__(self, number: int, retry_s: float = 5.0):
        super().__init__(daemon=True)
        self.number = number
        self.retry_s = retry_s
        self.port = 0
        self.acknowledged: list[str] = []
        self.rows: list[str] = []
        self.versions: Counter[int] = Counter()
        self.failures: list[str] = []
        self.broken = 0
        self.ending = threading.Event()

    def run(self):
        client, sent, port = None, 0, 0
        while not self.ending.is_set():
            if client is None or port != self.port:
                port = self.port
                client = InferenceClient("127.0.0.1", port, retry_s=0.2)
            sent += 1
            columns = flights(2, seed=self.number * 1_000_000 + sent)
            try:
                answer = client.predict(ENDPOINT, columns, NOW_US)
            except TreadleError as error:
                if error.code != "unavailable":
                    self.failures.append(str(error))
                self.broken += 1
                time.sleep(0.01)
                continue
            self.acknowledged += answer.ids
            self.rows += columns["flight_id"]
            self.versions.update(answer.model_version)
        if client is not None:
            client.close()


def call(port: int, number: int = 4) -> list[Caller]:
    callers = [Caller(n) for n in range(number)]
    for caller in callers:
        caller.port = port
        caller.start()
    return callers


def stop(callers: list[Caller]) -> None:
    for caller in callers:
        caller.ending.set()
    for caller in callers:
        caller.join(30)
        assert caller.failures == []


def logged(home: TinyHome) -> dict[str, str]:
    """prediction id → flight id, of everything in the log."""
    found: dict[str, str] = {}
    for path in segments(home.here.log):
        reader = SegmentReader(path)
        for offset, entry in reader.entries():
            for row in range(entry.rows):
                name = prediction_id(reader.segment, offset, row)
                assert name not in found
                found[name] = entry.inputs["flight_id"][row]
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_killing_the_gateway_under_load_loses_nothing_acknowledged(home, number):
    callers: list[Caller] = []
    for _ in range(4):
        gateway = GatewayProcess(home.layout)
        if not callers:
            callers = call(gateway.port)
        for caller in callers:
            caller.port = gateway.port
        time.sleep(0.5)
        code, _ = gateway.stop(number)
        assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    stop(callers)
    acknowledged = [name for caller in callers for name in caller.acknowledged]
    rows = [name for caller in callers for name in caller.rows]
    assert len(acknowledged) > 100
    in_log = logged(home)
    assert len(set(acknowledged)) == len(acknowledged)
    assert [in_log.get(name) for name in acknowledged] == rows
    doubled = [name for name, times in Counter(in_log.values()).items() if times > 1]
    assert doubled == []
    sealed = [path for path in segments(home.here.log) if _sealed(path)]
    if number == signal.SIGTERM:
        assert len(sealed) == len(segments(home.here.log)) == 4
    with running_gateway(home.layout):  # the next start seals what the dead left behind
        open_ones = [path for path in segments(home.here.log) if not _sealed(path)]
        assert len(open_ones) == 1


def _sealed(path) -> bool:
    reader = SegmentReader(path)
    for _ in reader.payloads():
        pass
    return reader.sealed


def test_switching_the_champion_under_load_fails_no_request(home):
    with running_gateway(home.layout) as gateway:
        callers = call(gateway.port, 8)
        for generation in range(2, 22):
            home.publish(generation, champion=(generation + 1) % 2)
            deadline = time.monotonic() + 10
            while not snapshots.acknowledged(home.here, generation):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        stop(callers)
    assert sum(caller.broken for caller in callers) == 0
    versions = sum((caller.versions for caller in callers), Counter())
    assert set(versions) == {1, 2}
    in_log = logged(home)
    assert all(name in in_log for caller in callers for name in caller.acknowledged)


def test_serves_and_logs_without_a_database_and_through_its_own_restart(home):
    assert not home.layout.database.exists()
    with running_gateway(home.layout) as gateway, InferenceClient("127.0.0.1", gateway.port) as client:
        before = client.predict(ENDPOINT, flights(3), NOW_US)
    home.layout.online("tiny", "prod").unlink()  # features are missing then, and predictions go on
    with running_gateway(home.layout) as gateway, InferenceClient("127.0.0.1", gateway.port) as client:
        after = client.predict(ENDPOINT, flights(3), NOW_US)
        assert gateway.start_s < 5
    assert not home.layout.database.exists()
    for answer in (before, after):
        for name, score in zip(answer.ids, answer.predictions, strict=True):
            header, entry, row = find(home.here.log, name)
            assert (header.environment, entry.output[row]) == ("prod", score)


def test_a_broken_generation_leaves_the_one_before_it_serving_also_after_a_restart(home):
    with running_gateway(home.layout) as gateway, InferenceClient("127.0.0.1", gateway.port) as client:
        (home.here.bundles / home.digests[1] / "model.txt").write_text("tree")
        home.publish(2, champion=1)
        deadline = time.monotonic() + 10
        while snapshots.read_acks(home.here)[0].generation != 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ack = snapshots.read_acks(home.here)[0]
        assert ack.state == "error"
        assert "model.txt does not match" in ack.error
        assert not snapshots.acknowledged(home.here, 2)
        assert client.predict(ENDPOINT, flights(1), NOW_US).generation == 1
    assert snapshots.read_acks(home.here) == []
    with running_gateway(home.layout) as gateway, InferenceClient("127.0.0.1", gateway.port) as client:
        assert client.predict(ENDPOINT, flights(1), NOW_US).generation == 1
        assert snapshots.read_acks(home.here)[0].state == "error"


def test_several_workers_share_a_port_and_one_that_dies_comes_back(home):
    with running_gateway(home.layout, "--workers", "2") as gateway:
        first = {ack.pid for ack in snapshots.read_acks(home.here)}
        assert len(first) == 2
        callers = call(gateway.port, 4)
        time.sleep(0.3)
        victim = min(first)
        import os

        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + 15
        while len(now := {ack.pid for ack in snapshots.read_acks(home.here)}) < 2 or victim in now:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)
        stop(callers)
    in_log = logged(home)
    acknowledged = [name for caller in callers for name in caller.acknowledged]
    rows = [name for caller in callers for name in caller.rows]
    assert [in_log.get(name) for name in acknowledged] == rows
