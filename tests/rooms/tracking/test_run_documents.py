"""Documents of ended runs: whatever is done to a run, one that is there says what the rows say; and which runs have one."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.ledger import Dispatcher, Ledger
from treadle.operations import ledger as ledger_ops
from treadle.operations import tracking as ops
from treadle.records import told
from treadle.records.calls import SYSTEM
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.ledger import Metric
from treadle.records.states import RunState
from treadle.records.tracking import Lifecycle, ModelState, Point, RunHead, RunInput, RunModel
from treadle.store.blobs import LocalBlobs
from treadle.store.driver import fetch
from treadle.store.queries import removal, run_documents, run_reads
from treadle.store.queries import tracking as queries
from treadle.tracking.documents import make_documents
from treadle.tracking.service import services

P = "p"


@pytest.fixture
def call(database, tmp_path):
    blobs = LocalBlobs(tmp_path / "blobs")
    dispatch = Dispatcher(database, [Ledger(database, blobs, heads=tmp_path / "heads"), *services(blobs)], complete=False)

    def ask(request):
        return dispatch(request, actor=SYSTEM)

    ask.database = database
    return ask


def documents(call):
    """Document and rows of each run that has one."""
    with call.database.read() as connection:
        rows = fetch(connection, "SELECT run_id, document FROM run_documents WHERE project = ? AND document <> ''", P)
        return {run_id: (run_documents.read(text), logged(connection, run_id)) for run_id, text in rows}


def made(call):
    """The same once the worker had its turn."""
    make_documents(call.database)
    return documents(call)


def logged(connection, run_id):
    """What a run's rows say, read the plain way."""

    def rows(statement):
        return fetch(connection, statement, P, run_id)

    of = "WHERE t.project = ? AND t.run_id = ?"
    points = [
        Point(key=name, value=told.number(value), step=step, time=time)
        for name, value, step, time in rows(f"SELECT name, value, step, time FROM latest_metrics t {of} ORDER BY name")
    ]
    params, tags = (dict(map(tuple, rows(f"SELECT name, value FROM {table} t {of} ORDER BY name"))) for table in ("params", "tags"))
    known = "d.project = t.project AND d.experiment = t.experiment AND d.name = t.name AND d.digest = t.digest"
    columns = "t.name, t.digest, t.context, t.tags, d.source_type, d.source, d.schema, d.profile"
    inputs = [
        RunInput(
            name=name,
            digest=digest,
            context=context,
            tags=msgspec.json.decode(tagged),
            source_type=kind or "",
            source=source or "",
            schema=schema,
            profile=profile,
        )
        for name, digest, context, tagged, kind, source, schema, profile in rows(
            f"SELECT {columns} FROM run_inputs t LEFT JOIN tracked_datasets d ON {known} {of} ORDER BY t.created, t.name, t.digest"
        )
    ]
    statement = f"SELECT model_id, role, step FROM run_models t {of} ORDER BY recorded_time, step, model_id"
    models = [RunModel(model_id=model_id, role=role, step=step) for model_id, role, step in rows(statement)]
    return run_documents.Logged(points, params, tags, inputs, models)


def ended(call, run_id, state=RunState.finished):
    call(ops.StartRun(project=P, run_id=run_id, tags={"team": "red"}, params={"depth": "4"}))
    call(ops.LogBatch(project=P, run_id=run_id, metrics=[Point(key="auc", value=0.5, step=1, time=7)]))
    call(ops.UpdateRun(project=P, run_id=run_id, state=state))
    make_documents(call.database)


def got(call, run_id="r"):
    return call(ops.GetTrackedRun(project=P, run_id=run_id))


