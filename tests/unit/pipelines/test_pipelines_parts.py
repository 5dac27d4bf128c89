"""The small pure parts: parameters, explanations, handles, contexts, owners, fault points."""

import datetime as dt
import os
import subprocess
import sys
from typing import Any

import pytest

import treadle.pipelines as tp
from treadle.pipelines import cache, code, context, faults, lease, parameters
from treadle.pipelines.handle import Handle
from treadle.records.definitions import Column, Entry, Parameter, Pipeline
from treadle.records.errors import TreadleError


@tp.step
def doubled(x: int) -> int:
    """Twice x."""
    return 2 * x


@tp.pipeline(virtual_duration="30m")
def example(until: dt.datetime, days: int = 7, names: tuple[str, ...] = ("a",)) -> int:
    """An example.

    More about it.
    """
    return doubled(days)


def test_definition() -> None:
    made = example.definition
    assert (made.name, made.description, made.virtual_duration_s) == ("example", "An example.", 1800)
    assert made.entry.path == f"{__name__}:example"
    assert [(p.name, p.annotation, p.default, p.required) for p in made.parameters] == [
        ("until", "datetime.datetime", None, True),
        ("days", "int", 7, False),
        ("names", "tuple[str, ...]", ("a",), False),
    ]
    assert example(dt.datetime(2013, 1, 1)) == 14
    assert doubled.__doc__ == "Twice x."


def test_definitions_that_cannot_be() -> None:
    @tp.pipeline
    def starred(*args: int) -> None: ...

    @tp.pipeline
    def odd(x: Any = object()) -> None: ...  # noqa: B008

    for wrong in (starred, odd):
        with pytest.raises(TreadleError) as told:
            assert wrong.definition
        assert told.value.code == "bad_definition"


def test_parameters() -> None:
    made = example.definition
    assert parameters.check(made, {"until": "2013-01-01"}) == {"until": "2013-01-01", "days": 7, "names": ("a",)}
    with pytest.raises(TreadleError, match="needs parameter 'until'"):
        parameters.check(made, {})
    converted = parameters.convert(example.function, {"until": "2013-03-31T12:00:00+02:00", "days": "3", "names": ["x"]})
    assert converted == {"until": dt.datetime(2013, 3, 31, 10, tzinfo=dt.UTC), "days": 3, "names": ("x",)}
    with pytest.raises(TreadleError, match="Parameter until: 'soon' does not fit datetime"):
        parameters.convert(example.function, {"until": "soon"})


@pytest.mark.parametrize(
    ("annotation", "fits", "not_fits"),
    [
        ("int", [7, "7", 7.0], ["abc", 7.5, True, None, [7]]),
        ("float", [0.5, 1, "0.5"], ["half", True]),
        ("bool", [True, "true"], ["maybe", 7]),
        ("str", ["", "7"], [7, None, {}]),
        ("datetime.datetime", ["2013-03-31", "2013-03-31T12:00:00Z"], ["soon", 2013, None]),
        ("'dt.datetime'", ["2013-03-31"], ["soon"]),
        ("datetime.datetime | None", ["2013-03-31", None], ["soon", 2013]),
        ("datetime.date", ["2013-03-31"], ["2013-03"]),
        ("Optional[int]", [None, 7], ["abc"]),
        ("list[str]", [[], ["a"]], ["a", [7]]),
        ("tuple[int, ...]", [[1, 2]], [["a"]]),
        ("dict[str, float]", [{"a": 1}], [{"a": "b"}, []]),
        ("Literal['fast', 'slow']", ["fast"], ["quick"]),
        ("loop.Kind", [7, "a", None], []),  # only the project's code knows
        ("list[loop.Kind]", [[7, "a"]], [7]),
        ("loop.Kind | None", [7], []),
        ("their.list", [7], []),
        ("", [7, "a"], []),
        ("int |", ["a"], []),
        ("(" * 5000, ["a"], []),
    ],
)
def test_a_value_is_checked_against_the_annotation_without_the_projects_code(annotation: str, fits: list[Any], not_fits: list[Any]) -> None:
    made = Pipeline(name="p", entry=Entry(path="loop:p"), parameters=(Parameter(name="x_y", annotation=annotation, required=True),))
    for value in fits:
        assert parameters.check(made, {"x_y": value}) == {"x_y": value}
    for value in not_fits:
        with pytest.raises(TreadleError, match="Parameter 'x_y' of pipeline p takes ") as told:
            parameters.check(made, {"x_y": value})
        assert told.value.code == "bad_request"
        assert "--x-y " in told.value.remedy


