"""Statements on registered models as things of their own: their tags, and the search for models and versions.

A search is a list of clauses and an order; a page goes on after the order's values of the last row of the page before, so that a page
costs the same wherever it stands.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Double,
    Row,
    Table,
    Text,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from treadle.records.filters import Comparison, Order
from treadle.records.models import Comment, ModelVersion, RegisteredModel
from treadle.store import tables as t
from treadle.store.queries.registry import VERSION, version_from
from treadle.store.upsert import insert_new, insert_or_update

_r = t.models.c
_v = t.model_versions.c
_a = t.aliases.c
_c = t.comments.c


#: The attributes that are searched and ordered by, under MLflow's names and ours. Times compare as microseconds.
MODEL_ATTRIBUTES: dict[str, Column[Any]] = {
    "name": _r.model,
    "description": _r.description,
    "user": _r.actor,
    "created": _r.created,
    "updated": _r.updated,
    "creation_timestamp": _r.created,
    "last_updated_timestamp": _r.updated,
    "timestamp": _r.updated,
}
VERSION_ATTRIBUTES: dict[str, Column[Any]] = {
    "name": _v.model,
    "version_number": _v.number,
    "version": _v.number,
    "run_id": _v.run_id,
    "model_id": _v.model_id,
    "source_path": _v.source,
    "source": _v.source,
    "state": _v.state,
    "stage": _v.stage,
    "current_stage": _v.stage,
    "status": _v.status,
    "description": _v.description,
    "user": _v.actor,
    "downloads": _v.downloads,
    "created": _v.recorded_time,
    "updated": _v.updated,
    "creation_timestamp": _v.recorded_time,
    "last_updated_timestamp": _v.updated,
}


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def insert_model(tx: Connection, row: dict[str, Any]) -> bool:
    """A new model; False where its name is taken."""
    if not insert_new(tx, t.models, {**row, "card": {}}):
        return False
    put_model_tags(tx, row["project"], row["model"], row["tags"])
    return True


def update_model(tx: Connection, project: str, model: str, values: dict[str, Any]) -> None:
    """Set columns of a model, its tags with those they are searched by."""
    tx.execute(update(t.models).where(_r.project == project, _r.model == model).values(**values))
    if "tags" in values:
        put_model_tags(tx, project, model, values["tags"])


def put_model_tags(tx: Connection, project: str, model: str, tags: dict[str, str]) -> None:
    """The tags of a model where they are searched, in place of those there."""
    tx.execute(delete(t.model_tags).where(t.model_tags.c.project == project, t.model_tags.c.model == model))
    of = {"project": project, "model": model}
    insert_new(tx, t.model_tags, [{**of, "name": k, "value": value, "head": value[: t.INDEXED]} for k, value in tags.items()])


def find_model(connection: Connection, project: str, model: str) -> RegisteredModel | None:
    """One model."""
    row = connection.execute(select(t.models).where(_r.project == project, _r.model == model)).first()
    return None if row is None else _filled(connection, project, [row])[0]


def rename_model(tx: Connection, project: str, model: str, name: str, now: dt.datetime) -> None:
    """Give a model, its tags, versions and aliases another name, which nobody has; the numbers given under both stay given.

    Copies of its versions, which name what they are copies of, follow.
    """
    row = tx.execute(select(t.models).where(_r.project == project, _r.model == model)).mappings().one()
    insert_new(tx, t.models, {**row, "model": name, "updated": now})
    aliases = tx.execute(select(t.aliases).where(_a.project == project, _a.model == model)).mappings().all()
    tx.execute(delete(t.aliases).where(_a.project == project, _a.model == model))
    for table in (t.model_versions, t.model_tags, t.version_tags):
        tx.execute(update(table).where(table.c.project == project, table.c.model == model).values(model=name))
    insert_new(tx, t.aliases, [{**alias, "model": name} for alias in aliases])
    tx.execute(delete(t.models).where(_r.project == project, _r.model == model))
    for table in (t.approvals, t.comments):
        of = (table.c.project == project, table.c.subject.startswith(f"model/{model}/", autoescape=True))
        for subject in set(tx.execute(select(table.c.subject).where(*of)).scalars()):
            moved = f"model/{name}/{subject.rpartition('/')[2]}"
            tx.execute(update(table).where(table.c.project == project, table.c.subject == subject).values(subject=moved))
    copied = (_v.project == project, _v.source.startswith(f"models:/{model}/", autoescape=True))
    for source in set(tx.execute(select(_v.source).where(*copied)).scalars()):
        moved = f"models:/{name}/{source.rpartition('/')[2]}"
        tx.execute(update(t.model_versions).where(_v.project == project, _v.source == source).values(source=moved))
    n = t.model_numbers.c
    given = tx.execute(select(func.max(n.last)).where(n.project == project, n.model.in_([model, name]))).scalar()
    if given is not None:
        insert_or_update(tx, t.model_numbers, {"project": project, "model": name, "last": given})


def delete_version(tx: Connection, project: str, model: str, number: int | None = None) -> None:
    """Delete a version, or all of a model, with aliases and tags; the numbers stay given."""
    for table in (t.aliases, t.version_tags, t.model_versions):
        mine = [table.c.project == project, table.c.model == model]
        tx.execute(delete(table).where(*mine, *([] if number is None else [table.c.number == number])))


def delete_model(tx: Connection, project: str, model: str) -> None:
    """Delete a model with its versions."""
    delete_version(tx, project, model)
    for table in (t.model_tags, t.models):
        tx.execute(delete(table).where(table.c.project == project, table.c.model == model))


def set_stages(tx: Connection, project: str, model: str, *, of: str, to: str, but: int, now: dt.datetime) -> None:
    """Move the versions of a stage, all but one, to another."""
    mine = (_v.project == project, _v.model == model, _v.stage == of, _v.number != but)
    tx.execute(update(t.model_versions).where(*mine).values(stage=to, updated=now))


def count_download(tx: Connection, project: str, model: str, number: int) -> None:
    """One more download."""
    mine = (_v.project == project, _v.model == model, _v.number == number)
    tx.execute(update(t.model_versions).where(*mine).values(downloads=_v.downloads + 1))


def numbers_of(connection: Connection, project: str, model: str) -> list[int]:
    """The numbers of a model's versions."""
    return list(connection.execute(select(_v.number).where(_v.project == project, _v.model == model).order_by(_v.number)).scalars())


