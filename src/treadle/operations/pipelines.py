"""The engine's verbs: submit, cancel, resume and look into runs; triggers."""

import datetime as dt
from typing import Any

from msgspec import Struct

from treadle.operations.table import Writes, operation
from treadle.records.ledger import Page, Reason, Run, Step


class LogLine(Struct, frozen=True, kw_only=True):
    """A line a run wrote. `number` counts from 1 within the run."""

    number: int
    time: dt.datetime
    step: str
    level: str
    text: str


class LogLines(Struct, frozen=True, kw_only=True):
    """Lines of a run's log after a number; `ended` once the run can write no more."""

    items: list[LogLine]
    ended: bool
    page: Page


class TriggerStatus(Struct, frozen=True, kw_only=True):
    """A trigger and its history: when it fired, what is left of its budget, when it may fire again."""

    project: str
    environment: str
    name: str
    pipeline: str
    last_fired: dt.datetime | None
    fired_in_window: int
    budget: int | None
    next_allowed: dt.datetime | None
    next_cron: dt.datetime | None
    cursor: int


@operation(
    "POST /projects/{project}/pipelines/{pipeline}/runs",
    allow="runs:write",
    returns=Run,
    writes=Writes("treadle.run.queued", "run/{run_id}"),
)
class SubmitRun(Struct, frozen=True, kw_only=True):
    """Queue a run of an applied pipeline; a worker takes it up. The same run id again changes nothing.

    `parent` is the run that this one goes on from, with something changed: `CompareRuns` says what.
    """

    project: str
    pipeline: str
    run_id: str
    environment: str = "dev"
    params: dict[str, Any] = {}
    reason: Reason = Reason(kind="demand", text="asked for")
    use_cache: bool = True
    parent: str | None = None


@operation(
    "POST /projects/{project}/runs/{run_id}/cancel",
    allow="runs:write",
    returns=Run,
    writes=Writes("treadle.run.cancel_requested", "run/{run_id}"),
)
class CancelRun(Struct, frozen=True, kw_only=True):
    """Ask a run to stop; the step in flight is ended, finished steps stay."""

    project: str
    run_id: str


@operation(
    "POST /projects/{project}/runs/{run_id}/resume",
    allow="runs:write",
    returns=Run,
    writes=Writes("treadle.run.resumed", "run/{run_id}"),
)
class ResumeRun(Struct, frozen=True, kw_only=True):
    """Queue a failed or cancelled run again: finished steps answer from the journal, the failed one runs again."""

    project: str
    run_id: str


@operation("GET /projects/{project}/runs/{run_id}/steps", allow="read", returns=list[Step])
class ListSteps(Struct, frozen=True, kw_only=True):
    """The steps of a run in journal order: state, cache key and what it is made of, why each ran or was skipped."""

    project: str
    run_id: str


@operation("GET /projects/{project}/runs/{run_id}/log", allow="read", returns=LogLines)
class ReadLog(Struct, frozen=True, kw_only=True):
    """Lines of a run's log, after line `after`."""

    project: str
    run_id: str
    after: int = 0
    limit: int = 1000


@operation("GET /projects/{project}/triggers", allow="read", returns=list[TriggerStatus])
class ListTriggers(Struct, frozen=True, kw_only=True):
    """All triggers of a project and what is left of their budgets."""

    project: str
    environment: str | None = None
