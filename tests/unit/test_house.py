"""The house rules that no linter checks: sizes, errors with a remedy, pages that are complete, light imports, no traces of a machine."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import treadle
from treadle.cli import COMMANDS
from treadle.operations import operations
from treadle.records.errors import CODES

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
#: A table of tables, and a migration made from it, are read from top to bottom however long they are.
LONG = {"src/treadle/store/tables.py", "src/treadle/store/migrations/versions/0001_first.py"}
HEAVY = ("polars", "numpy", "pandas", "sqlalchemy", "pyarrow", "sklearn", "lightgbm", "onnxruntime", "starlette", "scipy", "deltalake")
FACES = {"api", "console", "cli", "gateway"}


def pages() -> str:
    """All documentation as one text."""
    return "\n".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))


def tracked() -> list[Path]:
    """Text files under version control."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("this is no clone: git does not list its files")
    files = [ROOT / name for name in listed.split("\0") if name]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_files_fit_on_a_few_screens():
    lines = {short(path): path.read_bytes().count(b"\n") for path in SOURCES}
    assert {path: count for path, count in lines.items() if count > 500 and path not in LONG} == {}


def raised() -> Iterator[tuple[str, ast.Call]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "TreadleError":
                yield f"{short(path)}:{node.lineno}", node


def test_errors_name_a_remedy():
    without, unknown = [], []
    for where, call in raised():
        named = {k.arg: k.value for k in call.keywords}
        remedy = named.get("remedy")
        if None not in named and (remedy is None or (isinstance(remedy, ast.Constant) and len(str(remedy.value).split()) < 2)):
            without.append(where)
        code = named.get("code")
        if isinstance(code, ast.Constant) and code.value not in CODES:
            unknown.append(where)
    assert without == []
    assert unknown == []


def test_rooms_export_little():
    """At most eight names a room: what is not among them is imported from the file that owns it."""
    many = {}
    for folder in sorted(p for p in (ROOT / "src/treadle").iterdir() if (p / "__init__.py").exists()):
        tree = ast.parse((folder / "__init__.py").read_bytes())
        named = [n.value for n in tree.body if isinstance(n, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in n.targets)]
        count = len(ast.literal_eval(named[0])) if named else 0
        if count > 8 and folder.name not in FACES:
            many[folder.name] = count
    assert many == {}


def test_the_sdk_is_short_and_every_name_is_there():
    assert len(treadle.__all__) <= 33
    assert [name for name in treadle.__all__ if not hasattr(treadle, name)] == []


def loaded(code: str) -> set[str]:
    """Top-level modules that some code loads in a fresh interpreter."""
    report = f"{code}\nimport sys, json; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import treadle", HEAVY),
        ("import treadle.records, treadle.operations, treadle.plugins", HEAVY),
        ("import treadle.client", HEAVY),
        ("import treadle.gateway.run", ("sqlalchemy", "polars", "sklearn", "lightgbm", "pandas", "deltalake", "alembic")),
        ("import treadle.workshop", ("pandas", "sklearn", "lightgbm")),
        ("import treadle.workshop.home, treadle.store.objects, treadle.api.server", ("obstore",)),
    ],
    ids=["treadle", "ground", "client", "gateway", "workshop", "no bucket"],
)
def test_imports_are_light(code: str, forbidden: tuple[str, ...]):
    assert sorted(loaded(code) & set(forbidden)) == []


def test_every_operation_verb_and_error_code_has_its_place_in_the_docs():
    text = pages()
    verbs = [verb for section in COMMANDS.values() for verb in section]
    assert [row.name for row in operations().values() if f"`{row.name}`" not in text] == []
    assert [verb for verb in verbs if f"`treadle {verb}`" not in text] == []
    assert [code for code in CODES if f"`{code}`" not in text] == []


def test_the_reference_is_up_to_date():
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.insert(0, 'docs'); import generate_reference as g; sys.stdout.write(g.render())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (ROOT / "docs/reference.md").read_text(), "run: python docs/generate_reference.py"


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *project["project"]["dependencies"],
        *(line for lines in extras.values() for line in lines),
        *project["dependency-groups"]["dev"],
    ]
    names = [re.split(r"[\[<>=!~;\s]", line)[0] for line in wanted]
    page = (ROOT / "docs/dependencies.md").read_text()
    assert [name for name in names if f"`{name}`" not in page] == []
    said = set(re.findall(r"`([a-z0-9-]+)`", "".join(re.findall(r"^\| (`[^|]+)\|", page, re.M))))
    assert said - set(names) == set(), "the page explains what is not depended on"


def test_every_room_has_its_page():
    contract = (ROOT / ".importlinter").read_text()
    street = contract[contract.index("layers =") : contract.index("[importlinter:contract:drivers]")].split()[2:]
    rooms = [name for name in street if name != "|"]
    text = (ROOT / "docs/architecture.md").read_text()
    assert [room for room in rooms if room not in text] == []
    own = {"records", "operations", "plugins", "online", "store", "client", "workshop", "gateway"}  # told on their neighbours' pages
    assert [room for room in rooms if room not in own and not (ROOT / f"docs/{room}.md").exists()] == []


def test_links_lead_somewhere():
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{short(page)}: {target}")
    assert broken == []


def test_examples_are_the_ones_that_ship():
    """Links, not copies: what is read on the forge is what `treadle init --example` writes."""
    for folder in sorted((ROOT / "examples").iterdir()):
        for file in folder.iterdir():
            assert file.is_symlink() or file.name == "README.md", short(file)
            assert file.resolve().is_relative_to(ROOT / "src" if file.is_symlink() else ROOT), short(file)


def test_nothing_names_a_machine_or_a_registry():
    """No absolute path of somebody's machine, and no address of a package registry, in any tracked file."""
    homes = re.compile(rb"(?<![\w.$}])/(?:home|Users|work|root)/[\w.-]+")
    registries = re.compile(rb"https?://[\w.-]*(?:py" + rb"pi|pythonhosted|anaconda|np" + rb"mjs|registry|artifactory|nexus)[\w.-]*", re.I)
    allowed = ("requirements/",)  # checked for registries, paths cannot occur
    found = []
    for file in tracked():
        content = file.read_bytes()
        if b"\0" in content[:4096] or file.name.endswith((".png", ".min.js")):
            continue
        for pattern in (registries,) if short(file).startswith(allowed) else (homes, registries):
            found += [f"{short(file)}: {match.decode()}" for match in pattern.findall(content)]
    assert found == []


def test_changes_have_fragments():
    kinds = ("added", "changed", "fixed", "removed")
    names = [p.name for p in (ROOT / "changelog.d").glob("*.md")]
    assert [n for n in names if n.split(".")[1] not in kinds] == []
