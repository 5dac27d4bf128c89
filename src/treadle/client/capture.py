"""What a run says of itself without being asked: code, command, environment, machine."""

import functools
import getpass
import hashlib
import importlib
import importlib.metadata
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct

#: The longest diff of uncommitted changes that is kept, in bytes.
DIFF = 2 * 1024 * 1024
_GIT_SECONDS = 10


class Code(Struct, frozen=True, kw_only=True):
    """Where the code stands: revision and branch of its git repository, and what is not committed."""

    revision: str | None = None
    branch: str = ""
    root: str = ""
    dirty: bool = False
    diff: bytes = b""


def code(folder: Path) -> Code:
    """The git state of a folder; an empty one where there is no repository or no git."""
    if shutil.which("git") is None:
        return Code()
    revision = _git(folder, "rev-parse", "HEAD")
    if revision is None:
        return Code()
    root = _git(folder, "rev-parse", "--show-toplevel") or b""
    status = _git(folder, "status", "--porcelain") or b""
    diff = (_git(folder, "diff", "HEAD", "--no-ext-diff", "--no-color") or b"") if status else b""
    return Code(
        revision=revision.decode(),
        branch=(_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or b"").decode(),
        root=Path(root.decode()).name,
        dirty=bool(status),
        diff=diff and diff + b"\n" if len(diff) <= DIFF else f"# {len(diff):,} bytes, more than the {DIFF:,} that are kept\n".encode(),
    )


def _git(folder: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=_GIT_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip(b"\n") if done.returncode == 0 else None


@functools.cache
def environment() -> bytes:
    """`name==version` of every installed distribution, sorted: what `pip install -r` makes again."""
    found = {f"{d.name.lower().replace('_', '-')}=={d.version}" for d in importlib.metadata.distributions() if d.name}
    return "".join(f"{line}\n" for line in sorted(found)).encode()


def environment_digest() -> str:
    """A digest of interpreter and environment: equal where both are."""
    return hashlib.sha256(platform.python_version().encode() + b"\n" + environment()).hexdigest()


def command() -> str:
    """The command line of this process, ready to be typed again."""
    return shlex.join(sys.orig_argv) if len(sys.orig_argv) < 200 else shlex.join(sys.orig_argv[:200]) + " …"


def host() -> dict[str, str]:
    """The machine, as tags."""
    return {
        "host": socket.gethostname(),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "cpus": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1),
    }


def loaded(name: str) -> Any:
    """A module, if the script has loaded it; one that another thread is loading just now is waited for."""
    return importlib.import_module(name) if name in sys.modules else None


def seeds() -> dict[str, str]:
    """Seeds that can be seen: PYTHONHASHSEED, NumPy's where nothing was drawn since it was set, PyTorch's. Python's own keeps none."""
    found = {"seed.hash": os.environ.get("PYTHONHASHSEED", "")}
    if (numpy := loaded("numpy")) is not None:
        _, keys, position, *_ = numpy.random.get_state()
        found["seed.numpy"] = str(keys[0]) if position == len(keys) else ""  # a Mersenne Twister begins with its seed
    if (torch := loaded("torch")) is not None:
        found["seed.torch"] = str(torch.initial_seed())
    return {name: seed for name, seed in found.items() if seed}


def surroundings() -> dict[str, str]:
    """Machine, seeds and command line, as tags."""
    return {f"treadle.{name}": value for name, value in {**host(), **seeds(), "command": command()}.items()}


def user() -> str:
    """Who runs this process, empty where the machine does not say."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
