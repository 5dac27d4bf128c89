"""`treadle up`: one supervisor over a server (API and console), a worker, and one gateway per applied environment.

The supervisor does nothing but start, watch, start again (with back-off) and end its children; it opens no database, so it can
outlive one that is down. Processes leave a note with their address in `HOME/processes`, which is how they are found. One `up` a
home: a lock on a file says so, and the system gives it back when the supervisor dies, however it dies; its children are then told
to end by the kernel where it can (Linux).
"""

import contextlib
import ctypes
import datetime as dt
import errno
import fcntl
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from treadle.operations.workshop import ListProjects
from treadle.records.calls import SYSTEM
from treadle.records.errors import CODES, TreadleError
from treadle.records.layout import Layout

log = logging.getLogger("treadle.supervisor")

#: The faces a server process is made of. Faces do not import each other, so they are named here and loaded by name.
CONSOLE = "treadle.console.app:build_console"
PORT = 8400
_BACKOFF = (0.2, 10.0)
_SETTLED = 30.0  # seconds after which a child that stayed up starts from the shortest pause again
_GRACE = 25.0
_LOG_BYTES = 10_000_000


class Note(Struct, frozen=True, kw_only=True):
    """Where a running process is. `port` is 0 for one that listens nowhere."""

    name: str
    pid: int
    host: str = ""
    port: int = 0
    started: dt.datetime | float | None = None

    @property
    def url(self) -> str:
        """Its address from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host) or "127.0.0.1"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def living(layout: Layout) -> list[Note]:
    """The processes that run on a home, by their notes; notes of the dead are passed over."""
    found: list[Note] = []
    for path in sorted(layout.processes.glob("*.json")):
        try:
            told = json.loads(path.read_text())
            note = Note(name=path.stem, pid=int(told["pid"]), host=told.get("host", ""), port=int(told.get("port", 0)))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # being written, or left by something else
        if alive(note.pid):
            found.append(note)
    return found


def alive(pid: int) -> bool:
    """Whether a process of this machine lives (a zombie does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@contextlib.contextmanager
def noted(layout: Layout, name: str) -> Iterator[None]:
    """Leave a note of this process while it works."""
    layout.processes.mkdir(parents=True, exist_ok=True)
    path = layout.processes / f"{name}.json"
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps({"name": name, "pid": os.getpid(), "started": dt.datetime.now(dt.UTC).isoformat()}))
    fresh.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text())["pid"] == os.getpid():
                path.unlink()


def gateway_folders(workshop: Any) -> None:
    """Make the folder of each applied environment's gateway: what a supervisor goes by, since it opens no database."""
    for project in workshop.dispatch(ListProjects(), actor=SYSTEM):
        for environment in project.environments:
            workshop.layout.gateway(project.name, environment).snapshots.mkdir(parents=True, exist_ok=True)


def look_for_gateways(workshop: Any, stop: threading.Event) -> None:
    """`gateway_folders` again and again until told to stop."""
    while not stop.wait(1.0):
        try:
            gateway_folders(workshop)
        except TreadleError as error:
            log.warning("looking for applied environments failed: %s", error.what)


class Settings(Struct, frozen=True, kw_only=True):
    """How `up` runs. `gateway_port` is the first gateway's; the others follow. 0 takes free ports."""

    host: str = "127.0.0.1"
    port: int = PORT
    gateway_host: str = "127.0.0.1"
    gateway_port: int | None = None
    workers: int = 1
    store: str = ""
    blobs: str = ""
    allow_hosts: tuple[str, ...] = ()
    require_token: bool = False
    environments: tuple[str, ...] = ()  # only these; all that are applied where empty


def up(layout: Layout, settings: Settings | None = None, *, tell: Callable[[str], None] = print) -> None:
    """Run a home until SIGTERM or SIGINT; then every child is told to end and waited for.

    Raises:
        TreadleError: `busy` where the home has an `up` already or the port is in use; what the server said where it could not start.
    """
    settings = settings or Settings()
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.processes.mkdir(parents=True, exist_ok=True)
    with _only_one(layout):
        check_port(settings.host, settings.port)
        _Supervisor(layout, settings, tell).run()


