"""What was logged to a run that has ended, as one text.

A page of runs with ten metrics, ten parameters and five tags each is 2,500 rows, and a database needs more for finding and telling a row
than for what is in it. Runs that have ended hardly change, so theirs are kept a second time. The transaction that ends a run says that a
document is wanted (a row without one), one that changes what it says takes it away again, and the worker makes those that are wanted, many
at once (`tracking.documents`). Where there is none yet, the rows are read: a document is never needed, only quicker. Runs of pipelines,
which the engine moves and measures, and runs with a great many things have none.

A document's first line is what MLflow's clients are told (`records.told.data`), which is passed on as it is; a second one holds what they
are not told (microseconds) or in other words (inputs and models), where there is any.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from treadle.records import told
from treadle.records.tracking import Point, RunInput, RunModel
from treadle.store.driver import fetch, put_off, run

#: Metrics, parameters, tags, inputs and models that a document holds at most: it is written whole when one of them changes.
MOST = 1000


class Logged(Struct, frozen=True):
    """What a document holds: what `TrackedRun` has under the same names."""

    metrics: list[Point] = []
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: list[RunInput] = []
    models: list[RunModel] = []


class Rest(Struct, frozen=True, omit_defaults=True):
    """A document's second line; `micros` are the microseconds beyond the milliseconds of each metric's time, none: all are 0."""

    micros: list[int] = []
    inputs: list[RunInput] = []
    models: list[RunModel] = []


class _Measured(Struct, frozen=True, gc=False):
    key: str
    value: float | str
    timestamp: int
    step: int


class _Pair(Struct, frozen=True, gc=False):
    key: str
    value: str


class _Data(Struct, frozen=True):
    metrics: list[_Measured] = []
    params: list[_Pair] = []
    tags: list[_Pair] = []


_data, _rest = msgspec.json.Decoder(_Data).decode, msgspec.json.Decoder(Rest).decode
_NONE = Rest()


def split(document: str) -> tuple[str, Rest]:
    """A document's first line, and the second as a record."""
    data, _, rest = document.partition("\n")
    return data, _rest(rest) if rest else _NONE


def read(document: str) -> Logged:
    """What a document says."""
    line, rest = split(document)
    data = _data(line)
    micros = rest.micros or [0] * len(data.metrics)
    return Logged(
        metrics=[
            Point(key=m.key, value=m.value, step=m.step, time=m.timestamp * 1000 + beyond)
            for m, beyond in zip(data.metrics, micros, strict=True)
        ],
        params={pair.key: pair.value for pair in data.params},
        tags={pair.key: pair.value for pair in data.tags},
        inputs=rest.inputs,
        models=rest.models,
    )


def data(logged: Logged) -> bytes:
    """The first line of what was logged to a run."""
    return msgspec.json.encode(told.data(logged.metrics, logged.params, logged.tags))


def text(logged: Logged) -> str:
    """The document of what was logged to a run."""
    micros = [(p.time or 0) % 1000 for p in logged.metrics]
    rest = Rest(micros if any(micros) else [], logged.inputs, logged.models)
    return data(logged).decode() + ("" if rest == _NONE else "\n" + msgspec.json.encode(rest).decode())


# ── in SQL ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_OWN = "o.project = t.project AND o.run_id = t.run_id"
_KEPT = f"(SELECT NULLIF(o.document, '') FROM run_documents o WHERE {_OWN})"


