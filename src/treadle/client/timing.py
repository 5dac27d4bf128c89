"""Where a training's time goes: sections that a script names, nested as it enters them.

A section costs two readings of the clock. Totals go to the run's metrics every few seconds (`profile/PATH/seconds`, `profile/PATH/count`)
and into one table at the end. Sections of other threads stand by themselves: time that passes twice at once is not summed.
"""

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from treadle.records.errors import TreadleError

T = TypeVar("T")
#: Where the profile stands among the run's files.
FILE = "debug/profile.json"
#: Seconds between two looks at the totals, and the most sections that are told apart.
_EVERY, _MOST = 10.0, 500


class Spent(Struct):
    """A section's time so far, in seconds."""

    count: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = 0.0


class Profile:
    """One run's sections.

    Args:
        log: takes metrics.
        keep: takes the whole profile and where it is to stand.
        clock: seconds, from anywhere.
    """

    def __init__(
        self,
        log: Callable[[Mapping[str, Any]], None],
        keep: Callable[[Any, str], None],
        *,
        clock: Callable[[], float] = time.perf_counter,
        every: float = _EVERY,
    ):
        self._log, self._keep, self._clock, self._every = log, keep, clock, every
        self._path: contextvars.ContextVar[str] = contextvars.ContextVar("treadle_section", default="")
        self._spent: dict[str, Spent] = {}
        self._lock = threading.Lock()
        self._next = clock() + every

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Time that passes inside; also where it ends in an exception."""
        outer = self._path.get()
        path = f"{outer}/{_named(name)}" if outer else _named(name)
        token = self._path.set(path)
        began = self._clock()
        try:
            yield
        finally:
            took = self._clock() - began
            self._path.reset(token)
            self._add(path, took)

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time spent on waiting for each is the section's."""
        waiting = iter(items)
        while True:
            with self.section(name):
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            yield item

    def _add(self, path: str, took: float) -> None:
        with self._lock:
            if path not in self._spent and len(self._spent) >= _MOST:
                path = "other sections"
            spent = self._spent.setdefault(path, Spent())
            spent.count += 1
            spent.total += took
            spent.least, spent.most = min(spent.least, took), max(spent.most, took)
            now = self._clock()
            if now < self._next:
                return
            self._next = now + self._every
            points = self._points()
        self._log(points)

    def _points(self) -> dict[str, float]:
        told = {f"profile/{path}/seconds": spent.total for path, spent in self._spent.items()}
        return told | {f"profile/{path}/count": spent.count for path, spent in self._spent.items()}

    def flush(self) -> None:
        """Keep the profile as it is now."""
        with self._lock:
            points = self._points()
            table = [
                {
                    "section": path,
                    "depth": path.count("/"),
                    "count": spent.count,
                    "seconds": spent.total,
                    "mean_seconds": spent.total / spent.count,
                    "min_seconds": spent.least,
                    "max_seconds": spent.most,
                    "self_seconds": spent.total - sum(s.total for p, s in self._spent.items() if p.rpartition("/")[0] == path),
                }
                for path, spent in sorted(self._spent.items())
            ]
        if points:
            self._log(points)
            self._keep(table, FILE)


def _named(name: str) -> str:
    if not name.strip() or len(name) > 80 or not name.isprintable():
        raise TreadleError(f"{name[:80]!r} is no name of a section.", remedy="Say what happens in it: 'load batch'.")
    return name.replace("/", "-")
