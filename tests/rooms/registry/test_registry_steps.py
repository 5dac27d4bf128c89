"""From rows to an approved version, with real fits: what passes, what a gate stops, and what a repeat changes."""

import datetime as dt
import io

import numpy as np
import polars as pl
import pytest
from sqlalchemy import select

from treadle.evaluation import declare as gates
from treadle.evaluation import profiles
from treadle.evaluation.metrics import metric
from treadle.ledger.dispatch import Dispatcher
from treadle.ledger.service import Ledger
from treadle.operations import ledger as ledger_ops
from treadle.operations import registry as ops
from treadle.packaging import bundle
from treadle.packaging.scoring import score_fitted, score_frame
from treadle.pipelines import context
from treadle.records.calls import Actor, Call, Role
from treadle.records.clock import VirtualClock
from treadle.records.definitions import Column, Dataset, Endpoint, Environment, FeatureView, Project, Window
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ledger import Edge, Version
from treadle.registry import service as registry
from treadle.registry import steps
from treadle.store import tables as t
from treadle.store.blobs import LocalBlobs
from treadle.store.queries import workshop as workshop_queries
from treadle.training import fit
from treadle.training import steps as training

NOW = dt.datetime(2013, 2, 15, tzinfo=dt.UTC)
ANA = Actor(actor_id="ana", name="Ana", role=Role.admin)
VIEW = FeatureView(
    name="lateness",
    entity=("carrier",),
    source="flights",
    windows={"share": Window(column="late", aggregate="mean", over_s=3600, hop_s=60)},
)
ENVIRONMENTS = (Environment(name="staging", auto_approve="smoke-policy"), Environment(name="prod"))
PROJECT = Project(
    name="flights",
    datasets=(Dataset(name="flights", columns=(Column(name="carrier", dtype="string", unknown="other"),)),),
    feature_views=(VIEW,),
    environments=ENVIRONMENTS,
    endpoints=(Endpoint(name="delay", model="delay"),),
    code="c0de",
)
FEATURES = ["carrier", "distance", VIEW]
GATES = [gates.beats_baseline("brier", by=0.001), gates.no_worse("brier", by=0.002), gates.slice_floor("roc_auc", 0.6, min_rows=100)]


def rows(n=4000, seed=0, shuffled=False):
    rng = np.random.default_rng(seed)
    share, carrier = rng.random(n), rng.choice(["AA", "UA", "B6"], n)
    late = share + 0.4 * (carrier == "UA") * (share > 0.3) + rng.normal(0, 0.25, n) > 0.6
    if shuffled:
        late = rng.permutation(late)
    return pl.DataFrame(
        {
            "at": [NOW - dt.timedelta(minutes=n - i) for i in range(n)],
            "carrier": carrier.tolist(),
            "distance": rng.integers(80, 3000, n),
            "lateness.share": share,
            "late": late,
        }
    )


class House:
    def __init__(self, database, root):
        self.database = database
        self.blobs = LocalBlobs(root)
        self.registry = registry.Registry(database, self.blobs)
        self.dispatch = Dispatcher(database, [self.registry, Ledger(database, self.blobs)], complete=False)
        self.resources = {"registry": self.registry, "dispatch": self.dispatch, "blobs": self.blobs, "project": PROJECT, "db": database}
        for environment in ENVIRONMENTS:
            row = {
                "project": "flights",
                "environment": environment.name,
                "digest": digest_of(PROJECT),
                "definitions": PROJECT,
                "actor": "ana",
                "event_time": NOW,
                "recorded_time": NOW,
            }
            database.write(lambda tx, row=row: workshop_queries.apply(tx, row))

    def call(self, request):
        return self.dispatch(request, actor=ANA, event_time=NOW)

    def run(self, run_id, environment="staging"):
        self.call(ledger_ops.CreateRun(project="flights", run_id=run_id, environment=environment))
        return context.local(
            project="flights",
            environment=environment,
            run_id=run_id,
            event_time=NOW,
            actor=ANA,
            clock=VirtualClock(NOW),
            resources=self.resources,
        )


@pytest.fixture
def house(database, tmp_path):
    return House(database, tmp_path / "blobs")


def train(learned=None, *, seed=0, shuffled=False, **options):
    """The body of a pipeline, as a project writes it."""
    learned, test = rows(seed=seed, shuffled=shuffled) if learned is None else learned, rows(1500, seed=99)
    fitted = training.fit_lightgbm(learned, features=FEATURES, label="late", params={"n_estimators": 15}, seed=seed, time="at")
    baseline = training.fit_logistic(learned, features=["distance"], label="late")
    report = steps.evaluate(fitted, test, metrics=["roc_auc", "brier"], slices=["carrier"], baseline=baseline)
    return steps.candidate("delay", fitted, report, GATES, **options)


