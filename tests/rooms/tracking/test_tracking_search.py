"""Searches against a reference that reads every run: any filter, any order, any page, on both databases."""

import functools
import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.records.filters import Comparison, Order
from treadle.store import tables as t
from treadle.store.queries import conditions, matches, walks
from treadle.store.queries import search as queries
from treadle.store.queries.search import Search, search_runs
from treadle.store.upsert import insert_rows

PROJECT = "p"
WORDS = conditions.STATUS
LONG = "x" * 200
NAMES = ["m", "n"]
TEXTS = ["a", "b", "A", "ab", "é", "", "a%", "a*[", LONG, LONG + "a", LONG + "b"]
VALUES = [0.0, 1.0, -1.0, 0.5, math.nan, math.inf, 1e308]

runs = st.fixed_dictionaries(
    {
        "experiment": st.sampled_from(["0", "7", "z"]),
        "lifecycle": st.sampled_from(["active", "active", "deleted"]),
        "state": st.sampled_from(list(WORDS)),
        "name": st.sampled_from(TEXTS[:6]),
        "user_name": st.sampled_from(["ann", "bob"]),
        "created": st.sampled_from([0, 1000, 1500, 2000, 2999, 3000]),
        "ended": st.none() | st.sampled_from([1000, 1999, 5000]),
        "metrics": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES)),
        "params": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TEXTS)),
        "tags": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(TEXTS[:4])),
        "inputs": st.dictionaries(st.tuples(st.sampled_from("de"), st.sampled_from("12")), st.sampled_from(["", "train"]), max_size=2),
    }
)
patterns = st.sampled_from(["a%", "%b", "_", "", "%", "A", "é", "a*[", "x%", LONG + "_", "a_%"])
numeric = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


@st.composite
def comparison(draw):
    kind = draw(st.sampled_from(["metric", "param", "tag", "attribute", "dataset"]))
    equal = st.sampled_from(["=", "!="])
    like = st.sampled_from(["LIKE", "ILIKE"])
    if kind == "metric":
        return Comparison(kind, draw(st.sampled_from(["m", "n", "o"])), draw(numeric), draw(st.sampled_from([0.0, 0.5, 1.0, -1.0])))
    if kind in ("param", "tag"):
        key = draw(st.sampled_from(["m", "n", "o"]))
        null = st.builds(Comparison, st.just(kind), st.just(key), st.sampled_from(["IS NULL", "IS NOT NULL"]))
        texts = st.builds(Comparison, st.just(kind), st.just(key), equal, st.sampled_from(TEXTS))
        return draw(null | texts | st.builds(Comparison, st.just(kind), st.just(key), like, patterns))
    if kind == "dataset":
        key = draw(st.sampled_from(["name", "digest", "context"]))
        lists = st.builds(Comparison, st.just(kind), st.just(key), st.sampled_from(["IN", "NOT IN"]), st.just(("d", "1", "train")))
        return draw(lists | st.builds(Comparison, st.just(kind), st.just(key), equal | like, st.sampled_from(["d", "1", "train", "%"])))
    key = draw(st.sampled_from(["start_time", "end_time", "run_name", "status", "user_id", "run_id", "artifact_uri"]))
    if key.endswith("time"):
        return Comparison(kind, key, draw(numeric), draw(st.sampled_from([1, 2, 1.5, 3, -(10**30), math.inf])))
    if key == "run_id" and draw(st.booleans()):
        return Comparison(kind, key, draw(st.sampled_from(["IN", "NOT IN"])), ("r000", "r001", "r007", "nope"))
    values = {"status": ["RUNNING", "FAILED", "F%", "nothing"], "user_id": ["ann", "A%"], "run_id": ["r001", "r00%"], "run_name": TEXTS[:6]}
    return Comparison(
        kind, key, draw(equal | like), draw(st.sampled_from(values.get(key, ["mlflow-artifacts:/7/%", "s3://b/r001/artifacts"])))
    )


orders = st.one_of(
    st.builds(Order, st.sampled_from(["metric", "param", "tag"]), st.sampled_from(["m", "n", "o"]), st.booleans()),
    st.builds(
        Order,
        st.just("attribute"),
        st.sampled_from(["start_time", "end_time", "run_name", "status", "user_id", "run_id", "artifact_uri"]),
        st.booleans(),
    ),
)
LOCATIONS = {"0": "", "7": "", "z": "s3://b"}


def put(tx, made):
    for experiment, location in LOCATIONS.items():
        row = (PROJECT, experiment, experiment, "active", location, "", "", 0, 0)
        columns = ("project", "experiment_id", "name", "lifecycle", "artifact_location", "description", "actor", "created", "updated")
        insert_rows(tx, t.experiments, columns, [row])
    columns = (
        *("project", "run_id", "environment", "experiment", "pipeline", "state", "name", "user_name", "lifecycle", "params", "reason"),
        *("actor", "definition_digest", "project_digest", "code_digest", "environment_digest"),
        *("event_time", "recorded_time", "created", "ended"),
    )
    rows, latest, params, tags, inputs = [], [], [], [], []
    for number, run in enumerate(made):
        run_id = run["run_id"] = f"r{number:03}"
        of = (PROJECT, run_id)
        told = [run[c] for c in ("state", "name", "user_name", "lifecycle")]
        rows.append((*of, "dev", run["experiment"], "", *told, "{}", "{}", "", "", "", "", "", 0, 0, run["created"], run["ended"]))
        copied = (run["experiment"], run["created"])
        latest += [(*of, name, *copied, 0, 0, None if math.isnan(v) else v) for name, v in run["metrics"].items()]
        params += [(*of, name, *copied, v, v[: t.INDEXED]) for name, v in run["params"].items()]
        tags += [(*of, name, *copied, v, v[: t.INDEXED]) for name, v in run["tags"].items()]
        inputs += [(*of, name, digest, *copied, context, "{}") for (name, digest), context in run["inputs"].items()]
    insert_rows(tx, t.runs, columns, rows)
    pair = ("project", "run_id", "name", "experiment", "created", "value", "head")
    insert_rows(tx, t.params, pair, params)
    insert_rows(tx, t.tags, pair, tags)
    insert_rows(tx, t.latest_metrics, ("project", "run_id", "name", "experiment", "created", "step", "time", "value"), latest)
    insert_rows(tx, t.run_inputs, ("project", "run_id", "name", "digest", "experiment", "created", "context", "tags"), inputs)