def versions_from_source(connection: Connection, project: str, source: str) -> list[tuple[str, int]]:
    """Versions whose source is this very text: copies of a version name it."""
    return [(m, n) for m, n in connection.execute(select(_v.model, _v.number).where(_v.project == project, _v.source == source))]


def versions_due(connection: Connection, now: dt.datetime) -> list[ModelVersion]:
    """Versions of all projects whose review is due."""
    return [version_from(row) for row in connection.execute(select(*VERSION).where(_v.review_due <= now))]


# ── search ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def search_models(
    connection: Connection,
    project: str,
    clauses: Sequence[Comparison],
    order: Sequence[Order],
    *,
    after: Sequence[Any] | None,
    limit: int,
    without_tag: str = "",
) -> tuple[list[RegisteredModel], list[Any] | None]:
    """A page of models, and where the next one begins."""
    where = [_r.project == project, *(_model_clause(connection, c) for c in clauses)]
    if without_tag:
        where.append(not_(_has_tag(t.model_tags, t.models, without_tag)))
    by = [(_number(MODEL_ATTRIBUTES[o.key]), o.ascending) for o in order]
    rows, more = _page(connection, select(t.models).where(*where), by, after, limit)
    return _filled(connection, project, rows), more


def search_versions(
    connection: Connection,
    project: str,
    clauses: Sequence[Comparison],
    order: Sequence[Order],
    *,
    after: Sequence[Any] | None,
    limit: int,
    without_tag: str = "",
) -> tuple[list[ModelVersion], list[Any] | None]:
    """A page of versions, and where the next one begins."""
    where = [_v.project == project, *(_version_clause(connection, c) for c in clauses)]
    if without_tag:
        where.append(not_(_has_tag(t.version_tags, t.model_versions, without_tag)))
    by: list[tuple[ColumnElement[Any], bool]] = []
    for o in order:
        if o.kind == "metric":
            value = _metric(connection, o.key)
            by += [(case((value.is_(None), 1), else_=0), True), (func.coalesce(value, 0.0), o.ascending)]
        else:
            by.append((_number(VERSION_ATTRIBUTES[o.key]), o.ascending))
    rows, more = _page(connection, select(*VERSION).where(*where), by, after, limit)
    return [version_from(row) for row in rows], more


