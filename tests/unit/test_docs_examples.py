"""Every Python block of the README and of the documentation runs, in the order of its page and in one namespace a page."""

import sys
import types
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_PARSER = Sybil(parsers=[PythonCodeBlockParser()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    # Decorators read the source of what they decorate, so the blocks stand in a module, each at the page's own lines.
    code = ""
    for example in _PARSER.parse(page).examples():
        code += "\n" * (example.line - code.count("\n")) + example.parsed
    module = types.ModuleType(f"page_{page.stem}")
    file = tmp_path / f"{module.__name__}.py"
    file.write_text(code)
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, file, "exec"), module.__dict__)


def test_python_blocks_are_found():
    """A fence that the parser does not see would never run."""
    for page in PAGES:
        assert page.read_text().count("```python\n") == len(list(_PARSER.parse(page).examples())), page.name
