"""The page of one run: what a script logged, or what the engine executed; the same page for both.

The part that changes while a run is at work is asked for again every few seconds until it has ended; then the rest is, once.
"""

from typing import Any

from starlette.responses import RedirectResponse, Response

from treadle.console import insides, words
from treadle.console import listing as listings
from treadle.console.asked import Address, Fields
from treadle.console.desk import Desk, check_same_origin, version_of
from treadle.console.files import entries
from treadle.console.notices import notice
from treadle.console.tables import Cell, Fact, Table, number, text
from treadle.operations.ledger import GetRun, RunDetail
from treadle.operations.pipelines import ListSteps, LogLine, ReadLog
from treadle.operations.registry import ModelVersions, SearchVersions
from treadle.operations.tracking import (
    BinRun,
    Files,
    GetExperiment,
    GetLoggedModel,
    GetTrackedRun,
    ListFiles,
    LogBatch,
    SearchRuns,
    TrackedRuns,
    UpdateRun,
)
from treadle.records.errors import TreadleError
from treadle.records.ledger import Run, Step
from treadle.records.states import RunState, StepState
from treadle.records.tracking import LoggedModel, TrackedRun

_TAIL = 300
_LOG_PAGES = 50
#: Charts that are drawn without being asked for, and files and children that are listed.
_CHARTS, _FILES, _CHILDREN = 12, 100, 50
_PATCH, _LOCK = "code/uncommitted.patch", "environment/requirements.txt"


def page(desk: Desk) -> Response:
    """The whole page."""
    run_id = desk.request.path_params["run_id"]
    one: TrackedRun = desk.call(GetTrackedRun(project=desk.project, run_id=run_id))
    part = _part(desk, one)
    html = desk.fragment("_run.html", **part)
    experiment = desk.maybe(GetExperiment(project=desk.project, experiment=one.experiment_id, by="id"))
    keys = [p.key for p in one.metrics]
    machine = [k for k in keys if k.startswith(listings.MACHINE)]
    return desk.page(
        "run.html",
        one=one,
        title=listings.name_of(one),
        crumbs=_crumbs(desk, one, experiment.name if experiment else one.experiment_id),
        live_part=html,
        version=version_of(html),
        rest_part=desk.fragment("_rest.html", **_rest(desk, one, part["steps_of"])),
        notice=notice(Address.of(desk.request), desk.base),
        note=one.tags.get(listings.NOTE, ""),
        charts=[k for k in keys if not k.startswith(listings.MACHINE + listings.INSIDE)],
        inside=[k for k in keys if k.startswith(listings.INSIDE)],
        machine=machine,
        at_once=_CHARTS,
        live=bool(part["live"]),
        parent=one.parent_run or one.tags.get("mlflow.parentRunId"),
    )


def live(desk: Desk) -> Response:
    """The part that changes; once the run has ended it asks for the rest too, once."""
    one: TrackedRun = desk.call(GetTrackedRun(project=desk.project, run_id=desk.request.path_params["run_id"]))
    part = _part(desk, one)
    ended = "" if part["live"] else f"{desk.base}{words.path('runs', one.run_id)}/rest"
    return desk.swapped(desk.fragment("_run.html", **{**part, "ended": ended}))


def rest(desk: Desk) -> Response:
    """What only changes much when a run ends: files, models, tags, the record, the log."""
    one: TrackedRun = desk.call(GetTrackedRun(project=desk.project, run_id=desk.request.path_params["run_id"]))
    steps: list[Step] = desk.call(ListSteps(project=desk.project, run_id=one.run_id)) if one.pipeline else []
    return desk.swapped(desk.fragment("_rest.html", **_rest(desk, one, steps)))


def _part(desk: Desk, one: TrackedRun) -> dict[str, Any]:
    steps: list[Step] = desk.call(ListSteps(project=desk.project, run_id=one.run_id)) if one.pipeline else []
    alive = str(one.state) in listings.LIVE
    shown = sorted(one.metrics, key=lambda p: (p.key.startswith(listings.MACHINE), p.key.startswith(listings.INSIDE), p.key))
    home = desk.base + words.path("runs", one.run_id)
    return {
        "one": one,
        "steps_of": steps,
        "sentence": _pipeline_sentence(desk, one, steps) if one.pipeline else _sentence(desk, one),
        "live": f"{home}/live" if alive else "",
        "ended": "",
        "error_text": one.error,
        "remedy": f"Once the cause is gone, go on from the failed step: treadle run --resume {one.run_id}" if one.pipeline else "",
        "metrics": [(p, listings.told(p.value)) for p in shown],
        "params": sorted(one.params.items()),
        "diagnosis": f"{home}/diagnosis" if insides.examined(one) else "",
    }


