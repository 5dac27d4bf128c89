"""Statements of the registry: model versions, aliases, approvals."""

import datetime as dt
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, and_, delete, func, select, update

from treadle.records.definitions import Project
from treadle.records.models import Approval, GateResult, ModelVersion
from treadle.records.states import ApprovalState, VersionState
from treadle.store import tables as t
from treadle.store.upsert import insert_new, insert_or_update

_m = t.model_versions.c
_a = t.aliases.c
_q = t.approvals.c

_n = t.model_numbers.c
#: Names of the aliases of a version in one text, so that a version and its aliases are one statement.
_names = (
    select(func.aggregate_strings(_a.alias, "\n"))
    .where(_a.project == _m.project, _a.model == _m.model, _a.number == _m.number)
    .correlate(t.model_versions)
    .scalar_subquery()
    .label("names")
)
_before = t.model_versions.alias("before")
_previous = (
    select(func.max(_before.c.number))
    .where(_before.c.project == _m.project, _before.c.model == _m.model, _before.c.number < _m.number)
    .correlate(t.model_versions)
    .scalar_subquery()
    .label("previous")
)
#: What a version is read from; `version_from` makes it of a row.
VERSION = (t.model_versions, _names, _previous)


def insert_version(tx: Connection, row: dict[str, Any]) -> None:
    """A new version, its tags and its number. `insert_new`, because PostgreSQL then meets a number that was taken meanwhile by running
    the write again."""
    now = row.get("updated") or row["recorded_time"]
    of = {k: row[k] for k in ("project", "model", "actor")}
    insert_new(tx, t.models, {**of, "tags": {}, "card": {}, "created": now, "updated": now})
    insert_new(tx, t.model_versions, {**row, "card": {}, "updated": now})
    put_version_tags(tx, row["project"], row["model"], row["number"], row["tags"])
    insert_or_update(tx, t.model_numbers, {"project": row["project"], "model": row["model"], "last": row["number"]})
    touch_model(tx, row["project"], row["model"], now)


def put_version_tags(tx: Connection, project: str, model: str, number: int, tags: dict[str, str]) -> None:
    """The tags of a version where they are searched, in place of those there."""
    v = t.version_tags.c
    tx.execute(delete(t.version_tags).where(v.project == project, v.model == model, v.number == number))
    of = {"project": project, "model": model, "number": number}
    insert_new(tx, t.version_tags, [{**of, "name": k, "value": value, "head": value[: t.INDEXED]} for k, value in tags.items()])


def touch_model(tx: Connection, project: str, model: str, now: dt.datetime) -> None:
    """A model was changed now."""
    tx.execute(update(t.models).where(t.models.c.project == project, t.models.c.model == model).values(updated=now))


def update_version(tx: Connection, project: str, model: str, number: int, values: dict[str, Any]) -> None:
    """Set columns of a version."""
    tx.execute(update(t.model_versions).where(_m.project == project, _m.model == model, _m.number == number).values(**values))


def last_number(tx: Connection, project: str, model: str) -> int:
    """The highest number that a model ever had, 0 where it never had a version."""
    given = select(_n.last).where(_n.project == project, _n.model == model).scalar_subquery()
    query = select(func.coalesce(func.max(_m.number), 0), func.coalesce(given, 0)).where(_m.project == project, _m.model == model)
    return max(tx.execute(query).one())


def find_version(tx: Connection, project: str, model: str, number: int) -> ModelVersion | None:
    """A version; number 0 is the newest."""
    query = _versions(project, model)
    query = query.where(_m.number == number) if number else query.order_by(_m.number.desc()).limit(1)
    return _maybe(tx.execute(query).first())


def find_registered(tx: Connection, project: str, model: str, bundle_digest: str, run_id: str) -> ModelVersion | None:
    """The version that this bundle of this run was registered as."""
    return _maybe(tx.execute(_versions(project, model).where(_m.bundle_digest == bundle_digest, _m.run_id == run_id)).first())


def find_alias(tx: Connection, project: str, model: str, alias: str) -> ModelVersion | None:
    """The version an alias names."""
    on = and_(_a.project == _m.project, _a.model == _m.model, _a.number == _m.number)
    query = _versions(project, model).join(t.aliases, on).where(_a.alias == alias)
    return _maybe(tx.execute(query).first())


def list_versions(tx: Connection, project: str, model: str, *, before: int | None, limit: int) -> list[ModelVersion]:
    """Versions of a model, newest first, those with a number below `before`."""
    query = _versions(project, model).order_by(_m.number.desc()).limit(limit)
    if before is not None:
        query = query.where(_m.number < before)
    return [version_from(row) for row in tx.execute(query)]


def set_state(tx: Connection, project: str, model: str, number: int, state: VersionState) -> None:
    """Put a version into a state."""
    update_version(tx, project, model, number, {"state": str(state)})


