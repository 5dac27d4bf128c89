"""Ending a running step from outside: a timeout, a cancellation, a worker that must go down.

The supervising thread raises `Ended` in the thread that runs the step (`PyThreadState_SetAsyncExc`). Python code ends at its next
bytecode, `time.sleep` and blocking calls once they return, native code once it comes back to Python; who does not come back within
a grace is abandoned by the worker (its result is refused by the lease), and the step counts as ended.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any


class Ended(BaseException):
    """Raised inside a step to end it. No `Exception`, so that a step's own `except Exception` does not swallow it."""


class Interruptible:
    """Runs one function at a time in the calling thread, so that another thread can end it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._deadline: float | None = None
        self._sent: str | None = None
        self.sent_at: float | None = None

    def run(self, function: Callable[[], Any], *, timeout_s: float | None) -> Any:
        """`function()`; raises `Ended` where another thread ended it meanwhile (see `reason`)."""
        with self._lock:
            self._thread = threading.get_ident()
            self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
            self._sent = self.sent_at = None
        try:
            result = function()
        except Ended:
            with self._lock:
                self._thread = None
            raise
        except BaseException:
            self._leave()
            raise
        self._leave()
        return result

    def _leave(self) -> None:
        with self._lock:
            running, self._thread = self._thread, None
            coming = self._sent is not None and running is not None
        if coming:  # the exception is on its way to this thread: meet it here and nowhere later
            for _ in range(1000):
                time.sleep(0.001)

    @property
    def reason(self) -> str | None:
        """Why the last function was ended: `timed_out`, or what `end` was told."""
        return self._sent

    def overdue(self, now: float) -> bool:
        """Whether the running function is past its timeout, and not yet told so."""
        with self._lock:
            return self._thread is not None and self._deadline is not None and now >= self._deadline and self._sent is None

    def end(self, reason: str, now: float) -> bool:
        """End what runs; False where nothing runs, or it was told already."""
        with self._lock:
            if self._thread is None or self._sent is not None:
                return False
            self._sent, self.sent_at = reason, now
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Ended))
            return True

    def stuck(self, now: float, grace_s: float) -> bool:
        """Whether a function that was ended has not come back for `grace_s` seconds."""
        with self._lock:
            return self._thread is not None and self.sent_at is not None and now - self.sent_at >= grace_s
