"""The searches for models and versions: text in MLflow's filter language to clauses, an order with its ties broken, and page tokens.

`name LIKE 'delay%' AND tags.team = 'ops' AND metrics.auc > 0.8`: comparisons joined by AND. Attributes stand bare or behind `attribute.`;
names with other characters than letters, digits and `_.-/` in back-ticks or double quotes; text in quotes.
"""

import base64
import binascii
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from treadle.records.errors import TreadleError
from treadle.store.queries.models import MODEL_ATTRIBUTES, VERSION_ATTRIBUTES, Clause, Order

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
  | (?P<ticked>(?:[A-Za-z]+\.)?`[^`]+`)
  | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
  | (?P<op><=|>=|!=|<>|=|<|>)
  | (?P<mark>[(),])
  | (?P<word>[A-Za-z_][\w./-]*(?:"[^"]*")?)
    )""",
    re.X,
)
_ENTITIES = {
    **dict.fromkeys(("attribute", "attributes", "attr"), "attribute"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("metric", "metrics"), "metric"),
}
_TEXT_OPS = ("=", "!=", "LIKE", "ILIKE", "IN", "NOT IN", "IS NULL", "IS NOT NULL")
_NUMBER_OPS = ("=", "!=", ">", ">=", "<", "<=", "IN", "NOT IN")
_TIMES = ("created", "updated", "creation_timestamp", "last_updated_timestamp", "timestamp")
_NUMBERS = (*_TIMES, "version_number", "version")
_MOST_CLAUSES = 50
_LONGEST = 20_000


def model_clauses(filter: str) -> list[Clause]:
    """The clauses of a filter on models: attributes and tags."""
    return _clauses(filter, MODEL_ATTRIBUTES, metrics=False)


def version_clauses(filter: str) -> list[Clause]:
    """The clauses of a filter on versions: attributes, tags and metrics."""
    return _clauses(filter, VERSION_ATTRIBUTES, metrics=True)


def model_order(order_by: Sequence[str]) -> list[Order]:
    """The order of a search for models: by name where none is given, and after what is."""
    return _order(order_by, MODEL_ATTRIBUTES, metrics=False, ties=[Order("attribute", "name")])


def version_order(order_by: Sequence[str]) -> list[Order]:
    """The order of a search for versions: last changed first, then by name and the newest number."""
    ties = [Order("attribute", "last_updated_timestamp", False)] if not order_by else []
    return _order(
        order_by, VERSION_ATTRIBUTES, metrics=True, ties=[*ties, Order("attribute", "name"), Order("attribute", "version_number", False)]
    )


def token_of(after: Sequence[Any] | None) -> str | None:
    """The page token of a place in an order."""
    return None if after is None else base64.urlsafe_b64encode(msgspec.json.encode(list(after))).decode()


def place_of(token: str | None, order: Sequence[Order]) -> list[Any] | None:
    """The place that a page token stands for.

    Raises:
        TreadleError: `bad_request` for a token of another search, or of none.
    """
    if not token:
        return None
    try:
        place = msgspec.json.decode(base64.urlsafe_b64decode(token), type=list[int | float | str])
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise _bad_token() from error
    wanted: list[type | tuple[type, ...]] = []
    for o in order:
        if o.kind == "metric":
            wanted += [int, (float, int)]
        else:
            wanted.append(int if o.key in _NUMBERS else str)
    if len(place) != len(wanted) or not all(isinstance(v, kind) for v, kind in zip(place, wanted, strict=True)):
        raise _bad_token()
    if any(isinstance(v, int) and not -(2**63) <= v < 2**63 for v in place):
        raise _bad_token()
    return list(place)


def _bad_token() -> TreadleError:
    return TreadleError("Invalid page token: it is none of this search.", remedy="Use the token of the page before, or none.")


def _order(order_by: Sequence[str], attributes: Mapping[str, Any], *, metrics: bool, ties: list[Order]) -> list[Order]:
    found: list[Order] = []
    for text in order_by:
        matched = re.fullmatch(r"\s*(?P<field>`[^`]+`|\"[^\"]+\"|\S.*?)(?:\s+(?P<way>asc|desc))?\s*", text, re.I)
        if matched is None or re.search(r"\s(?!.*[`\"])", matched["field"].strip()):
            raise TreadleError(
                f"Invalid order_by clause '{text}'. Could not be parsed.", remedy="Write a field, and ASC or DESC: 'name DESC'."
            )
        kind, key = _field(matched["field"], attributes, metrics=metrics)
        if kind == "tag":
            raise TreadleError(f"Invalid order_by key '{key}': tags give no order.", remedy=f"Use one of {', '.join(attributes)}.")
        if any((o.kind, o.key) == (kind, key) for o in found):
            raise TreadleError(f"`order_by` contains duplicate fields: {list(order_by)}", remedy="Name each field once.")
        found.append(Order(kind, key, (matched["way"] or "asc").lower() == "asc"))
    named = {str(attributes[o.key]) for o in found if o.kind == "attribute"}
    return found + [tie for tie in ties if str(attributes[tie.key]) not in named]


