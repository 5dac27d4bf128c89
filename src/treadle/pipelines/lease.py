"""Who holds a lease, and when its holder counts as dead.

An owner is `host/boot/namespace/pid/start/nonce`. On the same host, boot and process namespace a holder whose process is gone, or
whose pid was given to another process since, is dead at once. For all others the beat decides: a lease is dead when this observer has
seen its beat stand still for the lease time on its own monotonic clock, so no clock of the holder and no jump of a wall clock matters.
"""

import functools
import os
import secrets
import socket
import subprocess
from pathlib import Path

from msgspec import Struct


@functools.cache
def host() -> str:
    """This host in this boot, in this process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:  # no Linux: macOS tells its boot time
        told = subprocess.run(["sysctl", "-n", "kern.boottime"], capture_output=True, text=True, check=False).stdout
        boot, namespace = "".join(c for c in told.split("}")[0] if c.isdigit()) or "unknown", "0"
    return f"{socket.gethostname().replace('/', '_')}/{boot}/{namespace}"


def process_start(pid: int) -> str | None:
    """When a process was started, in words of its own system; None where there is no such process (or it is a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
        return told.strip().replace("/", "_") or None
    except ProcessLookupError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def new_owner() -> str:
    """An owner string for one lease of this process."""
    pid = os.getpid()
    return f"{host()}/{pid}/{process_start(pid)}/{secrets.token_hex(6)}"


#: Owners under which somebody in this process works right now.
live: set[str] = set()


def is_here(owner: str) -> bool:
    """Whether an owner belongs to this very process."""
    pid = os.getpid()
    return owner.startswith(f"{host()}/{pid}/{process_start(pid)}/")


def surely_dead(owner: str) -> bool:
    """Whether the holder's process is known to be gone (only for holders on this host and boot)."""
    parts = owner.split("/")
    if len(parts) != 6 or "/".join(parts[:3]) != host() or not parts[3].isdigit():
        return False
    return process_start(int(parts[3])) != parts[4]


class Seen(Struct):
    """A lease as this observer saw it, and since when its beat has stood still (monotonic seconds)."""

    owner: str
    beat: int
    since: float


class Watch:
    """Remembers beats, and tells which leases are dead."""

    def __init__(self, lease_s: float):
        self.lease_s = lease_s
        self._seen: dict[tuple[str, str], Seen] = {}

    def dead(self, key: tuple[str, str], owner: str, beat: int, now: float) -> bool:
        """Whether the holder of `key` is dead, as far as can be seen at monotonic time `now`."""
        if is_here(owner):
            return owner not in live  # else nobody here works on it any more: left over from an error
        if surely_dead(owner):
            return True
        seen = self._seen.get(key)
        if seen is None or (seen.owner, seen.beat) != (owner, beat):
            self._seen[key] = Seen(owner, beat, now)
            return False
        return now - seen.since >= self.lease_s

    def keep_only(self, keys: set[tuple[str, str]]) -> None:
        """Forget leases that are no more."""
        for key in self._seen.keys() - keys:
            del self._seen[key]
