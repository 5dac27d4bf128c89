"""Files of runs and logged models: a path that can be written again, and the blob that stands there now.

Bytes are stored first, as a blob; then the path is pointed at it, in a transaction. What stood there before is garbage once nothing
else refers to it. A file that is too large for one request arrives in parts, each a blob of its own until the whole is made.
"""

import re

import msgspec

from treadle.ledger.dispatch import Unchanged
from treadle.operations import artifacts as ops
from treadle.operations.ledger import Done
from treadle.operations.table import implements
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import SystemClock, micros
from treadle.records.errors import TreadleError
from treadle.records.ledger import Artifact, Page
from treadle.records.tracking import Lifecycle, Upload, UploadPart
from treadle.store.db import Connection
from treadle.store.queries import files as queries
from treadle.tracking.paths import BUNDLES, LONGEST, clean, folder, parents

#: The longest page of a listing, and the greatest number of parts.
MOST = 10_000
_MEDIA = re.compile(r"[\x21-\x7e]{1,100}/[\x20-\x7e]{1,200}")


class Files:
    """Implements the verbs of files."""

    def __init__(self, blobs: BlobStore):
        self._blobs = blobs
        self._clock = SystemClock()

    @implements(ops.ListFiles)
    def list_files(self, connection: Connection, request: ops.ListFiles, call: Call) -> ops.Files:
        """One level, files and folders in the order of their bytes; a folder that is not there is empty."""
        root = folder(request.path)
        if not 1 <= request.limit <= MOST:
            raise TreadleError(f"A page of {request.limit} cannot be had.", remedy=f"Ask for 1 to {MOST} and follow page.next.")
        _lifecycle(connection, request.project, request.owner)
        after = None if request.page is None else _token(request.page, f"{root}/" if root else "")
        found, folders, last = queries.list_folder(connection, request.project, request.owner, root, after=after, limit=request.limit)
        page = Page(next=None if last is None else msgspec.json.encode([last]).decode())
        return ops.Files(root=root, files=found, folders=folders, page=page)

    @implements(ops.GetFile)
    def get_file(self, connection: Connection, request: ops.GetFile, call: Call) -> Artifact:
        """Which blob stands at a path."""
        path = clean(request.path)
        found = queries.get_file(connection, request.project, request.owner, path)
        if found is not None:
            return found
        _lifecycle(connection, request.project, request.owner)
        if queries.is_folder(connection, request.project, request.owner, path):
            raise TreadleError(
                f"{path!r} is a folder.", remedy="Name a file in it; ListFiles says which there are.", details={"folder": path}
            )
        raise TreadleError(f"No such artifact: {path!r}.", remedy="List what there is: ListFiles", code="not_found")

    @implements(ops.CheckFile)
    def check_file(self, connection: Connection, request: ops.CheckFile, call: Call) -> Done:
        """Whether a file may be written there."""
        self._may_write(connection, request.project, request.owner, request.path)
        return Done(changed=False)

    @implements(ops.PutFile)
    def put_file(self, tx: Connection, request: ops.PutFile, call: Call) -> Artifact:
        """Let a stored blob stand at a path."""
        path = self._may_write(tx, request.project, request.owner, request.path)
        return self._put(tx, request, request.owner, path)

    @implements(ops.DeleteFiles)
    def delete_files(self, tx: Connection, request: ops.DeleteFiles, call: Call) -> Done | Unchanged:
        """Delete a file or a folder; what is not there is no error."""
        if not folder(request.path):
            raise TreadleError(
                "The root of a run's files cannot be deleted.",
                remedy="Name a file or a folder; a run is removed with all it has by: treadle remove run/ID",
                details={"field": "path"},
            )
        path = folder(request.path)
        _writable(tx, request.project, request.owner, path)
        return Done() if queries.delete_files(tx, request.project, request.owner, path) else Unchanged(Done(changed=False))

    # ── uploads in parts ─────────────────────────────────────────────────────────────────────────────────────────

    @implements(ops.StartUpload)
    def start_upload(self, tx: Connection, request: ops.StartUpload, call: Call) -> Upload:
        """Announce a file that comes in parts; the same id for the same path again changes nothing."""
        path = self._may_write(tx, request.project, request.owner, request.path)
        upload = Upload(
            project=request.project, upload_id=request.upload_id, owner=request.owner, path=path, recorded_time=self._clock.now()
        )
        if queries.insert_upload(tx, upload):
            return upload
        known = _upload(tx, request.project, request.upload_id)
        if (known.owner, known.path) != (request.owner, path):
            raise TreadleError(
                f"There is an upload {request.upload_id} already, of another file.",
                remedy="Make a fresh id for a new upload: treadle.records.ids.new_id('upl')",
                code="conflict",
            )
        return known

    @implements(ops.GetUpload)
    def get_upload(self, connection: Connection, request: ops.GetUpload, call: Call) -> Upload:
        """What has arrived."""
        return _upload(connection, request.project, request.upload_id)

    @implements(ops.PutPart)
    def put_part(self, tx: Connection, request: ops.PutPart, call: Call) -> Done:
        """Keep a part."""
        if not 1 <= request.number <= MOST:
            raise TreadleError(f"There is no part {request.number}.", remedy=f"Number the parts from 1 to at most {MOST}.")
        upload = _upload(tx, request.project, request.upload_id)
        self._check_blob(request.digest, request.size)
        parts = {**upload.parts, request.number: UploadPart(digest=request.digest, size=request.size)}
        queries.put_parts(tx, msgspec.structs.replace(upload, parts=parts))
        return Done()

    @implements(ops.CompleteUpload)
    def complete_upload(self, tx: Connection, request: ops.CompleteUpload, call: Call) -> Artifact:
        """Let the whole stand at its path; its parts fall to the garbage."""
        upload = _upload(tx, request.project, request.upload_id)
        if sum(part.size for part in upload.parts.values()) != request.size:
            raise TreadleError(
                f"The parts of {upload.upload_id} have not {request.size} bytes together.", remedy="Send what is missing.", code="conflict"
            )
        path = self._may_write(tx, request.project, upload.owner, upload.path)
        queries.delete_upload(tx, request.project, request.upload_id)
        return self._put(tx, request, upload.owner, path)

    @implements(ops.AbortUpload)
    def abort_upload(self, tx: Connection, request: ops.AbortUpload, call: Call) -> Done:
        """Forget an upload."""
        return Done(changed=queries.delete_upload(tx, request.project, request.upload_id))

    def _may_write(self, connection: Connection, project: str, owner: str, path: str) -> str:
        """The path, where a file may be written at it."""
        path = clean(path)
        _writable(connection, project, owner, path)
        other = queries.in_the_way(connection, project, owner, path, parents(path))
        if other is not None:
            why = f"{other!r} stands below it" if len(other) > len(path) else f"{other!r} is a file and no folder"
            raise TreadleError(
                f"{path!r} cannot be a file: {why}.",
                remedy="Take another path, or delete the other file first: DeleteFiles",
                code="conflict",
                details={"path": path, "other": other},
            )
        return path

    def _put(self, tx: Connection, request: ops.PutFile | ops.CompleteUpload, owner: str, path: str) -> Artifact:
        if not _MEDIA.fullmatch(request.media_type):
            raise TreadleError(f"{request.media_type[:80]!r} is no media type.", remedy="Write one such as text/csv")
        self._check_blob(request.digest, request.size)
        file = Artifact(
            project=request.project, run_id=owner, path=path, digest=request.digest, size=request.size, media_type=request.media_type
        )
        queries.put_file(tx, file, micros(self._clock.now()))
        return file

    def _check_blob(self, digest: str, size: int) -> None:
        there = self._blobs.size(digest)
        if there is None:
            raise TreadleError(
                f"There is no blob {digest}.",
                remedy="Upload the content first and use the digest that the upload answers: PUT /files/PROJECT/OWNER/PATH",
                code="not_found",
            )
        if there != size:
            raise TreadleError(f"The blob {digest} has {there:,} bytes, not {size:,}.", remedy="Give the size of the content itself.")


