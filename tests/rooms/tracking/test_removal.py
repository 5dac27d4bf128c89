"""Removal for good: what goes, what is kept and by what, that nothing refers to what went, and that the rest is as it was."""

import datetime as dt
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import LargeBinary, select, update

from treadle.ledger import Dispatcher, Ledger, audit, sealer
from treadle.operations import ledger as ledger_ops
from treadle.operations import tracking as ops
from treadle.operations.registry import CreateVersion, UpdateVersion
from treadle.records.calls import SYSTEM, Actor, Role
from treadle.records.errors import TreadleError
from treadle.records.ledger import Metric
from treadle.records.states import RunState
from treadle.records.tracking import Point, RunInput, RunModel
from treadle.registry.service import Registry
from treadle.store import tables as t
from treadle.store.blobs import LocalBlobs
from treadle.store.queries import removal as queries
from treadle.tracking import removal
from treadle.tracking.documents import make_documents
from treadle.tracking.service import services
from treadle.workshop.removal import EVERY, LAST, Removals

P = "p"
quick = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def call(database, blobs, tmp_path):
    removals = Removals(database, blobs)
    registry = Registry(database, blobs)
    rooms = [Ledger(database, blobs, heads=tmp_path / "heads"), *services(blobs), registry, removals]
    dispatch = Dispatcher(database, rooms, complete=False)
    removals.dispatch = dispatch

    def ask(request, *, actor=SYSTEM, **more):
        return dispatch(request, actor=actor, **more)

    ask.database, ask.blobs, ask.removals, ask.heads = database, blobs, removals, tmp_path / "heads"
    return ask


def fails(code):
    return pytest.raises(TreadleError, check=lambda e: e.code == code and bool(e.remedy))


def put(call, owner, path, content):
    digest = call.blobs.put(content)
    call(ops.PutFile(project=P, owner=owner, path=path, digest=digest, size=len(content)))
    return digest


def start(call, run_id, *, experiment="0", ended=True, model=True, **more):
    """A run with some of everything that a run can have."""
    call(ops.StartRun(project=P, run_id=run_id, experiment=experiment, params={"depth": "4"}, tags={"kind": "tree"}, **more))
    points = [Point(key="loss", value=1 / (n + 1), step=n, time=1_000_000 + n) for n in range(30)]
    inputs = [RunInput(name="flights", digest="d1"), RunInput(name="own", digest=f"of-{run_id}"[:36])]
    call(ops.LogInputs(project=P, run_id=run_id, inputs=inputs))
    made = f"m-{run_id}"
    if model:
        experiment_id = call(ops.GetTrackedRun(project=P, run_id=run_id)).experiment_id
        call(ops.CreateLoggedModel(project=P, model_id=made, name="net", run_id=run_id, experiment_id=experiment_id, params={"a": "b"}))
        call(ops.LogInputs(project=P, run_id=run_id, models=[RunModel(model_id=made, role="output")]))
        points.append(Point(key="auc", value=0.9, step=1, time=1_000_000, model_id=made, dataset_name="flights", dataset_digest="d1"))
        put(call, made, "MLmodel", f"model of {run_id}".encode())
    call(ops.LogBatch(project=P, run_id=run_id, metrics=points))
    put(call, run_id, "plots/roc.txt", f"plot of {run_id}".encode())
    put(call, run_id, "shared.txt", b"the same in every run")
    if ended:
        call(ops.UpdateRun(project=P, run_id=run_id, state=RunState.finished))


def remove(call, *things, preview=False, **more):
    return call(ops.RemoveForGood(project=P, things=list(things), preview=preview, **more))


def rows(database, but=()):
    """Every row of every table, as text."""
    with database.read() as connection:
        return {
            table.name: sorted(repr(tuple(row)) for row in connection.execute(select(table)))
            for table in t.metadata.sorted_tables
            if table.name not in but
        }


TELLING = ("events", "heads", "idempotency", "home")


def mentions(database, *names):
    """(table, column) of every value that has one of the names in it, the log of what happened aside."""
    found = set()
    with database.read() as connection:
        for table in t.metadata.sorted_tables:
            if table.name in TELLING:
                continue
            for row in connection.execute(select(table)).mappings():
                for column in table.c:
                    text = repr(row[column.name]) if isinstance(column.type, LargeBinary) else str(row[column.name])
                    if any(name in text for name in names):
                        found.add((table.name, column.name))
    return found


