"""Tokens of pages: where in an order the last page ended, so that what comes in between moves nothing.

A token is base64 of JSON: a digest of the search it belongs to, and the position. It holds no secret and is not trusted: what is in it
goes nowhere but into comparisons, and one that does not fit is refused in the protocol's words.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.filters import Order
from treadle.store.queries.conditions import STATUS
from treadle.store.queries.listings import MODEL_STATUS
from treadle.store.queries.orders import MISSING, NAN, NUMBER, Found

_LONGEST = 100_000


def made(search: Any, position: Found) -> str:
    """The token of what follows a position in a search."""
    values, created, identity = position
    return encoded([mark(search), [list(value) for value in values], created, identity])


def encoded(content: list[Any]) -> str:
    """JSON as a token."""
    return base64.b64encode(json.dumps(content, separators=(",", ":")).encode()).decode()


def read(search: Any, orders: Sequence[Order], token: str | None) -> Found | None:
    """The position that a token stands for; None for no token.

    Raises:
        TreadleError: `bad_request` for one that is made up, or another search's.
    """
    if not token:
        return None
    content = decoded(token)
    fits = isinstance(content, list) and len(content) == 4 and content[0] == mark(search)
    if not fits or not _is_position(content[1:], orders):
        raise refused(f"parsed value={str(content)[:200]}")
    return tuple((rank, value) for rank, value in content[1]), content[2], content[3]


def decoded(token: str) -> Any:
    """The JSON that a token holds.

    Raises:
        TreadleError: `bad_request` where it holds none.
    """
    try:
        text = base64.b64decode(token if len(token) <= _LONGEST else "?")
    except (binascii.Error, ValueError):
        raise refused("could not base64-decode") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise refused(f"decoded value={text[:200]!r}") from None


def _is_position(content: list[Any], orders: Sequence[Order]) -> bool:
    values, created, identity = content
    if not isinstance(values, list) or len(values) != len(orders) or not _is_whole(created) or not _is_text(identity):
        return False
    return all(isinstance(v, list) and len(v) == 2 and _is_value(v[0], v[1], order) for v, order in zip(values, orders, strict=True))


def _is_value(rank: Any, value: Any, order: Order) -> bool:
    if rank != NUMBER:
        return type(rank) is int and value == 0 and (rank == MISSING or (rank == NAN and order.kind == "metric"))
    if order.kind == "metric":
        return (type(value) is float and value == value) or _is_whole(value)
    if order.kind == "attribute" and order.key.endswith(("_time", "_timestamp")):
        return _is_whole(value)
    known = STATUS.values() if (order.kind, order.key) == ("attribute", "status") else ()
    return _is_text(value) and (value in known or value in MODEL_STATUS.values() or not known)


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _is_text(value: Any) -> bool:
    """Whether a database takes it as text."""
    return isinstance(value, str) and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)


def mark(search: Any) -> str:
    """What tells a search's tokens from another's."""
    return digest_of(repr(search))[:16]


def refused(why: str) -> TreadleError:
    """What a token that does not fit is answered with, in the protocol's words."""
    return TreadleError(
        f"Invalid page token, {why}",
        remedy="Use page.next of the page before, as it is, with the same search.",
        details={"field": "page"},
    )
