"""Releases through a real gateway process: load, switch, canary, rollback, a bundle that cannot be loaded."""

from pathlib import Path

import pytest

from treadle.client.inference import InferenceClient
from treadle.records.definitions import Canary
from treadle.records.releases import Evidence
from treadle.records.states import ReleaseState
from treadle.store.db import Database
from treadle.store.migrate import ensure
from treadle.testing.gateways import GatewayProcess
from treadle.testing.releases import DAY, ENDPOINT, ENVIRONMENT, PROJECT, START, ReleaseHome


@pytest.fixture
def home(tmp_path: Path):
    with Database.open(f"sqlite:///{tmp_path / 'home' / 'treadle.db'}") as database:
        ensure(database)
        yield ReleaseHome(database, tmp_path / "home")


def test_a_release_from_first_version_to_rollback(home: ReleaseHome) -> None:
    home.version(1), home.version(2), home.version(3)
    home.start(1)
    home.settle()
    gateway = GatewayProcess(home.layout, "--port", "0", project=PROJECT, environment=ENVIRONMENT)
    client = InferenceClient("127.0.0.1", gateway.port)
    answered: list[str] = []

    def ask(rows: int = 40):
        answer = client.predict(ENDPOINT, {"x": [i / 10 for i in range(rows)], "id": [f"{len(answered)}.{i}" for i in range(rows)]}, START)
        answered.extend(answer.ids)
        return answer

    try:
        assert set(ask().model_version) == {1}

        home.start(2)
        assert set(ask().model_version) == {1}
        (done,) = home.settle()
        assert (done.state, set(ask().model_version)) == (ReleaseState.promoted, {2})

        home.start(3, Canary(share=0.5))
        home.settle()
        answer = ask(200)
        assert 60 < sum(v == 3 for v in answer.model_version) < 140
        assert answer.generation == home.releases.publish(PROJECT, ENVIRONMENT)
        home.rollback("rel_3")
        home.settle()
        home.releases.publish(PROJECT, ENVIRONMENT)
        wait_for(lambda: set(ask().model_version) == {2})

        (home.layout.gateway(PROJECT, ENVIRONMENT).bundles / bundle_of(home, 3) / "manifest.json").write_text("{}")
        broken = home.start(3, name="rel_corrupt")
        failed = home.releases.settle(PROJECT, ENVIRONMENT, START, lambda *_: Evidence(), timeout_s=10)
        assert [(r.release_id, r.state) for r in failed] == [(broken.release_id, ReleaseState.failed)]
        assert "could not load" in failed[0].reason
        assert set(ask().model_version) == {2}
    finally:
        client.close()
        gateway.stop()
    report = home.monitoring.fold(PROJECT, ENVIRONMENT)
    assert sorted(report.frame["prediction_id"].to_list()) == sorted(answered)
    paired = report.frame.filter(report.frame["other"].is_not_null())
    assert (set(paired["model_version"]), set(paired["other_version"])) == ({3}, {2})  # the canary's units, scored by both
    assert set(paired["propensity"]) == {0.5}
    home.monitoring.tick(PROJECT, ENVIRONMENT, home.endpoint, START + DAY)


def bundle_of(home: ReleaseHome, number: int) -> str:
    from treadle.registry import service as registry
    from treadle.testing.releases import MODEL

    with home.database.read() as tx:
        return registry.version_of(tx, PROJECT, MODEL, number).bundle_digest


def wait_for(holds, seconds: float = 5.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
