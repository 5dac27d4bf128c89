"""Replay: drive the live loop through recorded history in virtual business time.

The gateway, the log, the monitors, the engine and the releases are the ones of every day; only the clock is virtual. For each block of
business time the rows of history become known one after the other: outcomes and observations go to the online store, requests go
to the gateway over HTTP with their event time; at the block's end the rows are appended to their datasets and the loop turns once.
Virtual time goes on when all that was due has been done.

A replay says something only where the predictions do not change the outcomes; an endpoint declares that.
"""

import contextlib
import datetime as dt
import gc
import itertools
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from treadle.client.inference import InferenceClient
from treadle.features.materialise import DAY_US, rebuild
from treadle.online.store import SqliteOnline
from treadle.operations.monitoring import ListWindows
from treadle.operations.workshop import ApplyProject, GetApplied
from treadle.packaging.bundle import read
from treadle.records.calls import SYSTEM
from treadle.records.clock import VirtualClock, micros, utc
from treadle.records.data import DatasetVersion
from treadle.records.definitions import Condition, Endpoint, Project
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.monitoring import WindowReport
from treadle.serving import snapshots
from treadle.store import backup as store
from treadle.workshop.feed import Pusher
from treadle.workshop.history import History, blocks, lists
from treadle.workshop.home import Workshop, open_home
from treadle.workshop.loops import ACKNOWLEDGE_SECONDS, Loop, Turned
from treadle.workshop.processes import running_gateways
from treadle.workshop.smoke import gateway_address

#: A stream of rows is written to its dataset at least this often, and before every run; outcomes, which monitors read, with every block.
#: A commit to a table costs some 25 ms, whatever it holds.
FLUSH_AFTER = dt.timedelta(days=7)
#: Requests that go out in one piece on the replay's one connection, and pieces that may be under way at once.
PIECE = 8
UNDER_WAY = 2


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the cycle collector pass over what is loaded already, and run rarely: a replay makes hundreds of small objects a request, and
    each full collection walks all of the libraries' (a fifth of the replay's time)."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


class Progress(Struct, frozen=True, kw_only=True):
    """Where a replay stands, for whoever shows it."""

    now: dt.datetime
    share: float
    requests: int
    predictions: int
    turned: Any


class Replayed(Struct, frozen=True, kw_only=True):
    """What a replay sent and got back."""

    start: dt.datetime
    end: dt.datetime
    requests: int
    sent: int
    acknowledged: int


class Backtest(Struct, frozen=True, kw_only=True):
    """What a policy made of a stretch of history. Months are means of blocks weighted by their outcomes; `home` can be opened."""

    policy: str
    home: str
    requests: int
    predictions: int
    retrainings: int
    months: list[dict[str, Any]]


