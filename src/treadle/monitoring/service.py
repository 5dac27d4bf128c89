"""Monitoring's verbs, and its part of the loop: fold the log, take in outcomes, look, raise alarms, give evidence to releases.

The state between ticks is a cache: everything can be read again from the prediction table and the outcomes' dataset, and is when the
process starts, when somebody else has folded, or when the definition changed. Polars and the statistics load with the first tick.
"""

import datetime as dt
import threading
from typing import TYPE_CHECKING, Any

from treadle.operations.monitoring import ListAlarms, ListWindows
from treadle.operations.table import implements
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import SystemClock, micros
from treadle.records.definitions import Endpoint
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.monitoring import Alarm, WindowReport
from treadle.records.releases import Evidence, Release
from treadle.store.db import Connection, Database
from treadle.store.queries import monitoring as queries

if TYPE_CHECKING:
    import polars as pl

    from treadle.data.service import DataService
    from treadle.monitoring.fold import Folder, FoldReport
    from treadle.monitoring.watch import Watch

_MOST = 10_000
_clock = SystemClock()


class Monitoring:
    """Watches the endpoints of all projects.

    Args:
        database, layout, blobs: the ground.
        data: where outcomes are read; made when it is first needed where None.
    """

    def __init__(self, database: Database, layout: Layout, blobs: BlobStore, data: "DataService | None" = None):
        self.database = database
        self.layout = layout
        self.blobs = blobs
        self._data = data
        self._folders: dict[tuple[str, str], Folder] = {}
        self._watches: dict[tuple[str, str, str], Watch] = {}
        self._lock = threading.RLock()

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(ListWindows)
    def list_windows(self, tx: Connection, request: ListWindows, call: Call) -> list[WindowReport]:
        """The latest `limit` blocks that start within [start, end), in order of time."""
        limit = max(1, min(request.limit, _MOST))
        return queries.list_windows(tx, request.project, request.environment, request.endpoint, request.start, request.end, limit)

    @implements(ListAlarms)
    def list_alarms(self, tx: Connection, request: ListAlarms, call: Call) -> list[Alarm]:
        """Newest first."""
        limit = max(1, min(request.limit, _MOST))
        return queries.list_alarms(tx, request.project, request.environment, endpoint=request.endpoint, state=request.state, limit=limit)

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────

    def fold(self, project: str, environment: str) -> "FoldReport":
        """Fold an environment's prediction log into its table; see `fold.Folder.fold`."""
        with self._lock:
            report = self._folder(project, environment).fold()
            if report.frame is not None:
                for (p, e, _), watch in self._watches.items():
                    if (p, e) == (project, environment) and watch.table_version == report.base and report.contiguous:
                        watch.add(report.frame)
                        watch.table_version = report.version
            return report

    def observe(self, project: str, dataset: str, frame: "pl.DataFrame", number: int) -> None:
        """Take in the rows that made version `number` of an outcomes' dataset, without reading them back. A gap in the numbers is no harm:
        the next tick reads what is missing."""
        with self._lock:
            for (p, _, _), watch in self._watches.items():
                mine = p == project and watch.endpoint.monitor.outcome.partition(".")[0] == dataset
                if mine and watch.outcome_version == number - 1:
                    watch.learn(frame)
                    watch.outcome_version = number

    def tick(self, project: str, environment: str, endpoint: Endpoint, now: dt.datetime) -> list[Alarm]:
        """Look at an endpoint at business time `now`; the alarms that were raised or closed."""
        from treadle.monitoring import alarms  # noqa: PLC0415  (brings Polars, NumPy and SciPy, which only a worker needs)

        with self._lock:
            watch = self._current(project, environment, endpoint, now)
            if watch is None:
                return []
            reports, findings = watch.reports(now), watch.findings(now)
            watch.memory.forget(micros(now) - watch.horizon_s * 1_000_000)
        known = watch.reference
        champion = known.version if known else None

        def write(tx: Connection) -> list[Alarm]:
            queries.put_windows(tx, reports, _clock.now())
            return alarms.settle(
                tx,
                findings,
                project=project,
                environment=environment,
                endpoint=endpoint.name,
                champion=champion,
                block_s=endpoint.monitor.block_s,
                now=now,
            )

        return self.database.write(write) if reports or findings else []

    def evidence(self, release: Release, now: dt.datetime) -> Evidence:
        """What a running canary has shown by `now`: complete blocks only."""
        with self.database.read() as connection:
            endpoint = queries.applied_endpoint(connection, release.project, release.environment, release.endpoint)
        if endpoint is None:
            return Evidence(acknowledged=True)
        with self._lock:
            watch = self._current(release.project, release.environment, endpoint, now)
            return Evidence(acknowledged=True) if watch is None else watch.evidence(release, now)

    def forget(self) -> None:
        """Drop what is remembered between ticks; the next tick reads it again."""
        with self._lock:
            self._watches.clear()

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _folder(self, project: str, environment: str) -> "Folder":
        from treadle.monitoring.fold import Folder  # noqa: PLC0415  (brings Polars and delta-rs)

        key = (project, environment)
        if key not in self._folders:
            self._folders[key] = Folder(self.layout, project, environment)
        return self._folders[key]

    def _current(self, project: str, environment: str, endpoint: Endpoint, now: dt.datetime) -> "Watch | None":
        """The endpoint's watch, brought up to the table, the outcomes and the champion of now; None where nothing was logged."""
        key = (project, environment, endpoint.name)
        table = self._folder(project, environment).table()
        if table is None:
            return None
        with self.database.read() as connection:
            snapshot = queries.newest_snapshot(connection, project, environment)
            served = next((e for e in snapshot.endpoints if e.name == endpoint.name), None) if snapshot else None
            champion = served.champion if served else None
            outcome = endpoint.monitor.outcome.partition(".")[0]
            newest = queries.newest_dataset_version(connection, project, outcome) if outcome else 0
            watch = self._watches.get(key)
            fresh = watch is None or watch.endpoint != endpoint or watch.table_version != table.version()
            known = watch.reference if watch else None
            metrics = (
                queries.version_metrics(connection, project, endpoint.model, champion.model_version)
                if champion and (known is None or known.version != champion.model_version)
                else {}
            )
        if watch is None or fresh:
            watch = self._watches[key] = _new_watch(project, environment, endpoint)
            watch.reference = known
        if champion is not None and (known is None or known.version != champion.model_version):
            watch.reference = _reference(self.blobs, champion.model_version, champion.bundle_digest, metrics)
        if fresh:
            watch.add(_recent(table, endpoint.name, now - dt.timedelta(seconds=watch.horizon_s)))
            watch.table_version = table.version()
        if outcome and newest > watch.outcome_version:
            self._learn(watch, project, newest)
        return watch

    def _learn(self, watch: "Watch", project: str, newest: int) -> None:
        dataset, _, column = watch.endpoint.monitor.outcome.partition(".")
        unit = watch.endpoint.unit or "prediction_id"
        try:
            rows = self._outcomes().read(project, dataset, newest, [unit, column], after=watch.outcome_version)
        except TreadleError as error:
            raise TreadleError(
                f"Outcomes of endpoint {watch.endpoint.name} cannot be read from {dataset}.{column} by {unit}: {error.what}",
                remedy=f"The dataset needs the columns {unit} and {column}; correct the endpoint and apply. {error.remedy}",
                code=error.code,
            ) from error
        watch.learn(rows.collect())
        watch.outcome_version = newest

    def _outcomes(self) -> "DataService":
        if self._data is None:
            from treadle.data.service import DataService  # noqa: PLC0415  (brings Polars)

            self._data = DataService(self.database, self.layout, self.blobs)
        return self._data


def _new_watch(project: str, environment: str, endpoint: Endpoint) -> "Watch":
    from treadle.monitoring.quality import Place  # noqa: PLC0415  (brings Polars, NumPy and SciPy)
    from treadle.monitoring.watch import Watch  # noqa: PLC0415  (the same)

    return Watch(Place(project=project, environment=environment, endpoint=endpoint.name), endpoint)


def _reference(blobs: BlobStore, version: int, bundle: str, metrics: dict[str, float]) -> Any:
    from treadle.monitoring.watch import reference_of  # noqa: PLC0415  (brings Polars, NumPy and SciPy)

    return reference_of(blobs, version, bundle, metrics)


def _recent(table: Any, endpoint: str, since: dt.datetime) -> "pl.DataFrame":
    from treadle.monitoring.fold import recent  # noqa: PLC0415  (brings Polars)

    return recent(table, endpoint, since)
