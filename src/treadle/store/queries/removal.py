"""Statements that remove runs, logged models and experiments for good, and find what may go.

Everything is done in pieces that a transaction is short with: a run's points and log lines by the thousand, the rest of it, its row
among them, at once.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, func, literal, null, or_, select, tuple_, update

from treadle.store import tables as t
from treadle.store.queries import run_documents
from treadle.store.upsert import insert_or_update

#: Rows of one statement's IN list.
_CHUNK = 400
#: What has a run's id in `run_id` and is little.
_OF_RUN = (
    *(t.params, t.tags, t.latest_metrics, t.run_inputs, t.run_models, t.run_documents),
    *(t.artifacts, t.uploads, t.steps, t.step_cache, t.firings),
)
_OF_MODEL = (t.logged_model_params, t.logged_model_tags, t.logged_model_metrics, t.run_models)
#: Kinds of lineage nodes that go with the last thing that was made of them. Projects and definitions are applied, and stay.
_PRUNED = ("bundle", "model", "logged_model", "dataset", "environment", "code", "run")
#: A tag of MLflow's clients that names another run.
_PARENT_TAG = "mlflow.parentRunId"


class RunFacts(NamedTuple):
    """What decides whether a run may go."""

    run_id: str
    state: str
    lifecycle: str
    experiment: str
    at_work: bool  # a worker has it, or will


# ── what there is ────────────────────────────────────────────────────────────────────────────────────────────────────


def run_facts(connection: Connection, project: str, run_ids: Sequence[str]) -> list[RunFacts]:
    """Of runs that are there."""
    r, j = t.runs.c, t.jobs.c
    working = exists().where(j.project == r.project, j.job_id == r.run_id, j.kind == "run", j.state.in_(("ready", "leased")))
    found: list[RunFacts] = []
    for some in _chunks(run_ids):
        query = select(r.run_id, r.state, r.lifecycle, r.experiment, working).where(r.project == project, r.run_id.in_(some))
        found += [RunFacts(*row) for row in connection.execute(query)]
    return found


def runs_of(connection: Connection, project: str, experiment: str) -> list[str]:
    """Ids of an experiment's runs, those in the bin too."""
    r = t.runs.c
    return list(connection.execute(select(r.run_id).where(r.project == project, r.experiment == experiment)).scalars())


def models_of(connection: Connection, project: str, *, runs: Sequence[str] = (), experiment: str | None = None) -> list[str]:
    """Ids of the logged models that runs made, or that are in an experiment; those in the bin too."""
    m = t.logged_models.c
    found: list[str] = []
    for some in _chunks(runs):
        found += connection.execute(select(m.model_id).where(m.project == project, m.run_id.in_(some))).scalars()
    if experiment is not None:
        found += connection.execute(select(m.model_id).where(m.project == project, m.experiment == experiment)).scalars()
    return found


def known_models(connection: Connection, project: str, model_ids: Sequence[str]) -> set[str]:
    """Those that are there."""
    m = t.logged_models.c
    found: set[str] = set()
    for some in _chunks(model_ids):
        found.update(connection.execute(select(m.model_id).where(m.project == project, m.model_id.in_(some))).scalars())
    return found


def registered(connection: Connection, project: str) -> list[tuple[str, int, str, str, str]]:
    """(model, number, run id, logged model's id, source) of every registered version."""
    v = t.model_versions.c
    query = select(v.model, v.number, v.run_id, v.model_id, v.source).where(v.project == project)
    return [(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)]


def weigh(connection: Connection, project: str, runs: Sequence[str], models: Sequence[str]) -> tuple[int, int, int]:
    """(files, their bytes, metric points) of runs and logged models."""
    a, m = t.artifacts.c, t.metrics.c
    files = size = points = 0
    for some in _chunks([*runs, *models]):
        row = connection.execute(
            select(func.count(), func.coalesce(func.sum(a.size), 0)).where(a.project == project, a.run_id.in_(some))
        ).one()
        files, size = files + row[0], size + int(row[1])
    for some in _chunks(runs):
        points += connection.execute(
            select(func.count()).select_from(t.metrics).where(m.project == project, m.run_id.in_(some))
        ).scalar_one()
    return files, size, points


