"""A comment changes no digest; a helper's edit does, and says where."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import treadle.pipelines as tp
from treadle.pipelines import code
from treadle.records.errors import TreadleError
from treadle.store.blobs import LocalBlobs

MAIN = '''"""Story."""
import treadle.pipelines as tp
from codeproject import helpers
from codeproject.sub.deep import LIMIT
import json

FACTOR = 3
OTHER = 4


def scaled(x):
    """Doc."""
    return x * FACTOR


@tp.step(retries=0)
def work(x: int) -> int:
    """What it does."""
    # a comment
    return helpers.half(scaled(x)) + LIMIT


@tp.step
def unrelated(x: int) -> int:
    return OTHER


@tp.pipeline
def all_of_it(x: int = 1):
    return work(x)
'''


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "root"
    for folder in ("codeproject", "codeproject/sub"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").write_text("")
    (root / "codeproject/helpers.py").write_text("from .sub import deep\n\n\ndef half(x):\n    return x / 2\n")
    (root / "codeproject/sub/deep.py").write_text("LIMIT = 1\n")
    (root / "codeproject/unused.py").write_text("X = 1\n")
    (root / "codeproject/main.py").write_text(MAIN)
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))


def digest(root: Path, name: str = "work", **changes: tuple[str, str]) -> tuple[str, dict[str, str]]:
    for file, (old, new) in changes.items():
        path = root / "codeproject" / f"{file.replace('__', '/')}.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
    for module in [m for m in sys.modules if m.startswith("codeproject")]:
        del sys.modules[module]
    importlib.invalidate_caches()
    return code.code_digest(getattr(importlib.import_module("codeproject.main"), name), root)


def changed(root: Path, **changes: tuple[str, str]) -> set[str]:
    before = digest(root)[1]
    after = digest(root, **changes)[1]
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_it_covers_what_the_step_uses(project: Path) -> None:
    _, parts = digest(project)
    assert set(parts) == {"codeproject.main:work", "codeproject", "codeproject.helpers", "codeproject.sub", "codeproject.sub.deep"}


@pytest.mark.parametrize(
    "edit",
    [
        ("main", "# a comment", "# another\n\n"),
        ("main", '"""What it does."""', '"""Otherwise said."""'),
        ("main", "retries=0", "retries=5"),
        ("main", "OTHER = 4", "OTHER = 5"),
        ("unused", "X = 1", "X = 2"),
        ("helpers", "def half", "\n\ndef half"),
    ],
)
def test_what_does_not_matter(project: Path, edit: tuple[str, str, str]) -> None:
    assert changed(project, **{edit[0]: edit[1:]}) == set()


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (("main", "half(scaled(x))", "half(scaled(x + 1))"), "codeproject.main:work"),
        (("main", "FACTOR = 3", "FACTOR = 4"), "codeproject.main:work"),
        (("helpers", "x / 2", "x / 3"), "codeproject.helpers"),
        (("sub__deep", "LIMIT = 1", "LIMIT = 2"), "codeproject.sub.deep"),
    ],
)
def test_what_matters(project: Path, edit: tuple[str, str, str], where: str) -> None:
    assert changed(project, **{edit[0]: edit[1:]}) == {where}


def test_a_pipeline_covers_its_steps(project: Path) -> None:
    before = digest(project, "all_of_it")[0]
    assert digest(project, "all_of_it", helpers=("x / 2", "x / 3"))[0] != before


def test_a_syntax_error_is_named(project: Path) -> None:
    digest(project)
    (project / "codeproject/helpers.py").write_text("def half(x:\n")
    main = sys.modules["codeproject.main"]
    with pytest.raises(TreadleError, match=r"helpers\.py, line 1") as told:
        code.code_digest(main.work, project)
    assert told.value.code == "bad_definition"


def test_closures_count() -> None:
    def made(factor: int) -> Any:
        @tp.step
        def inner(x: int) -> int:
            return x * factor

        return inner

    assert code.code_digest(made(1))[0] == code.code_digest(made(1))[0]
    assert code.code_digest(made(1))[0] != code.code_digest(made(2))[0]


def test_code_without_a_file() -> None:
    space: dict[str, Any] = {"__name__": "nowhere"}
    exec("def f(x):\n    return x + 1\ndef g(x):\n    return x + 2\n", space)
    assert code.code_digest(space["f"])[0] != code.code_digest(space["g"])[0]


def test_snapshots_go_round(project: Path, tmp_path: Path) -> None:
    (project / ".hidden").mkdir()
    (project / ".hidden/secret.py").write_text("")
    (project / "query.sql").write_text("select 1")
    blobs = LocalBlobs(tmp_path / "blobs")
    manifest = code.snapshot_code(project, blobs)
    assert code.snapshot_code(project, blobs) == manifest
    into = code.unpack_code(blobs, manifest, tmp_path / "code" / manifest)
    assert code.unpack_code(blobs, manifest, into) == into
    files = sorted(p.relative_to(into).as_posix() for p in into.rglob("*") if p.is_file())
    assert "query.sql" in files
    assert not any(".hidden" in name for name in files)
    assert code.snapshot_code(into, blobs) == manifest


def test_a_snapshot_cannot_lead_outside(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    evil = blobs.put(f'{{"files":[{{"path":"../evil.py","digest":"{blobs.put(b"x")}","size":1}}]}}'.encode())
    with pytest.raises(TreadleError, match="outside its folder"):
        code.unpack_code(blobs, evil, tmp_path / "into")
    assert not (tmp_path / "evil.py").exists()
