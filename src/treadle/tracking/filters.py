"""MLflow's filter language: text to `Comparison`s that must all hold, and `name DESC` to an `Order`.

    metrics.auc > 0.8 and params.`max depth` = '4' AND tags.team LIKE 'a%' and attributes.status != 'FAILED'

There is no OR and there are no brackets. What can be asked of runs, experiments, registered models, model versions and logged models
differs in names and comparators, not in grammar: a `Language` each, and the errors say what a stock server says, because clients
show them to people. Nothing here knows how the answer is found (`store.queries.search`).
"""

import re
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from treadle.records.errors import TreadleError
from treadle.records.filters import Comparison, Order
from treadle.tracking.languages import (
    EXPERIMENTS,
    LISTS,
    LOGGED_MODELS,
    MODEL_VERSIONS,
    NULLS,
    NUMERIC,
    REGISTERED_MODELS,
    RUNS,
    TEXT,
    Language,
)
from treadle.tracking.tokens import Token, tokens

__all__ = [
    "EXPERIMENTS",
    "LOGGED_MODELS",
    "MODEL_VERSIONS",
    "REGISTERED_MODELS",
    "RUNS",
    "Comparison",
    "Language",
    "Order",
    "parse_filter",
    "parse_logged_model_order",
    "parse_order",
    "written",
]

_MOST_CHARACTERS = 200_000


def parse_filter(text: str | None, language: Language) -> tuple[Comparison, ...]:
    """The conditions that a filter states; none for no filter.

    Raises:
        TreadleError: `bad_request` with the protocol's words for what cannot be read or may not be asked.

    >>> parse_filter("metrics.auc >= 0.5 and tag.team = 'a'", RUNS)
    (Comparison(kind='metric', key='auc', op='>=', value=0.5), Comparison(kind='tag', key='team', op='=', value='a'))
    """
    if not text:
        return ()
    if len(text) > _MOST_CHARACTERS or "\0" in text:
        raise _error(f"Error on parsing filter '{text[:200]}'")
    found = tokens(text)
    if not found and not language.bare_values:
        raise _error(f"Invalid filter '{text}'. Could not be parsed.")
    if not found or _several(found):
        raise _error(
            f"Invalid filter string: {text!r}. Expected a single SQL expression."
            if language.bare_values
            else f"Search filter contained multiple expression {text!r}. Provide AND-ed expression list."
        )
    clauses, invalid = _clauses(found)
    if invalid and language.bare_values:
        raise _error(
            f"Invalid filter string: {text!r}. Expected a list of comparisons separated by 'AND' "
            "(e.g. 'metrics.loss > 0.1 AND params.lr = 0.01')."
        )
    if invalid:
        told = ", ".join(f"'{t.text}'" if language.quoted_clauses else t.text for t in invalid)
        raise _error(f"Invalid clause(s) in filter string: {told}")
    read = [_comparison(clause, language) for clause in clauses]
    for comparison in read:
        _check_op(comparison, language)
    return tuple(read)


def parse_order(clauses: Sequence[str], language: Language) -> tuple[Order, ...]:
    """What to order by: texts of a name, and ASC or DESC behind it.

    Raises:
        TreadleError: `bad_request` with the protocol's words.

    >>> parse_order(["metrics.auc DESC", "Created"], RUNS)
    (Order('metric', 'auc', False, '', ''), Order('attribute', 'start_time', True, '', ''))
    """
    orders: list[Order] = []
    for clause in clauses:
        order = _order(clause, language)
        if any((o.kind, o.key) == (order.kind, order.key) for o in orders):
            raise _error(f"`order_by` contains duplicate fields: {list(clauses)}")
        orders.append(order)
    return tuple(orders)


