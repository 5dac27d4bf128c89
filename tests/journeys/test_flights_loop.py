"""The loop on real flights, with real gateways: what was served is what was known, and what is bad is stopped where it should be.

The tests share one home and run in order, as the days of its history do.
"""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from rich.console import Console

from treadle.features.join import Source, join_features
from treadle.operations.ledger import GetRun, ListEvents, VerifyAudit
from treadle.operations.pipelines import ListSteps, SubmitRun
from treadle.operations.registry import GetCard, GetModelVersion, ListModelVersions
from treadle.operations.releases import ListReleases
from treadle.operations.workshop import ApplyProject, GetApplied, GetOverview, WhyPrediction
from treadle.packaging.bundle import read
from treadle.records.clock import UTC, VirtualClock
from treadle.records.digests import digest_of
from treadle.records.ids import new_id
from treadle.records.states import ReleaseState, VersionState
from treadle.serving import snapshots
from treadle.workshop import demo, verify
from treadle.workshop.history import History
from treadle.workshop.home import open_home
from treadle.workshop.loops import Loop
from treadle.workshop.processes import running_gateways
from treadle.workshop.project import load
from treadle.workshop.replay import Replay
from treadle.workshop.reproduce import reproduce

FIRST_DAYS = dt.datetime(2013, 2, 6, 6, tzinfo=UTC)
LATER = dt.datetime(2013, 2, 19, 6, tzinfo=UTC)

SHUFFLED = """
@tr.step
def shuffled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("late").shuffle(seed=1))

"""

INVERTED = """
@tr.step
def inverted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(late=~pl.col("late"))

"""


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """January trained and released, the first days of February replayed."""
    build = tmp_path_factory.mktemp("flights")
    quiet = Console(quiet=True)
    project, history_folder, home = demo._prepare(build, quiet)
    with open_home(home, clock=VirtualClock(demo.JANUARY_ENDS)) as shop:
        loaded = load(project)
        demo._apply(shop, loaded)
        with running_gateways(shop.layout, "flights", demo.ENVIRONMENTS):
            history = History(history_folder, loaded.definitions.datasets)
            loop = Loop(shop, name="test")
            demo._first_model(shop, loop, history, loaded, quiet)
            with (build / "acknowledged.txt").open("w", buffering=1) as written:
                replay = Replay(shop, "flights", "prod", "delay", history, acknowledged=written)
                replay.run(demo.START, FIRST_DAYS)
                yield SimpleNamespace(build=build, project=project, shop=shop, loop=loop, replay=replay)


def test_every_prediction_is_logged_exactly_once(street: SimpleNamespace) -> None:
    """Acknowledged = asked = logged, by the tables and the client's own list."""
    rows = verify.logged(street.shop.layout, "flights", "prod", "delay")
    flights = verify.table(street.shop.layout, "flights", "flights")
    asked = flights.filter((pl.col("scheduled_at") >= demo.START) & (pl.col("scheduled_at") < FIRST_DAYS)).height
    counted = verify.traffic(rows, street.build / "acknowledged.txt", asked)
    assert asked > 4000
    assert {"sent": asked, "acknowledged": asked, "logged": asked, "lost": 0, "duplicated": 0, "rejected": 0} == counted


def test_logged_features_equal_the_offline_join_bit_for_bit(street: SimpleNamespace) -> None:
    """What the gateway read online is what an as-of join over the datasets gives, on every row and every feature."""
    shop = street.shop
    rows = verify.logged(shop.layout, "flights", "prod", "delay").rename({"unit": "flight_id"})
    version = shop.call(GetModelVersion(project="flights", model="delay", number=1))
    views = read(shop.blobs, version.bundle_digest).views
    flights = verify.table(shop.layout, "flights", "flights").join(rows.select("flight_id"), on="flight_id")
    sources = {
        "outcomes": Source(verify.table(shop.layout, "flights", "outcomes"), "known_at"),
        "weather": Source(verify.table(shop.layout, "flights", "weather"), "observed_at"),
    }
    offline = join_features(flights, time="scheduled_at", views=views, sources=sources)
    both = offline.join(rows, on="flight_id", validate="1:1")
    names = [name for view in views for name in view.features]
    assert len(names) == 17
    assert both.height == rows.height
    differing = {n: both.filter(~pl.col(n).eq_missing(pl.col(f"ft.{n}"))).height for n in names}
    assert dict.fromkeys(names, 0) == differing