def test_a_wrong_parameter_says_what_is_expected_and_what_was_given() -> None:
    made = example.definition
    cases = [
        (
            {"until": "2013-03-31", "days": "abc"},
            "Parameter 'days' of pipeline example takes int, and was given \"abc\".",
            "Give it as int: treadle run example --days 7",
        ),
        (
            {},
            "Pipeline example needs parameter 'until' (datetime).",
            "Give it: treadle run example --until 2013-03-31T00:00:00Z",
        ),
        (
            {"until": "2013-03-31", "day": 3},
            "Pipeline example has no parameter 'day'.",
            "It has: until (datetime), days (int), names (tuple[str, ...]). Was days meant?",
        ),
    ]
    for given, what, remedy in cases:
        with pytest.raises(TreadleError) as told:
            parameters.check(made, given)
        assert (told.value.what, told.value.remedy) == (what, remedy)


def test_arguments_are_described() -> None:
    root = code.root_of(doubled.function)
    handle: Handle[int] = Handle("d" * 64, "json", "0000:x", lambda: 1)
    told = cache.describe({"h": handle, "many": [handle, 2], "n": 3, "f": doubled, "c": Column(name="a", dtype="int64")}, root)
    assert told["input:h"] == "d" * 64
    assert "input:many" in told
    assert told["parameter:n"] == "3"
    assert {"parameter:f", "parameter:c"} < set(told)
    assert cache.describe({"x": 1}, root) != cache.describe({"x": True}, root) != cache.describe({"x": 1.0}, root)
    assert cache.describe({"x": [1]}, root) != cache.describe({"x": (1,)}, root)


def test_explanations() -> None:
    now = {"code:m:f": "1", "code:helpers": "1", "input:rows": "1", "parameter:seed": "7", "environment": "1", "parameter:new": "1"}
    before = {"code:m:f": "2", "code:helpers": "2", "input:rows": "2", "parameter:seed": "8", "environment": "2"}
    assert cache.differences(now, before) == [
        "module helpers changed",
        "code of m:f changed",
        "installed packages changed",
        "input rows changed",
        "parameter new is new",
        "seed changed: 8 → 7",
    ]
    nearest = {**now, "parameter:seed": "9"}
    assert cache.explain(now, [before, nearest]) == "seed changed: 9 → 7"


def test_a_handle_is_neither_true_nor_false() -> None:
    handle: Handle[int] = Handle("d", "json", "0000:x", lambda: 5)
    with pytest.raises(TreadleError, match=r"neither true nor false"):
        assert handle
    with pytest.raises(TreadleError, match="is a int and has no parts"):
        list(handle)
    assert (handle.get(), tp.value([handle, {"a": (handle,)}])) == (5, [5, {"a": (5,)}])


def test_context() -> None:
    with pytest.raises(TreadleError, match="No run is going on here"):
        context.current()
    with context.local(resources={"data": 1}) as here:
        assert context.current() is here
        assert here.resource("data") == 1
        with pytest.raises(TreadleError, match="has no 'registry': its context holds data"):
            here.resource("registry")
        assert doubled(2) == 4
    assert context.peek() is None


def test_owners() -> None:
    mine = lease.new_owner()
    assert lease.is_here(mine)
    assert not lease.surely_dead(mine)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    there = mine.replace(f"/{os.getpid()}/", f"/{ended.pid}/")
    ended.wait()
    assert lease.surely_dead(there)
    assert lease.surely_dead(mine.replace(str(lease.process_start(os.getpid())), "12345")), "the pid is somebody else's by now"
    assert not lease.surely_dead("elsewhere/" + mine.split("/", 1)[1])
    assert not lease.surely_dead("nonsense")


def test_a_beat_must_stand_still_for_the_whole_lease() -> None:
    watch = lease.Watch(10)
    key, owner = ("p", "run"), "elsewhere/b/1/1/1/x"
    assert [watch.dead(key, owner, 1, t) for t in (0, 9.9, 10)] == [False, False, True]
    assert not watch.dead(key, owner, 2, 10.1)
    assert not watch.dead(key, owner, 2, 20)
    watch.keep_only(set())
    assert not watch.dead(key, owner, 2, 1000), "it is seen for the first time again"


def test_fault_points() -> None:
    with pytest.raises(ValueError, match="is no phase"):
        faults.arm("lunch:1")
    script = "from treadle.pipelines import faults\nfor i in range(5):\n    print(i, flush=True)\n    faults.passing('running')"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "TREADLE_FAULT": "running:3"}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (-9, b"0\n1\n2\n")


def test_the_room_is_cheap_to_import() -> None:
    script = "import sys, treadle.pipelines; print(sorted({'polars', 'numpy', 'sqlalchemy', 'sklearn', 'lightgbm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
