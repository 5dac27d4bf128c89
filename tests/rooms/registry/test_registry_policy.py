"""What an environment declares, when a version is promoted in it: the next review, and older versions out of the way."""

import datetime as dt

import pytest

from treadle.operations.registry import CreateVersion, UpdateVersion
from treadle.records.calls import Call
from treadle.records.definitions import Environment, Project
from treadle.records.errors import TreadleError
from treadle.registry.moves import version_of
from treadle.registry.uses import keeping
from treadle.store.queries import workshop as queries
from treadle.testing.releases import ASKER, ENVIRONMENT, MODEL, OUTCOMES, PROJECT, START, ReleaseHome


@pytest.fixture
def home(database, tmp_path):
    made = ReleaseHome(database, tmp_path / "home")
    place = Environment(name=ENVIRONMENT, review_every_s=86_400 * 90, archive_others=True)
    definitions = Project(name=PROJECT, datasets=(OUTCOMES,), endpoints=(made.endpoint,), environments=(Environment(name="staging"), place))
    row = {"project": PROJECT, "environment": ENVIRONMENT, "digest": "", "definitions": definitions, "actor": "x"}
    database.write(lambda tx: queries.apply(tx, {**row, "event_time": START, "recorded_time": START}))
    return made


def find(home, number):
    with home.database.read() as tx:
        return version_of(tx, PROJECT, MODEL, number)


def test_promotion_sets_the_review_and_archives_the_others(home):
    for number in (1, 2, 3, 4):
        home.version(number)
    call = Call(actor=ASKER, event_time=START)
    pinned = UpdateVersion(project=PROJECT, model=MODEL, number=2, pinned=True)
    home.database.write(lambda tx: home.registry.update_version(tx, pinned, call))
    home.start(3)
    home.settle()
    assert find(home, 3).review_due >= START + dt.timedelta(days=90)
    assert [str(find(home, n).state) for n in (1, 2, 3, 4)] == ["archived", "approved", "released", "approved"]
    home.start(4)
    home.settle()
    assert [str(find(home, n).state) for n in (2, 3, 4)] == ["approved", "approved", "released"]  # 3 is what a rollback goes back to
    with home.database.read() as tx:
        assert any(reason.startswith("release ") for reason in keeping(tx, PROJECT, MODEL, 3))
        assert keeping(tx, PROJECT, MODEL, 1) == []


def test_what_is_not_sealed_is_not_released(home):
    call = Call(actor=ASKER, event_time=START)
    request = CreateVersion(project=PROJECT, model=MODEL, source="runs:/r/model", create=True)
    version = home.database.write(lambda tx: home.registry.create_version(tx, request, call))
    with pytest.raises(TreadleError, match=f"{MODEL}@{version.number} has no sealed bundle") as caught:
        home.start(version.number)
    assert caught.value.remedy == f"Seal it first: treadle models seal {MODEL}@{version.number}"