def test_why_walks_back_to_the_rows(street: SimpleNamespace) -> None:
    """From an id in the client's list to the dataset versions and their row counts."""
    prediction = (street.build / "acknowledged.txt").read_text().split()[7]
    chain = street.shop.call(WhyPrediction(project="flights", prediction_id=prediction))
    links = [link["link"] for link in chain.links]
    assert links[:5] == ["prediction", "variant", "model version", "bundle", "run"]
    assert links[-3:] == ["features", "code", "environment"]
    trained = {link["dataset"]: link for link in chain.links if link["link"] == "dataset version"}
    assert set(trained) == {"flights", "outcomes", "weather"}
    assert trained["flights"]["rows"] == 27_004


def test_reproduce_gives_the_same_bytes(street: SimpleNamespace) -> None:
    """The second training of the first version is the first."""
    assert reproduce(street.shop, "flights", "delay", 1).verdict == "identical"


def test_overview_says_it_in_a_sentence(street: SimpleNamespace) -> None:
    """What the first page shows agrees with what happened."""
    seen = street.shop.call(GetOverview(project="flights", environment="prod"))
    assert seen.sentence.startswith("Version 1 serves all traffic.")
    assert seen.stations[0].name == "Data"
    assert seen.virtual
    assert len(seen.quality) >= 4


def test_the_first_training_had_nothing_to_compare_values_with(street: SimpleNamespace) -> None:
    """No champion yet: the run says so, of each of its datasets."""
    shop = street.shop
    version = shop.call(GetModelVersion(project="flights", model="delay", number=1))
    tags = shop.call(GetRun(project="flights", run_id=version.run_id)).tags
    for dataset in ("flights", "outcomes", "weather"):
        assert tags[f"data.{dataset}"] == f"go: Values of {dataset} were not compared: no reference yet, delay has no champion."


def test_unattended_actors_are_recorded_as_such(street: SimpleNamespace) -> None:
    """The approval was a named policy's, and the chain of events verifies."""
    granted = street.shop.call(ListEvents(project="flights", type="treadle.approval.decided", limit=50)).items
    assert {"demo-policy", "staging-policy"} == {event.actor.removeprefix("policy:") for event in granted}
    assert street.shop.call(VerifyAudit()).intact


def test_a_candidate_of_shuffled_labels_stops_at_the_gate(street: SimpleNamespace) -> None:
    """It is trained, measured beside the champion on the same rows, registered as rejected, and released nowhere."""
    version = _candidate(street, SHUFFLED, {"tr.fit_lightgbm(train,": "tr.fit_lightgbm(shuffled(train),"})
    assert version.state == VersionState.rejected
    _value_skew_is_recorded_and_did_not_halt(street, version.run_id)
    failed = {gate.gate.split("(")[0].split()[0] for gate in version.gates if not gate.passed}
    assert failed, version.gates
    assert all(r.to_version != version.number for r in _releases(street))


def test_a_candidate_that_harms_is_stopped_in_its_canary(street: SimpleNamespace) -> None:
    """A gate that asks too little lets it through; the canary does not, and the champion has served all along."""
    version = _candidate(
        street,
        INVERTED,
        {
            "tr.fit_lightgbm(train,": "tr.fit_lightgbm(inverted(train),",
            "refit=rows": "refit=inverted(rows)",
            "gates=[": "gates=[tr.gates.at_least('roc_auc', 0.0)] or [",
        },
    )
    assert version.state != VersionState.rejected
    street.replay.run(FIRST_DAYS, LATER)
    release = next(r for r in _releases(street) if r.to_version == version.number)
    assert release.state == ReleaseState.stopped, release
    assert "brier" in release.reason
    card = street.shop.call(GetCard(project="flights", model="delay", number=version.number))
    trial = next(s for s in card.sections if s.key == "trials").tables[0].rows
    assert [(row[0], row[1], row[5], row[7]) for row in trial] == [("prod", "1", "stopped", release.reason)]
    serving = json.loads(sorted((street.shop.layout.gateway("flights", "prod").snapshots).iterdir())[-1].read_text())
    assert serving["endpoints"][0]["champion"]["model_version"] == 1
    assert serving["endpoints"][0]["challenger"] is None


