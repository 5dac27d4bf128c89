"""Places where a test can kill this process as `kill -9` would: the n-th passing of a phase.

`TREADLE_FAULT="before_commit:3"` in the environment, or `arm("before_commit:3")`. Unarmed, a passing costs one dict lookup.
"""

import os
import signal

PHASES = ("claimed", "running", "result_saved", "before_commit", "after_commit", "between_steps")

_armed: dict[str, int] = {}


def arm(spec: str) -> None:
    """Die at the n-th passing: `phase:n`; an empty text disarms.

    Raises:
        ValueError: a phase that does not exist.
    """
    _armed.clear()
    if spec:
        phase, _, count = spec.partition(":")
        if phase not in PHASES:
            raise ValueError(f"{phase!r} is no phase; one of {', '.join(PHASES)}")
        _armed[phase] = int(count or 1)


def passing(phase: str) -> None:
    """Say that a phase is passed here."""
    if phase in _armed:
        _armed[phase] -= 1
        if _armed[phase] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("TREADLE_FAULT", ""))
