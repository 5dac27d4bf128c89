"""Files by their paths: `/files/PROJECT/OWNER/PATH`, streamed both ways (OWNER is a run's or logged model's id, `-` for nobody's).

An upload becomes a blob while it arrives, and only when all of it is on disk is the path pointed at it: one that is cut leaves
nothing. What comes back was written by anybody, so a browser is told to keep it as an attachment, to guess no other type, and to run
nothing of it.
"""

import asyncio
import mimetypes
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

import msgspec
from blake3 import blake3
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from treadle.api.errors import encode
from treadle.api.guard import MAX_UPLOAD, Headers, answer
from treadle.operations.artifacts import CheckFile, DeleteFiles, GetFile, PutFile
from treadle.plugins.storage import BlobSink, BlobStore
from treadle.records.errors import TreadleError
from treadle.records.ledger import Artifact

#: Where these routes stand.
FILES = "/files"
#: The owner, in an address, of files that are nobody's.
NOBODY = "-"
UNKNOWN = "application/octet-stream"
_CHUNK = 1 << 20
#: The connection of a refused upload up to this size stays open to its end, so that its sender gets to read why.
_DRAINED = 32 << 20
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_MEDIA = re.compile(r"[\w.+*-]{1,100}/[\w.+*-]{1,100}(;[\x20-\x7e]{0,90})?", re.ASCII)
#: A name that a header holds without quotes.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: For every file that is given out: whatever is in it, it is no page of this server.
SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"private, no-cache"),
)


class FileRoutes:
    """The routes as an ASGI application.

    Args:
        dispatch: the one door.
        blobs: where the bytes are.
        max_upload: bytes of the largest file.
    """

    def __init__(self, dispatch: Callable[..., Any], blobs: BlobStore, *, max_upload: int = MAX_UPLOAD):
        self._dispatch, self._blobs, self._max = dispatch, blobs, max_upload
        self._verbs = {"GET": self._get, "HEAD": self._get, "PUT": self._put, "DELETE": self._delete}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        method = scope["method"]
        try:
            if method not in self._verbs:
                details = {"status": 405, "allow": ", ".join(self._verbs)}
                raise TreadleError(f"{method} is not possible at {scope['path'][:200]}.", remedy="Use GET, PUT or DELETE.", details=details)
            await self._verbs[method](scope, receive, send, *address(raw_path(scope)))
        except TreadleError as error:
            finer = error.details.get("status") or (413 if error.details.get("limit") else None)
            allow, more = error.details.get("allow", ""), size_told(error)
            await answer(send, *encode(error, finer), close=too_much_left(scope), method=method, allow=allow, more=more)

    async def _call(self, scope: Scope, request: Any) -> Any:
        return await run_in_threadpool(self._dispatch, request, actor=scope["state"]["actor"])

    async def _get(self, scope: Scope, receive: Receive, send: Send, project: str, owner: str, path: str) -> None:
        file = await self._call(scope, GetFile(project=project, owner=owner, path=path))
        await send_file(scope, receive, send, self._blobs, file)

    async def _put(self, scope: Scope, receive: Receive, send: Send, project: str, owner: str, path: str) -> None:
        await self._call(scope, CheckFile(project=project, owner=owner, path=path))
        digest, size = await receive_blob(scope, receive, self._blobs, self._max)
        put = PutFile(project=project, owner=owner, path=path, digest=digest, size=size, media_type=media_type(scope, path))
        made = await self._call(scope, put)
        await answer(send, 200, msgspec.json.encode(made), more=[(b"etag", f'"{digest}"'.encode())])

    async def _delete(self, scope: Scope, receive: Receive, send: Send, project: str, owner: str, path: str) -> None:
        done = await self._call(scope, DeleteFiles(project=project, owner=owner, path=path))
        await answer(send, 200, msgspec.json.encode(done))