def check_port(host: str, port: int) -> None:
    """Raise `busy` where a port is taken."""
    if not port:
        return
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise TreadleError(
                f"Cannot listen on {host} port {port}: {error.strerror or error}.",
                remedy="Use an address of this machine, such as 127.0.0.1, and a port above 1023.",
            ) from error
        raise TreadleError(
            f"Port {port} of {host} is in use by another process.",
            remedy=f"Take another (--port {port + 100}), or see who holds it: ss -ltnp 'sport = :{port}'",
            code="busy",
            details={"host": host, "port": port},
        ) from error


@contextlib.contextmanager
def gateways(layout: Layout, places: Iterable[tuple[str, str]], *, seconds: float = 30.0) -> Iterator[None]:
    """A gateway for each (project, environment) that has none running, as long as the block lasts.

    Raises:
        TreadleError: `unavailable` where one does not answer within `seconds`.
    """
    logs = layout.root / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    there = {note.name for note in living(layout)}
    children: list[_Child] = []
    try:
        for project, environment in places:
            name = f"gateway-{project}-{environment}"
            if name not in there:
                words = ["--home", str(layout.root), "--project", project, "--env", environment, "--port", "0"]
                children.append(_Child(name, [sys.executable, "-m", "treadle.gateway", *words], logs / f"{name}.log"))
                children[-1].start()
        deadline = time.monotonic() + seconds
        while not {child.name for child in children} <= {note.name for note in living(layout)}:
            lost = next((child for child in children if child.ended() is not None), None)
            if lost is not None or time.monotonic() > deadline:
                name = (lost or children[0]).name
                raise TreadleError(f"{name} did not start.", remedy=f"Read its log: {logs / name}.log", code="unavailable")
            time.sleep(0.02)
        yield
    finally:
        for child in children:
            if child.process is not None:
                child.process.terminate()
        for child in children:
            if child.process is not None:
                child.process.wait(_GRACE)


class _Child:
    """One process that is to run."""

    def __init__(self, name: str, command: list[str], log: Path):
        self.name, self.command, self.log = name, command, log
        self.process: subprocess.Popen[bytes] | None = None
        self.pause = _BACKOFF[0]
        self.due = 0.0
        self.began = 0.0
        self.starts = 0
        self.ready = False

    def start(self) -> None:
        """Start it; what it prints goes to its log."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=_die_with_parent
            )
        self.began, self.starts, self.ready = time.monotonic(), self.starts + 1, False

    def ended(self) -> int | None:
        """Its exit code once it has ended; it is then due again after the pause."""
        if self.process is None or self.process.poll() is None:
            return None
        code, self.process = self.process.returncode, None
        self.pause = _BACKOFF[0] if time.monotonic() - self.began > _SETTLED else min(self.pause * 2, _BACKOFF[1])
        self.due = time.monotonic() + self.pause
        return code


class _Supervisor:
    def __init__(self, layout: Layout, settings: Settings, tell: Callable[[str], None]):
        self._layout, self._settings, self._tell = layout, settings, tell
        self._logs = layout.root / "logs"
        self._logs.mkdir(exist_ok=True)
        self._children: dict[str, _Child] = {}
        self._began = time.monotonic()
        self._said_ready = False

    def run(self) -> None:
        """Start all, watch until a signal, end all."""
        with _signals() as (stopped, wait):
            try:
                self._add("server", self._server())
                for number in range(self._settings.workers):
                    self._add(_worker(number), self._worker(_worker(number)))
                while not stopped():
                    self._gateways()
                    self._watch()
                    wait(0.05 if not self._said_ready else 0.5)
            finally:
                self._end()
        self._tell("All stopped.")

    def _watch(self) -> None:
        for child in self._children.values():
            code = child.ended()
            if code is not None:
                if child.name == "server" and not self._said_ready and child.starts == 1:
                    raise _said(child, code)
                self._tell(f"{child.name} ended ({_how(code)}); starting it again in {child.pause:.1f} s. Its log: {child.log}")
            if child.process is None and time.monotonic() >= child.due:
                child.start()
        notes = {note.name: note for note in living(self._layout)}
        for child in self._children.values():
            note = notes.get(child.name)
            if not child.ready and child.process is not None and note is not None and note.pid == child.process.pid:
                child.ready = True
                self._tell(f"{child.name} {f'at {note.url}' if note.port else 'at work'} (pid {note.pid})")
        if not self._said_ready and all(child.ready for child in self._children.values()):
            self._said_ready = True
            self._tell(f"Ready in {time.monotonic() - self._began:.1f} s. Console: {notes['server'].url}   Stop: Ctrl-C")

    def _gateways(self) -> None:
        """A gateway for each environment that has a gateway's folder by now: applying makes it."""
        for folder in sorted(self._layout.root.glob("gateways/*/*")):
            project, environment = folder.parent.name, folder.name
            name = f"gateway-{project}-{environment}"
            wanted = not self._settings.environments or environment in self._settings.environments
            if folder.is_dir() and wanted and name not in self._children:
                port = self._gateway_port(len([n for n in self._children if n.startswith("gateway-")]))
                self._add(name, self._gateway(project, environment, port))

    def _gateway_port(self, place: int) -> int:
        first = self._settings.gateway_port
        if first is None:
            first = self._settings.port + 1 if self._settings.port else 0
        if not first:
            return 0
        taken = {int(c.command[-1]) for n, c in self._children.items() if n.startswith("gateway-")}
        for port in range(first + place, first + place + 100):
            with contextlib.suppress(TreadleError):
                check_port(self._settings.gateway_host, port)
                if port not in taken:
                    return port
        return 0

    def _add(self, name: str, command: list[str]) -> None:
        child = _Child(name, command, self._logs / f"{name}.log")
        self._children[name] = child
        child.start()

    def _server(self) -> list[str]:
        told = ["server", "--home", str(self._layout.root), "--json", "--host", self._settings.host, "--port", str(self._settings.port)]
        for name in self._settings.allow_hosts:
            told += ["--allow-host", name]
        return self._treadle(told + (["--require-token"] if self._settings.require_token else []))

    def _worker(self, name: str) -> list[str]:
        return self._treadle(["worker", "--home", str(self._layout.root), "--name", name])

    def _treadle(self, words: list[str]) -> list[str]:
        store = ["--store", self._settings.store] if self._settings.store else []
        blobs = ["--blobs", self._settings.blobs] if self._settings.blobs else []
        return [sys.executable, "-m", "treadle", *words, *store, *blobs]

    def _gateway(self, project: str, environment: str, port: int) -> list[str]:
        words = ["--home", str(self._layout.root), "--project", project, "--env", environment]
        words += ["--host", self._settings.gateway_host, "--port", str(port)]
        return [sys.executable, "-m", "treadle.gateway", *words]

    def _end(self) -> None:
        """Tell all to end, wait, and end for good what does not."""
        running = [child for child in self._children.values() if child.process is not None]
        for child in running:
            assert child.process is not None
            child.process.terminate()
        deadline = time.monotonic() + _GRACE
        for child in running:
            assert child.process is not None
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._tell(f"{child.name} did not end within {_GRACE:.0f} s and is killed; its run goes on from its last step next time.")
                child.process.kill()
                child.process.wait()