def _field(text: str, attributes: Mapping[str, Any], *, metrics: bool) -> tuple[str, str]:
    entity, dot, key = text.partition(".")
    if not dot or entity[:1] in ('"', "`"):
        kind, key = "attribute", text
    elif entity.lower() in _ENTITIES:
        kind = _ENTITIES[entity.lower()]
    else:
        valid = ["attribute", "tag", *(["metric"] if metrics else [])]
        raise TreadleError(f"Invalid entity type '{entity}'. Valid values are {valid}", remedy="Write attribute.name, tags.key …")
    key = _bare(key)
    if kind == "metric" and not metrics:
        raise TreadleError("Invalid entity type 'metric': models have none.", remedy="Search versions by their metrics.")
    if kind == "metric" and ('"' in key or "\\" in key):
        raise TreadleError(f"{key!r} is no name of a metric.", remedy="Use letters, digits, '_', '-', '.', ' ', ':' and '/'.")
    if kind == "attribute" and key not in attributes:
        raise TreadleError(
            f"Invalid attribute key '{key}' specified. Valid keys are '{list(attributes)}'", remedy="Use tags.KEY for a tag."
        )
    return kind, key


def _bare(key: str) -> str:
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] and key[0] in "`\"'" else key


def _clauses(filter: str, attributes: Mapping[str, Any], *, metrics: bool) -> list[Clause]:
    tokens = _tokens(filter)
    found: list[Clause] = []
    at = 0
    while at < len(tokens):
        if found:
            if tokens[at][1].upper() != "AND":
                raise _bad_filter(filter, f"'{tokens[at][1]}' where AND was expected")
            at += 1
        clause, at = _comparison(filter, tokens, at, attributes, metrics=metrics)
        found.append(clause)
        if len(found) > _MOST_CLAUSES:
            raise _bad_filter(filter[:80], f"more than {_MOST_CLAUSES} comparisons")
    return found


def _comparison(filter: str, tokens: list[tuple[str, str]], at: int, attributes: Mapping[str, Any], *, metrics: bool) -> tuple[Clause, int]:
    kind_of, text = _at(filter, tokens, at)
    if kind_of not in ("word", "ticked", "text") or (kind_of == "text" and text[0] != '"'):
        raise _bad_filter(filter, f"{text!r} is no field")
    kind, key = _field(text, attributes, metrics=metrics)
    numeric = kind == "metric" or (kind == "attribute" and key in _NUMBERS)
    op, at = _operator(filter, tokens, at + 1)
    if op not in (_NUMBER_OPS if numeric else _TEXT_OPS):
        raise _bad_filter(filter, f"{op} does not compare {'numbers' if numeric else 'text'}")
    if op.startswith("IS"):
        return Clause(kind, key, op), at
    if op.endswith("IN"):
        values, at = _list(filter, tokens, at)
    else:
        values, at = [_at(filter, tokens, at)], at + 1
    read = [_number(filter, key, v) if numeric else _text(filter, key, v) for v in values]
    return Clause(kind, key, op, read if op.endswith("IN") else read[0]), at


def _operator(filter: str, tokens: list[tuple[str, str]], at: int) -> tuple[str, int]:
    kind, text = _at(filter, tokens, at)
    word = text.upper()
    if kind == "op":
        return ("!=" if text == "<>" else text), at + 1
    rest = [t[1].upper() for t in tokens[at + 1 : at + 3]]
    if word in ("LIKE", "ILIKE", "IN"):
        return word, at + 1
    if word == "NOT" and rest[:1] == ["IN"]:
        return "NOT IN", at + 2
    if word == "IS" and rest[:1] == ["NULL"]:
        return "IS NULL", at + 2
    if word == "IS" and rest == ["NOT", "NULL"]:
        return "IS NOT NULL", at + 3
    raise _bad_filter(filter, f"{text!r} is no comparator")


def _list(filter: str, tokens: list[tuple[str, str]], at: int) -> tuple[list[tuple[str, str]], int]:
    if _at(filter, tokens, at)[1] != "(":
        raise _bad_filter(filter, "IN without a list in brackets")
    values: list[tuple[str, str]] = []
    at += 1
    while True:
        values.append(_at(filter, tokens, at))
        mark = _at(filter, tokens, at + 1)[1]
        at += 2
        if mark == ")":
            return values, at
        if mark != ",":
            raise _bad_filter(filter, f"{mark!r} in a list")


def _text(filter: str, key: str, value: tuple[str, str]) -> str:
    if value[0] != "text":
        raise _bad_filter(filter, f"Expected a quoted string value for {key}, got {value[1]}")
    return value[1][1:-1].replace("\\'", "'").replace('\\"', '"')


def _number(filter: str, key: str, value: tuple[str, str]) -> float | int:
    try:
        number = float(_bare(value[1]))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _bad_filter(filter, f"Expected a number for {key}, got {value[1]}")
    if key in _TIMES:
        return int(number * 1000) if abs(number) < 1e15 else int(math.copysign(2**62, number))
    return int(number) if number.is_integer() and abs(number) < 2**63 else number


def _at(filter: str, tokens: list[tuple[str, str]], at: int) -> tuple[str, str]:
    if at >= len(tokens):
        raise _bad_filter(filter, "it ends in the middle of a comparison")
    return tokens[at]


def _tokens(filter: str) -> list[tuple[str, str]]:
    if len(filter) > _LONGEST or "\x00" in filter:
        raise _bad_filter(filter[:80].replace("\x00", " "), f"it is longer than {_LONGEST} characters, or holds a NUL")
    found: list[tuple[str, str]] = []
    at, text = 0, filter.strip()
    while at < len(text):
        matched = _TOKEN.match(text, at)
        if matched is None or matched.end() == at:
            raise _bad_filter(filter, f"it cannot be read from {text[at : at + 20]!r} on")
        found.append((str(matched.lastgroup), matched[str(matched.lastgroup)]))
        at = matched.end()
    return found


def _bad_filter(filter: str, why: str) -> TreadleError:
    return TreadleError(
        f"Invalid clause(s) in filter string: '{filter[:200]}': {why}.",
        remedy="Write comparisons joined by AND: name = 'delay' AND tags.`team` LIKE 'ops%'",
    )