class Replay:
    """One replay of an endpoint's history.

    Args:
        workshop: a home opened with a `VirtualClock` that stands at the replay's start or before.
        history: what happened.
        acknowledged: a text file that each prediction id is written to as the gateway answers.
        progress: called after each block.
        rebuild: whether the online store is first made anew as of the start. A worker by the machine's clock has forgotten what
            the past needs; a home that has seen virtual time only may say no.
    """

    def __init__(
        self,
        workshop: Workshop,
        project: str,
        environment: str,
        endpoint: str,
        history: History,
        *,
        acknowledged: IO[str] | None = None,
        progress: Callable[[Progress], None] | None = None,
        rebuild: bool = True,
    ):
        if not isinstance(workshop.clock, VirtualClock):
            raise TreadleError("A replay needs a virtual clock.", remedy="open_home(…, clock=VirtualClock(start))", code="bad_request")
        self.workshop = workshop
        self.clock = workshop.clock
        self.project, self.environment = project, environment
        self.loop = Loop(workshop, name="replay", keeps_online=False)
        self.history = history
        self.definitions, self.endpoint = _endpoint(workshop, project, environment, endpoint)
        self.sent = self.requests = self.acknowledged = self.retrainings = 0
        self.asking_s = self.turning_s = 0.0
        self._reached: dict[str, dt.datetime] = {}
        self._flushed = workshop.clock.now()
        self._written = acknowledged
        self._progress = progress
        self._rebuild = rebuild
        requests = history.datasets[self.endpoint.requests]
        assert requests.time is not None
        self._time = requests.time

    def run(self, start: dt.datetime, end: dt.datetime) -> Replayed:
        """Replay [start, end), block by block of the endpoint's monitor.

        Raises:
            TreadleError: `unavailable` where no gateway runs or the gateway stops answering.
        """
        start, end = utc(start), utc(end)
        self._check_new(start)
        self._flushed = start
        self._reached = dict.fromkeys(self.history.datasets, start)
        host, port = gateway_address(self.workshop.layout, self.project, self.environment)
        online = SqliteOnline(self.workshop.layout.online(self.project, self.environment))
        transforms = self.loop.loaded(self.definitions).transforms
        pusher = Pusher(online, self.definitions.feature_views, self.history.datasets, transforms)
        with online, InferenceClient(host, port) as client, _rare_collections():
            if self._rebuild:
                rebuild(online, self.workshop.data, self.definitions, transforms=transforms, now_us=micros(start))
            self.loop.before_runs = lambda now: self._flush(online, now, self.history.datasets)
            for low, high in blocks(start, end, self.endpoint.monitor.block_s):
                began, between = time.monotonic(), Turned()
                moment = low
                while (due := self.loop.next_due()) is not None and moment < due < high:
                    self._ask(client, pusher, moment, due)
                    self.clock.advance_to(due)
                    self.loop.work(due, between)
                    self._await_gateway()
                    moment = due
                self._ask(client, pusher, moment, high)
                asked = time.monotonic()
                turned = self._turn(online, high)
                self.asking_s += asked - began
                self.turning_s += time.monotonic() - asked
                turned.executed += between.executed
                turned.started = between.started + turned.started
                self.retrainings += len(turned.triggered)
                if self._progress:
                    share = (high - start) / (end - start)
                    self._progress(Progress(now=high, share=share, requests=self.requests, predictions=self.acknowledged, turned=turned))
            self._flush(online, end, self.history.datasets)
        return Replayed(
            start=start,
            end=end,
            requests=self.requests,
            sent=self.sent,
            acknowledged=self.acknowledged,
        )

    def _check_new(self, start: dt.datetime) -> None:
        """Rows that the datasets have already would be counted twice."""
        for name in self.history.datasets:
            version = self.workshop.data.newest(self.project, name)
            if version is not None and version.known_until is not None and version.known_until >= start:
                raise TreadleError(
                    f"The dataset {name} has rows known until {version.known_until:%Y-%m-%d %H:%M} UTC; "
                    f"a replay from {start:%Y-%m-%d %H:%M} would give it later ones again.",
                    remedy="Start after what is there, or replay in a home of its own that was filled only until the start: --home DIR",
                    code="conflict",
                )

    def _ask(self, client: InferenceClient, pusher: Pusher, low: dt.datetime, high: dt.datetime) -> None:
        """Send the requests of [low, high) at their event times, one a moment, everything known by then pushed before.

        A few go out in one piece, after all that became known until the last of them: a feature is read as of its request's event time
        and does not see what is later. While the gateway answers one piece, the next is made ready.
        """
        frame = self.history.between(self.endpoint.requests, low, high)
        feed = pusher.feed({name: self.history.between(name, low, high) for name in self._sources()})
        columns = lists(frame, self._request_columns(frame))
        times = frame[self._time].dt.epoch("us").to_list()
        firsts = [row for row, moment in enumerate(times) if not row or times[row - 1] != moment]
        bounds = list(itertools.pairwise([*firsts, len(times)]))
        under_way: deque[int] = deque()
        for start in range(0, len(bounds), PIECE):
            piece = bounds[start : start + PIECE]
            feed.advance(times[piece[-1][0]])
            for first, last in piece:
                rows = {name: values[first:last] for name, values in columns.items()}
                client.send(self.endpoint.name, rows, times[first], hold=last != piece[-1][1])
                self.sent += last - first
            self.requests += len(piece)
            under_way.append(len(piece))
            if len(under_way) == UNDER_WAY:
                self._take(client, under_way.popleft())
        while under_way:
            self._take(client, under_way.popleft())
        feed.advance(micros(high) - 1)

    def _take(self, client: InferenceClient, requests: int) -> None:
        for _ in range(requests):
            answer = client.receive()
            self.acknowledged += len(answer.ids)
            if self._written is not None:
                self._written.write("\n".join(answer.ids) + "\n")

    def _turn(self, online: SqliteOnline, high: dt.datetime) -> Turned:
        """The block is over: its rows enter the datasets, and the loop turns."""
        self.clock.advance_to(high)
        judged = self.endpoint.monitor.outcome.partition(".")[0]
        every = high >= self._flushed + FLUSH_AFTER
        with ThreadPoolExecutor(2) as pool:
            folded = pool.submit(self.workshop.monitoring.fold, self.project, self.environment)
            self._flush(online, high, self.history.datasets if every else [judged])
            folded.result()
        online.prune(micros(high) - DAY_US)
        turned = self.loop.turn(high)
        self._await_gateway()
        return turned

    def _await_gateway(self) -> None:
        """Virtual time stands still until the gateway serves what was published; else the machine's speed would decide who answers."""
        gateway = self.workshop.layout.gateway(self.project, self.environment)
        published = snapshots.generations(gateway)
        deadline = time.monotonic() + ACKNOWLEDGE_SECONDS
        while published and not snapshots.acknowledged(gateway, published[0]):
            if time.monotonic() > deadline:
                said = "; ".join(f"{ack.worker}: {ack.error or f'generation {ack.generation}'}" for ack in snapshots.read_acks(gateway))
                raise TreadleError(
                    f"The gateway of {self.environment} did not load generation {published[0]} in {ACKNOWLEDGE_SECONDS:g} s ({said}).",
                    remedy=f"Read its log: {self.workshop.layout.root}/logs/gateway-{self.project}-{self.environment}.log",
                    code="timed_out",
                )
            time.sleep(0.005)

    def _flush(self, online: SqliteOnline, until: dt.datetime, names: Iterable[str]) -> None:
        """Append to datasets what became known since the last time, one commit each."""
        for name in names:
            frame = self.history.between(name, self._reached[name], until)
            self._reached[name] = until
            if frame.height:
                version = self._append(name, frame, until)
                online.mark(name, version.number)  # its rows were pushed one by one, as they became known
                self.workshop.monitoring.observe(self.project, name, frame, version.number)
        if all(reached == until for reached in self._reached.values()):
            self._flushed = until

    def _append(self, name: str, frame: pl.DataFrame, moment: dt.datetime) -> DatasetVersion:
        return self.workshop.data.append(
            self.project,
            self.history.datasets[name],
            frame,
            actor=SYSTEM,
            event_time=moment,
            source=f"replay of {self.history.folder.name}",
            app=(f"replay/{name}", micros(moment)),
            profile=False,
        )

    def _sources(self) -> list[str]:
        return sorted({v.source for v in self.definitions.feature_views if v.source in self.history.tables})

    def _request_columns(self, frame: pl.DataFrame) -> list[str]:
        """What a request carries: the model's own inputs, the entity keys and the randomisation unit."""
        snapshot = snapshots.newest(self.workshop.layout.gateway(self.project, self.environment))
        served = next((e for e in snapshot.endpoints if e.name == self.endpoint.name), None) if snapshot else None
        if served is None or served.champion is None:
            raise TreadleError(
                f"Nothing serves {self.endpoint.name} in {self.environment} yet.",
                remedy="Train, approve and release a first version before the replay: treadle run PIPELINE",
                code="unavailable",
            )
        signature = read(self.workshop.blobs, served.champion.bundle_digest).signature
        wanted = [self.endpoint.unit] if self.endpoint.unit else []
        wanted += [c.name for c in signature.inputs if c.origin == "request"] + [c.name for c in signature.keys]
        wanted += [key for view in self.definitions.feature_views for key in view.entity]
        return [name for name in dict.fromkeys(wanted) if name in frame.columns]


