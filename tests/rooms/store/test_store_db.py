"""One way to read and one way to write, on both databases: isolation, group commit, errors, hops."""

import contextlib
import functools
import os
import resource
import sys
import threading
import traceback

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, exc, select, text

from treadle.ledger import Dispatcher, Ledger
from treadle.operations import ledger as ops
from treadle.records.calls import SYSTEM
from treadle.records.errors import TreadleError
from treadle.records.ledger import Metric
from treadle.store import driver, migrate, upsert
from treadle.store import tables as t
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database, ping
from treadle.store.driver import fetch, fetch_together, run
from treadle.store.postgres import SESSION, Session
from treadle.store.queries import home


def test_a_failed_write_undoes_only_itself(database):
    """Many at once, so that on SQLite they share a transaction: each failure is its caller's alone."""
    outcomes = {}

    def write(number):
        def put(tx):
            home.put_value(tx, f"n{number}", "x")
            if number % 3 == 0:
                raise KeyError(number) if number % 2 else RuntimeError(number)

        try:
            database.write(put)
            outcomes[number] = None
        except (KeyError, RuntimeError) as error:
            outcomes[number] = error.args[0]

    threads = [threading.Thread(target=write, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {n: (n if n % 3 == 0 else None) for n in range(40)}
    with database.read() as connection:
        there = {n for n in range(40) if home.get_value(connection, f"n{n}")}
    assert there == {n for n in range(40) if n % 3}


def gathered(database, functions, *, behind=True):
    """What becomes of functions that wait together, so that on SQLite they share a transaction: their values or errors.

    They come `behind` a write that succeeded, or are the first of their transaction.
    """
    begun, go = threading.Event(), threading.Event()

    def hold(tx):
        begun.set()
        assert go.wait(60)
        if not behind:
            raise Refused

    database.submit(hold)
    assert begun.wait(60)
    futures = [database.submit(function) for function in functions]
    go.set()
    return [future.exception(60) or future.result() for future in futures]


class Refused(Exception):
    """A write function's own error."""


def put(name, kind):
    """A write function that keeps two names, and `kind` says how it ends."""

    def function(tx):
        home.put_value(tx, f"{name}-1", "x")
        if kind == "fails":
            raise Refused(name)
        if kind == "clashes":
            tx.execute(t.home.insert(), {"name": f"{name}-1", "value": "again"})
        if kind == "clashes late":
            tx.execute(t.home.insert(), [{"name": f"{name}-2", "value": "x"}, {"name": "there", "value": "x"}])
        home.put_value(tx, f"{name}-2", "x")
        return name

    return function


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(["works", "works", "fails", "clashes", "clashes late"]), max_size=9), behind=st.booleans())
@example(kinds=["fails"] * 3 + ["works"], behind=False)
@example(kinds=["works", "clashes late", "fails", "works", "fails"], behind=False)
@example(kinds=["clashes late", "works", "fails", "works"], behind=True)
def test_failures_at_any_place_undo_only_themselves(database, kinds, behind):
    def clear(tx):
        tx.execute(t.home.delete())
        home.put_value(tx, "there", "x")

    database.write(clear)
    outcomes = gathered(database, [put(str(n), kind) for n, kind in enumerate(kinds)], behind=behind)
    for n, (kind, outcome) in enumerate(zip(kinds, outcomes, strict=True)):
        expected = {"works": str, "fails": Refused}.get(kind, exc.IntegrityError)
        assert isinstance(outcome, expected), (n, kind, outcome)
    with database.read() as connection:
        there = set(connection.execute(select(t.home.c.name)).scalars())
    assert there == {"there"} | {f"{n}-{half}" for n, kind in enumerate(kinds) if kind == "works" for half in (1, 2)}


