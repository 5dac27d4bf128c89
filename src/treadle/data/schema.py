"""Schemas: which columns a table has, and whether a frame has them.

Six dtypes are enough for tables that models learn from. Conforming changes a representation (a smaller integer, another time unit, a
naive time read as UTC, whole numbers where floats are declared) but never a meaning: a string where a number is declared is a
retyped column, and that is an error.
"""

from collections.abc import Sequence

import polars as pl

from treadle.records.data import Finding
from treadle.records.definitions import Column
from treadle.records.errors import TreadleError

#: dtype of a column → that of Polars.
POLARS: dict[str, pl.DataType] = {
    "string": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "datetime": pl.Datetime("us", "UTC"),
    "date": pl.Date(),
}


def dtype_of(dtype: pl.DataType) -> str | None:
    """Our name of a Polars dtype; None where it has no place in a table (lists, structs, binary, durations)."""
    if dtype.is_integer():
        return "int64"
    if dtype.is_float() or dtype.is_decimal():
        return "float64"
    for name, ours in POLARS.items():
        if dtype.base_type() == ours.base_type():
            return name
    if dtype.base_type() in (pl.Categorical, pl.Enum):
        return "string"
    return None


def infer(frame: pl.DataFrame) -> tuple[Column, ...]:
    """The columns of a frame, all nullable. A column of nulls alone counts as a string.

    Raises:
        TreadleError: `bad_data`: a dtype that has no place in a table.
    """
    columns = []
    for name, dtype in frame.schema.items():
        ours = "string" if dtype == pl.Null else dtype_of(dtype)
        if ours is None:
            raise TreadleError(
                f"The column {name!r} is {dtype}, which a dataset does not hold.",
                remedy=f"Spread it into columns of {', '.join(POLARS)}, or drop it.",
                code="bad_data",
                details={"column": name, "given": str(dtype)},
            )
        columns.append(Column(name=name, dtype=ours))
    return tuple(columns)


def skew(frame: pl.DataFrame, columns: Sequence[Column]) -> list[Finding]:
    """Where a frame breaks a schema: missing, unexpected and retyped columns, nulls where none are allowed. All of them halt."""
    found = []
    declared = {c.name: c for c in columns}
    for name in frame.columns:
        if name not in declared:
            found.append(_finding("unexpected_column", name, f"The column {name} is not in the schema.", frame.height))
    for name, column in declared.items():
        if name not in frame.columns:
            found.append(_finding("missing_column", name, f"The column {name} ({column.dtype}) is missing.", frame.height))
            continue
        given = frame.schema[name]
        ours = dtype_of(given)
        fits = given == pl.Null or ours == column.dtype or (column.dtype, ours) in (("float64", "int64"), ("datetime", "date"))
        if not fits:
            text = f"The column {name} is {ours or given} and is declared {column.dtype}."
            found.append(_finding("retyped_column", name, text, frame.height, expected=column.dtype, given=ours or str(given)))
        elif not column.nullable and (nulls := frame.get_column(name).null_count()):
            found.append(_finding("null", name, f"The column {name} has {nulls} nulls and allows none.", nulls))
    return found


def zoneless(frame: pl.DataFrame, columns: Sequence[Column]) -> list[str]:
    """Columns of moments that do not say in which time zone they are; `conform` reads them as UTC.

    >>> frame = pl.select(at=pl.datetime(2026, 1, 1, 12), known=pl.datetime(2026, 1, 1, 12, time_zone="Asia/Tokyo"))
    >>> zoneless(frame, infer(frame))
    ['at']
    """
    moments = {c.name for c in columns if c.dtype == "datetime"}
    return [name for name, given in frame.schema.items() if name in moments and isinstance(given, pl.Datetime) and given.time_zone is None]


def conform(frame: pl.DataFrame, columns: Sequence[Column], *, what: str) -> pl.DataFrame:
    """The frame with exactly these columns in this order and their dtypes.

    Args:
        what: whose schema it is, for the error.

    Raises:
        TreadleError: `bad_data`, naming everything that does not fit; details `findings`.
    """
    found = skew(frame, columns)
    if found:
        texts = " ".join(f.text for f in found[:5]) + (f" … and {len(found) - 5} more." if len(found) > 5 else "")
        raise TreadleError(
            f"The rows do not fit the schema of {what}: {texts} Nothing was written.",
            remedy=f"Repair the rows, or declare the change in the definition of {what} and apply it: treadle plan",
            code="bad_data",
            details={"findings": [{"check": f.check, "column": f.column, **f.facts} for f in found]},
        )
    return frame.select(_cast(frame.schema[c.name], c) for c in columns)


def _cast(given: pl.DataType, column: Column) -> pl.Expr:
    expression = pl.col(column.name)
    if column.dtype != "datetime" or given == pl.Null:
        return expression.cast(POLARS[column.dtype])
    zone = getattr(given, "time_zone", None)
    moment = expression.cast(pl.Datetime("us", zone))
    return moment.dt.convert_time_zone("UTC") if zone else moment.dt.replace_time_zone("UTC")


def _finding(check: str, column: str, text: str, rows: int, **facts: str) -> Finding:
    return Finding(check=check, column=column, effect="halt", text=text, rows=rows, facts=facts)
