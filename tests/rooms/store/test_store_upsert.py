"""Rows straight to the driver: what is kept when keys meet, the same on both databases, whatever the number of rows."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, Double, LargeBinary, MetaData, String, Table, Text, exc, select

from treadle.store.db import Database
from treadle.store.tables import Json, Time
from treadle.store.upsert import find_row, insert_rows, upsert_rows

#: A table of this test's own: a key of two columns, and a column of every kind that the schema has.
points = Table(
    "points",
    MetaData(),
    Column("run", String(200), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("experiment", String(400), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("time", Time, nullable=False),
    Column("value", Double),
    Column("told", Text),
    Column("facts", Json),
    Column("flag", Boolean),
    Column("raw", LargeBinary),
)
COLUMNS = ("run", "name", "experiment", "step", "time", "value")


@pytest.fixture
def own(database_url):
    with Database.open(database_url) as database:
        database.write(points.create)
        yield database


def rows_of(database):
    """What is there, as the driver gives it."""
    with database.read() as connection:
        return sorted(tuple(row) for row in connection.exec_driver_sql("SELECT * FROM points").all())


@pytest.mark.parametrize("times", [1, 2, 300])
def test_rows_that_are_there_stay(own, times):
    rows = [("r", f"n{i:03}", "new", 1, 1, 1.0) for i in range(times)]
    assert own.write(lambda tx: insert_rows(tx, points, COLUMNS, [])) == 0
    assert own.write(lambda tx: insert_rows(tx, points, COLUMNS, [("r", "n000", "old", 0, 0, 0.0)])) == 1
    assert own.write(lambda tx: insert_rows(tx, points, COLUMNS, rows)) == times - 1
    assert own.write(lambda tx: insert_rows(tx, points, COLUMNS, rows)) == 0
    assert [row[:6] for row in rows_of(own)] == [("r", "n000", "old", 0, 0, 0.0), *rows[1:]]


def test_the_first_of_rows_with_one_key_is_kept(own):
    rows = [("r", "n", "first", 1, 1, 1.0), ("r", "n", "second", 2, 2, 2.0), ("r", "m", "other", 2, 2, 2.0)]
    assert own.write(lambda tx: insert_rows(tx, points, COLUMNS, rows)) == 2
    assert [row[2] for row in rows_of(own)] == ["other", "first"]


@pytest.mark.parametrize("times", [1, 7])
def test_every_type_arrives_as_it_is(own, times):
    columns = (*COLUMNS, "told", "facts", "flag", "raw")
    texts = ["", "ü€𝄞", "quo\"te's", "{a,b}", "NULL", "back\\slash", "line\nline", "a b ", "%s ?", None]
    numbers = [0.1, -1e308, 5e-324, 2.0**53, None, float("inf"), -0.0, 1 / 3, -float("inf"), 1e22]
    raws = [b"", b"\x00\xff", None, b"\\x", b"{}", b"a" * 5000, b'"', b",", b" ", b"\\"]
    flags = [True, False, None]
    for start in range(0, len(texts), times):
        span = range(start, min(start + times, len(texts)))
        rows = [
            ("r", f"{i}{texts[i]}", texts[i] or "", 2**62 + i, -i, numbers[i], texts[i], '{"a":[1,"b"]}', flags[i % 3], raws[i])
            for i in span
        ]
        own.write(lambda tx, rows=rows: upsert_rows(tx, points, columns, rows, update=("value", "told", "raw")))
        own.write(lambda tx, rows=rows: upsert_rows(tx, points, columns, rows, update=("value", "told", "raw")))
    with own.read() as connection:
        there = connection.execute(select(points).order_by(points.c.time.desc())).all()
    assert [row.told for row in there] == texts
    assert [row.value for row in there] == numbers
    assert [row.raw for row in there] == raws
    assert [row.flag for row in there] == [flags[i % 3] for i in range(len(texts))]
    assert [row.step for row in there] == [2**62 + i for i in range(len(texts))]
    assert all(row.facts == {"a": [1, "b"]} for row in there)


@pytest.mark.parametrize("value", [0.5, -0.0, float("inf"), None])
@pytest.mark.parametrize("flag", [True, False, None])
def test_what_is_the_same_in_all_rows_arrives_in_all(own, value, flag):
    columns = (*COLUMNS, "told", "facts", "flag", "raw")
    rows = [("r", f"n{i}", "quo\"te's %s", 2**62, -1, value, "ü€𝄞", "[]", flag, b"\\x\x00") for i in range(5)]
    own.write(lambda tx: insert_rows(tx, points, columns, rows))
    assert [tuple(row) for row in rows_of(own)] == rows
    own.write(lambda tx: upsert_rows(tx, points, columns, rows[:1] * 2, update=("value",)))
    assert len(rows_of(own)) == 5


def test_equal_numbers_stay_as_different_as_they_are(own):
    own.write(lambda tx: insert_rows(tx, points, COLUMNS, [("r", f"n{i}", "e", 0, 0, value) for i, value in enumerate((0.0, -0.0, 0.0))]))
    second = "-0.0" if own.dialect == "postgresql" else "0.0"  # SQLite keeps whole numbers as integers, which have no such zero
    assert [str(row[5]) for row in rows_of(own)] == ["0.0", second, "0.0"]


@pytest.mark.parametrize("times", [1, 2, 300])
def test_fresh_rows_that_are_there_after_all_are_an_integrity_error(own, times):
    rows = [("r", f"n{i:03}", "e", 1, 1, 1.0) for i in range(times)]
    assert own.write(lambda tx: insert_rows(tx, points, COLUMNS, rows, fresh=True)) == times
    with pytest.raises(exc.IntegrityError):
        own.write(lambda tx: insert_rows(tx, points, COLUMNS, [("r", "m", "e", 1, 1, 1.0), *rows], fresh=True))
    assert len(rows_of(own)) == times


@pytest.mark.parametrize("times", [1, 2, 50])
def test_a_missing_value_is_an_integrity_error_and_keeps_nothing(own, times):
    rows = [("r", f"n{i}", None if i == times - 1 else "", 0, 0, 1.0) for i in range(times)]
    for put in (insert_rows, lambda *a: upsert_rows(*a, update=("value",))):
        with pytest.raises(exc.IntegrityError):
            own.write(lambda tx, put=put: put(tx, points, COLUMNS, rows))
    assert rows_of(own) == []


def test_a_column_that_is_none_is_refused(own):
    with pytest.raises(LookupError, match="nonsense"):
        own.write(lambda tx: insert_rows(tx, points, ("run", "nonsense"), [("a", "b")]))
    for more in ({"update": ("nonsense",)}, {"update": ("value",), "newer": ("nonsense",)}):
        with pytest.raises(LookupError, match="nonsense"):
            own.write(lambda tx, more=more: upsert_rows(tx, points, COLUMNS, [("r", "n", "e", 0, 0, 0.0)], **more))


def test_a_row_is_found_by_its_columns(own):
    own.write(lambda tx: insert_rows(tx, points, COLUMNS, [("r", "n", "e", 2**62, -5, None), ("r", "m", "e", 1, 1, 1.0)]))
    with own.read() as connection:
        assert tuple(find_row(connection, points, ("step", "time", "value"), ("run", "name"), ("r", "n"))) == (2**62, -5, None)
        assert find_row(connection, points, ("step",), ("run", "name"), ("r", "x")) is None
        for columns, by in ((("nonsense",), ("run",)), (("step",), ("nonsense",)), ((), ("run",)), (("step",), ())):
            with pytest.raises(LookupError):
                find_row(connection, points, columns, by, ("r",))


def one_after_the_other(there, rows, update, newer):
    """What `upsert_rows` promises, in plain words; and how many rows it wrote."""
    kept, written = dict(there), 0
    for row in rows:
        new = dict(zip(COLUMNS, row, strict=True))
        old = kept.get(row[:2])
        if old is None:
            kept[row[:2]] = new
        elif update and (not newer or tuple(new[n] for n in newer) > tuple(old[n] for n in newer)):
            kept[row[:2]] = {**old, **{n: new[n] for n in update}}
        else:
            continue
        written += 1
    return kept, written


NUMBER = st.integers(0, 3)
ROW = st.tuples(st.just("r"), st.sampled_from("abc"), st.sampled_from("xy"), NUMBER, NUMBER, NUMBER.map(float))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(ROW, max_size=8), max_size=3),
    update=st.sampled_from([("step", "time", "value"), ("value",), ("experiment", "step", "time"), ()]),
    newer=st.sampled_from([(), ("step",), ("step", "time", "value")]),
)
def test_upsert_is_one_row_after_the_other(own, batches, update, newer):
    own.write(lambda tx: tx.execute(points.delete()))
    expected = {}
    for rows in batches:
        count = own.write(lambda tx, rows=rows: upsert_rows(tx, points, COLUMNS, rows, update=update, newer=newer))
        expected, written = one_after_the_other(expected, rows, update, newer)
        assert count == written
    assert [row[:6] for row in rows_of(own)] == sorted(tuple(row.values()) for row in expected.values())