@pytest.mark.parametrize("place", range(4))
def test_a_lost_transaction_is_told_to_everyone_in_it(tmp_path, place):
    """An error of the database itself, at any place: what was done before it is undone and told so, what comes after is not touched."""
    with Database.open(f"sqlite:///{tmp_path}/t.db") as database:
        migrate.ensure(database)
        functions = [put("0", "works"), put("1", "fails"), put("2", "works")]
        functions.insert(place, lambda tx: tx.execute(text("SELECT * FROM nowhere")))
        outcomes = gathered(database, functions)
        with database.read() as connection:
            there = set(connection.execute(select(t.home.c.name)).scalars())
    lost = [n for n in range(place + 1) if not isinstance(outcomes[n], Refused)]
    assert all("nowhere" in str(outcomes[n]) for n in lost), outcomes
    assert not any(isinstance(outcome, str) and n < place for n, outcome in enumerate(outcomes))
    kept = {outcome for outcome in outcomes if isinstance(outcome, str)}
    assert kept == {name for n, name in ((n + (n >= place), name) for n, name in enumerate("012")) if n > place and name != "1"}
    assert {name for name in there if name[:1] in "012"} == {f"{name}-{half}" for name in kept for half in (1, 2)}


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize("place", range(3))
def test_a_write_that_goes_on_after_the_transaction_was_undone_is_not_acknowledged(tmp_path, place, behind):
    def heedless(tx):
        home.put_value(tx, "lost", "x")
        tx.connection.dbapi_connection.rollback()  # as the database itself does when its disk is full
        home.put_value(tx, "alone", "x")

    with Database.open(f"sqlite:///{tmp_path}/t.db") as database:
        migrate.ensure(database)
        functions = [put(str(n), "works") for n in range(2)]
        functions.insert(place, heedless)
        outcomes = gathered(database, functions, behind=behind)
        assert [isinstance(outcome, TreadleError) for outcome in outcomes] == [n <= place for n in range(3)]
        assert database.write(put("later", "works")) == "later"
        with database.read() as connection:
            assert "lost" not in connection.execute(select(t.home.c.name)).scalars().all()


def test_a_submitted_write_is_on_disk_when_it_is_done(database, database_url):
    future = database.submit(put("a", "works"))
    assert future.result(60) == "a"
    with Database.open(database_url) as other, other.read() as connection:
        assert home.get_value(connection, "a-2") == "x"
    with pytest.raises(Refused):
        database.submit(put("b", "fails")).result(60)


def test_a_submitted_write_cancelled_in_time_does_not_run(tmp_path):
    with Database.open(f"sqlite:///{tmp_path}/t.db") as database:
        migrate.ensure(database)
        begun, go = threading.Event(), threading.Event()

        def hold(tx):
            begun.set()
            assert go.wait(60)

        held = database.submit(hold)
        assert begun.wait(60)
        waiting = [database.submit(put(str(n), "works")) for n in range(3)]
        assert (held.cancel(), waiting[0].cancel(), waiting[2].cancel()) == (False, True, True)
        go.set()
        assert waiting[1].result(60) == "1"
        assert database.write(lambda tx: home.get_value(tx, "0-1")) is None


def test_what_was_submitted_before_the_close_is_written(database, database_url):
    futures = [database.submit(put(str(n), "works")) for n in range(20)]
    database.close()
    assert [future.result(0) for future in futures] == [str(n) for n in range(20)]
    with pytest.raises(TreadleError, check=lambda e: e.code == "unavailable"):
        database.submit(put("late", "works"))


def test_writes_behave_as_if_one_after_the_other(database):
    """Read, decide and write, from many threads: no increment is lost."""
    database.write(lambda tx: home.put_value(tx, "count", "0"))

    def add():
        for _ in range(10):
            database.write(lambda tx: home.put_value(tx, "count", str(int(home.get_value(tx, "count") or 0) + 1)))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert home.get_value(connection, "count") == "40"


def test_a_read_sees_one_snapshot(database):
    with database.read() as connection:
        assert home.get_value(connection, "later") is None
        database.write(lambda tx: home.put_value(tx, "later", "x"))
        assert home.get_value(connection, "later") is None
    with database.read() as connection:
        assert home.get_value(connection, "later") == "x"


