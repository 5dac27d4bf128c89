"""Registered models as things of their own: unsealed versions, tags, stages, search, comparison, deletion and what forbids it."""

import datetime as dt
import itertools

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from registry_house import ANA, BEN, NOW, House
from sqlalchemy import insert

from treadle.operations import registry as ops
from treadle.records.errors import TreadleError
from treadle.records.models import GateResult
from treadle.records.states import VersionState
from treadle.registry import service as registry
from treadle.store import migrate
from treadle.store import tables as t
from treadle.store.db import Database
from treadle.store.queries import models
from treadle.store.queries import registry as registry_queries
from treadle.store.upsert import insert_new

P = "flights"


@pytest.fixture
def house(database, tmp_path):
    return House(database, tmp_path / "blobs")


def code_of(call, *args, **named):
    with pytest.raises(TreadleError) as caught:
        call(*args, **named)
    return caught.value.code


def create(house, model="churn", **changes):
    given = {"run_id": "r1", "source": "runs:/r1/model", "create": True, **changes}
    return house(ops.CreateVersion(project=P, model=model, **given))


def test_a_model_is_made_described_found_and_deleted(house):
    made = house(ops.CreateModel(project=P, model="Churn model", description="who leaves", tags={"team": "crm"}))
    assert (made.model, made.tags, made.versions, made.latest) == ("Churn model", {"team": "crm"}, 0, [])
    assert code_of(house, ops.CreateModel(project=P, model="Churn model")) == "conflict"
    changed = house(ops.UpdateModel(project=P, model="Churn model", description="leavers", tags={"a b": "x"}, remove_tags=["team"]))
    assert (changed.description, changed.tags) == ("leavers", {"a b": "x"})
    assert changed.updated > made.updated
    assert house(ops.UpdateModel(project=P, model="Churn model", tags={"a b": "x"})) == changed  # nothing changed, no event
    assert house(ops.DeleteModel(project=P, model="Churn model")).versions == []
    assert code_of(house, ops.GetModel(project=P, model="Churn model")) == "not_found"
    assert [e[0] for e in house.events()] == ["treadle.model.created", "treadle.model.changed", "treadle.model.deleted"]


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "x" * 201, "a\x00b", "a\u202eb", "..", " a"])
def test_names_that_are_none(house, name):
    assert code_of(house, ops.CreateModel(project=P, model=name)) == "bad_request"
    assert code_of(house, ops.CreateVersion(project=P, model=name, run_id="r", create=True)) == "bad_request"


def test_an_unsealed_version_is_kept_and_not_released(house):
    house.apply("prod")
    version = create(house, "delay", tags={"kind": "tree"}, metrics={"auc": 0.8})
    assert (version.number, version.state, version.bundle_digest, version.sealed) == (1, "candidate", "", False)
    with pytest.raises(TreadleError, match="no sealed bundle") as caught:
        house.ask(1)
    assert "seal delay@1" in caught.value.remedy
    with pytest.raises(TreadleError) as caught:
        house(ops.MoveVersion(project=P, model="delay", number=1, state="approved"))
    bundle = house.bundle("r1")
    sealed = house(ops.SealVersion(project=P, model="delay", number=1, bundle_digest=bundle))
    assert (sealed.state, sealed.bundle_digest) == ("validated", bundle)
    assert house(ops.SealVersion(project=P, model="delay", number=1, bundle_digest=bundle)) == sealed
    assert code_of(house, ops.SealVersion(project=P, model="delay", number=1, bundle_digest=house.bundle("r2"))) == "conflict"
    house.decide(house.ask(1).approval_id)
    assert house.version(1).state == "approved"
    failed = create(house, "delay", run_id="r7")
    gates = (GateResult(gate="g", passed=False, text="no"),)
    rejected = house(ops.SealVersion(project=P, model="delay", number=failed.number, bundle_digest=house.bundle("r7"), gates=gates))
    assert rejected.state == "rejected"
    other = create(house, "delay", run_id="r1")
    assert code_of(house, ops.SealVersion(project=P, model="delay", number=other.number, bundle_digest=bundle)) == "conflict"
    foreign = house.bundle("r1", model="other")
    assert code_of(house, ops.SealVersion(project=P, model="delay", number=other.number, bundle_digest=foreign)) == "bad_request"


