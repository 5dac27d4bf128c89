"""Monitoring's verbs: windows and alarms."""

import datetime as dt

from msgspec import Struct

from treadle.operations.table import operation
from treadle.records.monitoring import Alarm, WindowReport


@operation(
    "GET /projects/{project}/environments/{environment}/endpoints/{endpoint}/windows",
    allow="read",
    returns=list[WindowReport],
)
class ListWindows(Struct, frozen=True, kw_only=True):
    """What was seen at an endpoint, by block of business time, in order."""

    project: str
    environment: str
    endpoint: str
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    limit: int = 1000


@operation("GET /projects/{project}/environments/{environment}/alarms", allow="read", returns=list[Alarm])
class ListAlarms(Struct, frozen=True, kw_only=True):
    """Alarms of an environment, newest first."""

    project: str
    environment: str
    endpoint: str | None = None
    state: str | None = None
    limit: int = 100
