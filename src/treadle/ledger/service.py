"""The ledger's verbs, bound: runs and their measurements, lineage, events, the audit, actors and tokens, garbage.

Every method runs inside the dispatcher's transaction. Making things is idempotent under the caller's id: the same content again
changes nothing, other content is a conflict.
"""

import math
from pathlib import Path
from typing import Any

import msgspec

from treadle.ledger import access, audit, garbage, lineage, sealer
from treadle.ledger.dispatch import Unchanged
from treadle.operations import implements
from treadle.operations import ledger as ops
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Actor, Call, Grant
from treadle.records.clock import SystemClock, from_micros, micros
from treadle.records.errors import TreadleError
from treadle.records.ledger import Artifact, AuditReport, Event, Page, Run
from treadle.records.states import RUN_MOVES, RunState, move
from treadle.store.db import Connection, Database
from treadle.store.queries import events as event_queries
from treadle.store.queries import ledger as queries

#: The longest page of a listing.
MOST = 10_000


class Ledger:
    """The ledger room's service.

    Args:
        database: where the home's id is.
        blobs: where artifacts are.
        heads: the file outside the home that the chain's heads are published to; `sealer.heads_path` of the home's id where none is given.
    """

    def __init__(self, database: Database, blobs: BlobStore, *, heads: Path | None = None):
        self._blobs = blobs
        self.heads = heads or sealer.heads_path(sealer.home_id(database))
        self._clock = SystemClock()

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(ops.CreateRun)
    def create_run(self, tx: Connection, request: ops.CreateRun, call: Call) -> Run | Unchanged:
        """Record a run as queued."""
        now = self._clock.now()
        fields = {name: getattr(request, name) for name in request.__struct_fields__}
        place = (tx, request.project, request.experiment)
        fields["experiment"] = queries.find_experiment(*place) or queries.ensure_experiment(*place, call.actor.actor_id, now)
        run = Run(**fields, state=RunState.queued, actor=call.actor.actor_id, event_time=call.event_time, recorded_time=now)
        if queries.insert_run(tx, run):
            return run
        known = self._run(tx, request.project, request.run_id)
        if any(msgspec.to_builtins(getattr(known, name)) != msgspec.to_builtins(value) for name, value in fields.items()):
            raise TreadleError(
                f"There is a run {request.run_id} already, with other content.",
                remedy="Make a fresh id for a new run: treadle.records.ids.new_id('run')",
                code="conflict",
            )
        return Unchanged(known)

    @implements(ops.MoveRun)
    def move_run(self, tx: Connection, request: ops.MoveRun, call: Call) -> Run | Unchanged:
        """Move a run by the table of allowed moves; to the state it is in already: unchanged."""
        state = _state(request.state)
        froms = [s for s, reachable in RUN_MOVES.items() if state in reachable]
        moved = queries.move_run(tx, request.project, request.run_id, froms=froms, state=state, at=call.event_time, error=request.error)
        if moved is not None:
            return moved
        known = self._run(tx, request.project, request.run_id)
        if known.state != state:
            move(RUN_MOVES, known.state, state, what=f"Run {known.run_id}")
        return Unchanged(known)

    @implements(ops.GetRun)
    def get_run(self, connection: Connection, request: ops.GetRun, call: Call) -> ops.RunDetail:
        """A run and all that was recorded about it: one statement a table."""
        run = self._run(connection, request.project, request.run_id)
        key = (connection, run.project, run.run_id)
        return ops.RunDetail(
            run=run, metrics=queries.latest_metrics(*key), tags=queries.tags_of(*key), artifacts=queries.artifacts_of(*key)
        )

    @implements(ops.ListRuns)
    def list_runs(self, connection: Connection, request: ops.ListRuns, call: Call) -> ops.Runs:
        """A page of runs, newest first."""
        equal = {name: getattr(request, name) for name in ("environment", "pipeline", "experiment", "state")}
        if request.experiment is not None:
            equal["experiment"] = queries.find_experiment(connection, request.project, request.experiment) or request.experiment
        before = None
        if request.page is not None:
            time, run_id = _page(request.page, int, str)
            before = (from_micros(time), run_id)
        limit = _limit(request.limit)
        runs = queries.list_runs(connection, request.project, equal=equal, before=before, limit=limit)
        return ops.Runs(items=runs, page=_next(runs, limit, lambda r: [micros(r.recorded_time), r.run_id]))

    # ── measurements ─────────────────────────────────────────────────────────────────────────────────────────────

    @implements(ops.LogMetrics)
    def log_metrics(self, tx: Connection, request: ops.LogMetrics, call: Call) -> ops.Done:
        """Keep measurements; those that are known change nothing. One without a time has the call's event time."""
        for metric in request.metrics:
            if not math.isfinite(metric.value):
                raise TreadleError(
                    f"Metric {metric.key!r} is {metric.value} at step {metric.step}; a measurement is a finite number.",
                    remedy="Leave it out, and say so in a tag: SetTags(tags={'diverged_at': '…'})",
                    details={"metric": metric.key, "step": metric.step},
                )
        if not request.metrics:
            return ops.Done(changed=False)
        with queries.needing(_no_run(request.project, request.run_id)):
            new = queries.log_metrics(tx, request.project, request.run_id, request.metrics, call.event_time)
        return ops.Done(changed=new > 0)

    @implements(ops.SetTags)
    def set_tags(self, tx: Connection, request: ops.SetTags, call: Call) -> ops.Done:
        """Set or replace tags."""
        with queries.needing(_no_run(request.project, request.run_id)):
            queries.set_tags(tx, request.project, request.run_id, request.tags)
        return ops.Done(changed=bool(request.tags))

    @implements(ops.GetMetric)
    def get_metric(self, connection: Connection, request: ops.GetMetric, call: Call) -> ops.MetricPoints:
        """A page of one metric's history."""
        after = None
        if request.page is not None:
            step, time = _page(request.page, int, int)
            after = (step, from_micros(time))
        limit = _limit(request.limit)
        points = queries.metric_points(connection, request.project, request.run_id, request.key, after=after, limit=limit)
        if not points:
            self._run(connection, request.project, request.run_id)
        end = _next(points, limit, lambda m: [m.step, micros(m.time)])
        return ops.MetricPoints(key=request.key, items=points, page=end)

    @implements(ops.RecordArtifact)
    def record_artifact(self, tx: Connection, request: ops.RecordArtifact, call: Call) -> Artifact:
        """Say which blob stands at a path; it must have been uploaded."""
        if request.path.startswith("/") or ".." in request.path.split("/") or not request.path:
            raise TreadleError(
                f"{request.path!r} is no artifact path.", remedy="Give a relative path without '..', such as 'plots/roc.png'."
            )
        self._run(tx, request.project, request.run_id)
        if self._blobs.size(request.digest) is None:
            raise TreadleError(
                f"There is no blob {request.digest} to be the artifact {request.path!r}.",
                remedy="Upload the content first and use the digest that the upload answers: blobs.put_file(path)",
                code="not_found",
            )
        artifact = Artifact(**{f.name: getattr(request, f.name) for f in msgspec.structs.fields(Artifact)})
        queries.put_artifact(tx, artifact, self._clock.now())
        return artifact

    # ── lineage and events ───────────────────────────────────────────────────────────────────────────────────────

    @implements(ops.GetLineage)
    def get_lineage(self, connection: Connection, request: ops.GetLineage, call: Call) -> ops.Lineage:
        """The graph around a version."""
        if request.direction not in ("up", "down", "both"):
            raise TreadleError(f"{request.direction!r} is no direction in the lineage graph.", remedy="Use up, down or both.")
        depth = min(max(request.depth, 0), 1000)
        return lineage.around(connection, request.project, request.digest, direction=request.direction, depth=depth)

    @implements(ops.ListEvents)
    def list_events(self, connection: Connection, request: ops.ListEvents, call: Call) -> ops.Events:
        """A page of sealed events."""
        limit = _limit(request.limit)
        items = event_queries.list_events(
            connection,
            request.project,
            after=None if request.page is None else _page(request.page, int)[0],
            environment=request.environment,
            types=() if request.type is None else (request.type,),
            subject=request.subject,
            newest=request.newest,
            limit=limit,
        )
        return ops.Events(items=items, page=_next(items, limit, lambda e: [e.seq]))

    @implements(ops.GetEvent)
    def get_event(self, connection: Connection, request: ops.GetEvent, call: Call) -> Event:
        """One event."""
        return self._event(connection, request.project, request.event_id)

    @implements(ops.EmitEvent)
    def emit_event(self, tx: Connection, request: ops.EmitEvent, call: Call) -> ops.Done | Unchanged:
        """An event of the caller's own type; the dispatcher writes it, as it writes every operation's event."""
        if request.type.startswith("treadle.") or "." not in request.type:
            raise TreadleError(
                f"{request.type!r} is no event type of your own.",
                remedy="Use a dotted name that does not begin with 'treadle.', such as 'acme.prices.changed'.",
            )
        known = event_queries.get_event(tx, request.project, request.event_id)
        if known is None:
            return ops.Done()
        asked = (request.type, request.subject, request.environment, request.payload)
        if (known.type, known.subject, known.environment, known.payload) != asked:
            raise TreadleError(
                f"There is an event {request.event_id} already, with other content.",
                remedy="Make a fresh id for a new event: treadle.records.ids.new_id('evt')",
                code="conflict",
            )
        return Unchanged(ops.Done(changed=False))

    @implements(ops.ErasePayload)
    def erase_payload(self, tx: Connection, request: ops.ErasePayload, call: Call) -> ops.Done | Unchanged:
        """Erase for good; the chain stands on the digest and still verifies."""
        if event_queries.erase_payload(tx, request.project, request.event_id):
            return ops.Done()
        self._event(tx, request.project, request.event_id)
        return Unchanged(ops.Done(changed=False))

    @implements(ops.VerifyAudit)
    def verify_audit(self, connection: Connection, request: ops.VerifyAudit, call: Call) -> AuditReport:
        """Walk the whole chain."""
        return audit.check(connection, self.heads, now=self._clock.now())

    # ── actors ───────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(ops.ListActors)
    def list_actors(self, connection: Connection, request: ops.ListActors, call: Call) -> list[Actor]:
        """Everybody, by id."""
        return access.everybody(connection)

    @implements(ops.WhoAmI)
    def who_am_i(self, connection: Connection, request: ops.WhoAmI, call: Call) -> Actor:
        """The caller."""
        return call.actor

    @implements(ops.CreateActor)
    def create_actor(self, tx: Connection, request: ops.CreateActor, call: Call) -> Actor | Unchanged:
        """Create somebody."""
        actor = Actor(actor_id=request.actor_id, name=request.name, kind=request.kind, role=request.role)
        return actor if access.create(tx, actor) else Unchanged(actor)

    @implements(ops.IssueToken)
    def issue_token(self, tx: Connection, request: ops.IssueToken, call: Call) -> ops.TokenIssued | Unchanged:
        """Issue a token; the same id again answers without the secret, which is gone."""
        token = access.issue(tx, request.actor_id, request.token_id)
        issued = ops.TokenIssued(token_id=request.token_id, actor_id=request.actor_id, token=token)
        return issued if token else Unchanged(issued)

    @implements(ops.RevokeToken)
    def revoke_token(self, tx: Connection, request: ops.RevokeToken, call: Call) -> ops.Done | Unchanged:
        """Revoke a token, from the next request on."""
        return _done(access.revoke(tx, request.actor_id, request.token_id))

    @implements(ops.ListTokens)
    def list_tokens(self, connection: Connection, request: ops.ListTokens, call: Call) -> list[ops.TokenInfo]:
        """Ids and times."""
        found = access.tokens(connection, request.actor_id)
        return [ops.TokenInfo(token_id=t.token_id, created_time=t.created_time, revoked_time=t.revoked_time) for t in found]

    @implements(ops.GrantRole)
    def grant_role(self, tx: Connection, request: ops.GrantRole, call: Call) -> Actor | Unchanged:
        """Grant, and the actor as it then is."""
        given = Grant(project=request.in_project, environment=request.in_environment, role=request.role)
        changed = access.grant(tx, request.actor_id, given)
        actor = access.find(tx, request.actor_id)
        return actor if changed else Unchanged(actor)

    @implements(ops.RevokeGrant)
    def revoke_grant(self, tx: Connection, request: ops.RevokeGrant, call: Call) -> ops.Done | Unchanged:
        """Take a grant back."""
        return _done(access.take_back(tx, request.actor_id, request.in_project, request.in_environment))

    @implements(ops.DisableActor)
    def disable_actor(self, tx: Connection, request: ops.DisableActor, call: Call) -> ops.Done | Unchanged:
        """Keep somebody out."""
        return _done(access.disable(tx, request.actor_id))

    @implements(ops.EnableActor)
    def enable_actor(self, tx: Connection, request: ops.EnableActor, call: Call) -> ops.Done | Unchanged:
        """Let somebody in again."""
        return _done(access.enable(tx, request.actor_id))

    # ── garbage ──────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(ops.CollectGarbage, long=True)
    def collect_garbage(self, database: Database, request: ops.CollectGarbage, call: Call) -> ops.GarbageReport | Unchanged:
        """Mark what the graph reaches and sweep the rest; a dry run changes nothing and leaves no event."""
        report = garbage.collect(database, self._blobs, dry_run=request.dry_run, min_age_s=request.min_age_s)
        return Unchanged(report) if request.dry_run else report

    def _run(self, connection: Connection, project: str, run_id: str) -> Run:
        run = queries.get_run(connection, project, run_id)
        if run is None:
            raise _no_run(project, run_id)
        return run

    def _event(self, connection: Connection, project: str, event_id: str) -> Event:
        event = event_queries.get_event(connection, project, event_id)
        if event is None:
            raise TreadleError(
                f"There is no event {event_id} in project {project!r}.", remedy="List events: treadle events", code="not_found"
            )
        return event


