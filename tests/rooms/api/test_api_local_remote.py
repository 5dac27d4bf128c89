"""Every operation, asked in process and over HTTP, gives the same answer and the same error.

Two homes live through the same script: one is called directly, the other through a server. What must differ (recorded times, random
event ids, secrets, hashes over them) is blanked; all the rest is compared. Every write is sent twice, so a retry that changed
something would show in all that follows.
"""

import datetime as dt
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn

from treadle.api.app import build_app
from treadle.api.server import bind
from treadle.client import Client
from treadle.ledger.sealer import seal
from treadle.operations import data, diagnosis, ledger, monitoring, operations, pipelines, registry, releases, tracking, webhooks
from treadle.operations import workshop as whole
from treadle.records.calls import Role
from treadle.records.definitions import Column, Dataset, Endpoint, Entry, Environment, Parameter, Pipeline, Project
from treadle.records.digests import canonical, digest, digest_of
from treadle.records.errors import TreadleError
from treadle.records.ledger import Metric, Reason
from treadle.records.models import Bundle, Signature
from treadle.records.states import RunState
from treadle.records.tracking import ModelState, Point, RunInput, RunModel
from treadle.workshop import open_home

T = dt.datetime(2013, 4, 1, 6, tzinfo=dt.UTC)
P = "flights"
BLANK = {"recorded_time", "token", "hash", "head_hash", "payload_digest", "unsealed_seconds", "digests", "freed_bytes", "next", "now"} | {
    "created_time",
    "revoked_time",
    "created",
    "updated",
    "deleted",
}

DEFINITIONS = Project(
    name=P,
    datasets=(Dataset(name="flights", time="at", key=("id",), columns=(Column(name="at", dtype="datetime"),)),),
    pipelines=(
        Pipeline(
            name="train",
            entry=Entry(path="loop:train", code="c0de"),
            parameters=(
                Parameter(name="seed", annotation="int", default=7),
                Parameter(name="until", annotation="datetime.datetime | None"),
            ),
        ),
    ),
    endpoints=(Endpoint(name="delay", model="delay"),),
    environments=(Environment(name="dev", four_eyes=False),),
    code="c0de",
)


def bundle(number: int) -> bytes:
    return canonical(
        Bundle(
            format=1,
            model="delay",
            flavor="lightgbm",
            signature=Signature(inputs=()),
            views=(),
            files=(),
            onnx_equal=None,
            environment=("python==3.11",),
            python="3.11",
            code_digest="c0de",
            run_id="run_1",
            project=P,
            trained_on=("d1",),
            event_time=T,
            card={"n": number},
        )
    )


BUNDLES = [digest(bundle(n)) for n in (1, 2, 3)]
VERSION = {"delta_version": 1, "rows": 10, "added_rows": 10, "columns": (Column(name="at", dtype="datetime"),), "source": "a.csv"}
RUN = {"project": P, "run_id": "run_1"}
ENV = {"project": P, "environment": "dev"}

LOGGED = {"project": P, "run_id": "logged"}
DIGEST, SIZE = BUNDLES[0], len(bundle(1))
POINTS = [Point(key="auc", value=0.5 + s / 10, step=s, time=s * 1_000_000) for s in range(5)]
HOOK: dict[str, Any] = {"project": P, "name": "told", "events": ["registered_model.created"]}
FILE = {"project": P, "owner": "logged", "path": "plots/roc.svg"}

