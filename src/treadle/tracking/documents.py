"""Documents of runs that have ended (`store.queries.run_documents`), made behind the calls that end runs or change what has ended."""

from treadle.store.db import Connection, Database
from treadle.store.queries import run_documents
from treadle.store.queries import tracking as queries

#: So many in one transaction: whoever logs to one of these runs meanwhile waits for it, or it is made again.
AT_ONCE = 100
#: So many at a time, then others have their turn.
_MOST = 2_000


def make_documents(database: Database) -> int:
    """Make what documents are wanted, some thousands at the most; returns how many. Safe wherever several do it."""
    made = 0
    while made < _MOST:
        with database.read() as connection:
            if not run_documents.wanted(connection, 1):
                break
        made += database.write(_make)
    return made


def _make(tx: Connection) -> int:
    return queries.make_documents(tx, AT_ONCE)
