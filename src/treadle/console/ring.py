"""The ring as geometry: where each station stands, where its words go, which arcs lie between. Numbers in, numbers out."""

import math

from msgspec import Struct

from treadle.operations.workshop import Station

WIDTH, HEIGHT = 720.0, 486.0
CENTRE = (360.0, 246.0)
RADIUS = 176.0
_GAP = 0.115  # radians left free on both sides of a station
_AWAY = 24.0  # from a station's centre to its words
_MOST = 30


class Stop(Struct, frozen=True, kw_only=True):
    """One station on the ring: its place, its words' place and how they are aligned."""

    name: str
    state: str
    text: str
    full: str
    x: float
    y: float
    label_x: float
    label_y: float
    anchor: str


class Arc(Struct, frozen=True, kw_only=True):
    """The way from one station to the next, as an SVG path; `chevron` is a small arrow in its middle."""

    d: str
    travelled: bool
    chevron: str


class Ring(Struct, frozen=True, kw_only=True):
    """All of it."""

    stops: list[Stop]
    arcs: list[Arc]


def ring(stations: list[Station], travelling: str | None) -> Ring:
    """Stations clockwise from the top, in the order in which data walks."""
    number = max(1, len(stations))
    angles = [2 * math.pi * i / number - math.pi / 2 for i in range(len(stations))]
    stops = [_stop(station, angle) for station, angle in zip(stations, angles, strict=True)]
    step = 2 * math.pi / number
    arcs = [_arc(angle, angle + step, s.name == travelling) for s, angle in zip(stations, angles, strict=True)]
    return Ring(stops=stops, arcs=arcs)


def clip(text: str, most: int = _MOST) -> str:
    """`text`, cut where it is longer.

    >>> clip("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _stop(station: Station, angle: float) -> Stop:
    x, y = _on(angle)
    across, down = math.cos(angle), math.sin(angle)
    anchor = "middle" if abs(across) < 0.2 else "start" if across > 0 else "end"
    up = down < -0.9
    return Stop(
        name=station.name,
        state=station.state,
        text=clip(station.text),
        full=station.text,
        x=x,
        y=y,
        label_x=round(x + (0 if anchor == "middle" else math.copysign(_AWAY, across)), 1),
        # Two lines: above the top station, beside the others, a little lower below the middle.
        label_y=round(y - 44 if up else y + down * 16 - 4, 1),
        anchor=anchor,
    )


def _arc(start: float, end: float, travelled: bool) -> Arc:
    (x0, y0), (x1, y1) = _on(start + _GAP), _on(end - _GAP)
    middle = (start + end) / 2
    mx, my = _on(middle)
    along = middle + math.pi / 2  # clockwise
    tips = [(mx + 5 * math.cos(along + turn), my + 5 * math.sin(along + turn)) for turn in (2.25, 0.0, -2.25)]
    chevron = " ".join(f"{x:.1f},{y:.1f}" for x, y in tips)
    return Arc(d=f"M{x0},{y0}A{RADIUS},{RADIUS} 0 0 1 {x1},{y1}", travelled=travelled, chevron=chevron)


def _on(angle: float) -> tuple[float, float]:
    return round(CENTRE[0] + RADIUS * math.cos(angle), 1), round(CENTRE[1] + RADIUS * math.sin(angle), 1)
