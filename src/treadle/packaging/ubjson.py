"""Universal Binary JSON (draft 12), read: the form in which XGBoost writes its models. Pure.

XGBoost's writer uses typed arrays, `[$d#L<count><bytes>`, which become numpy arrays; everything else becomes plain Python values.
"""

import struct
from typing import Any

import numpy as np

from treadle.records.errors import TreadleError

#: Marker → how one number of it is written, big-endian.
_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_WORDS: dict[bytes, Any] = {b"Z": None, b"T": True, b"F": False}
_DEEPEST = 64


def decode(content: bytes) -> Any:
    """The value that the bytes hold.

    Raises:
        TreadleError: `corrupt` where they are cut off, nested more than 64 deep, or are no UBJSON.
    """
    reader = _Reader(content)
    try:
        value = reader.value(reader.marker(), 0)
    except (struct.error, ValueError, IndexError) as error:
        raise _broken(reader.at, str(error)) from error
    if reader.at != len(content):
        raise _broken(reader.at, "more bytes follow")
    return value


class _Reader:
    def __init__(self, content: bytes):
        self.content = content
        self.at = 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.content):
            raise _broken(self.at, "it ends too early")
        self.at += size
        return self.content[self.at - size : self.at]

    def marker(self) -> bytes:
        found = self.take(1)
        return self.marker() if found == b"N" else found  # a no-op

    def number(self, marker: bytes) -> int | float:
        kind = np.dtype(_NUMBERS[marker])
        return np.frombuffer(self.take(kind.itemsize), kind)[0].item()

    def length(self) -> int:
        marker = self.marker()
        if marker not in _NUMBERS or marker in b"dD":
            raise _broken(self.at, "a length is no whole number")
        return int(self.number(marker))

    def text(self) -> str:
        return self.take(self.length()).decode()

    def value(self, marker: bytes, depth: int) -> Any:
        if depth > _DEEPEST:
            raise _broken(self.at, "it is nested too deep")
        if marker in _NUMBERS:
            return self.number(marker)
        if marker in _WORDS:
            return _WORDS[marker]
        if marker == b"S":
            return self.text()
        if marker == b"C":
            return self.take(1).decode()
        if marker == b"[":
            return self._array(depth)
        if marker == b"{":
            return self._object(depth)
        raise _broken(self.at, f"the marker {marker!r} is unknown")

    def _sized(self) -> tuple[bytes, int | None]:
        """(type of all members or nothing, their count or None) as a container announces them."""
        kind, count = b"", None
        if self.content[self.at : self.at + 1] == b"$":
            self.take(1)
            kind = self.take(1)
        if self.content[self.at : self.at + 1] == b"#":
            self.take(1)
            count = self.length()
            if not 0 <= count <= len(self.content) - self.at:
                raise _broken(self.at, f"it announces {count} members, more than it has bytes")
        elif kind:
            raise _broken(self.at, "a type is announced without a count")
        return kind, count

    def _array(self, depth: int) -> Any:
        kind, count = self._sized()
        if kind in _NUMBERS and count is not None:
            dtype = np.dtype(_NUMBERS[kind])
            return np.frombuffer(self.take(count * dtype.itemsize), dtype).astype(dtype.newbyteorder("="))
        if count is not None:
            return [self.value(kind or self.marker(), depth + 1) for _ in range(count)]
        found = []
        while (marker := self.marker()) != b"]":
            found.append(self.value(marker, depth + 1))
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._sized()
        found: dict[str, Any] = {}
        while count is None or len(found) < count:
            if count is None and self.content[self.at : self.at + 1] == b"}":
                self.take(1)
                break
            key = self.text()
            found[key] = self.value(kind or self.marker(), depth + 1)
        return found


def _broken(at: int, why: str) -> TreadleError:
    return TreadleError(f"These bytes are no UBJSON: {why} (at byte {at}).", remedy="Log the model again.", code="corrupt")
