"""Conditions of a search as SQL over one candidate at a time.

Whatever drives a search names its table `d` (`d.run_id`, `d.experiment`, `d.created`), and each condition looks the rest up by primary
key in a scalar subquery: neither SQLite nor PostgreSQL can turn that into a join, so the planner's guess of how rare a value is never
decides what a search costs. `ranges` says of which comparisons an index knows all matches.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from treadle.records.errors import TreadleError
from treadle.records.filters import Comparison
from treadle.store.tables import INDEXED

#: A run's state as MLflow's clients name it.
STATUS = {
    "queued": "SCHEDULED",
    "running": "RUNNING",
    "waiting": "RUNNING",
    "cancelling": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "cancelled": "KILLED",
}
#: Names and columns of attributes that a run's row holds as they are.
COLUMNS = {"run_name": "name", "user_id": "user_name"}
TIMES = {"start_time": "created", "end_time": "ended"}
TABLES = {"metric": "latest_metrics", "param": "params", "tag": "tags"}
_LONGEST_PATTERN = 10_000
_MOST_VALUES = 30_000
#: Milliseconds beyond any date, and still in 64 bits as microseconds.
_FAR = 9 * 10**15


class Sql(NamedTuple):
    """A condition and its parameters."""

    text: str
    values: tuple[Any, ...] = ()


class Range(NamedTuple):
    """What an index range holds: all candidates that a comparison leaves, and perhaps some more."""

    table: str
    by: str  # an index; "" for the primary key
    where: Sql  # over `d`, behind project and experiment


def indexed(dialect: str, table: str, index: str) -> str:
    """A table, called `d`, to be read by an index: SQLite does as it is told, PostgreSQL finds it by itself."""
    return f"{table} d INDEXED BY {index}" if index and dialect != "postgresql" else f"{table} d"


#: The index of runs that goes on with a column behind project, experiment and lifecycle.
RUN_INDEX = {"created": "runs_created", "ended": "runs_ended", "name": "runs_name", "state": "runs_status"}


def all_of(conditions: Sequence[Sql]) -> Sql:
    """All of them."""
    return Sql(" AND ".join(c.text for c in conditions), tuple(v for c in conditions for v in c.values))


def among(column: str, values: Sequence[Any], dialect: str = "") -> Sql:
    """Whether a column is one of some values; of none it is not. PostgreSQL takes many texts as one array where the dialect is told:
    that costs it half, and the statement is the same for any number of them."""
    if not values:
        return Sql("1 = 0")
    if len(values) > _MOST_VALUES:
        raise TreadleError(f"A list of {len(values):,} values is too long for a search.", remedy="Search several times.")
    if len(values) == 1:
        return Sql(f"{column} = ?", (values[0],))
    if dialect == "postgresql":
        return Sql(f"{column} = ANY(?)", (list(values),))
    return Sql(f"{column} IN ({', '.join('?' * len(values))})", tuple(values))


# ── one candidate ────────────────────────────────────────────────────────────────────────────────────────────────────


def conditions(dialect: str, project: str, comparisons: Sequence[Comparison], *, lifecycles: Sequence[str], of_runs: bool) -> list[Sql]:
    """What a candidate `d` must fulfil.

    Args:
        lifecycles: those wanted; none: any.
        of_runs: whether `d` is the table of runs; else what a run's row says is looked up.
    """
    row = "d" if of_runs else "r"
    of_row: list[Sql] = []
    others: list[Sql] = []
    if lifecycles:
        of_row.append(among(f"{row}.lifecycle", lifecycles))
    for comparison in comparisons:
        if comparison.kind == "attribute" and comparison.key in ("status", "end_time", *COLUMNS):
            of_row.append(_attribute(dialect, row, comparison))
        else:
            others.append(_other(dialect, project, comparison))
    if of_row and not of_runs:
        text, values = all_of(of_row)
        return [*others, Sql(f"(SELECT {text} FROM runs r WHERE r.project = ? AND r.run_id = d.run_id)", (*values, project))]
    return [*of_row, *others]


def _attribute(dialect: str, row: str, comparison: Comparison) -> Sql:
    if comparison.key == "end_time":
        return moment(f"+{row}.ended", comparison.op, comparison.value)
    if comparison.key == "status":
        return among(f"{row}.state", states(comparison))
    return text_condition(dialect, f"{row}.{COLUMNS[comparison.key]}", comparison.op, comparison.value)


#: Where a run's files are, as MLflow's clients are told.
URI = (
    "((SELECT CASE WHEN x.artifact_location = '' THEN 'mlflow-artifacts:/' || x.experiment_id ELSE x.artifact_location END "
    "FROM experiments x WHERE x.project = d.project AND x.experiment_id = d.experiment) || '/' || d.run_id || '/artifacts')"
)


def _other(dialect: str, project: str, comparison: Comparison) -> Sql:
    kind, key, op, value = comparison.kind, comparison.key, comparison.op, comparison.value
    if kind == "dataset":
        there = text_condition(dialect, f"i.{key}", op, value)
        named = " AND i.context <> ''" if key == "context" else ""
        found = f"(SELECT 1 FROM run_inputs i WHERE i.project = ? AND i.run_id = d.run_id AND {there.text}{named} LIMIT 1)"
        return Sql(f"{found} IS NOT NULL", (project, *there.values))
    if kind == "attribute":
        if key == "start_time":
            return moment("+d.created", op, value)
        return text_condition(dialect, "d.run_id" if key == "run_id" else URI, op, value)
    where = f"FROM {TABLES[kind]} e WHERE e.project = ? AND e.run_id = d.run_id AND e.name = ?"
    if value is None:
        return Sql(f"(SELECT 1 {where}) {op}", (project, key))
    told = own_condition(dialect, "e", comparison)
    return Sql(f"(SELECT {told.text} {where})", (*told.values, project, key))


def own_condition(dialect: str, row: str, comparison: Comparison) -> Sql:
    """A comparison with a metric, parameter or tag as a condition on its own row's value. NaN is unequal to everything."""
    column, op, value = f"{row}.value", comparison.op, comparison.value
    if comparison.kind != "metric":
        return text_condition(dialect, column, op, value)
    return Sql(f"({column} IS NULL OR {column} <> ?)", (value,)) if op == "!=" else Sql(f"{column} {op} ?", (value,))