def age(blobs, seconds=7200):
    for digest, _ in list(blobs.listing()):
        os.utime(blobs.place(digest), (time.time() - seconds,) * 2)


def intact(call):
    sealer.seal(call.database, publish=call.heads)
    return audit.verify(call.database, call.heads)


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_preview_takes_nothing(call, database):
    start(call, "r1")
    before = rows(database)
    told = remove(call, "run/r1", preview=True)
    assert (told.preview, told.runs, told.logged_models, told.artifacts, told.metric_points) == (True, 1, 1, 3, 31)
    assert (told.things, told.kept) == (["run/r1", "logged-model/m-r1"], [])
    assert told.freed_bytes == sum(len(c) for c in (b"model of r1", b"plot of r1", b"the same in every run"))
    assert rows(database) == before


def test_a_run_goes_with_all_it_has_and_nothing_else_does(call, database, blobs):
    start(call, "keep")
    start(call, "child", parent_run="gone", model=False)
    call(ops.LogBatch(project=P, run_id="child", tags={"mlflow.parentRunId": "gone"}))
    make_documents(database)
    before = rows(database, TELLING)
    assert all("None" not in row for row in before["run_documents"])
    start(call, "gone")
    age(blobs)
    done = remove(call, "run/gone")
    assert (done.runs, done.logged_models, done.metric_points, done.kept) == (1, 1, 31, [])
    assert mentions(database, "gone") == set()
    after = rows(database, TELLING)
    for table, old in before.items():
        if table not in ("runs", "tags", "run_documents"):
            assert after[table] == old, table
    assert [row for row in before["run_documents"] if "child" not in row] + ["('p', 'child', None)"] == sorted(
        after["run_documents"], key=lambda row: "child" in row
    )  # of the child's tags one is gone: what it says is made anew
    assert len(before["tags"]) - len(after["tags"]) == 1  # the child's word for its parent
    assert call(ops.GetTrackedRun(project=P, run_id="child")).parent_run is None
    kept = {b"plot of keep", b"model of keep", b"plot of child", b"the same in every run"}
    assert {blobs.get(d) for d, _ in blobs.listing()} == kept
    assert done.freed_bytes >= len(b"plot of gone" + b"model of gone")
    assert intact(call).intact
    types = [e.type for e in call(ledger_ops.ListEvents(project=P, type="treadle.remov*")).items]
    assert types == ["treadle.removal.begun", "treadle.removed"]


def test_young_blobs_wait(call, blobs):
    start(call, "r")
    done = remove(call, "run/r")
    assert done.runs == 1
    assert len(list(blobs.listing())) == 3
    age(blobs)
    assert call(ledger_ops.CollectGarbage(dry_run=False)).removed == 3


def test_what_is_not_there_or_no_thing(call):
    start(call, "r")
    told = remove(call, "run/none", "experiment/none", "logged-model/none", "model/none", "model/none/3", "run/r")
    assert (told.runs, len(told.kept)) == (1, 5)
    assert remove(call, "run/r").things == []
    for thing in ("", "run", "run/", "dataset/x", "/", "r", "x" * 5000):
        with fails("bad_request"):
            remove(call, thing)
    with fails("bad_request"):
        remove(call, binned_before=2**62)


def test_only_an_admin_removes(call):
    start(call, "r")
    editor = Actor(actor_id="e", name="e", role=Role.editor)
    for preview in (True, False):
        with fails("denied"):
            call(ops.RemoveForGood(project=P, things=["run/r"], preview=preview), actor=editor)


def test_a_run_at_work_is_kept(call, database):
    start(call, "open", ended=False)
    call(ledger_ops.CreateRun(project=P, run_id="queued", pipeline="x"))
    job = {"project": P, "job_id": "queued", "environment": "dev", "kind": "run", "state": "leased", "payload": {}, "due": now()}
    database.write(lambda tx: tx.execute(t.jobs.insert(), {**job, "recorded_time": now()}))
    told = remove(call, "run/open", "run/queued")
    assert told.runs == 0
    assert [k.split(":")[0] for k in told.kept] == ["run/open", "run/queued"]
    for run_id in ("open", "queued"):
        call(ops.BinRun(project=P, run_id=run_id, lifecycle="deleted"))
    told = remove(call, "run/open", "run/queued")
    assert (told.runs, told.kept) == (1, ["run/queued: a worker has it, or will; cancel it first"])


