"""Brings a database to the schema of this release.

The common cases are cheap: a database that is up to date costs one SELECT, and an empty one is created from `tables.metadata` and
stamped. Alembic (150 ms of imports) is loaded only when an older schema has to be upgraded. A schema from a newer release is
refused: half-understood rows are worse than an error.
"""

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select

from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.store import tables
from treadle.store.db import Database
from treadle.store.migrations import HEAD, REVISIONS

_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def ensure(database: Database, *, marks: Mapping[str, str] | None = None) -> None:
    """Create or upgrade the schema; safe when several processes do it at once.

    Args:
        marks: named values of the home that it gets where it is made now, and never later.

    Raises:
        TreadleError: `newer_schema` where a newer release wrote the database, `conflict` where its tables are somebody else's.
    """
    if revision(database) != HEAD:
        with database.alone("schema"):
            database.write(functools.partial(_bring, marks or {}))


def revision(database: Database) -> str | None:
    """The revision the database is at, None where it is empty."""
    with database.read() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_version.name):
        return None
    return connection.execute(select(_version.c.version_num)).scalar()


def _bring(marks: Mapping[str, str], tx: Connection) -> None:
    now = _revision(tx)
    if now == HEAD:
        return
    if now is None:
        _create(tx, marks)
    elif now in REVISIONS:
        _upgrade(tx)
    else:
        raise TreadleError(
            f"The database has schema {now}, which this release does not know: a newer release wrote it.",
            remedy="Upgrade Treadle: pip install --upgrade treadle (or restore the backup from before: treadle restore)",
            code="newer_schema",
            details={"database": now, "release": HEAD},
        )


def _create(tx: Connection, marks: Mapping[str, str]) -> None:
    foreign = sorted(set(inspect(tx).get_table_names()) & set(tables.metadata.tables))
    if foreign:
        raise TreadleError(
            f"The database has tables of the same name that Treadle did not make: {', '.join(foreign[:5])}.",
            remedy="Give Treadle a database of its own: --store postgresql://user@host/treadle",
            code="conflict",
        )
    tables.metadata.create_all(tx, checkfirst=False)
    _version.create(tx)
    tx.execute(insert(_version), {"version_num": HEAD})
    values = {**marks, "home_id": new_id("home")}
    tx.execute(insert(tables.home), [{"name": name, "value": value} for name, value in values.items()])


def _upgrade(tx: Connection) -> None:
    script: Any = importlib.import_module("treadle.store.migrations.run")
    script.upgrade(tx, "head")
