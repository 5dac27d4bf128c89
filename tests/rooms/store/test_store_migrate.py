"""The schema is created, recognised, and refused when it is newer."""

import threading

import pytest
from sqlalchemy import text

from treadle.records.errors import TreadleError
from treadle.store import migrate
from treadle.store.db import Database
from treadle.store.migrations import HEAD


def test_ensure_creates_once(database):
    assert migrate.revision(database) == HEAD
    migrate.ensure(database)
    with database.read() as connection:
        assert connection.execute(text("SELECT value FROM home WHERE name = 'home_id'")).scalars().all()[0].startswith("home_")


def test_a_newer_schema_is_refused(database):
    database.write(lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(TreadleError) as raised:
        migrate.ensure(database)
    assert raised.value.code == "newer_schema"


def test_foreign_tables_are_refused(database_url):
    with Database.open(database_url) as opened:
        opened.write(lambda tx: tx.execute(text("CREATE TABLE runs (id INTEGER)")))
        with pytest.raises(TreadleError) as raised:
            migrate.ensure(opened)
        assert raised.value.code == "conflict"


def test_many_may_create_at_once(database_url):
    errors = []

    def create():
        try:
            with Database.open(database_url) as opened:
                migrate.ensure(opened)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
