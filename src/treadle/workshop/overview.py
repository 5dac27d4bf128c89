"""The loop of one endpoint at a glance: what the console's first page and `treadle status` show.

Reads what the rooms recorded and says it in words; keeps no state of its own.
"""

import datetime as dt
import re
from typing import Any

from msgspec import Struct

from treadle.ledger.service import Ledger
from treadle.monitoring.service import Monitoring
from treadle.operations import data as data_ops
from treadle.operations import ledger as ledger_ops
from treadle.operations import monitoring as monitoring_ops
from treadle.operations import registry as registry_ops
from treadle.operations import releases as release_ops
from treadle.operations import workshop as ops
from treadle.pipelines.service import Pipelines
from treadle.records.calls import Call
from treadle.records.data import DatasetVersion
from treadle.records.definitions import Endpoint, Project
from treadle.records.errors import TreadleError
from treadle.records.ledger import Run, was_replayed
from treadle.records.models import Approval, ModelVersion
from treadle.records.monitoring import Alarm, WindowReport
from treadle.records.releases import Release
from treadle.records.states import AlarmState, ReleaseState, RunState, VersionState
from treadle.registry.service import Registry
from treadle.releases.service import Releases
from treadle.store.db import Connection
from treadle.store.queries import workshop as queries

_SINCE = dt.timedelta(days=370)
_FIGURES = 30
#: What a replay's judge writes when it is done.
JUDGED = "treadle.replay.judged"


class Rooms(Struct, frozen=True):
    """The services an overview reads."""

    ledger: Ledger
    pipelines: Pipelines
    data: Any
    registry: Registry
    releases: Releases
    monitoring: Monitoring


class _Facts(Struct, frozen=True, kw_only=True):
    """All that the sentence and the stations are written from."""

    now: dt.datetime
    endpoint: Endpoint
    dataset: DatasetVersion | None
    runs: list[Run]
    versions: list[ModelVersion]
    releases: list[Release]
    windows: list[WindowReport]
    alarms: list[Alarm]
    waiting: list[Approval]
    workers: int
    champion: int | None
    challenger: int | None
    views: int

    @property
    def trying(self) -> Release | None:
        """The release that runs now."""
        return next((r for r in self.releases if r.state in (ReleaseState.running, ReleaseState.waiting)), None)

    @property
    def open_alarms(self) -> list[Alarm]:
        """Alarms that are open."""
        return [a for a in self.alarms if a.state == AlarmState.open]

    @property
    def run(self) -> Run | None:
        """The newest run."""
        return self.runs[0] if self.runs else None


def overview(tx: Connection, rooms: Rooms, request: ops.GetOverview, call: Call) -> ops.Overview:
    """Everything the first page shows, in one read."""
    definitions = queries.applied(tx, request.project, request.environment)
    if definitions is None or not definitions.endpoints:
        raise TreadleError(
            f"Nothing is applied to {request.environment} of {request.project}, or it has no endpoint.",
            remedy=f"Apply the project: treadle apply --env {request.environment}",
            code="not_found",
        )
    names = [e.name for e in definitions.endpoints]
    wanted = request.endpoint or names[0]
    if wanted not in names:
        raise TreadleError(f"There is no endpoint {wanted!r}.", remedy=f"One of: {', '.join(names)}", code="not_found")
    endpoint = definitions.endpoints[names.index(wanted)]
    newest = rooms.ledger.list_events(tx, ledger_ops.ListEvents(project=request.project, newest=True, limit=12), call).items
    virtual = bool(newest) and was_replayed(newest[0])
    # A replay's time stands where its last event happened; the machine's goes on by itself.
    now = (queries.newest_event_time(tx, request.project) if virtual else None) or call.event_time
    facts = _gather(tx, rooms, request, call, definitions, endpoint, now)
    return ops.Overview(
        project=request.project,
        environment=request.environment,
        endpoint=endpoint.name,
        sentence=sentence(facts),
        now=facts.now,
        virtual=virtual,
        stations=stations(facts),
        champion=facts.champion,
        challenger=facts.challenger,
        travelling=_travelling(facts),
        waiting=facts.waiting,
        figures=figures(facts),
        quality=[_point(w) for w in facts.windows],
        marks=marks(facts),
        events=newest,
        judged=_judged(tx, rooms, request, call),
    )


def _judged(tx: Connection, rooms: Rooms, request: ops.GetOverview, call: Call) -> list[dict[str, Any]]:
    """The months of the newest judgement of a replay: metrics over all rows of a month, which windows cannot give."""
    asked = ledger_ops.ListEvents(project=request.project, environment=request.environment, type=JUDGED, newest=True, limit=1)
    found = rooms.ledger.list_events(tx, asked, call).items
    return list((found[0].payload or {}).get("months", [])) if found else []


