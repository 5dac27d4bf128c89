"""Reading a project's folder: import its definition module on the caller's side, and turn what it defines into data.

A project is a folder with `treadle.toml` (its name and the module to import) and that module. Nothing registers itself: the
module's top-level values that are definitions, or carry one as `.definition`, are the project.
"""

import importlib
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec.structs import replace

from treadle.pipelines.code import code_digest, snapshot_code
from treadle.pipelines.environment import lock
from treadle.pipelines.triggers import triggers_of
from treadle.plugins.storage import BlobStore
from treadle.records.definitions import KINDS, Definition, Entry, Project, kind_of
from treadle.records.digests import canonical
from treadle.records.errors import TreadleError

SETTINGS = "treadle.toml"
_DEFINITIONS = tuple(record for _, record in KINDS.values())


class LoadedProject:
    """A project as it stands in a folder.

    Attributes:
        root: its folder.
        definitions: the data of it, without code and environment digests until `sealed` has put the code into a home.
        functions: pipeline name → the function that runs it.
        transforms: feature view name → its function, for views that have one.
    """

    def __init__(self, root: Path, definitions: Project, functions: dict[str, Any], transforms: dict[str, Any]):
        self.root = root
        self.definitions = definitions
        self.functions = functions
        self.transforms = transforms

    def sealed(self, blobs: BlobStore) -> Project:
        """The definitions with a content-addressed snapshot of the project's code and the environment lock stored in `blobs`."""
        code = snapshot_code(self.root, blobs)
        environment = blobs.put(canonical(lock()))
        return replace(self.definitions, code=code, environment_lock=environment)


def load(folder: Path | str) -> LoadedProject:
    """Import a project from its folder.

    Raises:
        TreadleError: `bad_definition` for a missing or unreadable `treadle.toml`, a module with a syntax or import error, two
            definitions of one name, or a name that nothing defines.
    """
    root = Path(folder).resolve()
    settings = _settings(root)
    name, module_name = settings["project"], settings["module"]
    module = _import(root, module_name)
    return collect(root, name, module)


def collect(root: Path, name: str, module: ModuleType) -> LoadedProject:
    """The definitions among a module's top-level values."""
    found: dict[str, dict[str, Definition]] = {kind: {} for kind in KINDS}
    origin: dict[tuple[str, str], str] = {}
    functions: dict[str, Any] = {}
    transforms: dict[str, Any] = {}
    for variable, value, definition in _definitions(module):
        kind = kind_of(definition)
        earlier = found[kind].get(definition.name)
        if earlier is not None and earlier is not definition and earlier != definition:
            raise TreadleError(
                f"{module.__name__} defines {kind} {definition.name!r} twice, as {origin[kind, definition.name]} and as {variable}.",
                remedy=f"Give one of them another name, or delete it: edit {module.__file__}",
                code="bad_definition",
            )
        found[kind][definition.name] = _with_code(definition, value, root)
        origin[kind, definition.name] = variable
        if kind == "pipeline":
            functions[definition.name] = value
        elif kind == "feature_view" and callable(value):
            transforms[definition.name] = value
    fields = {field: tuple(sorted(found[kind].values(), key=lambda d: d.name)) for kind, (field, _) in KINDS.items()}
    definitions = Project(name=name, **fields)  # type: ignore[arg-type]
    _check(definitions, module)
    return LoadedProject(root, definitions, functions, transforms)


def _settings(root: Path) -> dict[str, str]:
    path = root / SETTINGS
    if not path.exists():
        raise TreadleError(
            f"{root} is no Treadle project: it has no {SETTINGS}.",
            remedy="Go to the project's folder, or start one here: treadle init",
            code="bad_definition",
        )
    try:
        settings = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TreadleError(f"{path} is not readable: {error}.", remedy=f"Mend it: {path}", code="bad_definition") from error
    for key, value in settings.items():
        if key not in ("project", "module"):
            raise TreadleError(f"{path}: there is no setting {key!r}.", remedy="It takes: project, module", code="bad_definition")
        if not isinstance(value, str):
            raise TreadleError(f"{path}: {key} is {value!r} and takes a text.", remedy=f'Write: {key} = "NAME"', code="bad_definition")
    if not settings.get("project"):
        raise TreadleError(f"{path} names no project.", remedy='Add a line: project = "NAME"', code="bad_definition")
    return {"project": settings["project"], "module": settings.get("module", "loop")}


