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
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
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
    """A path to list: the same, without the parts that say nothing. Clients that ask for everything write `.` and walk on from there.

    >>> folder("1/run/artifacts/./plots"), folder("plots/."), folder(".")
    ('1/run/artifacts/plots', 'plots', '')
    """
    root = "/" if path.startswith("/") else ""  # stays what it is, and is refused
    return safe(root + "/".join(part for part in path.split("/") if part not in (".", "")))


def decoded(raw: str) -> str:
    """A path of an address, percent-decoded once.

    The clients send the names of files as they are, so that `10%decline.png` comes with an escape that is none: what is no UTF-8 stays
    the text that it is. Bytes that spell a character of ASCII in a longer way are refused: that is how a path is hidden.

    >>> decoded("plots/10%decline%20(2).png")
    'plots/10%decline (2).png'
    """
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return _ESCAPES.sub(lambda run: _read(run[0]), raw)


def as_read(name: str) -> str:
    """What a client makes of a name in a listing: it decodes it until it stays.

    >>> as_read("10%decline.png")
    '10�cline.png'
    """
    while (read := unquote(name)) != name:
        name = read
    return name


def _read(run: str) -> str:
    data = bytes.fromhex(run.replace("%", ""))
    told, at = "", 0
    while at < len(data):
        try:
            return told + data[at:].decode()
        except UnicodeDecodeError as error:
            start, end = at + error.start, at + error.end
            lead, after = data[start], data[start + 1] if start + 1 < len(data) else 0xFF
            if lead in (0xC0, 0xC1) or lead >= 0xF5 or (lead == 0xE0 and after < 0xA0) or (lead == 0xF0 and after < 0x90):
                raise ProtocolError("INVALID_PARAMETER_VALUE", "Invalid path") from None
            told += data[at:start].decode() + run[3 * start : 3 * end]
            at = end
    return told


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
