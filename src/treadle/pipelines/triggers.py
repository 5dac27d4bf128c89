"""Triggers: conditions over sealed events and time that start runs.

`decide` is pure: what a trigger remembers, the events since its cursor, and now give what it remembers next and perhaps a firing. A
condition that is met while the trigger may not fire yet (too soon, no budget left, its last run still going) is kept and fires when it may:
an alarm is raised only once. A missed cron time fires once, for the latest one. `Triggers.evaluate` reads, decides, submits the run
under an id that follows from the firing, and only then moves the cursor: after a crash in between the same run is asked for again, which
changes nothing.
"""

import datetime as dt
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError
from msgspec import Struct, structs

from treadle.ledger import events as log
from treadle.ledger.dispatch import Dispatcher
from treadle.operations.pipelines import SubmitRun, TriggerStatus
from treadle.records.calls import SYSTEM, Actor, Call
from treadle.records.clock import UTC
from treadle.records.definitions import Condition, Pipeline, Project, Trigger
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.ledger import Event, Reason, Run, was_replayed
from treadle.store.db import Connection, Database
from treadle.store.queries import ledger as runs
from treadle.store.queries import pipelines as queries
from treadle.store.queries import workshop as applied

_log = logging.getLogger(__name__)

ARRIVED = "treadle.data.arrived"
ALARMS = {"decayed": "treadle.performance.decayed", "calibration": "treadle.calibration.drifted", "drifted": "treadle.drift.detected"}
CLOSED = "treadle.alarm.closed"
#: An alarm's kind → the condition that reads it.
CLOSES = {"decay": "decayed", "calibration": "calibration", "drift": "drifted"}
_FINISHED = "treadle.run.finished"
_ENDED = ("finished", "failed", "cancelled")
_PAGE = 1000


class Met(Struct, frozen=True, kw_only=True):
    """A condition that was met."""

    kind: str
    text: str
    time: dt.datetime
    event_id: str | None = None
    facts: dict[str, Any] = {}
    replayed: bool = False  # in virtual time


class Facts(Struct, frozen=True, kw_only=True):
    """What a trigger knows beside its cursor.

    `rows`: dataset → rows now; `base`: dataset → rows at the last training; `cron`: condition → next time; `waiting`: the first
    condition met since the last firing, while it might not fire.
    """

    rows: dict[str, int] = {}
    base: dict[str, int] = {}
    cron: dict[str, dt.datetime] = {}
    waiting: Met | None = None
    last_run: str = ""
    error: str = ""


class State(Struct, frozen=True, kw_only=True):
    """What a trigger remembers."""

    cursor: int = 0
    last_fired: dt.datetime | None = None
    fired: tuple[dt.datetime, ...] = ()  # firings within the budget's window
    facts: Facts = Facts()


class Decision(Struct, frozen=True):
    """What a trigger remembers next, and why it fires (None: it does not)."""

    state: State
    firing: Met | None


# ── the pure part ────────────────────────────────────────────────────────────────────────────────────────────────────


def decide(
    trigger: Trigger,
    state: State,
    events: Sequence[Event],
    now: dt.datetime,
    *,
    endpoint: str = "",
    environment: str = "",
    busy: bool = False,
) -> Decision:
    """Whether a trigger fires at business time `now`.

    Args:
        trigger: the definition.
        state: what it remembers.
        events: sealed events behind its cursor, in order.
        now: business time, UTC.
        endpoint: of the endpoint it belongs to, whose events alone it hears; "" hears all.
        environment: whose events (and those of no environment) it hears; "" hears all.
        busy: its last run has not ended.
    """
    facts, met = state.facts, state.facts.waiting
    for event in events:
        if environment and event.environment not in ("", environment):
            continue
        facts = _learn(trigger, facts, event)
        if met is not None and _is_over(met, event, endpoint):
            met = None
        for condition in trigger.when:
            met = met or _by_event(condition, facts, event, endpoint)
    cron, due = _by_time(trigger.when, facts.cron, now)
    met = met or due
    cursor = max([state.cursor, *(event.seq or 0 for event in events)])
    if met is None or busy or not _may(trigger, state, now):
        return Decision(structs.replace(state, cursor=cursor, facts=structs.replace(facts, cron=cron, waiting=met)), None)
    window = now - dt.timedelta(seconds=trigger.budget_window_s)
    fired = (*(moment for moment in state.fired if moment > window), now)
    facts = structs.replace(facts, cron=cron, waiting=None, base={**facts.base, **facts.rows}, error="")
    return Decision(State(cursor=cursor, last_fired=now, fired=fired, facts=facts), met)