@pytest.mark.parametrize(
    "source",
    [
        "http://169.254.169.254/latest",
        "s3://bucket/../model",
        "s3://user@evil.example/model",
        "https://models.example/m",
        "file:///etc/passwd",
        "file://host/share",
        "/etc/passwd",
        "C:/model",
        "mlflow-artifacts://evil.example/1/r/artifacts",
        "mlflow-artifacts:/1/../../x",
        "mlflow-artifacts:/1/%252e%252e/x",
        "runs:/r1/../../x",
        "runs:/r1/a\\..\\b",
        "models:/",
        "dummy-source",
        "runs:/r1/" + "x" * 3000,
        "runs:/r1/\x00",
    ],
)
def test_sources_that_lead_elsewhere(house, source):
    assert code_of(create, house, source=source) == "bad_request"


def test_a_version_of_nothing_and_of_what_is_not_there(house):
    assert code_of(house, ops.CreateVersion(project=P, model="churn", run_id="r")) == "not_found"
    assert code_of(create, house, run_id="", source="") == "bad_request"
    assert code_of(create, house, model_id="m-0") == "not_found"
    assert code_of(create, house, source="models:/churn/7") == "not_found"
    prompt = create(house, source="dummy-source", tags={"mlflow.prompt.is_prompt": "true"})
    assert prompt.source == "dummy-source"


def test_a_version_of_a_run_takes_its_metrics(house):
    of = {"project": P, "run_id": "r1", "name": "auc", "experiment": "0", "created": NOW}
    house.database.write(lambda tx: insert_new(tx, t.latest_metrics, {**of, "step": 0, "time": NOW, "value": 0.75}))
    house.database.write(lambda tx: tx.execute(insert(t.runs), _run("r1")))
    assert create(house).metrics == {"auc": 0.75}
    copy = create(house, model="copy", run_id="", source="models:/churn/1")
    assert (copy.run_id, copy.source) == ("r1", "models:/churn/1")
    answer = house(ops.DownloadVersion(project=P, model="copy", number=1))
    assert (answer.uri, answer.downloads) == ("runs:/r1/model", 1)
    assert house(ops.GetModelVersion(project=P, model="copy", number=1)).downloads == 1
    with pytest.raises(TreadleError, match="copy@1 is a copy of it"):
        house(ops.DeleteVersion(project=P, model="churn", number=1))


def _run(run_id):
    text = ("experiment", "pipeline", "environment", "definition_digest", "project_digest", "code_digest", "environment_digest")
    row = {"project": P, "run_id": run_id, "state": "finished", "params": {}, "reason": {}, "actor": "ana", **dict.fromkeys(text, "")}
    return {**row, "event_time": NOW, "recorded_time": NOW, "created": NOW}


def test_a_bundle_is_laid_out_for_whoever_loads_it(house):
    version = house.register()
    answer = house(ops.DownloadVersion(project=P, model="delay", number=1))
    assert answer.uri == f"mlflow-artifacts:/bundles/{version.bundle_digest}"
    assert house(ops.DownloadVersion(project=P, model="delay", number=1)).downloads == 2
    with house.database.read() as connection:
        paths = [row.path for row in connection.execute(t.artifacts.select())]
    assert f"bundles/{version.bundle_digest}/MLmodel" in paths