def test_who_answers_is_decided_by_virtual_time_alone(street: SimpleNamespace) -> None:
    """No request was served by a generation that had been replaced before its moment, however slow the gateway was to load the next."""
    layout = street.shop.layout.gateway("flights", "prod")
    kept = [snapshots.read(layout, number) for number in reversed(snapshots.generations(layout))]
    published = pl.DataFrame({"published": [s.published for s in kept], "expected": [s.generation for s in kept]})
    published = published.with_columns(pl.col("published").dt.cast_time_unit("us")).sort("published", "expected")
    rows = verify.logged(street.shop.layout, "flights", "prod", "delay").filter(pl.col("event_time") >= FIRST_DAYS).sort("event_time")
    seen = rows.join_asof(published.unique("published", keep="last").sort("published"), left_on="event_time", right_on="published")
    assert seen["generation"].n_unique() == 2  # the canary, and after it was stopped
    assert seen.filter(pl.col("generation") != pl.col("expected")).height == 0


def _value_skew_is_recorded_and_did_not_halt(street: SimpleNamespace, run_id: str) -> None:
    """The days since the champion's training were compared with its own rows; each decision stands with its evidence."""
    shop = street.shop
    detail = shop.call(GetRun(project="flights", run_id=run_id))
    told = {e.payload["dataset"]: e.payload for e in shop.call(ListEvents(project="flights", type="treadle.data.skewed")).items}
    assert set(told) <= {"flights", "outcomes", "weather"}
    assert told["weather"]["decision"] == "retrain"
    assert told["weather"]["run_id"] == run_id
    assert told["weather"]["reference_of"] == "delay@1"
    moved = {s["column"]: s for s in told["weather"]["shifts"] if s["value"] > s["threshold"]}
    assert moved
    for column, shift in moved.items():
        assert shift["measure"] == "psi"
        assert detail.metrics[f"shift.weather.{column}"] == shift["value"]
        assert column in detail.tags["data.weather"]
    # Five days have not all weekdays; the schedule of a day is what it was.
    assert detail.tags["data.flights"].startswith("retrain: weekday psi ")
    assert detail.metrics["shift.flights.minute_of_day"] < 0.25


def _candidate(street: SimpleNamespace, more: str, changes: dict[str, str]):
    """Train with a changed definition file; the version it gave."""
    shop, path = street.shop, Path(street.project) / "loop.py"
    before = path.read_text()
    text = before.replace("# ── how a model is made", more + "\n# ── how a model is made")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    try:
        definitions = load(street.project).sealed(shop.blobs)
    finally:
        path.write_text(before)
    for environment in ("staging", "prod"):
        base = digest_of(shop.call(GetApplied(project="flights", environment=environment)))
        shop.call(ApplyProject(project="flights", environment=environment, definitions=definitions, base=base))
    run_id, now = new_id("run"), shop.clock.now()
    shop.call(SubmitRun(project="flights", pipeline="delay_model", run_id=run_id, environment="prod", params={"until": now.isoformat()}))
    shop.clock.advance_to(now + dt.timedelta(hours=1))  # what the pipeline declares that a training takes
    street.loop.turn(shop.clock.now())
    steps = shop.call(ListSteps(project="flights", run_id=run_id))
    assert all(step.state in ("finished", "cached") for step in steps), steps
    version = shop.call(ListModelVersions(project="flights", model="delay")).items[0]
    assert version.run_id == run_id
    return version


def _releases(street: SimpleNamespace):
    return street.shop.call(ListReleases(project="flights", environment="prod", limit=50))