def _gather(
    tx: Connection, rooms: Rooms, request: ops.GetOverview, call: Call, definitions: Project, endpoint: Endpoint, now: dt.datetime
) -> _Facts:
    project, environment = request.project, request.environment
    where: dict[str, Any] = {"project": project, "environment": environment}
    releases = rooms.releases.list_releases(tx, release_ops.ListReleases(**where, endpoint=endpoint.name, limit=200), call)
    serving = queries.serving(tx, project, environment) or {"endpoints": []}
    served: dict[str, Any] = next((e for e in serving["endpoints"] if e["name"] == endpoint.name), {})
    dataset = None
    if endpoint.requests:
        found = rooms.data.list_versions(tx, data_ops.ListDatasetVersions(project=project, dataset=endpoint.requests, limit=1), call).items
        dataset = found[0] if found else None
    snapshot = rooms.releases.get_snapshot(tx, release_ops.GetSnapshot(**where), call) if serving["endpoints"] else None
    return _Facts(
        now=now,
        endpoint=endpoint,
        dataset=dataset,
        runs=rooms.ledger.list_runs(tx, ledger_ops.ListRuns(project=project, limit=20), call).items,
        versions=rooms.registry.list_versions(
            tx, registry_ops.ListModelVersions(project=project, model=endpoint.model, limit=50), call
        ).items,
        releases=releases,
        windows=rooms.monitoring.list_windows(
            tx,
            monitoring_ops.ListWindows(**where, endpoint=endpoint.name, start=request.since or now - _SINCE),
            call,
        ),
        alarms=rooms.monitoring.list_alarms(tx, monitoring_ops.ListAlarms(**where, endpoint=endpoint.name, limit=200), call),
        waiting=[
            a for a in rooms.registry.list_approvals(tx, registry_ops.ListApprovals(project=project), call) if a.environment == environment
        ],
        workers=sum(a.state == "ready" for a in snapshot.acks) if snapshot else 0,
        champion=(served.get("champion") or {}).get("model_version"),
        challenger=(served.get("challenger") or {}).get("model_version"),
        views=len(definitions.feature_views),
    )


def sentence(facts: _Facts) -> str:
    """The state in one or two plain sentences."""
    if facts.champion is None:
        return "Nothing serves yet: no version of the model has been released here."
    trying = facts.trying
    if trying is None or trying.strategy is None or trying.from_version is None:
        said = f"Version {facts.champion} serves all traffic."
    else:
        share = trying.strategy.share
        day = _days(facts.now - trying.started) + 1
        last = trying.strategy.deadline_blocks * trying.strategy.block_s // 86400
        said = (
            f"Version {facts.champion} serves {_percent(1 - share)} of requests. Version {trying.to_version} is being tried on "
            f"{_percent(share)}, day {min(day, last)} of {last}; {trying.reason or 'no verdict yet.'}"
        )
    if not facts.workers:
        said += " No gateway has it loaded, so nothing answers."
    if facts.open_alarms:
        # What costs most first: inputs that differ do not by themselves mean a worse model. The figures stand with the alarm.
        worst = min(facts.open_alarms, key=lambda a: a.kind == "drift")
        said += f" {_plain(worst.text)}"
    return said


def _plain(text: str) -> str:
    """An alarm's text without the figures in brackets and the list after a colon."""
    return re.sub(r"\s*\([^)]*\)", "", text).partition(": ")[0].rstrip(".") + "."


def stations(facts: _Facts) -> list[ops.Station]:
    """The nine stations in the order in which data walks."""
    run = facts.run
    newest = facts.versions[0] if facts.versions else None
    window = facts.windows[-1] if facts.windows else None
    running = run is not None and run.state in (RunState.running, RunState.queued, RunState.waiting)
    passed = sum(g.passed for g in newest.gates) if newest else 0
    trying = facts.trying
    return [
        ops.Station(
            name="Data",
            state="healthy" if facts.dataset else "quiet",
            text=f"v{facts.dataset.number} · {facts.dataset.rows:,} rows" if facts.dataset else "nothing ingested yet",
            time=facts.dataset.event_time if facts.dataset else None,
        ),
        ops.Station(name="Features", state="healthy" if facts.dataset else "quiet", text=f"{facts.views} views"),
        ops.Station(
            name="Training",
            state="quiet" if run is None else "tried" if running else "harm" if run.state == RunState.failed else "healthy",
            text="no run yet" if run is None else f"{len(facts.runs)} runs · {run.state}" if running else _took(run),
            time=run.event_time if run else None,
        ),
        ops.Station(
            name="Evaluation",
            state="quiet" if newest is None else "healthy" if passed == len(newest.gates) else "waits",
            text=f"{passed} of {len(newest.gates)} gates" if newest else "no candidate yet",
        ),
        ops.Station(
            name="Packaging", state="healthy" if newest else "quiet", text=f"sealed · {newest.bundle_digest[:8]}" if newest else "—"
        ),
        ops.Station(
            name="Registry",
            state="waits" if facts.waiting else "quiet" if newest is None else "healthy",
            text=f"{newest.model} {newest.number} {newest.state}" if newest else "no version yet",
            time=newest.event_time if newest else None,
        ),
        ops.Station(
            name="Release",
            state="tried" if trying else "quiet" if not facts.releases else "healthy",
            text=_release(trying, facts) if trying else _released(facts),
        ),
        ops.Station(
            name="Serving",
            state="healthy" if facts.champion is not None and facts.workers else "quiet" if facts.champion is None else "harm",
            text=f"version {facts.champion} · {facts.workers} worker{'s' if facts.workers != 1 else ''}"
            if facts.champion
            else "nothing serves",
        ),
        ops.Station(
            name="Monitoring",
            state="quiet" if window is None else "waits" if facts.open_alarms else "healthy",
            text=f"{facts.open_alarms[0].kind} alarm" if facts.open_alarms else "nothing unusual" if window else "no window yet",
            time=window.end if window else None,
        ),
    ]


