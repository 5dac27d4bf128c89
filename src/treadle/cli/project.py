"""`init`, `plan`, `apply`: a folder of definitions, what they would change, and making it so."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.operations.workshop import Applied, ApplyProject, GetApplied, Plan
from treadle.records.errors import TreadleError
from treadle.records.ids import NAME, NAME_RULE

_TOML = 'project = "{name}"\nmodule = "loop"\n'
_IGNORE = ".treadle/\n__pycache__/\n"
_LOOP = '''"""What this project learns, serves and watches. `treadle plan` reads this module's top-level definitions."""

import treadle as tr

# A table that grows by versions. `time` is when a row is known. Bring rows in: treadle data ingest events events.csv
events = tr.dataset("events", time="time", key="id", columns={"time": "datetime", "id": str, "value": float})

dev = tr.environment("dev")


@tr.step
def count(rows: int) -> int:
    """A step's result is kept: the second run with the same input answers from the cache."""
    print(f"counting {rows} rows")
    return rows


@tr.pipeline
def hello(rows: int = 3):
    """Plain Python; every step in it is journaled. Start it: treadle run hello --rows 5"""
    return count(rows).get()
'''
_MARKS = {"add": "+", "change": "~", "rename": ">", "remove": "-", "keep": " "}
_COLOURS = {"add": "green", "change": "yellow", "rename": "yellow", "remove": "red"}


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", help="The project's name; the folder's where left out.")
@click.option("--example", type=click.Choice(["flights"]), help="Copy an example instead of an empty project.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.option("--home", hidden=True)
def init(folder: Path, name: str | None, example: str | None, as_json: bool, home: str | None) -> None:
    """Start a project in FOLDER. Files that are there are never overwritten.

    \b
    Example:
      treadle init flights --example flights
    """
    name = name or folder.resolve().name
    if not NAME.fullmatch(name):
        raise TreadleError(f"{name[:80]!r} is no name for a project.", remedy=f"{NAME_RULE} Give it one: treadle init --name NAME")
    files = _example(example) if example else {"treadle.toml": _TOML.format(name=name), "loop.py": _LOOP, ".gitignore": _IGNORE}
    there = [file for file in files if (folder / file).exists()]
    if "treadle.toml" in there:
        raise TreadleError(
            f"{folder / 'treadle.toml'} is there already: this folder is a project.",
            remedy="Take another folder (treadle init FOLDER), or go on here: treadle plan",
            code="conflict",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        if file in there:
            continue
        if isinstance(content, Path):
            shutil.copyfile(content, folder / file)
        else:
            (folder / file).write_text(content)
    written = [str(folder / file) for file in files if file not in there]
    if as_json:
        show.as_json({"written": written, "kept": [str(folder / file) for file in there]})
        return
    for file in written:
        click.echo(f"wrote {file}")
    go = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    click.echo(f"Next: {go}treadle plan")


def _example(name: str) -> dict[str, Any]:
    from importlib.util import find_spec

    found = find_spec(f"treadle.workshop.{name}")
    root = Path(next(iter(found.submodule_search_locations or []))) if found else None
    files = [p for p in sorted(root.iterdir()) if p.suffix in (".py", ".toml", ".md") and p.name != "__init__.py"] if root else []
    if not files:
        raise TreadleError(f"The example {name!r} did not come with this installation.", remedy="Install treadle anew: pip install treadle")
    return {**{p.name: p for p in files}, ".gitignore": _IGNORE}


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show what stays as it is too.")
@verb(environment=True, remote=False, store=True, blobs=True)
def plan(session: Session, env: str | None, everything: bool) -> None:
    """Show what applying the project of this folder would change in an environment. Changes nothing.

    \b
    Example:
      treadle plan --env staging
    """
    from treadle.workshop.planning import lacking

    made, definitions = _planned(session, env or "dev")
    if session.as_json:
        show.as_json(made)
        return
    _print(made, everything)
    for unsaid in lacking(definitions, made.environment):
        click.echo(click.style(f"  ! {unsaid}, which {made.environment} requires: apply will refuse", fg="red"))


@click.command()
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--remove", is_flag=True, help="Remove definitions even where something live depends on them.")
@verb(environment=True, remote=False, store=True, blobs=True)
def apply(session: Session, env: str | None, yes: bool, remove: bool) -> None:
    """Make the definitions of this folder so in an environment. Asks first when a person is there.

    If somebody else applied between plan and apply, nothing changes and the error says so.

    \b
    Example:
      treadle apply --env staging --yes
    """
    from treadle.workshop.supervisor import gateway_folders

    made, definitions = _planned(session, env or "dev")
    changes = [c for c in made.changes if c.action != "keep"]
    if not session.as_json:
        _print(made, False)
    if changes and not yes and not session.as_json and sys.stdin.isatty():
        click.confirm(f"Apply to {made.environment}?", abort=True)
    done: Applied = session.call(
        ApplyProject(project=made.project, environment=made.environment, definitions=definitions, base=made.base, remove=remove)
    )
    gateway_folders(session.workshop)
    if session.as_json:
        show.as_json(done)
    elif changes or not made.base:
        click.echo(f"Applied {made.project} to {made.environment} ({show.short(done.digest)}).")


def _planned(session: Session, environment: str) -> tuple[Plan, Any]:
    from treadle.workshop import planning
    from treadle.workshop.project import load
    from treadle.workshop.service import live

    loaded = load(session.root)
    workshop = session.new_workshop
    definitions = loaded.sealed(workshop.blobs)
    applied = session.call(GetApplied(project=definitions.name, environment=environment))
    with workshop.database.read() as connection:
        depended = live(connection, definitions.name, environment)
    return planning.plan(applied, definitions, environment, live=depended), definitions


def _print(made: Plan, everything: bool) -> None:
    shown = [c for c in made.changes if everything or c.action != "keep"]
    kept = len(made.changes) - sum(c.action != "keep" for c in made.changes)
    if not any(c.action != "keep" for c in made.changes):
        click.echo(f"{made.project} in {made.environment}: no definition changes ({kept} the same).")
    else:
        click.echo(f"{made.project} in {made.environment}:")
    for c in shown:
        line = f"  {_MARKS[c.action]} {c.kind} {c.name}{f'  ({c.detail})' if c.detail else ''}"
        click.echo(click.style(line, fg=_COLOURS.get(c.action)))
        if c.refused:
            click.echo(click.style(f"      refused: {c.refused}", fg="red"))