def champion(house, number):
    call = Call(actor=ANA, event_time=NOW)
    house.database.write(
        lambda tx: registry.move_alias(tx, call, project="flights", model="delay", alias="champion", number=number, environment="staging")
    )


def test_a_good_candidate_is_registered_asked_for_and_granted_by_the_policy(house):
    with house.run("run_1"):
        house.database.write(lambda tx: _read(tx, "run_1", "flights-v1"))
        version = train(description="first", card={"use": "delays"})
        again = train(description="first", card={"use": "delays"})
    assert (version.number, version.state, version.metrics.keys()) == (1, "validated", {"roc_auc", "brier"})
    assert again.number == 1
    assert all(g.passed for g in version.gates), version.gates
    assert house.call(ops.GetModelVersion(project="flights", model="delay", number=1)).state == "approved"
    approvals = {a.environment: a for a in house.call(ops.ListApprovals(project="flights", state=None))}
    assert (approvals["staging"].state, approvals["staging"].decided_by) == ("granted", "policy:smoke-policy")
    assert (approvals["prod"].state, approvals["prod"].decided_by) == ("waiting", None)
    detail = house.call(ledger_ops.GetRun(project="flights", run_id="run_1"))
    assert {"roc_auc", "brier", "baseline.brier"} <= set(detail.metrics)
    with house.database.read() as connection:
        approved = connection.execute(select(t.events.c.actor).where(t.events.c.type == "treadle.model.approved")).scalars().all()
    assert approved == ["policy:smoke-policy"]


def _read(tx, run_id, digest):
    from treadle.ledger import lineage

    lineage.add_version(tx, Version(project="flights", digest=digest, kind="dataset", name="flights", number=1), event_time=NOW)
    lineage.add_edge(tx, Edge(project="flights", child=run_id, parent=digest, role="read", run_id=run_id))


def test_the_bundle_holds_what_serving_and_monitoring_need(house):
    with house.run("run_1"):
        house.database.write(lambda tx: _read(tx, "run_1", "flights-v1"))
        version = train()
    sealed, predictor = bundle.load(house.blobs, version.bundle_digest)
    assert (sealed.views, sealed.code_digest, sealed.trained_on, sealed.event_time) == ((VIEW,), "c0de", ("flights-v1",), NOW)
    assert sealed.onnx_equal is not None
    assert sealed.onnx_equal < 1e-12
    assert [(c.name, c.origin, c.unknown) for c in sealed.signature.inputs] == [
        ("carrier", "request", "other"),
        ("distance", "request", "null"),
        ("lateness.share", "view", "null"),
    ]
    assert any(line.startswith("lightgbm==") for line in sealed.environment)
    assert sealed.card["test"]["metrics"] == version.metrics
    reference = profiles.from_bytes(bundle.content(house.blobs, sealed, bundle.PROFILE))
    assert set(reference.columns) == {"carrier", "distance", "lateness.share", steps.SCORE}
    fresh = rows(1000, seed=5)
    window = profiles.profile(fresh.with_columns(pl.Series(steps.SCORE, score_frame(sealed.signature, predictor, fresh))))
    assert max(profiles.psi_by_column(reference, window).values()) < 0.1


def test_a_candidate_trained_on_shuffled_labels_is_stopped(house):
    with house.run("run_1"):
        good = train()
    champion(house, good.number)
    with house.run("run_2"):
        bad = train(shuffled=True)
    assert bad.state == "rejected"
    failed = [g.gate for g in bad.gates if not g.passed]
    assert "no_worse(brier)" in failed
    assert "slice_floor(roc_auc)" in failed
    assert len(house.call(ops.ListApprovals(project="flights", state=None))) == 2  # of the good one
    with pytest.raises(TreadleError, match="cannot be approved"):
        house.call(ops.RequestApproval(project="flights", approval_id="x", environment="prod", subject="model/delay/2", question="?"))


def test_what_passed_is_fitted_again_on_all_rows_and_the_record_says_which_was_measured(house):
    everything = pl.concat([rows(), rows(1500, seed=99)])
    with house.run("run_1"):
        version = train(refit=everything)
    assert version.state == "validated"
    sealed, _ = bundle.load(house.blobs, version.bundle_digest)
    model = bundle.content(house.blobs, sealed, bundle.MODEL["lightgbm"])
    given = {"features": [c.name for c in sealed.signature.inputs], "label": "late", "params": {"n_estimators": 15}, "seed": 0}
    unknown = {"carrier": "other"}
    judged = fit.fit_lightgbm(rows(), **given, unknown=unknown, views=[VIEW], time="at")
    assert model == fit.fit_lightgbm(everything, **given, unknown=unknown, views=[VIEW], time="at").content
    assert sealed.card["rows"] == len(everything)
    assert sealed.card["judged"] == {"rows": len(rows()), "until": judged.event_time.isoformat()}
    assert bundle.content(house.blobs, sealed, bundle.JUDGED) == judged.content
    test = rows(1500, seed=99)
    truth = test["late"].cast(float).to_numpy()
    assert version.metrics["brier"] == pytest.approx(np.mean((score_fitted(judged, test) - truth) ** 2), abs=1e-12)
    reference = profiles.from_bytes(bundle.content(house.blobs, sealed, bundle.PROFILE))
    assert reference.rows == len(everything)
    card = house.call(ops.GetCard(project="flights", model="delay", number=1))
    told = next(s for s in card.sections if s.key == "metrics").fields[0]
    assert told.name == "measured on"
    assert f"the same fit of {len(rows())} rows" in told.text


