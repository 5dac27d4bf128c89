"""Where the protocol's artifact addresses lead: to files of a run, of a logged model, or of nobody.

A run's are `mlflow-artifacts:/EXPERIMENT/RUN/artifacts/…`, a logged model's `mlflow-artifacts:/EXPERIMENT/models/MODEL/artifacts/…`; an
experiment that was made with a location of its own has that instead of `EXPERIMENT`. Everything else below the root is nobody's.
"""

import posixpath
import re
from urllib.parse import unquote

from msgspec import Struct

from treadle.api.mlflow.registered import explain, number_of
from treadle.api.mlflow.table import Context, ProtocolError
from treadle.operations.registry import GetModelVersion
from treadle.operations.tracking import GetExperiment, GetLoggedModel, GetTrackedRun
from treadle.records.errors import TreadleError
from treadle.tracking.paths import fault

SCHEME = "mlflow-artifacts:"
_MODEL = re.compile(r"(?:.+?/)?models/(?P<owner>[^/]+)/artifacts(?:/(?P<path>.*))?")
_RUN = re.compile(r"[^/]+/(?P<owner>[^/]+)/artifacts(?:/(?P<path>.*))?")
_VERSION = re.compile(r"models:/+(?P<name>[^/]+)/(?P<number>[0-9]{1,18})/?")
#: How long a row of copies of copies may be.
_COPIES = 20
#: Below a location of an experiment's own a run is told by the form of its id.
_RUN_DEEP = re.compile(r".+?/(?P<owner>[0-9a-f]{32}|run_[0-9a-z]{26})/artifacts(?:/(?P<path>.*))?")


class Place(Struct, frozen=True):
    """A file or folder: whose it is (empty: nobody's) and its path there (empty: the root)."""

    owner: str
    path: str


def safe(path: str) -> str:
    """A relative path, folders with a slash at the end included; empty is the root.

    Raises:
        ProtocolError: any that climbs or cannot be kept, in whatever spelling.
    """
    trimmed = path.removesuffix("/") if len(path) > 1 else path
    if "#" in trimmed or (trimmed and fault(trimmed)):
        raise ProtocolError("INVALID_PARAMETER_VALUE", "Invalid path")
    return trimmed


def folder(path: str) -> str:
    """A path to list: the same, and `.` at its end for the folder itself, as clients write it that ask for everything."""
    while path.endswith(("/.", "//")):
        path = path[:-1]
    return safe("" if path in (".", "/") else path)


def decoded(raw: str) -> str:
    """A path of an address, percent-decoded once."""
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise ProtocolError("INVALID_PARAMETER_VALUE", "Invalid path") from None


def place(path: str, *, listed: bool = False) -> Place:
    """Where a path below the proxy's root leads; `listed` for a folder's.

    >>> place("1/0123abcd/artifacts/plots/roc.png")
    Place(owner='0123abcd', path='plots/roc.png')
    >>> place("1/models/m-1/artifacts")
    Place(owner='m-1', path='')
    >>> place("notes/readme.md")
    Place(owner='', path='notes/readme.md')
    """
    path = folder(path) if listed else safe(path)
    for form in (_MODEL, _RUN, _RUN_DEEP):
        found = form.fullmatch(path)
        if found:
            return Place(found["owner"], safe(found["path"] or ""))
    return Place("", path)


def of_uri(uri: str, path: str) -> Place:
    """Where a path below an artifact address leads.

    Raises:
        ProtocolError: an address that is not of this server.
    """
    below = safe(path)
    if uri.startswith(f"{SCHEME}/") and not uri.startswith(f"{SCHEME}//"):
        return place(posixpath.join(uri.removeprefix(f"{SCHEME}/"), below))
    if uri.startswith("runs:/"):
        owner, _, rest = uri.removeprefix("runs:/").partition("/")
        return Place(owner, safe(posixpath.join(rest, below)))
    if uri.startswith("models:/m-"):
        owner, _, rest = uri.removeprefix("models:/").partition("/")
        return Place(owner, safe(posixpath.join(rest, below)))
    raise ProtocolError("INVALID_PARAMETER_VALUE", "The files of this model version are not on this server.")


def run_root(context: Context, run_id: str) -> str:
    """The artifact address of a run; raises where there is no such run."""
    run = context.call(GetTrackedRun(project=context.project, run_id=run_id))
    return f"{_location(context, run.experiment_id)}/{run.run_id}/artifacts"


def model_root(context: Context, model_id: str) -> str:
    """The artifact address of a logged model; raises where there is no such model."""
    model = context.call(GetLoggedModel(project=context.project, model_id=model_id))
    return model.artifact_location or f"{_location(context, model.experiment_id)}/models/{model_id}/artifacts"


def of_version(context: Context, name: str, version: str, path: str) -> Place:
    """Where a path of a registered version leads: to its logged model, its source, or the run it came of."""
    below = safe(path)
    number = number_of(name, version)
    for _ in range(_COPIES):
        try:
            found = context.call(GetModelVersion(project=context.project, model=name, number=number))
        except TreadleError as error:
            raise explain(error) or error from error
        if found.model_id:
            return Place(found.model_id, below)
        copied = _VERSION.fullmatch(found.source)
        if copied is None:
            return of_uri(found.source or f"runs:/{found.run_id}", below)
        name, number = copied["name"], int(copied["number"])
    raise ProtocolError("INVALID_PARAMETER_VALUE", "The version is a copy of a copy of too many others.")


def _location(context: Context, experiment_id: str) -> str:
    found = context.call(GetExperiment(project=context.project, experiment=experiment_id, by="id"))
    return found.artifact_location.rstrip("/") or f"{SCHEME}/{experiment_id}"
