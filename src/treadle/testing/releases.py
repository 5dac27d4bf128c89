"""A home to try releases and monitoring on: real bundles, real segments, real outcomes, no gateway process.

The models take one number `x` and say the probability of `y`; `log` writes what a gateway would have logged, `arrive` what became
known of it.
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from treadle.data.service import DataService
from treadle.evaluation import profiles
from treadle.monitoring.service import Monitoring
from treadle.online.encoding import encode_frame
from treadle.operations.registry import DecideApproval, RegisterVersion, RequestApproval
from treadle.operations.releases import RollbackRelease, StartRelease
from treadle.packaging import bundle
from treadle.records.calls import Actor, Call, Role
from treadle.records.clock import SystemClock, micros
from treadle.records.definitions import Canary, Dataset, Endpoint, Environment, Monitor, Project
from treadle.records.layout import Layout
from treadle.records.releases import Release
from treadle.records.serving import LogEntry
from treadle.registry.service import Registry
from treadle.releases.publish import Publisher
from treadle.releases.service import Releases
from treadle.serving.segments import SegmentWriter
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Connection, Database
from treadle.store.queries import workshop as queries
from treadle.training.fit import fit_lightgbm

PROJECT, ENVIRONMENT, ENDPOINT, MODEL = "shop", "prod", "score", "score"
START = dt.datetime(2013, 2, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
ASKER = Actor(actor_id="act_asker", name="asker", role=Role.admin)
APPROVER = Actor(actor_id="act_approver", name="approver", role=Role.admin)
OUTCOMES = Dataset(name="truth", time="known_at", key=("id",))
MONITOR = Monitor(outcome="truth.y", outcome_within_s=43_200)
_encode = msgspec.msgpack.Encoder().encode


class ReleaseHome:
    """Releases, monitoring and what they stand on, with the endpoint `score` applied in `prod`."""

    def __init__(self, database: Database, root: Path, *, endpoint: Endpoint | None = None):

        self.database = database
        self.layout = Layout(root)
        self.blobs = LocalBlobs(self.layout.blobs)
        self.registry = Registry(database, self.blobs)
        self.releases = Releases(database, Publisher(database, self.layout, self.blobs))
        self.data = DataService(database, self.layout, self.blobs, self._dispatch)
        self.monitoring = Monitoring(database, self.layout, self.blobs, self.data)
        self.endpoint = endpoint or Endpoint(name=ENDPOINT, model=MODEL, unit="id", monitor=MONITOR)
        self.apply(self.endpoint)
        self._writer: SegmentWriter | None = None

    def _dispatch(self, request: Any, *, actor: Actor, event_time: dt.datetime, **_: Any) -> Any:
        call = Call(actor=actor, event_time=event_time)
        return plain(self.database.write(lambda tx: self.data.add_version(tx, request, call)))

    def apply(self, *endpoints: Endpoint) -> None:
        """Make these the endpoints of the project."""
        definitions = Project(
            name=PROJECT,
            datasets=(OUTCOMES,),
            endpoints=endpoints,
            environments=(Environment(name="staging"), Environment(name=ENVIRONMENT)),
        )
        now = SystemClock().now()
        for environment in ("staging", ENVIRONMENT):
            row = {"project": PROJECT, "environment": environment, "digest": "", "definitions": definitions, "actor": "x"}
            self.database.write(lambda tx, row=row: queries.apply(tx, {**row, "event_time": now, "recorded_time": now}))

    def version(self, seed: int, *, metrics: dict[str, float] | None = None, approve: Sequence[str] = (ENVIRONMENT,)) -> int:
        """Train, seal and register a model; returns its version, approved where told."""
        digest = _sealed(self.blobs, seed)
        call = Call(actor=ASKER, event_time=START)
        request = RegisterVersion(project=PROJECT, model=MODEL, bundle_digest=digest, run_id=f"run_{seed}", metrics=metrics or {})
        number = plain(self.database.write(lambda tx: self.registry.register(tx, request, call))).number
        for environment in approve:
            self.approve(number, environment)
        return number

    def approve(self, number: int, environment: str = ENVIRONMENT) -> None:
        """Ask for and grant an approval."""
        asked = f"apr_{number}_{environment}"

        def write(tx: Connection) -> None:
            request = RequestApproval(
                project=PROJECT, approval_id=asked, environment=environment, subject=f"model/{MODEL}/{number}", question="?"
            )
            self.registry.request_approval(tx, request, Call(actor=ASKER, event_time=START))
            decision = DecideApproval(project=PROJECT, approval_id=asked, grant=True)
            self.registry.decide(tx, decision, Call(actor=APPROVER, event_time=START))

        self.database.write(write)

    def start(
        self, number: int, strategy: Canary | None = None, *, now: dt.datetime = START, environment: str = ENVIRONMENT, name: str = ""
    ) -> Release:
        """Start a release."""
        request = StartRelease(
            project=PROJECT,
            environment=environment,
            release_id=name or f"rel_{number}",
            endpoint=ENDPOINT,
            version=number,
            strategy=strategy,
        )
        call = Call(actor=ASKER, event_time=now)
        return plain(self.database.write(lambda tx: self.releases.start(tx, request, call)))

    def rollback(self, release_id: str, *, now: dt.datetime = START, reason: str = "") -> Release:
        """Take a release back."""
        request = RollbackRelease(project=PROJECT, environment=ENVIRONMENT, release_id=release_id, reason=reason)
        call = Call(actor=ASKER, event_time=now)
        return plain(self.database.write(lambda tx: self.releases.rollback(tx, request, call)))

    def settle(self, now: dt.datetime = START, environment: str = ENVIRONMENT) -> list[Release]:
        """Carry releases on until none waits for gateways."""
        return self.releases.settle(PROJECT, environment, now, self.monitoring.evidence, timeout_s=5)

    def log(
        self,
        day: int,
        scores: Sequence[float],
        *,
        version: int = 1,
        other: Sequence[float] | None = None,
        other_version: int | None = None,
        x: Sequence[float] | None = None,
        per_request: int = 4,
    ) -> list[str]:
        """Log predictions of a day, `per_request` a request, at even distances; returns their units."""
        if self._writer is None:
            folder = self.layout.gateway(PROJECT, ENVIRONMENT).log
            self._writer = SegmentWriter(folder, project=PROJECT, environment=ENVIRONMENT, worker="w", capacity=32 << 20)
        units = [f"{day}.{i}" for i in range(len(scores))]
        first = micros(START + day * DAY)
        for at in range(0, len(scores), per_request):
            rows = list(range(at, min(at + per_request, len(scores))))
            self._writer.append(
                _encode(
                    LogEntry(
                        status=200,
                        endpoint=ENDPOINT,
                        generation=1,
                        event_time=first + at * (80_000_000_000 // max(1, len(scores))),
                        recorded_time=first,
                        rows=len(rows),
                        variant=["champion"] * len(rows),
                        model_version=[version] * len(rows),
                        unit=[units[i] for i in rows],
                        propensity=[1.0] * len(rows),
                        inputs={"x": [0.0 if x is None else float(x[i]) for i in rows], "id": [units[i] for i in rows]},
                        features={},
                        output=[float(scores[i]) for i in rows],
                        other=[float(other[i]) for i in rows] if other is not None else [],
                        other_version=[other_version] * len(rows) if other is not None else [],
                        latency_us=400,
                    )
                )
            )
        return units

    def refuse(self, day: int) -> None:
        """Log a request that was refused."""
        assert self._writer is not None
        at = micros(START + day * DAY)
        entry: dict[str, Any] = {
            name: [] for name in ("variant", "model_version", "unit", "propensity", "output", "other", "other_version")
        }
        self._writer.append(
            _encode(
                LogEntry(
                    status=422,
                    endpoint=ENDPOINT,
                    generation=1,
                    event_time=at,
                    recorded_time=at,
                    rows=0,
                    inputs={},
                    features={},
                    latency_us=90,
                    error="column x: expected a number, given 'a'",
                    **entry,
                )
            )
        )

    def arrive(self, day: int, units: Sequence[str], truth: Sequence[float]) -> None:
        """The outcomes of a day become known, as a new version of the dataset."""
        frame = pl.DataFrame({"id": list(units), "y": [float(v) for v in truth], "known_at": [START + (day + 1) * DAY] * len(units)})
        frame = frame.with_columns(pl.col("known_at").cast(pl.Datetime("us", "UTC")))
        self.data.append(PROJECT, OUTCOMES, frame, actor=ASKER, event_time=START + (day + 1) * DAY, profile=False)


def plain(answer: Any) -> Any:
    """An answer, unwrapped where nothing was changed."""
    return getattr(answer, "answer", answer)


def _sealed(blobs: LocalBlobs, seed: int) -> str:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=1000)
    y = (draw.random(1000) < 1 / (1 + np.exp(-2 * x))).astype(float)
    frame = pl.DataFrame({"x": x, "y": y})
    fitted = fit_lightgbm(frame, features=["x"], label="y", params={"n_estimators": 5, "min_data_in_leaf": 5}, seed=seed)
    digest, _ = bundle.seal(
        blobs,
        fitted,
        project=PROJECT,
        model=MODEL,
        run_id=f"run_{seed}",
        event_time=START,
        proof=encode_frame(fitted.signature, frame.head(50)),
        reference_profile=profiles.to_bytes(profiles.profile(frame, ["x"], reference=True)),
    )
    return digest
