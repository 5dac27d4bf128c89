"""The tracking server under MLflow's routes: what writes, searches and histories cost, and whether anything acknowledged is ever lost.

CPU of all processes of the server per call, the worker beside it too (their own clocks; on PostgreSQL that of its backends beside it),
with one client that waits for each answer, and the wall time of the median call. With --peer a stock `mlflow server` of
build/clients/mlflow-new answers the same calls in the same minutes.

    python -m bench.tracking [--runs 1000 10000 100000] [--store postgresql://…] [--peer] [--only search]
"""

import argparse
import contextlib
import http.client
import os
import secrets
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.tracking_servers import Server, ask, descendants, peer, pss_mb, treadle
from bench.tracking_stores import START, fill, fill_mlflow
from treadle.records.layout import Layout
from treadle.workshop.supervisor import living

PEER_MOST = 10_000  # more takes it minutes a call
SECONDS = 1.0  # of CPU
UNREAD = (
    100.0  # milliseconds of calls between two looks at the clocks: to find the backends in /proc empties the caches of what is measured
)
WRITERS = 64
CALLS = 400  # of a kind, to one server


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure(server: Server, call: Callable[[], Any], *, least: int = 5, most: int = CALLS) -> tuple[float, float, float]:
    """(CPU, CPU of PostgreSQL, median wall) in milliseconds a call."""
    for _ in range(server.workers * 6):  # each has modules to import and connections to open
        start = time.perf_counter()
        call()
        if time.perf_counter() - start > 2:
            break
    began, backend, walls = server.cpu_ms(), server.backend_ms(), []
    used = unread = 0.0
    while len(walls) < least or (len(walls) < most and used < SECONDS * 1000):
        start = time.perf_counter()
        call()
        walls.append((time.perf_counter() - start) * 1000)
        unread += walls[-1]
        if unread > UNREAD:
            used, unread = server.cpu_ms() - began + server.backend_ms() - backend, 0.0
        if sum(walls) > 10_000 and len(walls) >= 2:
            break
    count = len(walls)
    return (server.cpu_ms() - began) / count, (server.backend_ms() - backend) / count, statistics.median(walls)


