"""Applying: all or nothing, one at a time, and never past what lives."""

import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from treadle.ledger import sealer
from treadle.operations.ledger import ListEvents, VerifyAudit
from treadle.operations.registry import CreateModel
from treadle.operations.tracking import StartRun
from treadle.operations.workshop import ApplyProject, GetApplied, GetOverview, ListProjects, WhyPrediction
from treadle.records.definitions import Dataset, Endpoint, Environment, Project
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.workshop import keeping
from treadle.workshop.home import Workshop, home_path, open_home, store_url

PROJECT = Project(name="p", datasets=(Dataset(name="d"),), environments=(Environment(name="dev"),))


@pytest.fixture
def shop(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    return Workshop(Layout(tmp_path / "home"), database, LocalBlobs(tmp_path / "home/blobs"))


def apply(shop: Workshop, definitions: Project, base: str = "", **more: object):
    return shop.call(ApplyProject(project="p", environment="dev", definitions=definitions, base=base, **more))  # type: ignore[arg-type]


def test_apply_makes_it_so(shop: Workshop) -> None:
    done = apply(shop, PROJECT)
    assert digest_of(PROJECT) == done.digest
    assert PROJECT == shop.call(GetApplied(project="p", environment="dev"))
    assert [p.name for p in shop.call(ListProjects())] == ["p"]


def test_applying_the_same_again_is_no_event(shop: Workshop) -> None:
    apply(shop, PROJECT)
    apply(shop, PROJECT, base="whatever")
    with shop.database.read() as tx:
        told = shop.ledger.list_events(tx, ListEvents(project="p", newest=True), _call(shop)).items
    assert len([e for e in told if e.type == "treadle.project.applied"]) <= 1


def test_an_apply_against_an_old_plan_changes_nothing(shop: Workshop) -> None:
    apply(shop, PROJECT)
    other = replace(PROJECT, datasets=(Dataset(name="x"),))
    with pytest.raises(TreadleError) as told:
        apply(shop, other, base="")
    assert told.value.code == "conflict"
    assert "treadle plan" in told.value.remedy
    assert PROJECT == shop.call(GetApplied(project="p", environment="dev"))


def test_of_two_applies_at_once_one_wins(shop: Workshop) -> None:
    apply(shop, PROJECT)
    base = digest_of(PROJECT)
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def one(number: int) -> None:
        start.wait()
        try:
            apply(shop, replace(PROJECT, datasets=(Dataset(name=f"d{number}"),)), base=base)
            outcomes.append("applied")
        except TreadleError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["applied", "conflict", "conflict", "conflict"]


def test_definitions_of_another_project_are_refused(shop: Workshop) -> None:
    with pytest.raises(TreadleError):
        apply(shop, replace(PROJECT, name="q"))


def test_overview_of_nothing_teaches(shop: Workshop) -> None:
    with pytest.raises(TreadleError) as told:
        shop.call(GetOverview(project="p", environment="dev"))
    assert "treadle apply" in told.value.remedy


def test_overview_before_anything_serves(shop: Workshop) -> None:
    apply(shop, replace(PROJECT, endpoints=(Endpoint(name="e", model="m"),)))
    seen = shop.call(GetOverview(project="p", environment="dev"))
    assert seen.sentence.startswith("Nothing serves yet")
    assert {s.state for s in seen.stations} == {"quiet"}


def test_why_of_an_unknown_prediction(shop: Workshop) -> None:
    apply(shop, PROJECT)
    with pytest.raises(TreadleError) as told:
        shop.call(WhyPrediction(project="p", prediction_id="01m7zhwx28b1v5yzrk-78-0"))
    assert told.value.code == "not_found"


def test_a_home_remembers_its_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    with open_home(tmp_path / "home", store=elsewhere):
        pass
    assert elsewhere == store_url(Layout(tmp_path / "home"))
    assert not (tmp_path / "home" / "treadle.db").exists()


@pytest.mark.parametrize("store", ["bogus", "sqlite:///{}/empty.db"])
@pytest.mark.parametrize("first", [None, "sqlite:///{}/first.db"])
def test_a_wrong_store_leaves_a_home_with_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str, first: str | None) -> None:
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    with open_home(tmp_path / "home", store=first and first.format(tmp_path)) as home:
        apply(home, PROJECT)
    with pytest.raises(TreadleError):
        open_home(tmp_path / "home", store=store.format(tmp_path))
    with open_home(tmp_path / "home") as home:
        assert [p.name for p in home.call(ListProjects())] == ["p"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_copy_and_its_home_go_separate_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool) -> None:
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    old, new = Layout(tmp_path / "old"), Layout(tmp_path / "new")
    address = f"sqlite:///{tmp_path / 'elsewhere.db'}" if elsewhere else None
    with open_home(old.root) as home:
        tell(home, "first")
        keeping.backup(home, tmp_path / "copy")
        tell(home, "later")
    told = keeping.restore(tmp_path / "copy", new, address)
    assert told["later_events"] > 0
    assert new.database.exists() is not elsewhere
    with open_home(new.root) as home:
        report = home.call(VerifyAudit())
        assert 0 < report.published_seq == report.sealed
    for layout in (new, old):
        with open_home(layout.root) as home:
            tell(home, layout.root.name)
    for layout in (old, new):
        with open_home(layout.root) as home:
            assert home.call(VerifyAudit()).problems == []


def tell(home: Workshop, model: str) -> None:
    home.call(CreateModel(project="p", model=model))
    sealer.seal_all(home.database, publish=home.ledger.heads)


def test_home_path_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "told"))
    assert tmp_path / "told" == home_path()
    assert tmp_path / "given" == home_path(tmp_path / "given")


def _call(shop: Workshop):
    from treadle.records.calls import Call

    return Call(actor=shop.actor, event_time=shop.clock.now())


def test_projects_that_scripts_log_to_are_listed_and_the_default_experiment_alone_is_none(shop):
    shop.call(StartRun(project="logged", run_id="r"))
    shop.call(CreateModel(project="modelled", model="m"))
    assert [(p.name, p.environments) for p in shop.call(ListProjects())] == [("logged", []), ("modelled", [])]
