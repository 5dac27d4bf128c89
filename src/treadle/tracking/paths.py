"""Paths of files: names below a root, and never a way out of it.

A path is refused in whatever spelling it climbs: percent-encoded once or several times, with back-slashes, as another system's drive,
as a `file:` address. Nothing is repaired: a path that means something else than it says is an error, not a guess.
"""

import re
import unicodedata
from urllib.parse import unquote

from treadle.records.errors import TreadleError

#: The longest path, in characters and in bytes of UTF-8: what a key of either database holds.
#: The folder, among the files that are nobody's, in which sealed bundles are laid out; nobody writes there.
BUNDLES = "bundles"
LONGEST = 1000
LONGEST_BYTES = 2000
#: How often a path may be percent-encoded before that alone is reason to refuse it.
_ROUNDS = 8
_ELSEWHERE = re.compile(r"[a-z]:|file:|[a-z][a-z0-9+.-]+:/", re.IGNORECASE)


def clean(path: str) -> str:
    """The path itself, where it is one.

    Raises:
        TreadleError: `bad_request`, saying what is wrong with it.

    >>> clean("plots/roc curve.png")
    'plots/roc curve.png'
    """
    wrong = fault(path)
    if wrong:
        raise TreadleError(
            f"Invalid path {_shown(path)}: it {wrong}.",
            remedy="Give a relative path of plain names with '/' between them, such as plots/roc.png",
            details={"field": "path"},
        )
    return path


def folder(path: str) -> str:
    """The same for a folder, which may be the root: an empty path, `.` or `/`; a slash at the end is let go.

    >>> folder("plots/"), folder("."), folder("")
    ('plots', '', '')
    """
    return "" if path in ("", ".", "./", "/") else clean(path.removesuffix("/"))


def fault(path: str) -> str:
    """What is wrong with a path, in words that follow "it"; empty where nothing is.

    >>> fault("a/../b"), fault("a%252e%252e/b"), fault("a..b/c")
    ("has the part '..'", '', '')
    >>> fault("%252e%252e/b")
    "has the part '..' when it is decoded"
    """
    if not path:
        return "is empty"
    if len(path) > LONGEST or len(path.encode(errors="surrogatepass")) > LONGEST_BYTES:
        return f"is longer than {LONGEST} characters or {LONGEST_BYTES} bytes"
    wrong = _fault(path)
    if not wrong and not all(path.split("/")):
        wrong = "has an empty part between slashes"
    if wrong:
        return wrong
    decoded = path
    for _ in range(_ROUNDS):
        before, decoded = decoded, unquote(decoded, errors="replace")
        if decoded == before:
            return ""
        wrong = _fault(decoded, decoded=True)
        if wrong:
            return f"{wrong} when it is decoded"
    return "is percent-encoded again and again"


def parents(path: str) -> list[str]:
    """The folders a path stands in, outermost first.

    >>> parents("a/b/c.txt")
    ['a', 'a/b']
    """
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _fault(path: str, *, decoded: bool = False) -> str:
    """What is wrong; of a path that somebody might decode once more, only what would climb. `step%1%17` is a name that clients make."""
    if path.startswith("/"):
        return "is absolute"
    if "\\" in path:
        return "has a back-slash"
    if _ELSEWHERE.match(path):
        return "names a drive or another scheme"
    for part in path.split("/"):
        if part in ("..", "."):
            return f"has the part {part!r}"
        if len(part) > 1 and part[1] == ":" and (part[0] == "\ufffd" or (part[0].isascii() and part[0].isalpha())):
            return "names a drive or another scheme"
    if decoded:
        return "has a NUL character" if "\0" in path else ""
    if any(unicodedata.category(c) in ("Cc", "Cs") or c in _TURNING for c in path):
        return "has a character that cannot be shown"
    return ""


#: Characters that turn the direction of what follows: a name with them shows as another.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 60 else path[:60] + "…")