#: Registered models as things of their own, a part of the script.
MODELS: list[Any] = [
    registry.CreateModel(project=P, model="fare", description="what it costs", tags={"team": "ü"}),
    registry.CreateModel(project=P, model="fare"),
    registry.GetModel(project=P, model="fare"),
    registry.GetModel(project=P, model="none"),
    registry.UpdateModel(project=P, model="fare", description="price", remove_tags=["team"]),
    registry.SearchModels(project=P, filter="name LIKE 'fa%'"),
    registry.SearchModels(project=P, filter="name LIKE"),
    registry.CreateVersion(project=P, model="fare", run_id="run_1", source="runs:/run_1/model", metrics={"mae": 2.5}),
    registry.CreateVersion(project=P, model="fare", number=2, run_id="run_1", source="runs:/run_1/model"),
    registry.CreateVersion(project=P, model="fare", run_id="run_1", source="file:///etc/passwd"),
    registry.CreateVersion(project=P, model="delay", number=3, run_id="run_1", source="runs:/run_1/model"),
    registry.SealVersion(project=P, model="delay", number=3, bundle_digest=BUNDLES[2]),
    registry.SealVersion(project=P, model="fare", number=1, bundle_digest=BUNDLES[2]),
    registry.SearchVersions(project=P, filter="name = 'fare'", order_by=["metrics.mae DESC"]),
    registry.SearchVersions(project=P, filter="nothing ="),
    registry.UpdateVersion(project=P, model="fare", number=1, description="first", pinned=True),
    registry.SetVersionTags(project=P, model="fare", number=1, tags={"a": "b"}),
    registry.SetStage(project=P, model="fare", number=2, stage="Staging"),
    registry.SetStage(project=P, model="fare", number=2, stage="Nowhere"),
    registry.DownloadVersion(project=P, model="fare", number=1),
    registry.GetUses(project=P, model="fare", number=1),
    registry.CompareVersions(project=P, model="fare", left=1, right=2),
    registry.SetAlias(project=P, model="fare", alias="best", number=1),
    registry.DeleteAlias(project=P, model="fare", alias="best"),
    registry.AddComment(project=P, comment_id="c1", subject="model/fare/1", text="looks good"),
    registry.ListComments(project=P, subject="model/fare/1"),
    registry.UpdateCard(project=P, model="fare", sections={"intended_use": "fares"}),
    registry.GetCard(project=P, model="fare", number=1),
    registry.GetCard(project=P, model="fare", number=9),
    registry.DeleteVersion(project=P, model="fare", number=1),
    registry.DeleteVersion(project=P, model="fare", number=2),
    registry.RenameModel(project=P, model="fare", name="price"),
    registry.DeleteModel(project=P, model="price", preview=True),
    webhooks.CreateWebhook(
        project=P, webhook_id="w1", name="told", address="https://hooks.example.com/x", events=["registered_model.created"]
    ),
    webhooks.CreateWebhook(**HOOK, webhook_id="w2", address="http://10.0.0.1/x"),
    webhooks.GetWebhook(project=P, webhook_id="w1"),
    webhooks.ListWebhooks(project=P),
    webhooks.TryWebhook(project=P, webhook_id="w1", delivery_id="d1"),
    webhooks.TryWebhook(project=P, webhook_id="w9", delivery_id="d1"),
    webhooks.ListWebhookDeliveries(project=P),
    webhooks.ListWebhookDeliveries(project=P, state="lost"),
    webhooks.UpdateWebhook(project=P, webhook_id="w1", state="disabled"),
    webhooks.DeleteWebhook(project=P, webhook_id="w1"),
]

