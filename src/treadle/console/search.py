"""Search: an id leads straight to its page, a name to what bears it."""

import re

from msgspec import Struct
from starlette.responses import RedirectResponse, Response

from treadle.console import words
from treadle.console.desk import Desk
from treadle.operations.ledger import GetEvent, GetRun, ListRuns, Runs
from treadle.operations.registry import GetModelVersion
from treadle.operations.releases import GetRelease
from treadle.operations.workshop import GetApplied, WhyPrediction
from treadle.records.definitions import Project

_PREDICTION = re.compile(r"^[0-9a-z]+-[0-9a-f]+-\d+$")
_VERSION = re.compile(r"^([\w.-]+)(?:\s*[@:/]\s*|\s+)v?(\d{1,9})$")
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
    if q.startswith("run_"):
        return base + words.path("runs", q) if desk.maybe(GetRun(project=project, run_id=q)) else None
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


def _names(desk: Desk, q: str) -> list[Hit]:
    applied: Project | None = desk.call(GetApplied(project=desk.project, environment=desk.environment))
    base, wanted = desk.base, q.lower()
    hits: list[Hit] = []
    if applied:
        for e in applied.endpoints:
            hits.append(
                Hit(kind="endpoint", name=e.name, href=f"{base}?endpoint={words.quote(e.name, safe='')}", text=f"serves model {e.model}")
            )
        for model in sorted({e.model for e in applied.endpoints}):
            hits.append(Hit(kind="model", name=model, href=f"{base}/registry", text="its versions"))
        hits += [Hit(kind="pipeline", name=p.name, href=f"{base}/training", text="its runs") for p in applied.pipelines]
        hits += [Hit(kind="dataset", name=d.name, href=f"{base}/data", text=d.description) for d in applied.datasets]
        for v in applied.feature_views:
            hits.append(Hit(kind="feature view", name=v.name, href=f"{base}/features", text=", ".join(v.features)))
    found = [h for h in hits if wanted in h.name.lower() or (h.kind == "feature view" and wanted in h.text.lower())]
    runs: Runs = desk.call(ListRuns(project=desk.project, limit=200))
    found += [
        Hit(kind="run", name=r.run_id, href=base + words.path("runs", r.run_id), text=r.reason.text)
        for r in runs.items
        if wanted in r.run_id
    ]
    return found[:_MOST]
