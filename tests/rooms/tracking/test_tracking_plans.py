"""A search costs what its answer costs: it reads by index, sorts nothing but pages, and works no harder in a store four times the size."""

import random

import pytest

from treadle.records.filters import Comparison, Order
from treadle.store import driver, migrate
from treadle.store import tables as t
from treadle.store.db import Database
from treadle.store.postgres import Session
from treadle.store.queries import listings, matches, search
from treadle.store.queries.search import Search, search_runs
from treadle.store.upsert import insert_rows

PROJECT = "p"
PAGE = 20


def put(database, count):
    rng = random.Random(0)
    rows, latest, params, tags = [], [], [], []
    for number in range(count):
        of = (PROJECT, f"{rng.getrandbits(64):016x}")
        created = 1000 * number
        state = rng.choice(["finished", "failed", "running"])
        rows.append((*of, "dev", "0", "", state, f"n{rng.random()}", "u", "active", "{}", "{}", *[""] * 5, 0, 0, created, created + 5))
        latest.append((*of, "m", "0", created, 0, 0, rng.random()))
        texts = {"common": rng.choice("ab"), "rare": "a" if number % (count // 10) == 3 else f"b{number % 7}"}
        params += [(*of, name, "0", created, text, text) for name, text in texts.items()]
        tags.append((*of, "team", "0", created, rng.choice("rgb"), rng.choice("rgb")))
    columns = (
        *("project", "run_id", "environment", "experiment", "pipeline", "state", "name", "user_name", "lifecycle", "params", "reason"),
        *("actor", "definition_digest", "project_digest", "code_digest", "environment_digest"),
        *("event_time", "recorded_time", "created", "ended"),
    )
    pair = ("project", "run_id", "name", "experiment", "created", "value", "head")

    def write(tx):
        insert_rows(tx, t.runs, columns, rows)
        insert_rows(tx, t.params, pair, params)
        insert_rows(tx, t.tags, pair, [(*row[:6], row[5]) for row in tags])
        insert_rows(tx, t.latest_metrics, ("project", "run_id", "name", "experiment", "created", "step", "time", "value"), latest)

    database.write(write)


METRIC = Comparison("metric", "m", ">", 0.5)
RED = Comparison("tag", "team", "=", "r")
RARE_PARAM = Comparison("param", "rare", "=", "a")
BY_METRIC = (Order("metric", "m", False),)
CASES = {
    "newest": ((), ()),
    "by a metric": ((), BY_METRIC),
    "by a metric, upwards": ((), (Order("metric", "m"),)),
    "by start": ((), (Order("attribute", "start_time"),)),
    "by end": ((), (Order("attribute", "end_time", False),)),
    "by name": ((), (Order("attribute", "run_name"),)),
    "by status": ((), (Order("attribute", "status", False),)),
    "by a param": ((), (Order("param", "common"),)),
    "by a param of two values and a metric": ((), (Order("param", "common"), *BY_METRIC)),
    "by status and start": ((), (Order("attribute", "status"), Order("attribute", "start_time"))),
    "by status, a param and a metric": ((), (Order("attribute", "status"), Order("param", "common", False), *BY_METRIC)),
    "metric, by a tag and it": ((METRIC,), (Order("tag", "team", False), *BY_METRIC)),
    "by a tag that none has and a metric": ((), (Order("tag", "none"), *BY_METRIC)),
    "by a metric and a param": ((), (*BY_METRIC, Order("param", "rare"))),
    "a tag, by a metric": ((RED,), BY_METRIC),
    "metric and rare param": ((METRIC, Comparison("param", "rare", "=", "a")), BY_METRIC),
    "metric and common param": ((METRIC, Comparison("param", "common", "=", "a")), BY_METRIC),
    "a tag": ((RED,), ()),
    "a tag and a time": ((RED, Comparison("attribute", "start_time", "<", 900)), ()),
    "a status": ((Comparison("attribute", "status", "=", "FAILED"),), ()),
    "a name": ((Comparison("attribute", "run_name", "LIKE", "n0.5%"),), ()),
    "times": ((Comparison("attribute", "start_time", "<", 900),), ()),
}
SEARCHES = {name: Search(PROJECT, ("0",), comparisons, orders, ("active",)) for name, (comparisons, orders) in CASES.items()}


def first_pages(connection, asked, count=3):
    after = None
    for _ in range(count):
        found = search_runs(connection, asked, after=after, limit=PAGE)
        if len(found) < PAGE:
            return
        after = found[-1]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    opened = []
    for count in (2_000, 8_000):
        database = Database.open(f"sqlite:///{tmp_path_factory.mktemp('store') / 'treadle.db'}")
        migrate.ensure(database)
        put(database, count)
        opened.append(database)
    yield opened
    for database in opened:
        database.close()


def work(database, function):
    """Hundreds of steps of SQLite's machine that reading takes."""
    steps = [0]

    def count():
        steps[0] += 1

    with database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
        raw = connection.connection.driver_connection
        raw.set_progress_handler(count, 100)
        try:
            function(connection)
        finally:
            raw.set_progress_handler(None, 100)
    return steps[0]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_works_no_harder_in_a_larger_store(stores, monkeypatch, name):
    monkeypatch.setattr(matches, "RARE", 100)
    monkeypatch.setattr(search, "EQUAL", 60)
    small, large = (work(database, lambda c: first_pages(c, SEARCHES[name])) for database in stores)
    assert large <= 1.3 * small + 10, f"{small} hundred steps in the small store, {large} in the large one"


def test_the_next_page_costs_what_the_first_one_did(stores):
    far = search_and_skip(stores[1], 40)
    assert far[-1] <= 1.5 * far[0] + 10, far


def search_and_skip(database, pages):
    asked, after, costs = SEARCHES["by a metric"], None, []
    for _ in range(pages):
        got = []
        costs.append(work(database, lambda c, after=after, got=got: got.extend(search_runs(c, asked, after=after, limit=PAGE))))
        after = got[-1]
    return costs


def statements(database, function, monkeypatch):
    """Every statement a function runs, with its parameters."""
    seen = []
    straight, together = driver.straight, Session.run_together

    def keep_all(session, asked, **more):
        seen.extend(asked)
        return together(session, asked, **more)

    def keep(connection, sql, given, **more):
        seen.append((sql, given))
        return straight(connection, sql, given, **more)

    with database.read() as connection, monkeypatch.context() as patched:
        patched.setattr(driver, "straight", keep)
        patched.setattr(Session, "run_together", keep_all)
        function(connection)
    assert seen
    return seen


def test_sqlite_scans_and_sorts_nothing(stores, monkeypatch):
    monkeypatch.setattr(matches, "RARE", 100)
    monkeypatch.setattr(search, "EQUAL", 60)
    for name, asked in SEARCHES.items():
        for statement, parameters in statements(stores[0], lambda c, asked=asked: first_pages(c, asked), monkeypatch):
            with stores[0].read() as connection:
                plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            scanned = [step for step in plan if "SCAN" in step and "SCAN c" not in step and "CONSTANT ROW" not in step]
            assert not scanned, (name, statement, plan)
            assert not any("TEMP B-TREE" in step for step in plan), (name, statement, plan)


#: How many statements find the first page, and how many the one behind it.
ASKED = {
    "newest": (1, 1),
    "by a metric": (1, 1),
    "by start": (1, 1),
    "by end": (1, 1),
    "by name": (1, 1),
    "a tag": (1, 1),  # drives whatever its matches are
    "a status": (1, 1),
    "a tag and a time": (1, 1),
    "times": (1, 1),  # the ends of the walk
    "metric and rare param": (2, None),  # the equality is counted, and fetched; the metric decides nothing
    "by a metric and a param": (2, 2),  # the page, and what it is ordered by besides
    "by status and start": (2, 2),  # so many of a status are not read
    "by a param of two values and a metric": (4, 4),
}


@pytest.mark.parametrize("name", ASKED)
def test_statements_that_decide_nothing_are_not_sent(stores, monkeypatch, name):
    asked, told = SEARCHES[name], []
    first = statements(stores[0], lambda c: told.extend(search_runs(c, asked, after=None, limit=PAGE)), monkeypatch)
    assert len(first) == ASKED[name][0], first
    if ASKED[name][1] is None:
        assert len(told) < PAGE
        return
    following = statements(stores[0], lambda c: search_runs(c, asked, after=told[-1], limit=PAGE), monkeypatch)
    assert len(following) == ASKED[name][1], following


def driven_by(database, asked, monkeypatch):
    """The table whose index the last statement of a search reads."""
    return (
        statements(database, lambda c: search_runs(c, asked, after=None, limit=PAGE), monkeypatch)[-1][0]
        .rpartition(" d INDEXED")[0]
        .split()[-1]
    )


def test_what_a_good_part_of_all_runs_fulfil_is_met_on_the_way(stores, monkeypatch):
    with stores[0].read() as connection:
        red = connection.exec_driver_sql("SELECT COUNT(*) FROM tags WHERE name = 'team' AND value = 'r'").scalar_one()
    assert red > matches.FEW
    for part, table in ((2000 // red, "tags"), (2000 // red + 1, "latest_metrics")):
        monkeypatch.setattr(matches, "PART", part)
        assert driven_by(stores[0], SEARCHES["a tag, by a metric"], monkeypatch) == table


def test_a_comparison_with_few_matches_is_fetched_whatever_else_is_asked(stores, monkeypatch):
    asked = Search(PROJECT, ("0",), (RED, RARE_PARAM), BY_METRIC, ("active",))
    for few, table, count in ((10, "params", 3), (9, "params", 3), (10_000, "tags", 2)):
        monkeypatch.setattr(matches, "FEW", few)
        assert driven_by(stores[0], asked, monkeypatch) == table
        assert len(statements(stores[0], lambda c: search_runs(c, asked, after=None, limit=PAGE), monkeypatch)) == count


def test_a_pattern_that_few_fulfil_reads_its_index_once(stores, monkeypatch):
    asked = Search(PROJECT, ("0",), (Comparison("param", "rare", "LIKE", "%a%"),), BY_METRIC, ("active",))
    for few, scans in ((10, 1), (9, 3)):
        monkeypatch.setattr(matches, "FEW", few)
        seen = statements(stores[0], lambda c: search_runs(c, asked, after=None, limit=PAGE), monkeypatch)
        assert sum("d.head GLOB" in statement for statement, _ in seen) == scans


def test_a_page_of_equal_runs_is_sorted_and_more_are_searched_for(stores, monkeypatch):
    asked = Search(PROJECT, ("0",), (), (Order("param", "rare", False), *BY_METRIC), ("active",))
    with stores[0].read() as connection:
        found = [f[2] for f in search_runs(connection, asked, after=None, limit=2000)]
        for equal in (1, 20, 284, 285, 286, 10_000):
            monkeypatch.setattr(search, "EQUAL", equal)
            got, after = [], None
            while len(got) < 700:
                page = search_runs(connection, asked, after=after, limit=PAGE)
                got, after = [*got, *(f[2] for f in page)], page[-1]
            assert got == found[: len(got)]


@pytest.mark.postgres
def test_postgresql_has_an_index_for_every_order(postgres_schema, monkeypatch):
    monkeypatch.setattr(matches, "RARE", 50)
    monkeypatch.setattr(search, "EQUAL", 30)
    database = Database.open(postgres_schema)
    migrate.ensure(database)
    put(database, 1000)
    with database:
        for name, asked in SEARCHES.items():
            for statement, parameters in statements(database, lambda c, asked=asked: first_pages(c, asked), monkeypatch):
                with database.read() as connection:
                    for way in ("seqscan", "sort", "bitmapscan", "incremental_sort"):
                        connection.exec_driver_sql(f"SET enable_{way} = off")  # what the planner takes only where it has nothing else
                    plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters))
                    connection.exec_driver_sql("ROLLBACK")
                assert "Seq Scan" not in plan, (name, statement, plan)
                assert "Sort" not in plan, (name, statement, plan)


def test_logged_models_are_found_by_their_run_without_reading_the_others(stores):
    rows = [(PROJECT, f"m-{n}", "0", "n", f"r{n}", "ready", "", "", "active", "", "", n, n) for n in range(3000)]
    columns = (
        *("project", "model_id", "experiment", "name", "run_id", "state", "status_message", "model_type", "lifecycle"),
        *("artifact_location", "actor", "created", "updated"),
    )
    database = stores[0]
    database.write(lambda tx: insert_rows(tx, t.logged_models, columns, rows))
    of_run = (Comparison("attribute", "source_run_id", "=", "r77"),)
    assert work(database, lambda c: listings.find_logged_models(c, PROJECT, ["0"], of_run, ())) < 5
    assert work(database, lambda c: listings.find_logged_models(c, PROJECT, ["0"], (), (), limit=10)) < 20