def test_what_failed_is_registered_as_it_was_judged(house):
    with house.run("run_1"):
        version = train(shuffled=True, refit=rows())
    sealed, _ = bundle.load(house.blobs, version.bundle_digest)
    assert version.state == "rejected"
    assert "judged" not in sealed.card


def test_a_champion_that_has_learned_from_the_test_rows_is_compared_as_it_was_judged(house):
    before = rows().with_columns(pl.col("at") - dt.timedelta(days=30))
    with house.run("run_1"):
        train(before, refit=pl.concat([before, rows(1500, seed=99)]))
    champion(house, 1)
    with house.run("run_2"):
        version = train(before, seed=1)
    gate = next(g for g in version.gates if g.gate == "no_worse(brier)")
    assert "champion 1, as it was judged, " in gate.text
    assert "has learned" not in gate.text
    first = house.call(ops.GetModelVersion(project="flights", model="delay", number=1))
    assert gate.facts["champion"] == first.metrics["brier"]


def test_a_gate_says_that_the_champion_has_seen_test_rows(house):
    with house.run("run_1"):
        train(rows(1500, seed=99))
    champion(house, 1)
    with house.run("run_2"):
        version = train(seed=1)
    told = next(g for g in version.gates if g.gate == "no_worse(brier)").text
    assert "The champion has learned from rows up to 2013-" in told


def test_a_shuffled_first_candidate_is_stopped_without_a_champion(house):
    with house.run("run_1"):
        version = train(shuffled=True)
    assert version.state == "rejected"
    assert next(g for g in version.gates if g.gate == "no_worse(brier)").passed  # nothing to be worse than


def test_the_champion_scores_the_same_rows(house):
    with house.run("run_1"):
        train()
    champion(house, 1)
    with house.run("run_2"):
        fitted = training.fit_lightgbm(rows(seed=3), features=FEATURES, label="late", params={"n_estimators": 15})
        test = rows(1000, seed=7)
        report = steps.evaluate(fitted, test, metrics=["brier"], slices=["carrier"])
        none = steps.evaluate(fitted, test, metrics=["brier"], champion=False)
    sealed, predictor = bundle.load(house.blobs, house.registry.champion("flights", "delay", "staging").bundle_digest)
    scores = score_frame(sealed.signature, predictor, test)
    assert report.champion_version == 1
    assert report.champion["brier"] == pytest.approx(np.mean((scores - test["late"].cast(float).to_numpy()) ** 2), abs=1e-12)
    assert (report.test_from, report.test_until) == (test["at"].min(), test["at"].max())
    assert none.champion is None
    assert none.test_digest == report.test_digest != ""


def test_features_are_named_clearly():
    with context.local(project="flights", resources={"project": PROJECT}):
        assert training.columns_of(FEATURES) == (["carrier", "distance", "lateness.share"], (VIEW,))
        assert training.columns_of(["lateness.share"]) == (["lateness.share"], (VIEW,))
        with pytest.raises(TreadleError, match="named twice"):
            training.columns_of([VIEW, "lateness.share"])
        with pytest.raises(TreadleError, match="no feature"):
            training.columns_of([3])


def test_outside_a_home_a_notebook_can_fit_and_evaluate():
    @metric(better="lower")
    def worst(truth, scores):
        return float(np.abs(truth - scores).max())

    fitted = training.fit_lightgbm(rows(800), features=["carrier", "distance"], label="late", params={"n_estimators": 3})
    report = steps.evaluate(fitted, rows(200, seed=4), metrics=["brier", worst])
    assert set(report.metrics) == {"brier", "worst"}
    assert report.directions == {"worst": -1}
    assert len(pl.read_ipc(io.BytesIO(fitted.sample))) == 800
    with pytest.raises(TreadleError, match="No run is going on"):
        steps.candidate("delay", fitted, report)


def test_several_models_need_to_be_told_apart():
    project = Project(name="p", endpoints=(Endpoint(name="a", model="one"), Endpoint(name="b", model="two")))
    with context.local(project="p", resources={"project": project}), pytest.raises(TreadleError, match="several models"):
        steps.evaluate(None, None)
