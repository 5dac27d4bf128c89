"""The embedded online store: events of window views and newest values, by entity key, in one SQLite file.

It is a derived copy of datasets, so it is written fast rather than safely (WAL, `synchronous=NORMAL`: a power cut may lose the last
commits, never the file), and the marks that say how far each dataset has been pushed are committed in the same transaction as the rows:
what a power cut loses is pushed again, and nothing is pushed twice (`mark`).

Rows of a view stand in a *stream*, named by what shapes them (source, entity, columns). Two definitions of a view that differ only in
window lengths or time-to-live share a stream; one with other columns gets a stream of its own, so that models of both generations
read on. Next: `online.reader` in the gateway.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from treadle.online.windows import SECOND, columns_of, fixed, reach
from treadle.records.definitions import FeatureView
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError

#: `keep_us` of a stream whose newest value never expires.
FOREVER = -1
_PRUNE_EVERY = 3600 * SECOND
_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    stream TEXT PRIMARY KEY, place INTEGER NOT NULL UNIQUE, head INTEGER NOT NULL, epoch INTEGER NOT NULL,
    keep_us INTEGER NOT NULL, data_from INTEGER);
CREATE TABLE IF NOT EXISTS marks (app_id TEXT PRIMARY KEY, version INTEGER NOT NULL);
"""
_encode = msgspec.msgpack.Encoder().encode


def stream_of(view: FeatureView) -> str:
    """The name of the stream that holds a view's rows."""
    columns = columns_of(view) if view.windows else view.columns
    shape = ["windows" if view.windows else "values", view.source, view.entity, columns, view.transform.path if view.transform else ""]
    return f"{view.name}:{digest_of(shape)[:16]}"


def key_text(key: Sequence[Any]) -> str | None:
    """An entity key as the store keeps it; None where a part is null, which matches nothing.

    >>> key_text(("UA", "JFK"))
    'UA\\x1fJFK'
    """
    if len(key) == 1:
        return None if key[0] is None else str(key[0])
    if any(part is None for part in key):
        return None
    return "\x1f".join(str(part).replace("\\", "\\\\").replace("\x1f", "\\u") for part in key)