#: Experiment tracking, a part of the script.
TRACKING: list[Any] = [
    tracking.CreateExperiment(project=P, experiment_id="7", name="trees", folder="a/b", tags={"ü": "x"}),
    tracking.CreateExperiment(project=P, experiment_id="7", name="other"),
    tracking.CreateExperiment(project=P, experiment_id="8", name="trees"),
    tracking.GetExperiment(project=P, experiment="trees"),
    tracking.GetExperiment(project=P, experiment="none"),
    tracking.UpdateExperiment(project=P, experiment_id="7", description="of old"),
    tracking.SetExperimentTags(project=P, experiment_id="7", tags={"a": "b"}),
    tracking.SearchExperiments(project=P, filter="name = 'trees'"),
    tracking.SearchExperiments(project=P, filter="name ="),
    tracking.StartRun(**LOGGED, experiment="7", name="first", started=1_700_000_000_000_000, params={"depth": "4"}),
    tracking.StartRun(**LOGGED, experiment="8"),
    tracking.LogBatch(**LOGGED, metrics=[*POINTS, Point(key="loss", value="NaN", time=1)], params={"rate": "0.1"}, tags={"a": "ü"}),
    tracking.LogBatch(**LOGGED, params={"depth": "5"}),
    tracking.LogBatch(project=P, run_id="none", tags={"a": "b"}),
    tracking.CreateLoggedModel(project=P, model_id="m-1", experiment_id="7", name="trees", run_id="logged"),
    tracking.CreateLoggedModel(project=P, model_id="m-2", experiment_id="none"),
    tracking.UpdateLoggedModel(project=P, model_id="m-1", state=ModelState.ready, tags={"a": "b"}),
    tracking.GetLoggedModel(project=P, model_id="m-1"),
    tracking.GetLoggedModel(project=P, model_id="none"),
    tracking.SearchLoggedModels(project=P, experiments=["7"]),
    tracking.LogInputs(
        **LOGGED, inputs=[RunInput(name="d", digest="1", source="here")], models=[RunModel(model_id="m-1", role="output", step=2)]
    ),
    tracking.GetTrackedRun(**LOGGED),
    tracking.GetTrackedRun(project=P, run_id="none"),
    tracking.SearchRuns(project=P, experiments=["7"], filter="metrics.auc > 0.5"),
    tracking.SearchRunDocuments(project=P, experiments=["7"], order_by=["metrics.auc DESC"]),
    tracking.SearchInputs(project=P, experiments=["7"]),
    tracking.SearchInputs(project=P, experiments=["7"], limit=0),
    tracking.SearchRuns(project=P, filter="metrics.auc >"),
    tracking.MetricHistory(project=P, key="auc", run_ids=["logged"]),
    tracking.MetricHistory(project=P, key="auc", run_ids=[]),
    tracking.MetricColumns(**LOGGED, key="loss"),
    tracking.MetricColumns(project=P, run_id="none", key="loss"),
    diagnosis.DiagnoseRun(**LOGGED),
    diagnosis.DiagnoseRun(project=P, run_id="none"),
    diagnosis.CompareRuns(**LOGGED, since="run_1"),
    diagnosis.CompareRuns(**LOGGED, since="none"),
    tracking.PutFile(**FILE, digest=DIGEST, size=SIZE),
    tracking.PutFile(**{**FILE, "path": "../x"}, digest=DIGEST, size=SIZE),
    tracking.CheckFile(**FILE),
    tracking.GetFile(**FILE),
    tracking.GetFile(**{**FILE, "path": "none"}),
    tracking.ListFiles(project=P, owner="logged"),
    tracking.StartUpload(**{**FILE, "path": "big"}, upload_id="up_1"),
    tracking.PutPart(project=P, upload_id="up_1", number=1, digest=DIGEST, size=SIZE),
    tracking.GetUpload(project=P, upload_id="up_1"),
    tracking.CompleteUpload(project=P, upload_id="up_1", digest=DIGEST, size=SIZE),
    tracking.StartUpload(**{**FILE, "path": "big"}, upload_id="up_2"),
    tracking.AbortUpload(project=P, upload_id="up_2"),
    tracking.DeleteFiles(project=P, owner="logged", path="plots"),
    tracking.UpdateRun(**LOGGED, state=RunState.finished, name="second"),
    tracking.UpdateRun(**RUN, state=RunState.finished),
    tracking.BinLoggedModel(project=P, model_id="m-1"),
    tracking.BinRun(**LOGGED, lifecycle="deleted"),
    tracking.BinRun(**LOGGED, lifecycle="sideways"),
    tracking.BinExperiment(project=P, experiment_id="7", lifecycle="deleted"),
    tracking.SaveView(project=P, view_id="v", page="runs", name="best", query={"filter": "metrics.auc > 0.8"}),
    tracking.ListViews(project=P),
    tracking.DeleteView(project=P, view_id="v"),
    tracking.SetRetention(project=P, rule_id="r", what="binned", days=30),
    tracking.ListRetention(project=P),
    tracking.ApplyRetention(project=P),
    tracking.RemoveForGood(project=P, things=["run/logged"]),
]