def next_allowed(trigger: Trigger, state: State) -> dt.datetime | None:
    """The earliest business time at which it may fire again; None where it may now, for all that is remembered."""
    times = []
    if state.last_fired is not None and trigger.at_most_every_s:
        times.append(state.last_fired + dt.timedelta(seconds=trigger.at_most_every_s))
    if trigger.budget is not None and len(state.fired) >= trigger.budget:
        if trigger.budget == 0:
            return dt.datetime.max.replace(tzinfo=UTC)
        times.append(state.fired[-trigger.budget] + dt.timedelta(seconds=trigger.budget_window_s))
    return max(times, default=None)


def _may(trigger: Trigger, state: State, now: dt.datetime) -> bool:
    allowed = next_allowed(trigger, state)
    return allowed is None or now >= allowed


def _learn(trigger: Trigger, facts: Facts, event: Event) -> Facts:
    """Row counts, and what they were when the trigger's pipeline last finished (whoever started it)."""
    payload = event.payload or {}
    if event.type == ARRIVED and "rows" in payload:
        return structs.replace(facts, rows={**facts.rows, str(payload.get("dataset", "")): int(payload["rows"])})
    if event.type == _FINISHED and payload.get("pipeline") == trigger.pipeline:
        return structs.replace(facts, base={**facts.base, **facts.rows})
    return facts


def _by_event(condition: Condition, facts: Facts, event: Event, endpoint: str) -> Met | None:
    payload = event.payload or {}
    kind = condition.kind
    if kind in ALARMS:
        told = payload.get("endpoint")
        if event.type != ALARMS[kind] or (endpoint and told != endpoint) or not _strong(condition, payload):
            return None
        return _met(kind, payload.get("text") or f"{told or 'an endpoint'}: {kind}", event)
    if event.type == ARRIVED and kind in ("dataset", "grown"):
        dataset = str(payload.get("dataset", ""))
        if condition.dataset and dataset != condition.dataset:
            return None
        if kind == "dataset":
            return _met(kind, f"a new version of {dataset} arrived", event)
        base, rows = facts.base.get(dataset, 0), facts.rows.get(dataset, 0)
        if base and rows >= base * condition.factor:
            return _met(kind, f"{dataset} has grown from {base} rows at the last training to {rows}", event)
    if kind == "event" and _is_type(event.type, condition.event) and _fits(condition.filter, payload):
        return _met(kind, f"{event.type} of {event.subject}", event)
    return None


def _is_over(met: Met, event: Event, endpoint: str) -> bool:
    """Whether what waits to fire is an alarm that has closed meanwhile."""
    payload = event.payload or {}
    told = not endpoint or payload.get("endpoint") == endpoint
    return event.type == CLOSED and told and CLOSES.get(str(payload.get("kind"))) == met.kind


def _strong(condition: Condition, payload: Mapping[str, Any]) -> bool:
    """Whether an alarm is about the condition's metric, and by at least as much as it asks (where the alarm says by how much)."""
    facts = {**payload, **(payload.get("facts") or {})}
    metric, change = facts.get("metric"), facts.get("by")
    if condition.metric and metric is not None and metric != condition.metric:
        return False
    return not isinstance(change, int | float) or abs(change) >= condition.by


def _met(kind: str, text: str, event: Event) -> Met:
    return Met(
        kind=kind,
        text=text,
        time=event.event_time,
        event_id=event.event_id,
        facts=(event.payload or {}).get("facts") or {},
        replayed=was_replayed(event),
    )


