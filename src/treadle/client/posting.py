"""One POST to an address that somebody else chose: resolved once, connected to what was checked, nothing followed, nothing kept.

Proxies and redirects would lead elsewhere, so neither is used; of the answer the status alone is read. Everything together ends at one
deadline, however slowly the other side sends.
"""

import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

#: Bytes of an answer's head that are read at most, and of its body that are thrown away before the connection is closed.
_HEAD, _REST = 16_384, 65_536
#: Longest that the rest of an answer is listened to, in seconds.
_LISTEN = 0.3
#: What stands in a path or query as it is.
_SAFE = "/%:@!$&'()*+,;=~-._?"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotSentError(Exception):
    """No answer came; the text says why."""


def post(url: str, body: bytes, headers: Mapping[str, str], *, inside: bool = False, seconds: float = 5.0) -> int:
    """Send `body` and return the status that was answered.

    Args:
        url: http or https, checked by the caller.
        body: what is sent.
        headers: beside Host, Content-Length and Connection; names and values are the caller's own.
        inside: whether addresses that are not of the public internet may be connected to.
        seconds: for all of it but the name's resolution.

    Raises:
        NotSentError: refused, unreachable, too slow, or no HTTP.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = resolve(host, port, inside=inside)
    deadline = time.monotonic() + seconds
    try:
        with contextlib.closing(_connect(found, port, deadline)) as plain:
            line = plain
            if parts.scheme == "https":
                plain.settimeout(_left(deadline))
                line = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
            with contextlib.closing(line):
                line.settimeout(_left(deadline))
                line.sendall(_head(parts.path, parts.query, host, parts.port, headers, len(body)) + body)
                return _status(line, deadline)
    except TimeoutError as error:
        raise NotSentError(f"no answer within {seconds:g} seconds") from error
    except (OSError, UnicodeError) as error:  # ssl.SSLError is an OSError
        raise NotSentError(f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"[:300]) from error


def resolve(host: str, port: int, *, inside: bool) -> list[tuple[int, str]]:
    """(family, address) of a name, once and for all.

    Raises:
        NotSentError: there is none, or (unless `inside`) one that is not of the public internet.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotSentError(f"{host} has no address") from error
    found = list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in infos))
    inner = [address for _, address in found if not is_public(address)]
    if inner and not inside:
        raise NotSentError(f"{host} is at {inner[0]}, which is not of the public internet")
    return found


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, whatever it is wrapped in.

    >>> is_public("93.184.216.34"), is_public("::ffff:127.0.0.1"), is_public("169.254.169.254"), is_public("64:ff9b::a00:1")
    (True, False, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if wrapped is None and ip in _NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = wrapped or ip
    return ip.is_global and not ip.is_multicast


def _connect(found: list[tuple[int, str]], port: int, deadline: float) -> socket.socket:
    """To the first address that answers."""
    problem: OSError | None = None
    for family, address in found:
        line = socket.socket(family, socket.SOCK_STREAM)
        try:
            line.settimeout(_left(deadline))
            line.connect((address, port))
        except OSError as error:
            line.close()
            problem = error
            continue
        return line
    raise problem or OSError("no address")


def _head(path: str, query: str, host: str, port: int | None, headers: Mapping[str, str], length: int) -> bytes:
    target = quote(path or "/", safe=_SAFE) + (f"?{quote(query, safe=_SAFE)}" if query else "")
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    lines = [f"POST {target} HTTP/1.1", f"Host: {name}{f':{port}' if port else ''}", f"Content-Length: {length}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise NotSentError("a header has a line break in it")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _status(line: socket.socket, deadline: float) -> int:
    """The status of the answer; those that only announce one (1xx) are passed over."""
    got = b""
    while True:
        while b"\r\n\r\n" not in got and len(got) <= _HEAD:
            line.settimeout(_left(deadline))
            piece = line.recv(4096)
            if not piece:
                break
            got += piece
        first = got.split(b"\r\n", 1)[0].split(b" ")
        if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or len(first[1]) != 3 or not first[1].isdigit():
            raise NotSentError("what answers does not speak HTTP")
        status = int(first[1])
        if status >= 200:
            _throw_away(line, deadline)
            return status
        _, there, got = got.partition(b"\r\n\r\n")
        if not there:
            raise NotSentError("the answer ended before it began")


def _throw_away(line: socket.socket, deadline: float) -> None:
    """Let the other side finish what it says, for a moment, so that it sees no broken connection."""
    end, room = min(deadline, time.monotonic() + _LISTEN), _REST
    with contextlib.suppress(OSError):
        while room > 0:
            line.settimeout(_left(end))
            piece = line.recv(8192)
            if not piece:
                return
            room -= len(piece)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