def address(raw: str) -> tuple[str, str, str]:
    """Project, owner and path of an address as it was sent.

    >>> address("/files/flights/run_1/plots/a%20b.png")
    ('flights', 'run_1', 'plots/a b.png')

    Raises:
        TreadleError: one without the three, or that is no UTF-8.
    """
    try:
        parts = [unquote(part, errors="strict") for part in raw.removeprefix(FILES + "/").split("/", 2)]
    except UnicodeDecodeError as error:
        raise TreadleError("The path is not UTF-8.", remedy="Percent-encode UTF-8.") from error
    if len(parts) != 3 or not all(parts[:2]):
        raise TreadleError("This is no address of a file.", remedy=f"Write {FILES}/PROJECT/OWNER/PATH", code="not_found")
    return parts[0], "" if parts[1] == NOBODY else parts[1], parts[2]


def raw_path(scope: Scope) -> str:
    """The path as it was sent, percent-encoded."""
    return (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")


def media_type(scope: Scope, path: str) -> str:
    """What an upload says it is, else what its name says."""
    said = header(scope, b"content-type")
    vague = said.split(";")[0].strip().lower() in (UNKNOWN, "application/x-www-form-urlencoded")
    return said if _MEDIA.fullmatch(said) and not vague else mimetypes.guess_type(path)[0] or UNKNOWN


def header(scope: Scope, name: bytes) -> str:
    """A header of the request, empty where there is none."""
    return next((value.decode("latin-1").strip() for key, value in scope["headers"] if key == name), "")


# ── uploads ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def receive_blob(scope: Scope, receive: Receive, blobs: BlobStore, limit: int) -> tuple[str, int]:
    """Store a request's body as a blob while it arrives; (digest, bytes). Nothing stays of one that does not arrive whole.

    Raises:
        TreadleError: larger than `limit`, cut, compressed; `storage_full`.
    """
    if header(scope, b"content-encoding") not in ("", "identity"):
        raise TreadleError("Compressed bodies are not read.", remedy="Send the file as it is.", details={"status": 415})
    declared = header(scope, b"content-length")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    with blobs.open_write() as writer:
        async for piece in _pieces(receive):
            if writer.size + len(piece) > limit:
                raise too_large(limit)
            if len(piece) < _CHUNK and declared == str(len(piece)):
                return await run_in_threadpool(_at_once, writer, piece)
            await run_in_threadpool(writer.write, piece)
        if declared and declared != str(writer.size):
            raise TreadleError(f"{declared} bytes were announced and {writer.size} arrived.", remedy="Send the file again.")
        return await run_in_threadpool(writer.commit), writer.size


def too_much_left(scope: Scope) -> bool:
    """Whether a refused body is so large, or of so unknown a size, that the connection is better closed."""
    declared = header(scope, b"content-length")
    return int(declared) > _DRAINED if declared.isdigit() else bool(header(scope, b"transfer-encoding"))


def too_large(limit: int) -> TreadleError:
    """The error of a file over the limit."""
    return TreadleError(
        f"The file is larger than {limit:,} bytes.",
        remedy="Start the server with a larger limit: TREADLE_MAX_UPLOAD=BYTES treadle up",
        details={"limit": limit},
    )


async def _pieces(receive: Receive) -> AsyncIterator[bytearray]:
    held = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise TreadleError("The upload was cut before its end, and nothing of it was kept.", remedy="Send it again.", code="cancelled")
        held += message.get("body", b"")
        more = message.get("more_body", False)
        if held and (len(held) >= _CHUNK or not more):
            yield held
            held = bytearray()


def _at_once(writer: BlobSink, content: bytes | bytearray) -> tuple[str, int]:
    writer.write(content)
    return writer.commit(), writer.size


# ── downloads ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def send_file(scope: Scope, receive: Receive, send: Send, blobs: BlobStore, file: Artifact) -> None:
    """Answer with a file's content, or a range of it.

    A whole file is checked against its digest while it is sent; one that is corrupt ends in a broken connection, and not in an answer
    that looks complete.
    """
    etag = f'"{file.digest}"'
    headers = [(b"etag", etag.encode()), (b"accept-ranges", b"bytes"), *SAFE]
    known = [tag.strip().removeprefix("W/") for tag in header(scope, b"if-none-match").split(",")]
    if etag in known or "*" in known:
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body"})
        return
    span = _span(header(scope, b"range"), file.size) if header(scope, b"if-range") in ("", etag) else None
    start, end = span or (0, file.size)
    headers += [
        (b"content-type", file.media_type.encode("latin-1")),
        (b"content-disposition", disposition(file.path)),
        (b"content-length", str(end - start).encode()),
    ]
    if span:
        headers.append((b"content-range", f"bytes {start}-{end - 1}/{file.size}".encode()))
    opened = await run_in_threadpool(blobs.open_read, file.digest)
    try:
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 206 if span else 200, "headers": headers})
            await send({"type": "http.response.body"})
            return
        pieces = _reading(opened, start, end, None if span else file.digest)
        piece = await run_in_threadpool(next, pieces, b"")  # a file of one piece is found corrupt before anything was said
        await send({"type": "http.response.start", "status": 206 if span else 200, "headers": headers})
        gone = asyncio.ensure_future(_gone(receive))
        try:
            while piece and not gone.done():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await run_in_threadpool(next, pieces, b"")
        finally:
            gone.cancel()
        await send({"type": "http.response.body"})
    finally:
        opened.close()