def _is_type(given: str, wanted: str) -> bool:
    return given.startswith(wanted[:-1]) if wanted.endswith("*") else given == wanted


def _fits(wanted: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Whether every field of the filter has its value; a dot goes one deeper."""
    for name, value in wanted.items():
        found: Any = payload
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        if found != value:
            return False
    return True


def _by_time(
    conditions: Iterable[Condition], known: Mapping[str, dt.datetime], now: dt.datetime
) -> tuple[dict[str, dt.datetime], Met | None]:
    """The next time of each cron condition, and the latest that has come, if any. One seen for the first time starts from now."""
    times: dict[str, dt.datetime] = {}
    met: Met | None = None
    for condition in conditions:
        if condition.kind != "cron":
            continue
        key = f"{condition.cron}|{condition.zone}"
        due = known.get(key) or after(condition.cron, condition.zone, now)
        latest = None
        while due <= now:
            latest, due = due, after(condition.cron, condition.zone, due)
        times[key] = due
        if latest is not None and (met is None or latest > met.time):
            met = Met(kind="cron", text=f"{condition.cron} ({condition.zone}) was due at {latest.isoformat()}", time=latest)
    return times, met


def after(expression: str, zone: str, moment: dt.datetime) -> dt.datetime:
    """The next time of a cron expression in a time zone after a moment, UTC.

    >>> after("0 9 * * *", "UTC", dt.datetime(2013, 1, 1, 9, tzinfo=UTC)).isoformat()
    '2013-01-02T09:00:00+00:00'

    Raises:
        TreadleError: `bad_definition`.
    """
    try:
        return next(CronSim(expression, moment.astimezone(ZoneInfo(zone)))).astimezone(UTC)
    except (CronSimError, ZoneInfoNotFoundError, StopIteration) as error:
        raise TreadleError(
            f"{expression!r} in zone {zone!r} is no time that comes: {error}.",
            remedy="Write five fields (minute hour day month weekday) and a zone like Europe/Berlin.",
            code="bad_definition",
        ) from error


# ── reading and starting ─────────────────────────────────────────────────────────────────────────────────────────────


def triggers_of(project: Project) -> list[tuple[Trigger, str]]:
    """All triggers of a project with the endpoint each belongs to ("" for none); an endpoint's is named after it."""
    own = [(trigger, "") for trigger in project.triggers]
    return own + [(e.retrain, e.name) for e in project.endpoints if e.retrain is not None]


class Triggers:
    """Evaluates applied triggers.

    Args:
        database: where events and triggers are.
        dispatch: where runs are submitted.
        actor: as whom.
    """

    def __init__(self, database: Database, dispatch: Dispatcher, *, actor: Actor = SYSTEM):
        self.database = database
        self.dispatch = dispatch
        self.actor = actor
        self._idle: dict[tuple[str, str], tuple[int, str, dt.datetime | None]] = {}

    def evaluate(self, project: str, environment: str, now: dt.datetime) -> list[Run]:
        """Read what was sealed since, and start what is due at business time `now`; returns the runs that were started."""
        key = (project, environment)
        with self.database.read() as connection:
            sealed = queries.last_sealed(connection)
            known = self._idle.get(key)
            if known is not None and known[0] == sealed and (known[2] is None or now < known[2]):
                return []
            definitions = applied.applied(connection, project, environment)
            rows = {row.name: row for row in queries.trigger_states(connection, project, environment)}
        if definitions is None:
            return []
        started, wake = [], []
        for trigger, endpoint in triggers_of(definitions):
            state, busy, found = self._read(rows.get(trigger.name), trigger, project, environment, now, sealed)
            decision = decide(trigger, state, found, now, endpoint=endpoint, environment=environment, busy=busy)
            pipeline = next((p for p in definitions.pipelines if p.name == trigger.pipeline), None)
            if decision.firing is not None:
                run, decision = self._fire(trigger, pipeline, decision, project, environment, now)
                started += [] if run is None else [run]
            if decision.state != state or trigger.name not in rows:
                self._remember(project, environment, trigger, decision.state)
            wake.append(_wakes(trigger, decision.state, now))
            if len(found) == _PAGE:
                wake.append(now)
        self._idle[key] = (sealed, "", min((w for w in wake if w is not None), default=None))
        return started

    def forget_replayed(self) -> None:
        """Let go of what a replay has left waiting (for its budget, or the next time it may fire): that was the past's, and the machine's
        clock, years later, must not start it. What arrives from now on starts runs as ever."""
        with self.database.read() as connection:
            places = [(project, place) for project, place, _ in applied.environments(connection)]
            rows = [(project, place, row) for project, place in places for row in queries.trigger_states(connection, project, place)]
        for project, environment, row in rows:
            facts = msgspec.convert(row.facts, Facts, strict=False)
            if facts.waiting is None or not facts.waiting.replayed:
                continue
            kept = {"project": project, "environment": environment, "name": row.name, "cursor": row.cursor, "last_fired": row.last_fired}
            kept |= {"next_cron": row.next_cron, "facts": structs.replace(facts, waiting=None)}
            self.database.write(lambda tx, kept=kept: queries.put_trigger(tx, kept))
            _log.warning("trigger %s: what it waited with since the replay is not started now: %s", row.name, facts.waiting.text)

    def _read(
        self, row: Any, trigger: Trigger, project: str, environment: str, now: dt.datetime, sealed: int
    ) -> tuple[State, bool, list[Event]]:
        with self.database.read() as connection:
            if row is None:
                return _fresh(connection, trigger, project, now, sealed), False, []
            fired = queries.firing_times(
                connection, project, environment, trigger.name, now - dt.timedelta(seconds=trigger.budget_window_s)
            )
            state = State(
                cursor=row.cursor, last_fired=row.last_fired, fired=tuple(fired), facts=msgspec.convert(row.facts, Facts, strict=False)
            )
            last = runs.get_run(connection, project, state.facts.last_run) if state.facts.last_run else None
            found = log.events_after(connection, project, state.cursor, types=_types(trigger), limit=_PAGE)
        if len(found) < _PAGE:  # nothing else of interest up to here: no need to pass it again
            state = structs.replace(
                state, cursor=max(state.cursor, sealed, *(e.seq or 0 for e in found)) if found else max(state.cursor, sealed)
            )
        return state, last is not None and last.state not in _ENDED, found

    def _fire(
        self, trigger: Trigger, pipeline: Pipeline | None, decision: Decision, project: str, environment: str, now: dt.datetime
    ) -> tuple[Run | None, Decision]:
        """Submit the run of a firing; where that is refused, the trigger remembers why."""
        met = decision.firing
        assert met is not None
        reason = Reason(kind=met.kind, text=met.text, trigger=trigger.name, event_id=met.event_id, facts=met.facts)
        request = SubmitRun(
            project=project,
            environment=environment,
            pipeline=trigger.pipeline,
            run_id=_run_id(project, environment, trigger, met),
            params=_parameters(trigger, pipeline, now),
            reason=reason,
        )
        try:
            run = self.dispatch(request, actor=self.actor, event_time=now)
        except TreadleError as error:
            _log.warning("trigger %s could not start %s: %s", trigger.name, trigger.pipeline, error.what)
            facts = structs.replace(decision.state.facts, error=f"{error.what} {error.remedy}")
            return None, Decision(structs.replace(decision.state, facts=facts), None)
        facts = structs.replace(decision.state.facts, last_run=run.run_id)
        return run, Decision(structs.replace(decision.state, facts=facts), met)

    def _remember(self, project: str, environment: str, trigger: Trigger, state: State) -> None:
        key = {"project": project, "environment": environment, "name": trigger.name}
        row = {
            **key,
            "cursor": state.cursor,
            "last_fired": state.last_fired,
            "next_cron": min(state.facts.cron.values(), default=None),
            "facts": state.facts,
        }
        now = dt.datetime.now(dt.UTC)

        def write(tx: Connection) -> None:
            queries.put_trigger(tx, row)
            if state.facts.last_run and state.last_fired is not None:
                run = runs.get_run(tx, project, state.facts.last_run)
                reason = run.reason if run is not None else None
                firing = {**key, "run_id": state.facts.last_run, "event_time": state.last_fired, "reason": reason, "recorded_time": now}
                if queries.insert_firing(tx, firing):
                    log.append(
                        tx,
                        Call(actor=self.actor, event_time=state.last_fired),
                        type="treadle.schedule.fired",
                        subject=f"trigger/{trigger.name}",
                        project=project,
                        environment=environment,
                        payload={"trigger": trigger.name, "run_id": state.facts.last_run, "reason": reason},
                    )

        self.database.write(write)


def statuses(connection: Connection, project: str, environment: str | None, now: dt.datetime) -> list[TriggerStatus]:
    """Every applied trigger: when it fired, its budget, when it may fire again."""
    rows = {(row.environment, row.name): row for row in queries.trigger_states(connection, project, environment)}
    found = []
    for name, place, definitions in applied.environments(connection):
        if name != project or environment not in (None, place):
            continue
        for trigger, _ in triggers_of(definitions):
            row = rows.get((place, trigger.name))
            since = now - dt.timedelta(seconds=trigger.budget_window_s)
            fired = tuple(queries.firing_times(connection, project, place, trigger.name, since))
            state = State(last_fired=row.last_fired if row is not None else None, fired=fired)
            allowed = next_allowed(trigger, state)
            found.append(
                TriggerStatus(
                    project=project,
                    environment=place,
                    name=trigger.name,
                    pipeline=trigger.pipeline,
                    last_fired=state.last_fired,
                    fired_in_window=len(fired),
                    budget=trigger.budget,
                    next_allowed=allowed if allowed is not None and allowed > now else None,
                    next_cron=row.next_cron if row is not None else None,
                    cursor=row.cursor if row is not None else 0,
                )
            )
    return found


def _fresh(connection: Connection, trigger: Trigger, project: str, now: dt.datetime, sealed: int) -> State:
    """A trigger seen for the first time: it hears what is sealed from now on, and counts growth from what is there."""
    datasets = {c.dataset for c in trigger.when if c.kind == "grown" and c.dataset}
    newest = {name: queries.newest_dataset(connection, project, name) for name in datasets}
    rows = {name: found[1] for name, found in newest.items() if found is not None}
    return State(cursor=sealed, facts=Facts(rows=rows, base=dict(rows), cron=_by_time(trigger.when, {}, now)[0]))


def _types(trigger: Trigger) -> list[str]:
    kinds = {condition.kind for condition in trigger.when}
    types = [event for kind, event in ALARMS.items() if kind in kinds]
    types += [condition.event for condition in trigger.when if condition.kind == "event"]
    types += [CLOSED] if types else []
    if kinds & {"dataset", "grown"}:
        types += [ARRIVED, _FINISHED]
    return types or ["treadle.none"]


def _wakes(trigger: Trigger, state: State, now: dt.datetime) -> dt.datetime | None:
    """When it must be looked at again though no event is sealed."""
    if state.facts.waiting is not None:
        return max(now, next_allowed(trigger, state) or now)
    return min(state.facts.cron.values(), default=None)


def _run_id(project: str, environment: str, trigger: Trigger, met: Met) -> str:
    """The id of the run that a firing starts: the same firing gives the same id."""
    seed = bytes.fromhex(digest_of([project, environment, trigger.name, met.kind, met.event_id, met.time]))[:10]
    return new_id("run", at_ms=int(met.time.timestamp() * 1000), entropy=seed)


def _parameters(trigger: Trigger, pipeline: Pipeline | None, now: dt.datetime) -> dict[str, Any]:
    """A trigger's parameters, `"$now"` standing for the time it fires; a required datetime that it does not give is that time too."""
    text = now.astimezone(UTC).isoformat().replace("+00:00", "Z")
    given = {name: text if value == "$now" else value for name, value in trigger.parameters.items()}
    for parameter in pipeline.parameters if pipeline is not None else ():
        if parameter.required and parameter.name not in given and "datetime" in parameter.annotation:
            given[parameter.name] = text
    return given
