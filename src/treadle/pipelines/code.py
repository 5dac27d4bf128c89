"""What a function's code is: the part of a cache key that a comment does not change and a helper's edit does.

The digest covers the syntax tree (no comments, blank lines, docstrings) of the function, of what it refers to at the top of its own
module, and of every project module these import, transitively. Modules outside the project root count through the environment
lock instead. Known limit: names reached only through strings (`getattr`, `importlib`) and values computed at import are not seen.
"""

import ast
import functools
import inspect
import json
import os
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from treadle.plugins.storage import BlobStore
from treadle.records.digests import canonical, digest, digest_of
from treadle.records.errors import TreadleError

_OURS = ("step", "pipeline")  # decorators whose options are no part of the code
_SKIPPED = {"__pycache__", "build", "dist", "node_modules", "venv", "site-packages"}
_KEPT = {".py", ".toml", ".sql", ".json", ".yaml", ".yml", ".txt", ".cfg", ".ini"}
_LARGEST = 1 << 20


def code_digest(function: Callable[..., Any], root: Path | None = None) -> tuple[str, dict[str, str]]:
    """The digest of a function's code, and what it is made of: module name → digest.

    Args:
        function: a function, or something that wraps one (`@step`, `@pipeline`).
        root: the project's folder; found from the function's module where None.
    """
    function = inspect.unwrap(function)
    root = (root or root_of(function)).resolve()
    found: dict[str, str] = {}
    _function(function, root, found, set())
    return digest_of(found), found


def root_of(function: Callable[..., Any]) -> Path:
    """The folder that holds the top-level module of a function's code."""
    function = inspect.unwrap(function)
    file = _file(function)
    if file is None:
        return Path.cwd()
    depth = 0 if function.__module__ == "__main__" else function.__module__.count(".") + (file.name == "__init__.py")
    return file.parents[depth] if depth < len(file.parents) else file.parent


def _file(function: Callable[..., Any]) -> Path | None:
    name = getattr(getattr(function, "__code__", None), "co_filename", "")
    path = Path(name)
    return path.resolve() if name and not name.startswith("<") and path.is_file() else None


# ── one function ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _function(function: Callable[..., Any], root: Path, found: dict[str, str], seen: set[int]) -> None:
    """Add a function's own part, and those of the modules it uses, to `found`."""
    if id(function) in seen:
        return
    seen.add(id(function))
    file = _file(function)
    node = _locate(function, file)
    if file is None or node is None:
        _merge(found, f"{function.__module__}:{function.__qualname__}", _bytecode(function))
        return
    module = _module(file)
    texts, imported = module.reached(node)
    _merge(found, f"{_name_of(file, root) or function.__module__}:{function.__qualname__}", digest_of(sorted(texts)))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        _closure(name, cell, function, root, found, seen)
    if file.is_relative_to(root):
        _modules(imported, module.package(root), root, found)


def _closure(name: str, cell: types.CellType, function: Callable[..., Any], root: Path, found: dict[str, str], seen: set[int]) -> None:
    """What an inner function takes from around it: functions by their code, plain values by digest, others by their type."""
    try:
        held = cell.cell_contents
    except ValueError:  # not yet assigned
        return
    inner = inspect.unwrap(held) if callable(held) else held
    if isinstance(inner, types.FunctionType):
        _function(inner, root, found, seen)
        return
    try:
        told = digest_of(held)
    except (TypeError, msgspec.MsgspecError):
        told = f"{type(held).__module__}.{type(held).__qualname__}"
    _merge(found, f"{function.__qualname__}:{name}", told)


def _merge(found: dict[str, str], name: str, value: str) -> None:
    found[name] = value if found.get(name, value) == value else digest_of([found[name], value])


def _bytecode(function: Callable[..., Any]) -> str:
    compiled = getattr(function, "__code__", None)
    if compiled is None:
        return digest_of(f"{function.__module__}:{function.__qualname__}")
    return digest(
        compiled.co_code + repr((compiled.co_names, [c for c in compiled.co_consts if not isinstance(c, types.CodeType)])).encode()
    )


def _locate(function: Callable[..., Any], file: Path | None) -> ast.AST | None:
    """The function's node in its file, by the line its code object starts at."""
    compiled = getattr(function, "__code__", None)
    if file is None or compiled is None:
        return None
    module = _module(file)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function.__name__:
            if compiled.co_firstlineno in (module.first_lines[id(node)], node.lineno):
                return node
        elif isinstance(node, ast.Lambda) and function.__name__ == "<lambda>" and node.lineno == compiled.co_firstlineno:
            return node
    return None


