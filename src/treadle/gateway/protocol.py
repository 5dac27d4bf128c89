"""The short way from the socket to the answer, for the one request that matters.

Uvicorn makes a task, an event and a response cycle for each request, because an ASGI app may wait. A prediction does not wait: for a
whole POST to a known prediction path it is answered where the parser ends, in one write. Everything else (other paths, large or
slow bodies, HTTP/1.0, `Expect`, a full write buffer, an answer under way before it) takes Uvicorn's own way to the same app.
"""

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from treadle.gateway.app import THREADED, Gateway

#: Digits of a Content-Length that may be small enough.
_DIGITS = len(str(THREADED))
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
        self.transport.write(b"%b%d\r\n\r\n%b" % (_HEADS[status], len(answer), answer))
        if self._last:
            self.transport.close()
        else:
            self.on_response_complete()

    def shutdown(self) -> None:
        """Let a request that is being read have its answer before the connection ends."""
        if self._route is None:
            super().shutdown()
        else:
            self._last = True


def quick_protocol(gateway: Gateway) -> type[QuickProtocol]:
    """The protocol class of one app's connections."""
    return type("GatewayProtocol", (QuickProtocol,), {"gateway": gateway})
