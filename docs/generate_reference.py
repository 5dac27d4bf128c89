"""Writes `docs/reference.md` from the tables that the code runs by: `python docs/generate_reference.py`. A test compares."""

import ast
import inspect
from pathlib import Path

from treadle.api.errors import STATUS
from treadle.cli import COMMANDS
from treadle.cli.exits import EXITS
from treadle.operations import operations
from treadle.records import errors

HEAD = """# Reference

Generated from the code (`python docs/generate_reference.py`); every list here is complete.

"""


def comments() -> dict[str, str]:
    """What the source says beside each error code."""
    source = inspect.getsource(errors)
    lines = source[source.index("CODES = (") :].split("\n)", 1)[0].splitlines()[1:]
    told = (line.strip().partition("  # ") for line in lines)
    return {ast.literal_eval(code.rstrip(",")): text for code, _, text in told}


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def render() -> str:
    """The page."""
    parts = [HEAD, "## Verbs\n\n[The command line](cli.md) tells more, `treadle VERB --help` all.\n"]
    for section, verbs in COMMANDS.items():
        parts += [f"\n### {section}\n\n| verb | |\n| --- | --- |\n"]
        parts += [f"| `treadle {verb}` | {cell(text)} |\n" for verb, (_, _, text) in verbs.items()]
    parts += [
        "\n## Operations\n\nEach is a route (under `/api`, see [the API](api.md)), a request struct for `Client.call`, and a command "
    ]
    parts += ["`treadle api NAME`.\n"]
    table = sorted(operations().values(), key=lambda row: row.room)
    for room in dict.fromkeys(row.room for row in table):
        parts += [f"\n### {room.capitalize()}\n\n| operation | route | permission | |\n| --- | --- | --- | --- |\n"]
        rows = (row for row in table if row.room == room)
        parts += [f"| `{row.name}` | `{row.method} {row.path}` | `{row.allow}` | {cell(row.summary)} |\n" for row in rows]
    parts += ["\n## Error codes\n\n| code | HTTP status | exit code | |\n| --- | --- | --- | --- |\n"]
    told = comments()
    parts += [f"| `{code}` | {STATUS[code]} | {EXITS[code]} | {cell(told[code])} |\n" for code in errors.CODES]
    return "".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent / "reference.md").write_text(render())