def _done(changed: bool) -> ops.Done | Unchanged:
    return ops.Done() if changed else Unchanged(ops.Done(changed=False))


def _no_run(project: str, run_id: str) -> TreadleError:
    return TreadleError(f"There is no run {run_id} in project {project!r}.", remedy="List runs: treadle runs", code="not_found")


def _state(name: str) -> RunState:
    try:
        return RunState(name)
    except ValueError:
        raise TreadleError(f"{name!r} is no state of a run.", remedy=f"One of: {', '.join(RunState)}") from None


def _limit(asked: int) -> int:
    if not 1 <= asked <= MOST:
        raise TreadleError(f"A page of {asked} cannot be had.", remedy=f"Ask for 1 to {MOST} and follow page.next.")
    return asked


def _next(items: list[Any], limit: int, key: Any) -> Page:
    return Page(next=msgspec.json.encode(key(items[-1])).decode() if len(items) == limit else None)


def _page(token: str, *types: type) -> list[Any]:
    try:
        values = msgspec.json.decode(token)
    except msgspec.DecodeError:
        values = None
    if not isinstance(values, list) or len(values) != len(types) or not all(type(v) is t for v, t in zip(values, types, strict=True)):
        raise TreadleError(f"{token[:80]!r} is no page token.", remedy="Use page.next of the page before, as it is.")
    return values