def test_tags_stages_pins_and_descriptions(house):
    create(house)
    create(house)
    tagged = house(ops.SetVersionTags(project=P, model="churn", number=1, tags={"a": "1", "b": ""}))
    assert tagged.tags == {"a": "1", "b": ""}
    assert house(ops.SetVersionTags(project=P, model="churn", number=1, remove=["a", "zz"])).tags == {"b": ""}
    described = house(ops.UpdateVersion(project=P, model="churn", number=1, description="first", pinned=True))
    assert (described.description, described.pinned) == ("first", True)
    with pytest.raises(TreadleError, match="churn@1 is pinned"):
        house(ops.DeleteVersion(project=P, model="churn", number=1))
    house(ops.SetStage(project=P, model="churn", number=1, stage="production"))
    moved = house(ops.SetStage(project=P, model="churn", number=2, stage="Production", archive_others=True))
    assert (moved.stage, house(ops.GetModelVersion(project=P, model="churn", number=1)).stage) == ("Production", "Archived")
    assert {v.stage: v.number for v in house(ops.GetModel(project=P, model="churn")).latest} == {"Archived": 1, "Production": 2}
    assert code_of(house, ops.SetStage(project=P, model="churn", number=1, stage="weird")) == "bad_request"
    assert code_of(house, ops.SetStage(project=P, model="churn", number=1, stage="Archived", archive_others=True)) == "bad_request"
    assert moved.previous == 1


def test_a_container_image_is_named_by_its_digest_and_finds_its_version(house):
    create(house)
    create(house)
    image = f"registry.example.org:5000/team/churn@sha256:{'9f' * 32}"
    house(ops.SetVersionTags(project=P, model="churn", number=2, tags={"treadle.image": image}))
    found = house(ops.SearchVersions(project=P, filter=f"tags.`treadle.image` = '{image}'")).items
    assert [v.number for v in found] == [2]
    overview = house(ops.GetCard(project=P, model="churn", number=2)).sections[0]
    assert {f.name: f.text for f in overview.fields}["container image"] == image
    for bad in ("churn", "churn:1.4", "churn@sha256:9f", f"churn@sha256:{'9F' * 32}", f" churn@sha256:{'9f' * 32}", ""):
        with pytest.raises(TreadleError, match="by its digest") as caught:
            house(ops.SetVersionTags(project=P, model="churn", number=1, tags={"treadle.image": bad}))
        assert "RepoDigests" in caught.value.remedy
    assert house(ops.GetModelVersion(project=P, model="churn", number=1)).tags == {}


def test_numbers_are_not_given_twice(house):
    for _ in range(3):
        create(house)
    assert house(ops.DeleteVersion(project=P, model="churn", number=3, preview=True)).kept == []
    house(ops.DeleteVersion(project=P, model="churn", number=3))
    assert create(house).number == 4
    house(ops.DeleteModel(project=P, model="churn"))
    assert create(house).number == 5


def test_renaming_takes_everything_along(house):
    create(house, tags={"a": "b"})
    house(ops.SetAlias(project=P, model="churn", alias="best", number=1))
    house(ops.UpdateModel(project=P, model="churn", tags={"t": "u"}))
    house(ops.AddComment(project=P, comment_id="c1", subject="model/churn/1", text="hm"))
    house(ops.CreateModel(project=P, model="taken"))
    assert code_of(house, ops.RenameModel(project=P, model="churn", name="taken")) == "conflict"
    assert code_of(house, ops.RenameModel(project=P, model="churn", name="a/b")) == "bad_request"
    renamed = house(ops.RenameModel(project=P, model="churn", name="leavers"))
    assert (renamed.aliases, renamed.tags, renamed.newest) == ({"best": 1}, {"t": "u"}, 1)
    assert house(ops.ResolveAlias(project=P, model="leavers", alias="best")).tags == {"a": "b"}
    assert [c.text for c in house(ops.ListComments(project=P, subject="model/leavers/1"))] == ["hm"]
    assert code_of(house, ops.GetModel(project=P, model="churn")) == "not_found"
    assert house(ops.SearchVersions(project=P, filter="tags.a = 'b'")).items[0].model == "leavers"
    assert create(house, "leavers").number == 2
    house.apply("prod")
    house.register()
    with pytest.raises(TreadleError, match="the endpoint delay is defined on it in prod"):
        house(ops.RenameModel(project=P, model="delay", name="late"))
    with pytest.raises(TreadleError, match="the endpoint delay is defined on it in prod"):
        house(ops.DeleteModel(project=P, model="delay"))


