"""Statements on jobs, the journal of steps, the cache, log lines and triggers.

Whatever a worker writes about a run goes through `hold` first, in the same transaction: it moves the lease's beat where the worker
still owns the lease, so a worker that lost it (a long pause, a cut network) can change nothing any more.
"""

import datetime as dt
import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from treadle.records.states import JobState, StepState
from treadle.store import tables as t
from treadle.store.upsert import insert_new, insert_or_update

# ── jobs and their leases ────────────────────────────────────────────────────────────────────────────────────────────


def insert_job(tx: Connection, job: dict[str, Any]) -> None:
    """A new job, ready from its `due` on."""
    tx.execute(insert(t.jobs), {**job, "state": str(JobState.ready)})


def due_jobs(connection: Connection, kind: str, now: dt.datetime, limit: int) -> Sequence[Any]:
    """Jobs that may be leased at `now`: highest priority first, then the longest due."""
    j = t.jobs.c
    return connection.execute(
        select(j.project, j.job_id, j.payload)
        .where(j.state == str(JobState.ready), j.due <= now, j.kind == kind)
        .order_by(j.priority.desc(), j.due, j.job_id)
        .limit(limit)
    ).all()


def leased_jobs(connection: Connection, kind: str) -> Sequence[Any]:
    """Jobs that somebody holds: project, id, owner, beat."""
    j = t.jobs.c
    where = (j.state == str(JobState.leased), j.kind == kind)
    return connection.execute(select(j.project, j.job_id, j.owner, j.beat, j.payload).where(*where)).all()


def next_due(connection: Connection, kind: str) -> dt.datetime | None:
    """When the next job that waits may be leased."""
    j = t.jobs.c
    return connection.execute(select(j.due).where(j.state == str(JobState.ready), j.kind == kind).order_by(j.due).limit(1)).scalar()


def claim(tx: Connection, project: str, job_id: str, owner: str) -> Any:
    """Lease a ready job; None where somebody else was faster."""
    j = t.jobs.c
    where = (j.project == project, j.job_id == job_id, j.state == str(JobState.ready))
    values = {"state": str(JobState.leased), "owner": owner, "beat": 1, "attempt": j.attempt + 1}
    return tx.execute(update(t.jobs).where(*where).values(values).returning(j.attempt, j.max_attempts, j.payload)).first()


def take_over(tx: Connection, project: str, job_id: str, *, seen: tuple[str, int], owner: str) -> Any:
    """Lease a job whose holder was seen dead at this beat; None where it has moved since."""
    j = t.jobs.c
    where = (j.project == project, j.job_id == job_id, j.state == str(JobState.leased), j.owner == seen[0], j.beat == seen[1])
    values = {"owner": owner, "beat": j.beat + 1, "attempt": j.attempt + 1}
    return tx.execute(update(t.jobs).where(*where).values(values).returning(j.attempt, j.max_attempts, j.payload)).first()


@functools.cache
def _hold(*, progress: bool) -> Any:
    """The statement of `hold`: built once, since it runs at every step."""
    j, r = t.jobs.c, t.runs.c
    state = select(r.state).where(r.project == bindparam("of"), r.run_id == bindparam("job")).scalar_subquery()
    values: dict[str, Any] = {"beat": j.beat + 1, **({"attempt": 1} if progress else {})}
    where = (j.project == bindparam("of"), j.job_id == bindparam("job"), j.owner == bindparam("by"), j.state == str(JobState.leased))
    return update(t.jobs).where(*where).values(values).returning(state)


def hold(tx: Connection, project: str, job_id: str, owner: str, *, progress: bool = False) -> str | None:
    """Move the beat if `owner` still holds the lease; the run's state, or None where the lease is lost. `progress` (a step was
    finished) starts the count of attempts anew."""
    return tx.execute(_hold(progress=progress), {"of": project, "job": job_id, "by": owner}).scalar()


def end_job(tx: Connection, project: str, job_id: str, *, state: JobState, error: str | None = None) -> None:
    """Give the lease back: done, dead, or ready for somebody else."""
    j = t.jobs.c
    values: dict[str, Any] = {"state": str(state), "owner": None, "error": error, **({"attempt": 0} if state == JobState.ready else {})}
    tx.execute(update(t.jobs).where(j.project == project, j.job_id == job_id).values(values))


def ready_again(tx: Connection, project: str, job_id: str, due: dt.datetime) -> None:
    """Queue an ended job once more."""
    j = t.jobs.c
    tx.execute(
        update(t.jobs)
        .where(j.project == project, j.job_id == job_id)
        .values(state=str(JobState.ready), owner=None, attempt=0, due=due, error=None)
    )


# ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────────────


def steps_of(connection: Connection, project: str, run_id: str) -> Sequence[Any]:
    """The journal of a run, in no order."""
    s = t.steps.c
    return connection.execute(select(t.steps).where(s.project == project, s.run_id == run_id)).all()


