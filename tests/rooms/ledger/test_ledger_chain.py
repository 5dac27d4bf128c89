"""The chain: sealing gives order without gaps, and whatever is done to sealed events is found."""

import datetime as dt
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from treadle.ledger import audit, events, sealer
from treadle.records.calls import SYSTEM, Call
from treadle.records.clock import UTC
from treadle.store import migrate
from treadle.store.db import Database

CALL = Call(actor=SYSTEM, event_time=dt.datetime(2013, 3, 1, tzinfo=UTC))


def tell(database, *names, project="p"):
    def write(tx):
        for name in names:
            events.append(tx, CALL, type="t.e", subject=name, project=project, payload={"name": name}, event_id=f"evt_{name}")

    database.write(write)


def sql(database, statement):
    database.write(lambda tx: tx.execute(text(statement)))


@pytest.fixture
def heads(tmp_path):
    return tmp_path / "outside" / "heads.jsonl"


@pytest.fixture
def sealed(database, heads):
    """Six events; heads published after the third and the last."""
    tell(database, "a", "b", "c")
    assert sealer.seal(database, publish=heads) == 3
    tell(database, "d", "e", "f")
    assert sealer.seal(database, publish=heads) == 3
    return database


def test_order_is_that_of_recording(database):
    names = [f"n{i:03}" for i in range(120)]
    tell(database, *names[:100])
    for name in names[100:]:
        tell(database, name)
    while sealer.seal(database, limit=7):
        pass
    with database.read() as connection:
        there = events.events_after(connection, "p", 0)
    assert [e.subject for e in there] == names
    assert [e.seq for e in there] == list(range(1, 121))


def test_an_intact_chain(sealed, heads):
    report = audit.verify(sealed, heads)
    assert (report.intact, report.sealed, report.unsealed, report.published_seq, report.problems) == (True, 6, 0, 6, [])
    tell(sealed, "g")
    report = audit.verify(sealed, heads)
    assert (report.intact, report.unsealed) == (True, 1)
    assert 0 <= report.unsealed_seconds < 60
    assert sealer.seal(sealed) == 1
    assert audit.verify(sealed, heads).published_seq == 6
    assert audit.verify(sealed).published_seq is None


def test_an_empty_chain(database, heads):
    assert sealer.seal(database, publish=heads) == 0
    assert audit.verify(database, heads).intact


@pytest.mark.parametrize(
    ("tampering", "told"),
    [
        ("UPDATE events SET subject = 'x' WHERE seq = 2", "event 2 (evt_b, t.e) was edited"),
        ("UPDATE events SET actor = 'eve' WHERE seq = 6", "event 6 (evt_f, t.e) was edited"),
        ("UPDATE events SET event_time = event_time + 1 WHERE seq = 4", "event 4 "),
        ("UPDATE events SET recorded_time = recorded_time - 1 WHERE seq = 4", "event 4 "),
        ("UPDATE events SET environment = 'prod' WHERE seq = 1", "event 1 "),
        ('UPDATE events SET payload = \'{"name":"z"}\' WHERE seq = 3', "payload of event 3 (evt_c) was edited"),
        ("UPDATE events SET payload = NULL, salt = NULL WHERE seq = 3", "no event tells of its erasure"),
        ("DELETE FROM events WHERE seq = 3", "event 3 was removed"),
        ("DELETE FROM events WHERE seq = 1", "event 1 was removed"),
        ("DELETE FROM events WHERE seq > 4", "events 5 to 6 were removed"),
        ("DELETE FROM events", "events 1 to 6 were removed"),
        ("UPDATE events SET seq = NULL, hash = NULL WHERE seq > 3", "events 4 to 6 were removed"),
    ],
)
def test_tampering_is_found(sealed, heads, tampering, told):
    sql(sealed, tampering)
    problems = audit.verify(sealed, heads).problems
    assert any(told in p for p in problems), problems


def test_events_swapped_are_found(sealed, heads):
    sql(sealed, "UPDATE events SET seq = 99 WHERE seq = 2")
    sql(sealed, "UPDATE events SET seq = 2 WHERE seq = 3")
    sql(sealed, "UPDATE events SET seq = 3 WHERE seq = 99")
    problems = audit.verify(sealed, heads).problems
    assert any("event 2 " in p for p in problems)
    assert any("event 3 " in p for p in problems)


