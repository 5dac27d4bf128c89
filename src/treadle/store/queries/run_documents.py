"""What was logged to a run that has ended, as one text.

A page of runs with ten metrics, ten parameters and five tags each is 2,500 rows, and a database needs more for finding and telling a row
than for what is in it. Runs that have ended hardly change, so theirs are kept a second time: the document is written in the transaction
that ends the run, and goes in each that changes what it says. Where there is none, the rows are read: a document is never needed, only
quicker. Runs of pipelines, which the engine moves and measures, and runs with a great many things have none.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from treadle.records.states import ENDED
from treadle.records.tracking import Point, RunInput, RunModel, TrackedRun
from treadle.store.driver import put_off

#: Metrics, parameters, tags, inputs and models that a document holds at most: it is written whole when one of them changes.
MOST = 1000
#: So many runs are few.
FEW = 10


class Logged(Struct, frozen=True):
    """What a document holds: what `TrackedRun` has under the same names."""

    metrics: list[Point] = []
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: list[RunInput] = []
    models: list[RunModel] = []


_OWN = "o.project = t.project AND o.run_id = t.run_id"
_KEPT = f"(SELECT o.document FROM run_documents o WHERE {_OWN})"
#: What a document would hold, made by PostgreSQL (SQLite's JSON has 15 digits of a number).
_MADE = f"""json_build_object(
    'metrics', COALESCE((
        SELECT json_agg(json_build_object(
            'key', o.name, 'value', COALESCE(to_json(o.value), '"NaN"'), 'step', o.step, 'time', o.time
        ) ORDER BY o.name) FROM latest_metrics o WHERE {_OWN}), '[]'),
    'params', COALESCE((SELECT json_object_agg(o.name, o.value ORDER BY o.name) FROM params o WHERE {_OWN}), '{{}}'),
    'tags', COALESCE((SELECT json_object_agg(o.name, o.value ORDER BY o.name) FROM tags o WHERE {_OWN}), '{{}}'),
    'inputs', COALESCE((
        SELECT json_agg(json_build_object(
            'name', o.name, 'digest', o.digest, 'source_type', COALESCE(d.source_type, ''), 'source', COALESCE(d.source, ''),
            'schema', d.schema, 'profile', d.profile, 'context', o.context, 'tags', o.tags::json
        ) ORDER BY o.created, o.name, o.digest) FROM run_inputs o LEFT JOIN tracked_datasets d
        ON d.project = o.project AND d.experiment = o.experiment AND d.name = o.name AND d.digest = o.digest WHERE {_OWN}), '[]'),
    'models', COALESCE((
        SELECT json_agg(json_build_object('model_id', o.model_id, 'role', o.role, 'step', o.step)
        ORDER BY o.recorded_time, o.step, o.model_id) FROM run_models o WHERE {_OWN}), '[]')
)::text"""


class Column(NamedTuple):
    """A run's document, in a statement on runs that are called `t`; not `whole`: NULL where there is none."""

    text: str
    whole: bool


_KNOWN, _WHOLE = Column(_KEPT, whole=False), Column(f"COALESCE({_KEPT}, {_MADE})", whole=True)


def column(dialect: str, runs: int) -> Column:
    """What reads the documents of so many runs. PostgreSQL makes the missing ones of a few itself: of many its JSON costs twice what the
    rows do, of a few those cost five statements."""
    return _WHOLE if dialect == "postgresql" and runs <= FEW else _KNOWN


read = msgspec.json.Decoder(Logged).decode


def text(logged: Logged) -> str:
    """The document of what was logged to a run."""
    metrics = [{"key": p.key, "value": p.value, "step": p.step, "time": p.time} for p in logged.metrics]
    told = {"params": logged.params, "tags": logged.tags, "inputs": logged.inputs, "models": logged.models}
    return msgspec.json.encode({"metrics": metrics} | {name: part for name, part in told.items() if part}).decode()


def keep(tx: Connection, known: TrackedRun) -> None:
    """Write the document of a run as it is now, or take it away where a run like this has none."""
    told = (known.metrics, known.params, known.tags, known.inputs, known.models)
    if known.state not in ENDED or known.pipeline or sum(map(len, told)) > MOST:
        forget(tx, known.project, [known.run_id])
        return
    statement = (
        "INSERT INTO run_documents (project, run_id, document) VALUES (?, ?, ?) "
        "ON CONFLICT (project, run_id) DO UPDATE SET document = excluded.document"
    )
    put_off(tx, statement, known.project, known.run_id, text(Logged(*told)))


_COUNTS = " + ".join(
    f"(SELECT COUNT(*) FROM (SELECT 1 FROM {table} o WHERE {_OWN} LIMIT {MOST + 1}) counted)"
    for table in ("latest_metrics", "params", "tags", "run_inputs", "run_models")
)
_KEEP = (
    f"INSERT INTO run_documents (project, run_id, document) SELECT t.project, t.run_id, {_MADE} FROM runs t "
    f"WHERE t.project = ? AND t.run_id = ? AND {_COUNTS} <= {MOST} "
    "ON CONFLICT (project, run_id) DO UPDATE SET document = excluded.document"
)


def keep_made(tx: Connection, project: str, run_id: str) -> None:
    """Write the document of a run that has ended and has none, or none that is true, by PostgreSQL: nothing of the run travels."""
    put_off(tx, _KEEP, project, run_id)


def forget(tx: Connection, project: str, run_ids: Sequence[str]) -> None:
    """Take the documents of runs away: something else of them was changed."""
    for run_id in run_ids:
        put_off(tx, "DELETE FROM run_documents WHERE project = ? AND run_id = ?", project, run_id)