def _page(
    connection: Connection, query: Any, by: list[tuple[ColumnElement[Any], bool]], after: Sequence[Any] | None, limit: int
) -> tuple[list[Row[Any]], list[Any] | None]:
    keys = [key.label(f"_key{i}") for i, (key, _) in enumerate(by)]
    if after is not None:
        steps = []
        for i, (key, ascending) in enumerate(by):
            same = [by[j][0] == after[j] for j in range(i)]
            steps.append(and_(*same, key > after[i] if ascending else key < after[i]))
        query = query.where(or_(*steps))
    query = query.add_columns(*keys).order_by(*(key.asc() if ascending else key.desc() for key, ascending in by)).limit(limit + 1)
    rows = list(connection.execute(query))
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], [getattr(rows[limit - 1], key.name) for key in keys]


def _model_clause(connection: Connection, clause: Comparison) -> ColumnElement[bool]:
    if clause.kind == "tag":
        return _tag(connection, t.model_tags, t.models, clause)
    return _compare(connection, MODEL_ATTRIBUTES[clause.key], clause)


def _version_clause(connection: Connection, clause: Comparison) -> ColumnElement[bool]:
    if clause.kind == "tag":
        return _tag(connection, t.version_tags, t.model_versions, clause)
    if clause.kind == "metric":
        return _compare(connection, _metric(connection, clause.key), clause)
    return _compare(connection, VERSION_ATTRIBUTES[clause.key], clause)


def _tag(connection: Connection, table: Table, of: Table, clause: Comparison) -> ColumnElement[bool]:
    if clause.op == "IS NULL":
        return not_(_has_tag(table, of, clause.key))
    if clause.op == "IS NOT NULL":
        return _has_tag(table, of, clause.key)
    return _has_tag(table, of, clause.key, _compare(connection, table.c.value, clause))


def _has_tag(table: Table, of: Table, name: str, *more: ColumnElement[bool]) -> ColumnElement[bool]:
    keys = [table.c[key.name] == of.c[key.name] for key in of.primary_key]
    return exists().where(*keys, table.c.name == name, *more).correlate(of)


def _compare(connection: Connection, column: ColumnElement[Any], clause: Comparison) -> ColumnElement[bool]:
    value, left = clause.value, _number(column)
    if clause.op == "LIKE":
        return left.op("GLOB")(_glob(value)) if connection.dialect.name == "sqlite" else left.like(value)
    if clause.op in ("IN", "NOT IN"):
        return left.in_(list(value)) if clause.op == "IN" else left.not_in(list(value))
    simple = {
        "=": left.__eq__,
        "!=": left.__ne__,
        ">": left.__gt__,
        ">=": left.__ge__,
        "<": left.__lt__,
        "<=": left.__le__,
        "ILIKE": left.ilike,
        "IS NULL": lambda _: or_(left.is_(None), left == ""),
        "IS NOT NULL": lambda _: and_(left.is_not(None), left != ""),
    }
    return simple[clause.op](value)