def now():
    return dt.datetime.now(dt.UTC)


def test_a_run_with_more_points_than_a_transaction_takes(call, database, monkeypatch):
    monkeypatch.setattr(removal, "POINTS", 7)
    start(call, "r")
    start(call, "s")
    call(ledger_ops.LogMetrics(project=P, run_id="r", metrics=[Metric(key="k", value=float(n), step=-n) for n in range(20)]))
    lines = [
        {"project": P, "run_id": r, "number": n, "step": "", "level": "info", "text": "x", "time": now()}
        for n in range(1, 16)
        for r in "rs"
    ]
    database.write(lambda tx: tx.execute(t.log_lines.insert(), lines))
    assert remove(call, "run/r").metric_points == 51
    assert mentions(database, "m-r") == set()
    left = rows(database)
    assert (len(left["metrics"]), len(left["log_lines"])) == (31, 15)


def test_a_removal_that_was_cut_is_taken_up(call, database, monkeypatch):
    for n in range(3):
        start(call, f"r{n}")
    drop = queries.drop_runs

    def cut(tx, project, ids):
        raise ZeroDivisionError

    monkeypatch.setattr(queries, "drop_runs", cut)
    with pytest.raises(ZeroDivisionError):
        remove(call, "run/r0", "run/r1")
    monkeypatch.setattr(queries, "drop_runs", drop)
    assert call(ops.GetTrackedRun(project=P, run_id="r0")).lifecycle == "deleted"
    assert remove(call, binned_before=int(time.time() * 1e6) + 10**6).runs == 2
    assert mentions(database, "r0", "r1") == set()
    assert call(ops.GetTrackedRun(project=P, run_id="r2")).lifecycle == "active"


def test_payloads_of_events_are_erased_when_asked(call, database):
    start(call, "secret-run")
    start(call, "other")
    sealer.seal(database, publish=call.heads)
    remove(call, "run/secret-run", erase_events=True)
    report = intact(call)
    assert (report.intact, report.erased) == (True, 3)  # created, moved, and the logged model's
    told = call(ledger_ops.ListEvents(project=P, subject="run/secret-run")).items
    assert [e.payload for e in told] == [None, None]
    assert all(e.payload is not None for e in call(ledger_ops.ListEvents(project=P, subject="run/other")).items)
    assert len(call(ledger_ops.ListEvents(project=P, type="treadle.payload.erased")).items) == 3


# ── what keeps it ────────────────────────────────────────────────────────────────────────────────────────────────────


def register(call, model, **more):
    return call(CreateVersion(project=P, model=model, create=True, **more))


def test_a_registered_version_keeps_its_run_and_its_logged_model(call, database):
    start(call, "r")
    start(call, "s")
    start(call, "u")
    register(call, "delay", run_id="r", source="runs:/r/model")
    register(call, "delay", model_id="m-s", source="models:/m-s")
    told = remove(call, "run/r", "run/s", "run/u", "logged-model/m-s", preview=True)
    assert told.things == ["run/u", "logged-model/m-u"]
    assert "run/r: model/delay/1 refers to it" in told.kept
    assert "logged-model/m-s: model/delay/2 refers to it" in told.kept
    assert "run/s: model/delay/2 refers to it" in told.kept
    assert remove(call, "run/r", "run/s").runs == 0
    with_model = remove(call, "model/delay", "run/r", "run/s", preview=True)
    assert (with_model.models, with_model.runs, with_model.kept) == (1, 2, [])
    done = remove(call, "model/delay", "run/r", "run/s")
    assert (done.models, done.runs, done.logged_models, done.kept) == (1, 2, 2, [])
    assert mentions(database, "m-r", "m-s") == set()
    assert remove(call, "run/u").runs == 1


