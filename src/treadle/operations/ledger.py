"""The ledger's verbs: runs and their measurements, lineage, events, audit, actors."""

import datetime as dt
from typing import Any

from msgspec import Struct

from treadle.operations.table import Writes, operation
from treadle.records.calls import Actor, Role
from treadle.records.ledger import Artifact, AuditReport, Edge, Event, Metric, Page, Reason, Run, Version


class Runs(Struct, frozen=True, kw_only=True):
    """A page of runs, newest first."""

    items: list[Run]
    page: Page


class Events(Struct, frozen=True, kw_only=True):
    """A page of events in sealed order."""

    items: list[Event]
    page: Page


class MetricPoints(Struct, frozen=True, kw_only=True):
    """A page of one metric's history, by step and time."""

    key: str
    items: list[Metric]
    page: Page


class RunDetail(Struct, frozen=True, kw_only=True):
    """A run with everything recorded about it: latest metric values, tags, artifacts."""

    run: Run
    metrics: dict[str, float]
    tags: dict[str, str]
    artifacts: list[Artifact]


class Lineage(Struct, frozen=True, kw_only=True):
    """Versions and the edges between them."""

    versions: list[Version]
    edges: list[Edge]


class TokenIssued(Struct, frozen=True, kw_only=True):
    """A new token; its secret is shown once and kept only as an argon2id hash. A retry answers with an empty `token`."""

    token_id: str
    actor_id: str
    token: str

    def without_secret(self) -> "TokenIssued":
        """What may be kept for a retry under the same idempotency key."""
        return TokenIssued(token_id=self.token_id, actor_id=self.actor_id, token="")


class Done(Struct, frozen=True, kw_only=True):
    """Acknowledges a write that has nothing else to say; `changed` is False where it had been done before."""

    changed: bool = True


@operation(
    "POST /projects/{project}/runs",
    allow="runs:write",
    returns=Run,
    writes=Writes("treadle.run.created", "run/{run_id}"),
)
class CreateRun(Struct, frozen=True, kw_only=True):
    """Record a new run, under an id made by the caller.

    The same id with the same content changes nothing; with other content it is a conflict.
    """

    project: str
    run_id: str
    environment: str = "dev"
    experiment: str = "default"
    pipeline: str = ""
    params: dict[str, Any] = {}
    reason: Reason = Reason(kind="demand", text="asked for")
    definition_digest: str = ""
    project_digest: str = ""
    code_digest: str = ""
    environment_digest: str = ""
    git_revision: str | None = None
    parent_run: str | None = None


@operation(
    "POST /projects/{project}/runs/{run_id}/state",
    allow="runs:write",
    returns=Run,
    writes=Writes("treadle.run.moved", "run/{run_id}"),
)
class MoveRun(Struct, frozen=True, kw_only=True):
    """Move a run to another state (queued, running, finished, failed, cancelled), by the table of allowed moves."""

    project: str
    run_id: str
    state: str
    error: str | None = None


@operation("GET /projects/{project}/runs/{run_id}", allow="read", returns=RunDetail)
class GetRun(Struct, frozen=True, kw_only=True):
    """One run with its latest metrics, tags and artifacts."""

    project: str
    run_id: str


@operation("GET /projects/{project}/runs", allow="read", returns=Runs)
class ListRuns(Struct, frozen=True, kw_only=True):
    """Runs of a project, newest first, filtered by environment, pipeline, experiment and state."""

    project: str
    environment: str | None = None
    pipeline: str | None = None
    experiment: str | None = None
    state: str | None = None
    limit: int = 50
    page: str | None = None


@operation("POST /projects/{project}/runs/{run_id}/metrics", allow="runs:write", returns=Done, writes=Writes(measures=True))
class LogMetrics(Struct, frozen=True, kw_only=True):
    """Log measurements of a run, one or thousands. The same (key, step, time) again changes nothing."""

    project: str
    run_id: str
    metrics: list[Metric]


@operation("POST /projects/{project}/runs/{run_id}/tags", allow="runs:write", returns=Done, writes=Writes(measures=True))
class SetTags(Struct, frozen=True, kw_only=True):
    """Set tags of a run; a tag that exists is replaced."""

    project: str
    run_id: str
    tags: dict[str, str]


@operation("GET /projects/{project}/runs/{run_id}/metrics/{key}", allow="read", returns=MetricPoints)
class GetMetric(Struct, frozen=True, kw_only=True):
    """The history of one metric."""

    project: str
    run_id: str
    key: str
    limit: int = 10_000
    page: str | None = None


@operation("POST /projects/{project}/runs/{run_id}/artifacts", allow="runs:write", returns=Artifact, writes=Writes(measures=True))
class RecordArtifact(Struct, frozen=True, kw_only=True):
    """Say which blob stands at a path of a run; the path may be written again, the digest may not change under it elsewhere."""

    project: str
    run_id: str
    path: str
    digest: str
    size: int
    media_type: str = "application/octet-stream"


@operation("GET /projects/{project}/lineage/{digest}", allow="read", returns=Lineage)
class GetLineage(Struct, frozen=True, kw_only=True):
    """The lineage graph around a version: `direction` is up (what it was made from), down (what was made from it) or both."""

    project: str
    digest: str
    direction: str = "up"
    depth: int = 20


@operation("GET /projects/{project}/events", allow="read", returns=Events)
class ListEvents(Struct, frozen=True, kw_only=True):
    """Sealed events in order after a sequence number; `newest` turns the order round. `type` may end in `*`."""

    project: str
    environment: str | None = None
    type: str | None = None
    subject: str | None = None
    newest: bool = False
    limit: int = 100
    page: str | None = None


