"""The release room's verbs, and the loop that carries open releases on.

A release writes numbered snapshots: first one in which the new version is loaded but answers nobody (deployment), then one in which it
answers its share (release). Every step waits until all live gateway workers have acknowledged the generation before. What a
release becomes is decided by `advance.advance`, a pure function; this module only carries it out, in one transaction with its events.
"""

import datetime as dt
import time
from collections.abc import Callable

from msgspec.structs import replace

from treadle.ledger import events
from treadle.ledger.dispatch import Unchanged
from treadle.operations.releases import GetRelease, GetSnapshot, ListReleases, RollbackRelease, SnapshotStatus, StartRelease
from treadle.operations.table import implements
from treadle.records.calls import SYSTEM, Call
from treadle.records.clock import SystemClock
from treadle.records.definitions import Endpoint
from treadle.records.errors import TreadleError
from treadle.records.releases import Evidence, Release
from treadle.records.serving import ServedEndpoint, Snapshot
from treadle.records.states import RELEASE_MOVES, VERSION_MOVES, ReleaseState, VersionState, move
from treadle.registry import meaning
from treadle.registry import service as registry
from treadle.registry.approvals import unsealed
from treadle.registry.policy import promoted
from treadle.releases import advance as steps
from treadle.releases import traffic
from treadle.releases.publish import Publisher
from treadle.store.db import Connection, Database
from treadle.store.queries import releases as queries

#: What `work` asks for a running canary: its blocks, and until when they are complete.
EvidenceOf = Callable[[Release, dt.datetime], Evidence]

_clock = SystemClock()


