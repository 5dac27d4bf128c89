"""Pages of single records: an event, a run, a model version, a release, a prediction, and the ledger's list.

Each begins with a sentence that says the state; the rest is what was recorded, with links to what it came from.
"""

import json
import math
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from treadle.console import words
from treadle.console.desk import Desk, plain
from treadle.console.tables import Fact, Table, number, text
from treadle.operations.ledger import Events, GetEvent, ListEvents
from treadle.operations.releases import GetRelease
from treadle.operations.workshop import Chain, WhyPrediction
from treadle.records.ledger import Event
from treadle.records.releases import Release
from treadle.records.states import ReleaseState

_PAGE = 50


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


# ── a release ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _e_value(log: float) -> str:
    return f"{math.exp(min(log, 600)):.3g}"


#: What a canary's facts are called, in the order in which they are read, and how each is set. Evidence is kept as logarithms.
_EVIDENCE: dict[str, tuple[str, Callable[[Any], str]]] = {
    "metric": ("compared by", words.fact),
    "blocks": ("complete blocks", words.fact),
    "rows": ("paired outcomes", words.metric),
    "mean_difference": ("challenger − champion, mean of the blocks", words.metric),
    "sd_difference": ("standard deviation of a block", words.metric),
    "margin": ("worse by less than this is no harm", words.metric),
    "log_e_better": ("e-value for: it is not worse by the margin", _e_value),
    "log_e_worse": ("e-value for: it harms", _e_value),
    "threshold": ("e-value needed to decide", _e_value),
    "delivered": ("in the gateways’ hands", words.fact),
    "deployed": ("loaded", words.fact),
    "live": ("answers its share since", words.fact),
}


def release(desk: Desk) -> Response:
    """One release: from which version to which, how, what the evidence says."""
    found: Release = desk.call(
        GetRelease(project=desk.project, environment=desk.environment, release_id=desk.request.path_params["release_id"])
    )
    rows = [[text(_EVIDENCE[k][0]), number(_EVIDENCE[k][1](found.facts[k]))] for k in _EVIDENCE if found.facts.get(k) is not None]
    rest = {k: v for k, v in found.facts.items() if k not in _EVIDENCE and k != "phase" and not isinstance(v, (dict, list))}
    rows += [[text(k.replace("_", " ")), number(words.fact(v))] for k, v in rest.items()]
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
        said = plain(found.strategy)
        lengths = {"share": words.percent, "block_s": words.span}
        facts += [Fact(name=k.removesuffix("_s").replace("_", " "), text=lengths.get(k, words.fact)(v)) for k, v in said.items()]
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
