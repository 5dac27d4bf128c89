"""The first page: a sentence, what waits for a person, the ring, the figures, quality over time, what happened.

`page` is the whole; `live` the same without its shell, which the browser swaps in when something has changed; `decide` takes a
person's answer.
"""

import datetime as dt
import hashlib
import itertools
import os
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from starlette.responses import RedirectResponse, Response

from treadle.console import quality, words
from treadle.console.desk import Desk, check_same_origin
from treadle.console.questions import question
from treadle.console.ring import clip, ring
from treadle.console.stations import LOOP_BEGINS
from treadle.operations.ledger import ListEvents
from treadle.operations.registry import DecideApproval, GetApproval, GetModelVersion, WithdrawApproval
from treadle.operations.workshop import GetApplied, GetOverview, Overview
from treadle.records.definitions import Project
from treadle.records.errors import TreadleError
from treadle.records.ledger import Event
from treadle.records.models import Approval, ModelVersion

_FIRST = """treadle init flights --example flights && cd flights   # a project to start from
treadle apply --env staging                            # make its definitions so
treadle up                                             # API, console, worker, gateways

treadle demo                                           # or watch a year of real flights first"""


#: The environment in addresses of a project that is applied nowhere.
_BARE = "dev"
#: Events that are looked through for the page, and how many lines it has.
_LOOKED, _LINES = 300, 12


#: What another event tells of already; the ledger has it all.
_DETAILS = frozenset(
    f"treadle.{t}" for t in ("model.alias_moved", "model.moved", "model.promoted", "run.started", "approval.decided", "release.delivered")
)


class Arrivals(Struct, frozen=True, kw_only=True):
    """Data that arrived between two other events, as one line."""

    first: str  # id of the newest
    time: dt.datetime
    text: str


def home(desk: Desk) -> Response:
    """To the first project's last environment (the one that the others lead to); where nothing is applied, to the runs that scripts
    have logged; or how to begin."""
    for project in desk.projects:
        if project.environments:
            return RedirectResponse(words.path("projects", project.name, _last(desk, project.name, project.environments)), 303)
    logged = [p.name for p in desk.projects]
    if logged:
        name = logged_project() if logged_project() in logged else logged[0]
        return RedirectResponse(f"{words.path('projects', name, _BARE)}/experiments", 303)
    return desk.page(
        "empty.html",
        title="Nothing here yet",
        sentence="This home has no project. Once one is applied, its loop stands here: what serves, what is tried, what waits for you.",
        lead="How to begin",
        commands=_FIRST,
    )


def logged_project() -> str:
    """The project that clients log to who name none."""
    return os.environ.get("TREADLE_MLFLOW_PROJECT") or "default"


def shortcut(name: str, desk: Desk) -> Response:
    """`/experiments`, `/runs`, `/models`: to those of the first project, with the query that came."""
    found = next((p for p in desk.projects if p.environments), None)
    base = words.path("projects", logged_project(), _BARE)
    if found is not None:
        base = words.path("projects", found.name, _last(desk, found.name, found.environments))
    query = desk.request.url.query
    return RedirectResponse(f"{base}/{name}{f'?{query}' if query else ''}", 303)


def logged(desk: Desk) -> Response:
    """`/runs/ID`, `/experiments/ID`, `/models/NAME`: what an MLflow client logged here, in the project that its runs go to. Such a client
    prints `/#/experiments/ID/runs/ID`, which the page's script brings here. One that names its project logs below `/mlflow/PROJECT`, and
    so does what it prints: `/mlflow/PROJECT/runs/ID`."""
    project = desk.project or logged_project()
    asked = desk.request.url.path
    below = f"/{asked.split('/', 3)[3]}" if desk.project else asked
    return RedirectResponse(f"{_base(desk, project)}{below}", 303)


def tracking(desk: Desk) -> Response:
    """`/mlflow/PROJECT`, opened by a person: it is the tracking address of MLflow's clients. The page's script goes on to what was printed
    behind it, or to the experiments."""
    if all(p.name != desk.project for p in desk.projects):
        raise _no_project(desk.project)
    base = _base(desk, desk.project)
    desk.environment = base.rpartition("/")[2]
    return desk.page(
        "empty.html",
        title=f"{desk.project} for MLflow's clients",
        sentence="This is the tracking address of a project. What such clients log to it is under Experiments, Runs and Models.",
        lead="In a script",
        commands=f'mlflow.set_tracking_uri("{str(desk.request.url).partition("?")[0].rstrip("/")}")',
    )


