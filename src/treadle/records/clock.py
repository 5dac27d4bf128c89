"""The two clocks.

*Business* time is when things happen in the world the model serves; it is real, or virtual in a replay. *Monotonic* time
measures leases, timeouts and latency. Both are arguments, never globals.
"""

import datetime as dt
import time
from typing import Protocol

UTC = dt.UTC
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Tells both times."""

    def now(self) -> dt.datetime:
        """Business time, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> dt.datetime:
        """Wall time, UTC."""
        return dt.datetime.now(UTC)

    def monotonic(self) -> float:
        """`time.monotonic`."""
        return time.monotonic()


class VirtualClock:
    """A business clock that moves only when told to; monotonic time stays the machine's."""

    def __init__(self, start: dt.datetime):
        self._now = utc(start)

    def now(self) -> dt.datetime:
        """The virtual time, UTC."""
        return self._now

    def monotonic(self) -> float:
        """`time.monotonic`."""
        return time.monotonic()

    def advance_to(self, moment: dt.datetime) -> None:
        """Move forward; going back raises ValueError, because recorded history has no second past."""
        moment = utc(moment)
        if moment < self._now:
            raise ValueError(f"virtual time is {self._now.isoformat()} and cannot go back to {moment.isoformat()}")
        self._now = moment


def utc(moment: dt.datetime) -> dt.datetime:
    """`moment` in UTC; a naive one is taken to be UTC."""
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def micros(moment: dt.datetime) -> int:
    """Microseconds since 1970 UTC, exact.

    >>> micros(dt.datetime(1970, 1, 1, 0, 0, 1))
    1000000
    """
    since = utc(moment) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(value: int) -> dt.datetime:
    """The inverse of `micros`."""
    return EPOCH + dt.timedelta(microseconds=value)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(duration: str | dt.timedelta | int) -> int:
    """A duration in whole seconds: `"90s"`, `"15m"`, `"6h"`, `"7d"`, `"2w"`, a timedelta, or seconds.

    Raises:
        ValueError: anything else, or not a positive whole number of seconds.

    >>> seconds("6h")
    21600
    """
    if isinstance(duration, dt.timedelta):
        value = duration.total_seconds()
    elif isinstance(duration, int):
        value = duration
    elif duration[-1:] in _UNITS and duration[:-1].isdigit():
        value = int(duration[:-1]) * _UNITS[duration[-1]]
    else:
        raise ValueError(f"{duration!r} is no duration; write '90s', '15m', '6h', '7d' or '2w'")
    if value <= 0 or value != int(value):
        raise ValueError(f"{duration!r} is not a positive whole number of seconds")
    return int(value)