# ── the reference ────────────────────────────────────────────────────────────────────────────────────────────────────


def like(text, pattern, *, fold):
    regex = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(regex, text, re.DOTALL | (re.ASCII | re.IGNORECASE if fold else 0)) is not None


def holds(op, left, right):
    return {
        "=": lambda: left == right,
        "!=": lambda: left != right,
        ">": lambda: left > right,
        ">=": lambda: left >= right,
        "<": lambda: left < right,
        "<=": lambda: left <= right,
        "LIKE": lambda: like(left, right, fold=False),
        "ILIKE": lambda: like(left, right, fold=True),
        "IN": lambda: left in right,
        "NOT IN": lambda: left not in right,
    }[op]()


def value_of(run, kind, key):
    if kind == "attribute":
        location = LOCATIONS[run["experiment"]] or f"mlflow-artifacts:/{run['experiment']}"
        return {
            "start_time": run["created"],
            "end_time": run["ended"],
            "run_name": run["name"],
            "status": WORDS[run["state"]],
            "user_id": run["user_name"],
            "run_id": run["run_id"],
            "artifact_uri": f"{location}/{run['run_id']}/artifacts",
        }[key]
    return run[f"{kind}s"].get(key)


def fits(run, c):
    if c.kind == "dataset":
        told = [{"name": name, "digest": digest, "context": context}[c.key] for (name, digest), context in run["inputs"].items()]
        return any(holds(c.op, text, c.value) for text in told if text or c.key != "context")
    value = value_of(run, c.kind, c.key)
    if c.op.startswith("IS"):
        return (value is None) == (c.op == "IS NULL")
    if value is not None and c.key.endswith("_time"):
        value //= 1000
    return value is not None and holds(c.op, value, c.value)


def compare(a, b, asked):
    for order in asked:
        x, y = (value_of(run, order.kind, order.key) for run in (a, b))
        ranks = [2 if v is None else 1 if isinstance(v, float) and math.isnan(v) else 0 for v in (x, y)]
        if ranks[0] != ranks[1]:
            return ranks[0] - ranks[1]
        if ranks[0] == 0 and x != y:
            return (-1 if x < y else 1) * (1 if order.ascending else -1)
    if a["created"] != b["created"]:
        return b["created"] - a["created"]
    return -1 if a["run_id"] < b["run_id"] else 1


def reference(made, search):
    stages = search.lifecycles or ("active", "deleted")
    found = [r for r in made if r["experiment"] in search.experiments and r["lifecycle"] in stages]
    found = [r for r in found if all(fits(r, c) for c in search.comparisons)]
    return [r["run_id"] for r in sorted(found, key=functools.cmp_to_key(lambda a, b: compare(a, b, search.orders)))]


def unique(asked):
    return tuple({(o.kind, o.key): o for o in asked}.values())


@pytest.mark.parametrize(
    ("rare", "few", "part", "equal"), [(0, 0, 1, 2), (0, 100, 4, 500), (2, 0, 4, 1), (2000, 100, 4, 3), (2000, 0, 2, 2), (2000, 1, 9, 1)]
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    made=st.lists(runs, max_size=25),
    comparisons=st.lists(comparison(), max_size=3),
    asked=st.lists(orders, max_size=3).map(unique),
    experiments=st.sets(st.sampled_from(["0", "7", "z", "none"]), min_size=1).map(tuple),
    lifecycles=st.sampled_from([("active",), ("deleted",), ()]),
    page=st.integers(1, 7),
)
def test_any_search_finds_what_the_reference_finds(
    database, rare, few, part, equal, made, comparisons, asked, experiments, lifecycles, page
):
    search = Search(PROJECT, experiments, tuple(comparisons), asked, lifecycles)
    kept = matches.RARE, matches.FEW, matches.PART, queries.EQUAL, walks.MORE
    matches.RARE, matches.FEW, matches.PART, queries.EQUAL = rare, few, part, equal
    walks.MORE = page % 3 + 1  # batches that end among equals
    try:
        with pytest.raises(_Undone):
            database.write(lambda tx: _check(tx, search, made, page))
    finally:
        matches.RARE, matches.FEW, matches.PART, queries.EQUAL, walks.MORE = kept


class _Undone(Exception):
    pass


def _check(tx, search, made, page):
    put(tx, made)
    wanted = reference(made, search)
    assert [f[2] for f in search_runs(tx, search, after=None, limit=1000)] == wanted
    got, after = [], None
    for _ in range(len(wanted) + 2):
        found = search_runs(tx, search, after=after, limit=page)
        got += [f[2] for f in found]
        if len(found) < page:
            break
        after = found[-1]
    assert got == wanted
    raise _Undone
