"""Pages of single records: an event, a run, a model version, a release, a prediction, and the ledger's list.

Each begins with a sentence that says the state; the rest is what was recorded, with links to what it came from.
"""

import json
from typing import Any

from starlette.responses import Response

from treadle.console import words
from treadle.console.desk import Desk, plain
from treadle.console.tables import Cell, Fact, Table, number, text, time
from treadle.operations.ledger import Events, GetEvent, GetRun, ListEvents, RunDetail
from treadle.operations.pipelines import ListSteps, LogLine, ReadLog
from treadle.operations.registry import GetModelVersion, ListApprovals, ListModelVersions, ModelVersions
from treadle.operations.releases import GetRelease
from treadle.operations.workshop import Chain, WhyPrediction
from treadle.records.ledger import Event, Run, Step
from treadle.records.models import Approval, ModelVersion
from treadle.records.releases import Release
from treadle.records.states import ReleaseState, RunState, StepState

_PAGE = 50
_TAIL = 300
_LOG_PAGES = 50


# ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────


def ledger(desk: Desk) -> Response:
    """Events, newest first, a page at a time, of one type where asked."""
    asked = desk.request.query_params
    type, after = asked.get("type", "").strip()[:200], asked.get("page")
    found: Events = desk.call(ListEvents(project=desk.project, type=type or None, newest=True, limit=_PAGE, page=after))
    keep = f"type={words.quote(type, safe='')}&" if type else ""
    of = f" of type {type}" if type else ""
    sentence = (
        f"Every change of {desk.project} is an event in a chain that cannot be edited unnoticed; here are "
        f"{'the newest' if after is None else 'older ones'}{of}. Verify the chain with treadle audit verify."
    )
    return desk.page(
        "ledger.html",
        sentence=sentence,
        events=found.items,
        type=type,
        newest=f"?{keep}".rstrip("&?") or f"{desk.base}/events" if after else "",
        older=f"?{keep}page={words.quote(found.page.next, safe='')}" if found.page.next else "",
    )


def event(desk: Desk) -> Response:
    """One event: what, who, when, and its place in the chain."""
    found: Event = desk.call(GetEvent(project=desk.project, event_id=desk.request.path_params["event_id"]))
    chain = f"It is number {found.seq} of the chain" if found.seq is not None else "It waits to be sealed into the chain"
    sentence = f"{_sentence(words.say(found))} Recorded by {found.actor} at {words.moment(found.event_time)} UTC. {chain}."
    payload = found.payload or {}
    rows = [
        Fact(name="about", text=found.subject, href=words.subject_path(desk.base, found.subject)),
        Fact(name="type", text=found.type, href=f"{desk.base}/events?type={words.quote(found.type, safe='')}"),
        Fact(name="actor", text=found.actor),
        Fact(name="environment", text=found.environment or "—"),
        Fact(name="business time", time=found.event_time),
        Fact(name="recorded", text=f"{words.moment(found.recorded_time)} UTC"),
        Fact(name="place in the chain", text=str(found.seq) if found.seq is not None else "not sealed yet"),
        Fact(name="hash", text=found.hash or "—"),
        Fact(name="payload digest", text=found.payload_digest),
    ]
    rows += _links(desk, payload)
    body = json.dumps(payload, indent=1, ensure_ascii=False, default=str) if found.payload is not None else "The payload was erased."
    return desk.page(
        "record.html",
        title=words.short_type(found.type),
        crumb=("Ledger", f"{desk.base}/events"),
        state=None,
        sentence=sentence,
        error_text=None,
        tables=[],
        facts=rows,
        payload=body,
    )


def _links(desk: Desk, payload: dict[str, Any]) -> list[Fact]:
    """Records that a payload names by id."""
    found = []
    for key, folder in (("run_id", "runs"), ("release_id", "releases"), ("event_id", "events")):
        value = payload.get(key)
        if isinstance(value, str) and value:
            found.append(Fact(name=key.removesuffix("_id"), text=value, href=desk.base + words.path(folder, value)))
    reason = payload.get("reason")
    if isinstance(reason, dict) and isinstance(reason.get("event_id"), str):
        found.append(Fact(name="because of", text=reason["event_id"], href=desk.base + words.path("events", reason["event_id"])))
    return found