def project(desk: Desk) -> Response:
    """To a project's last environment; to the experiments of one that is applied nowhere."""
    known = next((p for p in desk.projects if p.name == desk.project), None)
    if known is None:
        raise _no_project(desk.project)
    return RedirectResponse(_base(desk, desk.project) + ("" if known.environments else "/experiments"), 303)


def _base(desk: Desk, project: str) -> str:
    """The path of a project's pages, in the environment that its others lead to."""
    environments = next((p.environments for p in desk.projects if p.name == project), None)
    return words.path("projects", project, _last(desk, project, environments) if environments else _BARE)


def _no_project(name: str) -> TreadleError:
    return TreadleError(f"There is no project {name!r} here.", remedy="Apply it from its folder: treadle apply --env dev", code="not_found")


def page(desk: Desk) -> Response:
    """The whole page."""
    return _page(desk)


def live(desk: Desk) -> Response:
    """What the browser swaps in; 304 where it has it already."""
    html, version = _html(desk, fragment=True)
    if desk.request.headers.get("if-none-match", "").strip('"') == version:
        return Response(status_code=304)
    return Response(html, media_type="text/html", headers={"cache-control": "no-store", "etag": f'"{version}"'})


def decide(desk: Desk, form: dict[str, str]) -> Response:
    """A person's answer: granted or refused, with a comment; then the loop again, or the error with what was typed."""
    check_same_origin(desk.request)
    approval_id = desk.request.path_params["approval_id"]
    try:
        decision, comment = form.get("decision"), form.get("comment", "")[:500]
        of: dict[str, Any] = {"project": desk.project, "approval_id": approval_id}
        if decision not in ("approve", "refuse", "withdraw"):
            raise TreadleError("The form says neither approve nor refuse.", remedy="Use one of the two buttons.")
        request: Any = WithdrawApproval(reason=comment, **of)
        if decision != "withdraw":
            request = DecideApproval(grant=decision == "approve", comment=comment, environment=desk.environment, **of)
        # In a replay an answer is given at the business time that the person sees, not years after it.
        desk.call(request, event_time=desk.replayed)
    except TreadleError as error:
        desk.__dict__.pop("overview", None)
        return _page(desk, error=error, kept={approval_id: form.get("comment", "")})
    return RedirectResponse(f"{desk.base}?decided={words.quote(approval_id, safe='')}", 303)


def _page(desk: Desk, *, error: TreadleError | None = None, kept: dict[str, str] | None = None) -> Response:
    if desk.overview is None:
        return _nothing(desk)
    html, _ = _html(desk, error=error, kept=kept)
    return Response(html, 400 if error else 200, media_type="text/html", headers={"cache-control": "no-store"})


def _nothing(desk: Desk) -> Response:
    """Where nothing is applied, or what is applied has no endpoint: say so through the operation's own words."""
    endpoint = desk.request.query_params.get("endpoint", "")
    try:
        desk.call(GetOverview(project=desk.project, environment=desk.environment, endpoint=endpoint))
    except TreadleError as error:
        known = any(p.name == desk.project and desk.environment in p.environments for p in desk.projects)
        if not known and not desk.tracked:
            raise
        if desk.tracked and not endpoint:
            return desk.page(
                "empty.html",
                title=f"{desk.project} has no loop yet",
                sentence="Scripts have logged to it: see Experiments, Runs and Models. Once a project of that name is applied, its loop "
                "stands here: what serves, what is tried, how good it is day by day, what waits for you.",
                lead="How to begin one",
                commands=LOOP_BEGINS.format(environment=desk.environment),
            )
        return desk.page(
            "empty.html",
            status=404 if endpoint else 200,
            title=f"{desk.environment} of {desk.project}",
            sentence=error.what,
            lead="What to do",
            commands=error.remedy,
        )
    return RedirectResponse(desk.request.url.path, 303)  # applied in between


def _html(desk: Desk, *, fragment: bool = False, error: TreadleError | None = None, kept: dict[str, str] | None = None) -> tuple[str, str]:
    """(HTML, its version): the version changes when anything on the page does."""
    seen = desk.overview
    if seen is None:
        raise TreadleError("Nothing is applied here any more.", remedy=f"treadle apply --env {desk.environment}", code="not_found")
    query = f"?{desk.request.url.query}" if desk.request.url.query else ""
    happened = latest(desk.call(ListEvents(project=desk.project, newest=True, limit=_LOOKED)).items, desk.environment)
    cards, notice = _cards(desk, seen, kept or {}), _notice(desk)
    shown = [msgspec.structs.replace(seen, now=seen.now.replace(second=0, microsecond=0)), cards, notice, happened, desk.projects]
    version = hashlib.blake2s(msgspec.json.encode(shown, enc_hook=str), digest_size=10).hexdigest()
    context: dict[str, Any] = {
        "headline": headline(seen),
        "live": f"{desk.base}/live{query}",
        "ring": ring(seen.stations, seen.travelling),
        "centre": centre(seen),
        "cards": cards,
        "events": happened,
        "variants": variants(seen, desk.base, quality.model_of(desk, seen)),
        "figures_title": f"Last {seen.figures.get('blocks') or 30} days",
        "figures": figures(seen, desk.base),
        **quality.context(desk, seen),
        "notice": notice,
        "error": error,
        "fragment": fragment,
        "version": version,
    }
    return desk.render("loop.html", **context), version