def test_a_reader_cannot_write_on_sqlite(tmp_path):
    with Database.open(f"sqlite:///{tmp_path}/t.db") as database, pytest.raises(TreadleError), database.read() as connection:
        connection.execute(text("CREATE TABLE t (x)"))


def test_a_closed_database_says_so(database):
    assert ping(database) < 5
    database.close()
    database.close()
    with pytest.raises(TreadleError, check=lambda e: e.code == "unavailable"):
        database.write(lambda tx: None)


def test_a_write_inside_a_write_is_refused(tmp_path):
    with Database.open(f"sqlite:///{tmp_path}/t.db") as database, pytest.raises(RuntimeError, match="its connection"):
        database.write(lambda tx: database.write(lambda inner: None))


def test_a_database_does_not_survive_a_fork(tmp_path):
    with Database.open(f"sqlite:///{tmp_path}/t.db") as database:
        database.write(lambda tx: None)
        child = os.fork()
        if child == 0:
            try:
                database.write(lambda tx: None)
            except RuntimeError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "nonsense"])
def test_an_unknown_database_is_named(url):
    with pytest.raises(TreadleError, check=lambda e: e.code == "bad_request"):
        Database.open(url)


def test_a_server_that_is_away_is_unavailable():
    with Database.open("postgresql://postgres@127.0.0.1:1/none") as database:
        with pytest.raises(TreadleError, check=lambda e: e.code == "unavailable" and "doctor" in e.remedy):
            database.write(lambda tx: None)
        with pytest.raises(TreadleError, check=lambda e: e.code == "unavailable"), database.read() as connection:
            connection.execute(text("SELECT 1"))