def binned(connection: Connection, project: str, before: dt.datetime, *, states: Sequence[str] = (), experiment: str = "*") -> list[str]:
    """Runs that were put into the bin before a time; of some states or all, of one experiment or all."""
    r = t.runs.c
    where = [r.project == project, r.deleted.is_not(None), r.deleted < before, r.lifecycle == "deleted"]
    where += [r.state.in_(list(states))] if states else []
    where += [r.experiment == experiment] if experiment != "*" else []
    return list(connection.execute(select(r.run_id).where(*where).order_by(r.deleted)).scalars())


def binned_experiments(connection: Connection, project: str, before: dt.datetime) -> list[str]:
    """Experiments that were put into the bin before a time."""
    e = t.experiments.c
    where = (e.project == project, e.lifecycle == "deleted", e.deleted < before)
    return list(connection.execute(select(e.experiment_id).where(*where)).scalars())


def binned_models(connection: Connection, project: str, before: dt.datetime) -> list[str]:
    """Logged models that were put into the bin before a time."""
    m = t.logged_models.c
    where = (m.project == project, m.lifecycle == "deleted", m.deleted < before)
    return list(connection.execute(select(m.model_id).where(*where)).scalars())


def ended_before(
    connection: Connection, project: str, before: dt.datetime, *, states: Sequence[str], experiment: str, keep_tagged: str, with_files: bool
) -> list[str]:
    """Runs in use that ended before a time, by experiment; but those with a tag, and with `with_files` only those that have files."""
    r, g, a, e = t.runs.c, t.tags.c, t.artifacts.c, t.experiments.c
    experiments = [experiment]
    if experiment == "*":
        experiments = list(connection.execute(select(e.experiment_id).where(e.project == project)).scalars())
    found: list[str] = []
    for one in experiments:
        where: list[ColumnElement[bool]] = [
            r.project == project,
            r.experiment == one,
            r.lifecycle == "active",
            r.ended < before,
            r.state.in_(list(states)),
        ]
        if keep_tagged:
            where.append(~exists().where(g.project == r.project, g.run_id == r.run_id, g.name == keep_tagged))
        if with_files:
            where.append(exists().where(a.project == r.project, a.run_id == r.run_id))
        found += connection.execute(select(r.run_id).where(*where).order_by(r.ended)).scalars()
    return found


def tagged(connection: Connection, project: str, run_ids: Sequence[str], name: str) -> set[str]:
    """Those of the runs that have a tag."""
    g = t.tags.c
    found: set[str] = set()
    for some in _chunks(run_ids):
        found.update(connection.execute(select(g.run_id).where(g.project == project, g.run_id.in_(some), g.name == name)).scalars())
    return found


# ── taking it away ───────────────────────────────────────────────────────────────────────────────────────────────────


def put_into_bin(tx: Connection, project: str, run_ids: Sequence[str], at: dt.datetime) -> None:
    """So that nothing is written to runs while they go."""
    r = t.runs.c
    where = (r.project == project, r.run_id.in_(list(run_ids)), r.lifecycle == "active")
    tx.execute(update(t.runs).where(*where).values(lifecycle="deleted", deleted=at))


def drop_points(tx: Connection, project: str, run_id: str, most: int) -> int:
    """Remove metric points of a run, at most about so many; returns how many. 0: there are none left."""
    return _drop_some(tx, t.metrics, project, run_id, most)


def drop_lines(tx: Connection, project: str, run_id: str, most: int) -> int:
    """Remove log lines of a run, in the same way."""
    return _drop_some(tx, t.log_lines, project, run_id, most)


def drop_files(tx: Connection, project: str, owner: str, most: int) -> int:
    """Forget files of a run or logged model, in the same way."""
    return _drop_some(tx, t.artifacts, project, owner, most)


