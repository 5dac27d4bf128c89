import datetime as dt

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.gateway.guard import Guard
from treadle.gateway.native import parse
from treadle.records.clock import micros
from treadle.records.errors import TreadleError

values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)


@settings(deadline=None, max_examples=50)
@given(
    columns=st.integers(1, 4).flatmap(lambda n: st.dictionaries(st.text(max_size=4), st.lists(values, min_size=n, max_size=n), min_size=1))
)
def test_rows_and_columns_say_the_same(columns):
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    by_rows, by_columns, by_entities = (
        parse(msgspec.json.encode(body)) for body in ({"rows": rows}, {"columns": columns}, {"entities": rows})
    )
    assert by_rows == by_columns == by_entities


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ('"2013-02-01T12:00:00Z"', dt.datetime(2013, 2, 1, 12, tzinfo=dt.UTC)),
        ('"2013-02-01T12:00:00.000001+02:00"', dt.datetime(2013, 2, 1, 10, 0, 0, 1, tzinfo=dt.UTC)),
        ("1359720000000000", dt.datetime(2013, 2, 1, 12, tzinfo=dt.UTC)),
    ],
)
def test_event_times(given, meant):
    assert parse(b'{"rows": [{"a": 1}], "event_time": %b}' % given.encode()).times == micros(meant)
    assert parse(b'{"rows": [{"a": 1}], "event_time": [%b, 5]}' % given.encode()).times == [micros(meant), 5]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"rows"',
        b"{}",
        b'{"rows": null}',
        b'{"rows": [], "columns": {}}',
        b'{"rows": [1]}',
        b'{"rows": {"a": [1]}}',
        b'{"columns": {"a": 1}}',
        b'{"columns": [1]}',
        b'{"rows": [{"a": 1}, {"b": 1}]}',
        b'{"rows": [{"a": 1}, {"a": 1, "b": 1}]}',
        b'{"rows": [{"a": 1, "b": 1}, {"a": 1}]}',
        b'{"rows": [{"a": NaN}]}',
        b'{"rows": [{"a": Infinity}]}',
        b'{"rows": [{"a": 1}], "evnt_time": 3}',
        b'{"rows": [{"a": 1}], "event_time": "yesterday"}',
        b'{"rows": [{"a": 1}], "event_time": 1.5}',
        b'{"rows": [{"a": 1}], "event_time": true}',
        b'{"rows": [{"a": 1}], "event_time": 99999999999999999999}',
        b'{"rows": [{"a": 1}], "ids": "a"}',
        b'{"rows": [{"a": "\xff"}]}',
        b'{"rows": [{"a": ' + b"[" * 100_000,
        b'{"rows": [{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ],
)
def test_a_bad_body_is_refused_with_a_remedy(body):
    with pytest.raises(TreadleError) as error:
        parse(body)
    assert error.value.code == "bad_request"
    assert error.value.remedy


def test_row_ids_are_text():
    assert parse(b'{"rows": [{"a": 1}, {"a": 2}], "ids": [7, "x"]}').ids == ["7", "x"]


@pytest.mark.parametrize("host", [b"127.0.0.1:80", b"localhost", b"[::1]:9", b"gate.example:80", b"LOCALHOST:1"])
def test_known_hosts(host):
    assert Guard(["gate.example"]).check([(b"host", host), (b"content-length", b"12"), (b"x-request-id", b"r")]) == (12, "r")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"evil.example")],
        [(b"host", b"127.0.0.1.evil.example:80")],
        [(b"host", b"[::1")],
        [(b"host", b"localhost"), (b"origin", b"http://evil.example")],
        [(b"host", b"localhost"), (b"origin", b"null")],
    ],
)
def test_foreign_hosts_and_origins(headers):
    with pytest.raises(TreadleError) as error:
        Guard().check(headers)
    assert error.value.code == "denied"


def test_a_token_is_asked_for_where_there_is_one():
    guard = Guard(token="0123456789abcdef")
    assert guard.check([(b"host", b"localhost"), (b"authorization", b"Bearer 0123456789abcdef")]) == (0, "")
    for wrong in ([], [(b"authorization", b"Bearer 0123456789abcdeX")]):
        with pytest.raises(TreadleError) as error:
            guard.check([(b"host", b"localhost"), *wrong])
        assert error.value.code == "unauthenticated"
