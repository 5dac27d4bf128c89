"""A made-up home that stands still: records of a loop in full swing, behind the console's one door."""

import asyncio
import datetime as dt
import io
import math
import random
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from treadle.operations import artifacts, diagnosis, ledger, monitoring, pipelines, registry, releases, tracking, webhooks, workshop
from treadle.operations.workshop import Overview, ProjectSummary, Station
from treadle.records.calls import Actor, Role
from treadle.records.definitions import Canary, Dataset, Endpoint, Environment, FeatureView, Project, Window
from treadle.records.diagnosis import Diagnosis, Finding, RunDifference
from treadle.records.digests import digest as digest_of_bytes
from treadle.records.errors import TreadleError
from treadle.records.ledger import Artifact, Event, Page, Reason, Run, Step
from treadle.records.models import (
    Approval,
    Card,
    Comparison,
    GateResult,
    ModelVersion,
    RegisteredModel,
    Removal,
    Use,
    Webhook,
    WebhookDelivery,
    WebhookTest,
)
from treadle.records.releases import Release
from treadle.records.states import ApprovalState, ReleaseState, RunState, StepState, VersionState
from treadle.records.tracking import (
    Experiment,
    Lifecycle,
    LoggedModel,
    ModelPoint,
    ModelState,
    Point,
    Removed,
    RunInput,
    RunModel,
    TrackedRun,
)

UTC = dt.UTC
NOW = dt.datetime(2013, 9, 14, 13, 42, tzinfo=UTC)
OWNER = Actor(actor_id="ada", name="ada", role=Role.admin)
RUN = "run_01k9zz00000000000000000041"
CHANGES = (
    (dt.date(2013, 2, 1), 1),
    (dt.date(2013, 3, 9), 2),
    (dt.date(2013, 4, 21), 4),
    (dt.date(2013, 6, 15), 5),
    (dt.date(2013, 7, 28), 7),
)


def days(until: dt.datetime = NOW) -> list[dict[str, Any]]:
    """A champion's days since February."""
    chance = random.Random(7)
    told = []
    day = dt.datetime(2013, 2, 1, tzinfo=UTC)
    while day < until - dt.timedelta(days=2):
        since = (day - dt.datetime(2013, 2, 1, tzinfo=UTC)).days
        base = 0.70 + 0.05 * math.sin(since / 75) + 0.0002 * since
        observed = 0.22 + 0.06 * math.sin(since / 40) + chance.gauss(0, 0.03)
        told.append(
            {
                "start": day,
                "predictions": 850 + chance.randrange(150),
                "outcomes": 820 if since < 218 else 600,
                "champion": [v for d, v in CHANGES if d <= day.date()][-1],
                "roc_auc": base + chance.gauss(0, 0.022),
                "brier": 0.150 - 0.1 * (base - 0.7) + chance.gauss(0, 0.008),
                "mean_predicted": observed + 0.01 * math.sin(since / 20) + chance.gauss(0, 0.01),
                "mean_observed": observed,
            }
        )
        day += dt.timedelta(days=1)
    return told


def _event(number: int, type: str, subject: str, minutes: int, payload: dict[str, Any] | None) -> Event:
    moment = NOW - dt.timedelta(minutes=minutes)
    return Event(
        event_id=f"evt_01k9{number:022d}",
        project="flights",
        environment="prod",
        type=type,
        subject=subject,
        actor="system",
        event_time=moment,
        recorded_time=NOW,
        payload=payload,
        payload_digest="d" * 64,
        seq=100 - number,
        hash="h" * 64,
    )


