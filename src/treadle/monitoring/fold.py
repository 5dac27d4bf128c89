"""The shipper: from the gateways' log segments to the prediction table, every record exactly once.

One Delta commit carries the rows and, for every segment they came from, a transaction mark (`app_id` the segment, `version` the offset
reached). The table alone says how far it is: killed between any two steps, the next fold goes on from the marks, and what was
written without its commit is no part of the table. Folders of one machine take turns by a file lock; others are stopped by Delta, which
refuses a second commit with a mark of the same segment.

A row is one prediction: who answered, what it was given (`in.NAME` from the request, `ft.NAME` read online), what came out. A request
that was refused is one row with its status and no output. A column keeps the type it first had; values of another type go to
a neighbour, `in.NAME.float` or `in.NAME.text`, because a log refuses nothing.
"""

import contextlib
import datetime as dt
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from msgspec import Struct

from treadle.records.layout import Layout
from treadle.records.serving import LogEntry
from treadle.serving.segments import SegmentReader, segments

TIME = pl.Datetime("us", "UTC")

#: Columns that every row has, with their types; `in.*` and `ft.*` come on top. Times are UTC, latency is of the whole request.
COLUMNS: dict[str, Any] = {
    "prediction_id": pl.String,
    "request_id": pl.String,
    "row": pl.Int64,
    "row_id": pl.String,
    "endpoint": pl.String,
    "event_time": TIME,
    "recorded_time": TIME,
    "generation": pl.Int64,
    "variant": pl.String,
    "model_version": pl.Int64,
    "unit": pl.String,
    "propensity": pl.Float64,
    "status": pl.Int64,
    "output": pl.Float64,
    "other": pl.Float64,
    "other_version": pl.Int64,
    "latency_us": pl.Int64,
    "error": pl.String,
}
_KINDS: dict[type, tuple[str, Any]] = {
    bool: ("bool", pl.Boolean),
    int: ("int", pl.Int64),
    float: ("float", pl.Float64),
    str: ("text", pl.String),
}
#: Most requests in one commit: bounds the memory of catching up.
BATCH = 50_000
#: A commit costs by the number of files there are, so they are merged after so many.
COMPACT_EVERY = 50
#: Statistics for skipping files are kept of the first columns only: ids, endpoint and times.
_SETTINGS = {"delta.checkpointInterval": "50", "delta.dataSkippingNumIndexedCols": "8"}


class FoldReport(Struct, frozen=True, kw_only=True):
    """What a fold did. `version` is the table's version after it, -1 where there is no table yet; `frame` the rows, None where none."""

    requests: int = 0
    rows: int = 0
    rejected: int = 0
    version: int = -1
    base: int = -1  # the table's version that the rows were added to
    contiguous: bool = True  # nobody else committed between `base` and `version`
    frame: Any = None


