"""Numbered snapshots and the acknowledgements of the workers that serve them.

A release writes generation N as a file; gateways look for the highest number, load what it names, switch, and say so. Nothing
here needs a database: what the files say is what is served, through restarts of everything else.
"""

import os
import secrets
from pathlib import Path

import msgspec

from treadle.records.errors import TreadleError
from treadle.records.layout import GatewayLayout
from treadle.records.serving import Ack, Snapshot

_snapshot_decoder = msgspec.json.Decoder(Snapshot)
_ack_decoder = msgspec.json.Decoder(Ack)


def write(layout: GatewayLayout, snapshot: Snapshot) -> Path:
    """Publish a snapshot atomically. Writing the same one again changes nothing.

    Raises:
        TreadleError: `conflict`, another snapshot has this generation.
    """
    path = _path(layout, snapshot.generation)
    content = msgspec.json.format(msgspec.json.encode(snapshot), indent=1)
    if path.exists():
        if path.read_bytes() == content:
            return path
        raise TreadleError(
            f"Generation {snapshot.generation} of {snapshot.environment} is published already, with other content.",
            remedy="Publish the next generation; a snapshot never changes.",
            code="conflict",
        )
    _put(path, content)
    return path


def generations(layout: GatewayLayout) -> list[int]:
    """The numbers there are, newest first."""
    try:
        names = os.listdir(layout.snapshots)
    except FileNotFoundError:
        return []
    return sorted((int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()), reverse=True)


def read(layout: GatewayLayout, generation: int) -> Snapshot:
    """One snapshot.

    Raises:
        TreadleError: `not_found`, `corrupt`.
    """
    path = _path(layout, generation)
    try:
        return _snapshot_decoder.decode(path.read_bytes())
    except FileNotFoundError as error:
        raise TreadleError(f"There is no generation {generation} here.", remedy=f"ls {layout.snapshots}", code="not_found") from error
    except msgspec.DecodeError as error:
        raise TreadleError(
            f"Snapshot {path} cannot be read: {error}.", remedy=f"Delete it and publish again: rm {path}", code="corrupt"
        ) from error


def newest(layout: GatewayLayout) -> Snapshot | None:
    """The snapshot with the highest number; None where nothing was published. Raises like `read`."""
    numbers = generations(layout)
    return read(layout, numbers[0]) if numbers else None


def worker_name(pid: int | None = None) -> str:
    """This process as a worker: its pid and, where the system tells, when it started, so that a reused pid is not taken for it."""
    pid = os.getpid() if pid is None else pid
    return f"{pid}-{_started(pid) or 0}"


def write_ack(layout: GatewayLayout, ack: Ack) -> None:
    """What a worker serves now; replaces its word before."""
    _put(layout.acks / f"{ack.worker}.json", msgspec.json.encode(ack), durable=False)


def remove_ack(layout: GatewayLayout, worker: str) -> None:
    """A worker that ends takes its word back."""
    (layout.acks / f"{worker}.json").unlink(missing_ok=True)


def read_acks(layout: GatewayLayout, *, live: bool = True) -> list[Ack]:
    """The words of the workers, by name; of those that still run unless `live` is False."""
    found = []
    for path in sorted(layout.acks.glob("*.json")):
        try:
            found.append(_ack_decoder.decode(path.read_bytes()))
        except (FileNotFoundError, msgspec.DecodeError):  # its worker ended this moment, or a foreign file
            continue
    return [ack for ack in found if alive(ack)] if live else found


def live_workers(layout: GatewayLayout) -> list[str]:
    """Names of the workers that run on this machine."""
    return [ack.worker for ack in read_acks(layout)]


def acknowledged(layout: GatewayLayout, generation: int) -> bool:
    """Whether every live worker serves `generation` or a later one. True where no gateway runs: the next one starts with it."""
    return all(ack.state == "ready" and ack.generation >= generation for ack in read_acks(layout))


def alive(ack: Ack) -> bool:
    """Whether the process that gave this word still runs (a zombie does not)."""
    if ack.pid <= 0:
        return False
    try:
        os.kill(ack.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    started = _started(ack.pid)
    pid, _, named = ack.worker.partition("-")
    if started is None:
        return True
    return started > 0 and not (pid == str(ack.pid) and named.isdigit() and int(named) not in (0, started))


def _started(pid: int) -> int | None:
    """Start of a process in clock ticks since boot (Linux); 0 for a zombie or nothing; None where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0 if os.path.exists("/proc/self/stat") else None
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def _path(layout: GatewayLayout, generation: int) -> Path:
    return layout.snapshots / f"{generation:08d}.json"


def _put(path: Path, content: bytes, *, durable: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
