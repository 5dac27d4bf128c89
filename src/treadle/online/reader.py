"""The reading side: features of an entity as of a moment, from memory, in microseconds.

A reader keeps, per view and key, what is in the store as sorted times with running sums (windows) or rows (newest values), so that a
window at any moment T is two bisections and one subtraction. Before each read it asks SQLite whether anybody has committed since
(`PRAGMA data_version`, about a microsecond) and takes in only the rows that are new: a read sees everything that another process
committed before it began. Late events are put where they belong. What the store has forgotten leaves memory too, so memory is bounded
by the longest window. A file that is not there yet, or was put back by another, is only a store with other contents.
"""

import contextlib
import math
import os
import sqlite3
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from treadle.online.store import key_text, stream_of
from treadle.online.windows import FINISH, SECOND, columns_of, fixed
from treadle.records.definitions import FeatureView
from treadle.records.errors import TreadleError

_decode = msgspec.msgpack.Decoder(list[Any]).decode
Value = float | int | str | bool | None
_NOTHING: list[int] = []


class OnlineReader:
    """Reads features of `views` from the store at `path`.

    Args:
        path: the file that `SqliteOnline` writes; it need not exist yet.
        views: what can be read. Views of one name but other shape (of two model generations) each need a reader of their own.

    Thread-safe. Used after a fork only if made after it.
    """

    def __init__(self, path: Path | str, views: Iterable[FeatureView]):
        self.path = Path(path)
        self._name = str(self.path)
        self._views = {view.name: _Memory(view) for view in views}
        self._by_stream: dict[str, list[_Memory]] = {}
        for memory in self._views.values():
            self._by_stream.setdefault(stream_of(memory.view), []).append(memory)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._version = -1

    def read(self, view_name: str, keys: Sequence[Sequence[Any]], at_us: Sequence[int]) -> dict[str, list[Value]]:
        """The features of a view, one row a key, each as of its moment.

        Args:
            view_name: one of the reader's views.
            keys: entity keys in the order of `view.entity`; a null in a key means "nobody": as if nothing was known.
            at_us: moments, microseconds since 1970 UTC.

        Returns:
            `{"view.feature": [value, …]}`. A mean of an empty window is None, a sum 0.0, a count 0; a newest value that is missing or
            older than its time-to-live is None; anything is None that the store has already forgotten.

        Raises:
            TreadleError: `not_found` for a view that the reader was not made for; `corrupt` for a file that is no store.
        """
        memory = self._memory(view_name)
        with self._lock:
            self._refresh()
            return memory.read(keys, at_us)

    def read_views(self, keys: Mapping[str, Sequence[Sequence[Any]]], at_us: Sequence[int]) -> dict[str, list[Value]]:
        """Several views at once, all from one state of the store: `{view name: keys}`, the same moments for each."""
        with self._lock:
            self._refresh()
            answer: dict[str, list[Value]] = {}
            for name, view_keys in keys.items():
                answer |= self._memory(name).read(view_keys, at_us)
            return answer

    def _memory(self, view_name: str) -> "_Memory":
        memory = self._views.get(view_name)
        if memory is None:
            raise TreadleError(
                f"This reader has no feature view {view_name!r}.",
                remedy=f"Ask for one of {', '.join(self._views) or 'none: it was made without views'}.",
                code="not_found",
            )
        return memory

    def refresh(self) -> None:
        """Take in what is new, as each read does by itself."""
        with self._lock:
            self._refresh()

    def close(self) -> None:
        """Close the file and forget everything."""
        with self._lock:
            self._disconnect()

    def _refresh(self) -> None:
        try:
            status = os.stat(self._name)
        except FileNotFoundError:
            self._disconnect()
            return
        if (status.st_dev, status.st_ino) != self._file:
            self._disconnect()
            self._connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=rw", uri=True, timeout=60, isolation_level=None, check_same_thread=False
            )
            self._asking = self._connection.cursor()
            self._file = (status.st_dev, status.st_ino)
        assert self._connection is not None
        try:
            version = self._asking.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                self._take_in(self._connection)
                self._version = version
        except sqlite3.DatabaseError as error:
            self._disconnect()
            raise TreadleError(
                f"The online store {self.path} cannot be read: {error}.",
                remedy="It is a copy of the datasets: delete the file and build it again, treadle doctor says how.",
                code="corrupt",
            ) from error

    def _take_in(self, connection: sqlite3.Connection) -> None:
        with _snapshot(connection):
            if self._version == -1 and not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'streams'").fetchone():
                raise sqlite3.DatabaseError("it has no streams")
            for stream, place, head, epoch, data_from in connection.execute(
                "SELECT stream, place, head, epoch, data_from FROM streams"
            ).fetchall():
                for memory in self._by_stream.get(stream, ()):
                    if memory.epoch != epoch:
                        memory.forget()
                        memory.epoch = epoch
                    if memory.head < head:
                        memory.add(connection.execute(f"SELECT key, time, body FROM s{place} WHERE seq > ? ORDER BY seq", (memory.head,)))
                        memory.head = head
                    if data_from is not None and data_from != memory.data_from:
                        memory.prune(data_from)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._file = None
        self._version = -1
        for memory in self._views.values():
            memory.forget()


