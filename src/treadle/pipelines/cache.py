"""What a step's result depends on, and why it ran or was skipped.

The key is the digest of named components: the code of the step and of each project module it uses, each input by its digest, each
parameter by its value, and the installed distributions. Because the components are kept beside the key, a miss can say which of them
changed since the nearest earlier result.
"""

import functools
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from treadle.pipelines import code, codecs, environment
from treadle.pipelines.handle import Handle
from treadle.records.digests import digest, digest_of

_SHORT = 120


def describe(arguments: Mapping[str, Any], root: Path) -> dict[str, str]:
    """The components that arguments make: `input:NAME` → digest, `parameter:NAME` → value as JSON (or its digest, where it is long).

    Raises:
        TreadleError: an argument that cannot be digested.
    """
    return dict(_described(name, argument, root) for name, argument in arguments.items())


def _described(name: str, argument: Any, root: Path) -> tuple[str, str]:
    if isinstance(argument, Handle):
        return f"input:{name}", argument.digest
    told = _told(argument, root, name)
    if _holds_handle(argument):
        return f"input:{name}", digest_of(told)
    text = msgspec.json.encode(told, order="deterministic").decode()
    return f"parameter:{name}", text if len(text) <= _SHORT else digest(text.encode())


def _holds_handle(argument: Any) -> bool:
    if isinstance(argument, Handle):
        return True
    if type(argument) in (list, tuple):
        return any(_holds_handle(item) for item in argument)
    return type(argument) is dict and any(_holds_handle(item) for item in argument.values())


def _told(argument: Any, root: Path, name: str) -> Any:
    """A JSON value that changes when the argument does."""
    if isinstance(argument, Handle):
        return {"$handle": argument.digest}
    if type(argument) in (list, tuple, dict) and not _is_plain(argument):
        pairs = argument.items() if isinstance(argument, dict) else enumerate(argument)
        return [type(argument).__name__, [[repr(key), _told(item, root, name)] for key, item in pairs]]
    inner = getattr(argument, "function", argument)
    if isinstance(inner, types.FunctionType):
        return {"$code": function_code(inner, root)[0]}
    held = argument if isinstance(argument, Struct) else getattr(argument, "definition", None)
    if isinstance(held, Struct):
        return [f"{type(held).__module__}:{type(held).__qualname__}", msgspec.to_builtins(held)]
    if _is_plain(argument):
        return codecs.plain(argument)
    if isinstance(argument, type):
        return {"$type": f"{argument.__module__}:{argument.__qualname__}"}
    encoded = codecs.encode(argument, where=f"Argument {name}")
    return {"$content": encoded.codec, "digest": _content(encoded)}


def _content(encoded: codecs.Encoded) -> str:
    if encoded.parts:
        return digest_of([[repr(key), part.codec, _content(part)] for key, part in encoded.parts])
    return digest(encoded.content)


def _is_plain(argument: Any) -> bool:
    try:
        codecs.plain(argument)
    except codecs.NotPlain:
        return False
    return True


@functools.lru_cache(maxsize=4096)
def function_code(function: Callable[..., Any], root: Path) -> tuple[str, dict[str, str]]:
    """`code.code_digest`, once per function object: what runs is what was loaded, whatever happens to the file since."""
    return code.code_digest(function, root)


def code_components(function: Callable[..., Any], root: Path) -> dict[str, str]:
    """The components that a step's code makes, and the environment's."""
    parts = function_code(function, root)[1]
    return {**{f"code:{name}": part for name, part in parts.items()}, "environment": environment.lock_digest()}


def arguments_of(components: Mapping[str, str]) -> dict[str, str]:
    """The components that come from arguments."""
    return {name: part for name, part in components.items() if name.startswith(("input:", "parameter:"))}


def explain(now: Mapping[str, str], before: Iterable[Mapping[str, str]]) -> str:
    """Why there is no cached result: what differs from the nearest of the earlier ones.

    >>> explain({"parameter:seed": "8"}, [{"parameter:seed": "7"}])
    'seed changed: 7 → 8'
    """
    nearest = min((differences(now, earlier) for earlier in before), key=len, default=None)
    if nearest is None:
        return "first time: no earlier result of this step is kept"
    return "; ".join(nearest) or "an earlier result is no longer kept"


def differences(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """What differs between two sets of components, in words."""
    told = []
    for name in sorted({*now, *before}):
        old, new = before.get(name), now.get(name)
        if old != new:
            told.append(_difference(name, old, new))
    return told


def _difference(name: str, old: str | None, new: str | None) -> str:
    kind, _, rest = name.partition(":")
    verb = "changed" if old is not None and new is not None else ("is new" if old is None else "is gone")
    if kind == "environment":
        return "installed packages changed"
    if kind == "code":
        return f"code of {rest} {verb}" if ":" in rest else f"module {rest} {verb}"
    if kind == "input":
        return f"input {rest} {verb}"
    if old is not None and new is not None and len(old) < 64 and len(new) < 64:
        return f"{rest} changed: {old} → {new}"
    return f"parameter {rest} {verb}"
