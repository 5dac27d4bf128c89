"""Releases against real databases, real bundles and the gateways' real folder."""

import os
from pathlib import Path

import pytest

from treadle.operations.releases import GetRelease, GetSnapshot, ListReleases
from treadle.records.calls import Call
from treadle.records.definitions import Canary
from treadle.records.errors import TreadleError
from treadle.records.releases import Block, Evidence
from treadle.records.serving import Ack
from treadle.records.states import ReleaseState, VersionState
from treadle.registry import service as registry
from treadle.serving import snapshots
from treadle.store.db import Database
from treadle.testing.releases import ASKER, DAY, ENDPOINT, ENVIRONMENT, MODEL, PROJECT, START, ReleaseHome

CANARY = Canary(share=0.5, margin=0.0, deadline_blocks=14)


@pytest.fixture
def home(database: Database, tmp_path: Path) -> ReleaseHome:
    return ReleaseHome(database, tmp_path / "home")


def served(home: ReleaseHome):
    found = snapshots.newest(home.layout.gateway(PROJECT, ENVIRONMENT))
    assert found is not None
    return found.generation, found.endpoints[0]


def alias(home: ReleaseHome, name: str, environment: str = ENVIRONMENT) -> int | None:
    with home.database.read() as tx:
        found = registry.resolve(tx, PROJECT, MODEL, name, environment)
    return found.number if found else None


def state(home: ReleaseHome, number: int) -> VersionState:
    with home.database.read() as tx:
        return registry.version_of(tx, PROJECT, MODEL, number).state


def told(home: ReleaseHome) -> list[str]:
    from sqlalchemy import select

    from treadle.store import tables as t

    with home.database.read() as tx:
        rows = tx.execute(select(t.events.c.type).where(t.events.c.type.like("treadle.release.%")).order_by(t.events.c.recorded_time))
        return [row[0].rpartition(".")[2] for row in rows]


def test_the_first_release_serves_at_once(home: ReleaseHome) -> None:
    home.version(1)
    release = home.start(1, CANARY)
    assert (release.state, release.from_version, release.approval_id) == (ReleaseState.waiting, None, "apr_1_prod")
    (done,) = home.settle()
    assert done.state == ReleaseState.promoted
    generation, endpoint = served(home)
    assert (generation, endpoint.champion.model_version, endpoint.challenger, endpoint.unit) == (done.generation, 1, None, "id")
    assert (home.layout.gateway(PROJECT, ENVIRONMENT).bundles / endpoint.champion.bundle_digest / "manifest.json").exists()
    assert alias(home, "champion") == 1
    assert state(home, 1) == VersionState.released
    assert told(home) == ["delivered", "deployed", "live", "promoted"]


def test_a_direct_switch_is_deployed_at_no_traffic_first(home: ReleaseHome) -> None:
    home.version(1), home.version(2)
    home.start(1), home.settle()
    assert home.start(2).facts["phase"] == "deploying"
    home.releases.publish(PROJECT, ENVIRONMENT)
    _, endpoint = served(home)
    assert (endpoint.champion.model_version, endpoint.challenger.model_version, endpoint.split.share) == (1, 2, 0.0)
    (done,) = home.settle()
    assert (done.state, done.from_version) == (ReleaseState.promoted, 1)
    assert served(home)[1].champion.model_version == 2
    assert (state(home, 1), state(home, 2)) == (VersionState.approved, VersionState.released)


def test_a_step_waits_for_every_live_worker(home: ReleaseHome) -> None:
    home.version(1)
    here = home.layout.gateway(PROJECT, ENVIRONMENT)
    me = snapshots.worker_name()
    snapshots.write_ack(here, Ack(worker=me, generation=0, state="ready", pid=os.getpid()))
    home.start(1)
    assert home.releases.work(PROJECT, ENVIRONMENT, START) == []
    with pytest.raises(TreadleError, match="waits for the gateways") as raised:
        home.releases.settle(PROJECT, ENVIRONMENT, START, timeout_s=0.05)
    assert raised.value.code == "timed_out"
    snapshots.write_ack(here, Ack(worker=me, generation=1, state="ready", pid=os.getpid()))
    (done,) = home.releases.work(PROJECT, ENVIRONMENT, START)
    assert done.state == ReleaseState.promoted


def test_a_version_that_a_gateway_cannot_load_fails_before_traffic_moves(home: ReleaseHome) -> None:
    home.version(1), home.version(2)
    home.start(1), home.settle()
    here, me = home.layout.gateway(PROJECT, ENVIRONMENT), snapshots.worker_name()
    release = home.start(2, CANARY)
    snapshots.write_ack(here, Ack(worker=me, generation=release.generation, state="error", error="bundle is corrupt", pid=os.getpid()))
    (done,) = home.releases.work(PROJECT, ENVIRONMENT, START)
    assert done.state == ReleaseState.failed
    assert "bundle is corrupt" in done.reason
    _, endpoint = served(home)
    assert (endpoint.champion.model_version, endpoint.challenger) == (1, None)


def run_canary(home: ReleaseHome, differences: list[float]):
    home.version(1), home.version(2)
    home.start(1), home.settle()
    home.start(2, CANARY)
    home.settle()
    _, endpoint = served(home)
    assert (endpoint.challenger.model_version, endpoint.split.share, endpoint.split.paired) == (2, 0.5, True)
    assert alias(home, "challenger") == 2
    blocks = [Block(start=START + i * DAY, rows=100, difference=d) for i, d in enumerate(differences)]
    for day in range(1, 20):
        now = START + day * DAY
        changed = home.releases.work(
            PROJECT, ENVIRONMENT, now, lambda release, now, day=day: Evidence(blocks=tuple(blocks[:day]), complete_until=now)
        )
        if changed:
            return changed[0]
    raise AssertionError("the canary did not end")


