"""States, ids, digests, times and errors: the words everything else is said in."""

import datetime as dt
import pickle

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.records import states
from treadle.records.clock import UTC, VirtualClock, from_micros, micros, seconds, utc
from treadle.records.digests import canonical, digest_of
from treadle.records.errors import CODES, ErrorBody, TreadleError
from treadle.records.ids import base32, new_id

TABLES = {
    states.RunState: states.RUN_MOVES,
    states.VersionState: states.VERSION_MOVES,
    states.ApprovalState: states.APPROVAL_MOVES,
    states.ReleaseState: states.RELEASE_MOVES,
}


@pytest.mark.parametrize(("enum", "moves"), TABLES.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_every_state_stands_in_its_table_and_can_be_reached(enum, moves):
    assert set(moves) == set(enum)
    start = next(iter(enum))
    reached, frontier = {start}, {start}
    while frontier:
        frontier = {then for now in frontier for then in moves[now]} - reached
        reached |= frontier
    assert reached == set(enum)


@pytest.mark.parametrize(("enum", "moves"), TABLES.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_a_move_is_in_the_table_or_a_conflict(enum, moves):
    for now in enum:
        for then in enum:
            if then in moves[now]:
                assert states.move(moves, now, then, what="It") is then
            else:
                with pytest.raises(TreadleError, match="cannot become") as raised:
                    states.move(moves, now, then, what="It")
                assert raised.value.code == "conflict"
                assert raised.value.details == {"now": str(now), "asked": str(then)}


@pytest.mark.parametrize("code", CODES)
def test_an_error_survives_pickling_and_travelling(code):
    error = TreadleError("It is so.", remedy="Do this.", code=code, details={"column": "dep"})
    for copy in (pickle.loads(pickle.dumps(error)), msgspec.json.decode(msgspec.json.encode(error.body()), type=ErrorBody).error()):
        assert (type(copy), str(copy)) == (TreadleError, "It is so.")
        assert (copy.what, copy.remedy, copy.code, copy.details) == (error.what, error.remedy, error.code, error.details)


def test_an_error_has_a_known_code():
    with pytest.raises(ValueError, match="unknown error code"):
        TreadleError("x", remedy="y", code="oops")
    assert ErrorBody(code="of a newer release", what="x", remedy="y").error().code == "internal"


@given(st.lists(st.integers(0, 2**48 - 1), min_size=2))
@settings(deadline=None)
def test_ids_sort_by_their_time(times):
    ids = [new_id("run", at_ms=t, entropy=bytes(10)) for t in times]
    assert sorted(ids) == [new_id("run", at_ms=t, entropy=bytes(10)) for t in sorted(times)]


@given(st.integers(0, 2**130 - 1))
def test_base32_can_be_read_back(number):
    text = base32(number, 26)
    value = 0
    for character in text:
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(character)
    assert value == number


def test_ids_are_fresh():
    assert len({new_id("run") for _ in range(1000)}) == 1000


@given(st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)))
def test_microseconds_are_exact(moment):
    assert from_micros(micros(moment)) == moment.replace(tzinfo=UTC)


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**53), 2**53), max_size=6))
def test_a_digest_does_not_know_the_order_of_fields(values):
    turned = dict(reversed(values.items()))
    assert canonical(values) == canonical(turned)
    assert digest_of(values) == digest_of(turned)


def test_virtual_time_only_goes_forward():
    clock = VirtualClock(dt.datetime(2013, 1, 1))
    clock.advance_to(dt.datetime(2013, 2, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))))
    assert clock.now() == dt.datetime(2013, 1, 31, 23, tzinfo=UTC)
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance_to(dt.datetime(2013, 1, 1))
    assert clock.monotonic() <= clock.monotonic()
    assert utc(dt.datetime(2013, 1, 1)).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("15m", 900), ("7d", 604800), ("2w", 1209600), (5, 5), (dt.timedelta(hours=1), 3600)]
)
def test_durations(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "h", "-1h", "1.5h", "1y", 0, -3, dt.timedelta(milliseconds=1)])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match=r"dur|whole"):
        seconds(text)
