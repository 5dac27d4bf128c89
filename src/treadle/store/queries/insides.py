"""Statements on everything that one run recorded: what a diagnosis and a comparison read."""

import math

from sqlalchemy import Connection

from treadle.store.driver import fetch

#: A run's points, of each metric evenly chosen ones where there are more than so many; its ends and what is no number stay.
_POINTS = (
    "SELECT name, step, time, value, nan FROM ("
    "SELECT name, step, time, value, nan, ROW_NUMBER() OVER (PARTITION BY name ORDER BY step, time) - 1 AS n, "
    "COUNT(*) OVER (PARTITION BY name) AS total FROM metrics WHERE project = ? AND run_id = ?) AS points "
    "WHERE total <= ? OR n - (n / (total / ?)) * (total / ?) = 0 OR n = total - 1 OR nan = 1 ORDER BY step, time"
)


def histories(connection: Connection, project: str, run_id: str, most: int) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every metric of a run, by step; metrics in the order in which they were first logged."""
    found: dict[str, list[tuple[int, float]]] = {}
    first: dict[str, int] = {}
    for name, step, time, value, nan in fetch(connection, _POINTS, project, run_id, most, most, most):
        found.setdefault(name, []).append((step, math.nan if nan else value))
        first[name] = min(time, first.get(name, time))
    return {name: found[name] for name in sorted(found, key=lambda name: (first[name], name))}


def surroundings(connection: Connection, project: str, run_id: str) -> dict[str, str]:
    """Digests of code, definitions and environment that a run was started with; those it has."""
    names = ("code_digest", "project_digest", "environment_digest")
    rows = fetch(connection, f"SELECT {', '.join(names)} FROM runs WHERE project = ? AND run_id = ?", project, run_id)
    return {name: value for row in rows for name, value in zip(names, row, strict=True) if value}
