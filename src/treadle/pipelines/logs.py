"""What a step prints and logs becomes lines of its run.

While any run goes on, `sys.stdout`, `sys.stderr` and the root logger lead to whatever run the calling thread is in (its context); outside a
run they lead where they led before.
"""

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

from treadle.pipelines.context import peek

LONGEST = 16_384


class _Stream(io.TextIOBase):
    """A text stream that belongs to the run of whoever writes."""

    def __init__(self, before: Any, level: str):
        self.before = before
        self.level = level
        self._rest = threading.local()

    def write(self, text: str) -> int:
        running = peek()
        if running is None or running.write_line is None:
            return self.before.write(text)
        *lines, rest = (getattr(self._rest, "text", "") + text).split("\n")
        for line in lines:
            running.write_line(line, self.level)
        self._rest.text = rest[:LONGEST]
        return len(text)

    def flush(self) -> None:
        running = peek()
        if running is None or running.write_line is None:
            self.before.flush()
        elif getattr(self._rest, "text", ""):
            running.write_line(self._rest.text, self.level)
            self._rest.text = ""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        running = peek()
        return (running is None or running.write_line is None) and self.before.isatty()

    def fileno(self) -> int:
        return self.before.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.before, "encoding", None) or "utf-8"


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        running = peek()
        if running is not None and running.write_line is not None:
            running.write_line(self.format(record), record.levelname.lower())


_lock = threading.Lock()
_users = 0
_undo: list[Any] = []


@contextlib.contextmanager
def captured() -> Iterator[None]:
    """Lead output of runs into their logs for the time of the block; may be nested and used by several threads."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _install()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _uninstall()


def flush() -> None:
    """Write the unfinished line of the calling thread."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Stream):
            stream.flush()


def _install() -> None:
    root = logging.getLogger()
    handler = _Handler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    _undo[:] = [sys.stdout, sys.stderr, handler, root.level]
    sys.stdout, sys.stderr = _Stream(sys.stdout, "info"), _Stream(sys.stderr, "warning")
    root.addHandler(handler)
    root.setLevel(min(root.level or logging.WARNING, logging.INFO))


def _uninstall() -> None:
    out, err, handler, level = _undo
    if isinstance(sys.stdout, _Stream):
        sys.stdout = out
    if isinstance(sys.stderr, _Stream):
        sys.stderr = err
    logging.getLogger().removeHandler(handler)
    logging.getLogger().setLevel(level)
