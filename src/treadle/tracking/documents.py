"""Documents of runs that have ended (`store.queries.run_documents`), made behind the calls that end runs or change what has ended."""

import functools

from treadle.store.db import Database
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
            wanted = run_documents.wanted(connection, AT_ONCE)
        if not wanted:
            break
        for project, run_ids in wanted.items():
            database.write(functools.partial(queries.make_documents, project=project, run_ids=run_ids))
            made += len(run_ids)
    return made
