"""The same operations over HTTP: what `Dispatcher` answers here, a server answers there, errors included.

Only the standard library: one kept-alive connection a thread, small answers not delayed (TCP_NODELAY), and a retry that cannot
double anything, because every write carries an idempotency key (its own or one made here) that all attempts share. Measurements
carry none: writing the same one again changes nothing.
"""

import contextlib
import datetime as dt
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlsplit

import msgspec

from treadle.client.wire import EVENT_TIME, IDEMPOTENCY_KEY, Wire, wires
from treadle.records.clock import utc
from treadle.records.errors import ErrorBody, TreadleError
from treadle.records.ids import new_id

_RETRIED = (502, 503, 504)


class Client:
    """A server's operations.

    Args:
        url: `http://127.0.0.1:8400`; a path in it is kept (behind a proxy).
        token: `trd_…`; `TREADLE_TOKEN` where none is given. On loopback a home asks for none.
        timeout: seconds that one attempt may take.
        attempts: how often a call is tried while the server does not answer, with doubling pauses from 50 ms.

    Raises:
        TreadleError: a URL that is none.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0, attempts: int = 4):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TreadleError(f"{url!r} is no address of a server.", remedy="Write it like http://127.0.0.1:8400")
        self.url = url.rstrip("/")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._base = parts.path.rstrip("/")
        self._timeout, self._attempts = timeout, attempts
        self._headers = {"Accept": "application/json"}
        token = token or os.environ.get("TREADLE_TOKEN")
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._local = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
        self._guard = threading.Lock()

    def call(self, request: Any, idempotency_key: str | None = None, event_time: dt.datetime | None = None) -> Any:
        """Run one operation on the server; same answers and same `TreadleError`s as calling it in process.

        Args:
            request: a request struct of `treadle.operations`.
            idempotency_key: repeats of the call with this key change nothing and get the first answer.
            event_time: business time of the call; the server's clock where none is given.
        """
        wire = wires()[type(request)]
        target, body = wire.encode(request)
        headers = dict(self._headers)
        writes = wire.operation.writes
        if writes is not None and not writes.measures:
            idempotency_key = idempotency_key or new_id("key")
        if idempotency_key:
            headers[IDEMPOTENCY_KEY] = idempotency_key
        if event_time is not None:
            headers[EVENT_TIME] = utc(event_time).isoformat()
        if body is not None:
            headers["Content-Type"] = "application/json"
        status, content = self._exchange(wire.operation.method, self._base + target, body, headers)
        return self._read(wire, status, content)

    def put_file(self, project: str, owner: str, path: str, file: Path, media_type: str = "application/octet-stream") -> None:
        """Let a file's content stand at a path of a run or logged model; it is streamed, whatever its size.

        Raises:
            TreadleError: what the server says.
        """
        headers = {**self._headers, "Content-Type": media_type, "Content-Length": str(file.stat().st_size)}
        target = f"{self._base}/files/{quote(project, safe='')}/{quote(owner, safe='')}/{quote(path)}"
        status, content = self._exchange("PUT", target, file, headers)
        if status not in (200, 201, 204):
            raise _error(status, content)

    @contextlib.contextmanager
    def get_file(self, project: str, owner: str, path: str) -> Iterator[BinaryIO]:
        """The content of a file of a run or logged model, as it comes; to be read before anything else is called.

        Raises:
            TreadleError: what the server says.
        """
        target = f"{self._base}/files/{quote(project, safe='')}/{quote(owner, safe='')}/{quote(path)}"
        connection = self._connection()
        connection.request("GET", target, headers=self._headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise _error(answer.status, answer.read())
        try:
            yield cast("BinaryIO", answer)
        finally:
            answer.close()
            self._drop()

    def version(self) -> dict[str, Any]:
        """What the server says of itself: `{"name": "treadle", "version": …}`."""
        status, content = self._exchange("GET", f"{self._base}/version", None, dict(self._headers))
        if status != 200:
            raise _error(status, content)
        return msgspec.json.decode(content)

    def close(self) -> None:
        """Close all connections, of every thread."""
        with self._guard:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, wire: Wire, status: int, content: bytes) -> Any:
        if status != 200:
            raise _error(status, content)
        try:
            return wire.answer(content)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise TreadleError(
                f"The server's answer to {wire.operation.name} is not what this client knows: {error}.",
                remedy=f"Bring client and server to one version; the server's: curl {self.url}/version",
                code="unavailable",
            ) from error

    def _exchange(self, method: str, target: str, body: bytes | Path | None, headers: dict[str, str]) -> tuple[int, bytes]:
        pause, failure = 0.05, None
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(pause)
                pause *= 2
            fresh = getattr(self._local, "connection", None) is None
            try:
                connection = self._connection()
                if isinstance(body, Path):
                    with body.open("rb") as opened:
                        connection.request(method, target, body=opened, headers=headers)
                else:
                    connection.request(method, target, body=body, headers=headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                failure = error
                if isinstance(error, ConnectionRefusedError) and fresh and attempt >= 1:
                    break  # nobody listens: no need to wait long
                continue
            if answer.status in _RETRIED and attempt < self._attempts - 1 and not content.startswith(b'{"code"'):
                continue  # a proxy's word, not ours
            return answer.status, content
        raise TreadleError(
            f"The server at {self.url} does not answer: {failure}.",
            remedy="Start it with: treadle up   (or give another address: --url, TREADLE_URL)",
            code="unavailable",
        ) from failure

    def _connection(self) -> http.client.HTTPConnection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            if self._tls is None:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            else:
                connection = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._local.connection = connection
            with self._guard:
                self._open.add(connection)
        return connection

    def _drop(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            with self._guard:
                self._open.discard(connection)
            with contextlib.suppress(OSError):
                connection.close()


def _error(status: int, content: bytes) -> TreadleError:
    try:
        return msgspec.json.decode(content, type=ErrorBody).error()
    except (msgspec.DecodeError, msgspec.ValidationError):
        return TreadleError(
            f"The server answered {status} and no reason: {content[:200].decode('utf-8', 'replace')!r}.",
            remedy="Check that the address is a Treadle server's: curl URL/version",
            code="unavailable",
        )