@pytest.mark.postgres
def test_a_write_survives_the_end_of_the_connections_that_were_kept_for_it(postgres_schema):
    with Database.open(postgres_schema) as database, Database.open(postgres_schema) as other:
        migrate.ensure(database)
        threads = [threading.Thread(target=database.write, args=(lambda tx: tx.execute(text("SELECT pg_sleep(0.1)")),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pids = [connection.connection.driver_connection.info.backend_pid for connection, _ in database._writers._waiting]
        assert len(pids) == 4
        cut = text("SELECT pg_terminate_backend(:pid, 5000)")
        other.write(lambda tx: [tx.execute(cut, {"pid": pid}) for pid in pids])
        database.write(lambda tx: home.put_value(tx, "after", "x"))
        assert database.write(lambda tx: home.get_value(tx, "after")) == "x"

        def lose(tx):
            other.write(lambda theirs: theirs.execute(cut, {"pid": tx.connection.driver_connection.info.backend_pid}))
            tx.execute(text("SELECT 1"))

        with pytest.raises(TreadleError, check=lambda e: e.code == "unavailable"):
            database.write(lose)  # whenever it is tried
        assert database.write(lambda tx: home.get_value(tx, "after")) == "x"


@pytest.mark.postgres
def test_a_write_that_others_undo_each_time_is_said_to_be_so_and_nothing_of_it_is_kept(postgres_schema, monkeypatch):
    monkeypatch.setattr("treadle.store.db._RETRIES", 4)
    with Database.open(postgres_schema) as database, Database.open(postgres_schema) as other:
        migrate.ensure(database)
        tried = []

        def meet(tx):
            tried.append(home.get_value(tx, "at"))
            other.write(lambda theirs: home.put_value(theirs, "at", str(len(tried))))
            home.put_value(tx, "at", "mine")

        with pytest.raises(TreadleError, match="Others changed", check=lambda e: e.code == "busy"):
            database.write(meet)
        assert tried == [None, "1", "2", "3"]
        assert database.write(lambda tx: home.get_value(tx, "at")) == "4"


@pytest.mark.postgres
def test_what_is_only_looked_at_begins_no_transaction_and_joins_one_that_runs(postgres_schema):
    count = "SELECT COUNT(*) FROM home WHERE name = ?"
    with Database.open(postgres_schema) as database, Database.open(postgres_schema) as other:
        migrate.ensure(database)
        with database.read() as connection:
            assert driver.fetch_apart(connection, count, "a") == [(0,)]
            assert not connection.info[SESSION].open
            other.write(lambda tx: home.put_value(tx, "a", "x"))
            assert fetch(connection, count, "a") == [(1,)]
            other.write(lambda tx: home.put_value(tx, "b", "x"))
            assert driver.fetch_apart(connection, count, "b") == [(0,)], "the snapshot is that of the transaction"


@pytest.mark.postgres
@pytest.mark.parametrize("toolkit", [True, False])
def test_a_read_has_one_snapshot_and_a_write_is_as_if_alone(postgres_schema, toolkit):
    def isolation(connection):
        asked = "SHOW transaction_isolation"
        return connection.exec_driver_sql(asked).scalar_one() if toolkit else fetch(connection, asked)[0][0]

    with Database.open(postgres_schema) as database:
        migrate.ensure(database)
        for _ in range(5):  # on a connection that is new, and one that was kept
            assert database.write(isolation) == "serializable"
            with database.read() as connection:
                assert isolation(connection) == "repeatable read"


@pytest.mark.postgres
@pytest.mark.parametrize("toolkit", [True, False])
def test_a_read_finds_another_connection_where_its_own_was_ended_meanwhile(postgres_schema, toolkit):
    def read():
        with database.read() as connection:
            pid = "SELECT pg_backend_pid()"
            return connection.exec_driver_sql(pid).scalar_one() if toolkit else fetch(connection, pid)[0][0]

    with Database.open(postgres_schema) as database, Database.open(postgres_schema) as other:
        migrate.ensure(database)
        first = read()
        assert read() == first
        assert [c.connection.driver_connection.info.backend_pid for c, _ in database._readers._waiting] == [first]
        other.write(lambda tx: tx.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": first}))
        assert read() != first


@pytest.mark.postgres
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("failing", [False, True])
def test_whoever_is_done_with_a_read_waits_for_no_rollback_and_the_next_one_begins_anew(postgres_schema, failing, cut):
    with Database.open(postgres_schema) as database, Database.open(postgres_schema) as other:
        migrate.ensure(database)

        def read():
            with database.read() as connection:
                pid = fetch(connection, "SELECT pg_backend_pid()")[0][0]
                seen = fetch(connection, "SELECT COUNT(*) FROM home WHERE name = 'after'")[0][0]
                if failing:
                    fetch(connection, "SELECT 1 / 0")
                return pid, seen

        def tried():
            with contextlib.suppress(exc.DBAPIError):
                return read()
            return None

        tried()
        ((connection, session),) = database._readers._waiting
        assert session.open, "its answer is on the way"
        pid = connection.connection.driver_connection.info.backend_pid
        other.write(lambda tx: home.put_value(tx, "after", "x"))
        if cut:
            other.write(lambda tx: tx.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}))
        failing = False
        again, seen = read()
        assert (again == pid, seen) == (not cut, 1)
        with other.read() as looking:
            states = fetch(looking, "SELECT state FROM pg_stat_activity WHERE pid = ?", again)
            assert states == [("idle",)], "no transaction is left open"


@pytest.mark.postgres
def test_a_read_that_has_its_answer_keeps_it_where_the_connection_ends_then_and_none_is_lost(postgres_schema):
    with Database.open(postgres_schema) as database, Database.open(postgres_schema) as other:
        migrate.ensure(database)
        for _ in range(20):  # more than there may be connections
            with database.read() as connection:
                pid = fetch(connection, "SELECT pg_backend_pid()")[0][0]
                other.write(lambda tx, pid=pid: tx.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}))
        with database.read() as connection:
            assert fetch(connection, "SELECT 1") == [(1,)]
        assert database._read.pool.checkedout() <= 1