def put_alias(tx: Connection, project: str, model: str, alias: str, number: int | None, now: dt.datetime) -> None:
    """Point an alias at a version, or remove it with None."""
    mine = and_(_a.project == project, _a.model == model, _a.alias == alias)
    if number is None:
        tx.execute(delete(t.aliases).where(mine))
    elif not tx.execute(update(t.aliases).where(mine).values(number=number, recorded_time=now)).rowcount:
        row = {"project": project, "model": model, "alias": alias, "number": number, "recorded_time": now}
        insert_new(tx, t.aliases, row)


def newest_alias(tx: Connection, project: str, model: str, alias: str) -> ModelVersion | None:
    """The version that `alias.ENVIRONMENT` names in the environment where that alias was moved last."""
    on = and_(_a.project == _m.project, _a.model == _m.model, _a.number == _m.number)
    query = _versions(project, model).join(t.aliases, on).where(_a.alias.startswith(f"{alias}.", autoescape=True))
    return _maybe(tx.execute(query.order_by(_a.recorded_time.desc()).limit(1)).first())


def insert_approval(tx: Connection, row: dict[str, Any]) -> None:
    """A new question."""
    insert_new(tx, t.approvals, row)


def find_approval(tx: Connection, project: str, approval_id: str) -> Approval | None:
    """One approval."""
    row = tx.execute(select(t.approvals).where(_q.project == project, _q.approval_id == approval_id)).first()
    return None if row is None else _approval(row)


def list_approvals(tx: Connection, project: str, *, state: str | None, limit: int) -> list[Approval]:
    """Approvals, newest first, of one state or all."""
    query = select(t.approvals).where(_q.project == project).order_by(_q.asked_time.desc(), _q.approval_id.desc()).limit(limit)
    if state is not None:
        query = query.where(_q.state == state)
    return [_approval(row) for row in tx.execute(query)]


def decide_approval(tx: Connection, project: str, approval_id: str, values: dict[str, Any]) -> None:
    """Write the answer."""
    tx.execute(update(t.approvals).where(_q.project == project, _q.approval_id == approval_id).values(**values))


def approval_of(tx: Connection, project: str, environment: str, subject: str, state: ApprovalState) -> Approval | None:
    """The newest approval of a subject in an environment that is in a state."""
    query = select(t.approvals).where(_q.project == project, _q.environment == environment, _q.subject == subject, _q.state == str(state))
    row = tx.execute(query.order_by(_q.asked_time.desc()).limit(1)).first()
    return None if row is None else _approval(row)


def applied_project(tx: Connection, project: str, environment: str) -> Project | None:
    """The definitions applied in an environment."""
    query = select(t.applied.c.definitions).where(t.applied.c.project == project, t.applied.c.environment == environment)
    found = tx.execute(query).scalar()
    return None if found is None else msgspec.convert(found, Project)


def applied_environments(tx: Connection, project: str) -> dict[str, Project]:
    """environment → the definitions applied there."""
    query = select(t.applied.c.environment, t.applied.c.definitions).where(t.applied.c.project == project)
    return {row[0]: msgspec.convert(row[1], Project) for row in tx.execute(query)}


def datasets_of_run(tx: Connection, project: str, run_id: str) -> list[str]:
    """Digests of the dataset versions that a run has read, by its edges; those it only compared with are left out."""
    e, v = t.edges.c, t.versions.c
    on = and_(v.project == e.project, v.digest == e.parent)
    mine = and_(e.project == project, e.child == run_id, e.role != "reference", v.kind == "dataset")
    query = select(e.parent).join_from(t.edges, t.versions, on).where(mine)
    return sorted(tx.execute(query.distinct()).scalars())


def _versions(project: str, model: str) -> Select[Any]:
    return select(*VERSION).where(_m.project == project, _m.model == model)


def _maybe(row: Row[Any] | None) -> ModelVersion | None:
    return None if row is None else version_from(row)


def version_from(row: Row[Any]) -> ModelVersion:
    """A row of `VERSION`."""
    return ModelVersion(
        project=row.project,
        model=row.model,
        number=row.number,
        state=VersionState(row.state),
        bundle_digest=row.bundle_digest or "",
        run_id=row.run_id,
        metrics={name: float("nan") if value is None else value for name, value in row.metrics.items()},
        gates=tuple(msgspec.convert(row.gates, list[GateResult])),
        aliases=tuple(sorted(row.names.split("\n"))) if row.names else (),
        actor=row.actor,
        event_time=row.event_time,
        recorded_time=row.recorded_time,
        description=row.description,
        tags=row.tags,
        stage=row.stage,
        source=row.source,
        model_id=row.model_id,
        run_link=row.run_link,
        status=row.status,
        status_message=row.status_message,
        pinned=row.pinned,
        downloads=row.downloads,
        review_due=row.review_due,
        updated=row.updated,
        previous=row.previous,
    )


def _approval(row: Row[Any]) -> Approval:
    return Approval(
        project=row.project,
        environment=row.environment,
        approval_id=row.approval_id,
        subject=row.subject,
        question=row.question,
        state=ApprovalState(row.state),
        asked_by=row.asked_by,
        asked_time=row.asked_time,
        decided_by=row.decided_by,
        decided_time=row.decided_time,
        comment=row.comment,
        expires=row.expires,
    )
