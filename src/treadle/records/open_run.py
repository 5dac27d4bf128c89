"""The run that a script has open here (`treadle.run`), for rooms that measure something and do not know the client."""

import contextvars
from collections.abc import Mapping
from typing import Any, Protocol


class OpenRun(Protocol):
    """What a room may do with it."""

    run_id: str

    def log(self, values: Mapping[str, Any] | None = None, step: int | None = None, /) -> None:
        """Log metrics."""
        ...

    def reads(self, project: str, dataset: str, number: int, digest: str) -> None:
        """Note that a version of a dataset was read."""
        ...


#: The innermost open run of this context.
opened: contextvars.ContextVar[Any] = contextvars.ContextVar("treadle_open_run", default=None)


def open_run() -> OpenRun | None:
    """The run that is open here, the innermost of several."""
    return opened.get()
