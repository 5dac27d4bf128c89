"""The schema is created, recognised, and refused when it is newer."""

import threading

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from treadle.records.errors import TreadleError
from treadle.store import migrate, tables
from treadle.store.db import Database
from treadle.store.migrations import HEAD, REVISIONS
from treadle.store.migrations.run import config, upgrade


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


def shape(connection):
    """Everything the database knows of its schema, comparable."""
    look = inspect(connection)
    return {
        table: (
            [(c["name"], str(c["type"]), c["nullable"], c["default"], c.get("autoincrement", False)) for c in look.get_columns(table)],
            look.get_pk_constraint(table)["constrained_columns"],
            sorted((i["name"], tuple(i["column_names"]), bool(i["unique"])) for i in look.get_indexes(table)),
            sorted((u["name"], tuple(u["column_names"])) for u in look.get_unique_constraints(table)),
            sorted((tuple(f["constrained_columns"]), f["referred_table"]) for f in look.get_foreign_keys(table)),
            connection.dialect.name == "sqlite"
            and "WITHOUT ROWID" in connection.execute(text(f"SELECT sql FROM sqlite_master WHERE name = '{table}'")).scalar(),
        )
        for table in look.get_table_names()
    }


def test_migrations_lead_to_the_tables(database_url):
    with Database.open(database_url) as opened:
        opened.write(lambda tx: upgrade(tx, "head"))
        assert migrate.revision(opened) == HEAD
        with opened.read() as connection:
            migrated = shape(connection)
        opened.write(drop_all)
        migrate.ensure(opened)
        with opened.read() as connection:
            assert shape(connection) == migrated


@pytest.mark.postgres
def test_postgresql_orders_text_by_its_bytes_whatever_its_language(postgres_schema):
    """As SQLite and Python do: pages of runs are merged by us, and the beginning of a text is a range of its index."""
    with Database.open(postgres_schema) as opened:
        migrate.ensure(opened)
        asked = (
            "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = current_schema() "
            "AND data_type = 'character varying' AND collation_name IS DISTINCT FROM 'C' AND table_name <> 'alembic_version'"
        )
        with opened.read() as connection:
            assert connection.execute(text(asked)).scalars().all() == []


def drop_all(tx):
    tables.metadata.drop_all(tx)
    tx.execute(text("DROP TABLE alembic_version"))


def test_the_known_revisions_are_those_in_the_folder():
    script = ScriptDirectory.from_config(config())
    assert tuple(r.revision for r in reversed(list(script.walk_revisions()))) == REVISIONS
    assert script.get_current_head() == HEAD


def test_tables_without_a_version_are_left_alone(database):
    before = shape_of(database)
    database.write(lambda tx: tx.execute(text("DELETE FROM alembic_version")))
    with pytest.raises(TreadleError):
        migrate.ensure(database)
    assert shape_of(database) == before


def shape_of(database):
    with database.read() as connection:
        return shape(connection)