@contextlib.contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _time(event: tuple[int, Any]) -> int:
    return event[0]


def _number(value: Any) -> tuple[int, int]:
    """(millionths, 1), or (0, 0) for null."""
    number = fixed(value)
    return (0, 0) if number is None else (number, 1)


class _Memory:
    """One view in memory: an index per key."""

    def __init__(self, view: FeatureView):
        self.view = view
        self.keys: dict[str, _Series] = {}
        self.head = 0
        self.epoch = 0
        self.data_from: int | None = None
        columns = columns_of(view)
        self._windows = [
            (f"{view.name}.{name}", columns.index(w.column), FINISH[w.aggregate], w.over_s * SECOND, w.hop_s * SECOND)
            for name, w in view.windows.items()
        ]
        self._width = len(columns)

    def forget(self) -> None:
        self.keys.clear()
        self.head = 0
        self.epoch = 0
        self.data_from = None

    def add(self, rows: Iterable[tuple[str, int, bytes]]) -> None:
        fresh: dict[str, list[tuple[int, list[Any]]]] = {}
        for key, time, body in rows:
            fresh.setdefault(key, []).append((time, _decode(body)))
        for key, events in fresh.items():
            series = self.keys.get(key)
            if series is None:
                series = self.keys[key] = _Sums(self._width) if self._windows else _Newest()
            if len(events) > 1:
                events.sort(key=_time)  # stable: of equal times the later pushed stays later
            series.add(events)

    def prune(self, data_from: int) -> None:
        self.data_from = data_from
        forever = not self._windows and self.view.ttl_s is None
        for key, series in list(self.keys.items()):
            if series.prune(data_from, forever=forever):
                del self.keys[key]

    def read(self, keys: Sequence[Sequence[Any]], at_us: Sequence[int]) -> dict[str, list[Value]]:
        if self._windows:
            return self._read_windows(keys, at_us)
        found = [self._newest(key, at) for key, at in zip(keys, at_us, strict=True)]
        empty = (None,) * len(self.view.columns)
        columns = zip(*(row or empty for row in found), strict=True) if found else ((),) * len(self.view.columns)
        return {name: list(values) for name, values in zip(self.view.features, columns, strict=True)}

    def _read_windows(self, keys: Sequence[Sequence[Any]], at_us: Sequence[int]) -> dict[str, list[Value]]:
        answer: dict[str, list[Value]] = {name: [] for name, *_ in self._windows}
        windows = [(column, finish, over, hop, answer[name].append) for name, column, finish, over, hop in self._windows]
        data_from = -(2**63) if self.data_from is None else self.data_from
        for key, at in zip(keys, at_us, strict=True):
            text = key_text(key)
            series = None if text is None else self.keys.get(text)
            times = _NOTHING if series is None else series.times
            end = bisect_right(times, at)
            newest = times[end - 1] if end else None
            for column, finish, over, hop, add in windows:
                start = (at - over) // hop * hop
                if start < data_from:
                    add(None)  # part of the window is forgotten: null, not a wrong number
                elif newest is None or start > newest:
                    add(finish(0, 0))
                else:
                    first = bisect_left(times, start, 0, end)
                    sums, counts = series.totals[column]  # type: ignore[union-attr]
                    add(finish(sums[end] - sums[first], counts[end] - counts[first]))
        return answer

    def _newest(self, key: Sequence[Any], at: int) -> Sequence[Value] | None:
        text = key_text(key)
        series = None if text is None else self.keys.get(text)
        if series is None:
            return None
        place = bisect_right(series.times, at) - 1
        if place < 0 or (self.view.ttl_s is not None and at - series.times[place] > self.view.ttl_s * SECOND):
            return None
        return series.rows[place]  # type: ignore[union-attr]