def drop_runs(tx: Connection, project: str, run_ids: Sequence[str]) -> int:
    """Remove runs and all that is theirs; returns how many there were."""
    r, j, i, d, e, m = t.runs.c, t.jobs.c, t.run_inputs.c, t.tracked_datasets.c, t.edges.c, t.logged_models.c
    ids = list(run_ids)
    read = select(i.experiment, i.name, i.digest).where(i.project == project, i.run_id.in_(ids)).distinct()
    inputs = [tuple(row) for row in tx.execute(read)]
    for table in (*_OF_RUN, t.metrics, t.log_lines, t.logged_model_metrics):
        tx.execute(delete(table).where(table.c.project == project, table.c.run_id.in_(ids)))
    for experiment, name, digest in inputs:
        data = (d.project == project, d.experiment == experiment, d.name == name, d.digest == digest)
        same = (i.project == project, i.experiment == experiment, i.digest == digest, i.name == name)
        tx.execute(delete(t.tracked_datasets).where(*data, ~exists().where(*same)))
    children = list(tx.execute(select(r.run_id).where(r.project == project, r.parent_run.in_(ids))).scalars())
    if children:
        g = t.tags.c
        tx.execute(update(t.runs).where(r.project == project, r.run_id.in_(children)).values(parent_run=None))
        tx.execute(delete(t.tags).where(g.project == project, g.run_id.in_(children), g.name == _PARENT_TAG, g.value.in_(ids)))
        run_documents.forget(tx, project, children)
    tx.execute(update(t.logged_models).where(m.project == project, m.run_id.in_(ids)).values(run_id=""))
    tx.execute(delete(t.jobs).where(j.project == project, j.job_id.in_(ids), j.kind == "run"))
    tx.execute(update(t.edges).where(e.project == project, e.run_id.in_(ids)).values(run_id=null()))
    _drop_comments(tx, project, [f"run/{run_id}" for run_id in ids])
    prune(tx, project, ids)
    return tx.execute(delete(t.runs).where(r.project == project, r.run_id.in_(ids))).rowcount


def drop_models(tx: Connection, project: str, model_ids: Sequence[str]) -> int:
    """Remove logged models and all that is theirs; returns how many there were."""
    m, a, u, of = t.logged_models.c, t.artifacts.c, t.uploads.c, t.run_models.c
    ids = list(model_ids)
    users = tx.execute(select(of.run_id).where(of.project == project, of.model_id.in_(ids)).distinct()).scalars()
    run_documents.forget(tx, project, list(users))
    for table in _OF_MODEL:
        tx.execute(delete(table).where(table.c.project == project, table.c.model_id.in_(ids)))
    tx.execute(delete(t.artifacts).where(a.project == project, a.run_id.in_(ids)))
    tx.execute(delete(t.uploads).where(u.project == project, u.run_id.in_(ids)))
    _drop_comments(tx, project, [f"logged-model/{model_id}" for model_id in ids])
    gone = tx.execute(delete(t.logged_models).where(m.project == project, m.model_id.in_(ids))).rowcount
    prune(tx, project, ids)
    return gone


def drop_experiment(tx: Connection, project: str, experiment_id: str) -> int:
    """Remove an experiment that has no runs and no logged models; 0 where it has, or is not there."""
    e, r, m, g, d = t.experiments.c, t.runs.c, t.logged_models.c, t.experiment_tags.c, t.tracked_datasets.c
    runs = exists().where(r.project == project, r.experiment == experiment_id)
    models = exists().where(m.project == project, m.experiment == experiment_id)
    where = (e.project == project, e.experiment_id == experiment_id, ~runs, ~models)
    gone = tx.execute(delete(t.experiments).where(*where)).rowcount
    if gone:
        tx.execute(delete(t.experiment_tags).where(g.project == project, g.experiment_id == experiment_id))
        tx.execute(delete(t.tracked_datasets).where(d.project == project, d.experiment == experiment_id))
        _drop_comments(tx, project, [f"experiment/{experiment_id}"])
    return gone


