"""One page a station: a sentence, then the newest of what the station made. All nine are tables of records."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from starlette.responses import RedirectResponse, Response

from treadle.console import quality, words
from treadle.console.desk import STATIONS, Desk
from treadle.console.tables import Cell, Table, number, text, time
from treadle.operations.data import DatasetVersions, ListDatasetVersions
from treadle.operations.ledger import ListRuns, Runs
from treadle.operations.monitoring import ListAlarms, ListWindows
from treadle.operations.pipelines import ListTriggers, TriggerStatus
from treadle.operations.registry import ListApprovals, ListModelVersions, ModelVersions
from treadle.operations.releases import GetSnapshot, ListReleases, SnapshotStatus
from treadle.operations.workshop import GetApplied
from treadle.records.definitions import Dataset, FeatureView, Label, Project
from treadle.records.errors import TreadleError
from treadle.records.models import Approval, ModelVersion
from treadle.records.monitoring import Alarm, WindowReport
from treadle.records.releases import Release

#: Other words for a station, so that an address typed from memory arrives.
_ALSO = {
    "approvals": "registry",
    "releases": "release",
    "endpoints": "serving",
    "alarms": "monitoring",
}
#: What would stand on a station's page, where scripts have logged runs and no loop is applied.
_WOULD = {
    "data": "The datasets that a project declares stand here, each with its versions: how many rows, known until when, from where.",
    "features": "The features that a project declares stand here: the same definitions for training rows and for the gateway.",
    "training": "Runs of pipelines stand here, each with the reason that started it, and what starts them by itself.",
    "evaluation": "Candidates stand here with their metrics on held-out rows, and the gates that each passed.",
    "packaging": "The sealed bundles of versions stand here: model, signature, features and environment under one digest.",
    "registry": "The versions of what endpoints serve stand here, and who was asked to approve them. What scripts registered: see Models.",
    "release": "Every movement of traffic stands here, with the evidence that decided it.",
    "serving": "Endpoints stand here, what each is told to serve, and what the gateways say they serve.",
    "monitoring": "Alarms stand here, and day by day the traffic, the quality and the drift of an endpoint.",
}
LOOP_BEGINS = """treadle init my-loop --example flights && cd my-loop   # a project to start from; its name stands in treadle.toml
treadle apply --env {environment}"""
Made = tuple[str, list[Table]]


def page(desk: Desk) -> Response:
    """The station that the path names."""
    name = desk.request.path_params["station"]
    if name in _ALSO:
        return RedirectResponse(f"{desk.base}/{_ALSO[name]}", 303)
    if name not in STATIONS:
        raise TreadleError(f"There is no station {name!r}.", remedy=f"One of: {', '.join(STATIONS)}", code="not_found")
    applied: Project | None = desk.call(GetApplied(project=desk.project, environment=desk.environment))
    if applied is None and desk.tracked:
        return desk.page(
            "empty.html",
            title=name.capitalize(),
            sentence=f"{desk.project} has runs and no loop yet. {_WOULD[name]}",
            lead="How to begin one",
            commands=LOOP_BEGINS.format(environment=desk.environment),
        )
    if applied is None:
        raise TreadleError(
            f"Nothing is applied to {desk.environment} of {desk.project}.",
            remedy=f"treadle apply --env {desk.environment}",
            code="not_found",
        )
    sentence, tables = _PAGES[name](desk, applied)
    return desk.page(
        "record.html",
        title=name.capitalize(),
        crumb=None,
        state=None,
        sentence=sentence,
        error_text=None,
        tables=tables,
        facts=[],
        **(quality.context(desk, desk.overview) if name == "monitoring" and desk.overview else {}),
    )


def _data(desk: Desk, applied: Project) -> Made:
    tables = []
    for d in applied.datasets:
        found: DatasetVersions = desk.call(ListDatasetVersions(project=desk.project, dataset=d.name, limit=10))
        rows = [
            [
                number(str(v.number)),
                number(f"{v.rows:,}"),
                number(f"+{v.added_rows:,}"),
                time(v.known_until),
                text(v.source),
                time(v.event_time),
            ]
            for v in found.items
        ]
        tables.append(
            Table(
                id=f"dataset-{d.name}",
                title=d.name,
                note=" · ".join(x for x in (d.description, d.owner, d.license, d.provenance, _restricted(d)) if x),
                head=("#version", "#rows", "#new", "known until", "source", "arrived"),
                rows=rows,
                empty="No rows yet. Bring a file in:",
                command=f"treadle data ingest {d.name} FILE",
            )
        )
    if applied.labels:
        tables.append(
            Table(
                id="labels",
                title="Labels",
                head=("label", "column", "means", "source", "#confidence", "owner", "restrictions"),
                rows=[
                    [
                        text(x.name),
                        text(f"{x.dataset}.{x.column}", href=f"#dataset-{words.quote(x.dataset, safe='')}"),
                        text(x.description),
                        text(x.source),
                        number("—" if x.confidence is None else f"{x.confidence:.0%}"),
                        text(x.owner),
                        text(_restricted(x)),
                    ]
                    for x in applied.labels
                ],
            )
        )
    number_of = len(applied.datasets)
    return (
        f"{desk.project} declares {number_of} dataset{'s' if number_of != 1 else ''}; every change makes a version that stays readable.",
        tables,
    )


def _restricted(said: Dataset | FeatureView | Label) -> str:
    places = f"only in {', '.join(said.only_in)}" if said.only_in else ""
    return "; ".join(x for x in (said.restrictions, places) if x)


def _features(desk: Desk, applied: Project) -> Made:
    rows = [
        [
            text(v.name),
            text(", ".join(v.entity)),
            text(v.source, href=f"{desk.base}/data#dataset-{words.quote(v.source, safe='')}"),
            text(", ".join(v.features)),
            text("newest row" if not v.windows else "windows"),
            text(words.span(v.ttl_s) if v.ttl_s else "—"),
            text(" · ".join(x for x in (v.description, v.owner, _restricted(v)) if x)),
        ]
        for v in applied.feature_views
    ]
    table = Table(
        id="views",
        title="Feature views",
        head=("view", "entity", "source", "features", "kind", "kept for", "about"),
        rows=rows,
        empty="No view is declared. A view gives features of an entity from one dataset, the same for training and serving:",
        command="@tr.feature_view(entity=…, source=…)",
    )
    return "The same definitions make training rows (as of each moment) and answer the gateway online.", [table]


def _training(desk: Desk, applied: Project) -> Made:
    after = desk.request.query_params.get("page")
    found: Runs = desk.call(ListRuns(project=desk.project, limit=50, page=after))
    rows = [
        [
            text(r.run_id, href=desk.base + words.path("runs", r.run_id)),
            text(r.pipeline),
            Cell(text=str(r.state), tone=words.tone(r.state)),
            text(r.reason.text),
            number(words.took(r) or "—"),
            time(r.event_time),
        ]
        for r in found.items
    ]
    triggers: list[TriggerStatus] = desk.call(ListTriggers(project=desk.project, environment=desk.environment), event_time=desk.replayed)
    fired = [
        [
            text(t.name),
            text(t.pipeline),
            time(t.last_fired),
            number(f"{t.fired_in_window} of {t.budget}" if t.budget else str(t.fired_in_window)),
            time(t.next_allowed),
        ]
        for t in triggers
    ]
    first = applied.pipelines[0].name if applied.pipelines else "PIPELINE"
    return "Runs of the pipelines, newest first, each with the reason that started it.", [
        Table(
            id="runs",
            title="Runs",
            head=("run", "pipeline", "state", "because", "#took", "when"),
            rows=rows,
            empty="No run yet. Start one:",
            command=f"treadle run {first} --env {desk.environment}",
            more=f"?page={words.quote(found.page.next, safe='')}" if found.page.next else "",
        ),
        Table(
            id="triggers",
            title="What starts them",
            head=("trigger", "pipeline", "last fired", "#of its budget", "not before"),
            rows=fired,
            empty="No trigger is declared: runs are started by hand. A policy retrains by itself:",
            command="tr.retrain(pipeline, when=[tr.decayed('brier', by=0.01)], at_most_every='14d', budget='6/year')",
        ),
    ]


def _versions(desk: Desk, applied: Project) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    for model in sorted({e.model for e in applied.endpoints}):
        page: ModelVersions = desk.call(ListModelVersions(project=desk.project, model=model, limit=50))
        found += page.items
    return found


def _of(desk: Desk, v: ModelVersion) -> Cell:
    return text(f"{v.model} {v.number}", href=desk.base + words.path("models", v.model, v.number))


_TRAIN = "No version yet. A pipeline that ends in tr.candidate(…) makes one:"


def _evaluation(desk: Desk, applied: Project) -> Made:
    versions = _versions(desk, applied)
    names = sorted({k for v in versions for k in v.metrics})[:6]
    rows = [
        [
            _of(desk, v),
            *(number(words.metric(v.metrics[k]) if k in v.metrics else "—") for k in names),
            Cell(text=f"{sum(g.passed for g in v.gates)} of {len(v.gates)}", tone="healthy" if all(g.passed for g in v.gates) else "harm"),
            text("; ".join(g.text for g in v.gates if not g.passed)),
            time(v.event_time),
        ]
        for v in versions
    ]
    head = ("version", *(f"#{k.replace('_', ' ')}" for k in names), "gates passed", "what stopped it", "when")
    table = Table(id="versions", title="Candidates", head=head, rows=rows, empty=_TRAIN, command="treadle run PIPELINE")
    return "Every candidate on its held-out rows, and whether it passed the gates that the project declares.", [table]


def _packaging(desk: Desk, applied: Project) -> Made:
    rows = [
        [_of(desk, v), text(v.bundle_digest), text(v.run_id, href=desk.base + words.path("runs", v.run_id)), time(v.event_time)]
        for v in _versions(desk, applied)
    ]
    table = Table(
        id="bundles",
        title="Bundles",
        head=("version", "digest", "sealed by run", "when"),
        rows=rows,
        empty=_TRAIN,
        command="treadle run PIPELINE",
    )
    return "Each version is a sealed bundle: model, signature, features, environment; its digest changes when any byte does.", [table]


def _registry(desk: Desk, applied: Project) -> Made:
    rows = [
        [_of(desk, v), Cell(text=str(v.state), tone=words.tone(v.state)), text(", ".join(v.aliases)), text(v.actor), time(v.event_time)]
        for v in _versions(desk, applied)
    ]
    approvals: list[Approval] = desk.call(ListApprovals(project=desk.project, state=None, limit=50))
    asked = [
        [
            text(a.subject.removeprefix("model/").replace("/", " "), href=words.subject_path(desk.base, a.subject)),
            text(a.environment),
            Cell(text=str(a.state), tone=words.tone(a.state)),
            text(a.asked_by),
            text(a.decided_by),
            time(a.decided_time or a.asked_time),
            text(a.comment),
        ]
        for a in approvals
    ]
    waiting = sum(a.state == "waiting" for a in approvals)
    said = f"{waiting} approval{'s wait' if waiting != 1 else ' waits'} for a person." if waiting else "Nothing waits for approval."
    return f"{said} Versions are numbered and stay; aliases say what serves.", [
        Table(
            id="versions",
            title="Versions",
            head=("version", "state", "aliases", "registered by", "when"),
            rows=rows,
            empty=_TRAIN,
            command="treadle run PIPELINE",
        ),
        Table(
            id="approvals",
            title="Approvals",
            head=("version", "environment", "state", "asked by", "decided by", "when", "comment"),
            rows=asked,
            empty="Nobody has been asked yet: approval is asked for when a candidate has passed its gates.",
        ),
    ]


def _release(desk: Desk, applied: Project) -> Made:
    found: list[Release] = desk.call(ListReleases(project=desk.project, environment=desk.environment, limit=100))
    rows = [
        [
            text(f"{r.model} {r.to_version}", href=desk.base + words.path("releases", r.release_id)),
            text(r.endpoint),
            text(f"version {r.from_version}" if r.from_version else "nothing"),
            text(f"canary {words.percent(r.strategy.share)}" if r.strategy and r.from_version else "direct"),
            Cell(text=str(r.state).replace("_", " "), tone=words.tone(r.state)),
            text(r.reason),
            time(r.started),
            time(r.ended),
        ]
        for r in found
    ]
    table = Table(
        id="releases",
        title="Releases",
        head=("to", "endpoint", "from", "how", "state", "why", "started", "ended"),
        rows=rows,
        empty="Nothing has been released here. Once a version is approved, a worker releases it; or by hand:",
        command="treadle release start ENDPOINT VERSION",
    )
    return f"How {desk.environment} came to serve what it serves: every movement of traffic, with the evidence that decided it.", [table]


def _serving(desk: Desk, applied: Project) -> Made:
    status: SnapshotStatus | None = desk.maybe(GetSnapshot(project=desk.project, environment=desk.environment))
    rows: list[list[Cell]] = []
    acks: list[list[Cell]] = []
    if status:
        for e in status.snapshot.endpoints:
            models = desk.base + words.path("models", e.model)
            champion, challenger = e.champion, e.challenger
            rows.append(
                [
                    text(e.name, href=f"{desk.base}?endpoint={words.quote(e.name, safe='')}"),
                    text(f"{e.model} {champion.model_version}", href=f"{models}/{champion.model_version}") if champion else text("nothing"),
                    text(f"{e.model} {challenger.model_version}", href=f"{models}/{challenger.model_version}") if challenger else text(""),
                    number(words.percent(e.split.share) if challenger else "—"),
                    text(e.unit),
                ]
            )
        newest = status.snapshot.generation
        acks = [
            [
                text(a.worker),
                number(str(a.generation)),
                Cell(text=a.state if a.generation == newest else f"{a.state}, behind", tone=words.tone(a.state)),
                text(a.error),
                time(a.time),
            ]
            for a in status.acks
        ]
    first = applied.endpoints[0].name if applied.endpoints else "ENDPOINT"
    return "What the gateways are told to serve, and what each of their workers says it serves.", [
        Table(
            id="endpoints",
            title="Endpoints",
            note=f"snapshot {status.snapshot.generation}" if status else "",
            head=("endpoint", "champion", "challenger", "#share", "unit"),
            rows=rows,
            empty="Nothing serves yet: no version has been released here.",
            command=f"treadle release start {first} VERSION --env {desk.environment}",
        ),
        Table(
            id="workers",
            title="Gateway workers",
            head=("worker", "#generation", "state", "error", "since"),
            rows=acks,
            empty="No gateway has acknowledged a snapshot. Start one:",
            command=f"treadle gateway --env {desk.environment}",
        ),
    ]


def _monitoring(desk: Desk, applied: Project) -> Made:
    endpoint = desk.overview.endpoint if desk.overview else applied.endpoints[0].name if applied.endpoints else ""
    alarms: list[Alarm] = desk.call(ListAlarms(project=desk.project, environment=desk.environment, limit=50))
    windows: list[WindowReport] = (
        desk.call(ListWindows(project=desk.project, environment=desk.environment, endpoint=endpoint, limit=60)) if endpoint else []
    )
    raised = [
        [text(a.kind), text(a.endpoint), Cell(text=str(a.state), tone=words.tone(a.state)), text(a.text), time(a.raised), time(a.closed)]
        for a in alarms
    ]
    blocks = [
        [
            _from(w),
            number(words.count(w.predictions)),
            number(words.count(w.rejected)),
            number(words.percent(w.outcomes / w.predictions) if w.predictions else "—"),
            *(
                number(words.metric(w.metrics[k]) if k in w.metrics else "—")
                for k in ("roc_auc", "brier", "mean_predicted", "mean_observed")
            ),
            number(words.milliseconds(w.metrics["latency_p99_us"] / 1000) if "latency_p99_us" in w.metrics else "—"),
            text(_drift(w.drift)),
            number(str(w.champion or "—")),
        ]
        for w in reversed(windows)
    ]
    still = [a for a in alarms if a.state == "open"]
    which = ", ".join(f"{a.kind} of {a.endpoint} since {words.day(a.raised, desk.now)}" for a in still[:3])
    more = " and others" if len(still) > 3 else ""
    said = f"{len(still)} alarm{'s are' if len(still) != 1 else ' is'} open: {which}{more}." if still else "No alarm is open."
    return said, [
        Table(
            id="alarms",
            title="Alarms",
            head=("kind", "endpoint", "state", "what", "raised", "closed"),
            rows=raised,
            empty="No alarm has been raised.",
        ),
        Table(
            id="windows",
            title=f"Days of {endpoint}",
            head=(
                "from",
                "#predictions",
                "#rejected",
                "#labels in",
                "#ROC AUC",
                "#Brier",
                "#predicted",
                "#observed",
                "#p99",
                "largest drift (PSI)",
                "#version",
            ),
            rows=blocks,
            empty="No day has been looked at yet: predictions are read from the gateways’ log by a worker.",
            command="treadle worker",
        ),
    ]


def _from(window: WindowReport) -> Cell:
    """When a window began: the day of one that is a day long, whatever hour it is now."""
    if window.end - window.start < dt.timedelta(days=1):
        return time(window.start)
    return text(f"{window.start.day} {window.start:%b %Y}", title=f"from {words.moment(window.start)} to {words.moment(window.end)} UTC")


def _drift(drift: dict[str, float]) -> str:
    most = sorted(drift.items(), key=lambda d: -d[1])[:2]
    return ", ".join(f"{name} {value:.2f}" for name, value in most)


_PAGES: dict[str, Callable[[Desk, Project], Any]] = {
    "data": _data,
    "features": _features,
    "training": _training,
    "evaluation": _evaluation,
    "packaging": _packaging,
    "registry": _registry,
    "release": _release,
    "serving": _serving,
    "monitoring": _monitoring,
}
