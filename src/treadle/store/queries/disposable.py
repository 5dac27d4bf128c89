"""Emptying a home that was made for tests."""

from sqlalchemy import Connection, delete

from treadle.store import tables as t

#: What stays: the home itself, who may come in, and the chain of events with its readers.
_STAYS = (t.home, t.actors, t.grants, t.tokens, t.events, t.heads, t.cursors)


def empty(tx: Connection) -> None:
    """Remove every row of every other table."""
    for table in reversed(t.metadata.sorted_tables):
        if table not in _STAYS:
            tx.execute(delete(table))
