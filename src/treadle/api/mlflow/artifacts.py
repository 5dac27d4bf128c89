"""Artifacts in the protocol: listings as rows of the table, and the `mlflow-artifacts` proxy, which streams.

For `app.py`: `ROWS` go into the table like any others. Requests whose path `streams` says yes to (decoded or not, behind the base path,
from `/api/…`, `/ajax-api/…`, `/get-artifact` or `/model-versions/get-artifact` on) go to `Proxy`, an ASGI application that reads the
project in `scope["state"]["project"]` and the path in `raw_path`; it answers, errors included. `server-info` may say
`multipart_uploads_enabled`: true, `multipart_downloads_enabled`: false.
"""

import mimetypes
import posixpath
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote

import msgspec
from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from treadle.api.files import UNKNOWN, header, media_type, raw_path, receive_blob, send_file, size_told, too_much_left, verified
from treadle.api.guard import MAX_BODY, MAX_UPLOAD, Headers, answer
from treadle.api.mlflow.errors import encode, translate
from treadle.api.mlflow.places import Place, as_read, decoded, folder, model_root, of_version, place, run_root, safe
from treadle.api.mlflow.table import EMPTY, Context, Int64, ProtocolError, Row, missing, required
from treadle.operations.artifacts import (
    AbortUpload,
    CheckFile,
    CompleteUpload,
    DeleteFiles,
    GetFile,
    GetUpload,
    ListFiles,
    PutFile,
    PutPart,
    StartUpload,
)
from treadle.plugins.storage import BlobStore
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.ledger import Artifact
from treadle.records.tracking import Upload

#: Before the paths, to name a project.
BASE = "/mlflow/"
#: Most parts of an upload.
MOST_PARTS = 10_000
#: Bytes of what the browser may upload to a run.
_POSTED = 10 * 1024 * 1024
_PROXY = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/(artifacts|presigned|mpu/create|mpu/complete|mpu/abort|mpu/part)(?:/(.*))?")
_MODEL_FILES = re.compile(r"/ajax-api/2\.0/mlflow/logged-models/([^/]+)/artifacts/files")
_GET_RUN, _GET_VERSION, _POST_RUN = "/get-artifact", "/model-versions/get-artifact", "/ajax-api/2.0/mlflow/upload-artifact"


def streams(path: str) -> bool:
    """Whether a path is the proxy's."""
    return path in (_GET_RUN, _GET_VERSION, _POST_RUN) or bool(_PROXY.fullmatch(path) or _MODEL_FILES.fullmatch(path))


#: Ends of names, and whole names, of what is shown as plain text, whatever else it is: so does the protocol's own server.
_TEXTS = frozenset(
    "txt log err cfg conf cnf cf ini properties prop hocon toml yaml yml xml json js py py3 csv tsv md rst ipynb MLmodel mlproject".split()
)


def shown_as(path: str) -> str:
    """The media type with which a file is handed out: by its name, and not by what its sender said.

    >>> shown_as("model/MLmodel"), shown_as("a/b.json"), shown_as("c.png"), shown_as("d.unknown")
    ('text/plain', 'text/plain', 'image/png', 'application/octet-stream')
    """
    name = path.rpartition("/")[2]
    end = posixpath.splitext(name)[1].removeprefix(".") or name
    return "text/plain" if end in _TEXTS else mimetypes.guess_type(name)[0] or UNKNOWN


# ── listings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class ListArtifacts(Struct):
    """`artifacts/list`."""

    run_id: str = ""
    run_uuid: str = ""
    path: str = ""
    page_token: str = ""


class ListModelArtifacts(Struct):
    """`logged-models/{model_id}/artifacts/directories`."""

    model_id: str
    artifact_directory_path: str = ""
    page_token: str = ""


class Presigned(Struct):
    """`artifacts/presigned-…-url`."""

    run_id: str = ""
    model_id: str = ""
    path: str = ""


class _Part(Struct):
    part_number: Int64 = 0
    etag: str | None = None
    url: str | None = None


class _Multipart(Struct):
    path: str = ""
    num_parts: Int64 = 1
    upload_id: str = ""
    parts: list[_Part] = []