EVENTS = [
    _event(
        1,
        "treadle.performance.decayed",
        "endpoint/delay",
        3,
        {"text": "Brier of version 7 is 0.1512 over 14 blocks, 0.0121 worse than its evaluation promises."},
    ),
    _event(2, "treadle.approval.requested", "model/delay/9", 47, {"question": "May delay@9 serve in prod?"}),
    _event(
        3,
        "treadle.model.registered",
        "model/delay/9",
        48,
        {"model": "delay", "number": 9, "metrics": {"roc_auc": 0.748, "brier": 0.1461}, "gates": [{"passed": True}] * 7},
    ),
    _event(
        4,
        "treadle.run.queued",
        f"run/{RUN}",
        284,
        {"pipeline": "delay_model", "run_id": RUN, "reason": {"text": "Brier decayed by 0.0121 over 14 blocks; 4 of 6 retrainings used"}},
    ),
    _event(5, "treadle.release.started", "endpoint/delay", 4 * 1440, {"endpoint": "delay", "version": 8, "strategy": {"share": 0.05}}),
    _event(6, "treadle.data.arrived", "dataset/flights", 1440, {"dataset": "flights", "number": 31, "rows": 27914, "added_rows": 912}),
    _event(
        7,
        "treadle.release.stopped",
        "release/rel_1",
        9 * 1440,
        {
            "endpoint": "delay",
            "to_version": 6,
            "reason": "That the challenger does no harm is rejected: e-value 23.1, needed 20. The champion stays.",
        },
    ),
]

APPROVAL = Approval(
    project="flights",
    environment="prod",
    approval_id="apr_0000000000000000000000aa",
    subject="model/delay/9",
    question="May delay@9 serve in prod?",
    state=ApprovalState.waiting,
    asked_by="delay_model",
    asked_time=NOW - dt.timedelta(minutes=47),
)

STATIONS = [
    Station(name="Data", state="healthy", text="v31 · 27,914 rows", time=NOW),
    Station(name="Features", state="healthy", text="5 views"),
    Station(name="Training", state="healthy", text="finished · 3.2 s"),
    Station(name="Evaluation", state="healthy", text="7 of 7 gates"),
    Station(name="Packaging", state="healthy", text="sealed · 9f31c2aa"),
    Station(name="Registry", state="waits", text="delay 9 validated"),
    Station(name="Release", state="tried", text="canary 5 % · day 4"),
    Station(name="Serving", state="healthy", text="version 7 · 2 workers"),
    Station(name="Monitoring", state="waits", text="decay alarm"),
]


def _at(month: int, day: int) -> dt.datetime:
    return dt.datetime(2013, month, day, tzinfo=UTC)


def overview(**changes: Any) -> Overview:
    """The loop on a day in September."""
    marks = [{"kind": "release", "start": _at(d.month, d.day), "text": f"version {v} serves", "version": v} for d, v in CHANGES]
    marks += [
        {"kind": "alarm", "start": _at(3, 30), "end": _at(4, 20), "text": "Brier is 0.013 worse than promised.", "alarm": "decay"},
        {"kind": "alarm", "start": _at(6, 3), "end": _at(6, 20), "text": "Predicted 0.255, and 0.132 came.", "alarm": "calibration"},
        {"kind": "alarm", "start": _at(9, 11), "end": None, "text": "Brier is 0.012 worse than promised.", "alarm": "decay"},
        {"kind": "canary", "start": _at(8, 20), "end": _at(8, 29), "text": "version 6: stopped", "version": 6},
        {"kind": "canary", "start": _at(9, 10), "end": NOW, "text": "version 8: running", "version": 8},
    ]
    told = Overview(
        project="flights",
        environment="prod",
        endpoint="delay",
        sentence="Version 7 serves 95 % of requests. Version 8 is being tried on 5 %, day 4 of 14; so far no sign of harm.",
        now=NOW,
        virtual=True,
        stations=STATIONS,
        champion=7,
        challenger=8,
        travelling="Release",
        waiting=[APPROVAL],
        figures={
            "blocks": 30,
            "predictions": 28211,
            "outcomes": 20029,
            "labels_in": 0.71,
            "roc_auc": 0.7481,
            "brier": 0.1462,
            "calibration": 0.0041,
            "latency_p99_ms": 2.91,
            "releases": 4,
            "retrainings": 4,
            "budget": 6,
        },
        quality=days(),
        marks=sorted(marks, key=lambda m: m["start"]),
        events=EVENTS,
    )
    return replace(told, **changes)


