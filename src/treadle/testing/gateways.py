"""A gateway to try things on: two tiny real models in a home, online features, snapshots on request, the process itself.

The models take a carrier (unknown ones are rejected), a tail number (unknown ones count as missing), a distance, an hour, and read a
window and a newest value online by entity key.
"""

import contextlib
import datetime as dt
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from treadle.online.encoding import encode_frame
from treadle.online.store import SqliteOnline
from treadle.packaging import bundle
from treadle.plugins.storage import BlobStore
from treadle.records.definitions import FeatureView, Window
from treadle.records.layout import Layout
from treadle.records.serving import ServedEndpoint, Snapshot, Split, Variant
from treadle.serving import snapshots
from treadle.store.blobs import LocalBlobs
from treadle.training.fit import fit_lightgbm

PROJECT, ENVIRONMENT, ENDPOINT = "tiny", "prod", "delay"
#: Event time of the examples: 2013-02-01T00:00Z, microseconds since 1970.
NOW_US = 1_359_676_800_000_000
CARRIERS = ("AA", "B6", "UA")
LATENESS = FeatureView(
    name="lateness",
    entity=("carrier",),
    source="flights",
    windows={"late_6h": Window(column="late", aggregate="mean", over_s=21600, hop_s=60)},
)
WEATHER = FeatureView(name="weather", entity=("origin",), source="weather", columns=("temp",), ttl_s=10800)
VIEWS = (LATENESS, WEATHER)
_SPLIT = Split(salt="salt")
_INPUTS = ("carrier", "tailnum", "distance", "hour", "lateness.late_6h", "weather.temp")


class TinyHome:
    """A home that gateways can serve from: `digests` of two models, online features, no database.

    Args:
        root: an empty folder.
        trees: of each model.
        blobs: where the bundles come from; the home's own disk where None.
    """

    def __init__(self, root: Path, *, trees: int = 20, blobs: BlobStore | None = None):
        self.layout = Layout(root)
        self.here = self.layout.gateway(PROJECT, ENVIRONMENT)
        blobs = blobs or LocalBlobs(self.layout.blobs)
        self.digests = [_sealed(blobs, seed, trees) for seed in (1, 2)]
        for digest in self.digests:
            bundle.unpack(blobs, digest, self.here.bundles)
        online = self.layout.online(PROJECT, ENVIRONMENT)
        online.parent.mkdir(parents=True)
        with SqliteOnline(online) as store, store.batch():
            times = [NOW_US - minute * 60_000_000 for minute in (300, 200, 100)]
            store.push_events(LATENESS, [("UA",)] * 3, times, {"late": [1, 0, 1]})
            store.push_values(WEATHER, [("JFK",)], [NOW_US - 60_000_000], {"temp": [1.5]})

    def publish(self, generation: int, *, champion: int = 0, challenger: int | None = None, split: Split = _SPLIT) -> None:
        """Publish a snapshot: models by place in `digests`; version numbers are places plus one."""
        endpoint = ServedEndpoint(
            name=ENDPOINT,
            model=ENDPOINT,
            champion=self._variant("champion", champion),
            challenger=None if challenger is None else self._variant("challenger", challenger),
            split=split,
            unit="flight_id",
        )
        now = dt.datetime.now(dt.UTC)
        record = Snapshot(project=PROJECT, environment=ENVIRONMENT, generation=generation, endpoints=(endpoint,), published=now)
        snapshots.write(self.here, record)

    def _variant(self, name: str, place: int) -> Variant:
        return Variant(name=name, model_version=place + 1, bundle_digest=self.digests[place])


class GatewayProcess:
    """A running `python -m treadle.gateway`."""

    def __init__(self, layout: Layout, *options: str, project: str = PROJECT, environment: str = ENVIRONMENT):
        command = [sys.executable, "-m", "treadle.gateway", "--home", str(layout.root), "--project", project, "--env", environment]
        self._file = layout.processes / f"gateway-{project}-{environment}.json"
        self._file.unlink(missing_ok=True)
        started = time.monotonic()
        self.process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE)
        while not self._file.exists():
            if self.process.poll() is not None or time.monotonic() > started + 30:
                self.process.kill()
                raise RuntimeError(f"the gateway did not start: {self.process.communicate()[1].decode()}")
            time.sleep(0.005)
        #: Seconds from the command to a gateway that listens.
        self.start_s = time.monotonic() - started
        self.port: int = msgspec.json.decode(self._file.read_bytes())["port"]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait; returns exit code and what it told on stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, told = self.process.communicate(timeout=30)
        return self.process.returncode, told.decode()


@contextlib.contextmanager
def running_gateway(layout: Layout, *options: str) -> Iterator[GatewayProcess]:
    """A gateway for the length of a `with` block."""
    gateway = GatewayProcess(layout, *options)
    try:
        yield gateway
    finally:
        gateway.stop()


def flights(rows: int, seed: int = 0) -> dict[str, list[Any]]:
    """Columns of a request that the tiny models take."""
    draw = random.Random(seed)
    return {
        "flight_id": [f"{seed}.{row}" for row in range(rows)],
        "carrier": [draw.choice(CARRIERS) for _ in range(rows)],
        "tailnum": [f"N{draw.randrange(30)}" for _ in range(rows)],
        "origin": [draw.choice(("JFK", "EWR")) for _ in range(rows)],
        "distance": [draw.uniform(100, 3000) for _ in range(rows)],
        "hour": [draw.randrange(24) for _ in range(rows)],
    }


def _sealed(blobs: BlobStore, seed: int, trees: int) -> str:
    draw = random.Random(seed)
    rows = flights(400, seed)
    rows["lateness.late_6h"] = [draw.random() if draw.random() > 0.1 else None for _ in range(400)]
    rows["weather.temp"] = [draw.gauss(10, 8) for _ in range(400)]
    rows["late"] = [float(draw.random() < 0.1 + 0.02 * hour) for hour in rows["hour"]]
    frame = pl.DataFrame(rows)
    fitted = fit_lightgbm(
        frame,
        features=_INPUTS,
        label="late",
        params={"n_estimators": trees, "min_data_in_leaf": 5},
        seed=seed,
        unknown={"carrier": "reject", "tailnum": "null"},
        views=VIEWS,
    )
    digest, _ = bundle.seal(
        blobs,
        fitted,
        project=PROJECT,
        model=ENDPOINT,
        run_id=f"run_{seed}",
        event_time=dt.datetime(2013, 2, 1, tzinfo=dt.UTC),
        proof=encode_frame(fitted.signature, frame.head(50)),
        views=VIEWS,
        card={"seed": seed},
    )
    return digest