def test_aliases_that_an_endpoint_follows_are_asked_for(house):
    create(house)
    free = house(ops.SetAlias(project=P, model="churn", alias="champion", number=1))  # no endpoint serves this model
    assert free.aliases == ("champion",)
    assert house(ops.DeleteAlias(project=P, model="churn", alias="champion")).aliases == {}
    house.apply("prod")
    house.register()
    for alias in ("champion", "challenger", "champion.prod"):
        for request in (
            ops.SetAlias(project=P, model="delay", alias=alias, number=1),
            ops.DeleteAlias(project=P, model="delay", alias=alias),
        ):
            with pytest.raises(TreadleError, match="follow") as caught:
                house(request)
            assert caught.value.code == "denied"
            assert "treadle models ask delay@" in caught.value.remedy
            assert "treadle approve delay@" in caught.value.remedy
            assert "treadle release start delay --version" in caught.value.remedy
            assert "--env prod" in caught.value.remedy
    house.tx(registry.move_alias, alias="champion", number=1, environment="prod")
    with pytest.raises(TreadleError, match=r"follows the alias 'champion\.prod'"):
        house(ops.DeleteVersion(project=P, model="delay", number=1))
    kinds = {u.kind for u in house(ops.GetUses(project=P, model="delay", number=0))}
    assert kinds == {"endpoint", "alias"}


