"""The one door, by itself: binding, permission, names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.ledger.dispatch import Dispatcher, check_allowed, check_names, role_in
from treadle.operations import implements, operations
from treadle.operations import ledger as ops
from treadle.records.calls import ROLE_ORDER, Actor, Grant, Role
from treadle.records.errors import TreadleError


class Half:
    @implements(ops.WhoAmI)
    def who(self, connection, request, call):
        return call.actor


def test_an_operation_without_implementation_fails_at_start():
    with pytest.raises(LookupError, match="CreateRun"):
        Dispatcher(None, [Half()])
    with pytest.raises(LookupError, match="implemented twice"):
        Dispatcher(None, [Half(), Half()], complete=False)
    part = Dispatcher(None, [Half()], complete=False)
    with pytest.raises(TreadleError, check=lambda e: e.code == "not_implemented"):
        part(ops.ListRuns(project="p"), actor=Actor(actor_id="a", name="A"))
    with pytest.raises(TreadleError, check=lambda e: e.code == "bad_request"):
        part("no request", actor=Actor(actor_id="a", name="A"))


roles = st.sampled_from(ROLE_ORDER)
grants = st.lists(st.builds(Grant, project=st.sampled_from("*pq"), environment=st.sampled_from(["*", "dev", "prod"]), role=roles))


@settings(deadline=None)
@given(roles, grants, st.sampled_from("pq"), st.sampled_from(["", "dev", "prod"]))
def test_a_role_is_the_highest_that_fits(own, given, project, environment):
    actor = Actor(actor_id="a", name="A", role=own, grants=tuple(given))
    fitting = [g.role for g in given if g.project in ("*", project) and g.environment in ("*", environment)]
    assert ROLE_ORDER.index(role_in(actor, project, environment)) == max(ROLE_ORDER.index(r) for r in [own, *fitting])


@pytest.mark.parametrize("row", operations().values(), ids=lambda r: r.name)
def test_nobody_does_what_his_role_may_not(row):
    for role in Role:
        actor = Actor(actor_id="a", name="A", role=role)
        from treadle.operations.table import PERMISSIONS

        if ROLE_ORDER.index(role) >= ROLE_ORDER.index(PERMISSIONS[row.allow]):
            check_allowed(row, object(), actor)
        else:
            with pytest.raises(TreadleError) as raised:
                check_allowed(row, object(), actor)
            assert raised.value.code == "denied"
            assert raised.value.details["permission"] == row.allow


def test_names_become_keys_and_folders():
    check_names(ops.ListRuns(project="flights-2013_x.y"))
    check_names(ops.ListEvents(project="*"))
    for name in ("..", "a/b", "-x", "a b", "ü", "x" * 101, "a\n"):
        with pytest.raises(TreadleError):
            check_names(ops.ListRuns(project=name))
        with pytest.raises(TreadleError):
            check_names(ops.CreateRun(project="p", run_id="r", environment=name))
    for project in ("*", ""):
        with pytest.raises(TreadleError):
            check_names(ops.CreateRun(project=project, run_id="r"), reads=False)