def test_a_run_that_ends_has_a_document_and_reads_as_before(call):
    call(ops.StartRun(project=P, run_id="r", tags={"b": "é\n\"'", "a": "1"}, params={"z": "", "y": "2"}))
    call(ops.CreateLoggedModel(project=P, model_id="m", name="net", run_id="r", experiment_id="0"))
    data = RunInput(name="flights", digest="d1", source_type="http", source="https://x", schema="{}", context="train", tags={"k": "v"})
    call(ops.LogInputs(project=P, run_id="r", inputs=[data], models=[RunModel(model_id="m", role="output", step=3)]))
    words = [
        Point(key=f"w{n}", value=value, step=n, time=1_000 - 700 * n)
        for n, value in enumerate(["NaN", "Infinity", "-Infinity", 1e-310, 0.1, 123456789.123456789])
    ]
    call(ops.LogBatch(project=P, run_id="r", metrics=[*words, Point(key="far", value=2.0, step=2**62, time=None)]))
    before = got(call)
    assert documents(call) == {}
    assert {p.key: repr(p.value) for p in before.metrics} == {
        "far": "2.0",
        "w0": "'NaN'",
        "w1": "'Infinity'",
        "w2": "'-Infinity'",
        "w3": "1e-310",
        "w4": "0.1",
        "w5": "123456789.12345679",
    }
    answer = call(ops.UpdateRun(project=P, run_id="r", state=RunState.finished))
    assert documents(call) == {}, "whoever ends a run waits for no document"
    undocumented = got(call)
    (document, rows) = made(call)["r"]
    assert document == rows
    after = got(call)
    assert undocumented == after
    for part in ("metrics", "params", "tags", "inputs", "models"):
        assert getattr(after, part) == getattr(before, part), part
    assert [p.value for p in after.metrics[1:4]] == ["NaN", "Infinity", "-Infinity"]
    assert [p.time for p in after.metrics[1:4]] == [1_000, 300, -400]
    assert answer == RunHead(**{name: getattr(after, name) for name in RunHead.__struct_fields__})
    assert (answer.state, answer.ended) == ("finished", after.ended)


def test_whoever_passes_a_page_on_has_it_in_the_words_of_the_protocol(call):
    model = ops.LogInputs(project=P, run_id="a", inputs=[RunInput(name="flights", digest="d", source="s")])
    for run_id in ("a", "b", "c"):
        point = Point(key="auc", value="NaN", step=2, time=-1)
        tags = {"team": "red", "mood": 'a "b"\n'}
        call(ops.StartRun(project=P, run_id=run_id, started=1, tags=tags, params={"depth": ""}))
        call(ops.LogBatch(project=P, run_id=run_id, metrics=[point]))
    call(ops.StartRun(project=P, run_id="d", started=1))
    call(model)
    for run_id in ("a", "b", "d"):
        call(ops.UpdateRun(project=P, run_id=run_id, state=RunState.finished, ended=5))
    assert set(made(call)) == {"a", "b", "d"}
    found = call(ops.SearchRunDocuments(project=P, order_by=["attributes.run_id ASC"])).items
    data = {
        "metrics": [{"key": "auc", "value": "NaN", "timestamp": -1, "step": 2}],
        "params": [{"key": "depth", "value": ""}],
        "tags": [{"key": "mood", "value": 'a "b"\n'}, {"key": "team", "value": "red"}],
    }
    assert [(r.run_id, r.state, r.ended, msgspec.json.decode(r.data)) for r in found] == [
        ("a", "finished", 5, data),
        ("b", "finished", 5, data),
        ("c", "running", None, data),
        ("d", "finished", 5, {}),
    ]
    assert [r.inputs for r in found] == [[RunInput(name="flights", digest="d", source="s")], [], [], []]


@pytest.mark.parametrize("state", [RunState.finished, RunState.failed, RunState.cancelled])
def test_whatever_way_it_ended(call, state):
    ended(call, "r", state)
    assert set(documents(call)) == {"r"}


def test_the_page_of_a_search_has_runs_with_a_document_and_without(call):
    ended(call, "a")
    call(ops.StartRun(project=P, run_id="b", tags={"team": "blue"}))
    found = call(ops.SearchRuns(project=P, columns=["params.depth", "metrics.*"]))
    assert {r.run_id: (r.params, r.tags, [p.key for p in r.metrics]) for r in found.items} == {
        "a": ({"depth": "4"}, {}, ["auc"]),
        "b": ({}, {}, []),
    }