class SqliteOnline:
    """The writing side. One process writes at a time (others wait); any number read through `online.reader`.

    Args:
        path: the database file; it and its folder are made where they are missing.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._depth = 0
        self._known: dict[str, tuple[int, int, int]] | None = None  # of the running batch
        self._moved: dict[int, int] = {}  # place → head that the running batch has reached
        self._connection = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "wal_autocheckpoint=8000"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> "SqliteOnline":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """One transaction for everything pushed inside; readers see all of it or nothing. Batches may be nested."""
        with self._lock:
            if self._depth:
                yield
                return
            self._depth += 1
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                if self._moved:
                    self._connection.executemany("UPDATE streams SET head = ? WHERE place = ?", [(h, p) for p, h in self._moved.items()])
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            else:
                self._connection.execute("COMMIT")
            finally:
                self._depth -= 1
                self._known, self._moved = None, {}

    # ── what has been pushed ─────────────────────────────────────────────────────────────────────────────────────

    def mark(self, app_id: str, version: int) -> bool:
        """Say, inside a batch, that `version` of a source is pushed now; False (push nothing) where it had been before."""
        with self.batch():
            cursor = self._connection.execute(
                "INSERT INTO marks VALUES (?, ?) ON CONFLICT (app_id) DO UPDATE SET version = excluded.version"
                " WHERE version < excluded.version",
                (app_id, version),
            )
            return cursor.rowcount > 0

    def marked(self, app_id: str) -> int:
        """The version up to which a source has been pushed, 0 where nothing was."""
        row = self._connection.execute("SELECT version FROM marks WHERE app_id = ?", (app_id,)).fetchone()
        return 0 if row is None else int(row[0])

    # ── pushing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def push_events(
        self, view: FeatureView, keys: Sequence[Sequence[Any]], times_us: Sequence[int], columns: Mapping[str, Sequence[Any]]
    ) -> None:
        """Add events to a window view. Order and lateness do not matter. Events whose key has a null are left out.

        Args:
            view: a view with windows.
            keys: one entity key a row, in the order of `view.entity`.
            times_us: when each event became known, microseconds since 1970 UTC.
            columns: the columns that the windows aggregate: whole numbers, bools, floats or None.

        Raises:
            TreadleError: `bad_data`: a value that cannot be added; `bad_request`: a column is missing or too short.
        """
        names = columns_of(view)
        rows = [_column(view, columns, name, len(keys)) for name in names]
        for values in rows:
            for value in values:
                fixed(value)
        self._push(view, keys, times_us, rows, keep_us=reach(view))

    def push_values(
        self, view: FeatureView, keys: Sequence[Sequence[Any]], times_us: Sequence[int], columns: Mapping[str, Sequence[Any]]
    ) -> None:
        """Add rows of a newest-value view. Of two rows with the same key and time the one pushed later counts."""
        rows = [_column(view, columns, name, len(keys)) for name in view.columns]
        self._push(view, keys, times_us, rows, keep_us=FOREVER if view.ttl_s is None else view.ttl_s * SECOND)

    def _push(self, view: FeatureView, keys: Sequence[Sequence[Any]], times: Sequence[int], columns: list[Any], *, keep_us: int) -> None:
        if len(times) != len(keys):
            raise TreadleError(f"{len(keys)} keys came with {len(times)} times.", remedy="Give one time a key.")
        with self.batch():
            place = self._stream(view, keep_us)
            head = self._moved.get(place, self._heads()[stream_of(view)][1])
            bodies = zip(*columns, strict=True) if columns else ((),) * len(keys)
            rows = [
                (head + i, text, time, _encode(body))
                for i, (key, time, body) in enumerate(zip(keys, times, bodies, strict=True), start=1)
                if (text := key_text(key)) is not None
            ]
            if rows:
                self._connection.executemany(f"INSERT INTO s{place} VALUES (?, ?, ?, ?)", rows)
                self._moved[place] = rows[-1][0]

    def _heads(self) -> dict[str, tuple[int, int, int]]:
        """stream → (place, head, keep_us) as they were when the running batch first asked: nobody else writes meanwhile."""
        if self._known is None:
            rows = self._connection.execute("SELECT stream, place, head, keep_us FROM streams").fetchall()
            self._known = {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in rows}
        return self._known

    def _stream(self, view: FeatureView, keep_us: int) -> int:
        """The place of a view's stream, made where it is missing."""
        name = stream_of(view)
        row = self._heads().get(name)
        if row is not None:
            if row[2] != FOREVER and (keep_us == FOREVER or keep_us > row[2]):
                self._connection.execute("UPDATE streams SET keep_us = ? WHERE stream = ?", (keep_us, name))
                self._known = None
            return row[0]
        place = self._connection.execute("SELECT coalesce(max(place), 0) + 1 FROM streams").fetchone()[0]
        self._connection.execute(
            # No index on time: only pruning asks by it, and goes through what is kept anyway; each push would pay for it.
            f"CREATE TABLE s{place} (seq INTEGER PRIMARY KEY, key TEXT NOT NULL, time INTEGER NOT NULL, body BLOB NOT NULL)"
        )
        self._connection.execute("INSERT INTO streams VALUES (?, ?, 0, 1, ?, NULL)", (name, place, keep_us))
        self._known = None
        return int(place)

    # ── forgetting ───────────────────────────────────────────────────────────────────────────────────────────────

    def prune(self, before_us: int, *, always: bool = False) -> int:
        """Forget what no read at or after `before_us` can need; returns the rows removed. Little is put off, unless `always`.

        A later read before `before_us` whose window reaches into what was forgotten gives null, never a wrong number.
        """
        removed = 0
        with self.batch():
            streams = self._connection.execute("SELECT stream, place, keep_us, data_from FROM streams").fetchall()
            for stream, place, keep_us, data_from in streams:
                limit = before_us - max(keep_us, 0)
                if not always and data_from is not None and limit - data_from < max(keep_us // 2, _PRUNE_EVERY):
                    continue  # little to gain yet: readers go through all their keys when this moves
                old = f"DELETE FROM s{place} WHERE time < ?"
                if keep_us == FOREVER:  # what never expires: the newest row of a key stays
                    age = (
                        f"SELECT seq, row_number() OVER (PARTITION BY key ORDER BY time DESC, seq DESC) AS age FROM s{place} WHERE time < ?"
                    )
                    old = f"DELETE FROM s{place} WHERE seq IN (SELECT seq FROM ({age}) WHERE age > 1)"
                cursor = self._connection.execute(old, (limit,))
                removed += cursor.rowcount
                self._connection.execute("UPDATE streams SET data_from = ? WHERE stream = ?", (limit, stream))
        return removed

    def clear(self) -> None:
        """Forget everything, marks included; readers start over."""
        with self.batch():
            for (place,) in self._connection.execute("SELECT place FROM streams").fetchall():
                self._connection.execute(f"DELETE FROM s{place}")
            self._connection.execute("UPDATE streams SET epoch = epoch + 1, data_from = NULL")
            self._connection.execute("DELETE FROM marks")


def _column(view: FeatureView, columns: Mapping[str, Sequence[Any]], name: str, rows: int) -> Sequence[Any]:
    values = columns.get(name)
    if values is None or len(values) != rows:
        given = "nothing" if values is None else f"{len(values)} values"
        raise TreadleError(
            f"The view {view.name} needs a column {name} with {rows} values and got {given}.",
            remedy=f"Push the columns {', '.join(columns_of(view) or view.columns)} together.",
            details={"column": name, "expected": f"{rows} values", "given": given},
        )
    return values