def headline(seen: Overview) -> str:
    """The page's title: what the loop is doing."""
    name = seen.endpoint
    if seen.waiting:
        return f"{name} waits for a person"
    if any(s.state == "harm" for s in seen.stations):
        return f"{name} needs a look: {', '.join(s.name for s in seen.stations if s.state == 'harm')}"
    if seen.champion is None:
        return f"{name} has not begun to turn"
    if seen.challenger is not None:
        return f"{name} is trying version {seen.challenger}"
    return f"{name} is turning"


def centre(seen: Overview) -> list[str]:
    """The lines under the endpoint's name in the ring."""
    lines = []
    if seen.champion is not None:
        trying = f" · {seen.challenger} is tried" if seen.challenger is not None else ""
        lines.append(f"version {seen.champion} serves{trying}")
    releases, made, budget = (seen.figures.get(k) for k in ("releases", "retrainings", "budget"))
    if releases or made:
        of = f" of {budget}" if budget else ""
        lines.append(f"{releases or 0} promoted · {made or 0}{of} retraining{'s' if budget or made != 1 else ''}")
    return lines or ["no version yet"]


def latest(events: Sequence[Event], environment: str) -> list[Event | Arrivals]:
    """The newest events of an environment, newest first; what arrived between two others is one line, since data arrives all the time."""
    told: list[Event | Arrivals] = []
    mine = [e for e in events if e.environment in ("", environment) and e.type not in _DETAILS]
    for arrived, group in itertools.groupby(mine, key=lambda e: e.type == "treadle.data.arrived"):
        run = list(group)
        if arrived and len(run) > 1:
            names = sorted({e.subject.removeprefix("dataset/") for e in run})
            rows = sum((e.payload or {}).get("added_rows") or 0 for e in run)
            text = f"{len(run)} new versions of {', '.join(names)} · {rows:,} new rows"
            told.append(Arrivals(first=run[0].event_id, time=run[0].event_time, text=clip(text, 200)))
        else:
            told += run
    return told[:_LINES]


def variants(seen: Overview, base: str, model: str) -> list[dict[str, Any]]:
    """Champion, challenger and open alarms: what each is, since when, and where it leads."""
    told: list[dict[str, Any]] = []
    versions = base + words.path("models", model)
    newest: dict[tuple[str, Any], Any] = {(m["kind"], m.get("version")): m["start"] for m in seen.marks}
    rows = [("champion", "healthy", "release", seen.champion), ("challenger", "tried", "canary", seen.challenger)]
    for name, tone, kind, number in rows:
        if number is not None:
            since = newest.get((kind, number))
            told.append({"name": name, "tone": tone, "text": f"{model} {number}", "href": f"{versions}/{number}", "since": since})
    for m in reversed(seen.marks):
        if m["kind"] == "alarm" and m.get("end") is None:
            text = m.get("alarm") or "alarm"
            told.append({"name": "open alarm", "tone": "waits", "text": text, "href": f"{base}/monitoring#alarms", "since": m["start"]})
    return told[:6]


def figures(seen: Overview, base: str) -> list[dict[str, Any]]:
    """The numbers of the last days, each with what it means, what it is over and where it comes from."""
    f = seen.figures
    made, known = f.get("predictions") or 0, f.get("outcomes") or 0
    over = f"over {known:,} predictions whose outcome is known"
    calibration, latency = f.get("calibration", 0.0), f.get("latency_p99_ms", 0.0)
    monitoring, quality = f"{base}/monitoring", "?metric={}#quality"
    rows = [
        (
            "roc_auc",
            known,
            words.metric(f.get("roc_auc")),
            "ROC AUC",
            "1 ranks perfectly, 0.5 is chance",
            f"mean of the days {over}",
            "#quality",
        ),
        ("brier", known, words.metric(f.get("brier")), "Brier score", "squared error, lower is better", over, quality.format("brier")),
        (
            "calibration",
            known,
            words.points(calibration),
            "predicted − observed",
            "the nearer to 0 the better",
            over,
            quality.format("calibration"),
        ),
        ("predictions", made, words.count(made), "predictions", "answered in these days", "", monitoring),
        ("latency_p99_ms", made, words.milliseconds(latency), "latency, p99", "99 of 100 are faster", "median of the days", monitoring),
        (
            "labels_in",
            made,
            words.percent(f.get("labels_in", 0.0)),
            "labels in",
            f"{known:,} outcomes known",
            f"of {made:,} predictions",
            monitoring,
        ),
    ]
    return [
        {"value": value, "label": label, "told": told, "title": title, "href": href}
        for key, needed, value, label, told, title, href in rows
        if needed and key in f
    ]


