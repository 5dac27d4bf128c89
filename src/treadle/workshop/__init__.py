"""The composition root: settings → services → loops; plan and apply; replay. The only room that knows all the others.

Its names load when they are used: the supervisor and the doctor live here too, and need none of the rooms.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from treadle.workshop.home import Workshop, home_path, open_home

__all__ = ["Workshop", "home_path", "open_home"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'treadle.workshop' has no attribute {name!r}")
    return getattr(import_module("treadle.workshop.home"), name)