def disposition(path: str) -> bytes:
    """The header that makes a browser keep a file, under its name.

    >>> disposition("plots/a b.png")
    b'attachment; filename="a b.png"; filename*=UTF-8\\'\\'a%20b.png'
    >>> disposition("plots/roc+1.png")
    b'attachment; filename=roc+1.png'
    >>> disposition("plots/roc%1.png")
    b"attachment; filename=roc%1.png; filename*=UTF-8''roc%251.png"
    """
    name = path.rpartition("/")[2]
    exact = f"; filename*=UTF-8''{quote(name, safe='')}"
    if _TOKEN.fullmatch(name):  # some take a percent sign for an escape
        return f"attachment; filename={name}{exact if '%' in name else ''}".encode()
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    return f'attachment; filename="{plain}"{exact}'.encode()


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """Where a range begins and ends; None for the whole, which is also the answer to several ranges or another unit.

    Raises:
        TreadleError: a range that has nothing of the file.
    """
    matched = _RANGE.fullmatch(asked.replace(" ", ""))
    if not matched or not (matched[1] or matched[2]):
        return None
    first, last = matched[1], matched[2]
    if first and last and int(first) > int(last):
        return None
    start, end = (int(first), min(int(last) + 1 if last else size, size)) if first else (max(0, size - int(last)), size)
    if start >= end:
        raise TreadleError(
            f"The file has {size} bytes, and {asked} is none of them.",
            remedy="Ask for a range within it.",
            details={"status": 416, "size": size},
        )
    return start, end


def size_told(error: TreadleError) -> Headers:
    """The header that tells the size of a file to who asked for a range that has nothing of it; none for any other error."""
    return [(b"content-range", f"bytes */{error.details['size']}".encode())] if error.details.get("status") == 416 else []


def verified(file: BinaryIO, size: int, digest: str) -> Iterator[bytes]:
    """A file's bytes in pieces, the last one only if all of them fit the digest; raises `corrupt`."""
    return _reading(file, 0, size, digest)


def _reading(file: BinaryIO, start: int, end: int, digest: str | None) -> Iterator[bytes]:
    """The bytes from `start` to `end`; with a digest the last piece is given only if all of them fit it."""
    hasher = blake3() if digest else None
    file.seek(start)
    left = end - start
    while left:
        piece = file.read(min(_CHUNK, left))
        left -= len(piece)
        if hasher is not None:
            hasher.update(piece)
        if not piece or (not left and hasher is not None and hasher.hexdigest() != digest):
            raise TreadleError(
                "The file is corrupt: its content no longer matches its digest.",
                remedy="Restore it from a backup, or log it again: treadle doctor",
                code="corrupt",
            )
        yield piece


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