@pytest.mark.postgres
def test_a_read_whose_connection_ends_under_it_is_told_so_and_the_next_one_is_well(postgres_schema):
    with Database.open(postgres_schema) as database, Database.open(postgres_schema) as other:
        migrate.ensure(database)

        def lose():
            with database.read() as connection:
                pid = fetch(connection, "SELECT pg_backend_pid()")[0][0]
                other.write(lambda tx: tx.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}))
                fetch(connection, "SELECT 1")

        with pytest.raises(TreadleError, check=lambda e: e.code == "unavailable"):
            lose()
        with database.read() as connection:
            assert fetch(connection, "SELECT 1") == [(1,)]


@pytest.mark.postgres
@pytest.mark.parametrize("together", [True, False])
def test_a_reads_last_statement_ends_its_transaction_where_that_was_said(postgres_schema, together):
    def last(connection):
        return fetch_together(connection, [("SELECT 1", ())], last=True)[0] if together else fetch(connection, "SELECT 1", last=True)

    with Database.open(postgres_schema) as database:
        for said in (False, True, True):
            with database.read() as connection:
                if said:
                    driver.nothing_follows(connection)
                assert last(connection) == [(1,)]
                assert connection.info[SESSION].open is not said
                if said:
                    with pytest.raises(RuntimeError, match="committed already"):
                        fetch(connection, "SELECT 1")
            connection.info[SESSION].settle()
            assert connection.info[SESSION].open is False


PUT = "INSERT INTO home (name, value) VALUES (?, ?)"


def names(database):
    with database.read() as connection:
        return {name for (name,) in fetch(connection, "SELECT name FROM home WHERE name LIKE 'x%'")}


@pytest.mark.parametrize("ends", ["commit", "statement", "toolkit"])
def test_what_need_not_be_waited_for_is_written_in_order_and_undone_with_the_rest(database, ends):
    """On PostgreSQL it travels with the next statement, or with the commit."""

    def put(tx, name):
        upsert.insert_later(tx, t.home, {"name": name, "value": "later"})

    def behind(tx):
        if ends == "statement":
            return fetch(tx, "SELECT value FROM home WHERE name = 'x1'")
        return tx.execute(select(t.home.c.value).where(t.home.c.name == "x1")).all() if ends == "toolkit" else None

    def good(tx):
        put(tx, "x1")
        return behind(tx)

    def twice(tx):
        driver.run(tx, PUT, [("x2", "v")])
        put(tx, "x1")
        return behind(tx)

    def fails(tx):
        put(tx, "x3")
        raise LookupError("of its own")

    assert database.write(good) == (None if ends == "commit" else [("later",)])
    assert names(database) == {"x1"}
    with pytest.raises(exc.IntegrityError):
        database.write(twice)
    with pytest.raises(LookupError, match="of its own"):
        database.write(fails)
    assert names(database) == {"x1"}


ODD = ["plain", "", "NULL", "a,b", "{c}", 'd"e', "f\\g", "\\", '"', " h ", "ü—語", "i\nj"]


def test_runs_whose_ids_have_any_form_are_read_by_them(database):
    statement = "INSERT INTO run_documents (project, run_id, document) VALUES (?, ?, ?)"
    database.write(lambda tx: run(tx, statement, [(project, name, project) for project in ("p", "q") for name in ODD]))
    with database.read() as connection:
        for asked in (ODD, ODD[3:8], ODD[5:6], ["nobody"]):
            source, condition, values = driver.of_runs(connection, "run_documents", "q", asked)
            found = fetch(connection, f"SELECT t.run_id, t.document FROM {source} WHERE {condition}", *values)
            assert sorted(found) == sorted((name, "q") for name in {*asked} & {*ODD})


