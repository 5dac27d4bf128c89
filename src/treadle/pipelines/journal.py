"""The journal of one run: every call of a step passes here.

A call whose place in the body the journal knows as finished is answered from it. Else the cache is asked. Else the step runs: its
start is committed (together with the finish of the step before it), its function is called, its result saved, and its finish
waits for the next commit: the next step's start, the end of the body, or the supervisor, a few hundredths of a second later.
So a step costs one commit, and a worker that dies loses at most one step. Answers from cache and journal wait with it and cost
no commit of their own.

Two threads meet here: the body's, and the worker's, which supervises (`worker`). `_commit` is what they take turns in.
"""

import datetime as dt
import functools
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from treadle.pipelines import cache, faults, logs
from treadle.pipelines.artifacts import Artifacts, Saved
from treadle.pipelines.context import RunContext, entered, inside_step
from treadle.pipelines.handle import Handle, value
from treadle.pipelines.interrupts import Ended, Interruptible
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ledger import Run
from treadle.records.states import RunState, StepState
from treadle.store.db import Connection, Database
from treadle.store.queries import pipelines as queries

#: How many earlier results a miss is compared with, to say what changed.
_COMPARED = 5
_OVER = (str(StepState.finished), str(StepState.cached))


class Stopped(BaseException):
    """The body must end here: `cancelled`, `handed_back` (the worker goes down) or `lost` (somebody else has the lease)."""

    def __init__(self, why: str):
        super().__init__(why)
        self.why = why


