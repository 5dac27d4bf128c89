"""The registry on real databases: versions, states, aliases, approvals, and that retries change nothing."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from registry_house import ANA, FAILED, NOW, PASSED, House
from sqlalchemy import select

from treadle.operations import registry as ops
from treadle.records.calls import Actor, Grant, Role
from treadle.records.errors import TreadleError
from treadle.records.states import VersionState
from treadle.registry import service as registry
from treadle.store import migrate
from treadle.store import tables as t
from treadle.store.db import Database


@pytest.fixture
def house(database, tmp_path):
    return House(database, tmp_path / "blobs")


def test_registered_numbered_and_listed(house):
    first = house.register()
    assert (first.number, first.state, first.actor, first.event_time) == (1, VersionState.validated, "ana", NOW)
    assert house.register() == first
    rejected = house.register("run_2", gates=FAILED)
    assert (rejected.number, rejected.state) == (2, VersionState.rejected)
    assert house.version(2).gates == FAILED
    assert house.version(0).number == 2
    for run in ("run_3", "run_4", "run_5"):
        house.register(run)
    page = house(ops.ListModelVersions(project="flights", model="delay", limit=2))
    assert ([v.number for v in page.items], page.page.next) == ([5, 4], "4")
    rest = house(ops.ListModelVersions(project="flights", model="delay", limit=9, page="4"))
    assert ([v.number for v in rest.items], rest.page.next) == ([3, 2, 1], None)
    assert [e for e in house.events() if e[0] == "treadle.model.registered"][:2] == [
        ("treadle.model.registered", "model/delay/1", ""),
        ("treadle.model.registered", "model/delay/2", ""),
    ]
    assert len(house.events()) == 5


def test_what_is_not_registered(house):
    house.register()
    cases = [
        ({"metrics": {"roc_auc": 0.9}}, "conflict"),
        ({"gates": FAILED}, "conflict"),
        ({"bundle_digest": "0" * 64}, "not_found"),
        ({"run_id": "run_9"}, "bad_request"),
        ({"model": "other"}, "bad_request"),
        ({"bundle_digest": house.blobs.put(b"no bundle")}, "corrupt"),
    ]
    for changes, code in cases:
        with pytest.raises(TreadleError) as caught:
            house.register(**changes) if "model" not in changes else house(
                ops.RegisterVersion(project="flights", model="other", bundle_digest=house.bundle(), run_id="run_1")
            )
        assert caught.value.code == code, changes
    with pytest.raises(TreadleError, match="no page"):
        house(ops.ListModelVersions(project="flights", model="delay", page="x"))
    with pytest.raises(TreadleError) as caught:
        house.version(7)
    assert caught.value.code == "not_found"


def test_many_register_at_once_without_a_gap(house):
    with ThreadPoolExecutor(6) as pool:
        numbers = sorted(v.number for v in pool.map(lambda i: house.register(f"run_{i % 12}"), range(24)))
    assert numbers == sorted([*range(1, 13)] * 2)


def test_lineage_leads_from_the_version_to_everything(house):
    version = house.register()
    with house.database.read() as connection:
        edges = {(e.child, e.parent): e.role for e in connection.execute(select(t.edges))}
        kinds = {v.kind for v in connection.execute(select(t.versions))}
    node = registry.model_node("flights", "delay", 1)
    assert edges[node, version.bundle_digest] == "packages"
    assert edges[version.bundle_digest, "run_1"] == "sealed_by"
    assert edges[version.bundle_digest, "data1"] == "trained_on"
    assert edges[version.bundle_digest, "c0de"] == "code"
    assert {"bundle", "model", "code", "environment"} <= kinds


def test_approval_with_four_eyes(house):
    house.register()
    asked = house.ask(1)
    assert (asked.state, asked.asked_by) == ("waiting", "ana")
    assert house.ask(1) == asked
    assert house.ask(1, approval_id="another") == asked  # one question at a time
    with pytest.raises(TreadleError) as caught:
        house.ask(2)
    assert caught.value.code == "not_found"
    with pytest.raises(TreadleError, match="four eyes") as caught:
        house.decide(asked.approval_id, actor=ANA)
    assert caught.value.code == "denied"
    with pytest.raises(TreadleError) as caught:
        house.decide(asked.approval_id, actor=Actor(actor_id="eve", name="Eve", role=Role.editor))
    assert caught.value.code == "denied"
    granted = house.decide(asked.approval_id)
    assert (granted.state, granted.decided_by, granted.decided_time) == ("granted", "ben", NOW)
    assert house.decide(asked.approval_id) == granted
    with pytest.raises(TreadleError) as caught:
        house.decide(asked.approval_id, grant=False)
    assert caught.value.code == "conflict"
    assert house.version(1).state == VersionState.approved
    assert ("treadle.model.approved", "model/delay/1", "prod") in house.events()
    with house.database.read() as connection:
        assert registry.approved_for(connection, "flights", "delay", 1, "prod") == granted
        assert registry.approved_for(connection, "flights", "delay", 1, "staging") is None
    assert house(ops.ListApprovals(project="flights")) == []
    assert house(ops.ListApprovals(project="flights", state="granted")) == [granted]
    assert house(ops.GetApproval(project="flights", approval_id=asked.approval_id)) == granted


def test_an_approver_of_one_environment_decides_there_only(house):
    house.register()
    here = Actor(actor_id="pia", name="Pia", grants=(Grant(project="flights", environment="prod", role=Role.approver),))
    staging, prod = house.ask(1, "staging"), house.ask(1, "prod")
    for approval, environment, code in ((prod, "", "denied"), (staging, "staging", "denied"), (staging, "prod", "bad_request")):
        with pytest.raises(TreadleError) as caught:
            house(ops.DecideApproval(project="flights", approval_id=approval.approval_id, grant=True, environment=environment), here)
        assert caught.value.code == code
    request = ops.DecideApproval(project="flights", approval_id=prod.approval_id, grant=True, environment="prod")
    assert house(request, here).decided_by == "pia"


def test_two_eyes_where_declared_and_refusals(house):
    house.apply("dev", four_eyes=False)
    house.register()
    assert house.decide(house.ask(1, "dev").approval_id, actor=ANA).state == "granted"
    refused = house.decide(house.ask(1, "prod").approval_id, grant=False)
    assert refused.state == "refused"
    assert house.version(1).state == VersionState.approved  # in dev
    assert ("treadle.model.refused", "model/delay/1", "prod") in house.events()
    assert house.ask(1, "prod", approval_id="again").state == "waiting"  # one may ask again
    house.register("run_2", gates=FAILED)
    with pytest.raises(TreadleError, match=r"0\.5 is too low"):
        house.ask(2)
    with pytest.raises(TreadleError) as caught:
        house.ask(1, "staging", approval_id="again")
    assert caught.value.code == "conflict"
    for subject in ("delay/1", "model/delay", "model/delay/x"):
        with pytest.raises(TreadleError, match="no subject"):
            house(ops.RequestApproval(project="flights", approval_id="x", environment="prod", subject=subject, question="?"))


def test_only_releases_move_what_endpoints_follow(house):
    house.register()
    house.register("run_2")
    house.apply("prod")
    for alias in ("champion", "challenger", "champion.prod"):
        with pytest.raises(TreadleError) as caught:
            house(ops.SetAlias(project="flights", model="delay", alias=alias, number=1))
        assert caught.value.code == "denied"
    best = house(ops.SetAlias(project="flights", model="delay", alias="best", number=1))
    assert best.aliases == ("best",)
    assert house(ops.SetAlias(project="flights", model="delay", alias="best", number=1)) == best
    assert house(ops.SetAlias(project="flights", model="delay", alias="best", number=2)).aliases == ("best",)
    assert house.version(1).aliases == ()
    house.tx(registry.move_alias, alias="champion", number=1, environment="staging")
    house.tx(registry.move_alias, alias="champion", number=2, environment="prod", reason="r1")
    house.tx(registry.move_alias, alias="champion", number=2, environment="prod")  # no second event
    assert house.version(2).aliases == ("best", "champion.prod")
    assert house.registry.champion("flights", "delay", "staging").number == 1
    assert house.registry.champion("flights", "delay", "prod").number == 2
    assert house.registry.champion("flights", "delay", "dev").number == 2  # where it moved last
    assert house(ops.ResolveAlias(project="flights", model="delay", alias="champion")).number == 2
    with pytest.raises(TreadleError) as caught:
        house(ops.ResolveAlias(project="flights", model="delay", alias="worst"))
    assert caught.value.code == "not_found"
    with pytest.raises(TreadleError, match=r"is the champion\.prod"):
        house(ops.MoveVersion(project="flights", model="delay", number=2, state="archived"))
    house.tx(registry.move_alias, alias="champion", number=None, environment="prod")
    assert house(ops.MoveVersion(project="flights", model="delay", number=2, state="archived")).state == VersionState.archived
    assert sum(e[0] == "treadle.model.alias_moved" for e in house.events()) == 3


def test_states_move_by_the_table(house):
    house.register()
    with pytest.raises(TreadleError, match="by hand"):
        house(ops.MoveVersion(project="flights", model="delay", number=1, state="approved"))
    with pytest.raises(TreadleError) as caught:
        house.tx(registry.move_state, number=1, state=VersionState.released)
    assert caught.value.code == "conflict"
    house.decide(house.ask(1).approval_id)
    assert house.tx(registry.move_state, number=1, state=VersionState.released).state == VersionState.released
    assert house.tx(registry.move_state, number=1, state=VersionState.released).state == VersionState.released
    assert house.tx(registry.move_state, number=1, state=VersionState.approved, reason="rolled back").state == VersionState.approved
    rejected = house(ops.MoveVersion(project="flights", model="delay", number=1, state="rejected", reason="harm"))
    assert rejected.state == VersionState.rejected
    assert house(ops.MoveVersion(project="flights", model="delay", number=1, state="rejected")) == rejected


def moved(house, number, state):
    return house(ops.MoveVersion(project="flights", model="delay", number=number, state=state)).state


def test_a_version_comes_back_from_the_archive_and_is_asked_about_anew(house):
    house.register()
    house.decide(house.ask(1).approval_id)
    house.decide(house.ask(1, "staging").approval_id)
    with pytest.raises(TreadleError, match="by hand"):
        moved(house, 1, "validated")
    assert moved(house, 1, "archived") == VersionState.archived
    assert moved(house, 1, "validated") == VersionState.validated
    asked = house(ops.ListApprovals(project="flights", state=None))
    assert {a.environment: a.state for a in asked} == {"prod": "expired", "staging": "expired"}
    house.decide(house.ask(1, "staging", "again").approval_id)
    with house.database.read() as tx:
        assert registry.approved_for(tx, "flights", "delay", 1, "staging").approval_id == "again"
        assert registry.approved_for(tx, "flights", "delay", 1, "prod") is None
    assert moved(house, 1, "rejected") == VersionState.rejected
    assert moved(house, 1, "archived") == VersionState.archived
    with pytest.raises(TreadleError, match="was rejected before it was archived") as caught:
        moved(house, 1, "validated")
    assert caught.value.code == "conflict"


@pytest.mark.parametrize("gates", [FAILED, PASSED], ids=["failed", "unsealed"])
def test_what_never_passed_stays_in_the_archive(house, gates):
    if gates is FAILED:
        house.register(gates=FAILED)
    else:
        house(ops.CreateVersion(project="flights", model="delay", source="runs:/r/model", create=True))
    assert moved(house, 1, "archived") == VersionState.archived
    with pytest.raises(TreadleError, match="rejected by at_least" if gates is FAILED else "no sealed bundle"):
        moved(house, 1, "validated")


class Machine(RuleBasedStateMachine):
    """Whatever is done in whatever order: a rejected version is never approved, numbers have no gap, one champion."""

    @initialize()
    def open(self):
        self.database = Database.open(f"sqlite:///{self.root / f'{next(self.counter)}.db'}")
        migrate.ensure(self.database)
        self.house = House(self.database, self.root / "blobs")
        self.passed: dict[int, bool] = {}
        self.granted: set[int] = set()

    @staticmethod
    def expected(error):
        assert error.code == "conflict"

    def teardown(self):
        if hasattr(self, "database"):
            self.database.close()

    @rule(run=st.integers(0, 6), passed=st.booleans())
    def register(self, run, passed):
        try:
            version = self.house.register(f"run_{run}", gates=PASSED if passed else FAILED)
        except TreadleError as error:
            self.expected(error)
            return
        assert self.passed.setdefault(version.number, passed) == passed
        assert sorted(self.passed) == [*range(1, len(self.passed) + 1)]

    @precondition(lambda self: self.passed)
    @rule(data=st.data(), grant=st.booleans())
    def approve(self, data, grant):
        number = data.draw(st.sampled_from(sorted(self.passed)))
        try:
            asked = self.house.ask(number)
            self.house.decide(asked.approval_id, grant=grant)
        except TreadleError as error:
            self.expected(error)
            return
        if grant:
            assert self.passed[number]
            self.granted.add(number)

    @precondition(lambda self: self.passed)
    @rule(data=st.data(), state=st.sampled_from(["rejected", "archived"]))
    def move(self, data, state):
        number = data.draw(st.sampled_from(sorted(self.passed)))
        try:
            self.house(ops.MoveVersion(project="flights", model="delay", number=number, state=state))
        except TreadleError as error:
            self.expected(error)

    @precondition(lambda self: self.passed)
    @rule(data=st.data())
    def promote(self, data):
        number = data.draw(st.sampled_from(sorted(self.passed)))
        with self.house.database.read() as connection:
            approval = registry.approved_for(connection, "flights", "delay", number, "prod")
        assert approval is None or number in self.granted
        if approval is not None:
            self.house.tx(registry.move_alias, alias="champion", number=number, environment="prod")
            page = self.house(ops.ListModelVersions(project="flights", model="delay", limit=50))
            assert [v.number for v in page.items if "champion.prod" in v.aliases] == [number]


def test_the_registry_as_a_machine(tmp_path):
    import itertools

    Machine.root, Machine.counter = tmp_path, itertools.count()
    run_state_machine_as_test(Machine, settings=settings(deadline=None, max_examples=10, stateful_step_count=12))
