"""How a step's result becomes bytes and comes back: by its type, never by pickle.

`json` keeps plain values exactly (tuples, sets, bytes, datetimes and non-finite numbers are tagged); `struct:module:Name` keeps
msgspec structs and dataclasses as msgpack; frames are uncompressed Arrow IPC (`arrow`), so that they map into memory; arrays are
`npy`, LightGBM boosters their text, scikit-learn estimators skops. A tuple, list or dict with such things in it is saved in
parts. Anything else is refused with what to return instead.
"""

import dataclasses
import datetime as dt
import enum
import importlib
import io
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from treadle.records.clock import UTC
from treadle.records.errors import TreadleError


class Encoded(Struct, frozen=True):
    """Bytes and how to read them; for a container, its elements instead."""

    codec: str
    content: bytes = b""
    parts: "tuple[tuple[Any, Encoded], ...]" = ()


class NotPlain(Exception):
    """A value that JSON with tags cannot hold."""


# ── plain values ─────────────────────────────────────────────────────────────────────────────────────────────────────


def plain(value: Any) -> Any:
    """A JSON value that stands for `value` exactly.

    >>> plain((1, float("inf")))
    {'$tuple': [1, {'$float': 'inf'}]}

    Raises:
        NotPlain: where it holds something that is no plain value.
    """
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else {"$int": str(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return [plain(item) for item in value]
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: plain(item) for key, item in value.items()}
        return {"$dict": [[plain(key), plain(item)] for key, item in value.items()]}
    if kind is tuple:
        return {"$tuple": [plain(item) for item in value]}
    return _tagged(value, kind)


def _tagged(value: Any, kind: type) -> Any:
    if kind in (set, frozenset):
        return {f"${kind.__name__}": sorted((plain(item) for item in value), key=repr)}
    if kind is bytes:
        return {"$bytes": value.hex()}
    if kind is dt.datetime:
        if value.tzinfo is not None and value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        return {"$datetime": value.isoformat()}
    if kind is dt.date:
        return {"$date": value.isoformat()}
    if kind is dt.timedelta:
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, enum.Enum):
        return {"$enum": f"{kind.__module__}:{kind.__qualname__}", "value": plain(value.value)}
    if kind.__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        return plain(value.item())
    return _refuse(kind)


def _refuse(kind: type) -> Any:
    raise NotPlain(f"{kind.__module__}.{kind.__qualname__}")


def restored(value: Any) -> Any:
    """The inverse of `plain`."""
    if type(value) is list:
        return [restored(item) for item in value]
    if type(value) is not dict:
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {key: restored(item) for key, item in value.items()}
    held = value[tag]
    if tag == "$enum":
        return _named(held)(restored(value["value"]))
    return _UNTAG[tag](held)


_UNTAG: dict[str, Any] = {
    "$int": int,
    "$float": float,
    "$dict": lambda pairs: {restored(key): restored(item) for key, item in pairs},
    "$tuple": lambda items: tuple(restored(item) for item in items),
    "$set": lambda items: {restored(item) for item in items},
    "$frozenset": lambda items: frozenset(restored(item) for item in items),
    "$bytes": bytes.fromhex,
    "$datetime": lambda text: _as_utc(dt.datetime.fromisoformat(text)),
    "$date": dt.date.fromisoformat,
    "$timedelta": lambda parts: dt.timedelta(days=parts[0], seconds=parts[1], microseconds=parts[2]),
}


