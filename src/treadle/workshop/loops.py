"""The loop: what is done, in which order, whenever time has passed.

One *turn* looks at every applied environment: fold the prediction log → look at windows and alarms → carry releases on → start the
release of what was approved → seal events → let triggers read them → execute runs that are due. `treadle worker` turns once a
second by the machine's clock; a replay turns at the end of every block of virtual time. Nothing else differs.
"""

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from treadle.features.materialise import catch_up
from treadle.ledger import events, lineage
from treadle.ledger.sealer import seal
from treadle.online.store import SqliteOnline
from treadle.operations.registry import ListModelVersions
from treadle.operations.releases import StartRelease
from treadle.pipelines.code import unpack_code
from treadle.pipelines.triggers import Triggers
from treadle.pipelines.worker import Worker
from treadle.records.calls import SYSTEM, Call
from treadle.records.clock import Clock, micros
from treadle.records.definitions import Endpoint, Environment, Project
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ledger import Run
from treadle.records.models import ModelVersion
from treadle.records.monitoring import Alarm
from treadle.records.releases import Release
from treadle.records.states import ReleaseState, VersionState
from treadle.registry.meaning import check_allowed
from treadle.registry.service import approved_for
from treadle.serving import snapshots
from treadle.store.db import Connection
from treadle.store.queries import workshop as queries
from treadle.store.queries.pipelines import next_due
from treadle.tracking.documents import make_documents
from treadle.workshop.home import Workshop
from treadle.workshop.planning import leads
from treadle.workshop.project import LoadedProject, load
from treadle.workshop.smoke import smoke_test
from treadle.workshop.webhooks import Courier

#: Longest that a turn waits for gateways to load what was published, in seconds; then the next turn looks again.
ACKNOWLEDGE_SECONDS = 20.0

#: How often a worker looks whether retention rules are to be applied.
HOUSEKEEPING_SECONDS = 60.0

_log = logging.getLogger(__name__)
SMOKE_PASSED = "treadle.smoke.passed"
SMOKE_FAILED = "treadle.smoke.failed"


class Turned:
    """What one turn did, for whoever shows progress."""

    def __init__(self) -> None:
        self.folded = 0
        self.alarms: list[Alarm] = []
        self.releases: list[Release] = []
        self.started: list[Release] = []
        self.triggered: list[Run] = []
        self.executed = 0

    def told(self) -> list[str]:
        """What happened, a line each."""
        lines = [f"retraining {run.run_id}: {run.reason.text}" for run in self.triggered]
        lines += [f"alarm ({alarm.kind}, {alarm.state}): {alarm.text}" for alarm in self.alarms]
        lines += [f"{r.environment}: {r.model} {r.to_version} on its way" for r in self.started]
        ended = [r for r in self.releases if r.state not in (ReleaseState.running, ReleaseState.waiting) and r.reason]
        return lines + [f"{r.environment}: {r.model} {r.to_version} {r.state}: {r.reason}" for r in ended if r.from_version]