def test_one_that_runs_again_has_none_until_it_ends_again(call):
    ended(call, "r")
    call(ops.UpdateRun(project=P, run_id="r", state=RunState.running))
    assert made(call) == {}
    call(ops.LogBatch(project=P, run_id="r", tags={"team": "blue"}))
    assert made(call) == {}
    call(ops.UpdateRun(project=P, run_id="r", state=RunState.failed))
    assert made(call)["r"][0].tags == {"team": "blue"}


def test_a_tag_of_an_ended_run_has_it_made_anew(call):
    ended(call, "r")
    call(ops.LogBatch(project=P, run_id="r", tags={"reviewed": "yes"}, remove_tags=["team"]))
    assert documents(call) == {}
    assert got(call).tags == {"reviewed": "yes"}
    assert made(call)["r"][0].tags == {"reviewed": "yes"}


def test_a_name_has_it_made_anew_being_a_tag_too(call):
    ended(call, "r")
    call(ops.UpdateRun(project=P, run_id="r", name="best"))
    assert documents(call) == {}
    assert made(call)["r"][0].tags["mlflow.runName"] == "best"
    call(ops.UpdateRun(project=P, run_id="r", state=RunState.finished, name="best of all"))
    assert made(call)["r"][0].tags["mlflow.runName"] == "best of all"


def test_a_single_measurement_of_an_ended_run_has_it_made_anew(call):
    ended(call, "r")
    call(ops.LogBatch(project=P, run_id="r", metrics=[Point(key="auc", value=0.75, step=2, time=8)]))
    assert documents(call) == {}
    assert [p.value for p in got(call).metrics] == [0.75]
    assert [p.value for p in made(call)["r"][0].metrics] == [0.75]


def test_one_that_is_told_again_to_have_ended_keeps_its_document(call):
    ended(call, "r")
    call(ops.UpdateRun(project=P, run_id="r", state=RunState.failed, ended=9))
    assert set(documents(call)) == {"r"}
    assert (got(call).state, got(call).ended.microsecond) == (RunState.failed, 9)


def test_many_are_made_in_pieces_whatever_project_they_are_of(call, monkeypatch):
    monkeypatch.setattr("treadle.tracking.documents.AT_ONCE", 3)
    for number in range(7):
        project = P if number < 5 else "other"
        call(ops.StartRun(project=project, run_id=f"r{number}", tags={"n": str(number)}))
        call(ops.UpdateRun(project=project, run_id=f"r{number}", state=RunState.finished))
    assert make_documents(call.database) == 7
    assert make_documents(call.database) == 0
    assert {run_id: document.tags["n"] for run_id, (document, _) in documents(call).items()} == {f"r{n}": str(n) for n in range(5)}
    with call.database.read() as connection:
        assert fetch(connection, "SELECT COUNT(*) FROM run_documents WHERE project = 'other' AND document <> ''")[0][0] == 2


def test_what_is_refused_leaves_it(call):
    ended(call, "r")
    with pytest.raises(TreadleError):
        call(ops.LogBatch(project=P, run_id="r", params={"depth": "5"}, tags={"reviewed": "yes"}))
    document, rows = documents(call)["r"]
    assert document == rows
    assert document.tags == {"team": "red"}