class Recorder:
    """Journals the steps of one leased run.

    Args:
        database: where the journal is.
        artifacts: where results are.
        run: the run.
        owner: the lease, checked by every write.
        use_cache: whether results of other runs may answer.
    """

    def __init__(self, database: Database, artifacts: Artifacts, run: Run, owner: str, *, use_cache: bool = True, worker: str = ""):
        self.database = database
        self.artifacts = artifacts
        self.run = run
        self.owner = owner
        self.root = Path.cwd()  # the project's folder, for code digests; set once the body is loaded
        self.use_cache = use_cache
        self.worker = worker
        self.interrupts = Interruptible()
        self.context: RunContext | None = None
        self.stop: str | None = None  # why the body must end at the next border
        self.stopping = threading.Event()
        self.path = ""  # of the step that runs
        self._commit_lock = threading.Lock()
        self._lock = threading.Lock()
        self._counter = 0
        self._rows: dict[str, dict[str, Any]] = {}
        self._cached: list[dict[str, Any]] = []
        self._own: dict[str, Saved] = {}  # results of this run by key: they may still wait to be committed
        self._lines: list[dict[str, Any]] = []
        self._since: float | None = None
        with database.read() as connection:
            rows = queries.steps_of(connection, run.project, run.run_id)
            self._line = queries.last_line(connection, run.project, run.run_id)
        self._known = {row.path: row for row in rows}
        self._names = {_place(row.path): row.name for row in rows}
        self._visited: set[str] = set()

    # ── what the body calls ──────────────────────────────────────────────────────────────────────────────────────

    def call(self, step: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handle[Any]:
        """One call of a step."""
        place = self._next(step)
        return self._one(step, f"{place:04d}:{step.name}", args, kwargs)

    def each(self, step: Any, items: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Handle[Any]]:
        """A call for every item, at one place in the body."""
        place = self._next(step)
        return [self._one(step, f"{place:04d}:{step.name}[{i}]", (item, *args), kwargs) for i, item in enumerate(items)]

    def _next(self, step: Any) -> int:
        place, self._counter = self._counter, self._counter + 1
        known = self._names.get(place)
        if known is not None and known != step.name:
            raise self._other_path(f"step {place} of its body is now {step.name!r}, but was {known!r}")
        return place

    def finish(self) -> None:
        """The body has returned.

        Raises:
            TreadleError: `nondeterministic`, where the journal holds finished steps that this body did not come to.
        """
        missed = sorted(path for path, row in self._known.items() if row.state in _OVER and path not in self._visited)
        if missed:
            raise self._other_path(f"its body ended without {missed[0]!r}, which had finished before")

    def _other_path(self, what: str) -> TreadleError:
        return TreadleError(
            f"Run {self.run.run_id} took another path than its journal: {what}.",
            remedy="Let the body decide only on parameters and results of steps (no clock, no randomness); start a new run: "
            f"treadle run {self.run.pipeline}",
            code="nondeterministic",
        )

    # ── one call ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _one(self, step: Any, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handle[Any]:
        if self._visited:
            faults.passing("between_steps")
        self.border()
        self._visited.add(path)
        bound = step.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            components = {"step": step.name, **cache.describe(bound.arguments, self.root)}
            unknown = ""
        except TreadleError as error:
            components, unknown = {"step": step.name}, f"not cached: {error.what}"
        known = self._known.get(path)
        gone = ""
        if known is not None and known.state in _OVER:
            saved = Saved(known.output, known.codec, known.content)
            self._compare(path, components, known.components)
            if self.artifacts.exists(saved):
                return self.artifacts.handle(saved, path)
            gone = f"its saved result {known.output[:12]} is gone; "
        components |= cache.code_components(step.function, self.root)
        key = digest_of(components)
        row = self._row(step, path, key, components, attempt=(known.attempt if known is not None else 0) + 1)
        why = unknown or ("cache is off for this step" if not step.cache else "cache is off for this run")
        if step.cache and self.use_cache and not unknown:
            found, why = self._look_up(step, key, components)
            if found is not None:
                self._keep({**row, "state": str(StepState.cached), "why": why, **_output(found)})
                return self.artifacts.handle(found, path)
        return self._run(step, bound, {**row, "why": gone + why}, keep=step.cache and not unknown)

    def _row(self, step: Any, path: str, key: str, components: dict[str, str], *, attempt: int) -> dict[str, Any]:
        now = self._now()
        return {
            "project": self.run.project,
            "run_id": self.run.run_id,
            "path": path,
            "name": step.name,
            "state": str(StepState.running),
            "cache_key": key,
            "components": components,
            "why": "",
            "output": None,
            "content": None,
            "codec": None,
            "attempt": attempt,
            "started": now,
            "ended": now,
            "worker": self.worker,
            "error": None,
        }

    def _compare(self, path: str, now: Mapping[str, str], before: Mapping[str, str]) -> None:
        """Refuse to answer a call from the journal that is made with other arguments than the journal's."""
        changed = cache.differences(cache.arguments_of(now), cache.arguments_of(before))
        if changed and len(now) > 1:
            raise self._other_path(f"step {path!r} had finished, and is now called with other arguments ({'; '.join(changed)})")

    def _look_up(self, step: Any, key: str, components: Mapping[str, str]) -> tuple[Saved | None, str]:
        """A kept result, or None; and why."""
        project = self.run.project
        if key in self._own:
            return self._own[key], "cached: same code, inputs, parameters and packages as before in this run"
        with self.database.read() as connection:
            row = queries.find_cached(connection, project, key)
            earlier = [] if row is not None else queries.recent_cached(connection, project, step.name, _COMPARED)
        if row is None:
            return None, cache.explain(components, earlier)
        saved = Saved(row.output, row.codec, row.content)
        if not self.artifacts.exists(saved):
            return None, f"the result kept from {row.run_id} ({row.output[:12]}) is gone"
        return saved, f"cached: same code, inputs, parameters and packages as in {row.run_id}"

    def _run(self, step: Any, bound: Any, row: dict[str, Any], *, keep: bool) -> Handle[Any]:
        path = self.path = row["path"]
        arguments, named = value(bound.args), value(bound.kwargs)
        began = time.monotonic()
        for attempt in range(step.retries + 1):
            self._commit({**row, "ended": None, "attempt": row["attempt"] + attempt}, progress=attempt == 0)
            try:
                result = self._attempt(step, path, arguments, named)
                saved, result = self.artifacts.save(result, codec=step.codec, where=f"The result of step {path}")
            except Exception as error:  # noqa: BLE001  (a step may raise anything; it is told in the journal)
                failed: BaseException = error
            except Ended:
                failed = self._ended(step, path)
            else:
                faults.passing("result_saved")
                return self._finished({**row, "attempt": row["attempt"] + attempt}, saved, result, began, keep=keep)
            row = {**row, "error": told(failed)}
            self.line(row["error"], "error")
            last = attempt == step.retries
            state = str(StepState.failed if last else StepState.running)
            self._keep({**row, "attempt": row["attempt"] + attempt, "state": state, "ended": self._after(row, began)})
            if last:
                raise failed
            if self.stopping.wait(step.backoff_s * 2**attempt):
                self.border()
        raise AssertionError("unreachable")

    def _finished(self, row: dict[str, Any], saved: Saved, result: Any, began: float, *, keep: bool) -> Handle[Any]:
        finished = {**row, "state": str(StepState.finished), "ended": self._after(row, began), "error": None, **_output(saved)}
        if keep:
            self._own[row["cache_key"]] = saved
        self._keep(finished, kept=self._entry(finished) if keep else None)
        self.path = ""
        return self.artifacts.handle(saved, row["path"], value=result)

    def _attempt(self, step: Any, path: str, arguments: Any, named: Any) -> Any:
        """One call of the step's function, inside its context."""
        assert self.context is not None

        def called() -> Any:
            faults.passing("running")
            return step.function(*arguments, **named)

        with entered(inside_step(self.context, path)):
            try:
                return self.interrupts.run(called, timeout_s=step.timeout_s)
            finally:
                logs.flush()

    def _ended(self, step: Any, path: str) -> TreadleError:
        if self.interrupts.reason == "timed_out":
            return TreadleError(
                f"Step {path} did not end within {step.timeout_s} s.",
                remedy=f"Give it more time (@step(timeout_s=…)) or less to do, then: treadle run --resume {self.run.run_id}",
                code="timed_out",
            )
        raise Stopped(self.stop or self.interrupts.reason or "cancelled")

    def _entry(self, row: dict[str, Any]) -> dict[str, Any]:
        return {
            "project": row["project"],
            "cache_key": row["cache_key"],
            "step": row["name"],
            "components": row["components"],
            "output": row["output"],
            "content": row["content"],
            "codec": row["codec"],
            "run_id": row["run_id"],
            "recorded_time": dt.datetime.now(dt.UTC),
        }

    def _now(self) -> dt.datetime:
        assert self.context is not None
        return self.context.clock.now()

    def _after(self, row: dict[str, Any], began: float) -> dt.datetime:
        """When a step ended: its start by the business clock plus the time it really took."""
        return row["started"] + dt.timedelta(seconds=time.monotonic() - began)

    # ── log lines ────────────────────────────────────────────────────────────────────────────────────────────────

    def line(self, text: str, level: str = "info") -> None:
        """A line of the run's log; kept with the next commit."""
        now = self._now()
        with self._lock:
            for part in text.split("\n"):
                self._line += 1
                self._lines.append(
                    {
                        "project": self.run.project,
                        "run_id": self.run.run_id,
                        "number": self._line,
                        "step": self.path,
                        "level": level,
                        "text": part[: logs.LONGEST].replace("\0", "�"),
                        "time": now,
                    }
                )

    # ── commits ──────────────────────────────────────────────────────────────────────────────────────────────────

    def border(self) -> None:
        """A place between steps: end the body here if it must."""
        if self.stop is not None:
            raise Stopped(self.stop)

    def waits(self, now: float) -> float:
        """For how many seconds something has waited to be committed, 0 where nothing has."""
        since = self._since
        return 0.0 if since is None else now - since

    def flush(self) -> None:
        """Commit what waits, and beat. Called by the supervisor while the body is busy."""
        self._commit(None, progress=False)

    def closing(self) -> Callable[[Connection], None]:
        """What waits, as part of a transaction of the caller's (who holds the lease in it)."""
        rows, cached, lines = self._take()
        return functools.partial(_write, rows=rows, cached=cached, lines=lines)

    def _keep(self, row: dict[str, Any], *, kept: dict[str, Any] | None = None) -> None:
        """Let a row wait for the next commit."""
        with self._lock:
            self._rows[row["path"]] = row
            if kept is not None:
                self._cached.append(kept)
            if self._since is None:
                self._since = time.monotonic()

    def _take(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        with self._lock:
            taken = list(self._rows.values()), self._cached, self._lines
            self._rows, self._cached, self._lines, self._since = {}, [], [], None
        return taken

    def _give_back(self, rows: list[dict[str, Any]], cached: list[dict[str, Any]], lines: list[dict[str, Any]]) -> None:
        """What could not be committed waits on, before what came since."""
        with self._lock:
            self._rows = {**{row["path"]: row for row in rows}, **self._rows}
            self._cached[:0] = cached
            self._lines[:0] = lines
            self._since = time.monotonic()

    def _commit(self, start: dict[str, Any] | None, *, progress: bool) -> None:
        """One transaction: the lease holds, what waited is written, and a step is started (or none)."""
        with self._commit_lock:
            rows, cached, lines = self._take()
            ended = any(row["state"] == str(StepState.finished) for row in rows)
            if start is not None:
                rows = [row for row in rows if row["path"] != start["path"]] + [start]
                faults.passing("before_commit")

            def write(tx: Connection) -> str | None:
                state = queries.hold(tx, self.run.project, self.run.run_id, self.owner, progress=progress and ended)
                if state is not None:
                    _write(tx, rows=rows, cached=cached, lines=lines)
                return state

            try:
                state = self.database.write(write)
            except BaseException:
                self._give_back(rows if start is None else rows[:-1], cached, lines)
                raise
        if start is not None:
            faults.passing("after_commit")
        if state is None:
            self.stop = "lost"
        elif state == RunState.cancelling:
            self.stop = "cancelled"
        if self.stop is not None:
            self.stopping.set()
            if start is not None:
                self.border()


def _write(tx: Connection, *, rows: list[Any], cached: list[Any], lines: list[Any]) -> None:
    if rows:
        queries.put_steps(tx, rows)
    if cached:
        queries.put_cached(tx, cached)
    if lines:
        queries.insert_lines(tx, lines)


def _output(saved: Saved) -> dict[str, Any]:
    return {"output": saved.digest, "codec": saved.codec, "content": saved.content}


def _place(path: str) -> int:
    return int(path.partition(":")[0])


def told(error: BaseException) -> str:
    """An error as the journal tells it: what and remedy of our own, else the user's part of the traceback."""
    if isinstance(error, TreadleError):
        return f"{error.what} {error.remedy}"
    frames = traceback.extract_tb(error.__traceback__)
    here = str(Path(__file__).parent)
    theirs = [frame for frame in frames if not frame.filename.startswith(here)] or frames
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(theirs), *traceback.format_exception_only(error)]
    return "".join(lines).strip()[-16_000:]