class Folder:
    """Folds one environment's log. Keep it between folds: it knows where the table stands."""

    def __init__(self, layout: Layout, project: str, environment: str):
        self._log = layout.gateway(project, environment).log
        self._path = layout.prediction_table(project, environment)
        self._table: DeltaTable | None = None
        self._types: dict[str, Any] = {}
        self._marks: dict[str, int] = {}
        self._finished: set[str] = set()
        self._commits = 0

    def fold(self) -> FoldReport:
        """Fold everything that is in the log now.

        Raises:
            TreadleError: `corrupt`, a record of a sealed segment that no longer matches its checksum.
        """
        if not self._log.is_dir():
            return FoldReport(version=self.version())
        with _turn(self._path):
            self._refresh()
            base, self._commits = self.version(), 0
            frames: list[pl.DataFrame] = []
            requests = rejected = 0
            while True:
                entries, reached = self._read()
                if not entries:
                    break
                frame = explode(entries, self._types)
                if not self._commit(frame, reached):
                    continue  # another machine folded these meanwhile
                frames.append(frame)
                requests += len(entries)
                rejected += sum(entry.status >= 400 for _, _, entry in entries)
                if len(entries) < BATCH:
                    break
            if self._commits and self.version() % COMPACT_EVERY >= COMPACT_EVERY - self._commits:
                self._compact()
        whole = pl.concat(frames, how="diagonal") if len(frames) > 1 else (frames[0] if frames else None)
        rows = 0 if whole is None else whole.height
        return FoldReport(
            requests=requests,
            rows=rows,
            rejected=rejected,
            version=self.version(),
            base=base,
            contiguous=self.version() - base == self._commits,
            frame=whole,
        )

    def version(self) -> int:
        """The table's version as last seen, -1 where there is none."""
        return -1 if self._table is None else self._table.version()

    def table(self) -> DeltaTable | None:
        """The prediction table as it is now, None where nothing was logged yet."""
        self._refresh()
        return self._table

    def drop(self, *, older_than_s: float) -> list[str]:
        """Delete segments that are sealed, wholly folded and older than `older_than_s` seconds; their predictions stay in the table."""
        dropped = []
        with _turn(self._path):
            self._refresh()
            for path in segments(self._log):
                if time.time() - path.stat().st_mtime < older_than_s:
                    continue
                reader = SegmentReader(path)
                for _ in reader.payloads(self._mark(reader.segment), limit=1):
                    break
                else:
                    if reader.sealed:
                        path.unlink()
                        dropped.append(reader.segment)
        return dropped

    def compact(self) -> None:
        """Merge the many small files of a table that is folded often. Older versions stay readable: nothing is vacuumed."""
        with _turn(self._path):
            self._refresh()
            self._compact()

    def _compact(self) -> None:
        if self._table is not None:
            before = self._table.version()
            self._table.optimize.compact()
            self._commits += self._table.version() > before

    def _refresh(self) -> None:
        if self._table is None:
            if DeltaTable.is_deltatable(str(self._path)):
                self._table = DeltaTable(str(self._path))
                self._load()
            return
        before = self._table.version()
        self._table.update_incremental()
        if self._table.version() != before:
            self._load()

    def _load(self) -> None:
        assert self._table is not None
        self._marks.clear()
        self._types = dict(pl.scan_delta(self._table).collect_schema()) if self._table.version() >= 0 else {}

    def _mark(self, segment: str) -> int:
        """Offset up to which a segment is folded, 0 where nothing of it is."""
        if segment not in self._marks:
            known = None if self._table is None else self._table.transaction_version(segment)
            self._marks[segment] = known or 0
        return self._marks[segment]

    def _read(self) -> tuple[list[tuple[str, int, LogEntry]], dict[str, int]]:
        """Records after the marks, as (segment, offset, entry), and the offset reached in each segment that has any."""
        entries: list[tuple[str, int, LogEntry]] = []
        reached: dict[str, int] = {}
        for path in segments(self._log):
            if path.name in self._finished:
                continue
            with contextlib.suppress(FileNotFoundError):
                reader = SegmentReader(path)
                name, before = reader.segment, len(entries)
                entries.extend((name, at, entry) for at, entry in reader.entries(self._mark(name), limit=BATCH - len(entries)))
                if len(entries) > before:
                    reached[name] = reader.end
                elif reader.sealed:
                    self._finished.add(path.name)
            if len(entries) >= BATCH:
                break
        return entries, reached

    def _commit(self, frame: pl.DataFrame, reached: dict[str, int]) -> bool:
        """One Delta commit of rows and marks; False where another folder came first (nothing was written then)."""
        marks = [Transaction(segment, offset) for segment, offset in reached.items()]
        try:
            write_deltalake(
                self._table or str(self._path),
                frame,
                mode="append",
                schema_mode="merge",
                commit_properties=CommitProperties(app_transactions=marks, max_commit_retries=200),
                configuration=None if self._table else _SETTINGS,
            )
        except CommitFailedError:
            before = dict(self._marks)
            self._table = None
            self._refresh()
            if any(self._mark(segment) != before.get(segment, 0) for segment in reached):
                return False
            raise
        if self._table is None:
            self._table = DeltaTable(str(self._path))
        else:
            self._table.update_incremental()
        self._marks.update(reached)
        self._types.update(frame.schema)
        self._commits += 1
        return True


def fold(layout: Layout, project: str, environment: str) -> FoldReport:
    """Fold what is in the log now; see `Folder.fold`. Keep a `Folder` where it happens often."""
    return Folder(layout, project, environment).fold()


def explode(entries: list[tuple[str, int, LogEntry]], types: dict[str, Any]) -> pl.DataFrame:
    """One row a prediction, from (segment, offset, entry). `types` are the table's columns so far, which new rows keep to."""
    groups: dict[tuple[Any, ...], list[tuple[str, int, LogEntry]]] = {}
    for item in entries:
        entry = item[2]
        shape = (entry.endpoint, *entry.inputs, None, *entry.features) if entry.status < 400 else ()
        groups.setdefault(shape, []).append(item)
    known = dict(types)
    frames = []
    for shape, items in groups.items():
        frame = _rows(items, known) if shape else _refused(items)
        known.update(frame.schema)
        frames.append(frame)
    return pl.concat(frames, how="diagonal") if len(frames) > 1 else frames[0]