def _import(root: Path, name: str) -> ModuleType:
    """Import the module from `root`, anew: what was imported under the names of its files, from here or another folder, is dropped first,
    and no bytecode is kept, which Python would take for that of a file edited within the same second."""
    sys.path[:] = [str(root), *(p for p in sys.path if p != str(root))]
    importlib.invalidate_caches()
    ours = {p.stem for p in root.glob("*.py")} | {p.parent.name for p in root.glob("*/__init__.py")}
    for loaded in [m for m in sys.modules if m.partition(".")[0] in ours and m != "__main__"]:
        del sys.modules[loaded]
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        return importlib.import_module(name)
    except SyntaxError as error:
        raise TreadleError(
            f"{error.filename}, line {error.lineno}: {error.msg}.",
            remedy=f"Mend the line and repeat: {(error.text or '').strip()}",
            code="bad_definition",
        ) from error
    except TreadleError:
        raise
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise _failed(name, root, error) from error
        raise TreadleError(
            f"{root} has no {name.replace('.', '/')}.py, the module of definitions.",
            remedy=f'Make it, or name another in {root / SETTINGS}: module = "NAME"',
            code="bad_definition",
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, root, error) from error
    finally:
        sys.dont_write_bytecode = kept


def _failed(name: str, root: Path, error: BaseException) -> TreadleError:
    return TreadleError(
        f"Importing {name} from {root} failed: {type(error).__name__}: {error} ({_place(error, root)}).",
        remedy=f"Try it by itself: cd {shlex.quote(str(root))} && python -c 'import {name}'",
        code="bad_definition",
    )


def _place(error: BaseException, root: Path) -> str:
    place, trace = "at its top", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if root in file.parents:
            place = f"{file.relative_to(root)}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _definitions(module: ModuleType) -> Iterator[tuple[str, Any, Definition]]:
    for variable, value in vars(module).items():
        definition: Any = value if isinstance(value, _DEFINITIONS) else getattr(value, "definition", None)
        if isinstance(definition, _DEFINITIONS):
            yield variable, value, definition


def _with_code(definition: Definition, value: Any, root: Path) -> Definition:
    """The definition with the digest of its code filled in, where it has code."""
    entry = getattr(definition, "entry", None) or getattr(definition, "transform", None)
    function = getattr(value, "function", None)
    if entry is None or function is None:
        return definition
    digest, _ = code_digest(function, root)
    filled = Entry(path=entry.path, code=digest)
    return replace(definition, **{"entry" if hasattr(definition, "entry") else "transform": filled})


def _check(project: Project, module: ModuleType) -> None:
    """Names that definitions use must be defined."""
    datasets = {d.name for d in project.datasets}
    pipelines = {p.name for p in project.pipelines}
    places = {e.name for e in project.environments}
    wrong: list[str] = []
    wrong += [f"feature view {v.name!r} reads dataset {v.source!r}" for v in project.feature_views if v.source not in datasets]
    wrong += [f"label {x.name!r} is a column of dataset {x.dataset!r}" for x in project.labels if x.dataset not in datasets]
    for said in (*project.datasets, *project.feature_views, *project.labels):
        wrong += [f"{said.name!r} may be used only in environment {p!r}" for p in said.only_in if p not in places]
    wrong += [f"trigger {t.name!r} starts pipeline {t.pipeline!r}" for t, _ in triggers_of(project) if t.pipeline not in pipelines]
    for endpoint in project.endpoints:
        source = endpoint.monitor.outcome.partition(".")[0]
        if source and source not in datasets:
            wrong.append(f"endpoint {endpoint.name!r} takes its outcome from dataset {source!r}")
    if wrong:
        raise TreadleError(
            f"In {module.__name__}, {'; '.join(wrong)}, which nothing defines.",
            remedy="Define it in the module, or correct the name.",
            code="bad_definition",
        )
