"""From named columns to the matrix of a model: one rule for training, evaluation and serving.

The codes of a string column are the positions of its categories in the signature, so the mapping travels inside the bundle and no
encoder object has to be saved. Rows come either as Python lists (a request) or as a Polars frame (training, evaluation); both
ways give the same bits, which a property test holds. Next: a predictor of `packaging` takes the matrix.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.records.definitions import Column, FeatureView
from treadle.records.errors import TreadleError
from treadle.records.models import InputColumn, Signature

if TYPE_CHECKING:
    import polars as pl

#: What a caller may send for a dtype, in words.
_EXPECTED = {"string": "a string", "int64": "a whole number", "float64": "a number", "bool": "a boolean"}
_NULL = type(None)
_PLAIN: dict[str, frozenset[type]] = {
    "string": frozenset({str, _NULL}),
    "int64": frozenset({int, _NULL}),
    "float64": frozenset({int, float, _NULL}),
    "bool": frozenset({bool, _NULL}),
}


def encode(signature: Signature, columns: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """The model's matrix from Python columns: float64, rows × `signature.inputs`, in their order.

    A string becomes its code, a bool 0 or 1, null NaN; an unknown category follows the column's rule (`reject`, `null` → NaN,
    `other` → one past the last code). A whole number may come as `3.0` for an int64 column.

    Raises:
        TreadleError: `bad_request`, with details `column`, `expected`, `given`: a missing column, a wrong type, a null where none
            is allowed, a rejected category, columns of unequal length.
    """
    inputs = signature.inputs
    rows = len(columns[inputs[0].name]) if inputs and inputs[0].name in columns else 0
    matrix = np.empty((rows, len(inputs)), dtype=np.float64)
    for position, column in enumerate(inputs):
        values = columns.get(column.name)
        if values is None:
            raise _wrong(column, "nothing", f"The column {column.name} is missing")
        if len(values) != rows:
            raise _wrong(column, f"{len(values)} values", f"The column {column.name} has {len(values)} values, where others have {rows}")
        try:
            matrix[:, position] = _encode_list(column, values)
        except OverflowError:
            raise _wrong(column, "a number beyond float64", f"The column {column.name} has a number too large") from None
    return matrix


def encode_frame(signature: Signature, frame: "pl.DataFrame") -> np.ndarray:
    """The same matrix from a Polars frame, bit for bit.

    Raises:
        TreadleError: as `encode` does.
    """
    matrix = np.empty((frame.height, len(signature.inputs)), dtype=np.float64, order="F")
    for position, column in enumerate(signature.inputs):
        if column.name not in frame.columns:
            raise _wrong(column, "nothing", f"The column {column.name} is missing")
        matrix[:, position] = _encode_series(column, frame.get_column(column.name))
    return matrix


def signature_of(
    frame: "pl.DataFrame",
    features: Sequence[str],
    *,
    views: Iterable[FeatureView] = (),
    unknown: Mapping[str, str] | None = None,
    output: str = "probability",
    classes: tuple[str, ...] = (),
) -> Signature:
    """The signature of a model trained on `features` of `frame`.

    Categories are the sorted distinct strings of the training rows. A feature called `view.feature` of one of `views` is read
    online; the entity columns of the views that are used become keys, unless they are inputs themselves. `unknown` says per
    string column what another category means (default `null`).

    Raises:
        TreadleError: `bad_data`: a feature that the frame lacks, or whose dtype is no input (datetime, date, list, …).
    """
    rules = unknown or {}
    by_feature = {name: view for view in views for name in view.features}
    inputs: list[InputColumn] = []
    used: dict[str, FeatureView] = {}
    for name in features:
        if name not in frame.columns:
            raise TreadleError(
                f"The training rows have no column {name!r}.",
                remedy=f"Use columns of the frame: {', '.join(frame.columns[:20])}.",
                code="bad_data",
                details={"column": name},
            )
        series = frame.get_column(name)
        dtype = dtype_of(series)
        view = by_feature.get(name)
        if view is not None:
            used[view.name] = view
        categories = tuple(sorted(series.drop_nulls().cast(str).unique().to_list())) if dtype == "string" else None
        inputs.append(
            InputColumn(
                name=name,
                dtype=dtype,
                origin="request" if view is None else "view",
                view=None if view is None else view.name,
                categories=categories,
                unknown=rules.get(name, "null"),
            )
        )
    keys = dict.fromkeys(key for view in used.values() for key in view.entity if key not in features)
    key_columns = tuple(Column(name=key, dtype=dtype_of(frame.get_column(key)) if key in frame.columns else "string") for key in keys)
    return Signature(inputs=tuple(inputs), keys=key_columns, output=output, classes=classes)


def dtype_of(series: "pl.Series") -> str:
    """The model dtype of a column: string, int64, float64 or bool.

    Raises:
        TreadleError: `bad_data`: the column cannot be an input.
    """
    dtype = series.dtype
    if dtype.is_integer():
        return "int64"
    if dtype.is_float():
        return "float64"
    name = str(dtype)
    if name == "Boolean":
        return "bool"
    if name == "String" or name.startswith(("Categorical", "Enum")):
        return "string"
    if name == "Null":
        return "float64"  # nothing known: always missing
    raise TreadleError(
        f"The column {series.name!r} is {name}, which no model takes as an input.",
        remedy="Derive numbers from it first, e.g. pl.col('at').dt.hour(), or leave it out of the features.",
        code="bad_data",
        details={"column": series.name, "given": name},
    )


# ── columns of Python values ─────────────────────────────────────────────────────────────────────────────────────────


def _encode_list(column: InputColumn, values: Sequence[Any]) -> Any:
    kinds = set(map(type, values))
    if not kinds <= _PLAIN[column.dtype]:
        values = [_plain(column, value) for value in values]
        kinds = set(map(type, values))
    has_null = _NULL in kinds
    if has_null and not column.nullable:
        raise _wrong(column, "null", f"The column {column.name} may not be null")
    if column.dtype == "string":
        codes = _codes(column.categories or ())
        if column.unknown == "null":
            return [codes.get(value, math.nan) for value in values]
        other = float(len(codes))
        return [math.nan if value is None else _code(column, codes, value, other) for value in values]
    if not has_null:
        return values
    return [math.nan if value is None else value for value in values]


def _code(column: InputColumn, codes: Mapping[Any, float], value: str, other: float) -> float:
    code = codes.get(value)
    if code is not None:
        return code
    if column.unknown == "other":
        return other
    raise _unknown(column, value)


def _plain(column: InputColumn, value: Any) -> Any:
    """A value that is not of the dtype's own Python type, if it means the same; else the error that says so."""
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):  # a NumPy scalar
        value = value.item()
    if type(value) in _PLAIN[column.dtype]:
        return value
    if column.dtype == "int64" and type(value) is float:
        if math.isnan(value):
            return None
        if value.is_integer():
            return value
    raise _wrong(column, _described(value), f"The column {column.name} takes {_EXPECTED[column.dtype]}, not {_described(value)}")


