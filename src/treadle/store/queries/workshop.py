"""Statements of the workshop: what is applied where, and what the overview counts."""

from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, literal, select

from treadle.records.definitions import Project
from treadle.records.tracking import DEFAULT_EXPERIMENT
from treadle.store import tables as t


def applied(tx: Connection, project: str, environment: str) -> Project | None:
    """The definitions applied in an environment."""
    row = tx.execute(select(t.applied.c.definitions).where(t.applied.c.project == project, t.applied.c.environment == environment)).scalar()
    return None if row is None else msgspec.convert(row, Project)


def apply(tx: Connection, row: dict[str, Any]) -> None:
    """Replace what is applied in an environment."""
    tx.execute(delete(t.applied).where(t.applied.c.project == row["project"], t.applied.c.environment == row["environment"]))
    tx.execute(insert(t.applied), row)


def environments(tx: Connection) -> list[tuple[str, str, Project]]:
    """(project, environment, definitions) of all that is applied, by name."""
    rows = tx.execute(
        select(t.applied.c.project, t.applied.c.environment, t.applied.c.definitions).order_by(t.applied.c.project, t.applied.c.environment)
    )
    return [(p, e, msgspec.convert(d, Project)) for p, e, d in rows]


def logged_projects(tx: Connection) -> list[str]:
    """Projects that runs, experiments or models were recorded in, applied or not; the default experiment alone is nobody's doing."""
    e = t.experiments.c
    ran = select(literal(1)).where(t.runs.c.project == e.project).exists()
    query = select(e.project).where((e.experiment_id != DEFAULT_EXPERIMENT) | ran).union(select(t.models.c.project)).order_by("project")
    return list(tx.execute(query).scalars())


def running_of(tx: Connection, project: str, environment: str) -> list[tuple[str, str]]:
    """(run id, pipeline) of runs that have not ended in an environment."""
    rows = tx.execute(
        select(t.runs.c.run_id, t.runs.c.pipeline).where(
            t.runs.c.project == project,
            t.runs.c.environment == environment,
            t.runs.c.state.in_(("queued", "running", "waiting", "cancelling")),
        )
    )
    return [(r, p) for r, p in rows]


def serving(tx: Connection, project: str, environment: str) -> dict[str, Any] | None:
    """The newest snapshot's body, as JSON."""
    return tx.execute(
        select(t.snapshots.c.body)
        .where(t.snapshots.c.project == project, t.snapshots.c.environment == environment)
        .order_by(t.snapshots.c.generation.desc())
        .limit(1)
    ).scalar()


def newest_event_time(tx: Connection, project: str) -> Any:
    """Business time of the newest event of a project: where a replay stands."""
    return tx.execute(
        select(t.events.c.event_time).where(t.events.c.project == project).order_by(t.events.c.recorded_time.desc()).limit(1)
    ).scalar()


def release_is_open(tx: Connection, project: str, environment: str, endpoint: str) -> bool:
    """Whether a release of the endpoint waits or runs."""
    return (
        tx.execute(
            select(t.releases.c.release_id)
            .where(
                t.releases.c.project == project,
                t.releases.c.environment == environment,
                t.releases.c.endpoint == endpoint,
                t.releases.c.state.in_(("waiting", "running")),
            )
            .limit(1)
        ).first()
        is not None
    )


def last_released(tx: Connection, project: str, environment: str, endpoint: str) -> int:
    """The highest version that a release of the endpoint has led to, whatever became of it; 0 where there was none."""
    found = tx.execute(
        select(func.max(t.releases.c.to_version)).where(
            t.releases.c.project == project, t.releases.c.environment == environment, t.releases.c.endpoint == endpoint
        )
    ).scalar()
    return found or 0


def has_event(tx: Connection, project: str, environment: str, type: str, subject: str) -> bool:
    """Whether an event of a type about a subject was recorded in an environment, sealed or not."""
    return (
        tx.execute(
            select(t.events.c.event_id)
            .where(
                t.events.c.project == project,
                t.events.c.subject == subject,
                t.events.c.type == type,
                t.events.c.environment == environment,
            )
            .limit(1)
        ).first()
        is not None
    )