def _rest(desk: Desk, one: TrackedRun, steps: list[Step]) -> dict[str, Any]:
    run_id = one.run_id
    detail: RunDetail = desk.call(GetRun(project=desk.project, run_id=run_id))
    home = desk.base + words.path("runs", run_id)
    inside: Files = desk.call(ListFiles(project=desk.project, owner=run_id, limit=_FILES))
    log, total = _tail(desk, run_id) if one.pipeline else ([], 0)
    chosen = Address(f"{home}/insides", [(k, v) for k, v in Address.of(desk.request).pairs if k in ("tensor", "step")])
    return {
        "one": one,
        "note": one.tags.get(listings.NOTE, ""),
        "insides": chosen.to() if insides.has_files(desk, run_id) else "",
        "files": entries(inside, home),
        "more_files": bool(inside.page.next),
        "home": home,
        "children": _children(desk, run_id),
        "inputs": [_input(i) for i in one.inputs],
        "models": _models(desk, one),
        "versions": _versions(desk, run_id),
        "patch": f"{home}/files/{_PATCH}" if one.tags.get("treadle.git.dirty") == "true" else "",
        "lock": f"{home}/files/{_LOCK}" if "treadle.command" in one.tags else "",
        "tables": [_steps(steps)] if one.pipeline else [],
        "facts": _facts(desk, one, detail.run),
        "tags": sorted((k, v) for k, v in one.tags.items() if k != listings.NOTE),
        "log": log,
        "log_note": f"the last {len(log)} of {total:,} lines" if total > len(log) else "",
    }


def _crumbs(desk: Desk, one: TrackedRun, experiment: str) -> list[tuple[str, str]]:
    if one.pipeline:
        return [("Training", f"{desk.base}/training")]
    return [("Experiments", f"{desk.base}/experiments"), (experiment, desk.base + words.path("experiments", one.experiment_id, "runs"))]


def _sentence(desk: Desk, one: TrackedRun) -> str:
    took = listings.took(one, desk.now)
    logged = [
        f"{len(things):,} {word}{'s' if len(things) != 1 else ''}"
        for things, word in ((one.metrics, "metric"), (one.params, "parameter"))
        if things
    ]
    with_ = f" with {' and '.join(logged)}" if logged else "; nothing was logged to it"
    said = {
        RunState.queued: "The run is announced and has not begun",
        RunState.running: f"The run is at work, {took}" if took != "—" else "The run is at work",
        RunState.waiting: "The run waits",
        RunState.cancelling: "The run was asked to stop and is stopping",
        RunState.finished: f"The run finished{f' in {took}' if took != '—' else ''}",
        RunState.failed: f"The run failed{f' after {took}' if took != '—' else ''}",
        RunState.cancelled: f"The run was stopped{f' after {took}' if took != '—' else ''}",
    }[one.state]
    who = f" Started by {one.user or one.actor}" if one.user or one.actor else ""
    source = one.tags.get("mlflow.source.name") or one.tags.get("treadle.command")
    how = f" from {source[:120]}" if source and who else ""
    binned = " It is in the bin." if one.lifecycle == "deleted" else ""
    return f"{said}{with_}.{who}{how}{'.' if who else ''}{binned}"


def _pipeline_sentence(desk: Desk, one: TrackedRun, steps: list[Step]) -> str:
    run: Run = desk.call(GetRun(project=desk.project, run_id=one.run_id)).run
    ran = sum(s.state == StepState.finished for s in steps)
    cached = sum(s.state == StepState.cached for s in steps)
    done = f"{ran} step{'s' if ran != 1 else ''} ran, {cached} {'were' if cached != 1 else 'was'} answered from the cache"
    took = f" in {words.took(run)}" if words.took(run) else ""
    said = {
        RunState.queued: "The run waits for a worker.",
        RunState.running: f"The run is at work: {done} so far.",
        RunState.waiting: f"The run waits, durably, for an answer or a time: {done} so far.",
        RunState.cancelling: "The run was asked to stop and is stopping.",
        RunState.finished: f"The run finished{took}: {done}.",
        RunState.failed: f"The run failed{took}: {done} before that, and they need not run again.",
        RunState.cancelled: f"The run was cancelled{took}: {done}.",
    }
    because = run.reason.text.strip()
    return f"{said[one.state]} It was started because: {because}{'' if because.endswith(('.', '!', '?')) else '.'}"