def parse_logged_model_order(clauses: Sequence[dict[str, Any]]) -> tuple[Order, ...]:
    """What to order logged models by: `{"field_name": "metrics.auc", "ascending": false, "dataset_name": …, "dataset_digest": …}`.

    Raises:
        TreadleError: `bad_request` with the protocol's words.
    """
    orders: list[Order] = []
    for clause in clauses:
        name, ascending = clause.get("field_name"), clause.get("ascending")
        data, digest = clause.get("dataset_name") or "", clause.get("dataset_digest") or ""
        if not isinstance(name, str) or not name or "\0" in name:
            raise _error("`field_name` in the `order_by` clause must be specified.")
        if ascending not in (True, False, None):
            raise _error(f"Value of `ascending` in the `order_by` clause must be a boolean, got {type(ascending)} for field {name}.")
        if not isinstance(data, str) or not isinstance(digest, str) or (digest and not data) or "\0" in data + digest:
            raise _error("`dataset_digest` can only be specified if `dataset_name` is also specified.")
        entity, dot, key = name.partition(".")
        if dot and entity != "metrics":
            raise _error(f"Invalid order by field name: {name}. Only metrics are supported.")
        key = _unquoted(key) if dot else LOGGED_MODELS.aliases.get(name.strip(), name.strip())
        if not dot and key not in LOGGED_MODELS.orders:
            raise _error(f"Invalid order by field name: {name}")
        orders.append(Order("metric" if dot else "attribute", key, ascending is not False, data, digest))
    return tuple(orders)


def written(comparisons: Sequence[Comparison]) -> str:
    """A filter that says the same: what `parse_filter` makes `comparisons` of.

    Raises:
        ValueError: a name or text that the language has no quotes for.

    >>> written([Comparison("param", "max depth", "=", "4")])
    "params.`max depth` = '4'"
    """
    return " AND ".join(map(_written, comparisons))


def _written(comparison: Comparison) -> str:
    prefix = {"metric": "metrics", "param": "params", "tag": "tags", "attribute": "attributes", "dataset": "datasets"}[comparison.kind]
    if "`" in comparison.key:
        raise ValueError(f"no quotes for the name {comparison.key!r}")
    left = f"{prefix}.`{comparison.key}` {comparison.op}"
    if comparison.value is None:
        return left
    if isinstance(comparison.value, int | float):
        return f"{left} {comparison.value!r}"
    if isinstance(comparison.value, tuple):
        return f"{left} ({', '.join(map(_listed, comparison.value))})"
    return f"{left} {_quoted(comparison.value)}"


def _quoted(value: str) -> str:
    for quote in ("'", '"'):
        if quote not in value and not value.endswith("\\"):
            return f"{quote}{value}{quote}"
    raise ValueError(f"no quotes for the text {value!r}")


def _listed(value: str) -> str:
    if "\\" in value:  # which stands before a quote for an escape in a list, and for itself elsewhere
        raise ValueError(f"no quotes for the text {value!r} in a list")
    return _quoted(value)


# ── clauses ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Clause(Struct, frozen=True):
    left: Token
    op: str
    right: Token | None  # None for IS [NOT] NULL


def _several(found: list[Token]) -> bool:
    """Whether something but a comment stands behind a semicolon."""
    end = next((n for n, t in enumerate(found) if t.kind == "mark" and t.text == ";"), len(found))
    return any(t.kind != "comment" and t.text != ";" for t in found[end:])


_OPERANDS = ("text", "number", "name", "expression", "list")


def _clauses(found: list[Token]) -> tuple[list[_Clause], list[Token]]:
    """The comparisons, and what is neither one of them nor an AND between them."""
    clauses: list[_Clause] = []
    invalid: list[Token] = []
    at = 0
    while at < len(found):
        clause, used = _clause(found, at)
        if clause is not None:
            clauses.append(clause)
        elif not found[at].is_word("AND"):
            invalid.append(found[at])
        at += used
    return clauses, invalid


