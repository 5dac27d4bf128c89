"""The release room's verbs: move traffic, and take it back."""

from msgspec import Struct

from treadle.operations.table import Writes, operation
from treadle.records.definitions import Canary
from treadle.records.releases import Release
from treadle.records.serving import Ack, Snapshot


class SnapshotStatus(Struct, frozen=True, kw_only=True):
    """The newest snapshot of an environment and who serves it."""

    snapshot: Snapshot
    acks: list[Ack]


@operation(
    "POST /projects/{project}/environments/{environment}/releases",
    allow="releases:write",
    returns=Release,
    writes=Writes("treadle.release.started", "endpoint/{endpoint}"),
)
class StartRelease(Struct, frozen=True, kw_only=True):
    """Start moving an endpoint to a model version: at once (`strategy` None), or by a canary.

    The version must be approved for the environment; an endpoint has at most one running release.
    """

    project: str
    environment: str
    release_id: str
    endpoint: str
    version: int
    strategy: Canary | None = None


@operation(
    "POST /projects/{project}/environments/{environment}/releases/{release_id}/rollback",
    allow="releases:write",
    returns=Release,
    writes=Writes("treadle.release.rolled_back", "release/{release_id}"),
)
class RollbackRelease(Struct, frozen=True, kw_only=True):
    """Take a release back: the version that served before serves again."""

    project: str
    environment: str
    release_id: str
    reason: str = ""


@operation("GET /projects/{project}/environments/{environment}/releases/{release_id}", allow="read", returns=Release)
class GetRelease(Struct, frozen=True, kw_only=True):
    """One release."""

    project: str
    environment: str
    release_id: str


@operation("GET /projects/{project}/environments/{environment}/releases", allow="read", returns=list[Release])
class ListReleases(Struct, frozen=True, kw_only=True):
    """Releases of an environment, newest first."""

    project: str
    environment: str
    endpoint: str | None = None
    state: str | None = None
    limit: int = 50


@operation("GET /projects/{project}/environments/{environment}/snapshot", allow="read", returns=SnapshotStatus)
class GetSnapshot(Struct, frozen=True, kw_only=True):
    """What the gateways of an environment are to serve, and which worker serves which generation."""

    project: str
    environment: str
