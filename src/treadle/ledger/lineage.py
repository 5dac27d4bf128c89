"""The lineage graph: versions (anything immutable, under its digest) and the edges that say what was made from what.

Rooms add both inside the transaction of the change they belong to; adding the same again changes nothing.
"""

import datetime as dt
from collections.abc import Iterable

from treadle.operations.ledger import Lineage
from treadle.records.clock import SystemClock
from treadle.records.ledger import Edge, Version
from treadle.store.db import Connection
from treadle.store.queries import ledger as queries

_clock = SystemClock()


def add_version(tx: Connection, version: Version, *, event_time: dt.datetime | None = None) -> bool:
    """Add a node; True where it was new. The first to name a digest names it for good. `event_time` defaults to now."""
    now = _clock.now()
    return queries.insert_version(tx, version, event_time or now, version.recorded_time or now)


def add_edge(tx: Connection, edge: Edge) -> bool:
    """Add an edge; True where it was new. Its ends need not be there yet."""
    return add_edges(tx, [edge]) > 0


def add_edges(tx: Connection, edges: Iterable[Edge]) -> int:
    """Add edges; returns how many were new."""
    return queries.insert_edges(tx, list(edges), _clock.now())


def get_version(connection: Connection, project: str, digest: str) -> Version | None:
    """The node of a digest, None where there is none."""
    return next(iter(queries.versions_of(connection, project, [digest])), None)


def find_version(connection: Connection, project: str, kind: str, name: str, number: int | None = None) -> Version | None:
    """A node by kind, name and number (None: the highest), None where there is none."""
    return queries.find_version(connection, project, kind, name, number)


def around(connection: Connection, project: str, digest: str, *, direction: str = "up", depth: int = 20) -> Lineage:
    """The graph around a version, `depth` edges far: one statement a level and direction, one for the nodes.

    Args:
        direction: `up` (what it was made from), `down` (what was made from it) or `both`.
    """
    found: dict[tuple[str, str, str], Edge] = {}
    seen = {digest}
    for upwards in [d for d, on in ((True, direction != "down"), (False, direction != "up")) if on]:
        frontier, visited = {digest}, {digest}
        for _ in range(depth):
            edges = queries.edges_of(connection, project, sorted(frontier), upwards=upwards)
            found |= {(e.child, e.parent, e.role): e for e in edges}
            frontier = {e.parent if upwards else e.child for e in edges} - visited
            visited |= frontier
            if not frontier:
                break
        seen |= visited
    return Lineage(versions=queries.versions_of(connection, project, sorted(seen)), edges=list(found.values()))