# ── a run ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(desk: Desk) -> Response:
    """One run: why it was started, its steps and why each ran or was skipped, its metrics, the end of its log."""
    run_id = desk.request.path_params["run_id"]
    found: RunDetail = desk.call(GetRun(project=desk.project, run_id=run_id))
    steps: list[Step] = desk.call(ListSteps(project=desk.project, run_id=run_id))
    log, total = _tail(desk, run_id)
    one = found.run
    why = desk.base + words.path("events", one.reason.event_id) if one.reason.event_id else None
    facts = [
        Fact(name="run", text=one.run_id),
        Fact(name="pipeline", text=one.pipeline or "—"),
        Fact(name="environment", text=one.environment),
        Fact(name="reason", text=one.reason.text, href=why),
        Fact(name="trigger", text=one.reason.trigger or one.reason.kind),
        Fact(name="started by", text=one.actor),
        Fact(name="business time", time=one.event_time),
        Fact(name="took", text=words.took(one) or "—"),
        *(Fact(name=k, text=words.fact(v)) for k, v in one.params.items()),
        *(Fact(name=f"tag {k}", text=v) for k, v in found.tags.items()),
        Fact(name="definition", text=one.definition_digest or "—"),
        Fact(name="code", text=one.code_digest or "—"),
        Fact(name="environment lock", text=one.environment_digest or "—"),
        Fact(name="git revision", text=one.git_revision or "—"),
    ]
    tables = [_steps(steps)]
    if found.metrics:
        rows = [[text(k), number(words.metric(v), title=repr(v))] for k, v in sorted(found.metrics.items())]
        tables.append(Table(id="metrics", title="Metrics", head=("metric", "#value"), rows=rows))
    if found.artifacts:
        rows = [[text(a.path), number(f"{a.size:,}"), text(words.short(a.digest), title=a.digest)] for a in found.artifacts]
        tables.append(Table(id="artifacts", title="Artifacts", head=("path", "#bytes", "digest"), rows=rows))
    return desk.page(
        "record.html",
        title=f"Run of {one.pipeline or 'no pipeline'}",
        title_id=one.run_id,
        crumb=("Training", f"{desk.base}/training"),
        state=one.state,
        sentence=_run_sentence(one, steps),
        error_text=one.error,
        remedy=f"Once the cause is gone, go on from the failed step: treadle run --resume {one.run_id}" if one.error else "",
        tables=tables,
        facts=facts,
        log=log,
        log_note=f"the last {len(log)} of {total:,} lines" if total > len(log) else "",
    )


def _run_sentence(one: Run, steps: list[Step]) -> str:
    ran = sum(s.state == StepState.finished for s in steps)
    cached = sum(s.state == StepState.cached for s in steps)
    done = f"{ran} step{'s' if ran != 1 else ''} ran, {cached} {'were' if cached != 1 else 'was'} answered from the cache"
    took = f" in {words.took(one)}" if words.took(one) else ""
    said = {
        RunState.queued: "The run waits for a worker.",
        RunState.running: f"The run is at work: {done} so far.",
        RunState.waiting: f"The run waits, durably, for an answer or a time: {done} so far.",
        RunState.cancelling: "The run was asked to stop and is stopping.",
        RunState.finished: f"The run finished{took}: {done}.",
        RunState.failed: f"The run failed{took}: {done} before that, and they need not run again.",
        RunState.cancelled: f"The run was cancelled{took}: {done}.",
    }
    return f"{said[one.state]} It was started because: {_sentence(one.reason.text)}"


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


# ── a model version ──────────────────────────────────────────────────────────────────────────────────────────────────