def test_what_happened_between_the_look_and_the_write_counts(call):
    for run_id in ("on", "tagged", "gone"):
        ended(call, run_id)
    for run_id in ("on", "tagged", "gone"):
        call(ops.LogBatch(project=P, run_id=run_id, tags={"reviewed": "yes"}))
    with call.database.read() as connection:
        wanted = run_documents.wanted(connection, 10)
    assert sorted(wanted[P]) == ["gone", "on", "tagged"]
    call(ops.UpdateRun(project=P, run_id="on", state=RunState.running))
    call.database.write(lambda tx: removal.drop_runs(tx, P, ["gone"]))
    make_documents(call.database)
    call(ops.LogBatch(project=P, run_id="tagged", tags={"reviewed": "twice"}))
    call.database.write(lambda tx: queries.make_documents(tx, project=P, run_ids=wanted[P]))
    assert {run_id: document.tags["reviewed"] for run_id, (document, _) in documents(call).items()} == {"tagged": "twice"}
    call.database.write(lambda tx: tx.exec_driver_sql("UPDATE tags SET value = 'unseen' WHERE name = 'reviewed'"))
    call.database.write(lambda tx: queries.make_documents(tx, project=P, run_ids=wanted[P]))
    assert documents(call)["tagged"][0].tags["reviewed"] == "twice", "one that is there is left alone"


def test_a_run_with_a_great_many_things_has_none(call):
    call(ops.StartRun(project=P, run_id="r"))
    points = [Point(key=f"m{n}", value=1.0, time=1) for n in range(run_documents.MOST)]
    call(ops.LogBatch(project=P, run_id="r", metrics=points))
    call(ops.UpdateRun(project=P, run_id="r", state=RunState.finished))
    assert set(made(call)) == {"r"}
    call(ops.LogBatch(project=P, run_id="r", tags={"one": "more"}))
    assert made(call) == {}
    assert make_documents(call.database) == 0, "nothing is tried again and again"
    assert len(got(call).metrics) == run_documents.MOST
    call(ops.LogBatch(project=P, run_id="r", remove_tags=["one"]))
    assert set(made(call)) == {"r"}


def test_a_run_of_a_pipeline_has_none(call):
    call(ledger_ops.CreateRun(project=P, run_id="r", pipeline="delay"))
    call(ledger_ops.MoveRun(project=P, run_id="r", state="running"))
    call(ledger_ops.MoveRun(project=P, run_id="r", state="finished"))
    call(ops.LogBatch(project=P, run_id="r", tags={"reviewed": "yes"}))
    call(ops.UpdateRun(project=P, run_id="r", name="nightly"))
    assert made(call) == {}
    assert got(call).tags["reviewed"] == "yes"


