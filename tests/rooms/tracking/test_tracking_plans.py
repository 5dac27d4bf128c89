"""A search costs what its answer costs: it reads by index, sorts nothing but pages, and works no harder in a store four times the size."""

import random

import pytest

from treadle.records.filters import Comparison, Order
from treadle.store import driver, migrate
from treadle.store import tables as t
from treadle.store.db import Database
from treadle.store.queries import listings, search
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
    "metric and rare param": ((METRIC, Comparison("param", "rare", "=", "a")), BY_METRIC),
    "metric and common param": ((METRIC, Comparison("param", "common", "=", "a")), BY_METRIC),
    "a tag": ((Comparison("tag", "team", "=", "r"),), ()),
    "a tag and a time": ((Comparison("tag", "team", "=", "r"), Comparison("attribute", "start_time", "<", 900)), ()),
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
    monkeypatch.setattr(search, "RARE", 100)
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
    straight = driver.straight

    def keep(connection, sql, given, **more):
        seen.append((sql, given))
        return straight(connection, sql, given, **more)

    with database.read() as connection, monkeypatch.context() as patched:
        patched.setattr(driver, "straight", keep)
        function(connection)
    assert seen
    return seen


def test_sqlite_scans_and_sorts_nothing(stores, monkeypatch):
    monkeypatch.setattr(search, "RARE", 100)
    monkeypatch.setattr(search, "EQUAL", 60)
    for name, asked in SEARCHES.items():
        for statement, parameters in statements(stores[0], lambda c, asked=asked: first_pages(c, asked), monkeypatch):
            with stores[0].read() as connection:
                plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            scanned = [step for step in plan if "SCAN" in step and "SCAN c" not in step and "CONSTANT ROW" not in step]
            assert not scanned, (name, statement, plan)
            assert not any("TEMP B-TREE" in step for step in plan), (name, statement, plan)


@pytest.mark.postgres
def test_postgresql_has_an_index_for_every_order(postgres_schema, monkeypatch):
    monkeypatch.setattr(search, "RARE", 50)
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
