"""The lineage of a version as a drawing: from the data on the left, by runs and bundle, to the version and the endpoints that serve it.

Every thing stands as far left of the version as the longest way from it is; a line is drawn for every recorded edge.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from treadle.operations.ledger import Lineage
from treadle.records.ledger import Version
from treadle.records.models import Use

_WIDE, _HIGH, _ACROSS, _DOWN = 168, 44, 232, 60
_MOST, _ROWS = 120, 12


class Node(Struct, frozen=True, kw_only=True):
    """A box."""

    x: int
    y: int
    kind: str
    name: str
    href: str | None
    here: bool = False


class Line(Struct, frozen=True, kw_only=True):
    """An arrow, and what it says."""

    d: str
    role: str


class Drawing(Struct, frozen=True, kw_only=True):
    """All of it; `left_out` is how many things found no room, `grown` whether versions that a dataset grew from are left out."""

    width: int
    height: int
    nodes: list[Node]
    lines: list[Line]
    box: tuple[int, int] = (_WIDE, _HIGH)
    left_out: int = 0
    grown: bool = False


def draw(graph: Lineage, node: str, uses: Sequence[Use], link: Callable[[str, Any], str | None]) -> Drawing | None:
    """The drawing around the version that `node` is; None where nothing is recorded.

    Args:
        graph: what it was made from.
        uses: endpoints and snapshots that serve it.
        link: (digest, its version record or None) → its page.
    """
    known = {v.digest: v for v in graph.versions}
    parents: dict[str, list[str]] = {}
    # A dataset's version grew from the one before it, that from another …: a year of them would hide who read which.
    edges = [e for e in graph.edges if not _grew(known.get(e.child), known.get(e.parent))]
    for edge in edges:
        parents.setdefault(edge.child, []).append(edge.parent)
    depth = _depths(node, parents)
    columns: dict[int, list[str]] = {}
    for digest in sorted(depth, key=lambda d: (depth[d], known[d].kind if d in known else "run", d)):
        columns.setdefault(depth[digest], []).append(digest)
    left_out = sum(max(len(c) - _ROWS, 0) for c in columns.values())
    columns = {k: c[:_ROWS] for k, c in columns.items()}
    serving = [u for u in uses if u.kind in ("endpoint", "snapshot")][:_ROWS]
    if len(depth) < 2 and not serving:
        return None
    deepest = max(columns)
    rows = max(*(len(c) for c in columns.values()), len(serving), 1)
    place: dict[str, tuple[int, int]] = {}
    nodes: list[Node] = []
    for k, column in columns.items():
        top = (rows - len(column)) * _DOWN // 2
        for i, digest in enumerate(column):
            x, y = (deepest - k) * _ACROSS + 2, top + i * _DOWN + 2
            place[digest] = (x, y)
            version = known.get(digest)
            number = f" {version.number}" if version is not None and version.number is not None else ""
            kind = version.kind if version is not None else "run" if is_run(graph, digest) else "thing"
            name = f"{version.name}{number}" if version is not None else digest
            if kind == "definition" and "/" in name:  # feature_view/weather_now: the box says it in its two lines
                kind, _, name = name.partition("/")
                kind = kind.replace("_", " ")
            nodes.append(Node(x=x, y=y, kind=kind, name=name, href=link(digest, version), here=digest == node))
    lines = [
        Line(d=_curve(place[e.parent], place[e.child]), role=e.role.replace("_", " "))
        for e in edges
        if e.child in place and e.parent in place
    ]
    top = (rows - len(serving)) * _DOWN // 2
    for i, use in enumerate(serving):
        x, y = (deepest + 1) * _ACROSS + 2, top + i * _DOWN + 2
        nodes.append(Node(x=x, y=y, kind=f"endpoint in {use.environment}" if use.environment else "endpoint", name=use.name, href=None))
        lines.append(Line(d=_curve(place[node], (x, y)), role="serves"))
    across = deepest + (2 if serving else 1)
    width, height = (across - 1) * _ACROSS + _WIDE + 4, (rows - 1) * _DOWN + _HIGH + 4
    return Drawing(width=width, height=height, nodes=nodes, lines=lines, left_out=left_out, grown=len(edges) < len(graph.edges))


def is_run(graph: Lineage, digest: str) -> bool:
    """Whether a thing without a record of its own is a run: its id looks like one, or an edge names it as the run that drew it."""
    return digest.startswith("run_") or len(digest) == 32 or any(e.run_id == digest for e in graph.edges)


def _grew(child: Version | None, parent: Version | None) -> bool:
    return child is not None and parent is not None and child.kind == parent.kind == "dataset" and child.name == parent.name


def _depths(node: str, parents: dict[str, list[str]]) -> dict[str, int]:
    """How far each thing stands from the version: the longest way. An edge that would close a ring is not counted: graphs are recorded by
    anybody."""
    order: list[str] = []
    open_, done = {node}, set[str]()
    stack = [(node, iter(parents.get(node, ())))]
    while stack:
        here, rest = stack[-1]
        following = next((p for p in rest if p not in open_ and p not in done), None)
        if following is None or len(open_) + len(done) >= _MOST:
            stack.pop()
            open_.discard(here)
            done.add(here)
            order.append(here)
        else:
            open_.add(following)
            stack.append((following, iter(parents.get(following, ()))))
    place = {digest: i for i, digest in enumerate(order)}
    depth = dict.fromkeys(reversed(order), 0)
    for child in depth:
        for parent in parents.get(child, ()):
            if parent in place and place[parent] < place[child]:
                depth[parent] = max(depth[parent], depth[child] + 1)
    return depth


def _curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    x0, y0 = start[0] + _WIDE, start[1] + _HIGH // 2
    x1, y1 = end[0], end[1] + _HIGH // 2
    if x1 <= start[0]:  # against the current
        x0, x1 = start[0], end[0] + _WIDE
    middle = (x0 + x1) // 2
    return f"M{x0},{y0}C{middle},{y0} {middle},{y1} {x1},{y1}"
