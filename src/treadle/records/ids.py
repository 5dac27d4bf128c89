"""Identifiers made by the caller.

An id is a prefix that says what it names, and 26 characters of Crockford base 32: 48 bits of milliseconds and 80 random bits
(the layout of a ULID), so that ids sort by creation and a retry can carry the id of its first attempt.
"""

import os
import re
import time

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a project or an environment: they become keys and folder names
NAME_RULE = "Use letters, digits, '.', '_' and '-', at most 100, beginning with a letter or digit."

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str, *, at_ms: int | None = None, entropy: bytes | None = None) -> str:
    """A fresh id, e.g. `run_01jd…`. `at_ms` (Unix milliseconds) and `entropy` (10 bytes) can be given for tests.

    >>> new_id("run", at_ms=0, entropy=bytes(10))
    'run_00000000000000000000000000'
    """
    ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    number = (ms << 80) | int.from_bytes(os.urandom(10) if entropy is None else entropy, "big")
    return f"{prefix}_{base32(number, 26)}"


def base32(number: int, width: int) -> str:
    """`number` in Crockford base 32, left-padded to `width`.

    >>> base32(33, 3)
    '011'
    """
    digits = []
    for _ in range(width):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(digits))
