"""Digests: BLAKE3, 256 bits, lower-case hex; and the one canonical encoding that records are digested in."""

from typing import Any

import msgspec
from blake3 import blake3

_encoder = msgspec.json.Encoder(order="deterministic")


def digest(content: bytes | bytearray | memoryview) -> str:
    """BLAKE3 of bytes.

    >>> digest(b"")[:16]
    'af1349b9f5f9a1a6'
    """
    return blake3(content).hexdigest()


def canonical(record: Any) -> bytes:
    """JSON with sorted keys: equal records give equal bytes, whatever order their fields were set in."""
    return _encoder.encode(record)


def digest_of(record: Any) -> str:
    """BLAKE3 of the canonical encoding of a record or plain JSON value."""
    return digest(canonical(record))