def version(number: int = 9, **changes: Any) -> ModelVersion:
    """A version that passed."""
    told = ModelVersion(
        project="flights",
        model="delay",
        number=number,
        state=VersionState.validated,
        bundle_digest="9f31c2aa" * 8,
        run_id=RUN,
        metrics={"roc_auc": 0.7481, "brier": 0.1461},
        gates=(GateResult(gate="no_worse brier", passed=True, text="0.1461 against the champion's 0.1482 on the same rows"),),
        aliases=(),
        actor="ada",
        event_time=NOW - dt.timedelta(minutes=48),
    )
    return replace(told, **changes)


APPLIED = Project(
    name="flights",
    datasets=(Dataset(name="flights", owner="network-ops", license="CC0-1.0"),),
    feature_views=(
        FeatureView(
            name="carrier",
            entity=("carrier",),
            source="flights",
            windows={"late_3h": Window(column="late", aggregate="mean", over_s=10800, hop_s=60)},
        ),
    ),
    endpoints=(Endpoint(name="delay", model="delay", release=Canary(share=0.05, deadline_blocks=14)),),
    environments=(Environment(name="staging"), Environment(name="prod", after="staging")),
)

RELEASE = Release(
    project="flights",
    environment="prod",
    release_id="rel_8",
    endpoint="delay",
    model="delay",
    from_version=7,
    to_version=8,
    strategy=Canary(share=0.05),
    state=ReleaseState.running,
    generation=12,
    actor="system",
    started=NOW - dt.timedelta(days=4),
    facts={"blocks": 3, "log_e_worse": 0.4, "threshold": 2.996},
)

RAN = Run(
    project="flights",
    environment="prod",
    run_id=RUN,
    experiment="default",
    pipeline="delay_model",
    state=RunState.finished,
    params={"seed": 7},
    reason=Reason(kind="decayed", text="Brier decayed by 0.0121", trigger="delay.retrain", event_id=EVENTS[0].event_id),
    actor="system",
    definition_digest="a" * 64,
    project_digest="b" * 64,
    code_digest="c" * 64,
    environment_digest="d" * 64,
    event_time=NOW - dt.timedelta(hours=4),
    recorded_time=NOW,
    started=NOW - dt.timedelta(hours=4),
    ended=NOW - dt.timedelta(hours=4) + dt.timedelta(seconds=3.2),
)

STEPS = [
    Step(
        project="flights",
        run_id=RUN,
        path="0000:training_set",
        name="training_set",
        state=StepState.cached,
        cache_key="k",
        components={},
        why="same inputs, code and environment as before",
    ),
    Step(
        project="flights",
        run_id=RUN,
        path="0001:fit",
        name="fit",
        state=StepState.finished,
        cache_key="k",
        components={},
        why="input `rows` changed",
        output="e" * 64,
    ),
]

CHAIN = workshop.Chain(
    prediction_id="01k9-ff-2",
    links=[
        {
            "link": "prediction",
            "id": "01k9-ff-2",
            "model": "delay",
            "model_version": 7,
            "output": 0.2312,
            "unit": "UA-1545",
            "event_time": NOW,
            "inputs": {"carrier": "UA"},
        },
        {"link": "model version", "model": "delay", "number": 7, "state": "released", "metrics": {"brier": 0.148}},
        {"link": "run", "run_id": RUN, "pipeline": "delay_model"},
        {"link": "environment", "python": "3.11.7", "lock": ["numpy==2.0", "polars==1.36", "lightgbm==4.6", "scipy==1.16"]},
    ],
)


