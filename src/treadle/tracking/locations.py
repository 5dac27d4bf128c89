"""Where the files of an experiment may be: in this home, or in a store that clients read and write themselves.

An address of a local path, a web server or any other host is not even remembered: every client that logs to the experiment would follow
it, and take the keys of its store there.
"""

import re

from treadle.records.errors import TreadleError
from treadle.tracking.paths import fault

LONGEST = 2048
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
#: Stores in which clients keep their own files. Such a model can be loaded by those who may, and not be sealed here.
STORES = ("s3", "gs", "wasbs", "abfss", "abfs", "hdfs", "viewfs", "dbfs", "r2", "b2", "oci", "swift")
#: Their addresses: of a bucket, of a container at its maker's own hosts, of the file system that a client has set up. Never a host of
#: anybody's choice: whoever loads a version would take the keys of the store there.
_STORE = re.compile(
    r"""(?:(?:s3|gs|r2|b2|oci|swift|dbfs)://[^/@:?#%\\\s]+
    | (?:wasbs|abfss?)://[^/@:?#%\\\s]+@[a-z0-9-]+\.(?:blob|dfs)\.core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net|cloudapi\.de)
    | r2://[^/@:?#%\\\s]+@[a-z0-9.-]+\.r2\.cloudflarestorage\.com
    | b2://[^/@:?#%\\\s]+@[a-z0-9.-]+\.backblazeb2\.com
    | oci://[^/@:?#%\\\s]+@[a-z0-9_-]+
    | (?:hdfs|viewfs)://(?=/.)
    )(?:/[^?#\\%]*)?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def in_store(address: str) -> bool:
    """Whether an address is one of a store that clients read and write themselves.

    >>> in_store("s3://bucket/model"), in_store("abfss://container@account.dfs.core.windows.net/model"), in_store("hdfs:///models")
    (True, True, True)
    >>> in_store("abfss://container@example.com/model"), in_store("hdfs://example.com/models"), in_store("https://example.com")
    (False, False, False)
    """
    return bool(_STORE.fullmatch(address))


def check_location(given: str) -> None:
    """Raises for a place that is none for the files of an experiment; none given is this home.

    Raises:
        TreadleError: `bad_request` for another scheme or host, a local path, a way out of the root.
    """
    if not given:
        return
    if len(given) > LONGEST:
        what = f"'artifact_location' exceeds the maximum length of {LONGEST} characters"
        raise TreadleError(what, remedy="Use a shorter one.", details={"field": "location"})
    if not given.isprintable() or any(sign in given for sign in "#?\\%"):
        raise _refused(given, "It may not have a query, a fragment, a back-slash or a percent sign.")
    scheme = _SCHEME.match(given)
    rest = given[scheme.end() :] if scheme else given
    if any(part in (".", "..") for part in rest.split("/")):
        raise _refused(given, "It may not have relative parts.")
    if not scheme:
        raise _refused(given, "A path of this machine is no place for it; give mlflow-artifacts:/…, or an object store's address.")
    if scheme[1].lower() == "mlflow-artifacts" and rest.startswith("/") and not rest.startswith("//"):
        wrong = fault(rest[1:].removesuffix("/"))
        if wrong:
            raise _refused(given, f"Its path {wrong}.")
        return
    if not in_store(given):
        stores = ", ".join(STORES)
        why = f"It must be mlflow-artifacts:/… (of this server: one slash), or an address of a store ({stores}) that names no other host."
        raise _refused(given, why)


def _refused(given: str, why: str) -> TreadleError:
    return TreadleError(
        f"Invalid artifact location: '{given[:200]}'. {why}",
        remedy="Leave it out to keep the files in this home.",
        details={"field": "location"},
    )