def version(desk: Desk) -> Response:
    """One model version: its numbers beside the one before, its gates, who approved it."""
    model, wanted = desk.request.path_params["model"], desk.request.path_params["number"]
    found: ModelVersion = desk.call(GetModelVersion(project=desk.project, model=model, number=wanted))
    others: ModelVersions = desk.call(ListModelVersions(project=desk.project, model=model, limit=200))
    before = next((v for v in others.items if v.number < found.number), None)
    approvals: list[Approval] = desk.call(ListApprovals(project=desk.project, state=None, limit=200))
    asked = [a for a in approvals if a.subject == f"model/{model}/{found.number}"]
    passed = sum(g.passed for g in found.gates)
    gates = f"{passed} of {len(found.gates)} gates passed" if found.gates else "no gate was declared for it"
    called = f" It is {' and '.join(found.aliases)}." if found.aliases else ""
    metrics = [
        [
            text(k.replace("_", " ")),
            number(words.metric(v), title=repr(v)),
            number(words.metric(before.metrics[k]) if before and k in before.metrics else "—"),
        ]
        for k, v in found.metrics.items()
    ]
    tables = [
        Table(
            id="gates",
            title="Gates",
            head=("gate", "answer", "in words and numbers"),
            rows=[
                [text(g.gate), Cell(text="passed" if g.passed else "failed", tone="healthy" if g.passed else "harm"), text(g.text)]
                for g in found.gates
            ],
            empty="No gate was declared. A gate says what a candidate must hold before anybody may approve it:",
            command="tr.candidate(…, gates=[tr.gates.no_worse('brier', by=0.002)])",
        ),
        Table(
            id="metrics",
            title="On held-out rows",
            note=f"beside version {before.number}, each on its own test rows" if before else "",
            head=("metric", f"#version {found.number}", f"#version {before.number}" if before else "#before"),
            rows=metrics,
        ),
        *_slices(found),
        Table(
            id="approvals",
            title="Approvals",
            head=("environment", "state", "question", "decided by", "when", "comment"),
            rows=[_approval(a) for a in asked],
            empty="Nobody has been asked about this version.",
        ),
    ]
    facts = [
        Fact(name="run", text=found.run_id, href=desk.base + words.path("runs", found.run_id)),
        Fact(name="bundle", text=found.bundle_digest),
        Fact(name="registered by", text=found.actor),
        Fact(name="business time", time=found.event_time),
        Fact(name="description", text=found.description or "—"),
        *(Fact(name=f"tag {k}", text=v) for k, v in found.tags.items()),
        Fact(name="train it again and compare", text=f"treadle reproduce {found.model}@{found.number}"),
    ]
    return desk.page(
        "record.html",
        title=f"{found.model} {found.number}",
        crumb=("Registry", f"{desk.base}/registry"),
        state=found.state,
        sentence=f"Version {found.number} of {found.model} is {found.state}: {gates}.{called}",
        error_text=None,
        tables=tables,
        facts=facts,
    )


def _slices(found: ModelVersion) -> list[Table]:
    """Metrics by slice where a gate recorded them in its facts: {slice: number} or {slice: {metric: number}}."""
    rows = []
    for gate in found.gates:
        for name, value in (gate.facts.get("slices") or {}).items() if isinstance(gate.facts.get("slices"), dict) else ():
            rows.append([text(gate.gate), text(name), number(words.fact(value))])
    return [Table(id="slices", title="By slice", head=("gate", "slice", "#value"), rows=rows)] if rows else []


def _approval(a: Approval) -> list[Cell]:
    state = Cell(text=str(a.state), tone=words.tone(a.state))
    return [text(a.environment), state, text(a.question), text(a.decided_by), time(a.decided_time), text(a.comment)]


# ── a release ────────────────────────────────────────────────────────────────────────────────────────────────────────


def release(desk: Desk) -> Response:
    """One release: from which version to which, how, what the evidence says."""
    found: Release = desk.call(
        GetRelease(project=desk.project, environment=desk.environment, release_id=desk.request.path_params["release_id"])
    )
    rows = [[text(k.replace("_", " ")), number(words.fact(v))] for k, v in found.facts.items() if not isinstance(v, (dict, list))]
    tables = [
        Table(
            id="evidence",
            title="Evidence",
            head=("fact", "#value"),
            rows=rows,
            empty="No block is complete yet; outcomes come with their delay.",
        )
    ]
    versions = desk.base + words.path("models", found.model)
    facts = [
        Fact(name="release", text=found.release_id),
        Fact(name="endpoint", text=found.endpoint),
        Fact(name="to version", text=str(found.to_version), href=f"{versions}/{found.to_version}"),
        Fact(
            name="from version",
            text=str(found.from_version or "—"),
            href=f"{versions}/{found.from_version}" if found.from_version else None,
        ),
        Fact(name="started", time=found.started),
        Fact(name="ended", time=found.ended, text="—"),
        Fact(name="verdict", text=found.verdict or "none yet"),
        Fact(name="started by", text=found.actor),
        Fact(name="snapshot generation", text=str(found.generation)),
    ]
    if found.strategy:
        facts += [Fact(name=k.replace("_", " "), text=words.fact(v)) for k, v in plain(found.strategy).items()]
    if found.state in (ReleaseState.running, ReleaseState.promoted, ReleaseState.waiting) and found.from_version:
        facts.append(Fact(name=f"take it back: version {found.from_version} serves again", text=f"treadle rollback {found.release_id}"))
    return desk.page(
        "record.html",
        title=f"Release of {found.model} {found.to_version}",
        crumb=("Release", f"{desk.base}/release"),
        state=found.state,
        sentence=_release_sentence(found),
        error_text=found.reason if found.state == ReleaseState.failed else None,
        remedy="See what each gateway worker says: treadle api get-snapshot",
        tables=tables,
        facts=facts,
    )


