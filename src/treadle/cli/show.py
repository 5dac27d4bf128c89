"""Printing: one JSON document for programs, tables and short lines for people."""

import datetime as dt
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

#: State → colour, the same on every page of the terminal.
COLOURS = {
    **dict.fromkeys(
        ("finished", "cached", "promoted", "approved", "released", "granted", "healthy", "ok", "ready", "validated", "closed"), "green"
    ),
    **dict.fromkeys(("failed", "rejected", "stopped", "harm", "refused", "corrupt", "error", "open"), "red"),
    **dict.fromkeys(("running", "waiting", "tried", "waits", "inconclusive", "queued", "rolled_back", "cancelled", "candidate"), "yellow"),
}


def as_json(answer: Any) -> None:
    """A record, or plain values, as indented JSON on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())


def line_json(answer: Any) -> None:
    """The same on one line: for what follows without end."""
    click.echo(msgspec.json.encode(answer).decode())


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "Nothing yet.") -> None:
    """A table; aligned columns, and on a terminal drawn by rich within its width."""
    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        click.echo(empty)
        return
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            drawn.add_column(column, overflow="fold")
        for row in cells:
            drawn.add_row(*(Text(text, style=COLOURS.get(text, "")) for text in row))
        Console(highlight=False).print(drawn)
        return
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), *cells]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line, those without a value left out."""
    shown = [(name, cell(value)) for name, value in pairs if value not in (None, "", (), [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {state(text)}")


def state(text: str) -> str:
    """The text in the colour of the state it names."""
    colour = COLOURS.get(text)
    return click.style(text, fg=colour) if colour else text


def cell(value: Any) -> str:
    """A value in short words.

    >>> cell(0.123456), cell(None), cell(1234567), cell({"a": 1})
    ('0.1235', '', '1234567', 'a=1')
    """
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ" if value.second else "%Y-%m-%d %H:%MZ")
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k}={cell(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(v) for v in value)
    return str(value)


def short(digest: str | None) -> str:
    """The first twelve characters of a digest."""
    return (digest or "")[:12]


def size(count: int) -> str:
    """Bytes for people.

    >>> size(0), size(1536), size(5_000_000)
    ('0 B', '1.5 KB', '4.8 MB')
    """
    value, unit = float(count), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if value < 1024 or unit == "TB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