# ── columns of a frame ───────────────────────────────────────────────────────────────────────────────────────────────


def _encode_series(column: InputColumn, series: "pl.Series") -> np.ndarray:
    given = dtype_of(series)
    empty = series.null_count() == len(series)
    if empty:
        if len(series) and not column.nullable:
            raise _wrong(column, "null", f"The column {column.name} may not be null")
        return np.full(len(series), np.nan)
    if column.dtype == "int64" and given == "float64":
        return np.asarray(_encode_list(column, series.to_list()), dtype=np.float64)
    if given != column.dtype and not (column.dtype == "float64" and given == "int64"):
        raise _wrong(column, given, f"The column {column.name} takes {_EXPECTED[column.dtype]}, not {given}")
    if series.null_count() and not column.nullable:
        raise _wrong(column, "null", f"The column {column.name} may not be null")
    if column.dtype != "string":
        return series.cast(float).fill_null(math.nan).to_numpy()
    categories = list(column.categories or ())
    text = series.cast(str)
    if categories:
        found = text.replace_strict(categories, [float(i) for i in range(len(categories))], default=-1.0).cast(float).to_numpy().copy()
    else:
        found = np.full(len(text), -1.0)
    missing = text.is_null().to_numpy()
    strange = (found < 0) & ~missing
    if strange.any():
        if column.unknown == "reject":
            raise _unknown(column, text[int(np.flatnonzero(strange)[0])])
        found[strange] = float(len(categories)) if column.unknown == "other" else np.nan
    found[missing] = np.nan
    return found


#: id of a categories tuple → (the tuple, which keeps its id taken; category → code). Hashing a tuple of 4,000 tail numbers would
#: cost a request more than the prediction.
_known_codes: dict[int, tuple[tuple[str, ...], dict[Any, float]]] = {}


def _codes(categories: tuple[str, ...]) -> dict[Any, float]:
    kept = _known_codes.get(id(categories))
    if kept is None:
        if len(_known_codes) >= 512:
            _known_codes.clear()
        kept = _known_codes[id(categories)] = (categories, {category: float(code) for code, category in enumerate(categories)})
    return kept[1]


def _described(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def _wrong(column: InputColumn, given: str, what: str) -> TreadleError:
    expected = _EXPECTED[column.dtype] + (" or null" if column.nullable else "")
    return TreadleError(
        f"{what}: expected {expected}.",
        remedy=f"Send {column.name!r} as {expected}, one value a row.",
        code="bad_request",
        details={"column": column.name, "expected": expected, "given": given},
    )


def _unknown(column: InputColumn, value: str) -> TreadleError:
    known = ", ".join((column.categories or ())[:10])
    return TreadleError(
        f"The column {column.name} has the unknown category {value!r}, and its rule is to reject those.",
        remedy=f"Send one of {known} …, or declare the column with unknown='null' or 'other' and train again.",
        code="bad_request",
        details={"column": column.name, "expected": f"one of {len(column.categories or ())} categories", "given": value},
    )
