"""The journal of a run: what a script logged, in a file of its own, before anything is sent.

One line an entry, JSON; a line is written by one `write` and never changed, so what a script has logged survives the script, and a
line that was cut off by a crash is left out. Beside it stand the files that were logged, and how far the journal has been shipped:

SPOOL/RUN.jsonl       the entries; the first is the header
SPOOL/RUN.files/      copies of logged files, named by number
SPOOL/RUN.shipped     bytes of the journal that a server has acknowledged
SPOOL/RUN.refused     entries that a server refused for good, each with its answer
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from treadle.records.errors import TreadleError

FORMAT = 1
#: Bytes of the journal read at once.
_CHUNK = 1 << 20


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The journal's first line: whose it is and where it is to go (`target`: a server's address or the folder of a home)."""

    format: int
    project: str
    run_id: str
    target: str


class Journal:
    """One run's journal, open for appending; the file is locked against a second writer, not against readers."""

    def __init__(self, spool: Path, header: Header):
        spool.mkdir(parents=True, exist_ok=True)
        self.path = spool / f"{header.run_id}.jsonl"
        self.files = spool / f"{header.run_id}.files"
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise TreadleError(
                f"There is a journal of run {header.run_id} already: {self.path}.",
                remedy="Give the run an id of its own, or none; send what is left with: treadle sync",
                code="conflict",
            ) from error
        fcntl.flock(self._file, fcntl.LOCK_SH)  # lives with the process: `treadle sync` sees that the run is still written
        self._numbers = iter(range(1 << 62))
        self.append(msgspec.to_builtins(header))

    def append(self, entry: Any) -> None:
        """Add an entry: on its way to the disk when this returns, whatever happens to the process.

        Raises:
            TreadleError: `storage_full`.
        """
        line = msgspec.json.encode(entry) + b"\n"
        try:
            written = os.write(self._file, line)
            if written == len(line):
                return
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)  # the disk filled up in the middle of it
            reason = "the disk is full"
        except OSError as error:
            reason = error.strerror or type(error).__name__
        raise TreadleError(
            f"The journal {self.path} could not be written: {reason}.",
            remedy="Free space there, or put the journals elsewhere: TREADLE_SPOOL=/folder",
            code="storage_full",
        )

    def keep_file(self, content: bytes | Path) -> str:
        """Copy content into the journal's folder; returns its name there."""
        self.files.mkdir(exist_ok=True)
        name = f"{next(self._numbers):06d}"
        target = self.files / name
        if isinstance(content, Path):
            with content.open("rb") as source, target.open("xb") as copy:
                while chunk := source.read(_CHUNK):
                    copy.write(chunk)
        else:
            target.write_bytes(content)
        return name

    def close(self) -> None:
        """No more entries."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Reader:
    """Reads what has not been shipped of a journal, and remembers what has."""

    def __init__(self, path: Path):
        self.path = path
        self.files = path.with_suffix(".files")
        self._shipped = path.with_suffix(".shipped")
        self._refused = path.with_suffix(".refused")
        self._lock = path.with_suffix(".lock")
        self.header, self._start = self._read_header()
        self.position = self._read_position()

    def entries(self) -> Iterator[tuple[list[Any], int]]:
        """(entry, position behind it) of what was appended since `position`, as far as it is whole."""
        with self.path.open("rb") as file:
            file.seek(self.position)
            at = self.position
            for line in file:
                if not line.endswith(b"\n"):
                    return
                at += len(line)
                yield msgspec.json.decode(line), at

    def again(self) -> Iterator[list[Any]]:
        """Every entry from the first on, shipped or not, as far as it is whole."""
        with self.path.open("rb") as file:
            file.seek(self._start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield msgspec.json.decode(line)

    def acknowledge(self, position: int) -> None:
        """Everything before `position` is where it belongs."""
        fresh = self._shipped.with_suffix(".shipped.tmp")
        fresh.write_text(str(position))
        fresh.replace(self._shipped)
        self.position = position

    def refuse(self, entries: list[Any], error: TreadleError) -> None:
        """Keep entries that a server will not take, and why."""
        with self._refused.open("ab") as file:
            file.write(msgspec.json.encode({"error": msgspec.to_builtins(error.body()), "entries": entries}) + b"\n")

    @property
    def refusals(self) -> Path | None:
        """The file of refused entries, if there are any."""
        return self._refused if self._refused.exists() else None

    def empty(self) -> bool:
        """Whether everything in it has been shipped."""
        return self.position >= self.path.stat().st_size

    def remove(self) -> None:
        """Remove the journal and its files; what was refused stays."""
        for file in self.files.iterdir() if self.files.exists() else ():
            file.unlink()
        with contextlib.suppress(FileNotFoundError):
            self.files.rmdir()
        for path in (self._shipped, self.path, self._lock):
            path.unlink(missing_ok=True)

    def abandoned(self) -> bool:
        """Whether no process writes it any more."""
        with self.path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Be the only one who ships it; False where somebody else does."""
        with self._lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _read_header(self) -> tuple[Header, int]:
        with self.path.open("rb") as file:
            line = file.readline()
        try:
            header = msgspec.json.decode(line, type=Header)
        except msgspec.MsgspecError as error:
            raise TreadleError(
                f"{self.path} is no journal of a run.", remedy="Look at the file; remove it if it is not yours.", code="corrupt"
            ) from error
        if header.format > FORMAT:
            raise TreadleError(
                f"{self.path} was written by a newer release.", remedy="Upgrade: pip install --upgrade treadle", code="newer_schema"
            )
        return header, len(line)

    def _read_position(self) -> int:
        try:
            return max(int(self._shipped.read_text()), self._start)
        except (FileNotFoundError, ValueError):
            return self._start


def journals(spool: Path) -> list[Path]:
    """The journals in a spool, oldest first (ids sort by creation)."""
    return sorted(spool.glob("*.jsonl")) if spool.exists() else []