def test_search_for_models(house):
    for i in range(12):
        house(ops.CreateModel(project=P, model=f"Model{i:02}", tags={"even": str(i % 2 == 0)}))

    def names(filter="", **changes):
        found, page = [], None
        while True:
            answer = house(ops.SearchModels(project=P, filter=filter, limit=5, page=page, **changes))
            found += [m.model for m in answer.items]
            page = answer.page.next
            if page is None:
                return found

    everything = [f"Model{i:02}" for i in range(12)]
    assert names() == everything
    assert names(order_by=["name DESC"]) == everything[::-1]
    assert names(order_by=["last_updated_timestamp DESC"]) == everything[::-1]
    assert names("name LIKE '%1'") == ["Model01", "Model11"]
    assert names("name LIKE 'model%'") == []
    assert names("name ILIKE 'model%'") == everything
    assert names("name IN ('Model01', 'x')") == ["Model01"]
    assert names("tags.even = 'True' AND name != 'Model00'") == everything[2::2]
    assert names("tags.nope IS NULL and name = 'Model03'") == ["Model03"]
    assert names(without_tag="even") == []
    for bad in (
        "name = ",
        "name = 3",
        "foo.x = 'a'",
        "name = 'a' OR name = 'b'",
        "nope = 'a'",
        "name > 'a'",
        "'; DROP TABLE models",
        "name = 'a' name",
    ):
        assert code_of(house, ops.SearchModels(project=P, filter=bad)) == "bad_request", bad
    for order in ("nope", "name sideways", "tags.even"):
        assert code_of(house, ops.SearchModels(project=P, order_by=[order])) == "bad_request"
    for page in ("x", "eyJvZmZzZXQiOiAxfQ==", "WzFd", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OV0="):
        assert code_of(house, ops.SearchModels(project=P, page=page)) == "bad_request"


def test_the_best_by_a_metric(house):
    for i, auc in enumerate((0.7, 0.9, 0.8)):
        create(house, metrics={"auc": auc, "val/loss": i / 10}, run_id=f"r{i}")
    create(house, metrics={})
    create(house, model="other", metrics={"auc": 0.99})

    def numbers(filter="name = 'churn'", *order, limit=2):
        found, page = [], None
        while True:
            answer = house(ops.SearchVersions(project=P, filter=filter, order_by=list(order), limit=limit, page=page))
            found += [v.number for v in answer.items]
            page = answer.page.next
            if page is None:
                return found

    assert numbers("name = 'churn'", "metrics.auc DESC") == [2, 3, 1, 4]
    assert numbers("name = 'churn'", "metrics.auc ASC") == [1, 3, 2, 4]
    assert numbers("metrics.auc > 0.75 and name = 'churn'") == [3, 2]
    assert numbers("metrics.`val/loss` <= 0.1", "version_number ASC") == [1, 2]
    assert numbers("run_id IN ('r0', 'r2') AND name = 'churn'") == [3, 1]
    assert numbers("source_path = 'runs:/r1/model' AND name = 'churn'") == [4, 3, 2, 1]
    assert numbers("state = 'candidate' AND version_number >= 3") == [4, 3]
    best = house(ops.SearchVersions(project=P, order_by=["metrics.auc DESC"], limit=1)).items[0]
    assert (best.model, best.number) == ("other", 1)


def test_two_versions_side_by_side(house):
    house.register()
    changed = msgspec.structs.replace(house.register("run_2"), number=2)
    house(ops.SetVersionTags(project=P, model="delay", number=2, tags={"kind": "forest"}))
    whole = house(ops.CompareVersions(project=P, model="delay", left=1, right=2))
    metric = next(i for i in whole.items if (i.section, i.name) == ("metrics", "roc_auc"))
    assert (metric.left, metric.right, metric.same, metric.change) == (0.7, 0.7, True, 0.0)
    assert any(i.section == "environment" and i.name == "numpy" and i.left == "2.0" for i in whole.items)
    only = house(ops.CompareVersions(project=P, model="delay", left=1, right=2, differences=True))
    assert {(i.section, i.name) for i in only.items} >= {("facts", "run"), ("tags", "kind")}
    assert not any(i.same for i in only.items)
    assert changed.number == 2
    create(house, "delay", metrics={"loss": 1.5})
    mixed = house(ops.CompareVersions(project=P, model="delay", left=1, right=3, differences=True))
    assert next(i for i in mixed.items if i.name == "sealed").right is False


def test_questions_expire(house):
    house.apply("prod", approval_within_s=3600)
    house.register()
    asked = house.ask(1)
    assert asked.expires == NOW + dt.timedelta(hours=1)
    late = NOW + dt.timedelta(hours=2)

    def then(request, actor=BEN):
        return house.dispatch(request, actor=actor, event_time=late)

    assert then(ops.GetApproval(project=P, approval_id=asked.approval_id)).state == "expired"
    assert then(ops.ListApprovals(project=P)) == []
    assert [a.state for a in then(ops.ListApprovals(project=P, state="expired"))] == ["expired"]

    def refused():
        with pytest.raises(TreadleError, match="has expired at 2013-03-01 01:00 UTC") as caught:
            then(ops.DecideApproval(project=P, approval_id=asked.approval_id, grant=True))
        return caught.value.code, caught.value.remedy

    told = ("conflict", "Ask again: treadle models ask delay@1 --env prod")
    assert refused() == told
    assert house.registry.tick(NOW) == 0
    assert house.registry.tick(late) == 1
    assert house.registry.tick(late) == 0
    assert refused() == told  # the same once it is written down
    assert ("treadle.approval.expired", "model/delay/1", "prod") in house.events()
    again = then(ops.RequestApproval(project=P, approval_id="again", environment="prod", subject="model/delay/1", question="?"), ANA)
    assert again.state == "waiting"
    assert house.decide("again").state == "granted"


def test_a_question_goes_with_what_it_asks_about(house):
    """Else it would wait for ever: nobody can answer it."""
    for number, gone in enumerate(
        (
            ops.MoveVersion(project=P, model="delay", number=1, state="rejected", reason="worse at JFK"),
            ops.MoveVersion(project=P, model="delay", number=2, state="archived"),
            ops.DeleteVersion(project=P, model="delay", number=3),
        ),
        start=1,
    ):
        house.register(f"run_{number}")
        asked = [house.ask(number, environment) for environment in ("staging", "prod")]
        house(gone)
        after = [house(ops.GetApproval(project=P, approval_id=a.approval_id)) for a in asked]
        assert [(str(a.state), a.decided_by) for a in after] == [("withdrawn", "ana")] * 2
        assert house(ops.ListApprovals(project=P)) == []
        assert [e for e in house.events() if e[0] == "treadle.approval.withdrawn" and e[1] == f"model/delay/{number}"] != []
        with pytest.raises(TreadleError, match="was withdrawn by ana"):
            house.decide(asked[0].approval_id)
    assert "worse at JFK" in house(ops.GetApproval(project=P, approval_id="apr_prod_1")).comment
    house.register("run_4")
    house.ask(4)
    house(ops.DeleteModel(project=P, model="delay"))
    assert house(ops.ListApprovals(project=P)) == []


def test_an_old_question_about_what_is_gone_is_refused_and_not_granted(house):
    for run in ("run_1", "run_2"):
        house.register(run)
    for number in (1, 2):
        house.ask(number)
    house.database.write(lambda tx: models.delete_version(tx, P, "delay", 1))
    house.database.write(lambda tx: registry_queries.set_state(tx, P, "delay", 2, VersionState.rejected))
    for number, code in ((1, "not_found"), (2, "conflict")):
        assert code_of(house.decide, f"apr_prod_{number}") == code
        assert house.decide(f"apr_prod_{number}", grant=False).state == "refused"


def test_a_question_is_taken_back_by_who_asked(house):
    house.register()
    asked = house.ask(1)
    take_back = ops.WithdrawApproval(project=P, approval_id=asked.approval_id, reason="the slices were of last year")
    with pytest.raises(TreadleError, match="ana asked for") as caught:
        house(take_back, BEN)
    assert (caught.value.code, caught.value.remedy) == (
        "denied",
        f"Whoever may approve can refuse it: treadle reject {asked.approval_id}",
    )
    done = house(take_back)
    assert (str(done.state), done.comment) == ("withdrawn", "the slices were of last year")
    assert house(take_back) == done
    with pytest.raises(TreadleError, match="was withdrawn by ana"):  # there is nothing left that he could refuse
        house(take_back, BEN)
    assert ("treadle.approval.withdrawn", f"approval/{asked.approval_id}", "") in [(e[0], e[1], "") for e in house.events()]
    with pytest.raises(TreadleError, match="was withdrawn by ana at 2013-03-01 00:00 UTC") as caught:
        house.decide(asked.approval_id)
    assert "treadle models ask delay@1 --env prod" in caught.value.remedy
    assert house.ask(1, approval_id="again").state == "waiting"
    house.decide("again")
    assert code_of(house, ops.WithdrawApproval(project=P, approval_id="again")) == "conflict"


def test_what_is_approved_is_not_asked_about_anew(house):
    house.register()
    house.ask(1)
    granted = house.decide("apr_prod_1")
    assert house.ask(1, approval_id="again") == granted
    assert house.ask(1, "staging").state == "waiting"
    with pytest.raises(TreadleError, match="of delay@1 in prod was granted by ben at 2013-03-01 00:00 UTC") as caught:
        house.decide("apr_prod_1", grant=False)
    assert "treadle models move delay@1 rejected" in caught.value.remedy


def test_papers_that_are_missing_block_an_approval(house):
    house.apply("prod", documents=("intended_use", "limits"))
    house.register()
    asked = house.ask(1)
    with pytest.raises(TreadleError, match="intended_use, limits") as caught:
        house.decide(asked.approval_id)
    assert caught.value.details == {"missing_documents": ["intended_use", "limits"]}
    house(ops.UpdateCard(project=P, model="delay", sections={"intended_use": "To warn passengers."}))
    with pytest.raises(TreadleError, match="lacks: limits"):
        house.decide(asked.approval_id)
    house(ops.UpdateCard(project=P, model="delay", number=1, sections={"limits": "Not for cargo."}))
    assert house.decide(asked.approval_id).state == "granted"


def test_a_review_falls_due_once(house):
    house.register()
    house(ops.UpdateVersion(project=P, model="delay", number=1, review_due=NOW))
    assert house.registry.tick(NOW - dt.timedelta(seconds=1)) == 0
    assert house.registry.tick(NOW) == 1
    assert house.registry.tick(NOW) == 0
    assert ("treadle.model.review_due", "model/delay/1", "") in house.events()
    house(ops.UpdateVersion(project=P, model="delay", number=1, review_due=NOW + dt.timedelta(days=90)))
    assert house.registry.tick(NOW + dt.timedelta(days=91)) == 1


def test_comments_on_what_there_is(house):
    house.register()
    asked = house.ask(1)
    said = house(ops.AddComment(project=P, comment_id="c1", subject=f"approval/{asked.approval_id}", text="who tested it?"))
    assert house(ops.AddComment(project=P, comment_id="c1", subject=said.subject, text=said.text)) == said
    assert code_of(house, ops.AddComment(project=P, comment_id="c1", subject=said.subject, text="other")) == "conflict"
    assert house(ops.ListComments(project=P, subject=said.subject)) == [said]
    assert code_of(house, ops.AddComment(project=P, comment_id="c2", subject="approval/nope", text="x")) == "not_found"
    assert code_of(house, ops.AddComment(project=P, comment_id="c2", subject="model/delay/9", text="x")) == "not_found"
    assert code_of(house, ops.AddComment(project=P, comment_id="c2", subject="nothing", text="x")) == "bad_request"
    assert code_of(house, ops.AddComment(project=P, comment_id="c2", subject="run/x", text=" ")) == "bad_request"


class Machine(RuleBasedStateMachine):
    """Versions come, get names, go: numbers only rise, an alias names what is there, a pinned version stays."""

    @initialize()
    def open(self):
        self.database = Database.open(f"sqlite:///{self.root / f'{next(self.counter)}.db'}")
        migrate.ensure(self.database)
        self.house = House(self.database, self.root / "blobs")
        self.there: dict[int, bool] = {}  # number → pinned
        self.aliases: dict[str, int] = {}
        self.last, self.name = 0, "m0"

    def teardown(self):
        if hasattr(self, "database"):
            self.database.close()

    @rule()
    def register(self):
        version = create(self.house, self.name)
        assert version.number == self.last + 1
        assert version.previous == max(self.there, default=None)
        self.last = version.number
        self.there[version.number] = False

    @precondition(lambda self: self.there)
    @rule(data=st.data(), alias=st.sampled_from(["a", "b", "champion"]))
    def call(self, data, alias):
        number = data.draw(st.sampled_from(sorted(self.there)))
        self.house(ops.SetAlias(project=P, model=self.name, alias=alias, number=number))
        self.aliases[alias] = number

    @precondition(lambda self: self.there)
    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data, pinned):
        number = data.draw(st.sampled_from(sorted(self.there)))
        self.house(ops.UpdateVersion(project=P, model=self.name, number=number, pinned=pinned))
        self.there[number] = pinned

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def delete(self, data):
        number = data.draw(st.sampled_from(sorted(self.there)))
        if self.there[number]:
            assert code_of(self.house, ops.DeleteVersion(project=P, model=self.name, number=number)) == "conflict"
            return
        self.house(ops.DeleteVersion(project=P, model=self.name, number=number))
        del self.there[number]
        self.aliases = {k: v for k, v in self.aliases.items() if v != number}

    @precondition(lambda self: self.last)
    @rule(name=st.sampled_from(["m0", "m1", "m2"]))
    def rename(self, name):
        self.house(ops.RenameModel(project=P, model=self.name, name=name))
        self.name = name

    @precondition(lambda self: self.last)
    @rule()
    def look(self):
        model = self.house(ops.GetModel(project=P, model=self.name))
        assert model.aliases == self.aliases
        found = self.house(ops.SearchVersions(project=P, filter=f"name = '{self.name}'")).items
        assert sorted(v.number for v in found) == sorted(self.there)
        assert {a: v.number for v in found for a in v.aliases} == self.aliases


def test_models_as_a_machine(tmp_path):
    Machine.root, Machine.counter = tmp_path, itertools.count()
    run_state_machine_as_test(Machine, settings=settings(deadline=None, max_examples=10, stateful_step_count=15))
