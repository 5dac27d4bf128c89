"""The searches for models and versions: what may be asked in the filter language, the order with its ties broken, and page tokens.

`name LIKE 'delay%' AND tags.team = 'ops' AND metrics.auc > 0.8`: more than MLflow's clients may ask (`tracking.languages`), namely every
attribute, and the metrics of versions.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from treadle.records.errors import TreadleError
from treadle.records.filters import Comparison, Order
from treadle.tracking.filters import MODEL_VERSIONS, REGISTERED_MODELS, parse_filter, parse_order

_TIMES = ("created", "updated", "creation_timestamp", "last_updated_timestamp", "timestamp")
_NUMBERS = (*_TIMES, "version_number", "version", "downloads")
_ANY = {"attribute": "attribute", "attributes": "attribute", "tag": "tag", "tags": "tag"}
_MOST_COMPARISONS = 50

# Comparators are as free as those of runs: lists, metrics, fractions.
MODELS = replace(
    REGISTERED_MODELS,
    name="runs",
    entities=_ANY,
    texts=("name", "description", "user"),
    numbers=_TIMES,
    orders=("name", "user", *_TIMES),
    lists=("name", "user"),
    nulls=("tag",),
)
VERSIONS = replace(
    MODEL_VERSIONS,
    name="runs",
    entities={**_ANY, "metric": "metric", "metrics": "metric"},
    texts=("name", "run_id", "source_path", "source", "model_id", "state", "stage", "status", "description", "user"),
    numbers=_NUMBERS,
    orders=("name", "run_id", "state", "stage", "user", *_NUMBERS),
    lists=("name", "run_id", "model_id", "state", "stage", "user"),
    nulls=("tag",),
)


def model_clauses(filter: str) -> list[Comparison]:
    """The comparisons of a filter on models: attributes and tags."""
    return _clauses(parse_filter(filter, MODELS))


def version_clauses(filter: str) -> list[Comparison]:
    """The comparisons of a filter on versions: attributes, tags and metrics."""
    return _clauses(parse_filter(filter, VERSIONS))


def model_order(order_by: Sequence[str]) -> list[Order]:
    """The order of a search for models: by name where none is given, and after what is."""
    return _order(parse_order(order_by, MODELS), [Order("attribute", "name")])


def version_order(order_by: Sequence[str]) -> list[Order]:
    """The order of a search for versions: last changed first where none is given; then by name, and the newest number first."""
    ties = [Order("attribute", "name"), Order("attribute", "version_number", False)]
    first = [] if order_by else [Order("attribute", "last_updated_timestamp", False)]
    return _order([*parse_order(order_by, VERSIONS), *first], ties)


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
        decoded = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad_token("could not base64-decode") from error
    try:
        place = msgspec.json.decode(decoded, type=list[int | float | str])
    except (msgspec.MsgspecError, ValueError) as error:
        raise _bad_token("it is none of this search") from error
    wanted: list[type | tuple[type, ...]] = []
    for o in order:
        wanted += [int, (float, int)] if o.kind == "metric" else [int if o.key in _NUMBERS else str]
    fits = len(place) == len(wanted) and all(isinstance(v, kind) for v, kind in zip(place, wanted, strict=True))
    if not fits or any(isinstance(v, int) and not -(2**63) <= v < 2**63 for v in place):
        raise _bad_token("it is none of this search")
    return list(place)


def _clauses(found: Sequence[Comparison]) -> list[Comparison]:
    if len(found) > _MOST_COMPARISONS:
        raise TreadleError(f"The filter has {len(found)} comparisons.", remedy=f"Use at most {_MOST_COMPARISONS}.")
    for clause in found:
        if clause.kind == "metric" and ('"' in clause.key or "\\" in clause.key):
            raise TreadleError(f"{clause.key[:80]!r} is no name of a metric.", remedy="Use letters, digits and '_-. :/'.")
    return [_within(clause) if clause.kind == "attribute" and clause.key in _NUMBERS else clause for clause in found]


def _within(clause: Comparison) -> Comparison:
    """A number that a column can hold, which no version reaches; times in microseconds."""
    value = clause.value if isinstance(clause.value, int | float) else 0
    kept = max(-(2**62), min(2**62, value * 1000 if clause.key in _TIMES else value))
    return Comparison(clause.kind, clause.key, clause.op, int(kept) if clause.key in _TIMES else kept)


def _order(found: Sequence[Order], ties: Sequence[Order]) -> list[Order]:
    for o in found:
        if o.kind == "tag" or (o.kind == "metric" and ('"' in o.key or "\\" in o.key)):
            raise TreadleError(f"Invalid order by key {o.key[:80]!r}.", remedy="Order by an attribute, or of versions by a metric.")
    same = {"version": "version_number"}
    named = {same.get(o.key, o.key) for o in found if o.kind == "attribute"}
    return [*found, *(tie for tie in ties if tie.key not in named)]


def _bad_token(why: str) -> TreadleError:
    return TreadleError(f"Invalid page token, {why}", remedy="Use the token of the page before, or none.", details={"field": "page"})
