"""How a project declares its datasets: thin constructors of the definition records."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from treadle.records.definitions import DTYPES, Check, Column, Dataset, Entry
from treadle.records.errors import TreadleError

_LONGEST = 100  # bytes of a dataset's name, which is that of its folder

_PYTHON = {str: "string", int: "int64", float: "float64", bool: "bool", dt.datetime: "datetime", dt.date: "date"}


def column(
    name: str,
    dtype: str | type,
    *,
    nullable: bool = True,
    unknown: str = "null",
    values: Iterable[str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Column:
    """A column of a schema: `column("origin", str, values=["JFK", "LGA", "EWR"])`.

    Args:
        name: its name.
        dtype: one of `string int64 float64 bool datetime date`, or the Python type.
        nullable: whether a null is allowed.
        unknown: what a category outside the trained ones means at inference: `reject`, `null` or `other`.
        values: the strings that are allowed.
        minimum: least number allowed, inclusive.
        maximum: greatest number allowed, inclusive.

    Raises:
        TreadleError: `bad_definition`.
    """
    word = _PYTHON.get(dtype, "") if isinstance(dtype, type) else dtype
    if word not in DTYPES:
        raise _wrong(f"The column {name} has the dtype {dtype!r}.", f"Use one of {', '.join(DTYPES)}.")
    if unknown not in ("reject", "null", "other"):
        raise _wrong(f"The column {name} has the rule unknown={unknown!r}.", "Use 'reject', 'null' or 'other'.")
    return Column(
        name=name,
        dtype=word,
        nullable=nullable,
        unknown=unknown,
        values=None if values is None else tuple(values),
        minimum=minimum,
        maximum=maximum,
    )


def check(function: Callable[..., Any], *, halt: bool = True) -> Check:
    """An error detection function of the project: takes a DataFrame, returns a boolean column (true = bad row).

    Args:
        function: a function of a module, so that it can be imported by name.
        halt: whether a bad row halts the pipeline; otherwise it is noted.
    """
    path = f"{function.__module__}:{function.__qualname__}"
    if "<" in path:
        raise _wrong(f"The check {path} cannot be imported by name.", "Define it at the top level of a module.")
    return Check(name=function.__name__, entry=Entry(path=path), halt=halt)


def dataset(
    name: str,
    *,
    time: str | None = None,
    key: str | Iterable[str] = (),
    columns: Iterable[Column] | Mapping[str, str | type] = (),
    checks: Iterable[Check | Callable[..., Any]] = (),
    **about: Any,
) -> Dataset:
    """A table that grows by versions.

    Args:
        name: letters, digits, `_` and `-`, at most 100 bytes.
        time: the column of the moment at which a row is *known* (UTC).
        key: the columns that identify a row; of rows with one key the newest counts.
        columns: the schema, as columns or as `{name: dtype}`; taken from the first rows where it is left out.
        checks: error detection functions.
        **about: `max_shift`, `owner`, `license`, `description`, `tags`, `was` (the old name after a rename).

    Raises:
        TreadleError: `bad_definition`.
    """
    if not name.replace("_", "").replace("-", "").isalnum() or len(name.encode()) > _LONGEST:
        raise _wrong(f"{name[:80]!r} is no dataset name.", f"Use letters, digits, '_' and '-', at most {_LONGEST} bytes.")
    listed: tuple[Column, ...] = ()
    if isinstance(columns, Mapping):
        listed = tuple(column(str(n), d) for n, d in columns.items())
    else:
        listed = tuple(columns)
    keys = (key,) if isinstance(key, str) else tuple(key)
    names = [c.name for c in listed]
    if len(set(names)) != len(names):
        raise _wrong(f"The dataset {name} declares a column twice.", "Keep one of them.")
    for needed in (*keys, *([time] if time else [])):
        if names and needed not in names:
            raise _wrong(f"The dataset {name} has no column {needed!r} among its columns.", f"Declare it: column({needed!r}, …)")
    about["tags"] = tuple(about.get("tags", ()))
    made = tuple(c if isinstance(c, Check) else check(c) for c in checks)
    return Dataset(name=name, time=time, key=keys, columns=listed, checks=made, **about)


def _wrong(what: str, remedy: str) -> TreadleError:
    return TreadleError(what, remedy=remedy, code="bad_definition")
