"""Running the application: bind, refuse what would be unsafe, say where we are, serve until told to stop."""

import asyncio
import contextlib
import datetime as dt
import errno
import gc
import importlib
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from treadle.api.app import build_app
from treadle.api.files import FILES, FileRoutes
from treadle.api.guard import MAX_UPLOAD, host_name, is_loopback, own_names
from treadle.api.mlflow.app import MlflowApi
from treadle.api.parsing import Http
from treadle.api.testing import TESTING, Reset
from treadle.records.calls import Actor
from treadle.records.errors import TreadleError

log = logging.getLogger("treadle.api")

PORT = 8400


def serve(
    workshop: Any,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    console: str = "",
    allow_hosts: Iterable[str] = (),
    require_token: bool = False,
    mlflow_project: str = "",
) -> None:
    """Serve a home until SIGTERM or SIGINT; requests in flight are finished.

    Args:
        workshop: an open home (`treadle.workshop.Workshop`).
        host, port: where to listen; port 0 takes a free one.
        console: `module:factory` of an application for all paths that are not the API's, made from the workshop when first asked.
        allow_hosts: further host names to answer to.
        require_token: want a token on loopback too.
        mlflow_project: the project of MLflow's clients whose address names none; TREADLE_MLFLOW_PROJECT or `default` where empty.

    Raises:
        TreadleError: `busy`, the port is in use; `denied`, listening beyond loopback while nobody has a token.
    """
    beyond = not is_loopback(host)
    if beyond and not workshop.access.any_token():
        raise TreadleError(
            f"Listening on {host} lets others in, and nobody has a token yet, so nobody could be told from anybody.",
            remedy="Issue one first: treadle token add owner   (then start again, and send it as TREADLE_TOKEN)",
            code="denied",
        )
    listener = bind(host, port)
    port = listener.getsockname()[1]
    max_upload = int(os.environ.get("TREADLE_MAX_UPLOAD", MAX_UPLOAD))
    files = FileRoutes(workshop.dispatch, workshop.blobs, max_upload=max_upload)
    mlflow = MlflowApi(
        workshop.dispatch, project=mlflow_project or os.environ.get("TREADLE_MLFLOW_PROJECT") or "default", blobs=workshop.blobs
    )
    mlflow.begin()

    def reset(actor: Actor) -> None:
        workshop.reset(actor)
        mlflow.begin()

    app = build_app(
        workshop.dispatch,
        authenticate=workshop.access.authenticate,
        nobody=None if beyond or require_token else workshop.actor,
        names=[*map(host_name, allow_hosts), *(own_names() if beyond else ()), host],
        addresses=beyond,
        max_upload=max_upload,
        mlflow=mlflow,
        mounts=[
            (FILES, files),
            *([(TESTING, Reset(reset))] if workshop.disposable else []),
            *([("", Later(console, workshop))] if console else []),
        ],
    )
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    note = workshop.layout.processes / "server.json"
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    told = {"name": "server", "pid": os.getpid(), "host": host, "port": port, "url": url, "started": dt.datetime.now(dt.UTC).isoformat()}
    server = _Server(config, note, told)
    # uvicorn raises the signal that stopped it once more when it is done; that one has nothing left to say.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    gc.collect()
    gc.freeze()  # what is here now stays as long as the process; requests leave no cycles, but thousands of records at a time
    gc.set_threshold(20_000, 20, 50)
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listener]))
    finally:
        listener.close()
        with contextlib.suppress(OSError, ValueError):
            if json.loads(note.read_text())["pid"] == os.getpid():
                note.unlink()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        TreadleError: `busy` where the port is taken, `bad_request` where the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise TreadleError(
                f"Port {port} of {host} is in use by another process.",
                remedy=f"Take another (--port {port + 100}), or see who holds it: ss -ltnp 'sport = :{port}'",
                code="busy",
                details={"host": host, "port": port},
            ) from error
        raise TreadleError(
            f"Cannot listen on {host} port {port}: {error.strerror or error}.",
            remedy="Use an address of this machine, such as 127.0.0.1, and a port above 1023.",
            details={"host": host, "port": port},
        ) from error
    except (OverflowError, UnicodeError) as error:
        listener.close()
        raise TreadleError(f"{host}:{port} is no address.", remedy="A port is 0 to 65535; 0 takes a free one.") from error
    return listener


class Later:
    """An application that is imported and made when first asked: faces do not wait for, nor know, each other."""

    def __init__(self, path: str, workshop: Any):
        self._path, self._workshop = path, workshop
        self._app: ASGIApp | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make it if it is not there yet, and pass on."""
        app = self._app or await run_in_threadpool(self._make)
        await app(scope, receive, send)

    def _make(self) -> ASGIApp:
        with self._lock:
            if self._app is None:
                module, _, factory = self._path.partition(":")
                self._app = getattr(importlib.import_module(module), factory)(self._workshop)
            assert self._app is not None
            return self._app


class _Server(uvicorn.Server):
    """Leaves a note with its address once it listens."""

    def __init__(self, config: uvicorn.Config, note: Path, told: dict[str, Any]):
        super().__init__(config)
        self._note, self._told = note, told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets=sockets)
        self._note.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._note.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(self._told))
        fresh.replace(self._note)
        log.info("listening on %s port %s: %s", self._told["host"], self._told["port"], self._told["url"])
