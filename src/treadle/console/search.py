"""Search: an id leads straight to its page, a name to what bears it."""

import re

from msgspec import Struct
from starlette.responses import RedirectResponse, Response

from treadle.console import words
from treadle.console.desk import Desk
from treadle.console.listing import literal
from treadle.operations.ledger import GetEvent, ListRuns, Runs
from treadle.operations.registry import GetModelVersion, RegisteredModels, SearchModels
from treadle.operations.releases import GetRelease
from treadle.operations.tracking import (
    Experiments,
    GetLoggedModel,
    GetTrackedRun,
    SearchExperiments,
    SearchRuns,
    TrackedRuns,
)
from treadle.operations.workshop import GetApplied, WhyPrediction
from treadle.records.definitions import Project

_PREDICTION = re.compile(r"^[0-9a-z]+-[0-9a-f]+-\d+$")
_VERSION = re.compile(r"^([\w.-]+)(?:\s*[@:/]\s*|\s+)v?(\d{1,9})$")
#: The id of a run that an MLflow client made.
_HEX = re.compile(r"^[0-9a-f]{32}$")
_MOST = 50


class Hit(Struct, frozen=True, kw_only=True):
    """Something that was found."""

    kind: str
    name: str
    href: str
    text: str = ""


def page(desk: Desk) -> Response:
    """Where `q` leads: the one thing it names, or a list."""
    q = desk.request.query_params.get("q", "").strip()[:200]
    if not q:
        return RedirectResponse(desk.base, 303)
    exact = _exact(desk, q)
    if exact:
        return RedirectResponse(exact, 303)
    hits = _names(desk, q)
    if len(hits) == 1:
        return RedirectResponse(hits[0].href, 303)
    sentence = f"{len(hits)} things are called something like “{q}”." if hits else f"Nothing here is called “{q}”."
    return desk.page("found.html", sentence=sentence, hits=hits, status=200 if hits else 404)


def _exact(desk: Desk, q: str) -> str | None:
    project, base = desk.project, desk.base
    if q.startswith(("run_", "m-")) or _HEX.match(q):
        return _logged(desk, q)
    if q.startswith("evt_"):
        return base + words.path("events", q) if desk.maybe(GetEvent(project=project, event_id=q)) else None
    if q.startswith("rel_"):
        found = desk.maybe(GetRelease(project=project, environment=desk.environment, release_id=q))
        return base + words.path("releases", q) if found else None
    if q.startswith("apr_"):
        return f"{base}/registry#approvals"
    if q.startswith("alm_"):
        return f"{base}/monitoring#alarms"
    if _PREDICTION.match(q) and desk.maybe(WhyPrediction(project=project, prediction_id=q)):
        return base + words.path("predictions", q)
    named = _VERSION.match(q)
    if named and desk.maybe(GetModelVersion(project=project, model=named[1], number=int(named[2]))):
        return base + words.path("models", named[1], int(named[2]))
    return None


def _logged(desk: Desk, q: str) -> str | None:
    """The page of a run's or logged model's id."""
    if q.startswith("m-"):
        model = desk.maybe(GetLoggedModel(project=desk.project, model_id=q, deleted=True))
        return desk.base + words.path("logged-models", q) if model else None
    return desk.base + words.path("runs", q) if desk.maybe(GetTrackedRun(project=desk.project, run_id=q)) else None


def _names(desk: Desk, q: str) -> list[Hit]:
    applied: Project | None = desk.call(GetApplied(project=desk.project, environment=desk.environment))
    base, wanted = desk.base, q.lower()
    hits: list[Hit] = []
    if applied:
        for e in applied.endpoints:
            hits.append(
                Hit(kind="endpoint", name=e.name, href=f"{base}?endpoint={words.quote(e.name, safe='')}", text=f"serves model {e.model}")
            )
        hits += [Hit(kind="pipeline", name=p.name, href=f"{base}/training", text="its runs") for p in applied.pipelines]
        hits += [Hit(kind="dataset", name=d.name, href=f"{base}/data", text=d.description) for d in applied.datasets]
        for v in applied.feature_views:
            hits.append(Hit(kind="feature view", name=v.name, href=f"{base}/features", text=", ".join(v.features)))
    found = [h for h in hits if wanted in h.name.lower() or (h.kind == "feature view" and wanted in h.text.lower())]
    found = [*_recorded(desk, q), *found]
    runs: Runs = desk.call(ListRuns(project=desk.project, limit=200))
    found += [
        Hit(kind="run", name=r.run_id, href=base + words.path("runs", r.run_id), text=r.reason.text)
        for r in runs.items
        if wanted in r.run_id
    ]
    return found[:_MOST]


def _recorded(desk: Desk, q: str) -> list[Hit]:
    """Models and experiments with a part of their name, runs with the whole of it."""
    base = desk.base
    part, whole = literal(f"%{q}%"), literal(q)
    if part is None or whole is None:
        return []
    models: RegisteredModels = desk.call(SearchModels(project=desk.project, filter=f"name ILIKE {part}", limit=20))
    experiments: Experiments = desk.call(SearchExperiments(project=desk.project, filter=f"name ILIKE {part}", limit=20))
    named: TrackedRuns = desk.call(
        SearchRuns(project=desk.project, filter=f"attributes.run_name = {whole}", limit=20, columns=["tags.mlflow.runName"])
    )
    hits = [Hit(kind="model", name=m.model, href=base + words.path("models", m.model), text=m.description[:120]) for m in models.items]
    for e in experiments.items:
        hits.append(Hit(kind="experiment", name=e.name, href=base + words.path("experiments", e.experiment_id, "runs"), text=e.folder))
    hits += [Hit(kind="run", name=r.name, href=base + words.path("runs", r.run_id), text=r.run_id) for r in named.items]
    return hits
