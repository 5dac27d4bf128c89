"""`treadle doctor`: is this home in order, is this machine, and if not, what to do.

Each check looks at one thing and changes nothing; one that fails does not keep the others from looking. A finding is a plain dict
`{"name", "ok", "text", "remedy"}`.
"""

import datetime as dt
import errno
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from treadle.operations.ledger import VerifyAudit
from treadle.records.calls import SYSTEM
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.workshop.supervisor import check_port, living

Finding = dict[str, Any]

#: Blobs that are read and compared with their digest, spread evenly over all there are.
BLOBS = 64
_LISTED = 10_000
_SKEW = 60.0
_LEAST_FREE = 1_000_000_000
_SLOW_SYNC = 0.2
_AHEAD = 5.0  # seconds that a file may be younger than now (rounding of file systems)


def check(layout: Layout, *, store: str | None = None, port: int = 8400) -> list[Finding]:
    """All findings, in the order in which they should be mended.

    Args:
        layout: the home; it need not exist.
        store: URL of another metadata database, as for `open_home`.
        port: the port that a server would take.
    """
    findings = [*_python(), *_home(layout)]
    if layout.root.is_dir():
        findings += _guarded("disk", lambda: _disk(layout.root))
        findings += _guarded("clock", lambda: _clock(layout))
        findings += _guarded("processes", lambda: _processes(layout))
        findings += _guarded("database", lambda: _database(layout, store))
        findings += _guarded("blobs", lambda: _blobs(layout, store))
    findings += _guarded("port", lambda: _port(layout, port))
    return findings


def _finding(name: str, ok: bool, text: str, remedy: str = "") -> Finding:
    return {"name": name, "ok": ok, "text": text, "remedy": "" if ok else remedy}