def _made(limit: int | None = None) -> str:
    """A query of what a document would say, and of how many things, made by PostgreSQL (SQLite's JSON has 15 digits of a number); with a
    limit no more things of a kind are read."""
    of = f"WHERE {_OWN} ORDER BY {{0}}{f' LIMIT {limit}' if limit else ''}"
    beyond = "((o.time % 1000 + 1000) % 1000)"  # what is left of a time by whole milliseconds, before 1970 too
    pairs = """(
        SELECT '"{0}":[' || string_agg('{{"key":' || to_json(o.name) || ',"value":' || to_json(o.value) || '}}', ',') || ']' AS told,
            count(*) AS things FROM (SELECT o.name, o.value FROM {0} o """
    pairs += of.format("o.name") + ") o)"
    return f"""(
    SELECT '{{' || concat_ws(',', m.told, p.told, g.told) || '}}' || CASE
            WHEN m.beyond OR i.things + x.things > 0 THEN E'\\n' || json_strip_nulls(json_build_object(
                'micros', CASE WHEN m.beyond THEN (SELECT json_agg({beyond} ORDER BY o.name) FROM latest_metrics o WHERE {_OWN}) END,
                'inputs', i.told, 'models', x.told))
            ELSE '' END AS document,
        m.things + p.things + g.things + i.things + x.things AS things
    FROM (
        SELECT '"metrics":[' || string_agg('{{"key":' || to_json(o.name) || ',"value":' || COALESCE(to_json(o.value)::text, '"NaN"')
                || ',"timestamp":' || (o.time - {beyond}) / 1000 || ',"step":' || o.step || '}}', ',') || ']' AS told,
            COALESCE(bool_or(o.time % 1000 <> 0), FALSE) AS beyond, count(*) AS things
        FROM (SELECT o.name, o.value, o.step, o.time FROM latest_metrics o {of.format("o.name")}) o
    ) m, {pairs.format("params")} p, {pairs.format("tags")} g, (
        SELECT json_agg(json_build_object(
                'name', o.name, 'digest', o.digest, 'source_type', COALESCE(d.source_type, ''), 'source', COALESCE(d.source, ''),
                'schema', d.schema, 'profile', d.profile, 'context', o.context, 'tags', o.tags::json
            ) ORDER BY o.created, o.name, o.digest) AS told, count(*) AS things
        FROM (SELECT * FROM run_inputs o {of.format("o.name")}) o LEFT JOIN tracked_datasets d
        ON d.project = o.project AND d.experiment = o.experiment AND d.name = o.name AND d.digest = o.digest
    ) i, (
        SELECT json_agg(json_build_object('model_id', o.model_id, 'role', o.role, 'step', o.step)
            ORDER BY o.recorded_time, o.step, o.model_id) AS told, count(*) AS things
        FROM (SELECT * FROM run_models o {of.format("o.role")}) o
    ) x
)"""


_WHOLE = f"COALESCE({_KEPT}, (SELECT made.document FROM {_made()} made))"


def column(dialect: str) -> str:
    """What reads the document of a run called `t`; NULL where there is none, but PostgreSQL makes it there: that costs it more than the
    rows, and both together less."""
    return _WHOLE if dialect == "postgresql" else _KEPT


def want(tx: Connection, project: str, run_id: str) -> None:
    """Have a document made of a run that has ended; one that it has is true."""
    put_off(tx, "INSERT INTO run_documents (project, run_id) VALUES (?, ?) ON CONFLICT (project, run_id) DO NOTHING", project, run_id)


def forget(tx: Connection, project: str, run_ids: Sequence[str]) -> None:
    """Have the documents of runs made anew, of those that have one: something of them was changed."""
    for run_id in run_ids:
        statement = "UPDATE run_documents SET document = NULL WHERE project = ? AND run_id = ? AND document IS NOT NULL"
        put_off(tx, statement, project, run_id)


def drop(tx: Connection, project: str, run_id: str) -> None:
    """Take the document of a run away: it goes on."""
    put_off(tx, "DELETE FROM run_documents WHERE project = ? AND run_id = ?", project, run_id)


def wanted(connection: Connection, most: int) -> dict[str, list[str]]:
    """Some runs of which a document is wanted, by project."""
    found: dict[str, list[str]] = {}
    for project, run_id in fetch(connection, "SELECT project, run_id FROM run_documents WHERE document IS NULL LIMIT ?", most):
        found.setdefault(project, []).append(run_id)
    return found


def keep(tx: Connection, project: str, logged: dict[str, Logged]) -> None:
    """Write the documents of runs of which they are wanted; an empty one where there are too many things."""
    texts = {run_id: text(of) if sum(map(len, msgspec.structs.astuple(of))) <= MOST else "" for run_id, of in logged.items()}
    statement = "UPDATE run_documents SET document = ? WHERE project = ? AND run_id = ? AND document IS NULL"
    run(tx, statement, [(document, project, run_id) for run_id, document in texts.items()])


_KEEP = (
    f"UPDATE run_documents k SET document = CASE WHEN made.things <= {MOST} THEN made.document ELSE '' END "
    f"FROM (SELECT ?::text AS project, unnest(?::text[]) AS run_id) t CROSS JOIN LATERAL {_made(MOST + 1)} made "
    "WHERE k.project = t.project AND k.run_id = t.run_id AND k.document IS NULL"
)


def keep_made(tx: Connection, project: str, run_ids: Sequence[str]) -> None:
    """The same by PostgreSQL, which reads the rows itself."""
    fetch(tx, _KEEP, project, list(run_ids))
