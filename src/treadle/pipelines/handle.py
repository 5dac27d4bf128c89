"""A handle: the result of a journaled step, before anybody looks at it.

It carries the digest, so it can be passed to further steps without being loaded; the value follows in process by reference, or
comes from the blob store on `.get()`. A step that returns a tuple, list or dict gives a handle that can be unpacked.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from treadle.records.errors import TreadleError

T = TypeVar("T")
_ABSENT: Any = object()


class Handle(Generic[T]):
    """The result of a step.

    Args:
        digest: of the saved artifact.
        codec: how it was saved.
        path: the step's place in the body, `0003:fit`.
        load: fetches the value from the store.
        value: the value, where it is at hand.
        parts: handles of the elements, for a tuple, list or dict of artifacts; keys are positions or names.
    """

    __slots__ = ("_load", "_parts", "_value", "codec", "digest", "path")

    def __init__(
        self,
        digest: str,
        codec: str,
        path: str,
        load: Callable[[], T],
        *,
        value: T = _ABSENT,
        parts: "Callable[[], Mapping[Any, Handle[Any]]] | None" = None,
    ):
        self.digest = digest
        self.codec = codec
        self.path = path
        self._load = load
        self._value = value
        self._parts = parts

    def get(self) -> T:
        """The value; loaded from the store, and verified, where it is not at hand. Do not change it in place."""
        if self._value is _ABSENT:
            self._value = self._load()
        return self._value

    def _elements(self) -> Mapping[Any, Any]:
        if self._parts is not None:
            return self._parts()
        value = self.get()
        if isinstance(value, Mapping):
            return value
        if isinstance(value, tuple | list):
            return dict(enumerate(value))
        raise TreadleError(
            f"The result of step {self.path} is a {type(value).__name__} and has no parts to unpack.",
            remedy="Look at it with .get(), or let the step return a tuple, list or dict.",
        )

    def __iter__(self) -> Iterator[Any]:
        elements = self._elements()
        return iter(elements) if _named(elements) else iter(elements.values())

    def __len__(self) -> int:
        return len(self._elements())

    def __bool__(self) -> bool:
        raise TreadleError(
            f"A handle is neither true nor false; the result of step {self.path} has not been looked at.",
            remedy="Write `if handle.get():` to decide on the value.",
        )

    def __getitem__(self, key: Any) -> Any:
        return self._elements()[key]

    def __repr__(self) -> str:
        return f"<Handle {self.path} {self.codec} {self.digest[:12]}>"


def _named(elements: Mapping[Any, Any]) -> bool:
    return any(isinstance(key, str) for key in elements)


def value(result: Any) -> Any:
    """The value of a handle; anything else as it is. In a list, tuple or dict, of each element.

    Lets a plain function work the same inside a run, where steps give handles, and outside, where they give values.

    >>> value(3)
    3
    """
    if isinstance(result, Handle):
        return result.get()
    if type(result) in (list, tuple):
        return type(result)(value(item) for item in result)
    if type(result) is dict:
        return {key: value(item) for key, item in result.items()}
    return result
