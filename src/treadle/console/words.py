"""How the console says things: numbers no finer than they deserve, times with their zone, events as sentences.

Pure functions of records, used by every page; nothing here escapes HTML, the templates do.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from treadle.records.ledger import Event, Run, Step

UTC = dt.UTC

#: State → what it is called where a reader cannot see its colour.
STATES = {
    "healthy": "healthy",
    "tried": "in progress",
    "waits": "wants attention",
    "harm": "harm or failure",
    "quiet": "nothing yet",
}
#: States of runs, steps, versions, releases, approvals and alarms → one of the five.
TONES = {
    "finished": "healthy",
    "cached": "healthy",
    "released": "healthy",
    "approved": "healthy",
    "promoted": "healthy",
    "granted": "healthy",
    "closed": "quiet",
    "withdrawn": "quiet",
    "running": "tried",
    "queued": "tried",
    "validated": "tried",
    "cancelling": "tried",
    "waiting": "waits",
    "open": "waits",
    "inconclusive": "quiet",
    "failed": "harm",
    "stopped": "harm",
    "rejected": "harm",
    "refused": "harm",
    "rolled_back": "harm",
    "ready": "healthy",
}
#: A time with its zone, as records keep it in facts.
_ISO = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d(\.\d{6})?\+00:00")
_EVENT_TONES = (
    (re.compile(r"\.(failed|stopped|refused|rolled_back)$"), "harm"),
    (re.compile(r"^treadle\.(performance|calibration|drift|outcomes)\.|\.approval\.requested$|\.cancel_requested$"), "waits"),
    (re.compile(r"^treadle\.(release|run)\.(started|queued|created|delivered|deployed|live|resumed)$|^treadle\.schedule\."), "tried"),
    (re.compile(r"\.(erased|inconclusive|cancelled|revoked|withdrawn|expired)$|^(?!treadle\.)"), "quiet"),
)


def tone(state: object) -> str:
    """The colour of a state.

    >>> tone("promoted"), tone("something new")
    ('healthy', 'quiet')
    """
    return TONES.get(str(state), "quiet")


def event_tone(type: str) -> str:
    """The colour of an event."""
    return next((name for pattern, name in _EVENT_TONES if pattern.search(type)), "healthy")


# ── numbers and times ────────────────────────────────────────────────────────────────────────────────────────────────


def count(value: float) -> str:
    """A count, short from a million on.

    >>> count(27914), count(8_100_000), count(950)
    ('27,914', '8.10 M', '950')
    """
    return f"{value / 1e6:.2f} M" if abs(value) >= 1e6 else f"{value:,.0f}"


def metric(value: object) -> str:
    """A measured number with three significant places, or as it is where it is none.

    >>> metric(0.74812), metric(12345.6), metric(float("nan")), metric(3), metric(1.2e-7), metric(-0.00068)
    ('0.748', '12,346', '—', '3', '1.2e-07', '-0.00068')
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "—"
    if value == 0:
        return "0"
    if abs(value) < 1e-2:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign.

    >>> points(0.0041), points(-0.12), points(-0.0001)
    ('+0.4 pt', '−12.0 pt', '0.0 pt')
    """
    tenths = round(share * 1000)
    return f"{tenths / 10:+.1f} pt".replace("-", "−") if tenths else "0.0 pt"


def percent(share: float) -> str:
    """A share.

    >>> percent(0.7123), percent(1)
    ('71 %', '100 %')
    """
    return f"{share * 100:.0f} %"


def span(seconds: float) -> str:
    """A length of time in its largest fitting unit.

    >>> span(3.21), span(75), span(90000), span(0.004)
    ('3.2 s', '1 min', '1 day', '4 ms')
    """
    for unit, size in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'s' if unit == 'day' and number != 1 else ''}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def took(one: Run | Step) -> str:
    """How long it took; nothing where it has not ended, or where virtual time stood still."""
    return span((one.ended - one.started).total_seconds()) if one.started and one.ended and one.ended > one.started else ""


def moment(time: dt.datetime, now: dt.datetime | None = None) -> str:
    """A time as short as `now` allows: hour and minute within the same day, the year only where it differs."""
    time = time.astimezone(UTC)
    if now is None:
        return f"{time:%Y-%m-%d %H:%M}"
    now = now.astimezone(UTC)
    if time.date() == now.date():
        return f"{time:%H:%M}"
    return f"{time.day} {time:%b %H:%M}" if time.year == now.year else f"{time.day} {time:%b %Y}"


def day(time: dt.datetime, now: dt.datetime) -> str:
    """The same by the day, the hour only for today's.

    >>> day(dt.datetime(2013, 3, 2, 9, tzinfo=UTC), dt.datetime(2013, 9, 14, tzinfo=UTC))
    '2 Mar'
    """
    said = moment(time, now)
    return said.rpartition(" ")[0] if time.astimezone(UTC).year == now.astimezone(UTC).year and " " in said else said


def milliseconds(value: float) -> str:
    """A latency.

    >>> milliseconds(2.91), milliseconds(10.8)
    ('2.9 ms', '11 ms')
    """
    return f"{value:.1f} ms" if value < 10 else f"{value:,.0f} ms"


def ago(time: dt.datetime, now: dt.datetime) -> str:
    """How long before `now`.

    >>> now = dt.datetime(2013, 9, 14, tzinfo=UTC)
    >>> ago(now - dt.timedelta(minutes=47), now), ago(now, now)
    ('47 min ago', 'just now')
    """
    seconds = (now - time).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 60 else "just now"


def short(digest: str) -> str:
    """The beginning of a digest or id: enough to tell it from others on one page."""
    return digest[:10]


def fact(value: object) -> str:
    """A fact of a payload in one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", [], {}, ()):
        return "—"
    if isinstance(value, dt.datetime):
        return f"{moment(value)} UTC"
    if isinstance(value, str) and _ISO.fullmatch(value):
        return f"{moment(dt.datetime.fromisoformat(value))} UTC"
    if isinstance(value, Mapping):
        return " · ".join(f"{k} {fact(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(fact(v) for v in value)
    return metric(value) if isinstance(value, float) else str(value)


# ── where things are ─────────────────────────────────────────────────────────────────────────────────────────────────


def path(*parts: object) -> str:
    """A path of percent-encoded parts.

    >>> path("projects", "a b", "../x")
    '/projects/a%20b/..%2Fx'
    """
    return "".join("/" + quote(str(part), safe="") for part in parts)


def subject_path(base: str, subject: str) -> str | None:
    """The page of an event's subject, None where it has none."""
    kind, _, rest = subject.partition("/")
    if kind == "run" and rest:
        return base + path("runs", rest)
    if kind == "release" and rest:
        return base + path("releases", rest)
    if kind == "event" and rest:
        return base + path("events", rest)
    if kind == "model" and rest.count("/") == 1:
        model, number = rest.split("/")
        return base + path("models", model, number) if number.isdigit() else None
    places = {"dataset": "data", "approval": "registry", "endpoint": "monitoring", "project": "features"}
    return base + path(places[kind]) if kind in places else None


# ── events as sentences ──────────────────────────────────────────────────────────────────────────────────────────────


def short_type(type: str) -> str:
    """An event's type without what all have in common.

    >>> short_type("treadle.model.registered"), short_type("acme.prices.changed")
    ('model.registered', 'acme.prices.changed')
    """
    return type.removeprefix("treadle.")


def say(event: Event) -> str:
    """What happened, in one line."""
    if event.payload is None:
        return f"{event.subject} · the payload was erased"
    payload = event.payload
    known = _SAY.get(event.type)
    try:
        text = known(payload) if known else _told(payload)
    except (KeyError, TypeError, ValueError, AttributeError):
        text = _told(payload)  # another release wrote it: its words are shown as they are
    return text or event.subject


def _told(payload: Mapping[str, Any]) -> str:
    for key in ("text", "reason", "question", "error", "what"):
        value = payload.get(key)
        if isinstance(value, str) and value:
            return value
    plain = [f"{k.replace('_', ' ')} {fact(v)}" for k, v in payload.items() if isinstance(v, (str, int, float)) and v != ""]
    return " · ".join(plain[:5])


def _arrived(p: Mapping[str, Any]) -> str:
    number = f" v{p['number']}" if "number" in p else ""
    return f"{p['dataset']}{number} · {p['rows']:,} rows, {p['added_rows']:,} new"


def _registered(p: Mapping[str, Any]) -> str:
    gates = p.get("gates")
    passed = f" · {sum(bool(g['passed']) for g in gates)} of {len(gates)} gates passed" if isinstance(gates, list) else ""
    numbers = p.get("metrics")
    best = [f"{k} {metric(v)}" for k, v in numbers.items()][:2] if isinstance(numbers, dict) else []
    return " · ".join([f"{p['model']} {p.get('number', '')} registered".replace("  ", " "), *best]) + passed


def _queued(p: Mapping[str, Any]) -> str:
    return f"{p.get('pipeline') or 'a run'}: {p['reason']['text']}"


def _applied(p: Mapping[str, Any]) -> str:
    return f"definitions of {p['project']} applied to {p['environment']}"


def _decided(p: Mapping[str, Any]) -> str:
    said = "granted" if p["grant"] else "refused"
    return f"{said}{': ' + p['comment'] if p.get('comment') else ''}"


def _approved(p: Mapping[str, Any]) -> str:
    return f"{p['model']} {p['number']} approved by {p['decided_by']}{': ' + p['comment'] if p.get('comment') else ''}"


def _refused(p: Mapping[str, Any]) -> str:
    return f"{p['model']} {p['number']} refused by {p['decided_by']}{': ' + p['comment'] if p.get('comment') else ''}"


def _alias(p: Mapping[str, Any]) -> str:
    before, then = (f"version {n}" if n is not None else "none" for n in (p.get("from"), p["to"]))
    return f"{p['alias']} of {p['model']}: {before} → {then}"


def _moved(p: Mapping[str, Any]) -> str:
    return f"{p['model']} {p['number']}: {p.get('from', '')} → {p.get('to') or p.get('state')}"


def _release(p: Mapping[str, Any]) -> str:
    strategy = p.get("strategy")
    how = f"canary on {percent(strategy['share'])} of requests" if strategy else "direct switch"
    return f"{p['endpoint']}: version {p.get('version') or p.get('to_version')}, {how}"


def _progress(p: Mapping[str, Any]) -> str:
    reason, version = p.get("reason") or "", f"Version {p['to_version']}"
    if reason.startswith(version):
        return reason
    state = str(p.get("state") or "").replace("_", " ")
    return f"{version}{' ' + state if state else ''}{': ' + reason if reason else ''}"


def _closed(p: Mapping[str, Any]) -> str:
    before, _, why = str(p["text"]).rpartition("Closed: ")
    return f"{p['kind']} alarm closed: {why}" if before else f"{p['kind']} alarm closed · {p['text']}"


def _judged(p: Mapping[str, Any]) -> str:
    told: dict[str, list[float]] = {}
    for month in p["months"]:
        for policy, values in month["policies"].items():
            told.setdefault(policy, []).append(values["roc_auc"])
    means = {policy: sum(v) / len(v) for policy, v in told.items()}
    others = {"never": "never retrained", "monthly": "retrained every month"}
    beside = "".join(f"; {said} {metric(means[policy])}" for policy, said in others.items() if policy in means)
    return f"{len(p['months'])} months judged from outside: ROC AUC {metric(means['declared'])} on average{beside}"


def _loaded(what: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda p: f"{p['endpoint']}: version {p['to_version']} {what}"


def _run(what: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda p: f"{p.get('pipeline') or 'run'} {what}{': ' + p['error'] if p.get('error') else ''}"


_SAY: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "treadle.data.arrived": _arrived,
    "treadle.project.applied": _applied,
    "treadle.run.queued": _queued,
    "treadle.run.created": _queued,
    "treadle.run.started": _run("started"),
    "treadle.run.finished": _run("finished"),
    "treadle.run.failed": _run("failed"),
    "treadle.run.cancelled": _run("cancelled"),
    "treadle.model.registered": _registered,
    "treadle.model.approved": _approved,
    "treadle.model.refused": _refused,
    "treadle.model.alias_moved": _alias,
    "treadle.model.moved": _moved,
    "treadle.model.promoted": _progress,
    "treadle.approval.decided": _decided,
    "treadle.approval.withdrawn": lambda p: f"question taken back{': ' + p['reason'] if p.get('reason') else ''}",
    "treadle.approval.expired": lambda p: "nobody answered in time",
    "treadle.release.started": _release,
    "treadle.release.delivered": _loaded("is in the gateways' hands"),
    "treadle.release.deployed": _loaded("is loaded, at 0 % of the traffic"),
    "treadle.release.live": _loaded("answers its share of the requests"),
    "treadle.release.promoted": _progress,
    "treadle.alarm.closed": _closed,
    "treadle.replay.judged": _judged,
    "treadle.release.stopped": _progress,
    "treadle.release.inconclusive": _progress,
    "treadle.smoke.passed": lambda p: _told(p) or "smoke test passed",
}
