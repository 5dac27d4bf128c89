"""Processes that a demo or a replay needs for its time: gateways, and the server with API and console. Ended by SIGTERM."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from treadle.records.errors import TreadleError
from treadle.records.layout import Layout

_READY_SECONDS = 60.0
_END_SECONDS = 30.0


@contextmanager
def running_gateways(layout: Layout, project: str, environments: Iterable[str]) -> Iterator[list[int]]:
    """A gateway process for each environment, on free ports; their process ids."""
    home = str(layout.root)
    commands = {
        f"gateway-{project}-{name}": [
            *(sys.executable, "-m", "treadle.gateway", "--home", home),
            *("--project", project, "--env", name, "--port", "0"),
        ]
        for name in environments
    }
    with _running(layout, commands) as pids:
        yield pids


@contextmanager
def running_server(layout: Layout, port: int = 8400) -> Iterator[tuple[int, int]]:
    """API and console in a process of their own, on `port` or, where that is taken, a free one; its process id and port."""
    port = _free_port(port)
    command = [sys.executable, "-m", "treadle", "server", "--home", str(layout.root), "--port", str(port)]
    with _running(layout, {"server": command}) as pids:
        yield pids[0], port


@contextmanager
def _running(layout: Layout, commands: Mapping[str, list[str]]) -> Iterator[list[int]]:
    logs = layout.root / "logs"
    logs.mkdir(exist_ok=True)
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in commands.items():
            (layout.processes / f"{name}.json").unlink(missing_ok=True)
            with (logs / f"{name}.log").open("ab") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL))
        for name, process in zip(commands, running, strict=True):
            _await(layout, name, process)
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(timeout=_END_SECONDS)


def _await(layout: Layout, name: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not (layout.processes / f"{name}.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise TreadleError(f"{name} did not start.", remedy=f"Read its log: {layout.root}/logs/{name}.log", code="unavailable")
        time.sleep(0.02)


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise AssertionError("the system gave no port")
