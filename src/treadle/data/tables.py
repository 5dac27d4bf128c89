"""Delta tables on the local disk, as a dataset needs them.

A table has one column of its own, `_row`: the position of a row in the order of appending. Delta keeps no order between files, and order
decides which of two rows with one key and time is the newer. Appends carry what the ledger is to know of them in their commit, so that an
append whose process died before telling the ledger can be told later. Every `COMPACT_EVERY` commits the small files are
merged (a commit would otherwise cost more with every file there is; measured in docs/data.md). Nothing is ever vacuumed: old
versions stay readable.
"""

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from treadle.records.errors import TreadleError

ROW = "_row"
COMPACT_EVERY = 50
_TARGET = 4 << 20  # bytes of a file that compaction leaves alone
_NOTE = "treadle"


class Tables:
    """Opens, appends to and reads Delta tables; keeps them open between calls. Thread-safe."""

    def __init__(self) -> None:
        self._open: dict[Path, DeltaTable] = {}
        self._locks: dict[Path, threading.RLock] = {}
        self._guard = threading.Lock()
        self._current: set[Path] = set()  # locked, and brought up to date since: nobody else can have appended

    @contextlib.contextmanager
    def locked(self, path: Path) -> Iterator[None]:
        """The right to append to a table, between threads and processes."""
        with self._guard:
            lock = self._locks.setdefault(path, threading.RLock())
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock:
            descriptor = os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._current.discard(path)
                self.newest(path)
                self._current.add(path)
                yield
            finally:
                self._current.discard(path)
                os.close(descriptor)

    def newest(self, path: Path) -> DeltaTable | None:
        """The table in its newest state, None where there is none yet."""
        table = self._open.get(path)
        if table is not None and path in self._current:
            return table
        if table is not None:
            if not (path / "_delta_log").exists():
                self._open.pop(path)
                return None
            table.update_incremental()
            return table
        if not DeltaTable.is_deltatable(str(path)):
            return None
        table = self._open[path] = DeltaTable(path)
        return table

    def append(self, path: Path, frame: pl.DataFrame, *, first_row: int, note: dict[str, Any], application: tuple[str, int] | None) -> int:
        """Append rows, numbered from `first_row`; returns the Delta version. To be called while `locked`.

        Args:
            note: JSON kept in the commit, given back by `notes`.
            application: (app id, version): recorded with the commit, asked for by `appended_by`.
        """
        numbered = frame.insert_column(0, pl.int_range(first_row, first_row + frame.height, dtype=pl.Int64, eager=True).alias(ROW))
        table = self.newest(path)
        properties = CommitProperties(
            custom_metadata={_NOTE: json.dumps(note)},
            max_commit_retries=200,
            app_transactions=[Transaction(*application)] if application else None,
        )
        try:
            write_deltalake(
                table or str(path),
                numbered,
                mode="append",
                schema_mode="merge" if table is not None and set(numbered.columns) != {f.name for f in table.schema().fields} else None,
                commit_properties=properties,
                post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
            )
        except (DeltaError, OSError) as error:
            self._open.pop(path, None)
            raise _refused(path, error) from error
        table = table or self.newest(path)
        assert table is not None
        version = int(table.version())
        if version and version % COMPACT_EVERY == 0:
            table.optimize.compact(target_size=_TARGET)
            table.create_checkpoint()
        return version

    def notes(self, path: Path, *, after: int) -> list[tuple[int, dict[str, Any]]]:
        """(Delta version, note) of the commits above a version, oldest first."""
        table = self.newest(path)
        if table is None or table.version() <= after:
            return []
        commits = table.history(table.version() - max(after, -1))
        return [(c["version"], json.loads(c[_NOTE])) for c in reversed(commits) if _NOTE in c and c["version"] > after]

    def appended_by(self, path: Path, app_id: str) -> int | None:
        """The highest version that an application has appended."""
        table = self.newest(path)
        return None if table is None else table.transaction_version(app_id)

    def scan(self, path: Path, version: int) -> pl.LazyFrame:
        """The table as of a Delta version, with `_row`, in any order.

        Raises:
            TreadleError: `corrupt`: its files are gone or damaged.
        """
        try:
            table = self.newest(path)
            if table is None or table.version() != version:
                table = DeltaTable(path, version=version)
            return pl.scan_delta(table)
        except (DeltaError, OSError) as error:
            raise TreadleError(
                f"Version {version} of the table {path} cannot be read: {str(error).splitlines()[0][:300]}.",
                remedy="If the table was vacuumed or its files removed, restore a backup: treadle restore",
                code="corrupt",
            ) from error


def _refused(path: Path, error: Exception) -> TreadleError:
    said = (str(error).splitlines() or [type(error).__name__])[0][:300]
    full = any(words in str(error) for words in ("No space left", "os error 28", "quota", "os error 122"))
    return TreadleError(
        f"The table {path} did not take the rows: {said}. Nothing of them is visible.",
        remedy=("Free space on the disk that holds the home (df -h)" if full else "Look at the home (treadle doctor)")
        + ", then append again.",
        code="storage_full" if full else "unavailable",
    )