def _facts(desk: Desk, one: TrackedRun, run: Run) -> list[Fact]:
    why = desk.base + words.path("events", run.reason.event_id) if run.reason.event_id else None
    experiment = desk.base + words.path("experiments", one.experiment_id, "runs")
    facts = [
        Fact(name="run", text=one.run_id),
        Fact(name="experiment", text=one.experiment_id, href=experiment),
        Fact(name="pipeline", text=one.pipeline) if one.pipeline else None,
        Fact(name="environment", text=run.environment),
        Fact(name="reason", text=run.reason.text, href=why) if one.pipeline else None,
        Fact(name="trigger", text=run.reason.trigger or run.reason.kind) if one.pipeline else None,
        Fact(name="started by", text=one.user or run.actor),
        Fact(name="recorded by", text=run.actor) if one.user and one.user != run.actor else None,
        Fact(name="started", time=one.started or one.created),
        Fact(name="ended", time=one.ended, text="—"),
        Fact(name="took", text=words.took(run) or "—"),
        Fact(name="events", text="what happened to it", href=f"{desk.base}/events?type=treadle.run.%2A"),
        Fact(name="definition", text=run.definition_digest) if run.definition_digest else None,
        Fact(name="code", text=run.code_digest) if run.code_digest else None,
        Fact(name="environment lock", text=run.environment_digest) if run.environment_digest else None,
        Fact(name="git revision", text=one.git_revision or one.tags.get("mlflow.source.git.commit") or "—"),
    ]
    return [f for f in facts if f is not None]


def _children(desk: Desk, run_id: str) -> dict[str, Any]:
    clause = f"tags.`mlflow.parentRunId` = {listings.literal(run_id) or repr('')}"
    found: TrackedRuns = desk.call(SearchRuns(project=desk.project, filter=clause, limit=_CHILDREN))
    keys = listings.keys(found.items).metrics[:4]
    rows = []
    for child in found.items:
        values = {p.key: p for p in child.metrics}
        rows.append(
            [
                text(listings.name_of(child), href=desk.base + words.path("runs", child.run_id)),
                Cell(text=str(child.state), tone=words.tone(child.state)),
                *(number(listings.told(values[k].value) if k in values else "—") for k in keys),
            ]
        )
    ids = ",".join(c.run_id for c in found.items[:20])
    return {
        "table": Table(id="children", title="Its parts", head=("run", "state", *(f"#{k}" for k in keys)), rows=rows) if rows else None,
        "compare": f"{desk.base}/compare?runs={words.quote(ids, safe=',')}" if len(found.items) > 1 else "",
        "all": f"{desk.base}/runs?filter={words.quote(clause, safe='')}" if found.page.next else "",
    }


def _input(one: Any) -> dict[str, str]:
    return {
        "name": one.name,
        "digest": one.digest,
        "context": one.context or one.tags.get("mlflow.data.context", ""),
        "source": (one.source or "")[:300],
        "type": one.source_type,
        "schema": (one.schema or "")[:4000],
        "profile": (one.profile or "")[:1000],
    }


def _models(desk: Desk, one: TrackedRun) -> list[dict[str, Any]]:
    made = []
    for m in one.models[:50]:
        found: LoggedModel | None = desk.maybe(GetLoggedModel(project=desk.project, model_id=m.model_id, deleted=True))
        made.append(
            {
                "href": desk.base + words.path("logged-models", m.model_id),
                "name": found.name if found and found.name else m.model_id,
                "role": "made" if m.role == "output" else "read",
                "type": found.model_type if found else "",
                "state": str(found.state) if found else "gone",
                "step": m.step,
            }
        )
    return made


def _versions(desk: Desk, run_id: str) -> list[dict[str, Any]]:
    """Versions of registered models that were made of the run."""
    wanted = listings.literal(run_id)
    if wanted is None:
        return []
    found: ModelVersions = desk.call(SearchVersions(project=desk.project, filter=f"run_id = {wanted}", limit=20))
    return [
        {"name": f"{v.model} {v.number}", "href": desk.base + words.path("models", v.model, v.number), "state": v.state}
        for v in found.items
    ]


def _steps(steps: list[Step]) -> Table:
    rows = [
        [
            text(s.path),
            Cell(text=str(s.state), tone=words.tone(s.state)),
            text(s.why),
            number(words.took(s) or "—"),
            number(str(s.attempt)),
            text(words.short(s.output) if s.output else "—", title=s.output or ""),
        ]
        for s in steps
    ]
    return Table(
        id="steps",
        title="Steps",
        head=("step", "state", "why it ran or was skipped", "#took", "#attempt", "output"),
        rows=rows,
        empty="No step has been called yet. A worker takes queued runs up:",
        command="treadle worker",
    )


