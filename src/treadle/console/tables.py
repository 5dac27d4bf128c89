"""Tables as data: what pages of records and stations are made of."""

import datetime as dt
from collections.abc import Sequence

from msgspec import Struct


class Cell(Struct, frozen=True, kw_only=True):
    """One cell; `num` sets it like a number, `tone` puts a state's shape before it."""

    text: str = ""
    href: str | None = None
    title: str = ""
    tone: str = ""
    num: bool = False
    time: dt.datetime | None = None


class Fact(Struct, frozen=True, kw_only=True):
    """One line of a record."""

    name: str
    text: str = ""
    href: str | None = None
    time: dt.datetime | None = None


class Table(Struct, frozen=True, kw_only=True):
    """A titled table; a heading that begins with # is of numbers. `empty` and `command` teach where there is no row."""

    id: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    empty: str = "Nothing here yet."
    command: str = ""
    more: str = ""


def text(value: object, *, href: str | None = None, tone: str = "", title: str = "") -> Cell:
    """A cell of words."""
    return Cell(text=str(value) if value not in (None, "") else "—", href=href, tone=tone, title=title)


def number(value: str, *, href: str | None = None, title: str = "") -> Cell:
    """A cell of a number that is set already."""
    return Cell(text=value, num=True, href=href, title=title)


def time(moment: dt.datetime | None) -> Cell:
    """A cell of a time."""
    return Cell(time=moment) if moment else Cell(text="—")
