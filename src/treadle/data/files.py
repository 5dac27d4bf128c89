"""Files into frames: CSV (also gzipped), Parquet, Arrow/Feather, JSON lines, by suffix.

What cannot be read completely is not read at all: a truncated file would otherwise become a silently shorter table. Text formats
carry no types, so they are read with the schema that the dataset has, where it has one.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from treadle.data.schema import POLARS
from treadle.records.definitions import Column
from treadle.records.errors import TreadleError

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".arrow", ".feather", ".ipc", ".jsonl", ".ndjson")


def read_file(path: Path | str, *, columns: Sequence[Column] = (), nulls: Sequence[str] = ("",)) -> pl.DataFrame:
    """The rows of a file.

    Args:
        path: its suffix says the format.
        columns: the schema that text is read with; inferred from the whole file where empty.
        nulls: what stands for null in CSV. `NA` is not among them unless asked for, since it is also a country.

    Raises:
        TreadleError: `not_found`; `bad_data` for an unknown suffix, and for a file that is unreadable, truncated or has no rows.
    """
    path = Path(path)
    kind = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if kind is None:
        raise _bad(path, "has a suffix that says no format", f"Use one of {', '.join(SUFFIXES)}.")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise TreadleError(f"There is no file {path}.", remedy="Check the path.", code="not_found") from error
    except OSError as error:
        raise _bad(path, f"cannot be read ({error.strerror})", "Check its permissions and its disk.") from error
    if not content:
        raise _bad(path, "is empty", "Fetch it again; nothing was appended.")
    try:
        frame = _parse(kind, content, columns, nulls)
    except (pl.exceptions.PolarsError, EOFError, OSError, zlib.error, UnicodeDecodeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:300]
        why = f"is damaged, truncated or of other types than declared ({reason})"
        raise _bad(path, why, "Fetch it again, or open it to see; nothing was appended.") from error
    if not frame.height:
        raise _bad(path, "has a header but no rows", "Fetch it again; nothing was appended.")
    return frame


def _parse(kind: str, content: bytes, columns: Sequence[Column], nulls: Sequence[str]) -> pl.DataFrame:
    if kind == ".parquet":
        return pl.read_parquet(io.BytesIO(content))
    if kind in (".arrow", ".feather", ".ipc"):
        return pl.read_ipc(io.BytesIO(content))
    if kind in (".jsonl", ".ndjson"):
        return _typed(pl.read_ndjson(io.BytesIO(content), infer_schema_length=None), columns)
    separator = "\t" if kind == ".tsv" else ","
    content = gzip.decompress(content) if kind == ".csv.gz" else content
    _whole(content, separator)
    known = {c.name: pl.String() if c.dtype in ("datetime", "date") else POLARS[c.dtype] for c in columns}
    header = next(csv.reader(io.StringIO(content[: content.find(b"\n") + 1 or None].decode("utf-8-sig")), delimiter=separator), [])
    frame = pl.read_csv(
        io.BytesIO(content),
        separator=separator,
        schema_overrides={name: dtype for name, dtype in known.items() if name in header},
        infer_schema_length=None,
        null_values=list(nulls),
    )
    return _typed(frame, columns)


def _whole(content: bytes, separator: str) -> None:
    """Refuse a last line that stops short: Polars would fill it with nulls."""
    if content.endswith((b"\n", b"\r")):
        return
    lines = content.decode("utf-8-sig").splitlines()
    last = next(csv.reader([lines[-1]], delimiter=separator), [])
    first = next(csv.reader([lines[0]], delimiter=separator), [])
    if len(last) < len(first):
        raise ValueError(f"the last line has {len(last)} of {len(first)} fields")


def _typed(frame: pl.DataFrame, columns: Sequence[Column]) -> pl.DataFrame:
    """Text that is declared a time becomes one: in UTC where it says its offset, else without a zone."""
    made = []
    for column in columns:
        if frame.schema.get(column.name) != pl.String:
            continue
        text = frame.get_column(column.name).str
        if column.dtype == "datetime":
            made.append(text.to_datetime(time_unit="us"))
        elif column.dtype == "date":
            made.append(text.to_date())
    return frame.with_columns(made)


def _bad(path: Path, why: str, remedy: str) -> TreadleError:
    return TreadleError(f"The file {path} {why}.", remedy=remedy, code="bad_data", details={"path": str(path)})