def test_a_pinned_version_is_kept_and_a_free_one_goes(call):
    start(call, "r")
    for _ in range(2):
        register(call, "delay", run_id="r", source="runs:/r/model")
    call(UpdateVersion(project=P, model="delay", number=1, pinned=True))
    told = remove(call, "model/delay/1", "model/delay/2", "run/r")
    assert (told.versions, told.runs) == (1, 0)
    assert told.things == ["model/delay/2"]
    assert [k.split(":")[0] for k in told.kept] == ["model/delay/1", "run/r"]


def test_a_version_that_comes_meanwhile_keeps_its_run(call, monkeypatch):
    start(call, "r", model=False)
    strip = removal._strip

    def meanwhile(database, project, run_id):
        register(call, "delay", run_id="r", source="runs:/r/model")
        return strip(database, project, run_id)

    monkeypatch.setattr(removal, "_strip", meanwhile)
    told = remove(call, "run/r")
    assert (told.runs, told.kept) == (0, ["run/r: a version refers to it since"])
    assert call(ops.GetTrackedRun(project=P, run_id="r")).params == {"depth": "4"}


# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_experiment_goes_with_its_runs(call, database):
    call(ops.CreateExperiment(project=P, experiment_id="x-trial", name="x-trial", tags={"a": "b"}))
    for run_id in ("x-run-1", "x-run-2"):
        start(call, run_id, experiment="x-trial")
    start(call, "other")
    told = remove(call, "experiment/x-trial")
    assert (told.experiments, told.runs, told.logged_models, told.kept) == (1, 2, 2, [])
    assert mentions(database, "x-trial", "x-run-1", "x-run-2") == set()
    assert call(ops.GetTrackedRun(project=P, run_id="other")).state == RunState.finished


def test_an_experiment_stays_for_what_is_kept_and_the_default_one_always(call):
    call(ops.CreateExperiment(project=P, experiment_id="77", name="trial"))
    start(call, "x1", experiment="77")
    start(call, "x2", experiment="77")
    start(call, "d")
    register(call, "delay", run_id="x1", source="runs:/x1/model")
    told = remove(call, "experiment/77", "experiment/0")
    assert (told.experiments, told.runs) == (0, 2)
    assert {k.split(":")[0] for k in told.kept} == {"run/x1", "logged-model/m-x1", "experiment/77", "experiment/0"}
    assert call(ops.GetExperiment(project=P, experiment="0")).name == "Default"


# ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────────


def old(call, run_id, days, *, binned=None):
    """Let a run have ended, and perhaps gone to the bin, days ago."""
    ended = now() - dt.timedelta(days=days)
    deleted = None if binned is None else now() - dt.timedelta(days=binned)
    values = {"ended": ended, "deleted": deleted, "lifecycle": "active" if binned is None else "deleted"}
    call.database.write(lambda tx: tx.execute(update(t.runs).where(t.runs.c.run_id == run_id).values(**values)))


def rule(call, rule_id, what, days, **more):
    return call(ops.SetRetention(project=P, rule_id=rule_id, what=what, days=days, **more))


def apply(call, preview=False):
    return call(ops.ApplyRetention(project=P, preview=preview))


def test_rules_are_declared_and_taken_back(call):
    made = rule(call, "a", "runs", 30, keep_tagged="keep")
    rule(call, "b", "binned", 7)
    rule(call, "a", "runs", 60)
    assert [(r.rule_id, r.what, r.days) for r in call(ops.ListRetention(project=P))] == [("a", "runs", 60), ("b", "binned", 7)]
    assert made.keep_tagged == "keep"
    rule(call, "a", "runs", 0)
    assert [r.rule_id for r in call(ops.ListRetention(project=P))] == ["b"]
    for what, days in (("everything", 1), ("runs", -1), ("runs", 10**9)):
        with fails("bad_request"):
            rule(call, "x", what, days)


def test_what_is_past_its_time_goes_to_the_bin_and_then_for_good(call):
    for run_id in ("new", "old", "tagged", "held", "older"):
        start(call, run_id)
    for run_id, days in (("old", 40), ("tagged", 40), ("held", 40)):
        old(call, run_id, days)
    old(call, "older", 100, binned=40)
    call(ops.LogBatch(project=P, run_id="tagged", tags={"keep": "1"}))
    register(call, "delay", run_id="held", source="runs:/held/model")
    rule(call, "month", "runs", 30, keep_tagged="keep")
    preview = apply(call, preview=True)
    assert (preview.binned, preview.runs) == (1, 1)
    assert preview.things[:2] == ["bin run/old", "run/older"]
    assert any(k.startswith("run/held") for k in preview.kept)
    done = apply(call)
    assert (done.binned, done.runs, done.things) == (preview.binned, preview.runs, preview.things)
    states = {r: call(ops.GetTrackedRun(project=P, run_id=r)).lifecycle for r in ("new", "old", "tagged", "held")}
    assert states == {"new": "active", "old": "deleted", "tagged": "active", "held": "active"}
    with fails("not_found"):
        call(ops.GetTrackedRun(project=P, run_id="older"))
    assert apply(call).things == []


