"""The servers that `bench.tracking` compares: `treadle up`, and a stock `mlflow server` of build/clients/mlflow-new."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from treadle.records.layout import Layout
from treadle.workshop.supervisor import living

PEER = Path(__file__).parent.parent / "build" / "clients" / "mlflow-new" / "bin"


class Server:
    """A server under test, and a connection to it."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[Any], pids: Callable[[], list[int]], store: str = ""):
        self.name = name
        self.port = port
        self.process = process
        self.store = store
        self.database = store.rpartition("/")[2].partition("?")[0]  # of PostgreSQL
        self.pids = pids
        self.workers = 1
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of one call; an error raises."""
        return ask(self._connection, method, path, body)

    def read(self, method: str, path: str) -> bytes:
        """The answer as it comes: decoding a long one is the client's time."""
        self._connection.request(method, f"/api/2.0/mlflow/{path}")
        return self._connection.getresponse().read()

    def cpu_ms(self) -> float:
        """CPU that all its processes have used."""
        return sum(map(cpu_ms, self.pids()))

    def backend_ms(self) -> float:
        """CPU of PostgreSQL's backends for its database."""
        return sum(map(cpu_ms, backends(self.database))) if self.database else 0.0

    def pss_mb(self) -> float:
        return sum(map(pss_mb, self.pids()))


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    given = None if body is None else json.dumps(body).encode()
    connection.request(method, f"/api/2.0/mlflow/{path}", given, {"Content-Type": "application/json"} if given else {})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise RuntimeError(f"{method} {path}: {response.status} {content[:500]!r}")
    return json.loads(content)


def cpu_ms(pid: int) -> float:
    """CPU that a process has used, by its own clock (clock_getcpuclockid(3)): to the nanosecond, and in one call of the system."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2) * 1000
    return 0.0


def pss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
    return 0.0


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def backends(database: str) -> list[int]:
    """PostgreSQL's processes that serve a database."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if f" {database} " in (folder / "cmdline").read_text().replace("\0", " ") + " ":
                    if "postgres:" in (folder / "cmdline").read_text():
                        found.append(int(folder.name))
    return found


@contextlib.contextmanager
def treadle(home: Path, store: str = "", *, rest: bool = True) -> Iterator[Server]:
    """`treadle up` on a home, once it rests."""
    layout = Layout(home)
    command = [sys.executable, "-m", "treadle", "up", "--home", str(home), "--port", "0", *(["--store", store] if store else [])]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(home.parent / "up.log").open("ab"))
    try:
        port = _answering(lambda: next((n.port for n in living(layout) if n.name == "server"), 0), "experiments/get?experiment_id=0")
        server = Server("treadle", port, process, _pids(layout), store)
        if rest:
            _resting(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextlib.contextmanager
def peer(folder: Path, store: str = "") -> Iterator[Server]:
    """A stock `mlflow server`, on SQLite where no store is named."""
    port = 20_000 + os.getpid() % 10_000
    where = ["--backend-store-uri", store or f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    command = [str(PEER / "mlflow"), "server", *where, "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PATH": f"{PEER}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        command, env=environment, stdout=(folder / "log").open("ab"), stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        _answering(lambda: port, "experiments/get?experiment_id=0")
        server = Server("mlflow", port, process, lambda: descendants(process.pid), store)
        server.workers = 4
        _resting(server)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _pids(layout: Layout) -> Callable[[], list[int]]:
    """The server and the worker beside it, which makes documents and seals events; looked for ten times a second at most."""
    known: list[int] = []
    looked = 0.0

    def found() -> list[int]:
        nonlocal known, looked
        if time.monotonic() > looked + 0.1:
            known, looked = [n.pid for n in living(layout)], time.monotonic()
        return known

    return found


def _resting(server: Server) -> None:
    """Wait until a server's processes have come to rest: importing takes them a minute of CPU after the first answer."""
    for _ in range(90):
        before = server.cpu_ms()
        time.sleep(2)
        if server.cpu_ms() - before < 200:
            return
    raise RuntimeError(f"{server.name} does not come to rest")


def _answering(port: Callable[[], int], path: str) -> int:
    for _ in range(15_000):  # a peer that imports on a busy machine takes minutes
        here = port()
        if here:
            with contextlib.suppress(OSError, RuntimeError, http.client.HTTPException):
                ask(http.client.HTTPConnection("127.0.0.1", here, timeout=10), "GET", path)
                return here
        time.sleep(0.02)
    raise RuntimeError("the server does not answer")