def _clause(found: list[Token], at: int) -> tuple[_Clause | None, int]:
    """The comparison that begins at a token, and how many tokens it has; (None, 1) where none does."""
    left, rest = found[at], found[at + 1 : at + 4]
    if left.kind in _OPERANDS and rest:
        named = left.kind == "name"
        if rest[0].kind == "op" or rest[0].is_word("LIKE", "ILIKE", "RLIKE"):
            if len(rest) > 1 and rest[1].kind in _OPERANDS:
                return _Clause(left, rest[0].text.upper(), rest[1]), 3
        elif len(rest) > 2 and rest[0].is_word("NOT") and rest[1].is_word("LIKE", "ILIKE", "RLIKE") and rest[2].kind in _OPERANDS:
            return _Clause(left, f"NOT {rest[1].text.upper()}", rest[2]), 4
        elif named and len(rest) > 1 and rest[0].is_word("IN") and rest[1].kind == "list":
            return _Clause(left, "IN", rest[1]), 3
        elif named and len(rest) > 2 and rest[0].is_word("NOT") and rest[1].is_word("IN") and rest[2].kind == "list":
            return _Clause(left, "NOT IN", rest[2]), 4
        elif named and len(rest) > 1 and rest[0].is_word("IS") and rest[1].is_word("NULL"):
            return _Clause(left, "IS NULL", None), 3
        elif named and len(rest) > 2 and rest[0].is_word("IS") and rest[1].is_word("NOT") and rest[2].is_word("NULL"):
            return _Clause(left, "IS NOT NULL", None), 4
    return None, 1


def _comparison(clause: _Clause, language: Language) -> Comparison:
    if clause.left.kind != "name":
        raise _error(f"Invalid comparison clause. Expected 'Identifier' found '{clause.left.text}'")
    kind, key = _identifier(clause.left.text, language, (*language.texts, *language.numbers, *language.aliases))
    if clause.right is None:
        _check_null(kind, key, language)
        return Comparison(kind, key, clause.op)
    if language.bare_values:
        return _bare(kind, key, clause, language)
    return Comparison(kind, language.aliases.get(key, key) if kind == "attribute" else key, clause.op, _value(kind, key, clause, language))


def _check_null(kind: str, key: str, language: Language) -> None:
    if kind in language.nulls:
        return
    if language.name == "runs":
        raise _error(f"IS NULL / IS NOT NULL is only supported for tags and params, not for '{kind}' '{key}'")
    if language.nulls:
        raise _error(f"IS NULL / IS NOT NULL is only supported for tags, not for attribute '{key}'")
    raise _error("Invalid comparison clause. Expected 3 tokens found 2")


def _identifier(text: str, language: Language, attributes: Sequence[str]) -> tuple[str, str]:
    """Kind and name of a left side."""
    entity, dot, key = text.partition(".")
    if not dot:
        kind, key = "attribute", entity
    else:
        entity = entity[1:-1] if len(entity) > 1 and entity[0] == entity[-1] == "`" and language.name == "runs" else entity
        if entity not in language.entities:
            raise _error(language.told_entities.format(entity))
        kind = language.entities[entity]
    key = _unquoted(key)
    if kind == "attribute" and key not in attributes:
        raise _error(f"Invalid attribute key '{key}' specified. Valid keys are '{_set(attributes)}'")
    if kind == "dataset" and key not in ("name", "digest", "context"):
        raise _error(f"Invalid dataset key '{key}' specified. Valid keys are '{_set(('name', 'digest', 'context'))}'")
    return kind, key


def _unquoted(key: str) -> str:
    for quote in ("'", '"', "`"):
        if len(key) > 1 and key[0] == key[-1] == quote:
            return key[1:-1]
    return key


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _value(kind: str, key: str, clause: _Clause, language: Language) -> Any:
    token = clause.right
    assert token is not None
    numeric = kind == "attribute" and language.aliases.get(key, key) in language.numbers
    if kind == "metric":
        if token.kind != "number":
            raise _error(f"Expected numeric value type for metric. Found {token.text}")
        return float(token.text)
    if numeric and token.kind == "number":
        return _number(token.text)
    if numeric and language.name != "model versions":
        raise _error(f"Expected numeric value type for numeric attribute: {key}. Found {token.text}")
    if token.kind in ("text", "name"):
        return _text_value(key, token, numeric=numeric)
    if token.kind == "list" and kind in ("attribute", "dataset"):
        if kind == "attribute" and key not in language.lists:
            raise _error(f"Only {sorted(language.lists)} attributes support comparison with a list of quoted string values.")
        return _list(token.text)
    raise _error(_refused(kind, token, language))


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _text_value(key: str, token: Token, *, numeric: bool) -> Any:
    text = token.text
    if not (len(text) > 1 and text[0] == text[-1] and text[0] in "'\""):
        raise _error(
            "Parameter value is either not quoted or unidentified quote types used for string value "
            f"{text}. Use either single or double quotes."
        )
    if not numeric:
        return text[1:-1]
    try:
        return int(text[1:-1])
    except ValueError:
        raise _error(f"Invalid value for numeric attribute '{key}': {text[1:-1]!r}") from None


