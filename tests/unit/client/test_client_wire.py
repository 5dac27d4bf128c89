"""Whatever request can be made, the server reads what the client sent; for every operation of the table."""

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from treadle.client.wire import Routes, Wire, nullable, wires
from treadle.operations import operations
from treadle.operations.ledger import GetMetric, ListRuns, SetTags
from treadle.operations.registry import GetModelVersion, ListApprovals
from treadle.records.errors import CODES, ErrorBody, TreadleError

ALL = list(wires().values())
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**53), 2**53)
JSON = st.recursive(st.none() | st.booleans() | WHOLE | NUMBERS | TEXT, lambda inner: st.lists(inner, max_size=2), max_leaves=3)


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type, as msgspec describes it."""
    match kind:
        case inspect.StrType():
            return TEXT
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return WHOLE
        case inspect.FloatType():
            return NUMBERS
        case inspect.NoneType():
            return st.none()
        case inspect.DateTimeType():
            return st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))
        case inspect.AnyType():
            return JSON
        case inspect.RawType():
            return JSON.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.ListType(item_type=item):
            return st.lists(values(item), max_size=2)
        case inspect.VarTupleType(item_type=item):
            return st.lists(values(item), max_size=2).map(tuple)
        case inspect.TupleType(item_types=items):
            return st.tuples(*map(values, items))
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(values(key), values(value), max_size=2)
        case inspect.UnionType(types=kinds):
            return st.one_of(*map(values, kinds))
        case inspect.StructType(cls=cls):
            return structs(cls)
    raise NotImplementedError(str(kind))


def structs(cls: type) -> st.SearchStrategy[Any]:
    fields = inspect.type_info(cls).fields  # type: ignore[union-attr]
    return st.fixed_dictionaries({f.name: values(f.type) for f in fields}).map(lambda given: cls(**given))


def requests(wire: Wire) -> st.SearchStrategy[Any]:
    """Requests that can be addressed: no empty path field, and no empty text in a query where null would be said by it."""

    def addressable(request: Any) -> bool:
        if any(getattr(request, name) == "" for name in wire.operation.path_fields):
            return False
        return not (wire.in_query and any(nullable(f.type) and getattr(request, f.name) == "" for f in wire.rest))

    return structs(wire.operation.request).filter(addressable)


def arrive(request: Any) -> Any:
    """What the server makes of what the client sends."""
    wire = wires()[type(request)]
    target, body = wire.encode(request)
    path, _, query = target.partition("?")
    assert target.isascii()
    found, fields = Routes(ALL).find(path)[wire.operation.method]
    assert found is wire
    return found.decode(fields, query, body or b"")


@pytest.mark.parametrize("wire", ALL, ids=lambda w: w.operation.name)
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_request_arrives_as_it_was_sent(wire: Wire, data: st.DataObject) -> None:
    request = data.draw(requests(wire))
    assert arrive(request) == request


@pytest.mark.parametrize("wire", ALL, ids=lambda w: w.operation.name)
@settings(deadline=None, max_examples=8, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_answer_comes_back_as_it_was_given(wire: Wire, data: st.DataObject) -> None:
    answer = data.draw(values(inspect.type_info(wire.operation.returns)))
    assert wire.answer(msgspec.json.encode(answer)) == answer


def test_every_operation_has_a_wire_form_and_a_route_of_its_own() -> None:
    assert set(wires()) == set(operations())
    assert len({(w.operation.method, w.segments) for w in ALL}) == len(ALL)


@pytest.mark.parametrize("key", ["val/auc", "ü ?&=#%2F", "..", "a+b", "日本"])
def test_a_path_field_may_hold_anything(key: str) -> None:
    request = GetMetric(project="p", run_id="r/1", key=key)
    assert arrive(request) == request


@pytest.mark.parametrize("word", ["null", "true", "3", "None", " "])
def test_text_in_a_query_stays_text(word: str) -> None:
    request = ListRuns(project="p", environment=word)
    assert arrive(request) == request


def test_null_can_be_said_where_the_default_is_something_else() -> None:
    assert arrive(ListApprovals(project="p", state=None)).state is None


def test_an_empty_path_field_is_refused_before_it_is_sent() -> None:
    with pytest.raises(TreadleError, match="project, which is empty"):
        wires()[ListRuns].encode(ListRuns(project=""))


@pytest.mark.parametrize(
    ("request_type", "path", "query", "body", "says"),
    [
        (ListRuns, {"project": "p"}, "limit=many", b"", "Expected `int`"),
        (ListRuns, {"project": "p"}, "limt=3", b"", "unknown field `limt`"),
        (ListRuns, {"project": "p"}, "limit=3&limit=4", b"", "twice"),
        (ListRuns, {"project": "p"}, "&&;;%%", b"", "cannot be read"),
        (SetTags, {"project": "p", "run_id": "r"}, "", b'{"tags": {"a": 1}}', "Expected `str`, got `int`"),
        (SetTags, {"project": "p", "run_id": "r"}, "", b'{"tags": {}, "tag": 1}', "unknown field `tag`"),
        (SetTags, {"project": "p", "run_id": "r"}, "", b"", "missing required field `tags`"),
        (SetTags, {"project": "p", "run_id": "r"}, "", b"[1]", "Expected `object`"),
        (SetTags, {"project": "p", "run_id": "r"}, "", b'{"tags": ', "truncated"),
        (SetTags, {"project": "p", "run_id": "r"}, "", b'{"tags": {"a": "\xff"}}', "cannot be read"),
        (SetTags, {"project": "p", "run_id": "r"}, "", b"[" * 1_000_000, "cannot be read"),
        (SetTags, {"project": "p", "run_id": "r"}, "tags=1", b"{}", "cannot be read"),
        (GetModelVersion, {"project": "p", "model": "m", "number": "x"}, "", b"", "Expected `int`"),
    ],
)
def test_a_bad_request_names_what_was_expected_and_given(
    request_type: type, path: dict[str, str], query: str, body: bytes, says: str
) -> None:
    with pytest.raises(TreadleError, match=says) as caught:
        wires()[request_type].decode(path, query, body)
    assert caught.value.code == "bad_request"
    assert "takes:" in caught.value.remedy


@pytest.mark.parametrize("code", CODES)
def test_every_error_survives_the_way(code: str) -> None:
    error = TreadleError("What.", remedy="Do.", code=code, details={"a": [1, None, "x"]})
    back = msgspec.json.decode(msgspec.json.encode(error.body()), type=ErrorBody).error()
    assert (back.what, back.remedy, back.code, back.details) == (error.what, error.remedy, error.code, error.details)
