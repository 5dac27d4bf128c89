"""How a project declares its datasets: thin constructors of the definition records."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from treadle.records.definitions import DTYPES, LABEL_SOURCES, Check, Column, Dataset, Entry, Label
from treadle.records.errors import TreadleError

_ABOUT = {"max_shift", "owner", "license", "description", "provenance", "restrictions", "only_in", "tags", "was"}
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
        **about: `owner`, `license`, `description`, `provenance` (where the rows come from), `restrictions` (what they must not be used
            for, in words), `only_in` (the environments in which models that learned from them may serve), `tags`, `max_shift`, `was`
            (the old name after a rename).

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
    unknown = sorted(set(about) - _ABOUT)
    if unknown:
        raise _wrong(f"The dataset {name} has no {unknown[0]!r}.", f"It takes {', '.join(sorted(_ABOUT))}.")
    about["tags"] = tuple(about.get("tags", ()))
    about["only_in"] = places(about.get("only_in", ()))
    made = tuple(c if isinstance(c, Check) else check(c) for c in checks)
    return Dataset(name=name, time=time, key=keys, columns=listed, checks=made, **about)


def label(
    name: str,
    of: Dataset | str,
    column: str,
    *,
    description: str = "",
    source: str = "observed",
    confidence: float | None = None,
    **about: Any,
) -> Label:
    """What is learned: `late = tr.label("late", of=outcomes, column="late", source="observed")`, given to `tr.training_set(label=late)`.

    Args:
        name: letters, digits, `_` and `-`.
        of: the dataset that holds the values; its versions are the versions of the label set.
        column: their column.
        description: what it means, as exactly as a person can say it.
        source: `observed` (the world did it), `human`, `algorithm`, `licensed`.
        confidence: the share of values believed to be right, 0 to 1; None where nobody has measured it.
        **about: `owner` (who answers for it), `restrictions`, `only_in` and `was` as for a dataset.

    Raises:
        TreadleError: `bad_definition`.
    """
    if not name or not name.replace("_", "").replace("-", "").isalnum():
        raise _wrong(f"{name!r} is no name of a label.", "Use letters, digits, '_' and '-'.")
    if source not in LABEL_SOURCES:
        raise _wrong(f"The label {name} has the source {source!r}.", f"Use one of {', '.join(LABEL_SOURCES)}.")
    if confidence is not None and not 0 <= confidence <= 1:
        raise _wrong(f"The label {name} has a confidence of {confidence}.", "It is a share, from 0 to 1.")
    unknown = sorted(set(about) - {"owner", "restrictions", "only_in", "was"})
    if unknown:
        raise _wrong(f"The label {name} has no {unknown[0]!r}.", "It takes owner, restrictions, only_in, was.")
    about["only_in"] = places(about.get("only_in", ()))
    return Label(
        name=name,
        dataset=of if isinstance(of, str) else of.name,
        column=column,
        description=description,
        source=source,
        confidence=confidence,
        **about,
    )


def places(names: str | Iterable[str]) -> tuple[str, ...]:
    """Names of environments, one or several."""
    return (names,) if isinstance(names, str) else tuple(names)


def _wrong(what: str, remedy: str) -> TreadleError:
    return TreadleError(what, remedy=remedy, code="bad_definition")
