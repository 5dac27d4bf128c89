"""Reading requests as the protocol's own server does: leniently in form, and exact in what it says of a value that does not fit."""

import json
import re
import typing
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from treadle.api.mlflow.table import ProtocolError, invalid, wrong_type

_WHERE = re.compile(r" - at `\$(?P<path>.*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_KINDS = {dict: "dict", list: "list", str: "str", int: "int", float: "float", bool: "bool", type(None): "NoneType"}
DEEP = "The request is nested too deeply to be read."


class Reader:
    """Fills one row's request struct.

    Args:
        request: the struct.
    """

    def __init__(self, request: type):
        self._type = request
        self._decoder = msgspec.json.Decoder(request, strict=False)
        hints = typing.get_type_hints(request)
        fields = [f for f in msgspec.structs.fields(request)]
        self._lists = frozenset(f.encode_name for f in fields if _is_list(hints[f.name]))
        self._names = {f.name: f.encode_name for f in fields}

    def body(self, body: bytes, parts: dict[str, str]) -> Any:
        """The request of a JSON body; `parts` are the fields that stand in the path.

        Raises:
            ProtocolError: a value of another type.
        """
        if not parts:
            try:
                return self._decoder.decode(body or b"{}")
            except RecursionError:
                raise invalid(DEEP) from None
            except (msgspec.MsgspecError, UnicodeDecodeError):
                pass
        return self._fill(_object(body), parts)

    def query(self, query: str, parts: dict[str, str]) -> Any:
        """The request of a query string."""
        given: dict[str, Any] = {}
        try:
            pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=10_000)
        except (ValueError, UnicodeDecodeError) as error:
            raise invalid(f"The query cannot be read: {error}") from None
        for name, value in pairs:
            if name in self._lists:
                given.setdefault(name, []).append(value)
            else:
                given[name] = value
        return self._fill(given, parts)

    def _fill(self, given: dict[str, Any], parts: dict[str, str]) -> Any:
        given |= {self._names.get(name, name): value for name, value in parts.items()}
        try:
            return msgspec.convert(given, self._type, strict=False)
        except msgspec.ValidationError:
            pass
        except RecursionError:
            raise invalid(DEEP) from None
        given = _without_nulls(given)  # a null is a field that is not there
        try:
            return msgspec.convert(given, self._type, strict=False)
        except msgspec.ValidationError as error:
            raise _refused(str(error), given) from None


def _object(body: bytes) -> dict[str, Any]:
    """The body as an object; one that is none counts as empty, and text that is JSON is read once more, for clients of old."""
    try:
        given = msgspec.json.decode(body)
        if isinstance(given, str):
            given = msgspec.json.decode(given)
    except RecursionError:
        raise invalid(DEEP) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        given = _lenient(body)
    return given if isinstance(given, dict) else {}


def _lenient(body: bytes) -> Any:
    """What Python's reader makes of a body, which takes what no JSON has: NaN, other encodings, and halves of a pair of surrogates, as
    the names of files that are no UTF-8 have them."""
    try:
        return _whole(json.loads(body.decode(json.detect_encoding(body), "surrogatepass")))
    except RecursionError:
        raise invalid(DEEP) from None
    except ValueError:
        return {}


def _whole(given: Any) -> Any:
    if isinstance(given, str):
        return given.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(given, list):
        return [_whole(value) for value in given]
    if isinstance(given, dict):
        return {_whole(name): _whole(value) for name, value in given.items()}
    return given


def _without_nulls(given: Any) -> Any:
    if isinstance(given, dict):
        return {name: _without_nulls(value) for name, value in given.items() if value is not None}
    if isinstance(given, list):
        return [_without_nulls(value) for value in given]
    return given


def _refused(said: str, given: Any) -> ProtocolError:
    """What msgspec said of a value, in the protocol's words."""
    found = _WHERE.search(said)
    path = found["path"] if found else ""
    value, name = given, ""
    for field, index in _STEP.findall(path):
        name += f"[{index}]" if index else ("." if name else "") + field
        try:
            value = value[int(index)] if index else value[field]
        except (LookupError, TypeError):
            break
    if not name:
        return invalid(f"The request cannot be read: {said}")
    listed = re.fullmatch(r"(\w+)\[\d+\]", name)
    if listed and said.startswith("Expected `str`"):  # a list of texts is one value
        name, value = listed[1], given[listed[1]]
    return wrong_type(name, shown(value), _KINDS.get(type(value), type(value).__name__))


def shown(value: Any) -> str:
    """A value as compact JSON, not too long."""
    try:
        text = msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError):
        text = str(value)
    return text if len(text) <= 1000 else f"{text[:1000]}…"


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is list or any(typing.get_origin(a) is list for a in typing.get_args(kind))