def find_step(connection: Connection, project: str, run_id: str, path: str) -> Any:
    """One journaled step."""
    s = t.steps.c
    return connection.execute(select(t.steps).where(s.project == project, s.run_id == run_id, s.path == path)).first()


def newest_steps(connection: Connection, project: str, name: str, limit: int) -> Sequence[Any]:
    """The newest journaled calls of a step by name."""
    s, r = t.steps.c, t.runs.c
    joined = t.steps.join(t.runs, (s.project == r.project) & (s.run_id == r.run_id))
    found = select(t.steps).select_from(joined).where(s.project == project, s.name == name)
    return connection.execute(found.order_by(r.recorded_time.desc(), s.path).limit(limit)).all()


def put_steps(tx: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write steps, new or moved on."""
    tx.execute(_upsert(tx.dialect.name, t.steps), rows)


def end_running_steps(tx: Connection, project: str, run_id: str, *, state: StepState, at: dt.datetime, error: str) -> None:
    """Say of steps that were running how they ended."""
    s = t.steps.c
    where = (s.project == project, s.run_id == run_id, s.state == str(StepState.running))
    tx.execute(update(t.steps).where(*where).values(state=str(state), ended=at, error=error))


# ── the cache ────────────────────────────────────────────────────────────────────────────────────────────────────────


_find_cached = select(t.step_cache).where(t.step_cache.c.project == bindparam("of"), t.step_cache.c.cache_key == bindparam("key"))
_recent_cached = (
    select(t.step_cache.c.components)
    .where(t.step_cache.c.project == bindparam("of"), t.step_cache.c.step == bindparam("name"))
    .order_by(t.step_cache.c.recorded_time.desc())
    .limit(bindparam("most"))
)


def find_cached(connection: Connection, project: str, cache_key: str) -> Any:
    """What is kept under a key, or None."""
    return connection.execute(_find_cached, {"of": project, "key": cache_key}).first()


def recent_cached(connection: Connection, project: str, step: str, limit: int) -> Sequence[dict[str, str]]:
    """The components of the newest entries of a step."""
    return connection.execute(_recent_cached, {"of": project, "name": step, "most": limit}).scalars().all()


def put_cached(tx: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Keep results, the newest under each key."""
    tx.execute(_upsert(tx.dialect.name, t.step_cache), rows)


@functools.cache
def _upsert(dialect: str, table: Table) -> Any:
    statement = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    keys = [c.name for c in table.primary_key]
    changed = {c.name: statement.excluded[c.name] for c in table.c if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


# ── log lines ────────────────────────────────────────────────────────────────────────────────────────────────────────


def insert_lines(tx: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write log lines; one that is there stays."""
    insert_new(tx, t.log_lines, rows)


def last_line(connection: Connection, project: str, run_id: str) -> int:
    """The number of a run's last log line, 0 where it has none."""
    n = t.log_lines.c
    return connection.execute(select(func.max(n.number)).where(n.project == project, n.run_id == run_id)).scalar() or 0


def lines_after(connection: Connection, project: str, run_id: str, after: int, limit: int) -> Sequence[Any]:
    """Log lines behind a number."""
    n = t.log_lines.c
    where = (n.project == project, n.run_id == run_id, n.number > after)
    return connection.execute(select(t.log_lines).where(*where).order_by(n.number).limit(limit)).all()


# ── triggers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def trigger_states(connection: Connection, project: str, environment: str | None = None) -> Sequence[Any]:
    """What triggers remember, by environment and name."""
    g = t.triggers.c
    where = [g.project == project, *([g.environment == environment] if environment is not None else [])]
    return connection.execute(select(t.triggers).where(*where).order_by(g.environment, g.name)).all()


def put_trigger(tx: Connection, row: dict[str, Any]) -> None:
    """Write what a trigger remembers."""
    insert_or_update(tx, t.triggers, row)


def insert_firing(tx: Connection, row: dict[str, Any]) -> bool:
    """A firing; False where this run's is there."""
    return insert_new(tx, t.firings, row) == 1


def firing_times(connection: Connection, project: str, environment: str, name: str, since: dt.datetime) -> list[dt.datetime]:
    """Business times of a trigger's firings after `since`, in order."""
    f = t.firings.c
    where = (f.project == project, f.environment == environment, f.name == name, f.event_time > since)
    return [row[0] for row in connection.execute(select(f.event_time).where(*where).order_by(f.event_time))]


def last_sealed(connection: Connection) -> int:
    """The sequence number of the newest sealed event."""
    return connection.execute(select(func.max(t.events.c.seq)).where(t.events.c.seq.is_not(None))).scalar() or 0


def newest_dataset(connection: Connection, project: str, dataset: str) -> tuple[int, int] | None:
    """(number, rows) of a dataset's newest version."""
    d = t.dataset_versions.c
    where = (d.project == project, d.dataset == dataset)
    row = connection.execute(select(d.number, d.rows).where(*where).order_by(d.number.desc()).limit(1)).first()
    return None if row is None else (row[0], row[1])