def text_condition(dialect: str, column: str, op: str, value: Any) -> Sql:
    """A comparison of text. LIKE tells small from capital letters, ILIKE does not; `%` and `_` are wild and nothing escapes them."""
    if op in ("IN", "NOT IN"):
        found = among(column, sorted(set(value)), dialect)
        return Sql(f"NOT ({found.text})", found.values) if op == "NOT IN" else found
    if op in ("LIKE", "ILIKE"):
        if len(value) > _LONGEST_PATTERN:
            raise TreadleError(f"A pattern of {len(value):,} characters is too long.", remedy=f"Use at most {_LONGEST_PATTERN:,}.")
        if dialect == "postgresql":
            return Sql(f"{column} {op} ?", (value.replace("\\", "\\\\"),))  # ESCAPE '' costs more, and again at each row
        return Sql(f"{column} GLOB ?", (_glob(value),)) if op == "LIKE" else Sql(f"{column} LIKE ?", (value,))
    return Sql(f"{column} {'<>' if op == '!=' else op} ?", (value,))


def _glob(pattern: str) -> str:
    """A LIKE pattern for SQLite's GLOB, which tells small from capital letters."""
    return "".join({"%": "*", "_": "?"}.get(c, f"[{c}]" if c in "*?[" else c) for c in pattern)


def moment(column: str, op: str, value: float) -> Sql:
    """A comparison of a time in microseconds with milliseconds as clients know them: rounded down.

    With a `+` before the column it is a condition that no index range is made of: a walk sets its own (`moment_bounds`).
    """
    value = max(-_FAR, min(_FAR, value))
    whole = value == math.floor(value)
    low, high = math.floor(value) * 1000, (math.floor(value) + 1) * 1000
    if op == "=":
        return Sql(f"({column} >= ? AND {column} < ?)", (low, high)) if whole else Sql("1 = 0")
    if op == "!=":
        return Sql(f"({column} < ? OR {column} >= ?)", (low, high)) if whole else Sql(f"{column} IS NOT NULL")
    if op in (">=", "<"):
        return Sql(f"{column} {op} ?", (low if whole else high,))
    return Sql(f"{column} {'>=' if op == '>' else '<'} ?", (high,))


def moment_bounds(comparisons: Sequence[Comparison], key: str) -> tuple[tuple[int, bool] | None, tuple[int, bool] | None]:
    """Bounds from below and above of a time that comparisons with it set."""
    lows, highs = [], []
    for comparison in comparisons:
        if (comparison.kind, comparison.key) == ("attribute", key) and comparison.op != "!=":
            told = moment("", comparison.op, comparison.value)
            lows += told.values[:1] if ">" in told.text else []
            highs += told.values[-1:] if "<" in told.text else []
    return (max(lows), True) if lows else None, (min(highs), False) if highs else None


def states(comparison: Comparison) -> list[str]:
    """The states whose word for MLflow's clients fits."""
    return [state for state, word in STATUS.items() if text_holds(comparison.op, word, comparison.value)]


