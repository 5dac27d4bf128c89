"""The prediction log of one worker: append before answering, sync in groups, rotate, never lose silently.

`append` copies a record into the open segment and returns its place; that is all an answer waits for (`durability="batch"`: death of
the process loses nothing, loss of power at most one flush interval). One thread syncs whatever was appended, reserves the next
segment before the open one is full, and seals retired ones. With `durability="ack"` an answer waits for `when_durable`.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from treadle.records.errors import TreadleError
from treadle.serving.segments import CAPACITY, SegmentWriter

_log = logging.getLogger(__name__)
_FRAMES = 4096  # header, frames and seal around a record that needs a segment of its own


class PredictionLog:
    """Thread-safe. Close it: that seals the open segment.

    Args:
        folder: the gateway's log folder.
        capacity: bytes of a segment.
        flush_s: how long appended records may wait for the disk.

    Raises:
        TreadleError: `storage_full`, here and from `append`: what cannot be logged must not be answered.
    """

    def __init__(self, folder: Path, *, project: str, environment: str, worker: str, capacity: int = CAPACITY, flush_s: float = 0.05):
        self._open: Callable[[int], SegmentWriter] = lambda size: SegmentWriter(
            folder, project=project, environment=environment, worker=worker, capacity=size
        )
        self._capacity = capacity
        self._flush_s = flush_s
        self._lock = threading.Lock()
        self._current = self._open(capacity)
        self._next: SegmentWriter | None = None
        self._retired: list[SegmentWriter] = []
        self._waiting: list[Callable[[Exception | None], None]] = []
        self._dirty = False
        self._wake = threading.Event()
        self._stopping = False
        #: Counters for the metrics page.
        self.records = 0
        self.bytes = 0
        self.failed_syncs = 0
        self.dirty_since: float | None = None
        self._thread = threading.Thread(target=self._flush_loop, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, payload: bytes) -> tuple[str, int]:
        """Copy an encoded record into the log; returns segment and offset."""
        with self._lock:
            current = self._current
            if not current.fits(len(payload)):
                current = self._rotate(len(payload))
            offset = current.append(payload)
            self.records += 1
            self.bytes += len(payload)
            if not self._dirty:
                self._dirty = True
                self.dirty_since = time.monotonic()
                self._wake.set()
            return current.header.segment, offset

    def when_durable(self, done: Callable[[Exception | None], None]) -> None:
        """Call `done` (from the log's thread; with the error, if any) once everything appended so far is on disk."""
        with self._lock:
            self._waiting.append(done)
            self._dirty = True
            self._wake.set()

    def lag_s(self) -> float:
        """How long the oldest record that is not on disk has waited, seconds."""
        since = self.dirty_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Sync and seal, segments without a record too: who reads the folder at this moment must not miss a file."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        self._flush()
        with self._lock:
            self._current.close()
            if self._next is not None:
                self._next.close()
                self._next = None

    def _rotate(self, size: int) -> SegmentWriter:
        """Under the lock: retire the open segment for another one with room for `size` bytes."""
        fresh = self._next if self._next is not None and self._next.fits(size) else self._open(max(self._capacity, size + _FRAMES))
        if fresh is self._next:
            self._next = None
        self._retired.append(self._current)
        self._current = fresh
        return fresh

    def _flush_loop(self) -> None:
        while not self._stopping:
            self._wake.wait()
            if not self._waiting and not self._stopping:
                time.sleep(self._flush_s)  # gather a group
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            self._wake.clear()
            current, retired, waiting = self._current, self._retired, self._waiting
            self._retired, self._waiting = [], []
            since, self.dirty_since = self.dirty_since, None
            dirty, self._dirty = self._dirty, False
            wants_next = self._next is None and current.end > self._capacity * 3 // 4
        failure: Exception | None = None
        try:
            for segment in retired:
                segment.close()
            if dirty:
                current.sync()
            if wants_next:
                self._reserve()
        except OSError as error:
            failure = error
            self.failed_syncs += 1
            self.dirty_since = since
            _log.exception("prediction log: sync failed", extra={"segment": current.segment})
        for done in waiting:
            done(failure)

    def _reserve(self) -> None:
        with contextlib.suppress(TreadleError):  # a full disk is told by `append`, when it comes to that
            fresh = self._open(self._capacity)
            with self._lock:
                self._next = fresh