CREATED = NOW - dt.timedelta(days=3)
EXPERIMENT = Experiment(
    project="flights",
    experiment_id="77",
    name="depths",
    folder="ops/autumn",
    description="How deep?",
    actor="ada",
    created=CREATED,
    updated=NOW,
    tags={"team": "ops"},
)


def tracked(number: int = 1, **changes: Any) -> TrackedRun:
    """A run that a script logged."""
    told = TrackedRun(
        project="flights",
        run_id=f"{number:032x}",
        experiment_id="77",
        name=f"depth-{number}",
        user="ada",
        state=RunState.finished,
        lifecycle=Lifecycle.active,
        actor="ada",
        created=CREATED,
        started=CREATED,
        ended=CREATED + dt.timedelta(seconds=75),
        metrics=[Point(key="auc", value=0.7 + number / 100, step=9, time=1), Point(key="system/cpu_percent", value=12.5, step=1, time=1)],
        params={"depth": str(number), "lr": "0.1"},
        tags={"team": "ops", "mlflow.source.name": "train.py"},
        inputs=[RunInput(name="flights", digest="9f31c2aa", source_type="local", source="flights.csv", context="training")],
        models=[RunModel(model_id="m-1", role="output")],
    )
    return replace(told, **changes)


LOGGED = LoggedModel(
    project="flights",
    model_id="m-1",
    experiment_id="77",
    name="forest",
    run_id=f"{1:032x}",
    state=ModelState.ready,
    created=CREATED,
    updated=CREATED,
    params={"depth": "3"},
    metrics=[ModelPoint(key="auc", value=0.8, step=1, time=1, run_id=f"{1:032x}", dataset_name="flights")],
)
MODEL = RegisteredModel(
    project="flights",
    model="delay",
    description="How late will it be?",
    actor="ada",
    tags={"team": "ops"},
    card={},
    created=CREATED,
    updated=NOW,
    versions=2,
    newest=9,
    aliases={"best": 9},
)

OVERFIT = Finding(
    rule="overfitting",
    severity="warning",
    text="valid/loss rises from its best, 0.31 at step 400, to 0.38, while train/loss falls.",
    advice="Stop earlier, or regularise.",
    metrics=["valid/loss", "train/loss"],
    first_step=400,
    last_step=1200,
)
RULE = artifacts.RetentionRule(rule_id="old-failures", what="failed_runs", days=30, experiment="77", keep_tagged="keep")


def history(request: Any) -> tracking.Columns:
    """Twenty points."""
    times = [i * 1_000_000 for i in range(20)]
    values: list[float | str] = [1 / (i + 1) for i in range(19)]
    return tracking.Columns(key=request.key, run_id=request.run_id, times=times, steps=list(range(20)), values=[*values, "NaN"])


def bears(filter: str, name: str) -> bool:
    """Whether a thing of that name is found by `name ILIKE '%…%'`, or there is no filter."""
    return not filter or filter.partition("'%")[2].removesuffix("%'").lower() in name


