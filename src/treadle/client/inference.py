"""Predictions from a gateway over one kept-alive connection, as fast as the standard library goes.

`http.client` parses every answer's headers into an email message, which costs more than the prediction; a gateway always says its
Content-Length, so a socket and two searches in a buffer do. `send` and `receive` let several requests be under way at once (answers
come in order), which hides the round trip of a caller that has more than one to make.
"""

import datetime as dt
import select
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from treadle.records.clock import micros
from treadle.records.errors import ErrorBody, TreadleError

_encode = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(ErrorBody).decode
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Answer(Struct):
    """What a request got: one prediction a row, its id in the prediction log, and who made it."""

    predictions: list[float]
    ids: list[str]
    model_version: list[int]
    variant: list[str]
    generation: int
    row_ids: list[str] | None = None


_decode_answer = msgspec.json.Decoder(Answer).decode


class InferenceClient:
    """One connection to a gateway, opened on use. Not thread-safe: one a thread.

    Args:
        host, port: where the gateway listens.
        token: what `TREADLE_GATEWAY_TOKEN` was when it started, where it asks for one.
        timeout_s: how long an answer may take.
        retry_s: how long to go on connecting to a gateway that is being started again; 0 fails at once.
    """

    def __init__(self, host: str, port: int, *, token: str = "", timeout_s: float = 30.0, retry_s: float = 0.0):
        self.host = host
        self.port = port
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        name = f"[{host}]" if ":" in host else host
        credentials = f"Authorization: Bearer {token}\r\n" if token else ""
        self._rest = f" HTTP/1.1\r\nHost: {name}:{port}\r\n{credentials}Content-Type: application/json\r\nContent-Length: ".encode()
        self._heads: dict[str, bytes] = {}
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._held: list[bytes] = []
        self._under_way = 0

    def predict(
        self,
        endpoint: str,
        columns: Mapping[str, Sequence[Any]],
        event_time: int | dt.datetime | Sequence[int] | None = None,
        ids: Sequence[str] | None = None,
    ) -> Answer:
        """Score rows given as columns: model inputs, entity keys, the unit.

        Args:
            endpoint: its name.
            columns: one list a column, one value a row.
            event_time: when the rows happened, a datetime or microseconds since 1970 UTC, for all or for each; now where None.
            ids: your own ids, one a row; echoed as `row_ids` and logged.

        Raises:
            TreadleError: the gateway's own error; `unavailable` where it cannot be reached or ended before it answered. Then the
                prediction may or may not have been logged, and nothing was acknowledged.
        """
        self.send(endpoint, columns, event_time, ids)
        return self.receive()

    def send(
        self,
        endpoint: str,
        columns: Mapping[str, Sequence[Any]],
        event_time: int | dt.datetime | Sequence[int] | None = None,
        ids: Sequence[str] | None = None,
        *,
        hold: bool = False,
    ) -> None:
        """Send a request without waiting for its answer. Keep few under way (some dozens of small ones): the gateway reads no further
        while nobody takes its answers.

        Args:
            endpoint, columns, event_time, ids: as for `predict`.
            hold: keep it back until the next one that is not held, and send them in one piece, which costs both sides less.
        """
        body: dict[str, Any] = {"columns": columns}
        if event_time is not None:
            body["event_time"] = micros(event_time) if isinstance(event_time, dt.datetime) else event_time
        if ids is not None:
            body["ids"] = ids
        content = _encode(body)
        head = self._heads.get(endpoint) or self._head(endpoint)
        self._held.append(b"%b%d\r\n\r\n%b" % (head, len(content), content))
        if not hold:
            self._send_held()

    def _send_held(self) -> None:
        request, count = b"".join(self._held), len(self._held)
        self._held = []
        if not self._under_way and self._ended():
            self.close()
        fresh = self._socket is None
        connection = self._socket or self._connect()
        try:
            connection.sendall(request)
        except OSError as error:
            self.close()
            if fresh or self._under_way:
                raise self._lost(error) from error
            connection = self._connect()  # the kept connection had been closed meanwhile; nothing was under way
            connection.sendall(request)
        self._under_way += count

    def receive(self) -> Answer:
        """The answer to the oldest request that has none yet. Raises like `predict`."""
        if self._held:
            self._send_held()
        status, content = self._response()
        self._under_way -= 1
        if status == 200:
            return _decode_answer(content)
        try:
            raise _decode_error(content).error()
        except msgspec.DecodeError as error:
            raise TreadleError(
                f"{self.host}:{self.port} answered {status}, not as a gateway does.",
                remedy="Check the address: it must be a gateway's, see treadle status.",
                code="unavailable",
            ) from error

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer, self._held, self._under_way = None, b"", [], 0

    def __enter__(self) -> "InferenceClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _response(self) -> tuple[int, bytes]:
        connection, buffer = self._socket, self._buffer
        if connection is None:
            raise self._lost(None)
        try:
            while (end := buffer.find(_HEAD_END)) < 0:
                buffer += self._more(connection)
            head = buffer[:end].lower()
            at = head.find(_LENGTH)
            if at < 0:
                raise OSError("the answer has no Content-Length")
            at += len(_LENGTH)
            stop = head.find(b"\r", at)
            size = int(head[at:] if stop < 0 else head[at:stop])
            start = end + 4
            if len(buffer) < start + size:
                parts, missing = [buffer], start + size - len(buffer)
                while missing > 0:
                    parts.append(self._more(connection))
                    missing -= len(parts[-1])
                buffer = b"".join(parts)
        except (OSError, ValueError) as error:
            self.close()
            raise self._lost(error) from error
        self._buffer = buffer[start + size :]
        status = int(buffer[9:12])
        if b"connection: close" in head:
            under_way = self._under_way
            self.close()
            self._under_way = under_way
        return status, buffer[start : start + size]

    def _ended(self) -> bool:
        """Whether the gateway has closed the kept connection meanwhile: an idle connection has nothing to read but its end."""
        return self._socket is not None and bool(select.select([self._socket], [], [], 0)[0])

    def _more(self, connection: socket.socket) -> bytes:
        chunk = connection.recv(1 << 18)
        if not chunk:
            raise ConnectionResetError("the gateway closed the connection")
        return chunk

    def _connect(self) -> socket.socket:
        until = time.monotonic() + self._retry_s
        while True:
            try:
                self._socket = socket.create_connection((self.host, self.port), timeout=self._timeout_s)
                break
            except OSError as error:
                if time.monotonic() >= until:
                    raise self._lost(error) from error
                time.sleep(0.05)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _head(self, endpoint: str) -> bytes:
        head = self._heads[endpoint] = f"POST /endpoints/{quote(endpoint, safe='')}/predict".encode() + self._rest
        return head

    def _lost(self, error: Exception | None) -> TreadleError:
        return TreadleError(
            f"The gateway at {self.host}:{self.port} did not answer: {error or 'no request is under way'}.",
            remedy="Start it, or look why it ended: treadle gateway --env ENV, treadle status",
            code="unavailable",
        )
