"""Plans: what would change, said before it does."""

from hypothesis import given
from hypothesis import strategies as st

from treadle.records.definitions import Dataset, Endpoint, Project
from treadle.records.digests import digest_of
from treadle.workshop.planning import plan

names = st.sets(st.sampled_from("abcdef"), max_size=6)


def project(datasets: set[str], **about: str) -> Project:
    return Project(name="p", datasets=tuple(Dataset(name=n, **about) for n in sorted(datasets)))


@given(names, names)
def test_every_definition_of_either_side_is_told_once(before: set[str], after: set[str]) -> None:
    made = plan(project(before), project(after), "dev")
    told = {(c.action, c.name) for c in made.changes}
    expected = {("add", n) for n in after - before} | {("remove", n) for n in before - after} | {("keep", n) for n in before & after}
    assert told == expected
    assert len(made.changes) == len(before | after)


@given(names)
def test_a_plan_against_itself_keeps_everything(both: set[str]) -> None:
    made = plan(project(both), project(both), "dev")
    assert {c.action for c in made.changes} <= {"keep"}
    assert made.base == digest_of(project(both))


def test_first_plan_adds_and_has_no_base() -> None:
    made = plan(None, project({"a"}), "dev")
    assert (made.base, [c.action for c in made.changes]) == ("", ["add"])


def test_a_change_names_its_fields() -> None:
    made = plan(project({"a"}), project({"a"}, owner="ops"), "dev")
    assert made.changes[0].action == "change"
    assert "owner" in made.changes[0].detail


def test_a_declared_rename_is_no_removal() -> None:
    new = Project(name="p", datasets=(Dataset(name="b", was="a"),))
    made = plan(project({"a"}), new, "dev")
    assert [(c.action, c.name, c.detail) for c in made.changes] == [("rename", "b", "was a")]


def test_removing_what_lives_is_refused() -> None:
    old = Project(name="p", endpoints=(Endpoint(name="e", model="m"),))
    made = plan(old, Project(name="p"), "prod", live={("endpoint", "e"): "m 3 serves there"})
    assert made.changes[0].refused == "m 3 serves there"