POLICIES = ("declared", "never", "monthly")


def backtest(
    workshop: Workshop,
    *,
    project: str,
    environment: str,
    history: Path,
    since: dt.datetime,
    until: dt.datetime,
    policy: str = "declared",
    tell: Callable[[str], None] = print,
) -> Backtest:
    """Backtest an operations policy on recorded history; the home itself is left as it is.

    The replay runs on a copy of the home, in `replays/` beside it, with a gateway of its own.

    Args:
        workshop: the home to start from: its models, data and definitions as they are now.
        project, environment: what to replay; its first endpoint that can be.
        history: a folder with one file a dataset.
        since, until: business time, UTC.
        policy: `declared` (as applied), `never` (no retraining), `monthly` (a retraining at the start of each month, no limit).
        tell: called with each decision, in words.

    Raises:
        TreadleError: `bad_request` for another policy, or what `Replay` raises.
    """
    if policy not in POLICIES:
        raise TreadleError(f"{policy!r} is no policy.", remedy=f"One of: {', '.join(POLICIES)}")
    copy = workshop.layout.root.parent / "replays" / f"{policy}-{since:%Y%m%d}-{until:%Y%m%d}"
    if copy.exists():
        shutil.rmtree(copy)
    with tempfile.TemporaryDirectory(prefix="treadle-") as kept:
        store.backup(workshop.layout, workshop.database, workshop.blobs, Path(kept) / "home")
        store.restore(Path(kept) / "home", Layout(copy))
    with open_home(copy, blobs="local", clock=VirtualClock(since), actor=workshop.actor) as shop:
        definitions = _under(shop, project, environment, policy)
        endpoint = next((e.name for e in definitions.endpoints if e.requests and not e.predictions_change_outcomes), None)
        if endpoint is None:
            raise TreadleError(
                f"No endpoint of {project} in {environment} can be replayed.",
                remedy="Declare its requests and that predictions leave the outcomes alone: "
                "endpoint(…, requests=DATASET, predictions_change_outcomes=False)",
                code="bad_definition",
            )
        rows = History(history, definitions.datasets)
        gateways = [environment, *(e.after for e in definitions.environments if e.name == environment and e.after)]
        with running_gateways(shop.layout, project, gateways):
            driver = Replay(shop, project, environment, endpoint, rows, progress=lambda where: _tell(where, tell))
            replayed = driver.run(since, until)
        windows = shop.call(ListWindows(project=project, environment=environment, endpoint=endpoint, start=utc(since), limit=100_000))
        return Backtest(
            policy=policy,
            home=str(copy),
            requests=replayed.requests,
            predictions=replayed.acknowledged,
            retrainings=driver.retrainings,
            months=_months(windows),
        )