def text_holds(op: str, text: str, value: Any) -> bool:
    """What `text_condition` asks, of one text: the only one that is not in the database."""
    if op in ("LIKE", "ILIKE"):
        fold = _ascii_lower if op == "ILIKE" else str
        return _like(fold(text), fold(value))
    if op in ("IN", "NOT IN"):
        return (text in value) == (op == "IN")
    return (text == value) == (op == "=")


def _ascii_lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def _like(text: str, pattern: str) -> bool:
    """LIKE by rows of the table of prefixes, in time of text by pattern."""
    fits = [True] + [False] * len(text)
    for c in pattern:
        if c == "%":
            first = fits.index(True) if True in fits else len(fits)
            fits = [at >= first for at in range(len(fits))]
        else:
            fits = [False] + [fits[at] and c in ("_", text[at]) for at in range(len(text))]
    return fits[-1]


# ── index ranges ─────────────────────────────────────────────────────────────────────────────────────────────────────


def index_range(dialect: str, comparison: Comparison, lifecycles: Sequence[str]) -> Range | None:
    """The index range that holds a comparison's matches, None where no index knows them."""
    kind, key, op, value = comparison.kind, comparison.key, comparison.op, comparison.value
    if kind == "metric":
        held = Sql(f"d.name = ? AND d.value {op} ?", (key, value))
        return None if value is None or op == "!=" else Range(TABLES[kind], f"{TABLES[kind]}_value", held)
    if kind in ("param", "tag"):
        head = _head_range("d.head", op, value) or _head_like(dialect, op, value)
        named = Sql("d.name = ?", (key,))
        return None if head is None else Range(TABLES[kind], f"{TABLES[kind]}_value", all_of([named, head]) if head.text else named)
    if kind == "dataset":
        fits = key in ("name", "digest") and op in ("=", "IN")
        return Range("run_inputs", f"run_inputs_{key}", among(f"d.{key}", value if op == "IN" else [value])) if fits else None
    return _run_range(dialect, comparison, lifecycles)


def _head_like(dialect: str, op: str, value: Any) -> Sql | None:
    """What no range holds, read from the index alone: how it begins fits, or it is too long to tell."""
    if op not in ("LIKE", "ILIKE"):
        return None
    told = text_condition(dialect, "d.head", op, value)
    length = "OCTET_LENGTH" if dialect == "postgresql" else "LENGTH"  # it need not read a text to tell how many bytes that has
    return Sql(f"({told.text} OR {length}(d.head) >= {INDEXED})", told.values)


def _head_range(column: str, op: str, value: Any) -> Sql | None:
    """Where in an index of the beginnings of texts the matches are; an empty condition: anywhere."""
    if op == "IS NOT NULL":
        return Sql("")
    if op == "=":
        exact = Sql(f"{column} = ?", (value[:INDEXED],))
        return exact if len(value) < INDEXED else Sql(f"{exact.text} AND d.value = ?", (*exact.values, value))
    if op == "LIKE":
        begin = value[: min([value.find(c) for c in "%_" if c in value] or [len(value)])][:INDEXED]
        after = _next_text(begin)
        return Sql(f"{column} >= ? AND {column} < ?", (begin, after)) if after else None
    return None


def _next_text(text: str) -> str:
    """The least text greater than all that begin with `text`; empty where there is none."""
    text = text.rstrip("\U0010ffff")
    if not text:
        return ""
    last = ord(text[-1]) + 1
    return text[:-1] + chr(0xE000 if 0xD800 <= last < 0xE000 else last)


def _run_range(dialect: str, comparison: Comparison, lifecycles: Sequence[str]) -> Range | None:
    key, op, value = comparison.key, comparison.op, comparison.value
    stage = among("d.lifecycle", lifecycles or ("active", "deleted"))
    if key == "run_id" and op in ("=", "IN"):
        return Range("runs", "", among("d.run_id", sorted(set(value)) if op == "IN" else [value]))
    if key == "run_name" and op in ("=", "LIKE", "ILIKE"):
        found = Sql("d.name = ?", (value,)) if op == "=" else _head_range("d.name", op, value)
        return Range("runs", "runs_name", all_of([stage, found or text_condition(dialect, "d.name", op, value)]))
    if key == "status" and op != "!=":
        return Range("runs", "runs_status", all_of([stage, among("d.state", states(comparison))]))
    if key in TIMES and op != "!=":
        return Range("runs", RUN_INDEX[TIMES[key]], all_of([stage, moment(f"d.{TIMES[key]}", op, value)]))
    return None