def _as_utc(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo is None else moment.replace(tzinfo=UTC)


# ── any value ────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode(value: Any, *, codec: str | None = None, where: str = "The result") -> Encoded:
    """A value as bytes.

    Args:
        value: what a step returned.
        codec: a codec's name, where the type should not choose.
        where: how the error names the value.

    Raises:
        TreadleError: `bad_request`, where it cannot be saved.
    """
    chosen = codec or codec_of(value)
    if chosen is None:
        if type(value) in (list, tuple, dict):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            parts = tuple((key, encode(item, where=f"{where}[{key!r}]")) for key, item in pairs)
            if all(isinstance(key, str | int) for key, _ in parts):
                return Encoded(f"parts:{type(value).__name__}", parts=parts)
        raise _unsavable(value, where)
    if chosen.startswith("struct"):
        kind = type(value)
        if "<locals>" in kind.__qualname__ or getattr(sys.modules.get(kind.__module__), kind.__name__, None) is not kind:
            raise TreadleError(
                f"{where} is a {kind.__qualname__}, which cannot be found again by its name in {kind.__module__}.",
                remedy=f"Define {kind.__name__} at the top level of a module.",
            )
        return Encoded(f"struct:{kind.__module__}:{kind.__qualname__}", msgspec.msgpack.encode(value))
    encoder = _ENCODERS.get(chosen)
    if encoder is None:
        raise TreadleError(f"There is no codec {chosen!r}.", remedy=f"Use one of {', '.join(sorted(_ENCODERS))}, or leave it out.")
    try:
        return Encoded(chosen, encoder(value))
    except (NotPlain, TypeError, ValueError, AttributeError) as error:
        raise _unsavable(value, where, f" as {chosen}: {error}") from error


def codec_of(value: Any) -> str | None:
    """The name of the codec for a value's type; None for a container of several, or where there is none."""
    kind = type(value)
    if kind is bytes or kind is bytearray:
        return "bytes"
    if isinstance(value, Struct) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return "struct"
    for base in kind.__mro__:
        found = _BY_NAME.get((base.__module__.partition(".")[0], base.__name__))
        if found:
            return found
    try:
        plain(value)
    except NotPlain:
        return None
    return "json"


def decode(codec: str, content: bytes | Path) -> Any:
    """The value of an artifact, given as bytes or as a verified file.

    Raises:
        TreadleError: `not_found`, for a codec or type that this installation lacks.
    """
    if codec == "arrow" and isinstance(content, Path):
        return _polars().read_ipc(content)
    data = content.read_bytes() if isinstance(content, Path) else content
    if codec.startswith("struct:"):
        return msgspec.msgpack.decode(data, type=_named(codec.removeprefix("struct:")))
    if codec not in _DECODERS:
        raise TreadleError(
            f"This artifact was saved with codec {codec!r}, which this version does not have.",
            remedy="Run the step again with this version: treadle run PIPELINE --no-cache",
            code="not_found",
        )
    return _DECODERS[codec](data)


def shares_memory(codec: str) -> bool:
    """Whether a fresh value may be handed on by reference; plain values are decoded anew, so that nobody's edit reaches others."""
    return codec not in ("json", "npy") and not codec.startswith("parts:")


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise TreadleError(
            f"This artifact is a {path}, which cannot be imported here: {error}.",
            remedy=f"Run with the code that made it, or keep {name} importable from {module}.",
            code="not_found",
        ) from error
    return found


def _unsavable(value: Any, where: str, detail: str = "") -> TreadleError:
    kind = type(value)
    return TreadleError(
        f"{where} is a {kind.__module__}.{kind.__qualname__} and cannot be saved{detail}. Nothing is pickled.",
        remedy="Return a polars frame, numpy array, plain values, bytes, a msgspec Struct, scikit-learn estimator or LightGBM booster.",
        details={"type": f"{kind.__module__}.{kind.__qualname__}"},
    )


# ── each codec ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _polars() -> Any:
    import polars  # noqa: PLC0415  (144 ms, and only where a frame is read)

    return polars


def _numpy() -> Any:
    import numpy  # noqa: PLC0415  (heavy, and only where an array is read)

    return numpy


def _arrow(frame: Any) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="uncompressed")
    return buffer.getvalue()


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    _numpy().save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _read_npy(data: bytes) -> Any:
    array = _numpy().load(io.BytesIO(data), allow_pickle=False)
    array.setflags(write=False)
    return array


def _booster(data: bytes) -> Any:
    import lightgbm  # noqa: PLC0415  (heavy, and only where a booster is read)

    return lightgbm.Booster(model_str=data.decode())


def _skops(value: Any) -> bytes:
    import skops.io  # noqa: PLC0415  (heavy, and only where an estimator is saved)

    return skops.io.dumps(value)


#: Packages whose estimators a skops file may name when it is read back.
_TRUSTED = ("sklearn.", "lightgbm.", "xgboost.", "numpy.", "scipy.", "collections.OrderedDict")


def _read_skops(data: bytes) -> Any:
    import skops.io  # noqa: PLC0415  (heavy, and only where an estimator is read)

    unknown = skops.io.get_untrusted_types(data=data)
    foreign = [name for name in unknown if not name.startswith(_TRUSTED)]
    if foreign:
        raise TreadleError(
            f"The saved estimator uses {', '.join(foreign)}, which is not trusted.",
            remedy="Save only estimators of scikit-learn, LightGBM or XGBoost; keep parts of your own out of the pipeline.",
            code="denied",
        )
    return skops.io.loads(data, trusted=unknown)


def _ipc(data: bytes) -> Any:
    return _polars().read_ipc(data)


_ENCODERS: dict[str, Any] = {
    "json": lambda value: msgspec.json.encode(plain(value)),
    "bytes": bytes,
    "arrow": _arrow,
    "arrow-lazy": lambda frame: _arrow(frame.collect()),
    "arrow-series": lambda series: _arrow(series.to_frame()),
    "npy": _npy,
    "booster": lambda booster: booster.model_to_string(num_iteration=-1).encode(),
    "skops": _skops,
}
_DECODERS: dict[str, Any] = {
    "json": lambda data: restored(msgspec.json.decode(data)),
    "bytes": bytes,
    "arrow": _ipc,
    "arrow-lazy": lambda data: _ipc(data).lazy(),
    "arrow-series": lambda data: _ipc(data).to_series(),
    "npy": _read_npy,
    "booster": _booster,
    "skops": _read_skops,
}
_BY_NAME: Mapping[tuple[str, str], str] = {
    ("polars", "DataFrame"): "arrow",
    ("polars", "LazyFrame"): "arrow-lazy",
    ("polars", "Series"): "arrow-series",
    ("numpy", "ndarray"): "npy",
    ("lightgbm", "Booster"): "booster",
    ("sklearn", "BaseEstimator"): "skops",
    ("xgboost", "XGBModel"): "skops",
}
