"""Where a step is: the run it belongs to, as whom and when it runs, and the services it may use.

A worker sets the context around a body; steps see the same one without the journal, so that a step called inside a step is an
ordinary function call. A notebook or a test makes one with `local`. The context travels in a `ContextVar`: a thread that a body
starts by itself has none, and steps called there are not journaled.
"""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from treadle.records.calls import SYSTEM, Actor
from treadle.records.clock import Clock, SystemClock
from treadle.records.errors import TreadleError


class Journal(Protocol):
    """What turns the call of a step into a journaled one."""

    def call(self, step: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run, skip or replay one call; returns a Handle."""
        ...

    def each(self, step: Any, items: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """The same for every item, under one place in the body."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The run that is going on.

    `event_time` is the business time the run stands for: data known until then is its input. `resources` are the services of the
    workshop by name (`data`, `registry`, `layout`, `blobs`, `db`, `dispatch`, `project`, …).
    """

    project: str
    environment: str
    run_id: str
    event_time: dt.datetime
    actor: Actor = SYSTEM
    clock: Clock = field(default_factory=SystemClock)
    resources: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    step: str = ""  # path of the step that runs, "" in the body
    journal: Journal | None = None
    write_line: Callable[[str, str], None] | None = None  # (text, level)

    def log(self, text: str, level: str = "info") -> None:
        """Write a line into the run's log (or print it, where there is no run)."""
        if self.write_line is None:
            print(text)
        else:
            self.write_line(text, level)

    def resource(self, name: str) -> Any:
        """A service of the workshop.

        Raises:
            TreadleError: `unavailable`, where this context has none of that name.
        """
        if name not in self.resources:
            raise TreadleError(
                f"This run has no {name!r}: its context holds {', '.join(sorted(self.resources)) or 'nothing'}.",
                remedy=f"Run it through a home (treadle run PIPELINE), or give it: context.local(resources={{{name!r}: …}})",
                code="unavailable",
            )
        return self.resources[name]


_current: ContextVar[RunContext | None] = ContextVar("treadle_run", default=None)


def peek() -> RunContext | None:
    """The running context, None outside a run."""
    return _current.get()


def current() -> RunContext:
    """The running context.

    Raises:
        TreadleError: `unavailable` outside a run.
    """
    found = _current.get()
    if found is None:
        raise TreadleError(
            "No run is going on here, so there is no project, run id or service to use.",
            remedy="Call this from a step of a run (treadle run PIPELINE), or inside `with treadle.pipelines.context.local(...):`",
            code="unavailable",
        )
    return found


@contextlib.contextmanager
def entered(context: RunContext) -> Iterator[RunContext]:
    """Make `context` the running one."""
    token: Token[RunContext | None] = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


@contextlib.contextmanager
def local(
    *,
    project: str = "local",
    environment: str = "dev",
    run_id: str = "run_local",
    event_time: dt.datetime | None = None,
    actor: Actor = SYSTEM,
    clock: Clock | None = None,
    resources: Mapping[str, Any] | None = None,
) -> Iterator[RunContext]:
    """A context for notebooks and tests: steps run at once, as plain functions, and find it through `current()`."""
    clock = clock or SystemClock()
    made = RunContext(
        project=project,
        environment=environment,
        run_id=run_id,
        event_time=event_time or clock.now(),
        actor=actor,
        clock=clock,
        resources=resources or {},
    )
    with entered(made):
        yield made


def inside_step(context: RunContext, path: str) -> RunContext:
    """The context as a step sees it: without the journal."""
    return replace(context, journal=None, step=path)