def _rows(items: list[tuple[str, int, LogEntry]], types: dict[str, Any]) -> pl.DataFrame:
    """Answered requests of one shape: the same endpoint, inputs and features."""
    first = items[0][2]
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    inputs: dict[str, list[Any]] = {name: [] for name in first.inputs}
    features: dict[str, list[Any]] = {name: [] for name in first.features}
    for segment, offset, entry in items:
        count = entry.rows
        prefix = f"{segment}-{offset:x}-"
        columns["prediction_id"] += [prefix + str(row) for row in range(count)]
        columns["row"] += range(count)
        columns["row_id"] += entry.ids or [None] * count
        for name in ("request_id", "endpoint", "event_time", "recorded_time", "generation", "status", "latency_us", "error"):
            columns[name] += [getattr(entry, name)] * count
        for name in ("variant", "model_version", "unit", "propensity", "output"):
            columns[name] += getattr(entry, name)
        for name in ("other", "other_version"):
            columns[name] += getattr(entry, name) or [None] * count
        for name, values in entry.inputs.items():
            inputs[name] += values
        for name, values in entry.features.items():
            features[name] += values
    series = [pl.Series(name, values, dtype=_plain(COLUMNS[name])).cast(COLUMNS[name]) for name, values in columns.items()]
    for prefix, group in (("in.", inputs), ("ft.", features)):
        series += [s for name, values in group.items() if (s := typed(prefix + name, values, types)) is not None]
    return pl.DataFrame(series)


def _refused(items: list[tuple[str, int, LogEntry]]) -> pl.DataFrame:
    """Requests that were answered with an error: one row each."""
    rows = {
        "prediction_id": [f"{segment}-{offset:x}-0" for segment, offset, _ in items],
        **{
            name: [getattr(entry, name) for _, _, entry in items]
            for name in ("request_id", "endpoint", "event_time", "recorded_time", "generation", "status", "latency_us", "error")
        },
    }
    nothing = [None] * len(items)
    return pl.DataFrame([pl.Series(n, rows.get(n, nothing), dtype=_plain(t)).cast(t) for n, t in COLUMNS.items()])


def typed(name: str, values: list[Any], types: dict[str, Any]) -> pl.Series | None:
    """A column of logged values in the type that the table has for it; None where all are missing and the table does not know it.

    Numbers are Int64 or Float64 (mixed: Float64), text String, anything else JSON in a String.
    """
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int, float}:
        kinds = {float}
    known = types.get(name)
    if not kinds:
        return None if known is None else pl.Series(name, values, dtype=known)
    suffix, dtype = _KINDS.get(next(iter(kinds)), _KINDS[str]) if len(kinds) == 1 else _KINDS[str]
    if kinds != {str} and dtype == pl.String:
        values = [None if value is None else msgspec.json.encode(value).decode() for value in values]
    if suffix == "int" and known == pl.Float64:
        dtype = pl.Float64
    if known is not None and known != dtype:
        return typed(f"{name}.{suffix}", values, types)
    return pl.Series(name, values, dtype=dtype, strict=False)


def recent(table: DeltaTable, endpoint: str, since: dt.datetime) -> pl.DataFrame:
    """Rows of an endpoint with event time at or after `since`."""
    rows = pl.scan_delta(table).filter(pl.col("endpoint") == endpoint, pl.col("event_time") >= since)
    return whole(rows.collect())


def find_folded(layout: Layout, project: str, environment: str, prediction_id: str) -> dict[str, Any] | None:
    """One prediction from the table, whose segment may be gone: its columns, with `inputs` and `features` gathered; None where
    there is none."""
    path = str(layout.prediction_table(project, environment))
    if not DeltaTable.is_deltatable(path):
        return None
    rows = whole(pl.scan_delta(path).filter(pl.col("prediction_id") == prediction_id).head(1).collect()).to_dicts()
    if not rows:
        return None
    row = rows[0]
    found = {"id": prediction_id, **{name: row[name] for name in COLUMNS if name != "prediction_id"}}
    for prefix, group in (("in.", "inputs"), ("ft.", "features")):
        found[group] = {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix) and value is not None}
    return found


def whole(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns whose type changed over time put together again: `in.x` filled from `in.x.float`, as numbers."""
    for name in [c for c in frame.columns if c.endswith(".float") and c.removesuffix(".float") in frame.columns]:
        base = name.removesuffix(".float")
        if frame.schema[base].is_numeric():
            frame = frame.with_columns(pl.coalesce(pl.col(name), pl.col(base).cast(pl.Float64)).alias(base)).drop(name)
    return frame


def _plain(dtype: Any) -> Any:
    return pl.Int64 if dtype == TIME else dtype


@contextlib.contextmanager
def _turn(table: Path) -> Iterator[None]:
    """One folder of a table at a time on this machine."""
    table.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(f"{table}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