def in_turn(
    calls: Sequence[tuple[Server, Callable[[], Any]]], *, rounds: int = 5, least: int = 5, most: int = CALLS
) -> list[tuple[float, float, float]]:
    """`measure` of the same call to several servers, a part of it here and a part there, so that what else the machine does is shared."""
    found = [[measure(server, call, least=least, most=most // rounds) for server, call in calls] for _ in range(rounds)]
    return [tuple(statistics.fmean(of) for of in zip(*rounds_of, strict=True)) for rounds_of in zip(*found, strict=True)]  # type: ignore[misc]


def show(what: str, server: Server, measured: tuple[float, float, float], beside: tuple[float, float, float] | None = None) -> None:
    cpu, backend, wall = measured
    told = f"{cpu:9.2f} ms CPU {wall:9.2f} ms wall"
    if server.database:
        told += f" {backend:9.2f} ms CPU of PostgreSQL"
    if beside is not None:
        theirs = beside[0] + beside[1]
        told += f"   MLflow {theirs:9.1f} ms CPU {beside[2]:9.1f} ms wall: {theirs / max(cpu + backend, 0.01):6.1f} times"
    print(f"{what:58}{told}", flush=True)


# ── writes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Writer:
    """What is written to a server."""

    def __init__(self, server: Server):
        self.server = server
        self.experiment = server.call("POST", "experiments/create", {"name": f"writes {secrets.token_hex(4)}"})["experiment_id"]
        self.run = self.create()
        self._steps = iter(range(10**9))
        self._running = [self.logged() for _ in range(CALLS + 130)]
        self.ended = self._running.pop()
        self.server.call("POST", "runs/update", {"run_id": self.ended, "status": "FINISHED", "end_time": START})
        if server.database:
            self._analyze()

    def create(self) -> str:
        asked = {
            "experiment_id": self.experiment,
            "start_time": START,
            "run_name": "bench",
            "tags": [{"key": "mlflow.user", "value": "ann"}],
        }
        return self.server.call("POST", "runs/create", asked)["run"]["info"]["run_id"]

    def one(self) -> None:
        point = {"run_id": self.run, "key": "auc", "value": 0.5, "timestamp": START, "step": next(self._steps)}
        self.server.call("POST", "runs/log-metric", point)

    def logged(self) -> str:
        """A run with as much as runs have."""
        run = self.create()
        some = [{"key": f"m{i}", "value": i / 7, "timestamp": START, "step": 0} for i in range(10)]
        params = [{"key": f"p{i}", "value": str(i)} for i in range(10)]
        self.server.call("POST", "runs/log-batch", {"run_id": run, "metrics": some, "params": params})
        return run

    def end(self) -> None:
        self.server.call("POST", "runs/update", {"run_id": self._running.pop(), "status": "FINISHED", "end_time": START + 5000})

    def tag(self) -> None:
        self.server.call("POST", "runs/set-tag", {"run_id": self.ended, "key": "reviewed", "value": str(next(self._steps))})

    def names(self) -> None:
        self._batch([{"key": f"m{i}", "value": i / 7, "timestamp": START, "step": 0} for i in range(1000)])

    def steps(self) -> None:
        self._batch([{"key": "m", "value": i / 7, "timestamp": START, "step": i} for i in range(1000)])

    def _batch(self, points: list[dict[str, Any]]) -> None:
        self.server.call("POST", "runs/log-batch", {"run_id": self.create(), "metrics": points})

    def _analyze(self) -> None:
        """Some runs, and the statistics of them that autovacuum would take within a minute, where it is on."""
        import psycopg

        for _ in range(200):
            self.run = self.create()
            self.one()
        with psycopg.connect(self.server.store, autocommit=True) as connection:
            connection.execute("ANALYZE")


def writes(servers: Sequence[Server]) -> dict[str, list[tuple[float, float, float]]]:
    """By call, what it costs each of the servers."""
    writers = [Writer(server) for server in servers]
    return {
        "log one metric": in_turn([(w.server, w.one) for w in writers]),
        "create a run": in_turn([(w.server, w.create) for w in writers]),
        "end a run of 10 metrics and 10 params": in_turn([(w.server, w.end) for w in writers]),
        "tag a run that has ended": in_turn([(w.server, w.tag) for w in writers]),
        "create a run, log 1,000 metrics of 1,000 names": in_turn([(w.server, w.names) for w in writers], most=50),
        "create a run, log 1,000 steps of one metric": in_turn([(w.server, w.steps) for w in writers], most=50),
    }


# ── searches ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SEARCHES: dict[str, dict[str, Any]] = {
    "newest 100": {},
    "by a metric": {"order_by": ["metrics.m0 DESC"]},
    "by a metric, upwards": {"order_by": ["metrics.m0 ASC"]},
    "by start time, upwards": {"order_by": ["attributes.start_time ASC"]},
    "by end time": {"order_by": ["attributes.end_time DESC"]},
    "by name": {"order_by": ["attributes.run_name ASC"]},
    "by status": {"order_by": ["attributes.status ASC"]},
    "metric > 0.5 and rare param, by metric": {"filter": "metrics.m0 > 0.5 and params.rare = 'a'", "order_by": ["metrics.m0 DESC"]},
    "metric > 0.5 and common param, by metric": {"filter": "metrics.m0 > 0.5 and params.common = 'a'", "order_by": ["metrics.m0 DESC"]},
    "metric > 0.999, by metric": {"filter": "metrics.m0 > 0.999", "order_by": ["metrics.m0 DESC"]},
    "tag of a fifth of all": {"filter": "tags.team = 'red'"},
    "tag of one": {"filter": "tags.ticket = 'T-77'"},
    "may scan: LIKE '%x%'": {"filter": "tags.note LIKE '%99999%'"},
    "may scan: !=": {"filter": "params.common != 'a' and tags.team != 'red'"},
    "by a param of two values, then a metric": {"order_by": ["params.common", "metrics.m0 DESC"]},
    "by a tag of five values, then a metric": {"order_by": ["tags.team DESC", "metrics.m1"]},
    "by status, then start time upwards": {"order_by": ["attributes.status", "attributes.start_time ASC"]},
}


def searches(places: Sequence[tuple[Server, str]]) -> Iterator[tuple[str, list[tuple[float, float, float]]]]:
    """What each search costs each of the servers, in its experiment."""
    for name, asked in SEARCHES.items():
        bodies = [{"experiment_ids": [experiment], "max_results": 100, **asked} for _, experiment in places]
        yield name, _search(places, bodies)
        tokens = [server.call("POST", "runs/search", body).get("next_page_token") for (server, _), body in zip(places, bodies, strict=True)]
        if all(tokens):
            following = [{**body, "page_token": token} for body, token in zip(bodies, tokens, strict=True)]
            yield f"{name}: next page", _search(places, following)


def _search(places: Sequence[tuple[Server, str]], bodies: Sequence[dict[str, Any]]) -> list[tuple[float, float, float]]:
    calls = [
        (server, lambda server=server, body=body: server.call("POST", "runs/search", body))
        for (server, _), body in zip(places, bodies, strict=True)
    ]
    return in_turn(calls, rounds=3, least=3, most=90)


def history(server: Server, experiment: str, points: int = 100_000) -> tuple[float, float, float]:
    run = server.call("POST", "runs/create", {"experiment_id": experiment, "start_time": START})["run"]["info"]["run_id"]
    for start in range(0, points, 1000):
        some = [{"key": "loss", "value": 1 / (i + 1), "timestamp": START + i, "step": i} for i in range(start, start + 1000)]
        server.call("POST", "runs/log-batch", {"run_id": run, "metrics": some})
    path = f"metrics/get-history?run_id={run}&metric_key=loss"
    assert len(server.call("GET", path)["metrics"]) == points
    return measure(server, lambda: server.read("GET", path), least=5, most=10)


# ── writers, and the death of the server ─────────────────────────────────────────────────────────────────────────────


def storm(server: Server, experiment: str, seconds: float, *, end: Callable[[], None] | None = None) -> list[tuple[str, int]]:
    """64 writers, each logging to a run of its own; (run, step) of every write that was acknowledged. With `end` the server dies."""
    runs = [
        server.call("POST", "runs/create", {"experiment_id": experiment, "start_time": START})["run"]["info"]["run_id"]
        for _ in range(WRITERS)
    ]
    acknowledged: list[tuple[str, int]] = []
    errors: list[str] = []
    stop = threading.Event()

    def writer(run: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        step = 0
        while not stop.is_set():
            try:
                ask(connection, "POST", "runs/log-metric", {"run_id": run, "key": "m", "value": step, "timestamp": START, "step": step})
            except Exception as error:  # noqa: BLE001  (whatever it is, it is counted and told; a writer that was killed on purpose is not)
                if end is None or not stop.is_set():
                    errors.append(str(error))
                return
            acknowledged.append((run, step))
            step += 1

    threads = [threading.Thread(target=writer, args=(run,), daemon=True) for run in runs]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    if end is not None:
        end()
    for thread in threads:
        thread.join(60)
    took = time.perf_counter() - began
    rate = f"{len(acknowledged) / took:.0f}/s"
    print(
        f"{f'{WRITERS} writers' + (', killed' if end else ''):58}{len(acknowledged):9} writes {rate}, {len(errors)} errors {errors[:1]}",
        flush=True,
    )
    return acknowledged


def survives(home: Path, store: str) -> None:
    """Kill the server while 64 write; after its restart everything acknowledged must be there."""
    with treadle(home, store) as server:
        experiment = server.call("POST", "experiments/create", {"name": f"storm {secrets.token_hex(4)}"})["experiment_id"]
        storm(server, experiment, 5)
        pids = server.pids()
        server.process.send_signal(signal.SIGSTOP)  # the supervisor would start it again at once

        def kill() -> None:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

        written = storm(server, experiment, 5, end=kill)
        server.process.send_signal(signal.SIGCONT)
    with treadle(home, store) as server:
        steps: dict[str, set[int]] = {}
        for run, step in written:
            steps.setdefault(run, set()).add(step)
        lost = 0
        for run, wanted in steps.items():
            answer = server.call("GET", f"metrics/get-history?run_id={run}&metric_key=m")
            lost += len(wanted - {point["step"] for point in answer.get("metrics", [])})
        print(f"{'after kill -9 and restart':58}{len(written):9} acknowledged, {lost} lost", flush=True)


# ── the whole ────────────────────────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--store", default="", help="postgresql://user@host: a database of its own is made there")
    parser.add_argument("--peer", action="store_true", help=f"a stock mlflow server beside it, up to {PEER_MOST:,} runs")
    told = "writes and searches: the peer has a database of its own there too; its environment needs psycopg[binary]"
    parser.add_argument("--peer-on-store", action="store_true", help=told)
    parser.add_argument("--only", choices=["start", "writes", "search", "history", "writers"], nargs="+")
    asked = parser.parse_args()
    parts = asked.only or ["start", "writes", "search", "history", "writers"]
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder, database(asked.store) as store:
        if "start" in parts:
            starts(Path(folder), store(), peered=asked.peer)
        if {"writes", "history", "writers"} & set(parts):
            writing(Path(folder), store(), parts, peered=asked.peer, beside=store() if asked.peer_on_store else "")
        if "search" in parts:
            for count in asked.runs:
                theirs = store() if asked.peer_on_store else ""
                finding(Path(folder), store(), count, peered=asked.peer and count <= PEER_MOST, beside=theirs)


@contextlib.contextmanager
def database(url: str) -> Iterator[Callable[[], str]]:
    """Gives the URL of a new database for each call; an empty one for SQLite in the home."""
    made: list[str] = []
    if not url:
        yield lambda: ""
        return
    import psycopg

    def make() -> str:
        name = f"treadle_bench_{secrets.token_hex(4)}"
        with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        made.append(name)
        return f"{url}/{name}"

    try:
        yield make
    finally:
        with psycopg.connect(f"{url}/postgres", autocommit=True) as connection:
            for name in made:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def starts(folder: Path, store: str, *, peered: bool) -> None:
    home = new(folder, "start")
    for again in ("first start", "start again"):
        began = time.perf_counter()
        with treadle(home, store, rest=False) as server:
            print(f"{again + ', to the first answer':58}{time.perf_counter() - began:9.2f} s", flush=True)
            if again == "start again":
                time.sleep(10)
                weights = {n.name: pss_mb(n.pid) for n in living(Layout(home))} | {"supervisor": pss_mb(server.process.pid)}
                told = ", ".join(f"{name} {mb:.0f}" for name, mb in weights.items())
                print(f"{'idle memory of all processes (PSS)':58}{sum(weights.values()):9.0f} MB   ({told})", flush=True)
    if peered:
        began = time.perf_counter()
        with peer(new(folder, "peer-start", make=True)) as server:
            print(f"{'MLflow: first start, to the first answer':58}{time.perf_counter() - began:9.2f} s", flush=True)
            time.sleep(10)
            many = len(descendants(server.process.pid))
            print(f"{'MLflow: idle memory of all processes (PSS)':58}{server.pss_mb():9.0f} MB   ({many} processes)", flush=True)


def writing(folder: Path, store: str, parts: list[str], *, peered: bool, beside: str = "") -> None:
    home = new(folder, "writes")
    if {"writes", "history"} & set(parts):
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(treadle(home, store))]
            if peered:
                servers.append(stack.enter_context(peer(new(folder, "peer-writes", make=True), beside)))
            for name, (measured, *theirs) in (writes(servers) if "writes" in parts else {}).items():
                show(name, servers[0], measured, *theirs)
            if "history" in parts:
                measured, *theirs = [history(server, "0") for server in servers]
                show("history of 100,000 points", servers[0], measured, *theirs)
    if "writers" in parts:
        survives(home, store)


def finding(folder: Path, store: str, count: int, *, peered: bool, beside: str = "") -> None:
    print(f"── {count:,} runs in one experiment, pages of 100", flush=True)
    home = new(folder, f"search-{count}")
    with treadle(home, store) as server:
        experiment = server.call("POST", "experiments/create", {"name": "search"})["experiment_id"]
    began = time.perf_counter()
    fill(store or Layout(home).database_url, count, experiment)
    print(f"{'(filled in bulk)':58}{time.perf_counter() - began:9.2f} s", flush=True)
    with contextlib.ExitStack() as servers:
        places = [(servers.enter_context(treadle(home, store)), experiment)]
        if peered:
            here = new(folder, f"peer-{count}", make=True)
            with peer(here, beside) as server:
                theirs = server.call("POST", "experiments/create", {"name": "search"})["experiment_id"]
            fill_mlflow(beside or here / "mlflow.db", count, int(theirs))
            places.append((servers.enter_context(peer(here, beside)), theirs))
        for name, measured in searches(places):
            show(name, places[0][0], *measured)


def new(folder: Path, name: str, *, make: bool = False) -> Path:
    """A folder of one part of the bench."""
    made = folder / name
    made.mkdir()
    return made if make else made / "home"


if __name__ == "__main__":
    main()
