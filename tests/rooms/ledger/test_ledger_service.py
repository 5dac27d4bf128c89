"""Every verb of the ledger through the dispatcher, on both databases."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest

from treadle.ledger import Dispatcher, Ledger, access, lineage, sealer
from treadle.operations import ledger as ops
from treadle.records.calls import SYSTEM, Actor, Grant, Role
from treadle.records.clock import UTC
from treadle.records.errors import TreadleError
from treadle.records.ledger import Edge, Metric, Version
from treadle.records.states import RunState
from treadle.store.blobs import LocalBlobs

T = dt.datetime(2013, 3, 1, tzinfo=UTC)


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def call(database, blobs, tmp_path):
    dispatch = Dispatcher(database, [Ledger(database, blobs, heads=tmp_path / "heads.jsonl")], complete=False)

    def ask(request, *, actor=SYSTEM, **circumstances):
        return dispatch(request, actor=actor, **circumstances)

    ask.database = database
    return ask


def fails(code):
    return pytest.raises(TreadleError, check=lambda e: e.code == code and bool(e.remedy))


def run(run_id="run_1", **fields):
    return ops.CreateRun(project="p", run_id=run_id, **fields)


def test_a_run_is_made_once(call):
    made = call(run(params={"seed": 7, "until": "2013-03-01"}), event_time=T)
    assert (made.state, made.event_time, made.actor) == (RunState.queued, T, "system")
    assert call(run(params={"until": "2013-03-01", "seed": 7}), event_time=T + dt.timedelta(days=1)) == made
    with fails("conflict"):
        call(run(params={"seed": 8}))
    sealer.seal(call.database)
    assert [e.type for e in call(ops.ListEvents(project="p")).items] == ["treadle.run.created"]


def test_the_same_run_id_may_live_in_two_projects(call):
    call(run())
    call(ops.CreateRun(project="q", run_id="run_1", pipeline="other"))
    assert call(ops.GetRun(project="q", run_id="run_1")).run.pipeline == "other"


def test_a_run_moves_by_the_table(call):
    call(run())
    with fails("conflict"):
        call(ops.MoveRun(project="p", run_id="run_1", state="finished"))
    started = call(ops.MoveRun(project="p", run_id="run_1", state="running"), event_time=T)
    assert (started.started, started.ended) == (T, None)
    failed = call(ops.MoveRun(project="p", run_id="run_1", state="failed", error="boom"), event_time=T + dt.timedelta(hours=1))
    assert (failed.started, failed.ended, failed.error) == (T, T + dt.timedelta(hours=1), "boom")
    assert call(ops.MoveRun(project="p", run_id="run_1", state="failed", error="boom")) == failed
    again = call(ops.MoveRun(project="p", run_id="run_1", state="queued"))
    assert (again.ended, again.error) == (None, None)
    with fails("not_found"):
        call(ops.MoveRun(project="p", run_id="run_9", state="running"))
    with fails("bad_request"):
        call(ops.MoveRun(project="p", run_id="run_1", state="sleeping"))


def test_runs_are_listed_by_page_newest_first(call):
    ids = [call(run(f"run_{i:02}", pipeline="odd" if i % 2 else "even")).run_id for i in range(7)]
    seen, page = [], None
    while True:
        listed = call(ops.ListRuns(project="p", limit=3, page=page))
        seen += [r.run_id for r in listed.items]
        page = listed.page.next
        if page is None:
            break
    assert seen == ids[::-1]
    assert [r.run_id for r in call(ops.ListRuns(project="p", pipeline="odd", state="queued")).items] == ["run_05", "run_03", "run_01"]
    with fails("bad_request"):
        call(ops.ListRuns(project="p", page="nonsense"))
    with fails("bad_request"):
        call(ops.ListRuns(project="p", limit=0))


def test_measurements_keep_their_history_and_the_latest(call):
    call(run())
    points = [Metric(key="loss", value=1.0 / (s + 1), step=s, time=T) for s in range(1000)]
    assert call(ops.LogMetrics(project="p", run_id="run_1", metrics=points[500:])).changed
    assert call(ops.LogMetrics(project="p", run_id="run_1", metrics=points[:501])).changed
    assert not call(ops.LogMetrics(project="p", run_id="run_1", metrics=points)).changed
    call(ops.LogMetrics(project="p", run_id="run_1", metrics=[Metric(key="auc", value=0.7)]))
    detail = call(ops.GetRun(project="p", run_id="run_1"))
    assert detail.metrics == {"auc": 0.7, "loss": 1.0 / 1000}
    first = call(ops.GetMetric(project="p", run_id="run_1", key="loss", limit=600))
    rest = call(ops.GetMetric(project="p", run_id="run_1", key="loss", limit=600, page=first.page.next))
    assert [*first.items, *rest.items] == points
    assert rest.page.next is None


def test_an_older_measurement_does_not_become_the_latest(call):
    call(run())
    for step, value in ((5, 0.5), (3, 0.3)):
        call(ops.LogMetrics(project="p", run_id="run_1", metrics=[Metric(key="m", value=value, step=step, time=T)]))
    for value in (9.0, 0.4):  # at the same step and time the greater value is the latest
        call(ops.LogMetrics(project="p", run_id="run_1", metrics=[Metric(key="m", value=value, step=5, time=T)]))
    assert call(ops.GetRun(project="p", run_id="run_1")).metrics == {"m": 9.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measurement_is_a_finite_number(call, value):
    call(run())
    with fails("bad_request"):
        call(ops.LogMetrics(project="p", run_id="run_1", metrics=[Metric(key="m", value=value)]))


def test_nothing_is_recorded_of_a_run_that_is_not_there(call, blobs):
    digest = blobs.put(b"plot")
    for request in (
        ops.LogMetrics(project="p", run_id="run_9", metrics=[Metric(key="m", value=1.0)]),
        ops.SetTags(project="p", run_id="run_9", tags={"a": "b"}),
        ops.RecordArtifact(project="p", run_id="run_9", path="a", digest=digest, size=4),
        ops.GetRun(project="p", run_id="run_9"),
        ops.GetMetric(project="p", run_id="run_9", key="m"),
    ):
        with fails("not_found"):
            call(request)


def test_tags_are_replaced_and_artifacts_need_their_blob(call, blobs):
    call(run())
    call(ops.SetTags(project="p", run_id="run_1", tags={"owner": "ada", "note": "1"}))
    call(ops.SetTags(project="p", run_id="run_1", tags={"note": "2"}))
    call(ops.RecordArtifact(project="p", run_id="run_1", path="plots/a.png", digest=blobs.put(b"plot"), size=4))
    detail = call(ops.GetRun(project="p", run_id="run_1"))
    assert detail.tags == {"note": "2", "owner": "ada"}
    assert [a.path for a in detail.artifacts] == ["plots/a.png"]
    with fails("not_found"):
        call(ops.RecordArtifact(project="p", run_id="run_1", path="b", digest="0" * 64, size=1))
    for path in ("/etc/passwd", "../x", "a/../../x", ""):
        with fails("bad_request"):
            call(ops.RecordArtifact(project="p", run_id="run_1", path=path, digest="0" * 64, size=1))


def test_lineage_walks_up_and_down(call):
    def grow(tx):
        for name in "abcd":
            assert lineage.add_version(tx, Version(project="p", digest=name, kind="dataset", name=name))
            assert not lineage.add_version(tx, Version(project="p", digest=name, kind="model", name="other"))
        for child, parent in (("b", "a"), ("c", "b"), ("d", "b")):
            assert lineage.add_edge(tx, Edge(project="p", child=child, parent=parent, role="input"))
            assert not lineage.add_edge(tx, Edge(project="p", child=child, parent=parent, role="input"))

    call.database.write(grow)
    up = call(ops.GetLineage(project="p", digest="c"))
    assert sorted(v.name for v in up.versions) == ["a", "b", "c"]
    assert {v.kind for v in up.versions} == {"dataset"}
    down = call(ops.GetLineage(project="p", digest="a", direction="down"))
    assert sorted((e.child, e.parent) for e in down.edges) == [("b", "a"), ("c", "b"), ("d", "b")]
    assert len(call(ops.GetLineage(project="p", digest="a", direction="down", depth=1)).edges) == 1
    assert len(call(ops.GetLineage(project="p", digest="b", direction="both")).edges) == 3
    with fails("bad_request"):
        call(ops.GetLineage(project="p", digest="a", direction="sideways"))


def test_events_of_ones_own(call):
    emit = ops.EmitEvent(project="p", event_id="evt_1", type="acme.prices.changed", subject="prices", payload={"rows": 3})
    assert call(emit).changed
    assert not call(emit).changed
    with fails("conflict"):
        call(ops.EmitEvent(project="p", event_id="evt_1", type="acme.prices.changed", subject="prices", payload={"rows": 4}))
    for type in ("treadle.model.approved", "prices"):
        with fails("bad_request"):
            call(ops.EmitEvent(project="p", event_id="evt_2", type=type, subject="x"))
    assert call(ops.GetEvent(project="p", event_id="evt_1")).payload == {"rows": 3}
    assert call(ops.ListEvents(project="p")).items == []  # not sealed yet
    assert sealer.seal(call.database) == 1
    assert [e.seq for e in call(ops.ListEvents(project="p", type="acme.*")).items] == [1]
    assert call(ops.ListEvents(project="p", type="acme_prices*")).items == []
    assert call(ops.ErasePayload(project="p", event_id="evt_1", reason="a name stood in it")).changed
    assert not call(ops.ErasePayload(project="p", event_id="evt_1", reason="a name stood in it")).changed
    assert call(ops.GetEvent(project="p", event_id="evt_1")).payload is None
    with fails("not_found"):
        call(ops.ErasePayload(project="p", event_id="evt_9", reason=""))
    with fails("not_found"):
        call(ops.GetEvent(project="p", event_id="evt_9"))
    sealer.seal(call.database)
    assert call(ops.VerifyAudit()).intact


def test_events_are_paged_both_ways(call):
    for i in range(5):
        call(ops.EmitEvent(project="p", event_id=f"evt_{i}", type=f"acme.n{i}", subject="s", environment="dev"))
    sealer.seal_all(call.database)
    first = call(ops.ListEvents(project="p", limit=2))
    rest = call(ops.ListEvents(project="p", limit=5, page=first.page.next))
    assert [e.type for e in [*first.items, *rest.items]] == [f"acme.n{i}" for i in range(5)]
    newest = call(ops.ListEvents(project="*", newest=True, limit=2))
    assert [e.seq for e in newest.items] == [5, 4]
    assert [e.seq for e in call(ops.ListEvents(project="p", newest=True, page=newest.page.next)).items] == [3, 2, 1]
    assert call(ops.ListEvents(project="p", environment="prod")).items == []


def test_a_key_gives_the_first_answer_again(call):
    first = call(run(), idempotency_key="k")
    call(ops.MoveRun(project="p", run_id="run_1", state="running"))
    assert call(run(), idempotency_key="k") == first
    with fails("conflict"):
        call(run("run_2"), idempotency_key="k")
    other = Actor(actor_id="ada", name="Ada", role=Role.editor)
    assert call(run("run_2"), idempotency_key="k", actor=other).actor == "ada"


def test_a_failed_write_leaves_no_answer_and_no_event(call):
    with fails("not_found"):
        call(ops.MoveRun(project="p", run_id="run_1", state="running"), idempotency_key="k")
    call(run())
    assert call(ops.MoveRun(project="p", run_id="run_1", state="running"), idempotency_key="k").state == "running"
    sealer.seal(call.database)
    assert [e.type for e in call(ops.ListEvents(project="p")).items] == ["treadle.run.created", "treadle.run.moved"]


def test_roles_are_checked(call):
    viewer = Actor(actor_id="vi", name="Vi", role=Role.viewer)
    with fails("denied"):
        call(run(), actor=viewer)
    assert call(ops.ListRuns(project="p"), actor=viewer).items == []


@pytest.mark.parametrize("project", ["../other", "a/b", ".hidden", "x" * 101, "a b"])
def test_a_project_has_a_name_that_can_be_a_folder(call, project):
    with fails("bad_request"):
        call(ops.CreateRun(project=project, run_id="run_1"))


def test_actors_and_tokens(call):
    owner = access.ensure_owner(call.database, "Ada")
    assert (owner.name, owner.role) == ("Ada", Role.admin)
    assert access.ensure_owner(call.database, "Eve") == owner
    ben = ops.CreateActor(actor_id="ben", name="Ben", role=Role.approver)
    assert call(ben).role is Role.approver
    assert call(ben).name == "Ben"
    with fails("conflict"):
        call(ops.CreateActor(actor_id="ben", name="Ben", role=Role.admin))
    for wrong in (ops.CreateActor(actor_id="system", name="x"), ops.CreateActor(actor_id="x", name="x", kind="god")):
        with fails("bad_request"):
            call(wrong)
    assert [a.actor_id for a in call(ops.ListActors())] == ["ben", "owner"]
    door = access.Access(call.database)
    assert not door.any_token()
    issued = call(ops.IssueToken(actor_id="ben", token_id="tok_1"), idempotency_key="k")
    assert door.any_token()
    assert door.authenticate(issued.token).actor_id == "ben"
    assert call(ops.WhoAmI(), actor=door.authenticate(issued.token)).name == "Ben"
    # the secret is nowhere: neither under the key nor in any event
    assert call(ops.IssueToken(actor_id="ben", token_id="tok_1"), idempotency_key="k").token == ""
    assert call(ops.IssueToken(actor_id="ben", token_id="tok_1")).token == ""
    with fails("conflict"):
        call(ops.IssueToken(actor_id="owner", token_id="tok_1"))
    with fails("not_found"):
        call(ops.IssueToken(actor_id="nobody", token_id="tok_2"))
    with fails("not_found"):
        call(ops.RevokeToken(actor_id="owner", token_id="tok_1"))
    assert call(ops.RevokeToken(actor_id="ben", token_id="tok_1")).changed
    assert not call(ops.RevokeToken(actor_id="ben", token_id="tok_1")).changed
    for token in (issued.token, "", "trd_tok_1_" + "0" * 64, "trd_x_y", "Bearer"):
        with fails("unauthenticated"):
            door.authenticate(token)


def test_tokens_are_listed_without_their_secret(call):
    for name in ("ben", "cy"):
        call(ops.CreateActor(actor_id=name, name=name))
    secrets = [call(ops.IssueToken(actor_id="ben", token_id=f"tok_{i}")).token for i in range(3)]
    call(ops.RevokeToken(actor_id="ben", token_id="tok_1"))
    found = call(ops.ListTokens(actor_id="ben"))
    assert [(t.token_id, t.revoked_time is not None) for t in found] == [("tok_0", False), ("tok_1", True), ("tok_2", False)]
    assert all(abs((dt.datetime.now(UTC) - t.created_time).total_seconds()) < 60 for t in found)
    told = repr(found)
    assert not any(secret.rpartition("_")[2] in told for secret in secrets)
    assert "argon2" not in told
    assert call(ops.ListTokens(actor_id="cy")) == []
    with fails("not_found"):
        call(ops.ListTokens(actor_id="nobody"))


def test_roles_are_granted_and_taken_back(call):
    owner = access.ensure_owner(call.database)
    door = access.Access(call.database)
    call(ops.CreateActor(actor_id="mia", name="Mia"))
    token = call(ops.IssueToken(actor_id="mia", token_id="tok_m")).token
    given = ops.GrantRole(actor_id="mia", role=Role.editor, in_project="p", in_environment="dev")
    assert call(given, actor=owner).grants == (Grant(project="p", environment="dev", role=Role.editor),)
    assert call(given, actor=owner) == door.authenticate(token)  # again changes nothing
    call(run(), actor=door.authenticate(token))
    with fails("denied"):
        call(run("run_2", environment="prod"), actor=door.authenticate(token))
    # one role a place: another takes its place
    lower = call(ops.GrantRole(actor_id="mia", role=Role.viewer, in_project="p", in_environment="dev"))
    assert lower.grants == (Grant(project="p", environment="dev", role=Role.viewer),)
    assert call(ops.RevokeGrant(actor_id="mia", in_project="p", in_environment="dev")).changed
    assert not call(ops.RevokeGrant(actor_id="mia", in_project="p", in_environment="dev")).changed
    assert next(a for a in call(ops.ListActors()) if a.actor_id == "mia").grants == ()
    sealer.seal(call.database)
    kinds = ["treadle.role.granted", "treadle.role.granted", "treadle.role.revoked"]
    told = [e for e in call(ops.ListEvents(project="*", type="treadle.role.*")).items]
    assert [e.type for e in told] == kinds
    assert {e.subject for e in told} == {"actor/mia"}
    assert told[0].payload == {"actor_id": "mia", "role": "editor", "in_project": "p", "in_environment": "dev"}
    for wrong in ("", "a/b", "**", "x" * 101):
        with fails("bad_request"):
            call(ops.GrantRole(actor_id="mia", role=Role.editor, in_project=wrong, in_environment="*"))
    for request in (
        ops.GrantRole(actor_id="nobody", role=Role.viewer, in_project="*", in_environment="*"),
        ops.RevokeGrant(actor_id="nobody", in_project="*", in_environment="*"),
    ):
        with fails("not_found"):
            call(request)


def test_only_admins_of_the_whole_home_administrate(call):
    access.ensure_owner(call.database)
    call(ops.CreateActor(actor_id="ben", name="Ben", role=Role.approver))
    call(ops.CreateActor(actor_id="mia", name="Mia"))
    call(ops.GrantRole(actor_id="mia", role=Role.admin, in_project="p", in_environment="*"))
    for name in ("ben", "mia"):
        actor = next(a for a in call(ops.ListActors()) if a.actor_id == name)
        for request in (
            ops.ListActors(),
            ops.ListTokens(actor_id=name),
            ops.GrantRole(actor_id=name, role=Role.admin, in_project="*", in_environment="*"),
            ops.GrantRole(actor_id=name, role=Role.admin, in_project="p", in_environment="*"),
            ops.RevokeGrant(actor_id=name, in_project="*", in_environment="*"),
            ops.DisableActor(actor_id=name),
            ops.EnableActor(actor_id=name),
        ):
            with fails("denied"):
                call(request, actor=actor)
    whole = call(ops.GrantRole(actor_id="mia", role=Role.admin, in_project="*", in_environment="*"))
    assert [a.actor_id for a in call(ops.ListActors(), actor=whole)] == ["ben", "mia", "owner"]


def test_a_disabled_actors_tokens_stop_at_once(call):
    access.ensure_owner(call.database)
    door = access.Access(call.database)
    call(ops.CreateActor(actor_id="mia", name="Mia", role=Role.editor))
    token = call(ops.IssueToken(actor_id="mia", token_id="tok_m")).token
    revoked = call(ops.IssueToken(actor_id="mia", token_id="tok_r")).token
    call(ops.RevokeToken(actor_id="mia", token_id="tok_r"))
    assert door.authenticate(token).actor_id == "mia"
    assert call(ops.DisableActor(actor_id="mia")).changed
    assert not call(ops.DisableActor(actor_id="mia")).changed
    with fails("unauthenticated"):
        door.authenticate(token)
    assert not door.any_token()
    with fails("conflict"):
        call(ops.IssueToken(actor_id="mia", token_id="tok_2"))
    assert [a.disabled for a in call(ops.ListActors())] == [True, False]
    assert call(ops.EnableActor(actor_id="mia")).changed
    assert not call(ops.EnableActor(actor_id="mia")).changed
    assert door.authenticate(token).actor_id == "mia"
    with fails("unauthenticated"):
        door.authenticate(revoked)
    sealer.seal(call.database)
    told = [e.type for e in call(ops.ListEvents(project="*", type="treadle.actor.*")).items]
    assert told == ["treadle.actor.created", "treadle.actor.disabled", "treadle.actor.enabled"]
    for request in (ops.DisableActor(actor_id="nobody"), ops.EnableActor(actor_id="nobody")):
        with fails("not_found"):
            call(request)


def test_the_last_admin_stays(call):
    call(ops.CreateActor(actor_id="ann", name="Ann", role=Role.admin))
    call(ops.CreateActor(actor_id="ben", name="Ben"))
    call(ops.CreateActor(actor_id="auto", name="Auto", kind="policy", role=Role.admin))
    with pytest.raises(TreadleError, match="ann is the last admin of this home and cannot be disabled") as told:
        call(ops.DisableActor(actor_id="ann"))
    assert told.value.remedy == "Make somebody else an admin first: treadle actor grant NAME admin"
    assert not any(a.disabled for a in call(ops.ListActors()))
    call(ops.GrantRole(actor_id="ben", role=Role.admin, in_project="p", in_environment="*"))
    with fails("conflict"):  # an admin of one project is none of the home
        call(ops.DisableActor(actor_id="ann"))
    call(ops.GrantRole(actor_id="ben", role=Role.admin, in_project="*", in_environment="*"))
    call(ops.DisableActor(actor_id="ann"))
    for request in (
        ops.RevokeGrant(actor_id="ben", in_project="*", in_environment="*"),
        ops.GrantRole(actor_id="ben", role=Role.editor, in_project="*", in_environment="*"),
        ops.DisableActor(actor_id="ben"),
    ):
        with pytest.raises(TreadleError, match="ben is the last admin of this home and cannot"):
            call(request)
    assert Grant(project="*", environment="*", role=Role.admin) in next(a for a in call(ops.ListActors()) if a.actor_id == "ben").grants
    call(ops.EnableActor(actor_id="ann"))
    call(ops.RevokeGrant(actor_id="ben", in_project="*", in_environment="*"))


def test_the_owner_is_never_disabled(call):
    access.ensure_owner(call.database)
    call(ops.CreateActor(actor_id="ann", name="Ann", role=Role.admin))
    with pytest.raises(TreadleError, match="owner owns this home and cannot be disabled") as told:
        call(ops.DisableActor(actor_id="owner"))
    assert told.value.code == "conflict"
    assert "treadle token list owner" in told.value.remedy


def test_two_cannot_take_the_last_two_admins_at_once(call):
    for name in ("ann", "ben"):
        call(ops.CreateActor(actor_id=name, name=name, role=Role.admin))

    def disable(name):
        try:
            return call(ops.DisableActor(actor_id=name)).changed
        except TreadleError as error:
            return error.code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(map(str, pool.map(disable, ("ann", "ben")))) == ["True", "conflict"]


def test_grants_count_where_they_were_given(call):
    call(ops.CreateActor(actor_id="cy", name="Cy"))
    call.database.write(lambda tx: access.grant(tx, "cy", Grant(project="p", environment="*", role=Role.editor)))
    token = call(ops.IssueToken(actor_id="cy", token_id="tok_cy")).token
    cy = access.Access(call.database).authenticate(token)
    call(run(), actor=cy)
    with fails("denied"):
        call(ops.CreateRun(project="q", run_id="run_1"), actor=cy)
    with fails("not_found"):
        call.database.write(lambda tx: access.grant(tx, "nobody", Grant(project="*", environment="*", role=Role.admin)))
