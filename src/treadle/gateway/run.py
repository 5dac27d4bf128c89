"""The gateway's process: one socket a worker on one port, the port file, signals, the last flush.

With one worker everything happens here. With several, this process holds the sockets (shared port, `SO_REUSEPORT`), starts one child a
socket and starts it again when it dies; connections that arrive meanwhile wait in the socket, nobody is refused. SIGTERM: answer
what is under way, sync and seal the log, end.
"""

import asyncio
import contextlib
import errno
import fcntl
import gc
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import uvicorn
from msgspec import Struct

from treadle.gateway.app import Gateway
from treadle.gateway.guard import LOOPBACK, Guard
from treadle.gateway.protocol import quick_protocol
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.serving import snapshots
from treadle.serving.follow import Follower
from treadle.serving.generation import Loader
from treadle.serving.log import PredictionLog
from treadle.serving.metrics import Metrics
from treadle.serving.segments import CAPACITY, seal_orphans
from treadle.serving.service import Serving

_log = logging.getLogger(__name__)
#: How often a worker looks for a new snapshot, seconds.
POLL_S = 0.05
#: How long SIGTERM waits for requests under way, seconds.
GRACE_S = 10
#: How long an idle connection is kept, seconds.
KEEP_ALIVE_S = 300
TOKEN = "TREADLE_GATEWAY_TOKEN"


class Settings(Struct, frozen=True, kw_only=True):
    """How a gateway runs. `durability`: `batch` (synced every 50 ms) or `ack` (each answer waits for the disk)."""

    home: str
    project: str
    environment: str
    host: str = "127.0.0.1"
    port: int = 0
    workers: int = 1
    durability: str = "batch"
    allow_hosts: tuple[str, ...] = ()
    segment_bytes: int = CAPACITY


class PortFile(Struct, frozen=True, kw_only=True):
    """What `HOME/processes/gateway-PROJECT-ENV.json` says."""

    pid: int
    port: int
    started: float  # seconds since 1970
    host: str = "127.0.0.1"


def port_file(layout: Layout, project: str, environment: str) -> Path:
    """Where a running gateway leaves its address."""
    return layout.processes / f"gateway-{project}-{environment}.json"


def run_gateway(
    layout: Layout,
    project: str,
    environment: str,
    host: str = "127.0.0.1",
    port: int = 0,
    workers: int = 1,
    *,
    durability: str = "batch",
    allow_hosts: Sequence[str] = (),
    segment_bytes: int = CAPACITY,
) -> None:
    """Serve one environment until SIGTERM or SIGINT. Port 0 takes a free one; the port file tells which.

    Raises:
        TreadleError: `busy` (port in use, another gateway of this environment), `denied` (beyond loopback without a token),
            `storage_full`, `bad_request`.
    """
    settings = Settings(
        home=str(layout.root),
        project=project,
        environment=environment,
        host=host,
        port=port,
        workers=workers,
        durability=durability,
        allow_hosts=tuple(allow_hosts),
        segment_bytes=segment_bytes,
    )
    _check(settings)
    with _alone(layout, settings), contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in _bind(settings)]
        seal_orphans(layout.gateway(project, environment).log)
        _forget_dead(layout, settings)
        if workers == 1:
            serve(settings, sockets[0], announce=True)
        else:
            _supervise(settings, sockets)