#: The script, in order. A string is a thing done to the home itself.
SCRIPT: list[Any] = [
    whole.ListProjects(),
    whole.GetApplied(**ENV),
    whole.GetOverview(**ENV),
    whole.ApplyProject(**ENV, definitions=DEFINITIONS),
    whole.ApplyProject(**ENV, definitions=msgspec.structs.replace(DEFINITIONS, code="other"), base="stale"),
    whole.ApplyProject(project="other", environment="dev", definitions=DEFINITIONS),
    whole.GetApplied(**ENV),
    whole.ListProjects(),
    ledger.WhoAmI(),
    ledger.CreateActor(actor_id="ann", name="Ann", role=Role.approver),
    ledger.CreateActor(actor_id="ann", name="Another"),
    ledger.CreateActor(actor_id="no spaces", name="x"),
    ledger.ListActors(),
    ledger.IssueToken(actor_id="ann", token_id="tok_1"),
    ledger.IssueToken(actor_id="nobody", token_id="tok_2"),
    ledger.RevokeToken(actor_id="ann", token_id="tok_1"),
    ledger.RevokeToken(actor_id="ann", token_id="tok_9"),
    ledger.ListTokens(actor_id="ann"),
    ledger.ListTokens(actor_id="nobody"),
    ledger.GrantRole(actor_id="ann", role=Role.editor, in_project=P, in_environment="dev"),
    ledger.GrantRole(actor_id="ann", role=Role.admin, in_project="*", in_environment="*"),
    ledger.GrantRole(actor_id="ann", role=Role.viewer, in_project="no/name", in_environment="*"),
    ledger.GrantRole(actor_id="nobody", role=Role.viewer, in_project="*", in_environment="*"),
    ledger.ListActors(),
    ledger.RevokeGrant(actor_id="ann", in_project="*", in_environment="*"),
    ledger.RevokeGrant(actor_id="nobody", in_project="*", in_environment="*"),
    ledger.DisableActor(actor_id="ann"),
    ledger.DisableActor(actor_id="owner"),
    ledger.IssueToken(actor_id="ann", token_id="tok_3"),
    ledger.ListActors(),
    ledger.EnableActor(actor_id="ann"),
    ledger.EnableActor(actor_id="nobody"),
    ledger.CreateRun(**RUN, pipeline="train", params={"until": "2013-03-31", "x": [1, None, 2.5]}, reason=Reason(kind="demand", text="ü")),
    ledger.CreateRun(**RUN, pipeline="another"),
    ledger.CreateRun(project="no/name", run_id="r"),
    ledger.LogMetrics(**RUN, metrics=[Metric(key="val/auc", value=0.7, step=s, time=T) for s in range(5)]),
    ledger.LogMetrics(project=P, run_id="none", metrics=[Metric(key="auc", value=1.0)]),
    ledger.SetTags(**RUN, tags={"a": "b", "ü": ""}),
    ledger.SetTags(project=P, run_id="none", tags={}),
    ledger.RecordArtifact(**RUN, path="plots/roc.svg", digest=BUNDLES[0], size=3, media_type="image/svg+xml"),
    ledger.RecordArtifact(project=P, run_id="none", path="x", digest="d", size=1),
    ledger.GetMetric(**RUN, key="val/auc"),
    ledger.GetMetric(**RUN, key="val/auc", limit=2),
    ledger.GetMetric(project=P, run_id="none", key="x"),
    ledger.MoveRun(**RUN, state="running"),
    ledger.MoveRun(**RUN, state="sideways"),
    ledger.MoveRun(**RUN, state="finished"),
    ledger.MoveRun(**RUN, state="running"),
    ledger.GetRun(**RUN),
    ledger.GetRun(project=P, run_id="none"),
    ledger.ListRuns(project=P),
    ledger.ListRuns(project=P, state="finished", environment="dev", pipeline="train", limit=1),
    ledger.ListRuns(project=P, page="rubbish"),
    ledger.EmitEvent(project=P, event_id="evt_mine", type="shop.opened", subject="shop/1", payload={"a": {"b": [1, "ü"]}}),
    ledger.EmitEvent(project=P, event_id="evt_x", type="treadle.model.approved", subject="model/x/1"),
    ledger.GetEvent(project=P, event_id="evt_mine"),
    ledger.GetEvent(project=P, event_id="none"),
    pipelines.SubmitRun(project=P, pipeline="train", run_id="run_2"),
    pipelines.SubmitRun(project=P, pipeline="none", run_id="run_3"),
    pipelines.SubmitRun(project=P, pipeline="train", run_id="run_4", params={"until": "2013-03-31", "seed": "abc"}),
    pipelines.SubmitRun(project=P, pipeline="train", run_id="run_4", params={"sead": 7}),
    pipelines.SubmitRun(project=P, pipeline="train", run_id="run_4", params={"until": 2013}),
    ledger.GetRun(project=P, run_id="run_4"),
    pipelines.CancelRun(project=P, run_id="run_2"),
    pipelines.CancelRun(project=P, run_id="none"),
    pipelines.ResumeRun(project=P, run_id="run_2"),
    pipelines.ResumeRun(**RUN),
    pipelines.ListSteps(**RUN),
    pipelines.ListSteps(project=P, run_id="none"),
    pipelines.ReadLog(**RUN),
    pipelines.ReadLog(project=P, run_id="none"),
    pipelines.ListTriggers(project=P),
    pipelines.ListTriggers(project=P, environment="dev"),
    data.AddDatasetVersion(project=P, dataset="flights", digest="d1", **VERSION),
    data.AddDatasetVersion(project=P, dataset="flights", digest="d1", **{**VERSION, "rows": 11}),
    data.AddDatasetVersion(project=P, dataset="flights", digest="d2", parent="d0", **VERSION),
    data.ListDatasetVersions(project=P, dataset="flights"),
    data.ListDatasetVersions(project=P, dataset="none"),
    data.GetDatasetVersion(project=P, dataset="flights", number=0),
    data.GetDatasetVersion(project=P, dataset="flights", number=7),
    data.GetDatasetProfile(project=P, dataset="flights", number=1),
    data.GetDatasetProfile(project=P, dataset="flights", number=7),
    registry.RegisterVersion(project=P, model="delay", bundle_digest=BUNDLES[0], run_id="run_1", metrics={"auc": 0.7}),
    registry.RegisterVersion(project=P, model="delay", bundle_digest=BUNDLES[1], run_id="run_1", metrics={"auc": 0.8}),
    registry.RegisterVersion(project=P, model="delay", bundle_digest="f" * 64, run_id="run_1"),
    registry.RegisterVersion(project=P, model="other", bundle_digest=BUNDLES[0], run_id="run_1"),
    registry.ListModelVersions(project=P, model="delay"),
    registry.ListModelVersions(project=P, model="delay", limit=1),
    registry.GetModelVersion(project=P, model="delay", number=1),
    registry.GetModelVersion(project=P, model="delay", number=9),
    registry.SetAlias(project=P, model="delay", alias="best", number=2),
    registry.SetAlias(project=P, model="delay", alias="champion", number=2),
    registry.ResolveAlias(project=P, model="delay", alias="best"),
    registry.ResolveAlias(project=P, model="delay", alias="none"),
    registry.RequestApproval(**ENV, approval_id="apr_1", subject="model/delay/1", question="Ship it?"),
    registry.RequestApproval(**ENV, approval_id="apr_2", subject="model/delay/9", question="Ship it?"),
    registry.ListApprovals(project=P),
    registry.DecideApproval(project=P, approval_id="apr_1", grant=True, comment="looked at it"),
    registry.DecideApproval(project=P, approval_id="apr_1", grant=False),
    registry.DecideApproval(project=P, approval_id="none", grant=True),
    registry.GetApproval(project=P, approval_id="apr_1"),
    registry.GetApproval(project=P, approval_id="none"),
    registry.RequestApproval(project=P, environment="elsewhere", approval_id="apr_3", subject="model/delay/1", question="There, too?"),
    registry.WithdrawApproval(project=P, approval_id="apr_3", reason="too early"),
    registry.WithdrawApproval(project=P, approval_id="apr_1"),
    registry.WithdrawApproval(project=P, approval_id="none"),
    registry.ListApprovals(project=P, state=None),
    registry.MoveVersion(project=P, model="delay", number=2, state="archived", reason="old"),
    registry.MoveVersion(project=P, model="delay", number=1, state="released"),
    *MODELS,
    releases.GetSnapshot(**ENV),
    releases.StartRelease(**ENV, release_id="rel_1", endpoint="delay", version=1),
    releases.StartRelease(**ENV, release_id="rel_2", endpoint="delay", version=2),
    releases.StartRelease(**ENV, release_id="rel_3", endpoint="none", version=1),
    releases.GetRelease(**ENV, release_id="rel_1"),
    releases.GetRelease(**ENV, release_id="none"),
    releases.ListReleases(**ENV),
    releases.ListReleases(**ENV, endpoint="delay", state="promoted"),
    releases.GetSnapshot(**ENV),
    releases.RollbackRelease(**ENV, release_id="none"),
    releases.RollbackRelease(**ENV, release_id="rel_1", reason="complaints"),
    monitoring.ListWindows(**ENV, endpoint="delay"),
    monitoring.ListWindows(**ENV, endpoint="delay", start=T, end=T + dt.timedelta(days=1)),
    monitoring.ListAlarms(**ENV),
    monitoring.ListAlarms(**ENV, endpoint="delay", state="open"),
    whole.GetOverview(**ENV, endpoint="none"),
    whole.WhyPrediction(project=P, prediction_id="none-0-0"),
    *TRACKING,
    ledger.GetLineage(project=P, digest=BUNDLES[0], direction="both"),
    ledger.GetLineage(project=P, digest=BUNDLES[0], direction="sideways"),
    ledger.GetLineage(project=P, digest="none"),
    ledger.ErasePayload(project=P, event_id="evt_mine", reason="asked"),
    ledger.ErasePayload(project=P, event_id="none", reason="asked"),
    ledger.GetEvent(project=P, event_id="evt_mine"),
    "seal",
    ledger.ListEvents(project=P),
    ledger.ListEvents(project=P, type="treadle.run.*", newest=True, limit=3),
    ledger.ListEvents(project=P, page="rubbish"),
    ledger.VerifyAudit(),
    ledger.CollectGarbage(dry_run=True, min_age_s=0),
    whole.GetOverview(**ENV),
]