def _refused(kind: str, token: Token, language: Language) -> str:
    if kind in ("tag", "param"):
        told = {"param": "parameter"}.get(kind, kind)
        return f"Expected a quoted string value for {told} (e.g. 'my-value'). Got value {token.text}"
    if kind == "dataset":
        return f"Expected a quoted string value for dataset attributes. Got value {token.text}"
    if language.name == "model versions" and token.kind == "number":
        told = _set(("version_number", "creation_timestamp", "last_updated_timestamp"))
        return f"Only the '{told}' attributes support comparison with numeric values."
    if language.name in ("model versions", "registered models"):
        return f"Expected a quoted string value or a list of quoted string values for attributes. Got value {token.text}"
    return f"Expected a quoted string value for attributes. Got value {token.text}"


_ITEM = re.compile(r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<number>-?\d+(?:\.\d+)?))\s*(?P<end>,|$)""", re.DOTALL)


def _list(text: str) -> tuple[str, ...]:
    """The texts of a list in brackets."""
    told = "While parsing a list in the query, expected "
    inner = text[1:-1]
    items: list[Any] = []
    at = 0
    while at < len(inner) and inner[at:].strip():
        matched = _ITEM.match(inner, at)
        if matched is None:
            raise _error(f"{told}a non-empty list of string values, but got ill-formed list.")
        items.append(_number(matched["number"]) if matched["number"] else re.sub(r"\\([\\'\"])", r"\1", matched["text"][1:-1]))
        at = matched.end()
    if not items:
        raise _error(f"{told}a non-empty list of string values, but got empty list")
    if not all(isinstance(item, str) for item in items):
        raise _error(f"{told}string value, punctuation, or whitespace, but got different type in list: {tuple(items)}")
    return tuple(items)


def _bare(kind: str, key: str, clause: _Clause, language: Language) -> Comparison:
    """A comparison where text need not be quoted."""
    assert clause.right is not None
    key = language.aliases.get(key, key) if kind == "attribute" else key
    numeric = kind == "metric" or key in language.numbers
    ops = ("<", "<=", ">", ">=", "=", "!=") if numeric else (*TEXT, *LISTS)
    if clause.op not in ops:
        shown = f"{next(p for p, k in language.entities.items() if k == kind)}.{key}"
        raise _error(f"Invalid comparison operator for {shown}: {clause.op!r}. Expected one of {ops}.")
    text = clause.right.text
    if numeric:
        try:
            return Comparison(kind, key, clause.op, float(text.strip("'\"")) if kind == "metric" else _number(text.strip("'\"")))
        except ValueError:
            raise _error(f"Invalid value for numeric {kind} '{key}': {text!r}") from None
    if (clause.right.kind == "list") != (clause.op in LISTS):
        raise _error(f"Invalid comparison: {key} {clause.op} {text}. A list is compared with IN or NOT IN, and only a list.")
    return Comparison(kind, key, clause.op, _list(text) if clause.op in LISTS else _unquoted(text))


# ── comparators ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_op(comparison: Comparison, language: Language) -> None:
    if language.bare_values or comparison.value is None:
        return
    refuse = {"runs": _run_op, "experiments": _experiment_op}.get(language.name, _registry_op)
    told = refuse(comparison, language)
    if told:
        raise _error(told)


def _run_op(comparison: Comparison, language: Language) -> str | None:
    """Why a comparator may not be used, in the words of the protocol (their quotes are not always closed)."""
    op, kind = comparison.op, comparison.kind
    nulled = _set((*TEXT, *NULLS))
    listed = _set((*TEXT, *LISTS))
    numeric = kind == "attribute" and comparison.key in language.numbers
    allowed, told = {
        "metric": (NUMERIC, f"'{_set(NUMERIC)}"),
        "param": (TEXT, f"'{nulled}'"),
        "tag": (TEXT, f"'{nulled}"),
        "dataset": ((*TEXT, *LISTS), f"'{listed}"),
        "attribute": (NUMERIC, f"'{listed}") if numeric else ((*TEXT, *LISTS), f"'{listed}'"),
    }[kind]
    if op not in allowed:
        return f"Invalid comparator '{op}' not one of {told}"
    return _list_op(comparison)


def _experiment_op(comparison: Comparison, language: Language) -> str | None:
    if comparison.kind == "tag":
        return None if comparison.op in TEXT else f"Invalid comparator for tag: {comparison.op}"
    if comparison.key == "experiment_id":
        return _list_op(comparison) if comparison.op in ("=", "!=", *LISTS) else f"Invalid comparator for experiment_id: {comparison.op}"
    told = f"Invalid comparator '{comparison.op}' not one of '{_set((*TEXT, *LISTS))}"
    if comparison.key in language.numbers:
        if comparison.op not in NUMERIC:
            return told
        value = comparison.value
        return f"Invalid value for numeric attribute '{comparison.key}': {str(value)!r}" if isinstance(value, float) else None
    if comparison.op not in (*TEXT, *LISTS):
        return f"{told}'"
    return None if comparison.op in TEXT else f"Invalid comparator for string attribute: {comparison.op}"


def _registry_op(comparison: Comparison, language: Language) -> str | None:
    if comparison.kind == "tag":
        return None if comparison.op in TEXT else f"Invalid comparator for tag: {comparison.op}"
    if comparison.key in language.numbers:
        if comparison.op not in NUMERIC:
            return f"Invalid comparator for attribute {comparison.key}: {comparison.op}"
        return _whole(comparison)
    lists = LISTS if comparison.key in language.lists else ()
    return _list_op(comparison) if comparison.op in (*TEXT, *lists) else f"Invalid comparator for attribute: {comparison.op}"


def _whole(comparison: Comparison) -> str | None:
    return f"Invalid value for numeric attribute '{comparison.key}': {comparison.value!r}" if isinstance(comparison.value, float) else None


def _list_op(comparison: Comparison) -> str | None:
    """A list goes with IN and NOT IN, and they with a list: `run_id = ('a')` is none."""
    if (comparison.op in LISTS) == isinstance(comparison.value, tuple):
        return None
    return f"Invalid comparison clause. '{comparison.op}' does not compare '{comparison.key}' with {comparison.value!r}"


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _order(clause: str, language: Language) -> Order:
    found = tokens(clause) if len(clause) <= _MOST_CHARACTERS and "\0" not in clause else []
    if not 1 <= len(found) <= 2 or found[0].kind != "name" or (len(found) == 2 and found[1].kind not in ("name", "keyword")):
        raise _error(f"Invalid order_by clause '{clause}'. Could not be parsed.")
    if len(found) == 2 and found[1].text.upper() not in ("ASC", "DESC"):
        raise _error(f"Invalid ordering key in order_by clause '{clause}'.")
    ascending = len(found) < 2 or found[1].text.upper() == "ASC"
    if language.name == "registered models":
        key = found[0].text
        if key not in language.orders:
            raise _error(f"Invalid order by key '{key}' specified. Valid keys are '{_set(('name', 'timestamp'))}'")
        return Order("attribute", "name" if key == "name" else "last_updated_timestamp", ascending)
    kind, key = _identifier(found[0].text, language, language.orders)
    if kind == "dataset":
        raise _error("Invalid identifier type 'dataset'")
    if kind != "attribute" and language.name != "runs":
        raise _error(f"Invalid order_by entity: {kind}")
    return Order(kind, language.aliases.get(key, key) if kind == "attribute" else key, ascending)


def _set(names: Sequence[str]) -> str:
    """As Python shows a set, in order."""
    return "{" + ", ".join(sorted(map(repr, names))) + "}"


def _error(what: str) -> TreadleError:
    return TreadleError(
        what,
        remedy="Write comparisons joined by AND: metrics.auc > 0.8 AND params.depth = '4' AND tags.team LIKE 'a%'",
        details={"field": "filter"},
    )