NAMES = st.sampled_from(["a", "b"])
STATES = [RunState.running, RunState.finished, RunState.failed]
ACTIONS = st.one_of(
    st.tuples(st.just("state"), st.sampled_from(STATES)),
    st.tuples(st.just("the worker's turn")),
    st.tuples(st.just("point"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("points"), st.lists(st.tuples(NAMES, st.integers(0, 3)), min_size=2, max_size=4)),
    st.tuples(st.just("tag"), NAMES, st.text("xy", max_size=2)),
    st.tuples(st.just("untag"), NAMES),
    st.tuples(st.just("param"), NAMES, st.text("xy", max_size=2)),
    st.tuples(st.just("input"), NAMES),
    st.tuples(st.just("model"), NAMES),
    st.tuples(st.just("name"), NAMES),
    st.tuples(st.just("move"), st.sampled_from(["0", "other"])),
    st.tuples(st.just("bin"), st.sampled_from(list(Lifecycle))),
    st.tuples(st.just("metrics of the ledger"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("tags of the ledger"), NAMES, st.text("xy", max_size=2)),
    st.tuples(st.just("remove the model"), NAMES),
)


def act(call, run_id, action):
    kind, *given = action
    if kind == "the worker's turn":
        return make_documents(call.database)
    if kind in ("model", "remove the model"):
        model_id = f"{run_id}-{given[0]}"
        if kind == "remove the model":
            return call.database.write(lambda tx: removal.drop_models(tx, P, [model_id]))
        call(ops.CreateLoggedModel(project=P, model_id=model_id, name="net", run_id=run_id, experiment_id="0"))
        call(ops.UpdateLoggedModel(project=P, model_id=model_id, state=ModelState.ready))
        return call(ops.LogInputs(project=P, run_id=run_id, models=[RunModel(model_id=model_id, role="output")]))
    shared = {"project": P, "run_id": run_id}
    asked = {
        "state": lambda state: ops.UpdateRun(**shared, state=state),
        "point": lambda name, step: ops.LogBatch(**shared, metrics=[Point(key=name, value=step / 4, step=step, time=step)]),
        "points": lambda some: ops.LogBatch(**shared, metrics=[Point(key=n, value=s / 8, step=s, time=s) for n, s in some]),
        "tag": lambda name, text: ops.LogBatch(**shared, tags={name: text}),
        "untag": lambda name: ops.LogBatch(**shared, remove_tags=[name]),
        "param": lambda name, text: ops.LogBatch(**shared, params={name: text}),
        "input": lambda name: ops.LogInputs(**shared, inputs=[RunInput(name=name, digest="d", source="s")]),
        "name": lambda name: ops.UpdateRun(**shared, name=name),
        "move": lambda experiment: ops.UpdateRun(**shared, experiment=experiment),
        "bin": lambda lifecycle: ops.BinRun(**shared, lifecycle=str(lifecycle)),
        "metrics of the ledger": lambda name, step: ledger_ops.LogMetrics(**shared, metrics=[Metric(key=name, value=step / 16, step=step)]),
        "tags of the ledger": lambda name, text: ledger_ops.SetTags(**shared, tags={name: text}),
    }[kind]
    return call(asked(*given))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(actions=st.lists(ACTIONS, min_size=1, max_size=14))
def test_a_document_says_what_the_rows_say(call, actions):
    run_id = new_id("run")
    ended(call, run_id)
    for action in actions:
        try:
            act(call, run_id, action)
        except TreadleError as error:
            if error.code not in ("bad_request", "conflict", "not_found"):
                raise
        with call.database.read() as connection:
            known, rows = run_reads.tracked_runs(connection, P, [run_id])[0], logged(connection, run_id)
            passed = run_reads.documents(connection, P, [run_id])[0]
        assert (known.metrics, known.params, known.tags, known.inputs, known.models) == (*msgspec.structs.astuple(rows),), action
        assert msgspec.json.decode(passed.data) == told.data(rows.metrics, rows.params, rows.tags), action
        assert (passed.inputs, passed.models) == (rows.inputs, rows.models), action
        document, rows = documents(call).get(run_id, (None, None))
        assert document == rows, action
    known = got(call, run_id)
    if known.lifecycle == Lifecycle.deleted:
        call(ops.BinRun(project=P, run_id=run_id, lifecycle="active"))
    call(ops.UpdateRun(project=P, run_id=run_id, state=RunState.finished, name="at the end"))
    document, rows = made(call)[run_id]
    assert document == rows


def test_a_run_that_ends_while_others_still_log_to_it(call):
    runs = [f"r{n}" for n in range(6)]
    for run_id in runs:
        call(ops.StartRun(project=P, run_id=run_id))

    def log(number):
        for run_id in runs:
            call(ops.LogBatch(project=P, run_id=run_id, metrics=[Point(key=f"m{number}", value=1.0, step=1, time=1)]))
            call(ops.LogBatch(project=P, run_id=run_id, tags={f"t{number}": "x"}))

    def end(state):
        for run_id in runs:
            call(ops.UpdateRun(project=P, run_id=run_id, state=state))

    def make():
        for _ in range(20):
            make_documents(call.database)

    with ThreadPoolExecutor(7) as pool:
        states = (RunState.finished, RunState.running, RunState.finished)
        works = [*(pool.submit(log, n) for n in range(3)), *(pool.submit(end, state) for state in states), pool.submit(make)]
        for work in works:
            work.result()
    for found in (documents(call), made(call)):
        for run_id, (document, rows) in found.items():
            assert document == rows, run_id
    for run_id in runs:
        known = got(call, run_id)
        assert (len(known.metrics), len(known.tags)) == (3, 3)
