"""Records of monitoring: windows, alarms."""

import datetime as dt
from typing import Any

from msgspec import Struct

from treadle.records.states import AlarmState


class WindowReport(Struct, frozen=True, kw_only=True):
    """What was seen at an endpoint in one block of business time. Metrics are over the predictions of the block whose outcome is
    known; `predictions`, `rejected` count all."""

    project: str
    environment: str
    endpoint: str
    start: dt.datetime
    end: dt.datetime
    predictions: int
    rejected: int
    outcomes: int
    metrics: dict[str, float]  # roc_auc, brier, mean_predicted, mean_observed, latency_p99_us …
    drift: dict[str, float]  # column → PSI against the reference
    champion: int | None
    facts: dict[str, Any] = {}


class Alarm(Struct, frozen=True, kw_only=True):
    """An alarm, raised once and closed once."""

    project: str
    environment: str
    alarm_id: str
    endpoint: str
    kind: str  # decay | calibration | drift | skew | lost
    state: AlarmState
    text: str
    raised: dt.datetime
    closed: dt.datetime | None = None
    facts: dict[str, Any] = {}