def test_statements_that_go_together_see_what_was_written_before_them_and_stop_at_an_error(database):
    def write(tx):
        upsert.insert_later(tx, t.home, {"name": "x1", "value": "v"})
        return driver.fetch_together(tx, [("SELECT value FROM home WHERE name = ?", ("x1",)), ("SELECT ? || ?", ("a", "b"))])

    for _ in range(4):  # prepared on the third
        database.write(lambda tx: fetch(tx, "DELETE FROM home WHERE name = 'x1' RETURNING name"))
        assert database.write(write) == [[("v",)], [("ab",)]]
    with database.read() as connection:
        assert driver.fetch_together(connection, []) == []
        with pytest.raises(exc.DBAPIError, match="nowhere"):
            driver.fetch_together(connection, [("SELECT 1", ()), ("SELECT 1 FROM nowhere", ())])
    with database.read() as connection:
        assert driver.fetch_together(connection, [("SELECT 1", ()), ("SELECT 2", ())]) == [[(1,)], [(2,)]]


def test_a_last_statement_is_committed_with_its_transaction_and_no_sooner(database):
    """Where nothing follows it travels with the commit on PostgreSQL; where something may, it does not."""

    def one(tx, name, *, ends):
        if ends:
            driver.nothing_follows(tx)
        fetch(tx, PUT + " RETURNING name", name, "v", last=True)

    def fails(tx):
        one(tx, "x3", ends=False)
        raise LookupError("of its own")

    database.write(lambda tx: one(tx, "x1", ends=True))
    database.write(lambda tx: [one(tx, "x2", ends=False), fetch(tx, "SELECT 1")])  # says nothing for the one before
    assert names(database) == {"x1", "x2"}
    with pytest.raises(exc.IntegrityError):
        database.write(lambda tx: one(tx, "x1", ends=True))
    with pytest.raises(LookupError):
        database.write(fails)
    assert names(database) == {"x1", "x2"}


@pytest.mark.postgres
@pytest.mark.parametrize("toolkit", [True, False])
def test_a_statement_behind_the_last_one_is_refused(postgres_schema, toolkit):
    def goes_on(tx):
        driver.nothing_follows(tx)
        fetch(tx, PUT + " RETURNING name", "x1", "v", last=True)
        tx.execute(text("SELECT 1")) if toolkit else driver.run(tx, PUT, [("x2", "v")])

    with Database.open(postgres_schema) as database:
        migrate.ensure(database)
        with pytest.raises(RuntimeError, match="follows the one that was said to be the last"):
            database.write(goes_on)
        assert names(database) == {"x1"}
        database.write(lambda tx: driver.run(tx, PUT, [("x3", "v")]))
        assert names(database) == {"x1", "x3"}


@pytest.mark.postgres
def test_a_last_statement_that_another_write_undoes_is_run_again(postgres_schema):
    """Its serialisation failure comes with the commit: the answer of the statement alone would be a lie."""

    def add(tx, mine, others):
        driver.nothing_follows(tx)
        seen.append(fetch(tx, f"SELECT count(*) FROM home WHERE name LIKE '{others}%'")[0][0])
        if len(seen) <= 2:
            both.wait(10)
        fetch(tx, PUT + " RETURNING name", f"{mine}{len(seen)}", "v", last=True)
        return seen[-1]

    seen, both = [], threading.Barrier(2)
    with Database.open(postgres_schema) as database:
        migrate.ensure(database)
        first, second = (database.submit(functools.partial(add, mine=m, others=o)) for m, o in (("xa", "xb"), ("xb", "xa")))
        first.result(30), second.result(30)
        assert len(seen) > 2  # as if one after the other: one of the two counts the other's row
        assert sorted(name[:2] for name in names(database)) == ["xa", "xb"]


