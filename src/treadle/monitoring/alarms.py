"""Alarms: raised once, closed once, each with its event in the same transaction.

A test that goes on firing is told again after `REMIND_BLOCKS` blocks by another event of the same type (its payload says `reminder`), so
that a retraining whose candidate was refused gets another chance; the alarm itself stays one. An alarm is about a champion: when
another takes over it is closed, and the tests start anew.
"""

import datetime as dt
from collections.abc import Mapping

from msgspec.structs import replace

from treadle.ledger import events
from treadle.monitoring.watch import Finding
from treadle.records.calls import SYSTEM, Call
from treadle.records.clock import SystemClock
from treadle.records.ids import new_id
from treadle.records.monitoring import Alarm
from treadle.records.states import AlarmState
from treadle.store.db import Connection
from treadle.store.queries import monitoring as queries

#: Blocks after which a test that still fires is told again.
REMIND_BLOCKS = 7
EVENTS = {
    "decay": "treadle.performance.decayed",
    "calibration": "treadle.calibration.drifted",
    "drift": "treadle.drift.detected",
    "outcomes": "treadle.outcomes.missing",
}
CLOSED = "treadle.alarm.closed"

_clock = SystemClock()


def settle(
    tx: Connection,
    findings: list[Finding],
    *,
    project: str,
    environment: str,
    endpoint: str,
    champion: int | None,
    block_s: int,
    now: dt.datetime,
) -> list[Alarm]:
    """Raise, remind of and close an endpoint's alarms after a look; those raised or closed, as they are now."""
    call = Call(actor=SYSTEM, event_time=now)
    standing = {a.kind: a for a in queries.list_alarms(tx, project, environment, endpoint=endpoint, state=AlarmState.open.value)}
    changed = []
    for alarm in list(standing.values()):
        if alarm.facts.get("champion", champion) != champion:
            text = f"{alarm.text} Closed: version {champion} has taken over."
            changed.append(_close(tx, call, standing.pop(alarm.kind), text))
    for finding in findings:
        alarm = standing.get(finding.kind)
        if alarm is None and finding.firing:
            changed.append(_raise(tx, call, finding, project, environment, endpoint))
        elif alarm is not None and finding.clear:
            changed.append(_close(tx, call, alarm, f"{alarm.text} Closed: {finding.text}"))
        elif alarm is not None and finding.firing:
            _remind(tx, call, alarm, finding, dt.timedelta(seconds=REMIND_BLOCKS * block_s))
    return changed


def _raise(tx: Connection, call: Call, finding: Finding, project: str, environment: str, endpoint: str) -> Alarm:
    alarm = Alarm(
        project=project,
        environment=environment,
        alarm_id=new_id("alm"),
        endpoint=endpoint,
        kind=finding.kind,
        state=AlarmState.open,
        text=finding.text,
        raised=call.event_time,
        facts={**finding.facts, "told": call.event_time.isoformat(), "reminders": 0},
    )
    queries.insert_alarm(tx, alarm, _clock.now())
    _tell(tx, call, EVENTS[finding.kind], alarm, finding)
    return alarm


def _remind(tx: Connection, call: Call, alarm: Alarm, finding: Finding, after: dt.timedelta) -> None:
    if call.event_time - dt.datetime.fromisoformat(alarm.facts["told"]) < after:
        return
    told = {"told": call.event_time.isoformat(), "reminders": alarm.facts["reminders"] + 1}
    alarm = replace(alarm, facts={**alarm.facts, **told})
    queries.update_alarm(tx, alarm)
    _tell(tx, call, EVENTS[alarm.kind], alarm, finding)


def _close(tx: Connection, call: Call, alarm: Alarm, text: str) -> Alarm:
    alarm = replace(alarm, state=AlarmState.closed, closed=call.event_time, text=text)
    queries.update_alarm(tx, alarm)
    payload = {"alarm_id": alarm.alarm_id, "endpoint": alarm.endpoint, "kind": alarm.kind, "text": text}
    _append(tx, call, CLOSED, alarm, payload)
    return alarm


def _tell(tx: Connection, call: Call, type: str, alarm: Alarm, finding: Finding) -> None:
    payload = {
        "alarm_id": alarm.alarm_id,
        "endpoint": alarm.endpoint,
        "kind": alarm.kind,
        "text": finding.text,
        "facts": finding.facts,
        "reminder": alarm.facts["reminders"],
    }
    _append(tx, call, type, alarm, payload)


def _append(tx: Connection, call: Call, type: str, alarm: Alarm, payload: Mapping[str, object]) -> None:
    subject = f"endpoint/{alarm.endpoint}"
    events.append(tx, call, type=type, subject=subject, project=alarm.project, environment=alarm.environment, payload=payload)