class Memory:
    """Blobs in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, content: bytes) -> str:
        digest = digest_of_bytes(content)
        self.kept[digest] = content
        return digest

    def get(self, digest: str) -> bytes:
        if digest not in self.kept:
            raise TreadleError("There is no such blob.", remedy="Make one.", code="not_found")
        return self.kept[digest]

    def open_read(self, digest: str) -> io.BytesIO:
        return io.BytesIO(self.get(digest))


HOOK = Webhook(
    project="flights",
    webhook_id="whk_1",
    name="chat",
    url="https://hooks.example.com/models",
    events=["model_version.created"],
    description="",
    state="active",
    actor="ada",
    created=NOW,
    updated=NOW,
    signed=True,
)
DELIVERY = WebhookDelivery(
    project="flights",
    webhook_id="whk_1",
    delivery_id="dlv_1",
    event_id="evt_3",
    event="model_version.created",
    state="failed",
    attempts=9,
    due=None,
    status=503,
    error="it answered 503",
    created=NOW,
    updated=NOW,
)


class Still:
    """What the console needs of a workshop. `answers` are records by operation, or functions of the request; `calls` is what was asked."""

    def __init__(self, **changes: Any):
        self.actor = OWNER
        self.seen = overview(**changes)
        self.calls: list[tuple[Any, Any, Any]] = []
        self.answers: dict[type, Any] = {
            workshop.ListProjects: [ProjectSummary(name="flights", environments=["prod", "staging"], endpoints=["delay"])],
            workshop.GetApplied: APPLIED,
            workshop.GetOverview: lambda _: self.seen,
            workshop.WhyPrediction: CHAIN,
            registry.GetModelVersion: lambda r: version(r.number),
            registry.ListModelVersions: registry.ModelVersions(items=[version(9), version(8)], page=Page()),
            registry.ListApprovals: [APPROVAL],
            registry.GetApproval: APPROVAL,
            registry.DecideApproval: APPROVAL,
            releases.GetRelease: RELEASE,
            releases.ListReleases: [RELEASE],
            releases.GetSnapshot: lambda r: self._lacks("snapshot"),
            ledger.GetEvent: EVENTS[0],
            ledger.ListEvents: ledger.Events(items=EVENTS, page=Page(next="93")),
            ledger.GetRun: ledger.RunDetail(run=RAN, metrics={"brier": 0.1461}, tags={}, artifacts=[]),
            ledger.ListRuns: ledger.Runs(items=[RAN], page=Page()),
            pipelines.ListSteps: STEPS,
            pipelines.ReadLog: pipelines.LogLines(
                items=[pipelines.LogLine(number=1, time=NOW, step="0001:fit", level="INFO", text="fitted 80 trees")],
                ended=True,
                page=Page(),
            ),
            pipelines.ListTriggers: [],
            monitoring.ListAlarms: [],
            monitoring.ListWindows: [],
            ledger.GetLineage: ledger.Lineage(versions=[], edges=[]),
            registry.GetModel: MODEL,
            registry.SearchModels: lambda r: registry.RegisteredModels(items=[MODEL] if bears(r.filter, "delay") else [], page=Page()),
            registry.SearchVersions: registry.ModelVersions(items=[version(9)], page=Page()),
            registry.GetUses: [Use(kind="alias", name="best", text="the alias best names it", keeps=False, number=9)],
            registry.ListComments: [],
            registry.GetCard: Card(project="flights", model="delay", number=9, state="validated", made=NOW, sections=[]),
            registry.CompareVersions: Comparison(left=version(8), right=version(9), items=[]),
            registry.DeleteVersion: Removal(preview=True, versions=[9], aliases=["best"], kept=[]),
            registry.DeleteModel: Removal(preview=True, versions=[8, 9], aliases=[], kept=["version 7 serves in prod"]),
            tracking.GetTrackedRun: lambda r: tracked(
                1, run_id=r.run_id, pipeline="delay_model" if r.run_id.startswith("run_") else "", experiment_id="77"
            ),
            tracking.SearchRuns: lambda r: tracking.TrackedRuns(
                items=[] if "run_name" in r.filter else [tracked(i) for i in (1, 2, 3)][: r.limit], page=Page()
            ),
            tracking.SearchExperiments: lambda r: tracking.Experiments(
                items=[EXPERIMENT] if bears(r.filter, "depths") else [], page=Page()
            ),
            tracking.GetExperiment: EXPERIMENT,
            tracking.ListViews: [],
            tracking.ListFiles: lambda r: tracking.Files(root="", files=self.files, folders=["plots"] if self.files else [], page=Page()),
            tracking.GetFile: lambda r: next((f for f in self.files if f.path == r.path), None) or self._lacks("file"),
            tracking.GetLoggedModel: LOGGED,
            tracking.MetricColumns: history,
            diagnosis.DiagnoseRun: lambda r: Diagnosis(project="flights", run_id=r.run_id, findings=[OVERFIT], examined=3),
            diagnosis.CompareRuns: lambda r: RunDifference(
                project="flights",
                before=r.since,
                after=r.run_id,
                text="Only data changed (flights version 3 → version 4). Metrics: auc 0.81 → 0.74 (worse).",
            ),
            webhooks.ListWebhooks: lambda r: webhooks.Webhooks(items=[HOOK], page=Page()),
            webhooks.ListWebhookDeliveries: lambda r: webhooks.WebhookDeliveries(
                items=[DELIVERY] if r.state in ("", "failed") else [], page=Page(next="1_d")
            ),
            webhooks.CreateWebhook: HOOK,
            webhooks.UpdateWebhook: HOOK,
            webhooks.DeleteWebhook: ledger.Done(changed=True),
            webhooks.TryWebhook: WebhookTest(success=True, delivery_id="dlv_1", event="model_version.created", status=204),
            artifacts.ListRetention: [RULE],
            artifacts.SetRetention: RULE,
            artifacts.ApplyRetention: lambda r: Removed(
                preview=r.preview,
                binned=2,
                runs=1,
                freed_bytes=4096,
                things=[f"bin run/{1:032x}", f"run/{2:032x}"],
                kept=["run/9: model delay 8 was made of it"],
            ),
            tracking.RemoveForGood: lambda r: Removed(
                preview=r.preview, runs=1, metric_points=40, freed_bytes=2048, things=r.things, kept=["run/9: model delay 8 was made of it"]
            ),
        }
        self.blobs = Memory()
        self.files: list[Artifact] = []
        self.access = SimpleNamespace(authenticate=self._authenticate)

    def dispatch(self, request: Any, *, actor: Actor, event_time: dt.datetime | None = None) -> Any:
        self.calls.append((request, actor, event_time))
        if type(request) not in self.answers:
            return self._lacks(type(request).__name__)
        answer = self.answers[type(request)]
        return answer(request) if callable(answer) else answer

    def file(self, path: str, content: bytes) -> None:
        """Let a file stand there."""
        made = Artifact(project="flights", run_id=f"{1:032x}", path=path, digest=self.blobs.put(content), size=len(content))
        self.files.append(made)

    def _lacks(self, what: str) -> Any:
        raise TreadleError(f"There is no {what}.", remedy="Make one.", code="not_found")

    def _authenticate(self, token: str) -> Actor:
        if token != "trd_good":
            raise TreadleError("Nobody has this token.", remedy="Ask an admin for one.", code="unauthenticated")
        return OWNER


class Answer(Struct, kw_only=True):
    """What a page answered."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()


class Browser:
    """Calls an ASGI application as a browser on 127.0.0.1 would, following nothing."""

    def __init__(self, app: Any):
        self._app = app

    def get(self, path: str, params: dict[str, str] | None = None, headers: dict[str, str] | None = None) -> Answer:
        return self._call("GET", path + (f"?{urlencode(params)}" if params else ""), headers or {}, b"")

    def post(self, path: str, data: dict[str, str], headers: dict[str, str] | None = None) -> Answer:
        body = urlencode(data).encode()
        return self._call("POST", path, {"content-type": "application/x-www-form-urlencoded", **(headers or {})}, body)

    def _call(self, method: str, address: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(address)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(parts.path),
            "raw_path": quote(parts.path, safe="/%").encode(),
            "query_string": quote(parts.query, safe="=&%+*").encode(),
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), *((k.encode(), v.encode()) for k, v in headers.items())],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else await asyncio.Event().wait()  # the browser stays

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self._app(scope, receive, send))
        start = next(m for m in sent if m["type"] == "http.response.start")
        content = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
        return Answer(status_code=start["status"], headers={k.decode(): v.decode() for k, v in start["headers"]}, content=content)
