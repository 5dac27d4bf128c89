"""The short way from the socket to the answer, for the one request that matters.

Uvicorn makes a task, an event and a response cycle for each request, because an ASGI app may wait. A prediction does not wait: for a
whole POST to a known prediction path it is answered where the parser ends, in one write. Everything else (other paths, large or
slow bodies, HTTP/1.0, `Expect`, a full write buffer, an answer under way before it) takes Uvicorn's own way to the same app.

Requests that came in one piece are answered in one piece: a caller that pipelines pays for one write, not for one each.
"""

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from treadle.gateway.app import THREADED, Gateway

#: Digits of a Content-Length that may be small enough.
_DIGITS = len(str(THREADED))
#: Bytes of answers from which they are written, even where more of the piece is to be read.
_HELD = 64 << 10
_HEADS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\ncontent-length: ".encode()
    for status in HTTPStatus
}


class QuickProtocol(HttpToolsProtocol):
    """A connection. `gateway` is set by `quick_protocol`."""

    gateway: Gateway

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._route: tuple[str, str, str] | None = None  # of the request being read, where it may take the short way
        self._parts: list[bytes] = []
        self._last = False
        self._held: list[bytes] = []  # answers of the piece being read
        self._held_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read a piece, and write the answers to what ended in it."""
        super().data_received(data)
        self._write_held()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, after the answers to what came before it."""
        self._write_held()
        super().send_400_response(msg)

    def on_headers_complete(self) -> None:
        """Decide the way."""
        route = self.gateway.quick.get(self.url)
        parser: Any = self.parser
        if (
            route is not None
            and parser.get_method() == b"POST"
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
            and not any(name == b"content-length" and len(value) > _DIGITS for name, value in self.headers)
        ):
            self._route, self._parts = route, []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Gather; a large body goes the long way."""
        if self._route is None:
            super().on_body(body)
            return
        self._parts.append(body)
        if sum(map(len, self._parts)) >= THREADED:
            self._route = None
            super().on_headers_complete()
            super().on_body(b"".join(self._parts))

    def on_message_complete(self) -> None:
        """Answer."""
        route = self._route
        if route is None:
            super().on_message_complete()
            return
        self._route = None
        status, answer = self.gateway.answer(route, self.headers, b"".join(self._parts))
        self._held.append(b"%b%d\r\n\r\n%b" % (_HEADS[status], len(answer), answer))
        self._held_bytes += len(answer)
        if self._last or self._held_bytes > _HELD:
            self._write_held()
        if self._last:
            self.transport.close()
        else:
            self.on_response_complete()

    def _write_held(self) -> None:
        if self._held:
            self.transport.write(self._held[0] if len(self._held) == 1 else b"".join(self._held))
            self._held, self._held_bytes = [], 0

    def shutdown(self) -> None:
        """Let a request that is being read have its answer before the connection ends."""
        if self._route is None:
            super().shutdown()
        else:
            self._last = True


def quick_protocol(gateway: Gateway) -> type[QuickProtocol]:
    """The protocol class of one app's connections."""
    return type("GatewayProtocol", (QuickProtocol,), {"gateway": gateway})
