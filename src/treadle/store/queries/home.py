"""Statements on the home itself: its few named values, and every digest that something in it refers to."""

import re
from collections.abc import Iterator

from sqlalchemy import Connection, LargeBinary, String, Text, select, type_coerce

from treadle.store import tables as t
from treadle.store.tables import Json
from treadle.store.upsert import insert_new, insert_or_update

DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")

#: Tables whose rows keep no blobs alive: events and answers under idempotency keys tell of blobs, documents of runs repeat other
#: rows, and the rest has numbers and names. Every other table does, one that is added later too.
_SILENT = (
    t.home,
    t.actors,
    t.grants,
    t.tokens,
    t.idempotency,
    t.events,
    t.heads,
    t.cursors,
    t.metrics,
    t.latest_metrics,
    t.run_documents,
    t.logged_model_metrics,
    t.log_lines,
    t.webhook_deliveries,
)
_KEEPING = tuple(table for table in t.metadata.sorted_tables if table not in _SILENT)


def get_value(connection: Connection, name: str) -> str | None:
    """A named value of the home."""
    return connection.execute(select(t.home.c.value).where(t.home.c.name == name)).scalar()


def put_value(tx: Connection, name: str, value: str) -> None:
    """Set a named value."""
    insert_or_update(tx, t.home, {"name": name, "value": value})


def put_value_if_absent(tx: Connection, name: str, value: str) -> bool:
    """Set a named value that is not there yet; False where it is."""
    return insert_new(tx, t.home, {"name": name, "value": value}) == 1


def referred(connection: Connection) -> Iterator[str]:
    """Everything that reads like a digest in any row that keeps blobs alive, repeated as it comes.

    Whatever text holds one counts, wherever it stands: too much kept is disk space, too little is a model that is gone.
    """
    for table in _KEEPING:
        columns = [type_coerce(c, Text) for c in table.c if isinstance(c.type, String | Json)]
        columns += [c for c in table.c if isinstance(c.type, LargeBinary)]
        for row in connection.execute(select(*columns).execution_options(yield_per=2000)):
            for value in row:
                if value is not None:
                    yield from DIGEST.findall(value if isinstance(value, str) else bytes(value).decode("latin-1"))