class _Sums:
    """Events of one key: sorted times, and per column the running sum in millionths and count, one longer than the times."""

    __slots__ = ("times", "totals")

    def __init__(self, width: int):
        self.times: list[int] = []
        self.totals: list[tuple[list[int], list[int]]] = [([0], [0]) for _ in range(width)]

    def add(self, events: list[tuple[int, list[Any]]]) -> None:
        """Add events, sorted by time. Late ones take those behind them off and put everything back in order."""
        times = self.times
        late = bisect_right(times, events[0][0])
        behind = times[late:]
        moved: list[tuple[int, list[tuple[int, int]]]] = []
        if behind:
            parts = [self._taken(column, late) for column in range(len(self.totals))]
            moved = list(zip(behind, map(list, zip(*parts, strict=True)) if parts else ([] for _ in behind), strict=True))
            del times[late:]
        moved += [(time, [_number(value) for value in values]) for time, values in events]
        if behind:
            moved.sort(key=_time)
        times += [time for time, _ in moved]
        for column, (sums, counts) in enumerate(self.totals):
            total, count = sums[-1], counts[-1]
            for _, numbers in moved:
                number, one = numbers[column]
                total += number
                count += one
                sums.append(total)
                counts.append(count)

    def _taken(self, column: int, late: int) -> list[tuple[int, int]]:
        """Take the events from position `late` on off a column's running sums, as (number, count)."""
        sums, counts = self.totals[column]
        taken = [(sums[i + 1] - sums[i], counts[i + 1] - counts[i]) for i in range(late, len(sums) - 1)]
        del sums[late + 1 :]
        del counts[late + 1 :]
        return taken

    def prune(self, limit: int, *, forever: bool) -> bool:
        """Drop what is older than `limit`; True where nothing is left. The first running sum stays as the base."""
        del forever
        old = bisect_left(self.times, limit)
        if old:
            del self.times[:old]
            for sums, counts in self.totals:
                del sums[:old]
                del counts[:old]
        return not self.times


class _Newest:
    """Rows of one key by time; of equal times the one that came later stands later."""

    __slots__ = ("rows", "times")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.rows: list[Sequence[Value]] = []

    def add(self, events: list[tuple[int, list[Any]]]) -> None:
        """Add rows, sorted by time."""
        first = bisect_right(self.times, events[0][0])
        moved = list(zip(self.times[first:], self.rows[first:], strict=True))
        moved += [(time, tuple(None if isinstance(v, float) and math.isnan(v) else v for v in values)) for time, values in events]
        if first < len(self.times):
            moved.sort(key=_time)
        self.times[first:] = [time for time, _ in moved]
        self.rows[first:] = [row for _, row in moved]

    def prune(self, limit: int, *, forever: bool) -> bool:
        """Drop what is older than `limit`, but for the newest such row where values never expire; True where nothing is left."""
        old = bisect_left(self.times, limit) - (1 if forever else 0)
        if old > 0:
            del self.times[:old]
            del self.rows[:old]
        return not self.times


_Series = _Sums | _Newest