def prune(tx: Connection, project: str, gone: Iterable[str]) -> int:
    """Take things that are gone out of the lineage graph, and what they alone were made of; returns how many nodes went.

    Something else stays while anything was made of it, or while it is something by itself: a dataset's version, a registered bundle.
    """
    e, v = t.edges.c, t.versions.c
    going, removed = list(gone), 0
    while going:
        some, going = going[:_CHUNK], going[_CHUNK:]
        mine = (e.project == project, or_(e.child.in_(some), e.parent.in_(some)))
        others = {end for row in tx.execute(select(e.child, e.parent).where(*mine)) for end in row}.difference(some, going)
        tx.execute(delete(t.edges).where(*mine))
        removed += tx.execute(delete(t.versions).where(v.project == project, v.digest.in_(some), v.kind.in_(_PRUNED))).rowcount
        for part in _chunks(sorted(others)):
            going += _loose(tx, project, part)
    return removed


def _loose(tx: Connection, project: str, digests: Sequence[str]) -> list[str]:
    """Those nodes that nothing was made of and that are nothing by themselves."""
    e, v, m = t.edges.c, t.versions.c, t.model_versions.c
    made = exists().where(e.project == v.project, e.parent == v.digest)
    version = exists().where(v.kind == "model", m.project == v.project, m.model == v.name, m.number == v.number)
    alive = [made, version]
    for table, name in (
        (t.dataset_versions, "digest"),
        (t.model_versions, "bundle_digest"),
        (t.logged_models, "model_id"),
        (t.runs, "run_id"),
    ):
        alive.append(exists().where(table.c.project == v.project, table.c[name] == v.digest))
    where = (v.project == project, v.digest.in_(list(digests)), v.kind.in_(_PRUNED))
    return list(tx.execute(select(v.digest).where(*where, ~or_(*alive))).scalars())


def event_ids(connection: Connection, project: str, subjects: Sequence[str]) -> list[str]:
    """Events about subjects whose payload is still there; subjects in tens of thousands."""
    e = t.events.c
    found: list[str] = []
    for some in _chunks(subjects):
        where = (e.project == project, e.subject.in_(some), e.payload.is_not(None))
        found += connection.execute(select(e.event_id).where(*where)).scalars()
    return found


# ── retention rules ──────────────────────────────────────────────────────────────────────────────────────────────────


def rules(connection: Connection, project: str) -> list[tuple[str, dict[str, Any]]]:
    """(id, rule) of a project's rules, by id."""
    c = t.retention_rules.c
    rows = connection.execute(select(c.rule_id, c.rule).where(c.project == project).order_by(c.rule_id))
    return [(row[0], row[1]) for row in rows]


def put_rule(tx: Connection, row: dict[str, Any]) -> None:
    """Declare a rule, in the place of the one with its id."""
    insert_or_update(tx, t.retention_rules, row)


def drop_rule(tx: Connection, project: str, rule_id: str) -> bool:
    """Take a rule back; False where there was none."""
    c = t.retention_rules.c
    return tx.execute(delete(t.retention_rules).where(c.project == project, c.rule_id == rule_id)).rowcount == 1


def ruled(connection: Connection) -> list[str]:
    """Projects that have rules."""
    return list(connection.execute(select(t.retention_rules.c.project).distinct()).scalars())


def _drop_some(tx: Connection, table: Table, project: str, run_id: str, most: int) -> int:
    mine = and_(table.c.project == project, table.c.run_id == run_id)
    key = [c for c in table.primary_key if c.name not in ("project", "run_id")]
    end = tx.execute(select(*key).where(mine).order_by(*key).limit(1).offset(most)).first()
    if end is not None:
        mine = and_(mine, tuple_(*key) < tuple_(*(literal(value, c.type) for value, c in zip(end, key, strict=True))))
    return tx.execute(delete(table).where(mine)).rowcount


def _drop_comments(tx: Connection, project: str, subjects: list[str]) -> None:
    c = t.comments.c
    tx.execute(delete(t.comments).where(c.project == project, c.subject.in_(subjects)))


def _chunks(values: Sequence[str]) -> Iterable[list[str]]:
    values = list(values)
    return (values[n : n + _CHUNK] for n in range(0, len(values), _CHUNK))