def outcome(call: Any, request: Any) -> Any:
    """An answer or an error as plain values, with what cannot be equal blanked."""
    try:
        return blanked(msgspec.to_builtins(call(request, event_time=T), enc_hook=msgspec.json.decode))
    except TreadleError as error:
        return {"refused": blanked(msgspec.to_builtins(error.body()))}


def blanked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: ("…" if k in BLANK else "evt" if k == "event_id" and str(v).startswith("evt_0") else blanked(v)) for k, v in value.items()
        }
    if isinstance(value, list):
        return [blanked(v) for v in value]
    return re.sub("/(local|remote)/", "/home/", value) if isinstance(value, str) else value


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def stores(request: pytest.FixtureRequest) -> Iterator[tuple[str | None, str | None]]:
    """Two metadata databases: the homes' own SQLite files, or two PostgreSQL schemas."""
    if request.param == "sqlite":
        yield None, None
        return
    import psycopg

    address = f"postgresql://postgres@127.0.0.1:5432/{request.getfixturevalue('postgres')}"
    schemas = [f"t_{secrets.token_hex(6)}" for _ in range(2)]
    with psycopg.connect(address, autocommit=True) as connection:
        for schema in schemas:
            connection.execute(f"CREATE SCHEMA {schema}")
    yield tuple(f"{address}?options=-csearch_path%3D{schema}" for schema in schemas)  # type: ignore[misc]
    with psycopg.connect(address, autocommit=True) as connection:
        for schema in schemas:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, stores: tuple[str | None, str | None]) -> list[tuple[Any, Any, Any]]:
    monkeypatch = pytest.MonkeyPatch()
    root: Path = tmp_path_factory.mktemp("homes")
    monkeypatch.setenv("TREADLE_HEADS", str(root / "heads.jsonl"))
    monkeypatch.delenv("TREADLE_TOKEN", raising=False)
    monkeypatch.setenv("TREADLE_WEBHOOK_HOSTS", "hooks.example.com")
    monkeypatch.setattr("treadle.workshop.webhooks.post", lambda *_, **__: 204)
    found: list[tuple[Any, Any, Any]] = []
    with open_home(root / "local", store=stores[0]) as local, open_home(root / "remote", store=stores[1]) as remote:
        for home in (local, remote):
            for number in (1, 2, 3):
                home.blobs.put(bundle(number))
        app = build_app(remote.dispatch, authenticate=remote.access.authenticate, nobody=remote.actor)
        listener = bind("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(app, loop="uvloop", http="httptools", lifespan="off", log_config=None, access_log=False))
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        while not server.started:
            time.sleep(0.005)
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            for request in SCRIPT:
                if request == "seal":
                    seal(local.database)
                    seal(remote.database)
                    continue
                for _ in range(1 if operations()[type(request)].writes is None else 2):
                    found.append((request, outcome(local.call, request), outcome(client.call, request)))
        finally:
            client.close()
            server.should_exit = True
            thread.join()
            listener.close()
    monkeypatch.undo()
    return found


def test_the_script_asks_every_operation() -> None:
    assert {type(r) for r in SCRIPT if r != "seal"} == set(operations())


@pytest.mark.parametrize("request_type", list(operations()), ids=lambda t: t.__name__)
def test_local_and_remote_answer_alike(outcomes: list[tuple[Any, Any, Any]], request_type: type) -> None:
    asked = [(request, here, there) for request, here, there in outcomes if type(request) is request_type]
    assert asked
    for request, here, there in asked:
        assert there == here, request


def test_the_script_sees_answers_and_errors(outcomes: list[tuple[Any, Any, Any]]) -> None:
    answered = {type(r) for r, here, _ in outcomes if not (isinstance(here, dict) and "refused" in here)}
    failed = [here["refused"]["code"] for _, here, _ in outcomes if isinstance(here, dict) and "refused" in here]
    assert set(operations()) - answered <= {data.GetDatasetProfile, whole.WhyPrediction}
    assert "internal" not in failed
    assert {"not_found", "conflict", "bad_request"} <= set(failed)


def test_a_run_with_wrong_parameters_is_refused_and_nothing_of_it_is_recorded(outcomes: list[tuple[Any, Any, Any]]) -> None:
    told = [there["refused"] for request, _, there in outcomes if getattr(request, "run_id", "") == "run_4"]
    submitted = [e for e in told if e["code"] == "bad_request"]
    assert [e["code"] for e in told] == ["bad_request"] * len(submitted) + ["not_found"] * (len(told) - len(submitted))
    assert [e["what"] for e in submitted[::2]] == [  # every write is sent twice
        "Parameter 'seed' of pipeline train takes int, and was given \"abc\".",
        "Pipeline train has no parameter 'sead'.",
        "Parameter 'until' of pipeline train takes datetime | None, and was given 2013.",
    ]
    assert submitted[0]["details"] == {"parameter": "seed", "expected": "int", "given": '"abc"'}
    assert submitted[0]["remedy"] == "Give it as int: treadle run train --seed 7"
    for request, here, _ in outcomes:
        if isinstance(request, (ledger.ListRuns, ledger.ListEvents)) and isinstance(here, dict):
            assert "run_4" not in msgspec.json.encode(here).decode()


def test_what_is_digested_is_the_same_on_both_sides() -> None:
    assert digest_of(DEFINITIONS) == digest_of(msgspec.json.decode(msgspec.json.encode(DEFINITIONS), type=Project))
