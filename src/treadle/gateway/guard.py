"""Whom the gateway lets in: the Host it is known by, no foreign Origin, and a token where it listens beyond loopback.

A page on the web can make a browser send requests to 127.0.0.1; its `Origin`, or after DNS rebinding its `Host`, gives it away.
"""

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from treadle.records.errors import TreadleError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Checks the headers of a request.

    Args:
        hosts: names this gateway answers to, besides the loopback ones.
        token: asked for as `Authorization: Bearer TOKEN`; none is asked for where empty.
    """

    def __init__(self, hosts: Iterable[str] = (), token: str = ""):
        self._hosts = {*LOOPBACK, *(host.lower() for host in hosts)}
        self._token = token.encode()
        self._seen: set[bytes] = set()

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str]:
        """Let the request in; returns its content length (0 where unsaid) and its `X-Request-Id`.

        Raises:
            TreadleError: `denied`, `unauthenticated`.
        """
        length, request_id, token, host = 0, "", b"", None
        for name, value in headers:
            if name == b"host":
                host = value
                if value not in self._seen:
                    self._check_host(value)
            elif name == b"content-length":
                length = int(value) if value.isdigit() else 0
            elif name == b"origin":
                self._check_origin(value)
            elif name == b"authorization":
                token = value
            elif name == b"x-request-id":
                request_id = value[:100].decode("latin-1")
            elif name == b"inference-header-content-length":
                raise TreadleError(
                    "Binary tensors are not spoken here.",
                    remedy="Send tensors as JSON (tritonclient: binary_data=False).",
                    code="bad_request",
                )
        if host is None:
            raise _foreign("Host", "none")
        if self._token and not hmac.compare_digest(token.removeprefix(b"Bearer "), self._token):
            raise TreadleError(
                "This gateway asks for a token.",
                remedy="Send the header Authorization: Bearer TOKEN; it is what TREADLE_GATEWAY_TOKEN was when the gateway started.",
                code="unauthenticated",
            )
        return length, request_id

    def _check_host(self, value: bytes) -> None:
        if not self._known(f"//{value.decode('latin-1')}"):
            raise _foreign("Host", value.decode("latin-1"))
        if len(self._seen) < 64:
            self._seen.add(value)

    def _check_origin(self, value: bytes) -> None:
        if not self._known(value.decode("latin-1")):
            raise _foreign("Origin", value.decode("latin-1"))

    def _known(self, address: str) -> bool:
        try:
            return (urlsplit(address).hostname or "") in self._hosts
        except ValueError:
            return False


def _foreign(what: str, given: str) -> TreadleError:
    return TreadleError(
        f"The {what} {given[:100]!r} is not one this gateway answers to.",
        remedy="Call it by the name it listens on, or start it with --allow-host NAME.",
        code="denied",
        details={"given": given[:100]},
    )