def figures(facts: _Facts) -> dict[str, Any]:
    """The numbers of the last 30 blocks; a rate comes with the count behind it."""
    recent = facts.windows[-_FIGURES:]
    predictions = sum(w.predictions for w in recent)
    outcomes = sum(w.outcomes for w in recent)
    told: dict[str, Any] = {"blocks": len(recent), "predictions": predictions, "outcomes": outcomes}
    if predictions:
        told["labels_in"] = outcomes / predictions
    for name in ("roc_auc", "brier"):
        pairs = [(w.metrics[name], w.outcomes) for w in recent if w.outcomes and name in w.metrics]
        if pairs:
            told[name] = sum(v * n for v, n in pairs) / sum(n for _, n in pairs)
    gap = [((w.metrics["mean_predicted"] - w.metrics["mean_observed"]), w.outcomes) for w in recent if "mean_observed" in w.metrics]
    if gap:
        told["calibration"] = sum(v * n for v, n in gap) / max(1, sum(n for _, n in gap))
    latency = [w.metrics["latency_p99_us"] for w in recent if "latency_p99_us" in w.metrics]
    if latency:
        told["latency_p99_ms"] = sorted(latency)[len(latency) // 2] / 1000
    told["releases"] = sum(r.state == ReleaseState.promoted for r in facts.releases)
    told["retrainings"] = sum(r.reason.trigger is not None for r in facts.runs)
    told["budget"] = facts.endpoint.retrain.budget if facts.endpoint.retrain else None
    return told


def marks(facts: _Facts) -> list[dict[str, Any]]:
    """Releases, canaries and alarms on the time axis of the quality chart."""
    told: list[dict[str, Any]] = []
    for release in facts.releases:
        canary = release.strategy is not None and release.from_version is not None
        if canary:
            told.append(
                {
                    "kind": "canary",
                    "start": release.started,
                    "end": release.ended or facts.now,
                    "text": f"version {release.to_version}: {release.state}",
                    "version": release.to_version,
                }
            )
        if release.state == ReleaseState.promoted:
            told.append(
                {
                    "kind": "release",
                    "start": release.ended or release.started,
                    "text": f"version {release.to_version} serves",
                    "version": release.to_version,
                }
            )
    told += [{"kind": "alarm", "start": a.raised, "end": a.closed, "text": a.text, "alarm": a.kind} for a in facts.alarms]
    return sorted(told, key=lambda m: m["start"])


def _point(window: WindowReport) -> dict[str, Any]:
    kept = ("roc_auc", "brier", "mean_predicted", "mean_observed", "roc_auc_low", "roc_auc_high")
    return {
        "start": window.start,
        "predictions": window.predictions,
        "outcomes": window.outcomes,
        "champion": window.champion,
        **{k: window.metrics[k] for k in kept if k in window.metrics},
    }


def _travelling(facts: _Facts) -> str | None:
    """The station whose outgoing arc is being travelled now."""
    if facts.trying is not None:
        return "Release"
    if facts.waiting:
        return "Registry"
    if facts.run is not None and facts.run.state in (RunState.running, RunState.queued):
        return "Training"
    newest = facts.versions[0] if facts.versions else None
    return "Registry" if newest is not None and newest.state == VersionState.approved and newest.number != facts.champion else None


def _release(release: Release, facts: _Facts) -> str:
    if release.strategy is None or release.from_version is None:
        return f"version {release.to_version} · loading"
    return f"canary {_percent(release.strategy.share)} · day {_days(facts.now - release.started) + 1}"


def _released(facts: _Facts) -> str:
    """What became of all releases; as many are promoted as the ring's centre counts."""
    promoted = sum(r.state == ReleaseState.promoted for r in facts.releases)
    if not facts.releases:
        return "none yet"
    return f"{promoted} promoted" if promoted == len(facts.releases) else f"{promoted} of {len(facts.releases)} promoted"


def _took(run: Run) -> str:
    if run.started is None or run.ended is None or run.ended <= run.started:  # virtual time stands still while a run works
        return str(run.state)
    return f"{run.state} · {(run.ended - run.started).total_seconds():.1f} s"


def _days(span: dt.timedelta) -> int:
    return max(0, span // dt.timedelta(days=1))


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
