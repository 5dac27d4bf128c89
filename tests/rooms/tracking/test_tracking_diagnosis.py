"""Diagnoses and comparisons of stored runs, on SQLite and PostgreSQL."""

import itertools
import math

import pytest

from treadle.ledger import Dispatcher, Ledger
from treadle.operations import diagnosis as ops
from treadle.operations import tracking
from treadle.records.calls import SYSTEM
from treadle.records.errors import TreadleError
from treadle.records.tracking import Point, RunInput
from treadle.store.blobs import LocalBlobs
from treadle.store.queries import insides
from treadle.tracking.service import services

P = "p"


@pytest.fixture
def call(database, tmp_path):
    blobs = LocalBlobs(tmp_path / "blobs")
    dispatch = Dispatcher(database, [Ledger(database, blobs, heads=tmp_path / "heads"), *services(blobs)], complete=False)

    def ask(request):
        return dispatch(request, actor=SYSTEM)

    ask.blobs, ask.database = blobs, database
    return ask


def start(call, run_id, **more):
    call(tracking.StartRun(project=P, run_id=run_id, **more))


def log(call, run_id, key, values, at=0):
    points = [Point(key=key, value=v, step=i, time=at + i) for i, v in enumerate(values)]
    call(tracking.LogBatch(project=P, run_id=run_id, metrics=points))


def keep(call, run_id, path, text):
    digest = call.blobs.put(text.encode())
    call(tracking.PutFile(project=P, owner=run_id, path=path, digest=digest, size=len(text)))


def test_a_diagnosis_of_what_is_stored(call):
    start(call, "r")
    assert call(ops.DiagnoseRun(project=P, run_id="r")).examined == 0
    log(call, "r", "train/loss", [0.7 * math.exp(-i / 20) for i in range(60)])
    log(call, "r", "valid/loss", [0.3 + 0.4 * math.exp(-i / 5) + 0.01 * max(0, i - 20) for i in range(60)])
    for at, (name, size) in enumerate((("stem", 1e-8), ("head", 1e-1))):
        log(call, "r", f"watch/{name}/gradient/std", [size] * 5, at=1000 * at)
        log(call, "r", f"watch/{name}/gradient/mean", [0.0] * 5, at=1000 * at)
        log(call, "r", f"watch/{name}/gradient/nan", [0.0, 0.0, 0.0, 0.0, "NaN"], at=1000 * at)
    log(call, "r", "profile/step/seconds", [10.0])
    log(call, "r", "profile/step/load/seconds", [6.0])
    log(call, "r", "system/cpu", ["NaN"] * 20)
    found = call(ops.DiagnoseRun(project=P, run_id="r"))
    assert sorted(f.rule for f in found.findings) == [
        "exploding_gradient",
        "exploding_gradient",
        "input_bottleneck",
        "overfitting",
        "vanishing_gradient",
    ]
    assert next(f.severity for f in found.findings) == "critical"
    assert [(w.name, w.captures, w.last["nan"]) for w in found.watched] == [("stem/gradient", 5, None), ("head/gradient", 5, None)]
    assert [(s.path, s.share) for s in found.sections] == [("step", 1.0), ("step/load", 0.6)]
    assert found.examined == 10
    with pytest.raises(TreadleError, match="no run"):
        call(ops.DiagnoseRun(project=P, run_id="nope"))


def test_long_histories_are_thinned_and_keep_their_ends_and_what_is_no_number(call):
    start(call, "r")
    values = [float(i) for i in range(1000)]
    values[501] = "NaN"
    log(call, "r", "loss", values)
    log(call, "r", "few", [1.0, 2.0])
    with call.database.read() as connection:
        found = insides.histories(connection, P, "r", 100)
    assert [s for s, _ in found["few"]] == [0, 1]
    steps = [s for s, _ in found["loss"]]
    assert 100 <= len(steps) <= 202
    assert (steps[0], steps[-1]) == (0, 999)
    assert 501 in steps
    assert max(b - a for a, b in itertools.pairwise(steps)) <= 10


def test_a_changed_input_is_pointed_to(call):
    start(call, "one", params={"depth": "4", "seed": "7"}, git_revision="a" * 40, tags={"treadle.host": "x"})
    start(call, "two", params={"depth": "4", "seed": "7"}, git_revision="a" * 40, tags={"treadle.host": "y"}, parent_run="one")
    for run_id, digest, auc in (("one", "d1", 0.81), ("two", "d2", 0.74)):
        call(tracking.LogInputs(project=P, run_id=run_id, inputs=[RunInput(name="flights", digest=digest)]))
        keep(call, run_id, "environment/requirements.txt", "numpy==2.1\npolars==1.0\n")
        log(call, run_id, "auc", [auc])
        log(call, run_id, "system/cpu", [auc])
    found = call(ops.CompareRuns(project=P, run_id="two"))
    assert (found.before, found.after, found.related) == ("one", "two", "parent")
    assert [(c.what, c.name, c.before, c.after) for c in found.inputs] == [
        ("data", "flights", ["d1"], ["d2"]),
        ("machine", "host", "x", "y"),
    ]
    assert [(c.name, c.before, c.after) for c in found.metrics] == [("auc", 0.81, 0.74)]
    assert found.text == "Only data changed (flights d1 → d2). Metrics: auc 0.81 → 0.74 (worse)."
    assert call(ops.CompareRuns(project=P, run_id="one", since="two")).related == "child"
    with pytest.raises(TreadleError, match="no parent"):
        call(ops.CompareRuns(project=P, run_id="one"))


def test_everything_that_may_change_is_compared(call):
    start(call, "one", params={"depth": "4"}, git_revision="a" * 40, tags={"treadle.python": "3.11.1", "treadle.git.dirty": "false"})
    start(call, "two", params={"rate": "0.1"}, git_revision="b" * 40, tags={"treadle.python": "3.12.0", "treadle.git.dirty": "true"})
    keep(call, "one", "environment/requirements.txt", "numpy==2.1\ngone==1\n")
    keep(call, "two", "environment/requirements.txt", "numpy==2.2\n")
    keep(call, "two", "code/uncommitted.patch", "+ a line")
    log(call, "two", "loss", ["NaN"])
    found = call(ops.CompareRuns(project=P, run_id="two", since="one"))
    assert {(c.what, c.name): (c.before, c.after) for c in found.inputs if c.name != "code"} == {
        ("parameter", "depth"): ("4", None),
        ("parameter", "rate"): (None, "0.1"),
        ("code", "revision"): ("a" * 40, "b" * 40),
        ("code", "uncommitted changes"): ("false", "true"),
        ("package", "numpy"): ("2.1", "2.2"),
        ("package", "gone"): ("1", None),
        ("package", "python"): ("3.11.1", "3.12.0"),
    }
    assert [(c.name, c.after) for c in found.metrics] == [("loss", "NaN")]
    assert found.text.startswith("Changed parameter: depth 4 → absent, rate absent → 0.1; code: ")


def test_where_nothing_changed_it_says_so(call):
    start(call, "one", environment_digest="e")
    start(call, "two", environment_digest="e")
    assert call(ops.CompareRuns(project=P, run_id="two", since="one")).text.endswith("the metrics are the same.")
    log(call, "two", "loss", [0.1])
    assert call(ops.CompareRuns(project=P, run_id="two", since="one")).text.endswith("what differs is chance.")
    start(call, "three", environment_digest="f")
    (change,) = call(ops.CompareRuns(project=P, run_id="three", since="one")).inputs
    assert (change.what, change.name, change.before, change.after) == ("package", "environment", "e", "f")