def _lifecycle(connection: Connection, project: str, owner: str) -> str:
    found = queries.owner_lifecycle(connection, project, owner) if owner else str(Lifecycle.active)
    if found is None:
        raise TreadleError(
            f"There is no run or logged model {owner[:80]!r} in project {project!r}.",
            remedy="List runs: treadle runs",
            code="not_found",
            details={"missing": _kind(owner), "id": owner[:80]},
        )
    return found


def _writable(connection: Connection, project: str, owner: str, path: str) -> None:
    if not owner and f"{path}/".startswith(f"{BUNDLES}/"):
        raise TreadleError(
            f"{path[:200]!r} is of a sealed bundle, which does not change.",
            remedy="Seal and register another version; a version that nothing refers to is removed with: treadle remove model/NAME/NUMBER",
            code="denied",
        )
    if _lifecycle(connection, project, owner) != Lifecycle.active:
        raise TreadleError(
            f"{owner} is in the bin, so nothing can be written to it.",
            remedy=f"Take it back first: treadle runs restore {owner}",
            code="conflict",
            details={"binned": _kind(owner), "id": owner},
        )


def _kind(owner: str) -> str:
    return "logged_model" if owner.startswith("m-") else "run"


def _upload(connection: Connection, project: str, upload_id: str) -> Upload:
    found = queries.get_upload(connection, project, upload_id)
    if found is None:
        raise TreadleError(
            f"There is no upload {upload_id[:80]!r} in project {project!r}.",
            remedy="Start it again: it was completed, aborted, or lay there for a week.",
            code="not_found",
        )
    return found


def _token(token: str, prefix: str) -> str:
    try:
        (last,) = msgspec.json.decode(token, type=tuple[str])
    except (msgspec.MsgspecError, RecursionError):
        last = ""
    if not last.startswith(prefix) or not last.removeprefix(prefix) or len(last) > LONGEST + 1 or "\x00" in last:
        raise TreadleError(f"{token[:80]!r} is no page token.", remedy="Use page.next of the page before, as it is.")
    return last