def _tail(desk: Desk, run_id: str) -> tuple[list[LogLine], int]:
    """(the last lines of a run's log, how many there are)."""
    lines: list[LogLine] = []
    after = 0
    for _ in range(_LOG_PAGES):
        found = desk.call(ReadLog(project=desk.project, run_id=run_id, after=after, limit=10_000))
        lines = [*lines, *found.items][-_TAIL:]
        if found.page.next is None:
            break
        after = int(found.page.next)
    return lines, lines[-1].number if lines else 0


# ── what is done with it ─────────────────────────────────────────────────────────────────────────────────────────────


def change(desk: Desk, fields: Fields) -> Response:
    """Rename, move, note, tag, end, bin or restore a run."""
    check_same_origin(desk.request)
    run_id, what = desk.request.path_params["run_id"], fields.get("act")
    call: Any
    said = "saved"
    if what == "rename":
        call = UpdateRun(project=desk.project, run_id=run_id, name=fields.get("name"))
    elif what == "move":
        target = desk.call(GetExperiment(project=desk.project, experiment=fields.get("experiment")))
        call = UpdateRun(project=desk.project, run_id=run_id, experiment=target.experiment_id)
    elif what == "note":
        note = fields.text("note")
        call = LogBatch(project=desk.project, run_id=run_id, tags={listings.NOTE: note})
    elif what == "tag":
        name, value = fields.get("tag"), fields.get("value")
        call = LogBatch(project=desk.project, run_id=run_id, tags={name: value} if value else {}, remove_tags=[] if value else [name])
    elif what in ("finish", "fail"):
        state = RunState.finished if what == "finish" else RunState.failed
        call = UpdateRun(project=desk.project, run_id=run_id, state=state)
    elif what in ("bin", "restore"):
        call = BinRun(project=desk.project, run_id=run_id, lifecycle="deleted" if what == "bin" else "active")
        said = "binned" if what == "bin" else "restored"
    else:
        raise TreadleError("The form does not say what to do with the run.", remedy="Use one of its buttons.")
    desk.call(call)
    return RedirectResponse(f"{desk.base}{words.path('runs', run_id)}?said={said}", 303)


# ── a logged model ───────────────────────────────────────────────────────────────────────────────────────────────────


def logged_model(desk: Desk) -> Response:
    """A model that a run logged: what it was made with, its measurements, its files."""
    model: LoggedModel = desk.call(GetLoggedModel(project=desk.project, model_id=desk.request.path_params["model_id"], deleted=True))
    home = desk.base + words.path("logged-models", model.model_id)
    inside: Files = desk.call(ListFiles(project=desk.project, owner=model.model_id, limit=_FILES))
    rows = [
        [
            text(p.key),
            number(listings.told(p.value), title=repr(p.value)),
            number(str(p.step)),
            text(p.dataset_name or "—", title=p.dataset_digest),
            text(p.run_id, href=desk.base + words.path("runs", p.run_id)) if p.run_id else text(""),
        ]
        for p in model.metrics
    ]
    tables = [Table(id="files", title="Files", head=("name", "#size", "digest"), rows=[_file_row(e) for e in entries(inside, home)])]
    if rows:
        tables.insert(0, Table(id="metrics", title="Measured", head=("metric", "#value", "#step", "data", "by run"), rows=rows))
    if model.params:
        made = [[text(k), text(v[:200], title=v[:1000])] for k, v in sorted(model.params.items())]
        tables.append(Table(id="params", title="Parameters", head=("parameter", "value"), rows=made))
    ready = {"ready": "its files are there", "pending": "its files are on their way"}.get(model.state, "its files did not arrive")
    facts = [
        Fact(name="logged model", text=model.model_id),
        Fact(name="run", text=model.run_id or "—", href=desk.base + words.path("runs", model.run_id) if model.run_id else None),
        Fact(name="experiment", text=model.experiment_id, href=desk.base + words.path("experiments", model.experiment_id, "runs")),
        Fact(name="type", text=model.model_type or "—"),
        Fact(name="made", time=model.created),
        *(Fact(name=f"tag {k}", text=v) for k, v in sorted(model.tags.items())),
    ]
    return desk.page(
        "record.html",
        title=model.name or model.model_id,
        crumb=("Runs", f"{desk.base}/runs"),
        state=model.state,
        sentence=f"A model that a run logged: {ready}. It becomes a version when it is registered.",
        error_text=model.status_message if str(model.state) == "failed" else None,
        remedy="Log it again.",
        tables=tables,
        facts=facts,
    )


def _file_row(entry: dict[str, Any]) -> list[Cell]:
    return [text(entry["name"], href=entry["href"]), number(entry["size"]), text(entry["digest"][:10], title=entry["digest"])]