def listing(context: Context, where: Place, *, below: str | None) -> list[dict[str, Any]]:
    """What stands in a folder, sorted; paths below `below`, or the names alone for None."""

    def told(path: str) -> str:
        name = path.rpartition("/")[2]
        return name if below is None else posixpath.join(below, name)

    found: list[dict[str, Any]] = []
    page: str | None = None
    while True:
        asked = ListFiles(project=context.project, owner=where.owner, path=where.path, limit=10_000, page=page)
        some = context.call(asked)
        found += [{"path": told(f.path), "is_dir": False, "file_size": f.size} for f in some.files]
        found += [{"path": told(f), "is_dir": True} for f in some.folders]
        page = some.page.next
        if page is None:
            return sorted(found, key=lambda f: f["path"])


def _list_run(context: Context, request: ListArtifacts) -> dict[str, Any]:
    run_id = request.run_id or request.run_uuid
    if not run_id:
        raise missing("run_id")
    path = folder(request.path)
    root = run_root(context, run_id)
    return _with_files({"root_uri": root}, listing(context, Place(run_id, path), below=path))


def _list_model(context: Context, request: ListModelArtifacts) -> dict[str, Any]:
    path = folder(request.artifact_directory_path)
    root = model_root(context, request.model_id)
    return _with_files({"root_uri": root}, listing(context, Place(request.model_id, path), below=path))


def _with_files(told: dict[str, Any], files: list[dict[str, Any]]) -> dict[str, Any]:
    return {**told, "files": files} if files else told


def _presigned_upload(context: Context, request: Presigned) -> Any:
    required(request, "path")
    safe(request.path)
    raise ProtocolError("NOT_IMPLEMENTED", "Presigned upload is not supported for the current artifact repository")


def _presigned_download(context: Context, request: Presigned) -> Any:
    required(request, "path")
    safe(request.path)
    raise ProtocolError("NOT_IMPLEMENTED", "Presigned download is not supported for the current artifact repository")


ROWS: list[Row] = [
    Row("GET", "/artifacts/list", ListArtifacts, _list_run),
    Row("GET", "/logged-models/{model_id}/artifacts/directories", ListModelArtifacts, _list_model),
    Row("POST", "/artifacts/presigned-upload-url", Presigned, _presigned_upload),
    Row("POST", "/artifacts/presigned-download-url", Presigned, _presigned_download),
]


