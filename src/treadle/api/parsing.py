"""Requests that are no HTTP: the parser gives up before any application hears of them, and they are still answered as everything is.

A number that is none as the length of the body, an address longer than the parser takes, bytes that no address has, another protocol
altogether. `uvicorn` answers those in plain text, which a program that reads JSON cannot; here they get the error of the face they were
meant for, as far as their first line says which that is.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from treadle.api.errors import encode
from treadle.api.mlflow.app import refused
from treadle.records.errors import TreadleError

#: Bytes of an address that say whose it is.
_ENOUGH = 200


class Http(HttpToolsProtocol):
    """HTTP/1.1 whose refusals are JSON."""

    _first = b""

    def data_received(self, data: bytes) -> None:
        """Read on; the beginning is remembered for `send_400_response`."""
        self._first = data[:_ENOUGH]
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse, and close: nobody knows where the next request begins."""
        error = TreadleError(
            "This is no HTTP request that can be read.",
            remedy="Check its first line (addresses have at most 65,535 bytes, all of ASCII), its Content-Length, and that it is not TLS.",
        )
        status, body = refused(self._path(), error) or encode(error)
        head = (
            f"HTTP/1.1 {status} Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _path(self) -> str:
        words = self._first.split(b"\r\n")[0].split(b" ")
        address = getattr(self, "url", b"") or (words[1] if len(words) > 1 else b"")
        return address[:_ENOUGH].decode("latin-1").partition("?")[0]