@pytest.mark.postgres
@pytest.mark.parametrize("toolkit", [True, False])
def test_a_write_that_goes_on_after_an_error_is_no_success(postgres_schema, toolkit):
    """PostgreSQL takes the commit of a transaction that an error has undone, and undoes it."""
    with Database.open(postgres_schema) as database:
        migrate.ensure(database)

        def go_on(tx):
            home.put_value(tx, "lost", "x")
            with contextlib.suppress(exc.DBAPIError):
                tx.execute(text("SELECT 1 / 0")) if toolkit else fetch(tx, "SELECT 1 / 0")

        with pytest.raises(RuntimeError, match="went on"):
            database.write(go_on)
        assert database.write(lambda tx: home.get_value(tx, "lost")) is None


@pytest.mark.postgres
def test_a_statement_that_the_server_forgot_is_prepared_again(postgres_schema):
    with Database.open(postgres_schema) as database:
        migrate.ensure(database)
        for number in range(5):
            database.write(lambda tx, number=number: home.put_value(tx, "n", str(number)))
        database.write(lambda tx: tx.exec_driver_sql("DEALLOCATE ALL"))
        for number in range(5, 10):
            database.write(lambda tx, number=number: home.put_value(tx, "n", str(number)))
        assert database.write(lambda tx: home.get_value(tx, "n")) == "9"