def _guarded(name: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check found, or that it could not look."""
    try:
        return list(look())
    except TreadleError as error:
        return [_finding(name, False, error.what, error.remedy)]
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free space on the disk that holds the home (df -h)." if full else "Check the path and its permissions."
        return [_finding(name, False, f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", remedy)]


def _python() -> list[Finding]:
    version = platform.python_version()
    found = [_finding("python", sys.version_info >= (3, 11), f"Python {version} on {platform.platform()}", "Use Python 3.11 or newer.")]
    wrong: list[str] = []
    for line in importlib.metadata.requires("treadle") or []:
        matched = re.match(r"^([A-Za-z0-9_.-]+)(?:\[.*?])?\s*([<>=!~0-9.,\s]*)(;.*)?$", line)
        if matched is None or "extra" in (matched[3] or ""):
            continue
        try:
            installed = importlib.metadata.version(matched[1])
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{matched[1]} is missing")
            continue
        if not _fits(installed, matched[2]):
            wrong.append(f"{matched[1]} is {installed}, wanted {matched[2].strip()}")
    text = f"treadle {importlib.metadata.version('treadle')} and all it needs" if not wrong else "; ".join(wrong)
    return [*found, _finding("packages", not wrong, text, "Install what is missing: pip install --upgrade treadle")]


def _fits(installed: str, wanted: str) -> bool:
    """Whether a version fits `>=a,<b` (no other operators are used).

    >>> _fits("6.33.1", "<7"), _fits("1.9", ">=1.10"), _fits("2.0", "")
    (True, False, True)
    """
    have = _numbers(installed)
    for part in filter(None, (p.strip() for p in wanted.split(","))):
        operator, bound = re.match(r"(>=|<)?(.*)", part).groups()  # type: ignore[union-attr]
        if (operator == ">=" and have < _numbers(bound)) or (operator == "<" and have >= _numbers(bound)):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


def _home(layout: Layout) -> list[Finding]:
    root = layout.root
    if not root.is_dir():
        what = "is a file" if root.exists() else "is not there"
        return [_finding("home", False, f"{root} {what}", "Name the home (--home DIR, TREADLE_HOME), or make one: treadle apply")]
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return [
            _finding(
                "home",
                False,
                f"{root} is not writable for this user",
                f"Give it to the user that runs treadle: chown -R {os.getuid()} {root}",
            )
        ]
    strangers = root.stat().st_mode & 0o022
    text = f"{root}" if not strangers else f"{root} can be written by other users of this machine"
    return [_finding("home", not strangers, text, f"Keep it to yourself: chmod go-w {root}")]


def _disk(root: Path) -> Iterable[Finding]:
    free = shutil.disk_usage(root).free
    yield _finding(
        "disk",
        free >= _LEAST_FREE,
        f"{free / 1e9:.1f} GB free",
        "Free space: treadle gc --no-dry-run, or move the home to a larger disk (treadle backup, treadle restore).",
    )
    probe = root / f".doctor-{os.getpid()}"
    try:
        began = time.perf_counter()
        with probe.open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        took = time.perf_counter() - began
    finally:
        probe.unlink(missing_ok=True)
    yield _finding(
        "fsync",
        took < _SLOW_SYNC,
        f"{took * 1000:.1f} ms for one write to reach the disk",
        "Every commit waits that long: use a local disk.",
    )


def _clock(layout: Layout) -> Iterable[Finding]:
    """A clock that went back shows in files that are younger than now."""
    now = time.time()
    files = [
        layout.database,
        Path(f"{layout.database}-wal"),
        *layout.root.glob("gateways/*/*/snapshots/*"),
        *layout.processes.glob("*.json"),
    ]
    newest = max((f.stat().st_mtime for f in files if f.exists()), default=0.0)
    ahead = newest - now
    year = dt.datetime.now(dt.UTC).year
    ok = ahead <= _AHEAD and year >= 2025
    text = (
        "in step"
        if ok
        else f"the home was written {ahead:.0f} s in the future: the clock went back"
        if ahead > _AHEAD
        else f"the year is {year}"
    )
    yield _finding("clock", ok, text, "Set the clock (timedatectl set-ntp true). Order and leases do not depend on it, recorded times do.")


def _processes(layout: Layout) -> Iterable[Finding]:
    notes = living(layout)
    stale = sorted(layout.processes.glob("*.json"))
    stale = [path for path in stale if path.stem not in {note.name for note in notes}]
    deaf = [note for note in notes if note.port and not _answers(note.host, note.port)]
    if deaf:
        names = ", ".join(f"{note.name} (pid {note.pid}, port {note.port})" for note in deaf)
        yield _finding(
            "processes", False, f"{names} lives and does not answer", f"Look at its log in {layout.root / 'logs'}, then restart it."
        )
    elif stale:
        names = ", ".join(path.stem for path in stale)
        yield _finding("processes", False, f"{names} ended without a goodbye", f"Start again (treadle up), or forget it: rm {stale[0]}")
    else:
        shown = ", ".join(f"{note.name}{f' at {note.url}' if note.port else ''}" for note in notes)
        yield _finding("processes", True, shown or "none runs on this home")


def _answers(host: str, port: int) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _database(layout: Layout, store: str | None) -> Iterable[Finding]:
    from treadle.store.db import ping  # noqa: PLC0415  (the rest of doctor must work where the database's driver does not)
    from treadle.workshop.blobs import there  # noqa: PLC0415  (the same)
    from treadle.workshop.home import open_home, store_url  # noqa: PLC0415  (the same)

    url = store_url(layout) if store is None else store
    if url == layout.database_url and not layout.database.exists():
        yield _finding(
            "database", False, f"{layout.database} is not there", "Make it: treadle apply. Or bring a backup back: treadle restore SOURCE"
        )
        return
    with open_home(layout.root, store=store, blobs=there(layout)) as workshop:
        seconds = ping(workshop.database)
        yield _finding("database", True, f"{workshop.database.dialect} answers in {seconds * 1000:.1f} ms; its schema is this version's")
        report = workshop.dispatch(VerifyAudit(), actor=SYSTEM)
        waits = f", {report.unsealed} unsealed for up to {report.unsealed_seconds:.0f} s" if report.unsealed else ""
        told = f"{report.sealed} events in an unbroken chain{waits}" if report.intact else "; ".join(report.problems[:3])
        yield _finding("audit", report.intact, told, "Somebody changed the record: treadle audit verify, then compare with a backup.")
        if report.unsealed and report.unsealed_seconds > 60 and not any(n.name.startswith("worker") for n in living(layout)):
            yield _finding(
                "sealing", False, f"{report.unsealed} events wait for a worker", "Triggers do not see them yet. Start one: treadle up"
            )


def _blobs(layout: Layout, store: str | None) -> Iterable[Finding]:
    from treadle.store.objects import ObjectBlobs  # noqa: PLC0415  (as above)
    from treadle.workshop.blobs import mismatch, open_blobs, there  # noqa: PLC0415

    wrong = mismatch(layout, os.environ.get("TREADLE_BLOBS"))
    if wrong is not None:
        yield _finding("blobs place", False, wrong.what, wrong.remedy)
    blobs = open_blobs(layout, there(layout), _home_id(layout, store))
    if isinstance(blobs, ObjectBlobs):
        yield from _bucket(blobs)
    digests = [digest for digest, _ in islice(blobs.listing(), _LISTED)]
    chosen = digests[:: max(1, len(digests) // BLOBS)][:BLOBS]
    broken: list[str] = []
    for digest in chosen:
        try:
            blobs.get(digest)
        except TreadleError as error:
            broken.append(f"{digest[:12]} ({error.code})")
    of = f"{len(digests)}" if len(digests) < _LISTED else f"the first {len(digests)}"
    text = f"{len(chosen)} of {of} read and compared with their digest" if not broken else f"damaged: {', '.join(broken)}"
    yield _finding(
        "blobs", not broken, text, "Bring them back from a backup: treadle restore into another home, and copy these files over."
    )


def _bucket(blobs: Any) -> Iterable[Finding]:
    """Whether object storage does what blobs need of it."""
    seconds, ahead = blobs.probe()
    where = blobs.bucket.address
    yield _finding("bucket", True, f"{where} takes, gives back and removes an object in {seconds * 1000:.0f} ms")
    ok = abs(ahead) <= _SKEW
    text = f"within {_SKEW:.0f} s of this machine's" if ok else f"this machine's is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
    yield _finding("bucket clock", ok, text, "Set the clock (timedatectl set-ntp true): storage refuses requests that are 15 minutes off.")


def _home_id(layout: Layout, store: str | None) -> str:
    from treadle.ledger.sealer import home_id  # noqa: PLC0415  (as above)
    from treadle.store.db import Database  # noqa: PLC0415
    from treadle.workshop.home import store_url  # noqa: PLC0415

    with Database.open(store or store_url(layout)) as database:
        return home_id(database)


def _port(layout: Layout, port: int) -> Iterable[Finding]:
    ours = next((note for note in living(layout) if note.name == "server"), None)
    if ours is not None:
        yield _finding("port", True, f"the server listens on {ours.port}")
        return
    try:
        check_port("127.0.0.1", port)
    except TreadleError as error:
        yield _finding("port", False, error.what, error.remedy)
        return
    yield _finding("port", True, f"{port} is free")