def _under(shop: Workshop, project: str, environment: str, policy: str) -> Project:
    """The copy's definitions with the policy to be tried."""
    applied = shop.call(GetApplied(project=project, environment=environment))
    if applied is None:
        raise TreadleError(f"{project} is not applied to {environment}.", remedy=f"treadle apply --env {environment}", code="not_found")
    if policy == "declared":
        return applied
    monthly = Condition(kind="cron", cron="0 0 1 * *")
    endpoints = tuple(
        replace(e, retrain=None)
        if policy == "never" or e.retrain is None
        else replace(e, retrain=replace(e.retrain, when=(monthly,), at_most_every_s=0, budget=None))
        for e in applied.endpoints
    )
    changed = replace(applied, endpoints=endpoints)
    shop.call(ApplyProject(project=project, environment=environment, definitions=changed, base=digest_of(applied)))
    return changed


def _tell(where: Progress, tell: Callable[[str], None]) -> None:
    for text in where.turned.told():
        tell(f"{where.now:%Y-%m-%d}  {text}")


def _months(windows: list[WindowReport]) -> list[dict[str, Any]]:
    """Windows by UTC month, each weighted by its outcomes."""
    told = []
    for month in sorted({f"{w.start:%Y-%m}" for w in windows}):
        part = [w for w in windows if f"{w.start:%Y-%m}" == month]
        outcomes = sum(w.outcomes for w in part)
        row: dict[str, Any] = {"month": month, "predictions": sum(w.predictions for w in part), "champion": part[-1].champion}
        for name in ("roc_auc", "brier", "mean_predicted", "mean_observed"):
            known = [(w.metrics[name], w.outcomes) for w in part if name in w.metrics and w.outcomes]
            row[name] = round(sum(v * n for v, n in known) / sum(n for _, n in known), 4) if known and outcomes else None
        told.append(row)
    return told


def ingest(workshop: Workshop, project: str, history: History, *, until: dt.datetime, since: dt.datetime | None = None) -> dict[str, int]:
    """Append all of history that was known before `until` (and from `since` on) to its datasets; rows by dataset."""
    rows = {}
    for name, dataset in history.datasets.items():
        frame = history.between(name, since, until)
        rows[name] = frame.height
        if not frame.height:
            continue
        workshop.data.append(project, dataset, frame, actor=workshop.actor, event_time=until, source=str(history.folder.name))
    return rows


def _endpoint(workshop: Workshop, project: str, environment: str, name: str) -> tuple[Project, Endpoint]:

    definitions = workshop.call(GetApplied(project=project, environment=environment))
    found = next((e for e in definitions.endpoints if e.name == name), None) if definitions else None
    if definitions is None or found is None:
        raise TreadleError(
            f"{environment} of {project} has no endpoint {name!r}.",
            remedy=f"Apply the project first: treadle apply --env {environment}",
            code="not_found",
        )
    if found.predictions_change_outcomes:
        raise TreadleError(
            f"Endpoint {name} does not say that its predictions leave the outcomes alone, so its history cannot be replayed honestly.",
            remedy="If nobody acts on the predictions, declare it: endpoint(…, predictions_change_outcomes=False)",
            code="bad_definition",
        )
    if not found.requests:
        raise TreadleError(
            f"Endpoint {name} does not say which dataset's rows are its requests.",
            remedy="Declare it: endpoint(…, requests=DATASET)",
            code="bad_definition",
        )
    return definitions, found