def test_a_better_challenger_is_promoted(home: ReleaseHome) -> None:
    done = run_canary(home, [-0.01, -0.012] * 7)
    assert (done.state, done.facts["blocks"]) == (ReleaseState.promoted, 6)
    assert "rejected at level 0.05" in done.reason
    assert served(home)[1].champion.model_version == 2
    assert (alias(home, "champion"), alias(home, "challenger")) == (2, None)
    assert (state(home, 1), state(home, 2)) == (VersionState.approved, VersionState.released)
    assert told(home)[-4:] == ["delivered", "deployed", "live", "promoted"]


def test_a_harmful_challenger_is_stopped(home: ReleaseHome) -> None:
    done = run_canary(home, [0.01, 0.012] * 7)
    assert done.state == ReleaseState.stopped
    assert served(home)[1].champion.model_version == 1
    assert (alias(home, "champion"), alias(home, "challenger")) == (1, None)
    assert state(home, 2) == VersionState.approved


def test_without_evidence_the_champion_stays(home: ReleaseHome) -> None:
    done = run_canary(home, [0.01, -0.01] * 7)
    assert (done.state, done.facts["blocks"]) == (ReleaseState.inconclusive, 14)
    assert "The champion stays" in done.reason
    assert served(home)[1].champion.model_version == 1


def test_rollback_gives_traffic_back(home: ReleaseHome) -> None:
    home.version(1), home.version(2)
    home.start(1), home.settle()
    home.start(2), home.settle()
    done = home.rollback("rel_2", reason="complaints")
    assert (done.state, done.reason) == (ReleaseState.rolled_back, "complaints")
    assert home.rollback("rel_2") == done
    home.releases.publish(PROJECT, ENVIRONMENT)
    generation, endpoint = served(home)
    assert (generation, endpoint.champion.model_version) == (done.generation, 1)
    assert alias(home, "champion") == 1
    assert state(home, 2) == VersionState.approved
    with pytest.raises(TreadleError, match="nothing to go back to"):
        home.rollback("rel_1")


def test_rollback_of_a_running_canary(home: ReleaseHome) -> None:
    home.version(1), home.version(2)
    home.start(1), home.settle()
    home.start(2, CANARY), home.settle()
    assert home.rollback("rel_2").state == ReleaseState.rolled_back
    home.releases.publish(PROJECT, ENVIRONMENT)
    assert served(home)[1].challenger is None
    assert alias(home, "challenger") is None


def test_what_is_refused(home: ReleaseHome) -> None:
    home.version(1), home.version(2), home.version(3, approve=["staging"])
    with pytest.raises(TreadleError, match="not approved for prod"):
        home.start(3)
    with pytest.raises(TreadleError, match="version 9") as raised:
        home.start(9)
    assert raised.value.code == "not_found"
    first = home.start(1)
    assert home.start(1) == first
    with pytest.raises(TreadleError, match="exists, for version 1"):
        home.start(2, name="rel_1")
    with pytest.raises(TreadleError, match="one at a time"):
        home.start(2)
    home.settle()
    with pytest.raises(TreadleError, match="champion of score already"):
        home.start(1, name="rel_again")
    call = Call(actor=ASKER, event_time=START)
    with home.database.read() as tx:
        with pytest.raises(TreadleError, match="no release x"):
            home.releases.get(tx, GetRelease(project=PROJECT, environment=ENVIRONMENT, release_id="x"), call)
        with pytest.raises(TreadleError, match="Nothing was released in staging"):
            home.releases.get_snapshot(tx, GetSnapshot(project=PROJECT, environment="staging"), call)
        listed = home.releases.list_releases(tx, ListReleases(project=PROJECT, environment=ENVIRONMENT, state="promoted"), call)
    assert [r.release_id for r in listed] == ["rel_1"]


def test_environments_have_champions_of_their_own(home: ReleaseHome) -> None:
    home.version(1, approve=["staging", "prod"]), home.version(2, approve=["staging"])
    home.start(1), home.settle()
    home.start(2, environment="staging", name="s2")
    home.settle(environment="staging")
    assert (alias(home, "champion", "staging"), alias(home, "champion"), alias(home, "champion", "")) == (2, 1, 1)


def test_an_endpoint_that_is_removed_leaves_the_snapshot(home: ReleaseHome) -> None:
    home.version(1), home.version(2)
    home.start(1), home.settle()
    home.start(2, CANARY), home.settle()
    home.apply()
    call = Call(actor=ASKER, event_time=START)
    assert home.database.write(lambda tx: home.releases.refresh(tx, PROJECT, ENVIRONMENT, call))
    assert not home.database.write(lambda tx: home.releases.refresh(tx, PROJECT, ENVIRONMENT, call))
    home.releases.publish(PROJECT, ENVIRONMENT)
    found = snapshots.newest(home.layout.gateway(PROJECT, ENVIRONMENT))
    assert found is not None
    assert found.endpoints == ()
    assert home.releases.work(PROJECT, ENVIRONMENT, START) == []


def test_two_workers_carry_out_a_step_once(home: ReleaseHome) -> None:
    home.version(1)
    first = home.start(1)
    assert ENDPOINT == first.endpoint
    assert len(home.settle()) == 1
    before = served(home)[0]
    call = Call(actor=ASKER, event_time=START)
    again = home.database.write(lambda tx: home.releases._carry_out(tx, first, first, call))
    assert again is None
    assert served(home)[0] == before