# ── the proxy ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Proxy:
    """What streams.

    Args:
        dispatch: the one door.
        blobs: where the bytes are.
        max_upload: bytes of the largest file.
    """

    def __init__(self, dispatch: Callable[..., Any], blobs: BlobStore, *, max_upload: int = MAX_UPLOAD):
        self._dispatch, self._blobs, self._max = dispatch, blobs, max_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        actor, path = scope["state"]["actor"], raw_path(scope)
        context = Context(scope["state"].get("project", "default"), actor, lambda request: self._dispatch(request, actor=actor))
        try:
            if not streams(path):
                raise ProtocolError("ENDPOINT_NOT_FOUND", f"There is nothing at {path[:200]}.")
            await _Exchange(scope, receive, send, context, self._blobs, self._max).serve(path)
        except TreadleError as error:
            await _refuse(scope, send, translate(error), size_told(error))
        except ProtocolError as error:
            await _refuse(scope, send, error)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, context: Context, blobs: BlobStore, limit: int):
        self._scope, self._receive, self._send = scope, receive, send
        self._context, self._blobs, self._limit = context, blobs, limit
        self._method = "GET" if scope["method"] == "HEAD" else scope["method"]
        try:
            self._query = parse_qs(scope["query_string"].decode("latin-1"), errors="strict", max_num_fields=100)
        except ValueError:
            raise ProtocolError("INVALID_PARAMETER_VALUE", "The query cannot be read.") from None

    async def serve(self, path: str) -> None:
        """Answer it."""
        project = self._context.project
        if path in (_GET_RUN, _GET_VERSION) or _MODEL_FILES.fullmatch(path):
            self._only("GET")
            await self._get(await run_in_threadpool(self._asked, path))
        elif path == _POST_RUN:
            self._only("POST")
            await self._posted()
        else:
            matched = _PROXY.fullmatch(path)
            assert matched is not None
            verb, rest = matched[1], decoded(matched[2] or "")
            if verb == "artifacts":
                await self._artifacts(rest)
            elif verb == "presigned":
                self._only("GET")
                place(rest)
                raise ProtocolError("NOT_IMPLEMENTED", "Multipart download is not supported for the current artifact repository")
            elif verb == "mpu/part":
                self._only("PUT")
                await self._part(rest)
            else:
                self._only("POST")
                asked = await self._json()
                handle = {"mpu/create": self._create, "mpu/complete": self._complete, "mpu/abort": self._abort}[verb]
                await self._tell(await run_in_threadpool(handle, project, rest, asked))

    # ── whole files ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _artifacts(self, path: str) -> None:
        if not path and self._method == "GET":
            where = place(self._one("path"), listed=True)
            files = await run_in_threadpool(listing, self._context, where, below=None)
            await self._tell(_with_files({}, files))
            return
        self._only("GET", "PUT", "DELETE")
        where = place(path)
        if self._method == "PUT" and path.endswith("/"):
            raise ProtocolError("INVALID_PARAMETER_VALUE", "Invalid path: it must end in the name of a file.")
        if not where.path and self._method != "GET":
            raise ProtocolError("INVALID_PARAMETER_VALUE", "Invalid path: the root itself can be neither a file nor deleted.")
        if self._method == "GET":
            await self._get(where)
        elif self._method == "PUT":
            await self._put(where)
            await self._tell(EMPTY)
        else:
            await self._call(DeleteFiles(project=self._context.project, owner=where.owner, path=where.path))
            await self._tell(EMPTY)

    async def _get(self, where: Place) -> None:
        try:
            file: Artifact = await self._call(GetFile(project=self._context.project, owner=where.owner, path=where.path))
        except TreadleError as error:
            if error.code != "not_found" or "missing" in error.details:
                raise
            meant = await run_in_threadpool(self._meant, where) if "\ufffd" in where.path else None
            if meant is None:
                raise ProtocolError("RESOURCE_DOES_NOT_EXIST", f"No such artifact: '{where.path}'") from None
            file = meant
        shown = msgspec.structs.replace(file, media_type=shown_as(file.path))
        await send_file(self._scope, self._receive, self._send, self._blobs, shown)

    def _meant(self, where: Place) -> Artifact | None:
        """The one file that a client means that decoded a name of a listing, as if `10%decline.png` had an escape in it."""
        folder = ""
        for part in where.path.split("/"):
            names = [told["path"] for told in listing(self._context, Place(where.owner, folder), below=folder)]
            names = [name for name in names if name == posixpath.join(folder, part) or as_read(name.rpartition("/")[2]) == part]
            if len(names) != 1:
                return None
            folder = names[0]
        found: Artifact = self._context.call(GetFile(project=self._context.project, owner=where.owner, path=folder))
        return found

    async def _put(self, where: Place, limit: int | None = None) -> None:
        key = {"project": self._context.project, "owner": where.owner, "path": where.path}
        await self._call(CheckFile(**key))
        digest, size = await receive_blob(self._scope, self._receive, self._blobs, limit or self._limit)
        if limit and not size:
            raise ProtocolError("INVALID_PARAMETER_VALUE", "Request must specify data.")
        await self._call(PutFile(**key, digest=digest, size=size, media_type=media_type(self._scope, where.path)))

    def _asked(self, path: str) -> Place:
        """The file that a page of the browser asks for."""
        if path == _GET_VERSION:
            return of_version(
                self._context, self._one("name", needed=True), self._one("version", needed=True), self._one("path", needed=True)
            )
        model = _MODEL_FILES.fullmatch(path)
        if model:
            wanted = self._one("artifact_file_path")
            if not wanted:
                raise ProtocolError("BAD_REQUEST", 'Request must include the "artifact_file_path" query parameter.')
            model_id = decoded(model[1])
            model_root(self._context, model_id)
            return Place(model_id, safe(wanted))
        return Place(self._one("run_id") or self._one("run_uuid", needed=True), safe(self._one("path", needed=True)))

    async def _posted(self) -> None:
        """What a page of the browser puts into a run."""
        run_id, path = self._one("run_uuid", needed=True), self._one("path", needed=True)
        try:
            await self._put(Place(run_id, safe(path)), _POSTED)
        except TreadleError as error:
            if error.details.get("limit"):
                raise ProtocolError("INVALID_PARAMETER_VALUE", "Artifact size is too large. Max size is 10MB.") from None
            raise
        await self._tell(EMPTY)

    # ── files in parts ───────────────────────────────────────────────────────────────────────────────────────────

    def _create(self, project: str, folder: str, asked: _Multipart) -> dict[str, Any]:
        required(asked, "path")
        where = place(posixpath.join(safe(folder), posixpath.basename(asked.path)))
        if not 1 <= asked.num_parts <= MOST_PARTS:
            raise ProtocolError("INVALID_PARAMETER_VALUE", f"num_parts must be between 1 and {MOST_PARTS}")
        upload: Upload = self._context.call(StartUpload(project=project, upload_id=new_id("upl"), owner=where.owner, path=where.path))
        base = f"{self._scope.get('scheme', 'http')}://{header(self._scope, b'host')}{BASE}{quote(project, safe='')}"
        parts = f"{base}/api/2.0/mlflow-artifacts/mpu/part/{upload.upload_id}"
        token = header(self._scope, b"authorization")
        headers = {"Authorization": token} if token else {}
        numbers = range(1, asked.num_parts + 1)
        return {
            "upload_id": upload.upload_id,
            "credentials": [{"url": f"{parts}/{n}", "part_number": n, "headers": headers} for n in numbers],
        }

    async def _part(self, rest: str) -> None:
        upload_id, _, number = rest.partition("/")
        if not number.isdigit() or not 1 <= int(number[:9]) <= MOST_PARTS:
            raise ProtocolError("INVALID_PARAMETER_VALUE", f"There is no part '{number[:20]}'")
        project = self._context.project
        await self._call(GetUpload(project=project, upload_id=upload_id))
        digest, size = await receive_blob(self._scope, self._receive, self._blobs, self._limit)
        await self._call(PutPart(project=project, upload_id=upload_id, number=int(number), digest=digest, size=size))
        await answer(self._send, 200, b"{}", more=[(b"etag", f'"{digest}"'.encode())])

    def _complete(self, project: str, folder: str, asked: _Multipart) -> dict[str, Any]:
        upload = self._upload(project, folder, asked)
        wanted = {part.part_number: (part.etag or "").strip('"') for part in asked.parts}
        there = {number: part.digest for number, part in upload.parts.items()}
        if not wanted or wanted != there or set(there) != set(range(1, len(there) + 1)):
            lost = sorted(n for n in {*wanted, *there} if wanted.get(n) != there.get(n))[:10]
            raise ProtocolError("INVALID_PARAMETER_VALUE", f"The parts are not those that have arrived; they differ in {lost or 'number'}.")
        with self._blobs.open_write() as writer:
            for number in sorted(upload.parts):
                part = upload.parts[number]
                with self._blobs.open_read(part.digest) as file:
                    for piece in verified(file, part.size, part.digest):
                        writer.write(piece)
            digest = writer.commit()
        done = CompleteUpload(
            project=project,
            upload_id=upload.upload_id,
            digest=digest,
            size=writer.size,
            media_type=media_type({"headers": []}, upload.path),
        )
        self._context.call(done)
        return EMPTY

    def _abort(self, project: str, folder: str, asked: _Multipart) -> dict[str, Any]:
        required(asked, "path", "upload_id")
        self._context.call(AbortUpload(project=project, upload_id=asked.upload_id))
        return EMPTY

    def _upload(self, project: str, folder: str, asked: _Multipart) -> Upload:
        required(asked, "path", "upload_id")
        upload: Upload = self._context.call(GetUpload(project=project, upload_id=asked.upload_id))
        if place(posixpath.join(safe(folder), posixpath.basename(asked.path))) != Place(upload.owner, upload.path):
            raise ProtocolError("INVALID_PARAMETER_VALUE", "The upload is of another file.")
        return upload

    # ── reading and answering ────────────────────────────────────────────────────────────────────────────────────

    async def _call(self, request: Any) -> Any:
        return await run_in_threadpool(self._context.call, request)

    async def _tell(self, told: Any) -> None:
        await answer(self._send, 200, msgspec.json.encode(told), method=self._scope["method"])

    def _only(self, *methods: str) -> None:
        if self._method not in methods:
            raise ProtocolError("METHOD_NOT_ALLOWED", f"{self._method} is not possible here; {', '.join(methods)} is.")

    def _one(self, name: str, *, needed: bool = False) -> str:
        """A parameter of the query; empty where it is not there."""
        value = self._query.get(name, [""])[-1]
        if needed and not value:
            raise ProtocolError("INVALID_PARAMETER_VALUE", f"Request must specify {name}.")
        return value

    async def _json(self) -> _Multipart:
        body = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ProtocolError("BAD_REQUEST", "The caller went away.")
            body += message.get("body", b"")
            more = message.get("more_body", False) and len(body) <= MAX_BODY
        try:
            return msgspec.json.decode(bytes(body) or b"{}", type=_Multipart, strict=False)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise ProtocolError("INVALID_PARAMETER_VALUE", f"The body cannot be read: {str(error)[:200]}") from None


async def _refuse(scope: Scope, send: Send, error: ProtocolError, more: Headers = ()) -> None:
    await answer(send, *encode(error), close=too_much_left(scope), method=scope["method"], more=more)