def test_everyone_who_writes_the_same_row_gets_through(database):
    """Forty at once, each of whose writes undoes the others' that run beside it: as if one after the other, and no error."""
    database.write(lambda tx: home.put_value(tx, "count", "0"))

    def add(tx):
        home.put_value(tx, "count", str(int(home.get_value(tx, "count")) + 1))

    errors = []

    def writer():
        try:
            for _ in range(8):
                database.write(add)
        except Exception as error:  # noqa: BLE001  (counted below)
            errors.append(error)

    threads = [threading.Thread(target=writer) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert database.write(lambda tx: home.get_value(tx, "count")) == "320"


def in_a_child(work):
    """Run `work` in a fork whose files may not grow past 2 MB; what it returns, or the traceback it died of."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
            said = work()
        except BaseException:  # noqa: BLE001
            said = traceback.format_exc()
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_full_disk_writes_nothing_by_halves(tmp_path):
    """The file that may not grow stands for the disk that is full: what was acknowledged is there, what failed left nothing."""
    path = tmp_path / "t.db"

    def fill():
        with Database.open(f"sqlite:///{path}") as database:
            database.write(lambda tx: tx.execute(text("CREATE TABLE t (n INTEGER, body TEXT)")))
            for number in range(1000):

                def put(tx, number=number):
                    for half in range(2):
                        tx.execute(text("INSERT INTO t VALUES (:n, :b)"), {"n": number * 2 + half, "b": "x" * 20_000})

                try:
                    database.write(put)
                except TreadleError as error:
                    return f"{number} {error.code}"
        return "never full"

    said = in_a_child(fill)
    number, _, code = said.partition(" ")
    assert code == "storage_full", said
    with Database.open(f"sqlite:///{path}") as database, database.read() as connection:
        rows = connection.execute(text("SELECT n FROM t ORDER BY n")).scalars().all()
        assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    assert rows == list(range(int(number) * 2))


def test_a_full_disk_leaves_no_blob(tmp_path):
    def fill():
        blobs = LocalBlobs(tmp_path / "blobs")
        try:
            blobs.put(b"x" * (3 << 20))
        except TreadleError as error:
            return error.code
        return "stored"

    assert in_a_child(fill) == "storage_full"
    blobs = LocalBlobs(tmp_path / "blobs")
    assert list(blobs.listing()) == []
    assert list((blobs.root / "tmp").iterdir()) == []


def test_a_spoilt_blob_is_named(tmp_path):
    blobs = LocalBlobs(tmp_path / "blobs")
    digest = blobs.put(b"good")
    blobs.place(digest).write_bytes(b"evil")
    for ask in (blobs.get, blobs.path):
        with pytest.raises(TreadleError, check=lambda e: e.code == "corrupt" and str(blobs.place(digest)) in e.remedy):
            ask(digest)
    with pytest.raises(TreadleError, check=lambda e: e.code == "not_found"):
        blobs.get("0" * 64)
    with pytest.raises(TreadleError, check=lambda e: e.code == "bad_request"):
        blobs.get("../../etc/passwd")


# ── hops ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Trace:
    """The statements that reach the driver, and the deepest stack of our own frames under which one did."""

    def __init__(self, database, monkeypatch):
        self.statements = []
        self.frames = []
        for engine in {database._read, database._write}:
            event.listen(engine, "before_cursor_execute", self._note)
        straight, later = driver.straight, Session.later
        for module in (driver, upsert):
            monkeypatch.setattr(
                module, "straight", lambda tx, sql, given, **more: self._note(None, None, sql) or straight(tx, sql, given, **more)
            )
        monkeypatch.setattr(Session, "later", lambda session, sql, given: self._note(None, None, sql) or later(session, sql, given))

    def _note(self, connection, cursor, statement, *_):
        if statement.split()[0] not in ("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK"):
            self.statements.append(statement)
            stack, frame = [], sys._getframe()
            while frame:
                name = frame.f_code.co_filename
                if "/src/treadle/" in name and not name.endswith(("store/db.py", "store/driver.py")):
                    stack.append((name.rpartition("/src/treadle/")[2], frame.f_code.co_name))
                frame = frame.f_back
            self.frames.append(stack)


def test_hops_and_statements_of_the_main_paths(database, tmp_path, monkeypatch):
    """Two statements a write and one a read, at most five own frames from the dispatcher down to the statement.

    A new run looks its experiment up, which is one more.

    Not counted are the transaction's own (BEGIN, SAVEPOINT, RELEASE) and the frames of `store/db.py` and `store/driver.py` that run it.
    """
    dispatch = Dispatcher(database, [Ledger(database, LocalBlobs(tmp_path / "blobs"))], complete=False)
    dispatch(ops.CreateRun(project="p", run_id="first"), actor=SYSTEM)  # makes the experiment
    metric = Metric(key="loss", value=1.0)
    expected = [
        (ops.CreateRun(project="p", run_id="r"), 3),
        (ops.MoveRun(project="p", run_id="r", state="running"), 2),
        (ops.LogMetrics(project="p", run_id="r", metrics=[metric]), 3),
        (ops.ListRuns(project="p"), 1),
        (ops.ListEvents(project="p"), 1),
        (ops.GetRun(project="p", run_id="r"), 4),  # one a table: run, metrics, tags, artifacts
    ]
    for request, most in expected:
        with monkeypatch.context() as patched:
            trace = Trace(database, patched)
            dispatch(request, actor=SYSTEM)
        assert len(trace.statements) == most, (request, trace.statements)
        deepest = max(trace.frames, key=len)
        assert len(deepest) <= 5, deepest
        for engine in {database._read, database._write}:
            event.remove(engine, "before_cursor_execute", trace._note)


def test_the_space_of_deleted_rows_is_given_back(tmp_path):
    import sqlite3

    with Database.open(f"sqlite:///{tmp_path / 'new.db'}") as database:
        migrate.ensure(database)
        rows = [{"name": f"n{n}", "value": "x" * 4000} for n in range(3000)]
        database.write(lambda tx: tx.execute(t.home.insert(), rows))
        database.give_back()
        database.write(lambda tx: tx.execute(t.home.delete().where(t.home.c.name.like("n%"))))
        assert database.give_back() > 8_000_000
        assert database.give_back() == 0
        with database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    old = tmp_path / "old.db"
    with sqlite3.connect(old) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE a (b)")
        connection.executemany("INSERT INTO a VALUES (?)", [("x" * 4000,)] * 2000)
        connection.commit()
        connection.execute("DELETE FROM a")
    connection.close()
    with Database.open(f"sqlite:///{old}") as database:
        assert database.give_back() == 0  # it was made before
        assert database.give_back(whole=True) > 6_000_000
        assert database.write(lambda tx: tx.exec_driver_sql("PRAGMA auto_vacuum").scalar()) == 2