# ── modules ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Module:
    """A parsed source file, its docstrings gone."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.tree = ast.parse(path.read_bytes(), filename=str(path))
        except SyntaxError as error:
            raise TreadleError(
                f"{path}, line {error.lineno}: {error.msg}.",
                remedy=f"Correct line {error.lineno} of {path}.",
                code="bad_definition",
            ) from error
        #: where Python says that a decorated function starts: at its first decorator
        self.first_lines = {
            id(node): min([node.lineno, *(d.lineno for d in node.decorator_list)])
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        _strip(self.tree)
        self.defined: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            for name in _defines(statement):
                self.defined.setdefault(name, []).append(statement)

    @functools.cached_property
    def text(self) -> str:
        """The digest of the whole module."""
        return digest(ast.dump(self.tree).encode())

    @functools.cached_property
    def imported(self) -> set[tuple[int, str]]:
        """(level, dotted name) of all that the module imports."""
        return _imports([self.tree])

    def reached(self, node: ast.AST) -> tuple[set[str], set[tuple[int, str]]]:
        """Dumps of a node and of the top-level statements it refers to, and what these import."""
        todo: list[ast.AST] = [node]
        seen: dict[int, ast.AST] = {}
        while todo:
            now = todo.pop()
            if id(now) in seen:
                continue
            seen[id(now)] = now
            for part in ast.walk(now):
                if isinstance(part, ast.Name):
                    todo.extend(self.defined.get(part.id, ()))
        nodes = list(seen.values())
        texts = {ast.dump(n) for n in nodes if not isinstance(n, ast.Import | ast.ImportFrom)}
        return texts, _imports(nodes)

    def package(self, root: Path) -> str:
        """The package that relative imports start from."""
        name = _name_of(self.path, root) or ""
        return name if self.path.name == "__init__.py" else name.rpartition(".")[0]


@functools.lru_cache(maxsize=4096)
def _parsed(path: Path, mtime_ns: int, size: int) -> _Module:
    return _Module(path)


def _module(path: Path) -> _Module:
    stat = path.stat()
    return _parsed(path, stat.st_mtime_ns, stat.st_size)


def _strip(tree: ast.AST) -> None:
    """Take docstrings and the options of our own decorators away."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list = [d for d in node.decorator_list if _last_name(d) not in _OURS]


def _last_name(decorator: ast.expr) -> str:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def _defines(statement: ast.stmt) -> Iterable[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in statement.names]
    return [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _imports(nodes: Iterable[ast.AST]) -> set[tuple[int, str]]:
    found: set[tuple[int, str]] = set()
    for node in nodes:
        for part in ast.walk(node):
            if isinstance(part, ast.Import):
                found |= {(0, alias.name) for alias in part.names}
            elif isinstance(part, ast.ImportFrom):
                base = part.module or ""
                found.add((part.level, base))
                found |= {(part.level, f"{base}.{alias.name}".strip(".")) for alias in part.names}
    return found


def _modules(imported: set[tuple[int, str]], package: str, root: Path, found: dict[str, str]) -> None:
    """Add every project module among `imported`, and what they import in turn."""
    todo = [(imported, package)]
    while todo:
        names, base = todo.pop()
        for level, name in names:
            parts = base.split(".")[: len(base.split(".")) - (level - 1)] if level else []
            absolute = ".".join(p for p in [*parts, name] if p)
            for module_name, path in _project_files(absolute, root):
                if module_name not in found:
                    module = _module(path)
                    found[module_name] = module.text
                    todo.append((module.imported, module.package(root)))


def _project_files(name: str, root: Path) -> Iterable[tuple[str, Path]]:
    """The files that `import name` runs, packages on the way included, as far as they belong to the project."""
    parts = name.split(".") if name else []
    for depth in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:depth])
        for path in (stem / "__init__.py", stem.with_name(stem.name + ".py")):
            if path.is_file() and not _SKIPPED & set(path.relative_to(root).parts):
                yield ".".join(parts[:depth]), path


def _name_of(path: Path, root: Path) -> str | None:
    if not path.is_relative_to(root):
        return None
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# ── snapshots ────────────────────────────────────────────────────────────────────────────────────────────────────────


def snapshot_code(root: Path, blobs: BlobStore) -> str:
    """Keep the project's source and settings files (up to 1 MB each; no hidden or built folders); returns the manifest's digest."""
    files: list[dict[str, Any]] = []
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _SKIPPED and not (here / f / "pyvenv.cfg").exists())
        for name in sorted(names):
            path = here / name
            if path.suffix in _KEPT and not name.startswith(".") and path.is_file() and path.stat().st_size <= _LARGEST:
                content = path.read_bytes()
                files.append({"path": path.relative_to(root).as_posix(), "digest": blobs.put(content), "size": len(content)})
    files.sort(key=lambda f: f["path"])
    return blobs.put(canonical({"kind": "code", "files": files}))


def unpack_code(blobs: BlobStore, manifest: str, into: Path) -> Path:
    """Write a snapshot's files under `into` (complete or not at all); returns `into`.

    Raises:
        TreadleError: `not_found` or `corrupt`, from the blob store; `corrupt` where a path leads outside.
    """
    if into.exists():
        return into
    temporary = into.with_name(f"{into.name}.{os.getpid()}.tmp")
    for file in json.loads(blobs.get(manifest))["files"]:
        path = (temporary / file["path"]).resolve()
        if not path.is_relative_to(temporary.resolve()):
            raise TreadleError(
                f"The code snapshot {manifest} names {file['path']!r}, which is outside its folder.",
                remedy="Do not use this snapshot; apply the project again: treadle apply",
                code="corrupt",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blobs.get(file["digest"]))
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        temporary.rename(into)
    except OSError:
        if not into.exists():
            raise
    return into


def loaded_from(root: Path) -> list[str]:
    """Names of modules that this process has loaded from under `root`: what to forget before another snapshot is loaded."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return sorted(name for name, file in files.items() if file and Path(file).is_relative_to(root))