def test_a_tail_cut_with_its_heads_is_found_by_what_was_published(sealed, heads):
    sql(sealed, "DELETE FROM events WHERE seq > 3")
    sql(sealed, "DELETE FROM heads WHERE seq > 3")
    assert audit.verify(sealed).intact  # nothing inside tells of it
    assert "events 4 to 6 were removed" in audit.verify(sealed, heads).problems[0]


def test_a_chain_rewritten_from_the_start_is_found(sealed, heads):
    sql(sealed, "UPDATE events SET subject = 'x' WHERE seq = 2")
    sql(sealed, "UPDATE events SET seq = NULL, hash = NULL")
    sql(sealed, "DELETE FROM heads")
    assert sealer.seal(sealed) == 6
    assert audit.verify(sealed).intact
    report = audit.verify(sealed, heads)
    assert not report.intact
    assert any("rewritten" in p for p in report.problems)


def test_published_heads_may_end_in_half_a_line(sealed, heads):
    with heads.open("ab") as file:
        file.write(b'{"seq":9')
    assert audit.verify(sealed, heads).intact
    with heads.open("ab") as file:
        file.write(b"\nnonsense\n")
    assert not audit.verify(sealed, heads).intact


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(1, 8), column=st.sampled_from(["type", "subject", "actor", "environment", "payload_digest", "hash"]))
def test_any_column_of_any_event_is_covered(tmp_path_factory, place, column):
    folder = tmp_path_factory.mktemp("chain")
    with Database.open(f"sqlite:///{folder}/t.db") as database:
        migrate.ensure(database)
        tell(database, *"abcdefgh")
        sealer.seal(database)
        sql(database, f"UPDATE events SET {column} = {column} || 'x' WHERE seq = {place}")
        assert not audit.verify(database).intact


def test_cursors_only_go_forward(sealed):
    with sealed.read() as connection:
        assert events.cursor(connection, "p", "triggers") == 0
    for seq in (3, 5, 2):
        sealed.write(lambda tx, s=seq: events.advance(tx, "p", "triggers", s))
    with sealed.read() as connection:
        at = events.cursor(connection, "p", "triggers")
        assert at == 5
        assert [e.subject for e in events.events_after(connection, "p", at)] == ["f"]
        assert events.events_after(connection, "p", 0, ["t.*"], 2)[-1].subject == "b"
        assert events.events_after(connection, "q", 0) == []
        assert len(events.events_after(connection, "*", 0, ["t.e", "x"])) == 6


def test_sealers_at_once_leave_no_gap_and_no_fork(database, database_url, heads):
    """Two threads write, three seal: the chain is one, every event in it once."""
    done = threading.Event()
    errors = []

    def guarded(work):
        def run():
            try:
                with Database.open(database_url) as mine:
                    work(mine)
            except Exception as error:
                errors.append(error)
                raise

        return run

    def write(name):
        return guarded(lambda mine: [tell(mine, f"{name}{i}") for i in range(40)])

    def seal(mine):
        while not done.is_set():
            sealer.seal(mine, limit=5, publish=heads)
            done.wait(0.01)

    writers = [threading.Thread(target=write(name)) for name in "xy"]
    sealers = [threading.Thread(target=guarded(seal)) for _ in range(3)]
    for thread in [*writers, *sealers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in sealers:
        thread.join()
    sealer.seal_all(database, publish=heads)
    report = audit.verify(database, heads)
    assert errors == []
    assert (report.intact, report.sealed) == (True, 80), report
    with database.read() as connection:
        there = [e.subject for e in events.events_after(connection, "p", 0)]
    assert sorted(there) == sorted(f"{n}{i}" for n in "xy" for i in range(40))
    for name in "xy":  # each writer's events in its order
        assert [s for s in there if s[0] == name] == [f"{name}{i}" for i in range(40)]


def test_heads_go_outside_the_home(monkeypatch, tmp_path):
    monkeypatch.delenv("TREADLE_HEADS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert sealer.heads_path("home_1") == tmp_path / "treadle" / "heads" / "home_1.jsonl"
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "mine"))
    assert sealer.heads_path("home_1") == tmp_path / "mine" / "home_1.jsonl"


def test_importing_the_ledger_loads_no_heavy_library():
    code = "import sys, treadle.ledger; print([m for m in ('alembic', 'sklearn', 'polars', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