def test_rules_on_failures_the_bin_files_and_experiments(call):
    call(ops.CreateExperiment(project=P, experiment_id="77", name="trial"))
    start(call, "fine")
    start(call, "failed", ended=False)
    call(ops.UpdateRun(project=P, run_id="failed", state=RunState.failed))
    start(call, "elsewhere", experiment="77")
    for run_id in ("fine", "failed", "elsewhere"):
        old(call, run_id, 10)
    rule(call, "f", "failed_runs", 5)
    assert apply(call).things == ["bin run/failed"]
    rule(call, "f", "failed_runs", 0)
    rule(call, "files", "artifacts", 5, experiment="77")
    assert apply(call, preview=True).artifacts == 2
    done = apply(call)
    assert (done.things, done.artifacts) == (["files of run/elsewhere"], 2)
    assert call(ops.ListFiles(project=P, owner="elsewhere")).files == []
    assert len(call(ops.ListFiles(project=P, owner="fine")).files) == 1
    rule(call, "files", "artifacts", 0)
    old(call, "failed", 10, binned=3)
    rule(call, "bin", "binned", 2)
    assert apply(call).things[0] == "run/failed"


def test_rules_are_applied_by_themselves_once_an_hour(call, database):
    start(call, "old")
    old(call, "old", 40)
    rule(call, "month", "runs", 30)
    assert call.removals.keep() == 1
    assert call(ops.GetTrackedRun(project=P, run_id="old")).lifecycle == "deleted"
    assert call.removals.keep() == 0
    past = int((now() - EVERY).timestamp() * 1e6)
    database.write(lambda tx: tx.execute(update(t.home).where(t.home.c.name == LAST).values(value=str(past))))
    assert call.removals.keep() == 1


# ── any removal at all ───────────────────────────────────────────────────────────────────────────────────────────────

NAMES = ["run-w", "run-x", "run-y", "run-z"]


@quick
@given(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)), st.booleans(), st.booleans())
def test_nothing_refers_to_what_went_and_the_rest_is_as_it_was(call, asked, held, whole, erase):
    """Four runs in two experiments, some of them registered, any of them removed, or an experiment of them."""
    database = call.database
    database.write(lambda tx: [tx.execute(table.delete()) for table in reversed(t.metadata.sorted_tables) if table.name not in TELLING])
    for n, run_id in enumerate(NAMES):
        start(call, run_id, experiment=f"exp-{n % 2}", parent_run=NAMES[n - 1] if n else None)
    for run_id in sorted(held):
        register(call, "delay", run_id=run_id, source=f"runs:/{run_id}/model")
    told = remove(call, *(f"run/{r}" for r in sorted(asked)), *(["experiment/exp-1"] if whole else []), erase_events=erase)
    gone = (asked | ({"run-x", "run-z"} if whole else set())) - held
    assert {thing.partition("/")[2] for thing in told.things if thing.startswith("run/")} == gone
    assert (told.experiments == 1) == (whole and not held & {"run-x", "run-z"})
    assert not gone or mentions(database, *gone) == set()
    for run_id in set(NAMES) - gone:
        run = call(ops.GetTrackedRun(project=P, run_id=run_id))
        assert (run.params, run.tags["kind"], len(run.metrics), len(run.inputs), len(run.models)) == ({"depth": "4"}, "tree", 2, 2, 1)
        assert run.parent_run in (None, *(set(NAMES) - gone))
        for owner, path in ((run_id, "plots/roc.txt"), (f"m-{run_id}", "MLmodel")):
            assert call.blobs.exists(call(ops.GetFile(project=P, owner=owner, path=path)).digest)
    assert intact(call).intact