def serve(settings: Settings, listening: socket.socket, *, announce: bool) -> None:
    """One worker: load, listen, follow snapshots, until a signal."""
    layout = Layout(settings.home)
    here = layout.gateway(settings.project, settings.environment)
    worker = snapshots.worker_name()
    log = PredictionLog(
        here.log, project=settings.project, environment=settings.environment, worker=worker, capacity=settings.segment_bytes
    )
    serving = Serving(log, Metrics())
    loader = Loader(here, layout.online(settings.project, settings.environment))
    follower = Follower(here, loader, serving.switch, worker)
    address = port_file(layout, settings.project, settings.environment)
    tasks: list[asyncio.Task[None]] = []

    async def life(starting: bool) -> None:
        if starting:
            await asyncio.to_thread(follower.start)
            _settle()
            tasks.append(asyncio.create_task(_follow(follower)))
            return
        for task in tasks:
            task.cancel()

    app = Gateway(
        serving,
        Guard((settings.host, *settings.allow_hosts), os.environ.get(TOKEN, "")),
        durable=settings.durability == "ack",
        version=_version(),
        life=life,
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=quick_protocol(app),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=2048,
    )
    server = _Server(config, (lambda: _announce(address, settings, listening)) if announce else None)
    try:
        server.run(sockets=[listening])
    finally:
        log.close()
        loader.close()
        snapshots.remove_ack(here, worker)
        if announce:
            address.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """Uvicorn, saying when it listens, and returning after a signal instead of raising it again: the log is sealed afterwards."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None] | None):
        super().__init__(config)
        self._listening = listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._listening is not None and not self.should_exit:
            self._listening()


async def _follow(follower: Follower) -> None:
    while True:
        await asyncio.sleep(POLL_S)
        try:
            number = follower.due(time.monotonic())
            if number is not None:
                await asyncio.to_thread(follower.follow, number)
        except OSError:  # the folder is away for a moment (a network disk); what is loaded goes on serving
            _log.exception("looking for snapshots failed")


def _settle() -> None:
    """Spare the garbage collector what lives as long as the process, and let it look for cycles less often: a request leaves none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _supervise(settings: Settings, sockets: list[socket.socket]) -> None:
    """Keep one child a socket running until a signal; then end them all."""
    layout = Layout(settings.home)
    address = port_file(layout, settings.project, settings.environment)
    ending = False
    children: dict[int, subprocess.Popen[bytes]] = {}

    def start(place: int) -> None:
        descriptor = sockets[place].fileno()
        command = [
            sys.executable,
            "-m",
            "treadle.gateway",
            "--worker",
            str(descriptor),
            "--settings",
            msgspec.json.encode(settings).decode(),
        ]
        children[place] = subprocess.Popen(command, pass_fds=[descriptor])

    def end(number: int, frame: object) -> None:
        nonlocal ending
        ending = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    for place in range(len(sockets)):
        start(place)
    here = layout.gateway(settings.project, settings.environment)
    announced, delay = False, 0.1
    while not ending:
        time.sleep(POLL_S)
        if not announced and {c.pid for c in children.values()} <= {ack.pid for ack in snapshots.read_acks(here)}:
            _announce(address, settings, sockets[0])
            announced = True
        for place, child in list(children.items()):
            if child.poll() is not None and not ending:
                _log.error("gateway worker %d ended with %s; starting it again", child.pid, child.returncode)
                time.sleep(delay)
                delay = min(delay * 2, 5.0)
                start(place)
    for child in children.values():
        child.terminate()
    for child in children.values():
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S + 5)
        if child.poll() is None:
            child.kill()
            child.wait()
    address.unlink(missing_ok=True)


def _check(settings: Settings) -> None:
    if settings.durability not in ("batch", "ack"):
        raise TreadleError(f"{settings.durability!r} is no durability.", remedy="Use --durability batch or --durability ack.")
    if settings.workers < 1:
        raise TreadleError(f"{settings.workers} workers cannot serve.", remedy="Use --workers 1 or more.")
    if settings.host not in LOOPBACK and not settings.host.startswith("127.") and len(os.environ.get(TOKEN, "")) < 16:
        raise TreadleError(
            f"Listening on {settings.host}, beyond this machine, needs a token of at least 16 characters that callers must send.",
            remedy=f"export {TOKEN}={secrets.token_urlsafe(24)}   # then start again; callers send Authorization: Bearer …",
            code="denied",
        )


@contextlib.contextmanager
def _alone(layout: Layout, settings: Settings) -> Iterator[None]:
    """One gateway an environment and home."""
    layout.processes.mkdir(parents=True, exist_ok=True)
    path = layout.processes / f"gateway-{settings.project}-{settings.environment}.lock"
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TreadleError(
                f"A gateway of {settings.project}/{settings.environment} runs on this home already.",
                remedy=f"Use it (its address is in {port_file(layout, settings.project, settings.environment)}), or stop it first.",
                code="busy",
            ) from error
        yield


def _bind(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    port = settings.port
    for number in range(settings.workers):
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if settings.workers > 1:
                if number == 0 and port:
                    _probe(family, settings.host, port)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind((settings.host, port))
            listening.listen(2048)
        except OSError as error:
            listening.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                raise TreadleError(
                    f"The gateway cannot listen on {settings.host}:{port}: {os.strerror(error.errno)}.",
                    remedy="Choose another port: treadle gateway --port N (0 takes a free one).",
                    code="busy",
                    details={"host": settings.host, "port": port},
                ) from error
            raise
        port = listening.getsockname()[1]
        yield listening


def _probe(family: int, host: str, port: int) -> None:
    """Fail where somebody else shares the port: SO_REUSEPORT alone would not tell."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _announce(path: Path, settings: Settings, listening: socket.socket) -> None:
    told = PortFile(pid=os.getpid(), port=listening.getsockname()[1], started=time.time(), host=settings.host)
    partial = path.with_suffix(f".{secrets.token_hex(4)}")
    partial.write_bytes(msgspec.json.encode(told))
    partial.replace(path)


def _forget_dead(layout: Layout, settings: Settings) -> None:
    here = layout.gateway(settings.project, settings.environment)
    for ack in snapshots.read_acks(here, live=False):
        if not snapshots.alive(ack):
            snapshots.remove_ack(here, ack.worker)


def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415  (10 ms, told only by GET /v2)

    return version("treadle")
