"""From a run's journal to where it belongs: a home or a server.

Entries are sent in order, measurements, parameters and tags gathered into batches; an entry counts as shipped when its answer is
there. Every request can be repeated without changing anything, so a crash between answer and note costs nothing. What cannot be
reached is tried again with growing pauses; what is refused for good (a deleted run, a missing permission) is kept aside with the
answer, and the rest goes on.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from treadle.client.journal import Reader
from treadle.operations.tracking import LogBatch, LogInputs, StartRun, UpdateRun
from treadle.records.errors import TreadleError
from treadle.records.states import RunState
from treadle.records.tracking import Point, RunInput

log = logging.getLogger("treadle.client")

#: Errors after which the same request may succeed later.
PASSING = ("unavailable", "busy", "timed_out", "storage_full", "internal")
BATCH = 1000
_PAUSES = (0.2, 30.0)


class Sink(Protocol):
    """Where a run's record goes."""

    def call(self, request: Any) -> Any:
        """Run an operation."""
        ...

    def put_file(self, project: str, run_id: str, path: str, file: Path, media_type: str) -> None:
        """Let a file stand at a path of a run."""
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


def ship(reader: Reader, sink: Sink) -> int:
    """Send what is in a journal now; returns the number of entries that went.

    Raises:
        TreadleError: one of `PASSING`; what went before it is acknowledged.
    """
    sent = 0
    batch: list[Any] = []
    behind = reader.position
    for entry, position in reader.entries():
        if entry[0] in "mpt" and len(batch) < BATCH and not _clashes(batch, entry):
            batch.append(entry)
            behind = position
            continue
        if batch:
            sent += _send(reader, sink, batch, behind)
            batch = []
        if entry[0] in "mpt":
            batch, behind = [entry], position
        else:
            sent += _send(reader, sink, [entry], position)
    if batch:
        sent += _send(reader, sink, batch, behind)
    return sent


def _clashes(batch: list[Any], entry: list[Any]) -> bool:
    """Whether the batch has a tag that this entry sets anew: one request sets a tag once."""
    return entry[0] == "t" and any(e[0] == "t" and not e[1].keys().isdisjoint(entry[1]) for e in batch)


def _send(reader: Reader, sink: Sink, entries: list[Any], position: int) -> int:
    project, run_id = reader.header.project, reader.header.run_id
    try:
        kind = entries[0][0]
        if kind in "mpt":
            sink.call(_log(project, run_id, entries))
        elif kind == "s":
            sink.call(StartRun(project=project, run_id=run_id, **entries[0][1]))
        elif kind == "i":
            sink.call(LogInputs(project=project, run_id=run_id, inputs=[RunInput(**entries[0][1])]))
        elif kind == "f":
            _, path, name, media_type = entries[0]
            sink.put_file(project, run_id, path, reader.files / name, media_type)
        elif kind == "u":
            fields = dict(entries[0][1])
            if "state" in fields:
                fields["state"] = RunState(fields["state"])
            sink.call(UpdateRun(project=project, run_id=run_id, **fields))
    except TreadleError as error:
        if error.code in PASSING:
            raise
        log.warning("run %s: %d entries were refused: %s %s", run_id, len(entries), error.what, error.remedy)
        reader.refuse(entries, error)
    reader.acknowledge(position)
    return len(entries)


def _log(project: str, run_id: str, entries: list[Any]) -> LogBatch:
    points, params, tags = [], {}, {}
    for entry in entries:
        if entry[0] == "m":
            _, time_us, step, values = entry
            points += [Point(key=key, value=value, step=step, time=time_us) for key, value in values.items()]
        else:
            (params if entry[0] == "p" else tags).update(entry[1])
    return LogBatch(project=project, run_id=run_id, metrics=points, params=params, tags=tags)


class Shipper:
    """A thread that ships one journal while it is written.

    Args:
        reader: of the journal.
        connect: makes the sink; called in the thread, so that a script does not wait for it.
        every: seconds between looks at the journal.
    """

    def __init__(self, reader: Reader, connect: Callable[[], Sink], *, every: float):
        self._reader = reader
        self._connect = connect
        self._every = every
        self._woken = threading.Event()
        self._ending = threading.Event()
        self.trouble: TreadleError | None = None
        self._thread = threading.Thread(target=self._run, name="treadle-shipper", daemon=True)
        self._thread.start()

    def finish(self, timeout: float) -> bool:
        """Ship what is left and stop; whether all of it went within `timeout` seconds."""
        self._ending.set()
        self._woken.set()
        self._thread.join(timeout)
        return not self._thread.is_alive() and self._reader.empty()

    def _run(self) -> None:
        sink: Sink | None = None
        pause = 0.0
        try:
            with self._reader.alone() as mine:
                while mine:
                    last = self._ending.is_set()
                    try:
                        sink = sink or self._connect()
                        ship(self._reader, sink)
                        self.trouble, pause = None, 0.0
                    except TreadleError as error:
                        if self.trouble is None:
                            log.warning("what this run logs is kept in %s for now: %s", self._reader.path, error.what)
                        self.trouble = error
                        pause = min(max(pause * 2, _PAUSES[0]), _PAUSES[1])
                    if last:
                        return
                    self._woken.wait(max(self._every, pause))
                    self._woken.clear()
        finally:
            if sink is not None:
                sink.close()


def drain(reader: Reader, sink: Sink, *, seconds: float = 60.0) -> int:
    """Ship a journal, trying again what passes, for at most `seconds`; returns the entries that went."""
    end, pause, sent = time.monotonic() + seconds, _PAUSES[0], 0
    while True:
        try:
            return sent + ship(reader, sink)
        except TreadleError:
            if time.monotonic() + pause > end:
                raise
        time.sleep(pause)
        pause *= 2
