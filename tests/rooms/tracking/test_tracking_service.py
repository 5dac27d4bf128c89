"""Experiments, runs, measurements and logged models: what is kept, what is refused, and that nothing of a refused call is kept."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.ledger import Dispatcher, Ledger
from treadle.operations import ledger as ledger_ops
from treadle.operations import tracking as ops
from treadle.records.calls import SYSTEM, Actor, Role
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.states import RunState
from treadle.records.tracking import Lifecycle, ModelState, Point, RunInput, RunModel
from treadle.store import migrate
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.store.postgres import Session
from treadle.store.queries import tracking as queries
from treadle.tracking.service import services

P = "p"


@pytest.fixture
def call(database, tmp_path):
    blobs = LocalBlobs(tmp_path / "blobs")
    dispatch = Dispatcher(database, [Ledger(database, blobs, heads=tmp_path / "heads"), *services(blobs)], complete=False)

    def ask(request, *, actor=SYSTEM):
        return dispatch(request, actor=actor)

    ask.database = database
    return ask


def fails(code, text="."):
    return pytest.raises(TreadleError, match=text, check=lambda e: e.code == code and bool(e.remedy))


def start(call, run_id="r", **more):
    return call(ops.StartRun(project=P, run_id=run_id, **more))


def log(call, run_id="r", **more):
    return call(ops.LogBatch(project=P, run_id=run_id, **more))


def got(call, run_id="r"):
    return call(ops.GetTrackedRun(project=P, run_id=run_id))


def experiment(call, experiment_id="7", name="flights", **more):
    return call(ops.CreateExperiment(project=P, experiment_id=experiment_id, name=name, **more))


# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_experiment_is_made_once_and_found_by_id_and_name(call):
    made = experiment(call, folder="team/quarter", tags={"kind": "trees"})
    assert experiment(call, folder="team/quarter", tags={"kind": "trees"}) == made
    with fails("conflict", "other content"):
        experiment(call, folder="team")
    with fails("conflict", "named 'flights' already"):
        experiment(call, "8")
    for wanted, by in (("7", "any"), ("7", "id"), ("flights", "name"), ("flights", "any")):
        assert call(ops.GetExperiment(project=P, experiment=wanted, by=by)) == made
    for wanted, by in (("flights", "id"), ("7", "name"), ("nope", "any")):
        with fails("not_found"):
            call(ops.GetExperiment(project=P, experiment=wanted, by=by))


def test_the_default_experiment_is_always_there(call):
    for wanted, by in (("0", "id"), ("Default", "name"), ("default", "any")):
        found = call(ops.GetExperiment(project="fresh", experiment=wanted, by=by))
        assert (found.experiment_id, found.name, found.lifecycle) == ("0", "Default", Lifecycle.active)
    call(ops.SetExperimentTags(project="fresh", experiment_id="0", tags={"a": "b"}))
    assert call(ops.GetExperiment(project="fresh", experiment="0")).tags == {"a": "b"}


def test_an_experiment_is_renamed_moved_and_described(call):
    experiment(call)
    experiment(call, "8", "other")
    changed = call(ops.UpdateExperiment(project=P, experiment_id="7", name="delays", folder="a/b", description="why"))
    assert (changed.name, changed.folder, changed.description) == ("delays", "a/b", "why")
    with fails("conflict", "already"):
        call(ops.UpdateExperiment(project=P, experiment_id="7", name="other"))
    for bad in ("/a", "a//b", "a/../b", "a\nb"):
        with fails("bad_request"):
            call(ops.UpdateExperiment(project=P, experiment_id="7", folder=bad))


def test_an_experiment_takes_its_runs_into_the_bin_and_brings_those_back(call):
    experiment(call)
    for run_id in ("a", "b", "c"):
        start(call, run_id, experiment="7")
    call(ops.BinRun(project=P, run_id="a", lifecycle="deleted"))
    binned = call(ops.BinExperiment(project=P, experiment_id="7", lifecycle="deleted"))
    assert binned.lifecycle == Lifecycle.deleted
    assert binned.deleted
    assert {got(call, r).lifecycle for r in "abc"} == {Lifecycle.deleted}
    for refused in (
        ops.StartRun(project=P, run_id="d", experiment="7"),
        ops.SetExperimentTags(project=P, experiment_id="7", tags={"a": "b"}),
        ops.UpdateExperiment(project=P, experiment_id="7", name="x"),
        ops.LogBatch(project=P, run_id="b", tags={"a": "b"}),
        ops.CreateLoggedModel(project=P, model_id="m", experiment_id="7"),
    ):
        with fails("conflict", "bin"):
            call(refused)
    call(ops.BinExperiment(project=P, experiment_id="7", lifecycle="active"))
    assert [got(call, r).lifecycle for r in "abc"] == [Lifecycle.deleted, Lifecycle.active, Lifecycle.active]


def test_experiment_tags_are_set_and_removed(call):
    experiment(call)
    assert call(ops.SetExperimentTags(project=P, experiment_id="7", tags={"a": "1", "b": "2"})).changed
    assert not call(ops.SetExperimentTags(project=P, experiment_id="7", tags={"a": "1"})).changed
    call(ops.SetExperimentTags(project=P, experiment_id="7", remove=["a"]))
    assert call(ops.GetExperiment(project=P, experiment="7")).tags == {"b": "2"}
    with fails("not_found", "no tag 'a'"):
        call(ops.SetExperimentTags(project=P, experiment_id="7", remove=["a"], tags={"c": "3"}))
    assert call(ops.GetExperiment(project=P, experiment="7")).tags == {"b": "2"}


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_recorded_once(call):
    made = start(call, name="first", user="mia", started=1_700_000_000_000_000, tags={"a": "b"}, params={"depth": "4"}, git_revision="abc")
    assert made == got(call)
    assert made == start(call, name="first", user="mia", started=1_700_000_000_000_000, tags={"a": "b"}, git_revision="abc")
    assert (made.state, made.experiment_id, made.params, made.tags) == (RunState.running, "0", {"depth": "4"}, {"a": "b"})
    with fails("conflict", "other content"):
        start(call, git_revision="other")
    with fails("not_found"):
        got(call, "nope")


def test_a_name_that_is_no_experiment_becomes_one(call):
    assert start(call, experiment="new ideas").experiment_id == "new ideas"
    assert call(ops.GetExperiment(project=P, experiment="new ideas")).name == "new ideas"


def test_a_run_moves_ends_and_goes_on(call):
    start(call)
    ended = call(ops.UpdateRun(project=P, run_id="r", state=RunState.finished, ended=5_000_000, name="better"))
    assert (ended.state, ended.ended.timestamp(), ended.name) == (RunState.finished, 5, "better")
    assert got(call).tags == {"mlflow.runName": "better"}
    assert log(call, metrics=[Point(key="late", value=1.0)]).changed, "a finished run may be logged to"
    again = call(ops.UpdateRun(project=P, run_id="r", state=RunState.running))
    assert (again.state, again.ended) == (RunState.running, ended.ended)
    assert call(ops.UpdateRun(project=P, run_id="r", state=RunState.failed, error="boom")).error == "boom"


def test_a_pipelines_run_is_the_engines_to_move(call):
    call(ledger_ops.CreateRun(project=P, run_id="r", pipeline="train"))
    with fails("conflict", "pipeline"):
        call(ops.UpdateRun(project=P, run_id="r", state=RunState.finished))
    assert call(ops.UpdateRun(project=P, run_id="r", name="mine", experiment="kept")).experiment_id == "kept"
    assert log(call, metrics=[Point(key="auc", value=0.9)], tags={"a": "b"}).changed
    assert call(ledger_ops.GetRun(project=P, run_id="r")).metrics == {"auc": 0.9}


def test_moving_a_run_takes_everything_along(call):
    start(call, tags={"t": "1"}, params={"p": "1"})
    call(ops.CreateLoggedModel(project=P, model_id="m", run_id="r", tags={"t": "1"}, params={"p": "1"}))
    log(call, metrics=[Point(key="auc", value=1.0, model_id="m")])
    call(ops.LogInputs(project=P, run_id="r", inputs=[RunInput(name="d", digest="1", source="here")]))
    before = got(call)
    assert call(ops.UpdateRun(project=P, run_id="r", experiment="elsewhere")).experiment_id == "elsewhere"
    moved = got(call)
    assert (moved.experiment_id, moved.metrics, moved.inputs) == ("elsewhere", before.metrics, before.inputs)
    with call.database.read() as connection:
        for table in (
            "runs",
            "params",
            "tags",
            "latest_metrics",
            "run_inputs",
            "logged_models",
            "logged_model_params",
            "logged_model_tags",
        ):
            assert {r[0] for r in connection.exec_driver_sql(f"SELECT experiment FROM {table}")} == {"elsewhere"}, table
    experiment(call, "9", "remote", artifact_location="s3://bucket/x")
    with fails("conflict", "cannot move"):
        call(ops.UpdateRun(project=P, run_id="r", experiment="9"))


def test_a_run_in_the_bin_is_read_and_not_written(call):
    start(call)
    assert call(ops.BinRun(project=P, run_id="r", lifecycle="deleted")).lifecycle == Lifecycle.deleted
    assert call(ops.BinRun(project=P, run_id="r", lifecycle="deleted")).deleted
    for refused in (
        ops.LogBatch(project=P, run_id="r", metrics=[Point(key="a", value=1.0)]),
        ops.UpdateRun(project=P, run_id="r", state=RunState.finished),
        ops.LogInputs(project=P, run_id="r", inputs=[RunInput(name="d", digest="1")]),
    ):
        with fails("conflict", "bin"):
            call(refused)
    assert got(call).metrics == []
    call(ops.BinRun(project=P, run_id="r", lifecycle="active"))
    assert log(call, metrics=[Point(key="a", value=1.0)]).changed
    with fails("bad_request", "lifecycle"):
        call(ops.BinRun(project=P, run_id="r", lifecycle="gone"))


def test_a_viewer_logs_nothing(call):
    start(call)
    with fails("denied"):
        call(ops.LogBatch(project=P, run_id="r", tags={"a": "b"}), actor=Actor(actor_id="v", name="vera", role=Role.viewer))


# ── what is logged ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_latest_is_the_greatest_step_time_value_not_the_last_one_sent(call):
    start(call)
    log(call, metrics=[Point(key="a", value=1.0, step=5, time=10), Point(key="a", value=9.0, step=4, time=99)])
    log(call, metrics=[Point(key="a", value=2.0, step=5, time=9), Point(key="b", value="NaN"), Point(key="c", value="-Infinity")])
    latest = {p.key: p for p in got(call).metrics}
    assert (latest["a"].value, latest["a"].step, latest["a"].time) == (1.0, 5, 10)
    assert (latest["b"].value, latest["c"].value) == ("NaN", "-Infinity")
    assert not log(call, metrics=[Point(key="a", value=1.0, step=5, time=10)]).changed, "a repeated point is none"


POINT = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(-2, 2),
    st.integers(0, 2),
    st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0, 1.0]), st.floats(-9, 9)),
)


@pytest.mark.parametrize(("many", "named"), [(32, 20), (1, 20), (1, 0)])  # PostgreSQL is asked what it has before many come
@given(
    points=st.lists(POINT, min_size=1, max_size=12), order=st.randoms(use_true_random=False), cuts=st.sets(st.integers(0, 12), max_size=3)
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_order_and_batches_points_come_in_the_latest_is_the_same(call, many, named, points, order, cuts, monkeypatch):
    monkeypatch.setattr(queries, "MANY", many)
    monkeypatch.setattr(queries, "NAMED", named)
    run_id = new_id("run")
    start(call, run_id)
    sent = [*points, *points[:3]]
    order.shuffle(sent)
    edges = [0, *sorted(c for c in cuts if c < len(sent)), len(sent)]
    for a, b in itertools.pairwise(edges):
        if sent[a:b]:
            log(call, run_id, metrics=[Point(key=n, step=s, time=w, value=v) for n, s, w, v in sent[a:b]])
    latest = {}
    for point in points:
        latest[point[0]] = max(latest.get(point[0], point), point, key=queries.latest_key)
    found = {p.key: (p.key, p.step, p.time, float(p.value)) for p in got(call, run_id).metrics}
    assert {name: queries.latest_key(p) for name, p in found.items()} == {name: queries.latest_key(p) for name, p in latest.items()}
    kept = {(name, p.step, p.time, str(float(p.value) + 0.0)) for name in "ab" for p in history(call, run_id, name)}
    assert kept == {(name, step, time, str(value + 0.0)) for name, step, time, value in points}


def history(call, run_id, key):
    return call(ops.MetricHistory(project=P, run_ids=[run_id], key=key)).points.get(run_id, [])


def test_one_point_is_kept_as_a_batch_would_keep_it(call):
    """Alone it takes a way of its own."""
    start(call, experiment="7")
    points = [
        ("a", 1.0, 5, 10),
        ("a", 3.0, 4, 20),
        ("a", "NaN", 5, 10),
        ("a", 0.0, 5, 10),
        ("b", "NaN", 0, 0),
        ("b", -1.0, 0, 0),
        ("c", "-inf", 0, 1),
    ]
    told = [Point(key=key, value=value, step=step, time=time) for key, value, step, time in points]
    assert [log(call, metrics=[point]).changed for point in told] == [True] * len(told)
    assert [log(call, metrics=[point]).changed for point in told] == [False] * len(told)
    start(call, "batch", experiment="7")
    log(call, "batch", metrics=told)
    for key in "abc":
        one, batch = (call(ops.MetricColumns(project=P, run_id=run_id, key=key)) for run_id in ("r", "batch"))
        assert (one.times, one.steps, one.values) == (batch.times, batch.steps, batch.values)
    assert got(call).metrics == got(call, "batch").metrics
    assert [(m.key, m.value, m.step) for m in got(call).metrics] == [("a", 1.0, 5), ("b", "NaN", 0), ("c", "-Infinity", 0)]
    found = call(ops.SearchRuns(project=P, experiments=["7"], filter="metrics.a = 1"))  # by the experiment that is kept with it
    assert {run.run_id for run in found.items} == {"r", "batch"}
    with fails("not_found"):
        log(call, "nobody", metrics=told[:1])
    call(ops.BinRun(project=P, run_id="r", lifecycle="deleted"))
    with fails("conflict"):
        log(call, metrics=[Point(key="a", value=9.0, step=9, time=9)])
    assert len(call(ops.MetricColumns(project=P, run_id="r", key="a")).values) == 4


@pytest.mark.postgres
def test_a_point_is_one_message_to_postgresql_and_a_run_that_begins_two(postgres_schema, tmp_path, monkeypatch):
    messages = []
    answers = Session._answers

    def note(session, asked, **more):
        messages.append([one.statement.split()[0] for one in asked])
        return answers(session, asked, **more)

    monkeypatch.setattr(Session, "_answers", note)
    with Database.open(postgres_schema) as database:
        migrate.ensure(database)
        dispatch = Dispatcher(
            database, [Ledger(database, LocalBlobs(tmp_path / "blobs")), *services(LocalBlobs(tmp_path / "blobs"))], complete=False
        )

        def asked(request, **more):
            messages.clear()
            dispatch(request, actor=SYSTEM, **more)
            return list(messages)

        dispatch(ops.StartRun(project=P, run_id="first"), actor=SYSTEM)  # makes the experiment
        made = ops.StartRun(project=P, run_id="r", experiment="0", name="n", tags={"a": "1", "b": "2"})
        assert asked(made) == [["BEGIN", "WITH"], ["INSERT", "COMMIT"]]  # the last two are the event's
        assert dispatch(ops.GetTrackedRun(project=P, run_id="r"), actor=SYSTEM).tags == {"a": "1", "b": "2"}
        point = ops.LogBatch(project=P, run_id="r", metrics=[Point(key="m", value=1.0)])
        assert asked(point) == [["BEGIN", "WITH", "COMMIT"]]
        more = ops.LogBatch(project=P, run_id="r", metrics=[Point(key="m", value=2.0, step=1)])
        for _ in range(2):
            kept = asked(more, idempotency_key="k")  # with an answer to keep, the point is not the last of it
            assert kept[0] == ["BEGIN", "SELECT"]
            assert kept[-1] == ["COMMIT"]
        assert dispatch(ops.MetricColumns(project=P, run_id="r", key="m"), actor=SYSTEM).values == [1.0, 2.0]


def test_many_points_of_a_run_come_again_and_meet_others(call):
    """Batches that are all new, all known, and half of each; written by several at once, each point is kept once."""
    start(call)
    points = [Point(key=f"m{i % 40}", value=float(i), step=i // 40, time=i) for i in range(400)]
    for some in (points[:200], points[:200], points[100:300]):
        log(call, metrics=some)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: log(call, metrics=points[200 + 10 * n :]), range(8)))
    assert [p.value for p in got(call).metrics] == [float(360 + int(p.key[1:])) for p in got(call).metrics]
    assert sorted(p.value for i in range(40) for p in history(call, "r", f"m{i}")) == [float(i) for i in range(400)]


def test_a_changed_parameter_is_a_conflict_and_nothing_of_the_batch_is_kept(call):
    start(call, params={"depth": "4"})
    assert not log(call, params={}).changed
    with fails("conflict", "'depth' of run r was logged before as '4' and now as '5'"):
        log(call, params={"rate": "0.1", "depth": "5"}, metrics=[Point(key="a", value=1.0)], tags={"x": "y"})
    assert (got(call).params, got(call).metrics, got(call).tags) == ({"depth": "4"}, [], {})
    log(call, params={"depth": "4", "rate": "0.1"})
    assert got(call).params == {"depth": "4", "rate": "0.1"}


def test_tags_are_replaced_removed_and_name_the_run(call):
    start(call, name="old")
    log(call, tags={"a": "1", "mlflow.runName": "new", "mlflow.parentRunId": "up"})
    assert (got(call).name, got(call).parent_run) == ("new", "up")
    log(call, tags={"a": "2"}, remove_tags=["mlflow.parentRunId"])
    assert got(call).tags == {"a": "2", "mlflow.runName": "new"}
    with fails("not_found", "no tag 'zz'"):
        log(call, tags={"b": "3"}, remove_tags=["zz"])
    assert "b" not in got(call).tags


@pytest.mark.parametrize("name", ["", "a\x00b", "x" * 251, "x" * 10_000, "a\u202eb", "a\nb", "\ud800"])
def test_names_that_cannot_be_are_refused(call, name):
    start(call)
    for bad in ({"metrics": [Point(key=name, value=1.0)]}, {"params": {name: "1"}}, {"tags": {name: "1"}}):
        with fails("bad_request"):
            log(call, **bad)


@pytest.mark.parametrize(
    "point",
    [
        Point(key="a", value="one"),
        Point(key="a", value=1.0, step=2**63),
        Point(key="a", value=1.0, step=-(2**63) - 1),
        Point(key="a", value=1.0, time=2**63 - 1),
        Point(key="a", value=1.0, time=-(2**63)),
    ],
)
def test_numbers_that_cannot_be_are_refused(call, point):
    start(call)
    with fails("bad_request"):
        log(call, metrics=[Point(key="ok", value=1.0), point])
    assert got(call).metrics == []


def test_extremes_are_kept(call):
    start(call, started=0)
    log(
        call,
        metrics=[Point(key="a", value=1.7976931348623157e308, step=2**63 - 1, time=0), Point(key="b", value=5e-324, step=-(2**63), time=1)],
    )
    assert [(p.value, p.step) for p in got(call).metrics] == [(1.7976931348623157e308, 2**63 - 1), (5e-324, -(2**63))]
    with fails("bad_request", "no date"):
        start(call, "s", started=2**63 - 1)


def test_long_texts_and_texts_with_nul_are_refused(call):
    start(call)
    for bad in ("x" * 100_001, "a\x00b", "\ud800"):
        with fails("bad_request"):
            log(call, params={"a": bad})
        with fails("bad_request"):
            experiment(call, name=bad)
    log(call, tags={"note": "\u202eright to left", "long": "x" * 100_000})
    assert len(got(call).tags["long"]) == 100_000


def test_inputs_are_versions_in_the_lineage(call):
    start(call)
    data = RunInput(name="flights", digest="abc", source_type="local", source="file.csv", schema="{}", context="training", tags={"k": "v"})
    assert call(ops.LogInputs(project=P, run_id="r", inputs=[data])).changed
    assert not call(ops.LogInputs(project=P, run_id="r", inputs=[data])).changed
    assert got(call).inputs == [data]
    around = call(ledger_ops.GetLineage(project=P, digest="r"))
    assert [(v.kind, v.name) for v in around.versions] == [("dataset", "flights")]
    assert around.edges[0].role == "training"
    with fails("bad_request", "digest"):
        call(ops.LogInputs(project=P, run_id="r", inputs=[RunInput(name="d", digest="")]))


# ── logged models ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_logged_model_lives(call):
    start(call)
    made = call(
        ops.CreateLoggedModel(project=P, model_id="m", name="trees", run_id="r", model_type="lgb", params={"p": "1"}, tags={"t": "1"})
    )
    assert made.state == ModelState.pending
    assert made == call(ops.GetLoggedModel(project=P, model_id="m"))
    again = ops.CreateLoggedModel(project=P, model_id="m", name="trees", run_id="r", model_type="lgb")
    assert call(again) == made
    with fails("conflict"):
        call(ops.CreateLoggedModel(project=P, model_id="m", name="other"))
    changed = call(
        ops.UpdateLoggedModel(project=P, model_id="m", state=ModelState.ready, tags={"u": "2"}, remove_tags=["t"], params={"q": "2"})
    )
    assert (changed.state, changed.tags, changed.params) == (ModelState.ready, {"u": "2"}, {"p": "1", "q": "2"})
    with fails("not_found", "no tag"):
        call(ops.UpdateLoggedModel(project=P, model_id="m", remove_tags=["t"]))
    around = call(ledger_ops.GetLineage(project=P, digest="m"))
    assert [(e.child, e.parent, e.role) for e in around.edges] == [("m", "r", "output")]


def test_measurements_of_a_model_are_kept_on_the_run_and_on_the_model(call):
    start(call)
    call(ops.CreateLoggedModel(project=P, model_id="m"))
    log(
        call,
        metrics=[
            Point(key="auc", value=0.9, time=7, model_id="m", dataset_name="d", dataset_digest="1"),
            Point(key="auc", value="NaN", model_id="m"),
        ],
    )
    points = call(ops.GetLoggedModel(project=P, model_id="m")).metrics
    assert [(p.key, p.run_id, p.dataset_name) for p in points if p.time == 7] == [("auc", "r", "d")]
    assert len(points) == 2
    assert [p.key for p in got(call).metrics] == ["auc"]
    with fails("not_found", "logged model"):
        log(call, metrics=[Point(key="x", value=1.0), Point(key="auc", value=0.9, model_id="nope")])
    assert [p.key for p in got(call).metrics] == ["auc"]


def test_a_run_says_what_models_it_read_and_made(call):
    start(call)
    for model_id in ("m", "n"):
        call(ops.CreateLoggedModel(project=P, model_id=model_id))
    models = [RunModel(model_id="m", role="input"), RunModel(model_id="n", role="output", step=3)]
    call(ops.LogInputs(project=P, run_id="r", models=models))
    assert sorted(got(call).models, key=lambda m: m.model_id) == models
    with fails("not_found"):
        call(ops.LogInputs(project=P, run_id="r", models=[RunModel(model_id="zz", role="output")]))
    with fails("bad_request"):
        call(ops.LogInputs(project=P, run_id="r", models=[RunModel(model_id="m", role="friend")]))


def test_a_logged_model_in_the_bin_is_found_only_when_asked_for(call):
    call(ops.CreateLoggedModel(project=P, model_id="m"))
    call(ops.BinLoggedModel(project=P, model_id="m"))
    assert not call(ops.BinLoggedModel(project=P, model_id="m")).changed
    with fails("not_found"):
        call(ops.GetLoggedModel(project=P, model_id="m"))
    for nowhere in (ops.BinLoggedModel(project=P, model_id="n"), ops.UpdateLoggedModel(project=P, model_id="n", state=ModelState.ready)):
        with fails("not_found"):
            call(nowhere)
    assert call(ops.GetLoggedModel(project=P, model_id="m", deleted=True)).lifecycle == Lifecycle.deleted


def test_views_are_kept_listed_and_forgotten(call):
    saved = call(ops.SaveView(project=P, view_id="v", page="runs", name="best", query={"filter": "metrics.auc > 0.8"}))
    assert call(ops.ListViews(project=P)) == [saved]
    assert call(ops.ListViews(project=P, page="models")) == []
    assert call(ops.DeleteView(project=P, view_id="v")).changed
    assert not call(ops.DeleteView(project=P, view_id="v")).changed
    with fails("bad_request", "64 KB"):
        call(ops.SaveView(project=P, view_id="v", page="runs", name="huge", query={"x": "y" * 70_000}))