def _cards(desk: Desk, seen: Overview, kept: dict[str, str]) -> list[dict[str, Any]]:
    if not seen.waiting:
        return []
    applied: Project | None = desk.call(GetApplied(project=desk.project, environment=desk.environment))
    return [_card(desk, seen, approval, applied, kept.get(approval.approval_id, "")) for approval in seen.waiting]


def _card(desk: Desk, seen: Overview, approval: Approval, applied: Project | None, comment: str) -> dict[str, Any]:
    parts = approval.subject.split("/")
    version: ModelVersion | None = None
    if len(parts) == 3 and parts[0] == "model" and parts[2].isdigit():
        version = desk.maybe(GetModelVersion(project=desk.project, model=parts[1], number=int(parts[2])))
    subject = f"{version.model} {version.number}" if version else approval.subject
    return {
        "approval": approval,
        "asked": question(desk, approval),
        "title": approval.question or f"Approve {subject} for {approval.environment}?",
        "subject": subject,
        "href": words.subject_path(desk.base, approval.subject),
        "evidence": _evidence(version),
        "consequences": consequences(subject, approval.environment, seen, applied, version),
        "comment": comment,
    }


def _evidence(version: ModelVersion | None) -> str:
    if version is None:
        return ""
    passed = sum(g.passed for g in version.gates)
    gates = f"{passed} of {len(version.gates)} gates passed" if version.gates else "No gate was declared"
    numbers = ", ".join(f"{k.replace('_', ' ')} {words.metric(v)}" for k, v in list(version.metrics.items())[:2])
    return f"{gates}{'; ' + numbers if numbers else ''}."


def consequences(
    subject: str, environment: str, seen: Overview, applied: Project | None, version: ModelVersion | None
) -> list[tuple[str, str]]:
    """(button, what it does and how that is undone)."""
    definitions = applied.endpoints if applied else ()
    endpoint = next((e for e in definitions if e.name == seen.endpoint), None)
    leads = applied is not None and any(e.after == environment for e in applied.environments)
    if version is None or endpoint is None:
        return [("Approve", "lets it go on, written down with your name."), ("Refuse", "ends it, written down with your name.")]
    stays = f"version {seen.champion} stays" if seen.champion else "nothing changes"
    refuse = ("Refuse", f"{stays}, and this question is closed.")
    if seen.champion is None or leads:
        return [("Approve", f"{subject} then serves all requests of {environment}; a release can be rolled back at any time."), refuse]
    canary = endpoint.release
    tried = (
        f"{subject} then answers {words.percent(canary.share)} of requests beside version {seen.champion} for at most "
        f"{words.span(canary.deadline_blocks * canary.block_s)}, and is taken back by itself if it harms. You can roll it back at any time."
    )
    return [("Approve", tried), refuse]


def _notice(desk: Desk) -> dict[str, str] | None:
    approval_id = desk.request.query_params.get("decided")
    found: Approval | None = desk.maybe(GetApproval(project=desk.project, approval_id=approval_id)) if approval_id else None
    if found is None or found.decided_by is None or found.decided_time is None:
        return None
    parts = found.subject.split("/")
    subject = " ".join(parts[1:]) if parts[0] == "model" else found.subject
    comment = f": {clip(found.comment, 120)}" if found.comment else ""
    text = f"{subject} was {found.state} for {found.environment} by {found.decided_by} at {words.moment(found.decided_time)} UTC{comment}"
    return {"tone": words.tone(found.state), "text": text}


def _last(desk: Desk, name: str, environments: list[str]) -> str:
    """The environment that the others lead to (production), of those where a project is applied; the last where none leads to another."""
    applied: Project | None = desk.call(GetApplied(project=name, environment=environments[0]))
    before = {e.name: e.after for e in applied.environments} if applied else {}

    def way(environment: str) -> int:
        passed: list[str] = []
        while environment and environment not in passed:
            passed.append(environment)
            environment = before.get(environment, "")
        return len(passed)

    return max(reversed([e for e in before if e in environments] or environments), key=way)
