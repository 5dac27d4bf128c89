"""What people say about data, features and labels: required where an environment says so, kept with the model, and heeded."""

import datetime as dt
import textwrap
from pathlib import Path

import polars as pl
import pytest

from treadle.operations import registry as ops
from treadle.operations.ledger import GetLineage, GetRun
from treadle.operations.pipelines import ListSteps, SubmitRun
from treadle.operations.releases import ListReleases
from treadle.operations.workshop import ApplyProject, GetApplied
from treadle.records.clock import UTC, VirtualClock
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.registry.moves import model_node
from treadle.workshop.home import Workshop, open_home
from treadle.workshop.loops import Loop
from treadle.workshop.project import load

NOW = dt.datetime(2026, 3, 1, tzinfo=UTC)
LOOP = """
import datetime as dt
import treadle as tr

visits = tr.dataset(
    "visits", time="at", key="id", owner="web", license="internal", provenance="access log of www",
    restrictions="not for pricing", only_in=ONLY_IN, description="A visit of the shop.",
)
bought = tr.label("bought", of=visits, column="bought", source="human", confidence=0.97, owner="sales", description="Paid within a day.")

@tr.feature_view(entity="customer", source=visits, owner="growth", description="How often the customer came.")
def habits():
    return {"visits_7d": tr.count("pages", over="7d", hop="1h")}

@tr.pipeline
def buyers(until: dt.datetime):
    rows = tr.training_set(visits, features=[habits], label=bought, until=until)
    train, test = tr.split_by_time(rows, test="5d", time="at")
    model = tr.fit_lightgbm(train, features=["pages", *habits.features], label="bought", params={"n_estimators": 3})
    return tr.candidate("buyers", model, tr.evaluate(model, test, metrics=["brier"]), rows=train)

lab = tr.environment("lab", auto_approve="lab-policy", four_eyes=False)
prod = tr.environment("prod", auto_approve="prod-policy", four_eyes=False, requires=["owner", "provenance", "license", "source"])
buyers_now = tr.endpoint("buyers", model="buyers", unit="id")
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    with open_home(tmp_path / "home", clock=VirtualClock(NOW)) as made:
        yield made


def project(tmp_path: Path, text: str):
    folder = tmp_path / "project"
    folder.mkdir(exist_ok=True)
    (folder / "treadle.toml").write_text('project = "shop"\n')
    (folder / "loop.py").write_text(textwrap.dedent(text))
    return load(folder)


def apply(shop: Workshop, loaded, environment: str):
    now = shop.call(GetApplied(project="shop", environment=environment))
    definitions = loaded.sealed(shop.blobs)
    base = digest_of(now) if now else ""
    return shop.call(ApplyProject(project="shop", environment=environment, definitions=definitions, base=base))


def train(shop: Workshop, loaded) -> ops.ModelVersion:
    n = 600
    rows = pl.DataFrame(
        {
            "id": [f"v{i}" for i in range(n)],
            "at": [NOW - dt.timedelta(hours=n - i) for i in range(n)],
            "customer": [f"c{i % 40}" for i in range(n)],
            "pages": [i * 7 % 23 for i in range(n)],
            "bought": [i * 7 % 23 > 11 for i in range(n)],
        }
    )
    visits = next(d for d in loaded.definitions.datasets if d.name == "visits")
    shop.data.append("shop", visits, rows, actor=shop.actor, event_time=NOW, source="rows")
    shop.call(SubmitRun(project="shop", pipeline="buyers", run_id="run_1", environment="lab", params={"until": NOW.isoformat()}))
    Loop(shop, name="test").turn(NOW)
    run = shop.call(GetRun(project="shop", run_id="run_1")).run
    assert run.state == "finished", run.error
    return shop.call(ops.GetModelVersion(project="shop", model="buyers", number=1))


def test_what_was_said_stands_with_the_model(shop: Workshop, tmp_path: Path) -> None:
    loaded = project(tmp_path, LOOP.replace("ONLY_IN", "()"))
    apply(shop, loaded, "lab")
    version = train(shop, loaded)
    card = shop.call(ops.GetCard(project="shop", model="buyers", number=1, format="md")).text
    assert "| visits | version 1 | training | 600 | 2026-03-01 | internal | web | access log of www | not for pricing |" in card
    assert "| bought | Paid within a day. | human | 0.97 | version 1 | sales |" in card
    assert "| habits | customer | visits | How often the customer came. | growth |" in card

    graph = shop.call(GetLineage(project="shop", digest=model_node("shop", "buyers", version.number)))
    nodes = {v.name: v for v in graph.versions if v.kind == "definition"}
    assert nodes["label/bought"].facts["source"] == "human"
    assert nodes["feature_view/habits"].facts["owner"] == "growth"
    roles = {(e.role, e.parent) for e in graph.edges}
    assert ("label", nodes["label/bought"].digest) in roles
    assert ("features", nodes["feature_view/habits"].digest) in roles


def test_words_change_no_step_and_no_bundle(shop: Workshop, tmp_path: Path) -> None:
    """Who owns a dataset is no input of a training: the steps come from the cache, the features from the same stream."""
    loaded = project(tmp_path, LOOP.replace("ONLY_IN", "()"))
    apply(shop, loaded, "lab")
    train(shop, loaded)
    other = project(tmp_path, LOOP.replace("ONLY_IN", '["lab"]').replace('owner="growth"', 'owner="another team"').replace("0.97", "0.5"))
    apply(shop, other, "lab")
    shop.call(SubmitRun(project="shop", pipeline="buyers", run_id="run_2", environment="lab", params={"until": NOW.isoformat()}))
    Loop(shop, name="test").turn(NOW)
    detail = shop.call(GetRun(project="shop", run_id="run_2"))
    assert detail.run.state == "finished", detail.run.error
    states = {s.name: s.state for s in shop.call(ListSteps(project="shop", run_id="run_2"))}
    assert (states["training_set"], states["fit_lightgbm"]) == ("cached", "cached")


def test_a_restriction_of_the_data_keeps_the_model_out(shop: Workshop, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded = project(tmp_path, LOOP.replace("ONLY_IN", '["lab"]'))
    apply(shop, loaded, "lab")
    apply(shop, loaded, "prod")
    train(shop, loaded)
    asked = {a.environment: a for a in shop.call(ops.ListApprovals(project="shop", state=None))}
    assert asked["lab"].state == "granted"
    assert asked["prod"].state == "waiting"  # the policy was refused, and the question stands
    with pytest.raises(TreadleError) as told:
        shop.call(ops.DecideApproval(project="shop", approval_id=asked["prod"].approval_id, grant=True))
    assert told.value.code == "denied"
    assert "dataset visits may be used in lab only (not for pricing)" in told.value.what
    assert "ask web to allow prod" in told.value.remedy
    assert told.value.details == {"restricted": ["visits"], "environment": "prod"}

    allowed = project(tmp_path, LOOP.replace("ONLY_IN", '["lab", "prod"]'))
    apply(shop, allowed, "prod")
    granted = shop.call(ops.DecideApproval(project="shop", approval_id=asked["prod"].approval_id, grant=True))
    assert granted.state == "granted"

    apply(shop, loaded, "prod")  # restricted again, before the version was released
    loop = Loop(shop, name="test")
    loop.turn(NOW)
    loop.turn(NOW)
    assert shop.call(ListReleases(project="shop", environment="prod")) == []
    assert caplog.text.count("not released: buyers@1 may not serve in prod") == 1
    apply(shop, allowed, "prod")
    loop.turn(NOW)
    assert [r.to_version for r in shop.call(ListReleases(project="shop", environment="prod"))] == [1]


def test_an_environment_says_what_must_be_said(shop: Workshop, tmp_path: Path) -> None:
    silent = LOOP.replace("ONLY_IN", "()").replace('owner="growth", ', "").replace('provenance="access log of www",', "")
    loaded = project(tmp_path, silent)
    apply(shop, loaded, "lab")  # asks for nothing
    with pytest.raises(TreadleError) as told:
        apply(shop, loaded, "prod")
    assert told.value.details["lacking"] == ["dataset visits has no provenance", "feature view habits has no owner"]
    assert shop.call(GetApplied(project="shop", environment="prod")) is None
    apply(shop, project(tmp_path, LOOP.replace("ONLY_IN", "()")), "prod")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('source="human"', 'source="rumour"', "has the source 'rumour'"),
        ("confidence=0.97", "confidence=97", "has a confidence of 97"),
        ('owner="sales"', 'owners="sales"', "has no 'owners'"),
        ('owner="web"', 'provenence="web"', "has no 'provenence'"),
        ('owner="growth"', 'team="growth"', "has no 'team'"),
        ("of=visits", 'of="visit"', "label 'bought' is a column of dataset 'visit'"),
        ("only_in=ONLY_IN", 'only_in="lap"', "'visits' may be used only in environment 'lap'"),
        ('requires=["owner"', 'requires=["owners"', "'owners': nothing has such a field"),
    ],
)
def test_bad_words_are_refused_with_theirs(tmp_path: Path, old: str, new: str, what: str) -> None:
    assert old in LOOP
    with pytest.raises(TreadleError) as told:
        project(tmp_path, LOOP.replace(old, new).replace("ONLY_IN", "()"))
    assert what in told.value.what
    assert told.value.code == "bad_definition"
