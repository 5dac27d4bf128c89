"""The verbs of files and of what goes for good: files of runs and logged models, removal, retention."""

from msgspec import Struct

from treadle.operations.ledger import Done
from treadle.operations.table import Writes, operation
from treadle.records.ledger import Artifact, Page
from treadle.records.tracking import Removed, Upload

MEASURES = Writes(measures=True)


class Files(Struct, frozen=True, kw_only=True):
    """What stands in a folder of files: files, and folders (a path and no digest)."""

    root: str
    files: list[Artifact]
    folders: list[str]
    page: Page


# ── files of runs and logged models ──────────────────────────────────────────────────────────────────────────────────


@operation("GET /projects/{project}/files", allow="read", returns=Files)
class ListFiles(Struct, frozen=True, kw_only=True):
    """What stands directly under a path of a run or logged model (`owner`: its id, or empty)."""

    project: str
    owner: str
    path: str = ""
    limit: int = 1000
    page: str | None = None


@operation("GET /projects/{project}/file", allow="read", returns=Artifact)
class GetFile(Struct, frozen=True, kw_only=True):
    """Which blob stands at a path; the bytes are at `/files/{project}/{owner}/{path}`."""

    project: str
    owner: str
    path: str


@operation("POST /projects/{project}/file", allow="runs:write", returns=Artifact, writes=MEASURES)
class PutFile(Struct, frozen=True, kw_only=True):
    """Let a stored blob stand at a path of a run or logged model, whatever stood there before."""

    project: str
    owner: str
    path: str
    digest: str
    size: int
    media_type: str = "application/octet-stream"


@operation("GET /projects/{project}/file/check", allow="runs:write", returns=Done)
class CheckFile(Struct, frozen=True, kw_only=True):
    """Whether the caller may write a file there: raises what PutFile would, before any byte of it is sent."""

    project: str
    owner: str
    path: str


@operation("DELETE /projects/{project}/files", allow="runs:write", returns=Done, writes=Writes("treadle.files.deleted", "files/{owner}"))
class DeleteFiles(Struct, frozen=True, kw_only=True):
    """Delete a file, or a folder with what is in it; the root itself is refused. Blobs that nothing else refers to go with the garbage."""

    project: str
    owner: str
    path: str


@operation("POST /projects/{project}/uploads", allow="runs:write", returns=Upload, writes=MEASURES)
class StartUpload(Struct, frozen=True, kw_only=True):
    """Announce a file that comes in parts, under an id of the caller's; one that is not completed within a week is forgotten."""

    project: str
    upload_id: str
    owner: str
    path: str


@operation("GET /projects/{project}/uploads/{upload_id}", allow="runs:write", returns=Upload)
class GetUpload(Struct, frozen=True, kw_only=True):
    """An upload and the parts that have arrived."""

    project: str
    upload_id: str


@operation("PUT /projects/{project}/uploads/{upload_id}/parts/{number}", allow="runs:write", returns=Done, writes=MEASURES)
class PutPart(Struct, frozen=True, kw_only=True):
    """Say which stored blob is part `number` (1 to 10000); the same number again replaces it."""

    project: str
    upload_id: str
    number: int
    digest: str
    size: int


@operation("POST /projects/{project}/uploads/{upload_id}", allow="runs:write", returns=Artifact, writes=MEASURES)
class CompleteUpload(Struct, frozen=True, kw_only=True):
    """Let the stored blob of all parts together stand at the upload's path, and forget the upload."""

    project: str
    upload_id: str
    digest: str
    size: int
    media_type: str = "application/octet-stream"


@operation("DELETE /projects/{project}/uploads/{upload_id}", allow="runs:write", returns=Done, writes=MEASURES)
class AbortUpload(Struct, frozen=True, kw_only=True):
    """Forget an upload; its parts fall to the garbage."""

    project: str
    upload_id: str


# ── removal and retention ───────────────────────────────────────────────────────────────────────────────────────────────


@operation(
    "POST /projects/{project}/removals",
    allow="home:admin",
    returns=Removed,
    writes=Writes("treadle.removed", "removal"),
)
class RemoveForGood(Struct, frozen=True, kw_only=True):
    """Remove runs, experiments, logged models, registered models or versions for good: rows, files and the space they take.

    With `preview` (the default) nothing goes, and the answer says what would and what keeps the rest. What a released or referred
    version needs is kept. `things` are `run/ID`, `experiment/ID`, `logged-model/ID`, `model/NAME`, `model/NAME/N`; `binned_before`
    takes everything that has been in the bin since before a time (microseconds UTC). The bytes of files go once nobody has read or
    written them for `min_age_s` seconds, now or with the next collection of garbage. `erase_events` erases what events told of the things
    too; the chain of events still verifies. `compact` writes a SQLite file anew, which takes as much space again while it lasts.
    """

    project: str
    things: list[str] = []
    binned_before: int | None = None
    preview: bool = True
    erase_events: bool = False
    min_age_s: int = 3600
    compact: bool = False


class RetentionRule(Struct, frozen=True, kw_only=True):
    """How long a project keeps things: `what` is runs, failed_runs, binned, artifacts; of an experiment or of all (`*`)."""

    rule_id: str
    what: str
    days: int
    experiment: str = "*"
    keep_tagged: str = ""  # runs with this tag are kept


@operation(
    "PUT /projects/{project}/retention/{rule_id}",
    allow="home:admin",
    returns=RetentionRule,
    writes=Writes("treadle.retention.changed", "retention/{rule_id}"),
)
class SetRetention(Struct, frozen=True, kw_only=True):
    """Declare a retention rule, or with `days` 0 take it back."""

    project: str
    rule_id: str
    what: str
    days: int
    experiment: str = "*"
    keep_tagged: str = ""


@operation("GET /projects/{project}/retention", allow="read", returns=list[RetentionRule])
class ListRetention(Struct, frozen=True, kw_only=True):
    """The project's retention rules."""

    project: str


@operation(
    "POST /projects/{project}/retention", allow="home:admin", returns=Removed, writes=Writes("treadle.retention.applied", "retention")
)
class ApplyRetention(Struct, frozen=True, kw_only=True):
    """Apply the rules now: what is past its time goes to the bin, and what was in the bin for as long goes for good."""

    project: str
    preview: bool = True
