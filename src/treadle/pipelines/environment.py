"""What is installed: part of every cache key and of every run's record."""

import functools
import importlib.metadata
import platform

from treadle.records.digests import digest_of


@functools.cache
def lock() -> tuple[str, ...]:
    """`name==version` of every installed distribution, sorted, and `python==3.x.y` first. Read once a process."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return (f"python=={platform.python_version()}", *(f"{name}=={version}" for name, version in sorted(found.items())))


@functools.cache
def lock_digest() -> str:
    """The digest of `lock()`."""
    return digest_of(list(lock()))


def difference(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    """What changed between two locks, in words.

    >>> difference(("polars==2.0", "numpy==2.1"), ("polars==2.1", "numpy==2.1"))
    'polars 2.0 → 2.1'
    """
    old = dict(line.split("==", 1) for line in before)
    new = dict(line.split("==", 1) for line in after)
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    told = [f"{name} {old.get(name, 'absent')} → {new.get(name, 'absent')}" for name in changed]
    return ", ".join(told)