@operation("GET /projects/{project}/events/{event_id}", allow="read", returns=Event)
class GetEvent(Struct, frozen=True, kw_only=True):
    """One event, sealed or not."""

    project: str
    event_id: str


@operation(
    "POST /projects/{project}/events",
    allow="runs:write",
    returns=Done,
    writes=Writes("", "{subject}"),
)
class EmitEvent(Struct, frozen=True, kw_only=True):
    """Record an event of one's own type (not `treadle.*`), which triggers can read."""

    project: str
    event_id: str
    type: str
    subject: str
    environment: str = ""
    payload: dict[str, Any] = {}


@operation(
    "DELETE /projects/{project}/events/{event_id}/payload",
    allow="payloads:erase",
    returns=Done,
    writes=Writes("treadle.payload.erased", "event/{event_id}"),
)
class ErasePayload(Struct, frozen=True, kw_only=True):
    """Erase an event's payload for good; its digest stays in the chain, which still verifies."""

    project: str
    event_id: str
    reason: str


@operation("GET /audit", allow="read", returns=AuditReport)
class VerifyAudit(Struct, frozen=True, kw_only=True):
    """Verify the chain of all events against itself and against the heads published outside the home."""


class TokenInfo(Struct, frozen=True, kw_only=True):
    """A token without its secret, which nobody has but its holder."""

    token_id: str
    created_time: dt.datetime
    revoked_time: dt.datetime | None = None


@operation("GET /actors", allow="actors:admin", returns=list[Actor])
class ListActors(Struct, frozen=True, kw_only=True):
    """Everybody who can act here, with roles and grants, the disabled too."""


@operation("GET /whoami", allow="read", returns=Actor)
class WhoAmI(Struct, frozen=True, kw_only=True):
    """The actor that this call runs as."""


@operation("POST /actors", allow="actors:admin", returns=Actor, writes=Writes("treadle.actor.created", "actor/{actor_id}"))
class CreateActor(Struct, frozen=True, kw_only=True):
    """Create an actor (person, service or policy) with a role."""

    actor_id: str
    name: str
    kind: str = "person"
    role: Role = Role.viewer


@operation(
    "POST /actors/{actor_id}/tokens",
    allow="actors:admin",
    returns=TokenIssued,
    writes=Writes("treadle.token.issued", "actor/{actor_id}"),
)
class IssueToken(Struct, frozen=True, kw_only=True):
    """Issue a token; the secret is in the answer and nowhere else."""

    actor_id: str
    token_id: str


@operation(
    "DELETE /actors/{actor_id}/tokens/{token_id}",
    allow="actors:admin",
    returns=Done,
    writes=Writes("treadle.token.revoked", "actor/{actor_id}"),
)
class RevokeToken(Struct, frozen=True, kw_only=True):
    """Revoke a token, from the next request on."""

    actor_id: str
    token_id: str


@operation("GET /actors/{actor_id}/tokens", allow="actors:admin", returns=list[TokenInfo])
class ListTokens(Struct, frozen=True, kw_only=True):
    """An actor's tokens, oldest first: when each was made and revoked, never its secret."""

    actor_id: str


@operation(
    "PUT /actors/{actor_id}/grants/{in_project}/{in_environment}",
    allow="actors:admin",
    returns=Actor,
    writes=Writes("treadle.role.granted", "actor/{actor_id}"),
)
class GrantRole(Struct, frozen=True, kw_only=True):
    """Give an actor a role in a project and environment, `*` being all of them, in place of the one it was given there before.

    What it may do somewhere is the highest of its own role and its grants that fit.
    """

    actor_id: str
    role: Role
    in_project: str
    in_environment: str


@operation(
    "DELETE /actors/{actor_id}/grants/{in_project}/{in_environment}",
    allow="actors:admin",
    returns=Done,
    writes=Writes("treadle.role.revoked", "actor/{actor_id}"),
)
class RevokeGrant(Struct, frozen=True, kw_only=True):
    """Take back what an actor was granted in exactly this project and environment; its own role stays."""

    actor_id: str
    in_project: str
    in_environment: str


@operation(
    "POST /actors/{actor_id}/disable",
    allow="actors:admin",
    returns=Done,
    writes=Writes("treadle.actor.disabled", "actor/{actor_id}"),
)
class DisableActor(Struct, frozen=True, kw_only=True):
    """Let an actor's tokens open nothing, from the next request on. The home's owner and the last admin cannot be disabled."""

    actor_id: str


@operation(
    "POST /actors/{actor_id}/enable",
    allow="actors:admin",
    returns=Done,
    writes=Writes("treadle.actor.enabled", "actor/{actor_id}"),
)
class EnableActor(Struct, frozen=True, kw_only=True):
    """Undo disabling: tokens that were not revoked open again."""

    actor_id: str


class GarbageReport(Struct, frozen=True, kw_only=True):
    """What collecting unreachable blobs freed, or would free."""

    dry_run: bool
    kept: int
    removed: int
    freed_bytes: int
    digests: list[str]


@operation("POST /garbage", allow="home:admin", returns=GarbageReport, writes=Writes("treadle.garbage.collected", "home"))
class CollectGarbage(Struct, frozen=True, kw_only=True):
    """Remove blobs that nothing in the graph refers to; younger than `min_age_s` seconds are kept, for writers in flight."""

    dry_run: bool = True
    min_age_s: int = 3600