@contextlib.contextmanager
def _only_one(layout: Layout) -> Iterator[None]:
    path = layout.processes / "up.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            raise TreadleError(
                f"The home {layout.root} is up already (pid {holder or 'unknown'}).",
                remedy=f"Use that one (treadle status), stop it (kill {holder or 'PID'}), or give this one another home: --home DIR",
                code="busy",
                details={"pid": holder},
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _signals() -> Iterator[tuple[Callable[[], bool], Callable[[float], None]]]:
    """(whether a signal to stop has come, wait until a signal or a child's end, at most so many seconds)."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    stops: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        stops.append(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def wait(seconds: float) -> None:
        select.select([read], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(read, 4096)

    try:
        yield (lambda: bool(stops)), wait
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def _said(child: _Child, code: int) -> TreadleError:
    """What the server said before it ended, as the error it was."""
    lines = child.log.read_text(errors="replace").splitlines()[-20:]
    for line in reversed(lines):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            told = json.loads(line)
            if told["code"] in CODES:
                return TreadleError(told["what"], remedy=told["remedy"], code=told["code"], details=told.get("details", {}))
    last = f": {lines[-1]}" if lines else ""
    return TreadleError(f"The server could not start ({_how(code)}){last}", remedy=f"See its log: {child.log}", code="unavailable")


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _worker(number: int) -> str:
    return "worker" if number == 0 else f"worker-{number + 1}"


_libc: Any = None
if sys.platform == "linux":
    with contextlib.suppress(OSError):
        _libc = ctypes.CDLL(None, use_errno=False)


def _die_with_parent() -> None:
    """In the child, before exec: be sent SIGTERM when the supervisor dies (Linux: PR_SET_PDEATHSIG = 1)."""
    if _libc is not None:
        _libc.prctl(1, signal.SIGTERM, 0, 0, 0)