class Loop:
    """The control loop over one home.

    Args:
        workshop: the home; its clock is business time.
        name: of this worker, in leases and logs.
        keeps_online: whether each turn brings the online stores up to their datasets; a replay feeds its environment's itself.
    """

    def __init__(self, workshop: Workshop, *, name: str = "worker", keeps_online: bool = True):
        self.workshop = workshop
        self.keeps_online = keeps_online
        #: Called before runs are executed: whoever feeds datasets in larger pieces brings them up to date.
        self.before_runs: Callable[[dt.datetime], None] | None = None
        self._loaded: dict[str, LoadedProject] = {}
        self._said: set[str] = set()  # why an approved version is not released
        self.clock: Clock = workshop.clock
        self.triggers = Triggers(workshop.database, workshop.dispatch)
        self.worker = Worker(
            workshop.database,
            workshop.blobs,
            workshop.dispatch,
            name=name,
            resources=self.resources,
            load_body=self.load_body,
            clock=workshop.clock,
        )

    def turn(self, now: dt.datetime) -> Turned:
        """One turn at business time `now`, runs included."""
        turned = Turned()
        self._look(now, turned)
        self.work(now, turned)
        return turned

    def _look(self, now: dt.datetime, turned: Turned) -> None:
        """All of a turn but the runs."""
        self.workshop.registry.tick(now)
        for project, environment, definitions in self._applied():
            self._environment(project, environment, definitions, now, turned)
        self.seal()
        for project, environment, definitions in self._applied():
            if not leads(definitions, environment):
                turned.triggered += self.triggers.evaluate(project, environment, now)
        self.seal()
        make_documents(self.workshop.database)

    def work(self, now: dt.datetime, turned: Turned) -> None:
        """Execute the runs that are due, and start the releases that came of them."""
        if self.before_runs is not None and (due := self.next_due()) is not None and due <= now:
            self.before_runs(now)
        executed = self.worker.run_due(now)
        if executed:
            for project, environment, definitions in self._applied():
                self._release_approved(project, environment, definitions, now, turned)
        turned.executed += executed
        self.seal()

    def next_due(self) -> dt.datetime | None:
        """Business time from which the next run that waits may be executed."""
        with self.workshop.database.read() as tx:
            return next_due(tx, "run")

    def run_forever(self, stop: threading.Event, *, interval_s: float = 1.0) -> None:
        """Turn by the clock until `stop` is set; runs are executed by a thread of their own, so that a long training stops nothing.

        What a turn raises is logged, and the next turn tries again: a full disk or a database that restarts must not end the loop.
        """
        self.triggers.forget_replayed()
        worker = threading.Thread(target=self.worker.loop, args=(stop,), name="treadle-runs")
        worker.start()
        threading.Thread(target=self._keep_house, args=(stop,), name="treadle-retention", daemon=True).start()
        courier = threading.Thread(target=Courier(self.workshop.database).run, args=(stop,), name="treadle-webhooks")
        courier.start()
        while not stop.is_set():
            began = time.monotonic()
            try:
                self._look(self.clock.now(), Turned())
            except TreadleError as error:
                _log.warning("turn: %s %s", error.what, error.remedy)
            stop.wait(max(0.05, interval_s - (time.monotonic() - began)))
        worker.join()
        courier.join()
        self.seal()

    def _keep_house(self, stop: threading.Event) -> None:
        """Apply retention rules, once an hour whichever worker comes first; a long removal holds nobody up."""
        while not stop.wait(HOUSEKEEPING_SECONDS):
            try:
                self.workshop.removals.keep()
            except TreadleError as error:
                _log.warning("retention: %s %s", error.what, error.remedy)

    def seal(self) -> int:
        """Give events their order and publish the chain's head."""
        return seal(self.workshop.database, publish=self.workshop.ledger.heads)

    # ── one environment ──────────────────────────────────────────────────────────────────────────────────────────

    def _environment(self, project: str, environment: str, definitions: Project, now: dt.datetime, turned: Turned) -> None:
        shop = self.workshop
        if self.keeps_online:
            self.catch_up(project, environment, definitions, now)
        turned.folded += shop.monitoring.fold(project, environment).rows
        for endpoint in definitions.endpoints:
            turned.alarms += shop.monitoring.tick(project, environment, endpoint, now)
        turned.releases += shop.releases.work(project, environment, now, shop.monitoring.evidence)
        self._release_approved(project, environment, definitions, now, turned)

    def _release_approved(self, project: str, environment: str, definitions: Project, now: dt.datetime, turned: Turned) -> None:
        """Start the release of the newest approved version of each endpoint's model, where none is being released."""
        place = next((e for e in definitions.environments if e.name == environment), Environment(name=environment))
        for endpoint in definitions.endpoints:
            version = self._to_release(project, environment, endpoint)
            if version is None or not self._smoked(project, place, endpoint, version):
                continue
            release = self._start(project, environment, endpoint, version, now)
            turned.started.append(release)
            turned.releases += self._settle(project, environment, now)
            if leads(definitions, environment):
                self._smoke(project, environment, endpoint, version, now)

    def _to_release(self, project: str, environment: str, endpoint: Endpoint) -> ModelVersion | None:
        """The newest version that is approved for this environment, later than every version released here."""
        shop = self.workshop
        found = shop.dispatch(ListModelVersions(project=project, model=endpoint.model, limit=20), actor=SYSTEM).items
        with shop.database.read() as tx:
            if queries.release_is_open(tx, project, environment, endpoint.name):
                return None
            tried = queries.last_released(tx, project, environment, endpoint.name)
            for version in found:
                if version.number <= tried:
                    return None
                approved = approved_for(tx, project, endpoint.model, version.number, environment)
                if approved and version.state != VersionState.rejected and self._may_serve(tx, version, environment):
                    return version
        return None

    def _may_serve(self, tx: Connection, version: ModelVersion, environment: str) -> bool:
        """Whether nothing it learned from was restricted since it was approved; said once where something was."""
        try:
            check_allowed(tx, version, environment)
        except TreadleError as error:
            if error.what not in self._said:
                self._said.add(error.what)
                _log.warning("not released: %s %s", error.what, error.remedy)
            return False
        return True

    def _smoked(self, project: str, place: Environment, endpoint: Endpoint, version: ModelVersion) -> bool:
        if not place.after:
            return True
        with self.workshop.database.read() as tx:
            return queries.has_event(tx, project, place.after, SMOKE_PASSED, f"model/{endpoint.model}/{version.number}")

    def _start(self, project: str, environment: str, endpoint: Endpoint, version: ModelVersion, now: dt.datetime) -> Release:
        # Canaries need outcomes; an environment that only leads to another has none and switches at once.
        direct = leads(self._definitions(project, environment), environment)
        return self.workshop.dispatch(
            StartRelease(
                project=project,
                environment=environment,
                release_id="rel_" + digest_of([project, environment, endpoint.name, version.number])[:26],
                endpoint=endpoint.name,
                version=version.number,
                strategy=None if direct else endpoint.release,
            ),
            actor=SYSTEM,
            event_time=now,
        )

    def _settle(self, project: str, environment: str, now: dt.datetime) -> list[Release]:
        shop = self.workshop
        return shop.releases.settle(project, environment, now, shop.monitoring.evidence, timeout_s=ACKNOWLEDGE_SECONDS)

    def _smoke(self, project: str, environment: str, endpoint: Endpoint, version: ModelVersion, now: dt.datetime) -> None:
        shop = self.workshop
        gateway = shop.layout.gateway(project, environment)
        if not snapshots.live_workers(gateway):
            return  # no gateway runs there: the version waits, and `treadle status` says for what
        self.catch_up(project, environment, self._definitions(project, environment), now)
        call = Call(actor=SYSTEM, event_time=now)
        try:
            facts: dict[str, Any] = smoke_test(shop, project, environment, endpoint, version)
            kind = SMOKE_PASSED
        except TreadleError as error:
            facts, kind = {"what": error.what, "remedy": error.remedy}, SMOKE_FAILED
        subject = f"model/{endpoint.model}/{version.number}"
        shop.database.write(
            lambda tx: events.append(tx, call, type=kind, subject=subject, project=project, environment=environment, payload=facts)
        )

    # ── what runs are given ──────────────────────────────────────────────────────────────────────────────────────

    def load_body(self, run: Run) -> Any:
        """The pipeline function of a run, from the code snapshot it is pinned to."""
        functions = self._load(run.code_digest).functions
        if run.pipeline not in functions:
            raise TreadleError(
                f"The code of {run.project} that {run.run_id} is pinned to has no pipeline {run.pipeline!r}.",
                remedy="Apply the project again and start a new run: treadle apply && treadle run " + run.pipeline,
                code="bad_definition",
            )
        return functions[run.pipeline]

    def loaded(self, definitions: Project) -> LoadedProject:
        """The project that definitions were read from, imported from its code snapshot."""
        return self._load(definitions.code)

    def catch_up(self, project: str, environment: str, definitions: Project, now: dt.datetime) -> int:
        """Push what datasets have and an environment's online store has not; rows pushed."""
        if not definitions.feature_views:
            return 0
        shop = self.workshop
        with SqliteOnline(shop.layout.online(project, environment)) as store:
            return catch_up(store, shop.data, definitions, transforms=self._transforms(definitions), now_us=micros(now))

    def _transforms(self, definitions: Project) -> dict[str, Any]:
        return self.loaded(definitions).transforms if any(v.transform for v in definitions.feature_views) else {}

    def _load(self, code: str) -> LoadedProject:
        if code not in self._loaded:
            self._loaded = {code: load(unpack_code(self.workshop.blobs, code, self.workshop.layout.code(code)))}
        return self._loaded[code]

    def resources(self, run: Run) -> dict[str, Any]:
        """The services that a run's steps find in their context."""
        shop = self.workshop
        return {
            "project": self._pinned(run),
            "layout": shop.layout,
            "blobs": shop.blobs,
            "db": shop.database,
            "dispatch": shop.dispatch,
            "data": shop.data,
            "registry": shop.registry,
            "releases": shop.releases,
            "monitoring": shop.monitoring,
        }

    def _pinned(self, run: Run) -> Project:
        """The definitions a run is pinned to, which another apply may have replaced meanwhile."""
        with self.workshop.database.read() as tx:
            found = lineage.get_version(tx, run.project, run.project_digest)
        if found is None:
            return self._definitions(run.project, run.environment)
        return msgspec.convert(found.facts, Project)

    def _applied(self) -> list[tuple[str, str, Project]]:
        """Every applied environment, one that others come after before them: a version goes through both in one turn."""
        with self.workshop.database.read() as tx:
            found = queries.environments(tx)
        return sorted(found, key=lambda place: (place[0], not leads(place[2], place[1]), place[1]))

    def _definitions(self, project: str, environment: str) -> Project:
        with self.workshop.database.read() as tx:
            found = queries.applied(tx, project, environment)
        if found is None:
            raise TreadleError(f"{project} is not applied to {environment}.", remedy=f"treadle apply --env {environment}", code="not_found")
        return found