def _release_sentence(found: Release) -> str:
    beside = f"beside version {found.from_version}" if found.from_version else "as the first version"
    how = (
        f"on {words.percent(found.strategy.share)} of requests {beside}, for at most {found.strategy.deadline_blocks} blocks"
        if found.strategy and found.from_version
        else "by a direct switch"
    )
    said = {
        ReleaseState.waiting: f"Version {found.to_version} waits for the gateways to load it; it is released {how}.",
        ReleaseState.running: f"Version {found.to_version} is being tried {how}.",
        ReleaseState.promoted: f"Version {found.to_version} was promoted and serves all requests; it was released {how}.",
        ReleaseState.stopped: f"Version {found.to_version} was stopped: harm was shown, and version {found.from_version} stays.",
        ReleaseState.inconclusive: f"Nothing was shown about version {found.to_version} in time; version {found.from_version} stays.",
        ReleaseState.rolled_back: f"The release of version {found.to_version} was rolled back.",
        ReleaseState.failed: f"Version {found.to_version} could not be released.",
    }
    return f"{said[found.state]} {_sentence(found.reason)}".strip()


# ── a prediction ─────────────────────────────────────────────────────────────────────────────────────────────────────


def prediction(desk: Desk) -> Response:
    """Why a prediction came out: from the answer back to the rows."""
    chain: Chain = desk.call(WhyPrediction(project=desk.project, prediction_id=desk.request.path_params["prediction_id"]))
    first = next((dict(link) for link in chain.links if link.get("link") == "prediction"), {})
    sentence = (
        f"Version {first.get('model_version', '?')} of {first.get('model', '?')} answered {words.fact(first.get('output'))} "
        f"for {first.get('unit') or 'this row'} as of {words.fact(first.get('event_time'))}; "
        "what follows is everything that answer came from."
    )
    return desk.page("chain.html", chain=chain, sentence=sentence, links=[_link(desk, dict(link)) for link in chain.links])


def _link(desk: Desk, link: dict[str, Any]) -> dict[str, Any]:
    """A link of the chain: short facts as a list, long ones folded."""
    title = str(link.pop("link", "?"))
    plain_facts: list[tuple[str, str]] = []
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    for name, value in link.items():
        label = name.replace("_", " ")
        if isinstance(value, dict) and value:
            groups.append((label, [(str(k), words.fact(v)) for k, v in value.items()]))
        elif isinstance(value, (list, tuple)) and (len(value) > 3 or any(isinstance(v, dict) for v in value)):
            groups.append((label, [_entry(i, v) for i, v in enumerate(value)]))
        else:
            plain_facts.append((label, words.fact(value)))
    href = None
    if title == "run" and link.get("run_id"):
        href = desk.base + words.path("runs", link["run_id"])
    elif title == "model version":
        href = desk.base + words.path("models", link["model"], link["number"])
    elif title == "dataset version":
        href = f"{desk.base}/data"
    return {"title": title, "facts": plain_facts, "groups": groups, "href": href}


def _entry(place: int, value: Any) -> tuple[str, str]:
    if isinstance(value, dict):
        rest = dict(value)
        name = next((rest.pop(k) for k in ("name", "path", "gate") if k in rest), place + 1)
        return str(name), words.fact(rest)
    name, _, rest = str(value).partition("==")
    return (name, rest) if rest else (str(place + 1), name)


def _sentence(said: str) -> str:
    """`said`, ending like a sentence."""
    said = said.strip()
    return said if not said or said.endswith((".", "!", "?")) else said + "."