def _glob(pattern: str) -> str:
    """A LIKE pattern as SQLite's GLOB, which tells capital letters from small ones as PostgreSQL's LIKE does."""
    return "".join({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(c, c) for c in pattern)


def _number(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return type_coerce(column, BigInteger) if isinstance(column.type, t.Time) else column


def _metric(connection: Connection, name: str) -> ColumnElement[Any]:
    """A metric of a version out of its JSON; NULL where it has none, or NaN."""
    if connection.dialect.name == "sqlite":
        return func.json_extract(type_coerce(_v.metrics, Text), literal(f'$."{name}"'), type_=Double)
    return cast(cast(type_coerce(_v.metrics, Text), JSONB)[name].astext, Double)


def _filled(connection: Connection, project: str, rows: Sequence[Row[Any]]) -> list[RegisteredModel]:
    """Models with their aliases, counts, and the newest version of each stage: three statements, however many models."""
    names = [row.model for row in rows]
    if not names:
        return []
    aliases: dict[str, dict[str, int]] = {}
    query = select(_a.model, _a.alias, _a.number).where(_a.project == project, _a.model.in_(names)).order_by(_a.alias)
    for model, alias, number in connection.execute(query):
        aliases.setdefault(model, {})[alias] = number
    counts: dict[str, int] = {}
    newest: dict[str, dict[str, int]] = {}
    grouped = select(_v.model, _v.stage, func.count(), func.max(_v.number)).where(_v.project == project, _v.model.in_(names))
    for model, stage, count, number in connection.execute(grouped.group_by(_v.model, _v.stage)):
        counts[model] = counts.get(model, 0) + count
        newest.setdefault(model, {})[stage] = number
    wanted = or_(*(and_(_v.model == m, _v.number.in_(list(stages.values()))) for m, stages in newest.items())) if newest else None
    latest: dict[str, list[ModelVersion]] = {}
    if wanted is not None:
        for row in connection.execute(select(*VERSION).where(_v.project == project, wanted).order_by(_v.number)):
            latest.setdefault(row.model, []).append(version_from(row))
    return [
        RegisteredModel(
            project=project,
            model=row.model,
            description=row.description,
            actor=row.actor,
            tags=row.tags,
            card=row.card,
            created=row.created,
            updated=row.updated,
            versions=counts.get(row.model, 0),
            newest=max(newest.get(row.model, {}).values(), default=0),
            aliases=aliases.get(row.model, {}),
            latest=latest.get(row.model, []),
        )
        for row in rows
    ]


# ── who refers to a model ────────────────────────────────────────────────────────────────────────────────────────────


def releases_of(connection: Connection, project: str, model: str) -> Sequence[Any]:
    """Environment, id, state and versions of every release of a model, newest first."""
    r = t.releases.c
    query = select(r.environment, r.release_id, r.endpoint, r.state, r.from_version, r.to_version)
    return list(connection.execute(query.where(r.project == project, r.model == model).order_by(r.started.desc())))


# ── cards, comments ──────────────────────────────────────────────────────────────────────────────────────────────────


def version_card(connection: Connection, project: str, model: str, number: int) -> dict[str, str]:
    """The sections that people wrote of a version."""
    mine = (_v.project == project, _v.model == model, _v.number == number)
    return connection.execute(select(_v.card).where(*mine)).scalar() or {}


def approvals_of(connection: Connection, project: str, subject: str) -> list[Row[Any]]:
    """Every approval that was asked for a subject, oldest first."""
    q = t.approvals.c
    return list(connection.execute(select(t.approvals).where(q.project == project, q.subject == subject).order_by(q.asked_time)))


def approvals_past(connection: Connection, now: dt.datetime) -> list[Row[Any]]:
    """Approvals of all projects that wait and have expired."""
    q = t.approvals.c
    return list(connection.execute(select(t.approvals).where(q.state == "waiting", q.expires <= now)))


def insert_comment(tx: Connection, row: dict[str, Any]) -> bool:
    """A new comment; False where its id is there."""
    return insert_new(tx, t.comments, row) == 1


def find_comment(connection: Connection, project: str, comment_id: str) -> Comment | None:
    """One comment."""
    row = connection.execute(select(t.comments).where(_c.project == project, _c.comment_id == comment_id)).first()
    return None if row is None else _comment(row)


def list_comments(connection: Connection, project: str, subject: str, *, limit: int) -> list[Comment]:
    """Comments on a subject, oldest first."""
    query = select(t.comments).where(_c.project == project, _c.subject == subject).order_by(_c.event_time, _c.comment_id).limit(limit)
    return [_comment(row) for row in connection.execute(query)]


def _comment(row: Row[Any]) -> Comment:
    names = ("project", "comment_id", "subject", "actor", "text", "event_time")
    return Comment(**{name: getattr(row, name) for name in names})


# ── what a version was made from, for comparisons and cards ──────────────────────────────────────────────────────────


def has_run(connection: Connection, project: str, run_id: str) -> bool:
    """Whether there is such a run."""
    r = t.runs.c
    return connection.execute(select(r.run_id).where(r.project == project, r.run_id == run_id)).first() is not None


def run_facts(connection: Connection, project: str, run_id: str) -> dict[str, Any] | None:
    """A run's row, parameters, tags, latest metrics and inputs; None where there is no such run."""
    r = t.runs.c
    row = connection.execute(select(t.runs).where(r.project == project, r.run_id == run_id)).mappings().first()
    if row is None:
        return None
    found: dict[str, Any] = {"run": dict(row)}
    for key, table in (("params", t.params), ("tags", t.tags), ("metrics", t.latest_metrics)):
        query = select(table.c.name, table.c.value).where(table.c.project == project, table.c.run_id == run_id)
        found[key] = {name: float("nan") if value is None else value for name, value in connection.execute(query.order_by(table.c.name))}
    i = t.run_inputs.c
    inputs = select(i.name, i.digest, i.context).where(i.project == project, i.run_id == run_id)
    found["inputs"] = [tuple(row) for row in connection.execute(inputs.order_by(i.name, i.digest))]
    return found


def logged_model_facts(connection: Connection, project: str, model_id: str) -> dict[str, Any] | None:
    """A logged model's row, parameters and metrics; None where there is none."""
    m, p, x = t.logged_models.c, t.logged_model_params.c, t.logged_model_metrics.c
    row = connection.execute(select(t.logged_models).where(m.project == project, m.model_id == model_id)).mappings().first()
    if row is None:
        return None
    params = connection.execute(select(p.name, p.value).where(p.project == project, p.model_id == model_id).order_by(p.name))
    metrics = connection.execute(select(x.name, x.value).where(x.project == project, x.model_id == model_id).order_by(x.step, x.time))
    return {
        "model": dict(row),
        "params": {name: value for name, value in params},
        "metrics": {name: float("nan") if value is None else value for name, value in metrics},
    }


def dataset_facts(connection: Connection, project: str, digests: Sequence[str]) -> list[dict[str, Any]]:
    """Dataset versions by digest: name, number, rows, profile, description, tags, times."""
    d = t.dataset_versions.c
    query = select(t.dataset_versions).where(d.project == project, d.digest.in_(list(digests))).order_by(d.dataset, d.number)
    return [dict(row) for row in connection.execute(query).mappings()]


def files_of(connection: Connection, project: str, owner: str, prefix: str = "") -> Sequence[Any]:
    """Path, digest and size of the files of a run or logged model that stand at or under a path."""
    f = t.artifacts.c
    mine = [f.project == project, f.run_id == owner]
    if prefix:
        mine.append(or_(f.path == prefix, f.path.startswith(f"{prefix}/", autoescape=True)))
    return list(connection.execute(select(f.path, f.digest, f.size).where(*mine).order_by(f.path)))


def has_file(connection: Connection, project: str, owner: str, path: str) -> bool:
    """Whether a file stands at a path."""
    f = t.artifacts.c
    there = select(f.path).where(f.project == project, f.run_id == owner, f.path == path)
    return connection.execute(there).first() is not None


def insert_files(tx: Connection, project: str, owner: str, files: Sequence[tuple[str, str, int]], now: dt.datetime) -> None:
    """Let blobs stand at paths where nothing stands yet."""
    of = {"project": project, "run_id": owner, "media_type": "application/octet-stream", "recorded_time": now}
    insert_new(tx, t.artifacts, [{**of, "path": path, "digest": digest, "size": size} for path, digest, size in files])


def has_event(connection: Connection, project: str, event_id: str) -> bool:
    """Whether there is an event of that id."""
    e = t.events.c
    return connection.execute(select(e.event_id).where(e.project == project, e.event_id == event_id)).first() is not None