class Releases:
    """Starts, advances and takes back releases.

    Args:
        database: the metadata database.
        publisher: puts snapshots before the gateways; without one, `work` and `GetSnapshot` take it that no gateway lives.
    """

    def __init__(self, database: Database, publisher: Publisher | None = None):
        self.database = database
        self.publisher = publisher

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(StartRelease)
    def start(self, tx: Connection, request: StartRelease, call: Call) -> Release | Unchanged:
        """Check, and write the first snapshot of the movement."""
        known = queries.find_release(tx, request.project, request.environment, request.release_id)
        if known is not None:
            return self._again(known, request)
        definition = self._definition(tx, request)
        bundle, approval_id = self._approved(tx, request, definition.model)
        running = queries.list_releases(tx, request.project, request.environment, endpoint=request.endpoint, states=queries.OPEN, limit=1)
        if running:
            raise TreadleError(
                f"Release {running[0].release_id} of endpoint {request.endpoint} is {running[0].state}; an endpoint has one at a time.",
                remedy=f"Wait for it, or take it back: treadle release rollback {running[0].release_id} --env {request.environment}",
                code="conflict",
            )
        snapshot = queries.newest_snapshot(tx, request.project, request.environment)
        served = traffic.endpoint_of(snapshot, request.endpoint)
        served = replace(served, unit=definition.unit) if served and served.model == definition.model else _fresh(definition)
        before = served.champion.model_version if served.champion else None
        if before == request.version:
            raise TreadleError(
                f"Version {request.version} of {definition.model} is the champion of {request.endpoint} already.",
                remedy="Release another version: treadle models " + definition.model,
                code="conflict",
            )
        first = served.champion is None
        served = (
            traffic.with_champion(served, request.version, bundle, release_id=request.release_id)
            if first
            else traffic.with_challenger(served, request.version, bundle, share=0.0, release_id=request.release_id)
        )
        generation = self._snapshot(tx, snapshot, served, request.project, request.environment, call)
        release = Release(
            project=request.project,
            environment=request.environment,
            release_id=request.release_id,
            endpoint=request.endpoint,
            model=definition.model,
            from_version=before,
            to_version=request.version,
            strategy=request.strategy,
            state=ReleaseState.waiting,
            generation=generation,
            actor=call.actor.actor_id,
            started=call.event_time,
            facts={"phase": steps.ROUTING if first else steps.DEPLOYING},
            approval_id=approval_id,
        )
        queries.insert_release(tx, release, _clock.now())
        if not first and release.strategy is not None:
            self._alias(tx, release, call, traffic.CHALLENGER, release.to_version)
        return release

    @implements(RollbackRelease)
    def rollback(self, tx: Connection, request: RollbackRelease, call: Call) -> Release | Unchanged:
        """Give the traffic back to the version that had it before."""
        release = self._find(tx, request.project, request.environment, request.release_id)
        if release.state == ReleaseState.rolled_back:
            return Unchanged(release)
        what = f"Release {release.release_id}"
        state = move(RELEASE_MOVES, release.state, ReleaseState.rolled_back, what=what)
        snapshot = queries.newest_snapshot(tx, release.project, release.environment)
        served = traffic.endpoint_of(snapshot, release.endpoint)
        if served is None:
            raise TreadleError(
                f"Endpoint {release.endpoint} is not served in {release.environment} any more.",
                remedy=f"Start a release: treadle release start {release.endpoint} --env {release.environment} --version N",
                code="conflict",
            )
        if release.state == ReleaseState.promoted:
            self._is_last(tx, release, served)
        served = self._without(tx, release, served)
        generation = self._snapshot(tx, snapshot, served, release.project, release.environment, call)
        if release.state == ReleaseState.promoted:
            self._exchange(tx, release, call, up=release.from_version, down=release.to_version)
        self._alias(tx, release, call, traffic.CHALLENGER, None)
        done = replace(
            release,
            state=state,
            ended=call.event_time,
            generation=generation,
            verdict="rolled back",
            reason=request.reason or f"Taken back by {call.actor.name}.",
        )
        queries.update_release(tx, done)
        return done

    @implements(GetRelease)
    def get(self, tx: Connection, request: GetRelease, call: Call) -> Release:
        """One release, or `not_found`."""
        return self._find(tx, request.project, request.environment, request.release_id)

    @implements(ListReleases)
    def list_releases(self, tx: Connection, request: ListReleases, call: Call) -> list[Release]:
        """Newest first."""
        states = None if request.state is None else [request.state]
        limit = max(1, min(request.limit, 1000))
        return queries.list_releases(tx, request.project, request.environment, endpoint=request.endpoint, states=states, limit=limit)

    @implements(GetSnapshot)
    def get_snapshot(self, tx: Connection, request: GetSnapshot, call: Call) -> SnapshotStatus:
        """The newest snapshot, and the words of the live workers."""
        snapshot = queries.newest_snapshot(tx, request.project, request.environment)
        if snapshot is None:
            raise TreadleError(
                f"Nothing was released in {request.environment} of {request.project} yet.",
                remedy=f"Release an approved version: treadle release start ENDPOINT --env {request.environment} --version N",
                code="not_found",
            )
        acks = self.publisher.acks(request.project, request.environment) if self.publisher else []
        return SnapshotStatus(snapshot=snapshot, acks=acks)

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, project: str, environment: str) -> int:
        """Put the newest generation before the gateways; see `Publisher.publish`."""
        return self.publisher.publish(project, environment) if self.publisher else 0

    def work(self, project: str, environment: str, now: dt.datetime, evidence: EvidenceOf | None = None) -> list[Release]:
        """Carry the open releases of an environment as far on as they go now; those that changed state, as they are.

        Safe to call by several workers at once: a step is made only from the state it was decided in.
        """
        self.publish(project, environment)
        with self.database.read() as connection:
            open_releases = queries.list_releases(connection, project, environment, states=queries.OPEN, limit=1000)
        changed = []
        for found in open_releases:
            release, state = found, found.state
            while (then := self._step(release, now, evidence)) is not None:
                release = then
            if release.state != state:
                changed.append(release)
        return changed

    def settle(
        self, project: str, environment: str, now: dt.datetime, evidence: EvidenceOf | None = None, *, timeout_s: float = 30.0
    ) -> list[Release]:
        """`work` until no release waits for gateways.

        Raises:
            TreadleError: `timed_out` after `timeout_s` seconds, naming what waits.
        """
        deadline = time.monotonic() + timeout_s
        changed: dict[str, Release] = {}
        while True:
            changed |= {r.release_id: r for r in self.work(project, environment, now, evidence)}
            with self.database.read() as connection:
                waiting = queries.list_releases(connection, project, environment, states=[ReleaseState.waiting.value], limit=10)
            if not waiting:
                return list(changed.values())
            if time.monotonic() > deadline:
                raise TreadleError(
                    f"Release {waiting[0].release_id} waits for the gateways of {environment} to load generation {waiting[0].generation}.",
                    remedy="See what each worker says: treadle api get-snapshot",
                    code="timed_out",
                )
            time.sleep(0.01)

    def refresh(self, tx: Connection, project: str, environment: str, call: Call) -> bool:
        """After definitions were applied: endpoints that are gone leave the snapshot, units are taken over. Whether anything changed."""
        snapshot = queries.newest_snapshot(tx, project, environment)
        definitions = queries.applied(tx, project, environment)
        if snapshot is None:
            return False
        units = {e.name: e.unit for e in definitions.endpoints} if definitions else {}
        then = traffic.retain(snapshot, units, now=call.event_time)
        if then is snapshot:
            return False
        queries.insert_snapshot(tx, then, _clock.now())
        for release in queries.list_releases(tx, project, environment, states=queries.OPEN, limit=1000):
            if release.endpoint not in units:
                reason = f"Endpoint {release.endpoint} was removed from {environment}."
                queries.update_release(
                    tx, replace(release, state=ReleaseState.rolled_back, ended=call.event_time, verdict="rolled back", reason=reason)
                )
        return True

    def _step(self, release: Release, now: dt.datetime, evidence: EvidenceOf | None) -> Release | None:
        seen = Evidence()
        if release.state == ReleaseState.waiting:
            acknowledged, error = (
                self.publisher.acknowledged(release.project, release.environment, release.generation) if self.publisher else (True, "")
            )
            seen = Evidence(acknowledged=acknowledged, error=error)
        elif release.strategy is not None and release.from_version is not None:
            if evidence is None:
                return None
            seen = evidence(release, now)
        direct = release.from_version is None
        then = steps.advance(replace(release, strategy=None) if direct else release, seen, now)
        then = replace(then, strategy=release.strategy)
        if release.state == ReleaseState.waiting and "delivered" not in then.facts:
            then = replace(then, facts={**then.facts, "delivered": now.isoformat()})
        if then == release:
            return None
        call = Call(actor=SYSTEM, event_time=now)
        done = self.database.write(lambda tx: self._carry_out(tx, release, then, call))
        if done is not None and done.generation != release.generation:
            self.publish(release.project, release.environment)
        settled = done is None or (done.state == release.state and done.facts.get("phase") == release.facts.get("phase"))
        return None if settled else done

    def _carry_out(self, tx: Connection, release: Release, then: Release, call: Call) -> Release | None:
        """Write a decided step; None where the release is not any more what the step was decided on."""
        if queries.find_release(tx, release.project, release.environment, release.release_id) != release:
            return None
        snapshot = queries.newest_snapshot(tx, release.project, release.environment)
        served = traffic.endpoint_of(snapshot, release.endpoint)
        if served is None:
            return None
        wanted = self._wanted(tx, release, then, served)
        if wanted != served:
            then = replace(then, generation=self._snapshot(tx, snapshot, wanted, release.project, release.environment, call))
        if then.state == ReleaseState.promoted:
            self._exchange(tx, then, call, up=then.to_version, down=then.from_version)
            where = {"project": then.project, "model": then.model, "environment": then.environment}
            promoted(tx, call, **where, number=then.to_version, before=then.from_version)
        if then.ended is not None:
            self._alias(tx, then, call, traffic.CHALLENGER, None)
        queries.update_release(tx, then)
        self._tell(tx, release, then, call)
        return then

    def _wanted(self, tx: Connection, release: Release, then: Release, served: ServedEndpoint) -> ServedEndpoint:
        """What the endpoint must serve after a step."""
        if then.state == ReleaseState.promoted:
            return traffic.with_champion(served, then.to_version, self._bundle(tx, then, then.to_version), release_id=None)
        if then.ended is not None:
            return self._without(tx, then, served)
        if then.facts.get("phase") == steps.ROUTING and release.facts.get("phase") == steps.DEPLOYING:
            bundle = self._bundle(tx, then, then.to_version)
            if then.strategy is None:
                return traffic.with_champion(served, then.to_version, bundle, release_id=then.release_id)
            return traffic.with_challenger(served, then.to_version, bundle, share=then.strategy.share, release_id=then.release_id)
        return served

    def _without(self, tx: Connection, release: Release, served: ServedEndpoint) -> ServedEndpoint:
        """The endpoint as it was before the release."""
        if release.from_version is None:
            return replace(traffic.without_challenger(served), champion=None)
        return traffic.with_champion(served, release.from_version, self._bundle(tx, release, release.from_version), release_id=None)

    def _tell(self, tx: Connection, release: Release, then: Release, call: Call) -> None:
        """The events of a step: delivery, deployment (at 0 % of the traffic) and release are told apart."""
        told = []
        if "delivered" in then.facts and "delivered" not in release.facts:
            told.append("delivered")
        before, after = release.facts.get("phase"), then.facts.get("phase")
        if after != before and (before == steps.DEPLOYING or (after == steps.LIVE and "deployed" not in then.facts)):
            told.append("deployed")
        if after == steps.LIVE and before != steps.LIVE:
            told.append("live")
        if then.ended is not None:
            told.append(then.state.value)
        for word in told:
            _event(tx, call, then, f"treadle.release.{word}", f"release/{then.release_id}")
        if then.state == ReleaseState.promoted:
            _event(tx, call, then, "treadle.model.promoted", f"model/{then.model}/{then.to_version}")

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _again(self, known: Release, request: StartRelease) -> Unchanged:
        if (known.endpoint, known.to_version, known.strategy) == (request.endpoint, request.version, request.strategy):
            return Unchanged(known)
        raise TreadleError(
            f"Release {request.release_id} exists, for version {known.to_version} at endpoint {known.endpoint}.",
            remedy="Give a new release a new id.",
            code="conflict",
        )

    def _definition(self, tx: Connection, request: StartRelease) -> Endpoint:
        project = queries.applied(tx, request.project, request.environment)
        names = [e.name for e in project.endpoints] if project else []
        if project is None or request.endpoint not in names:
            there = f"it has {', '.join(names)}" if names else "nothing is applied there"
            raise TreadleError(
                f"There is no endpoint {request.endpoint} in {request.environment} of {request.project}: {there}.",
                remedy=f"Define it and apply: treadle apply --env {request.environment}",
                code="not_found",
            )
        return project.endpoints[names.index(request.endpoint)]

    def _approved(self, tx: Connection, request: StartRelease, model: str) -> tuple[str, str]:
        """Bundle digest and approval of the version, which must be approved for the environment."""
        version = registry.version_of(tx, request.project, model, request.version) if request.version > 0 else None
        if version is not None and not version.sealed:
            raise unsealed(version, "released")
        approval = version and registry.approved_for(tx, request.project, model, version.number, request.environment)
        if version is None or approval is None:
            state = version.state if version else "unknown"
            raise TreadleError(
                f"Version {request.version} of {model} is {state} and not approved for {request.environment}.",
                remedy="See what waits for an approval: treadle approvals; then: treadle approve APPROVAL",
                code="conflict",
                details={"state": str(state), "environment": request.environment},
            )
        meaning.check_allowed(tx, version, request.environment)
        return version.bundle_digest, approval.approval_id

    def _find(self, tx: Connection, project: str, environment: str, release_id: str) -> Release:
        release = queries.find_release(tx, project, environment, release_id)
        if release is None:
            raise TreadleError(
                f"There is no release {release_id} in {environment} of {project}.",
                remedy=f"See what there is: treadle release list --env {environment}",
                code="not_found",
            )
        return release

    def _bundle(self, tx: Connection, release: Release, number: int) -> str:
        return registry.version_of(tx, release.project, release.model, number).bundle_digest

    def _snapshot(
        self, tx: Connection, snapshot: Snapshot | None, served: ServedEndpoint, project: str, environment: str, call: Call
    ) -> int:
        then = traffic.succeed(snapshot, served, project=project, environment=environment, now=call.event_time)
        queries.insert_snapshot(tx, then, _clock.now())
        return then.generation

    def _is_last(self, tx: Connection, release: Release, served: ServedEndpoint) -> None:
        """A promoted release can be taken back only while it is what serves, and nothing newer moves."""
        if release.from_version is None:
            raise TreadleError(
                f"Release {release.release_id} was the first of {release.endpoint}: there is nothing to go back to.",
                remedy=f"Release another version: treadle release start {release.endpoint} --env {release.environment} --version N",
                code="conflict",
            )
        if served.challenger is not None or served.champion is None or served.champion.model_version != release.to_version:
            raise TreadleError(
                f"Release {release.release_id} is not the newest of {release.endpoint}.",
                remedy=f"Take the newer one back first: treadle release list --env {release.environment}",
                code="conflict",
            )

    def _exchange(self, tx: Connection, release: Release, call: Call, *, up: int | None, down: int | None) -> None:
        """States and aliases after the champion changed, the new snapshot being written already."""
        snapshots = queries.newest_snapshots(tx, release.project)
        for number, state, here in ((up, VersionState.released, True), (down, VersionState.approved, False)):
            if number is None or (not here and any(traffic.serves(s, release.model, number) for s in snapshots)):
                continue
            version = registry.version_of(tx, release.project, release.model, number)
            if state in VERSION_MOVES[version.state]:
                registry.move_state(
                    tx, call, project=release.project, model=release.model, number=number, state=state, reason=release.reason
                )
        self._alias(tx, release, call, traffic.CHAMPION, up)

    def _alias(self, tx: Connection, release: Release, call: Call, alias: str, number: int | None) -> None:
        """Each environment has aliases of its own; the bare ones follow the last environment that the project declares (production)."""
        definitions = queries.applied(tx, release.project, release.environment)
        environments = [e.name for e in definitions.environments] if definitions else []
        last = not environments or environments[-1] == release.environment
        for environment in (release.environment, "") if last else (release.environment,):
            registry.move_alias(
                tx,
                call,
                project=release.project,
                model=release.model,
                alias=alias,
                number=number,
                environment=environment,
                reason=release.release_id,
            )


def _fresh(definition: Endpoint) -> ServedEndpoint:
    return ServedEndpoint(name=definition.name, model=definition.model, champion=None, unit=definition.unit)


def _event(tx: Connection, call: Call, release: Release, kind: str, subject: str) -> None:
    payload = {
        "release_id": release.release_id,
        "endpoint": release.endpoint,
        "model": release.model,
        "from_version": release.from_version,
        "to_version": release.to_version,
        "state": release.state,
        "verdict": release.verdict,
        "reason": release.reason,
        "generation": release.generation,
        "facts": release.facts,
    }
    events.append(tx, call, type=kind, subject=subject, project=release.project, environment=release.environment, payload=payload)
