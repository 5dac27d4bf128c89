"""Where the files of an unsealed version are: addresses inside this home, or objects that clients keep in a store of their own.

Nothing here is ever fetched by the server. An address of a web server, another host, a device or a local path is not even remembered:
whoever loads the version would follow it.
"""

import re
from urllib.parse import unquote

from msgspec import Struct

from treadle.records.errors import TreadleError
from treadle.tracking.locations import in_store
from treadle.tracking.paths import fault

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_RUN = re.compile(r"runs:/+(?P<run>[^/]+)/?(?P<path>.*)", re.S)
_MODEL = re.compile(r"models:/+(?P<id>m-[A-Za-z0-9_-]+)/?", re.S)
_VERSION = re.compile(r"models:/+(?P<name>[^/]+)/(?P<number>[0-9]{1,18})/?", re.S)
_PROXY = re.compile(r"mlflow-artifacts:(?://(?P<host>[^/]*))?/(?P<path>.*)", re.S)
_LONGEST = 2000
RELATIVE = (
    "Invalid model version source: '{}'. If supplying a source as an http, https, local file path, ftp, objectstore, or mlflow-artifacts "
    "uri, an absolute path must be provided without relative path references present. Please provide an absolute path."
)
LOCAL = (
    "Invalid model version source: '{}'. To use a local path as a model version source, the run_id request parameter has to be specified "
    "and the local path has to be contained within the artifact directory of the run specified by the run_id."
)


class Source(Struct, frozen=True):
    """What an address means: the files of a run, of a logged model, of another version, of a path below the proxy's root, or elsewhere."""

    kind: str  # run | model | version | proxy | store
    owner: str = ""  # run id, logged model's id, or the model's name
    number: int = 0
    path: str = ""


def read(source: str) -> Source:
    """The meaning of a source.

    Raises:
        TreadleError: `bad_request` for another scheme, another host, a device, a path that climbs or a local one.
    """
    shown = source if len(source) <= 200 else source[:200] + "…"
    if len(source) > _LONGEST or not source.isprintable():
        raise _refused(f"Invalid model version source: {shown!a}: it is longer than {_LONGEST} characters, or not all visible.")
    decoded = source
    for _ in range(8):
        if ".." in re.split(r"[/\\]", decoded):
            raise _refused(RELATIVE.format(shown))
        before, decoded = decoded, unquote(decoded)
        if decoded == before:
            break
    if source.startswith("runs:"):
        matched = _RUN.fullmatch(source)
        if matched is None:
            raise _refused(f"Invalid model version source: '{shown}': write runs:/RUN_ID/PATH.")
        return Source("run", matched["run"], 0, _path(matched["path"], shown))
    if source.startswith("models:"):
        if matched := _MODEL.fullmatch(source):
            return Source("model", matched["id"])
        if matched := _VERSION.fullmatch(source):
            return Source("version", matched["name"], int(matched["number"]))
        raise _refused(f"Invalid model version source: '{shown}': write models:/MODEL_ID or models:/NAME/VERSION.")
    if source.startswith("mlflow-artifacts:"):
        matched = _PROXY.fullmatch(source)
        if matched is None or matched["host"]:
            raise _refused(f"Invalid model version source: '{shown}': artifacts are on this server only: mlflow-artifacts:/PATH.")
        return proxied(_path(matched["path"], shown), shown)
    scheme = source.partition(":")[0].lower()
    if in_store(source):
        return Source("store", source)
    if _SCHEME.match(source) and scheme != "file":
        raise _refused(
            f"Invalid model version source: '{shown}': this server keeps models itself and follows no address of another scheme or host."
        )
    raise _refused(LOCAL.format(shown))


def proxied(path: str, shown: str) -> Source:
    """A path below the proxy's root: `EXPERIMENT/RUN/artifacts/…` or `EXPERIMENT/models/MODEL_ID/artifacts/…`; the root itself is none."""
    if not path:
        raise _refused(RELATIVE.format(shown))
    parts = path.split("/")
    if len(parts) >= 4 and parts[1] == "models" and parts[3] == "artifacts":
        return Source("model", parts[2], 0, "/".join(parts[4:]))
    if len(parts) >= 3 and parts[2] == "artifacts":
        return Source("run", parts[1], 0, "/".join(parts[3:]))
    return Source("proxy", "", 0, path)


def _path(path: str, shown: str) -> str:
    path = path.strip("/")
    wrong = fault(path) if path else ""
    if wrong:
        raise _refused(f"Invalid model version source: '{shown}': its path {wrong}.")
    return path


def _refused(what: str) -> TreadleError:
    return TreadleError(
        what, remedy="Log the model to a run of this server and register that: runs:/RUN_ID/model", details={"field": "source"}
    )
