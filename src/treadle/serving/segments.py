"""The prediction log's files: memory-mapped segments that outlive the process which fills them.

A gateway worker copies each encoded record into a segment of its own before it answers. The pages belong to the kernel, so
`kill -9` loses none of them; `sync` puts them on disk in groups. A record's place is its name: `SEGMENT-OFFSET-ROW` opens one
file at one offset. Readers use `pread`, not a mapping, because a mapping of a file that its writer truncates is a bus error.

    b"TRDLSEG1" · frame(header) · frame(record) · frame(record) · … · seal | zeros
    frame = length u32 · crc32 u32 · MessagePack     (little endian; the length is written last: zero means "not yet")

A sealed segment ends with length 0xFFFFFFFF and grows no more. One whose writer died ends at its last complete record and is
sealed by the next gateway that starts (`seal_orphans`). `monitoring` folds segments into a Delta table.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from treadle.records.errors import TreadleError
from treadle.records.ids import base32
from treadle.records.serving import LogEntry, Segment

MAGIC = b"TRDLSEG1"
SEAL = 0xFFFFFFFF
_SEAL_FRAME = struct.pack("<II", SEAL, crc32(b"sealed"))
_FRAME = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_CHUNK = 1 << 20
#: Size of a segment file; the last records of a full one are followed by a seal.
CAPACITY = 64 << 20

_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(Segment)
_entry_decoder = msgspec.msgpack.Decoder(LogEntry)


class SegmentWriter:
    """One open segment. Not thread-safe by itself: `serving.log.PredictionLog` holds the lock.

    Args:
        folder: the gateway's log folder.
        capacity: bytes reserved on disk at once, so that a full disk is an error here and not a bus error later.

    Raises:
        TreadleError: `storage_full`.
    """

    def __init__(self, folder: Path, *, project: str, environment: str, worker: str, capacity: int = CAPACITY, now_us: int | None = None):
        opened = time.time_ns() // 1000 if now_us is None else now_us
        name = base32(opened // 1000, 10) + base32(int.from_bytes(os.urandom(5), "big"), 8)
        self.header = Segment(segment=name, project=project, environment=environment, worker=worker, opened=opened)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.seg"
        self.capacity = capacity
        partial = folder / f"{name}.tmp"
        self._file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)  # held while this process lives: how others know
            _reserve(self._file, capacity)
            self._map = mmap.mmap(self._file, capacity)
            header = _encoder.encode(self.header)
            start = len(MAGIC) + _FRAME.size + len(header)
            self._map[:start] = MAGIC + _FRAME.pack(len(header), crc32(header)) + header
            partial.rename(self.path)
        except BaseException:
            os.close(self._file)
            partial.unlink(missing_ok=True)
            raise
        #: Offset of the first record, and of the next one.
        self.start = self.end = start
        self._closed = False

    @property
    def segment(self) -> str:
        """Its name."""
        return self.header.segment

    def fits(self, size: int) -> bool:
        """Whether a payload of `size` bytes still fits, a seal after it included."""
        return self.end + 2 * _FRAME.size + size <= self.capacity

    def append(self, payload: bytes) -> int:
        """Copy one encoded record in; returns its offset. The length goes in last, so a reader never sees half a record."""
        offset = self.end
        size = len(payload)
        start = offset + _FRAME.size
        mapped = self._map
        mapped[start : start + size] = payload
        _LENGTH.pack_into(mapped, offset + 4, crc32(payload))
        _LENGTH.pack_into(mapped, offset, size)
        self.end = start + size
        return offset

    def sync(self) -> None:
        """Put what was appended on disk. (`fdatasync` writes mapped pages too, and unlike `mmap.flush` lets other threads run.)"""
        _datasync(self._file)

    def close(self, *, seal: bool = True) -> None:
        """Seal, cut the file to its length, sync. Calling it again changes nothing."""
        if self._closed:
            return
        self._closed = True
        if seal:
            self._map[self.end : self.end + _FRAME.size] = _SEAL_FRAME
        self._map.close()
        try:
            if seal:
                os.ftruncate(self._file, self.end + _FRAME.size)
            _datasync(self._file)
        finally:
            os.close(self._file)


class SegmentReader:
    """Reads one segment, open, orphaned or sealed.

    Raises:
        TreadleError: `not_found`; `corrupt` for a file that is no segment.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with path.open("rb", buffering=0) as file:
                start = os.pread(file.fileno(), 4096, 0)
        except FileNotFoundError as error:
            raise _gone(path.stem) from error
        frame = _frame(start, len(MAGIC)) if start.startswith(MAGIC) else None
        if frame is None:
            raise TreadleError(f"{path} is no prediction log segment.", remedy=f"Look at the file: xxd {path} | head", code="corrupt")
        self.header: Segment = _header_decoder.decode(frame)
        #: Where the first record stands.
        self.start = len(MAGIC) + _FRAME.size + len(frame)
        #: Where the last iteration of `entries` stopped: the offset to go on from.
        self.end = self.start
        #: Whether the last iteration of `entries` met the seal: nothing will ever follow `end`.
        self.sealed = False

    @property
    def segment(self) -> str:
        """Its name."""
        return self.header.segment

    def entries(self, offset: int = 0, limit: int | None = None) -> Iterator[tuple[int, LogEntry]]:
        """Complete records from `offset` (0: the first) on, each with its offset; `end` and `sealed` follow the iteration.

        Raises:
            TreadleError: `corrupt`, a record of a sealed segment that no longer matches its checksum.
        """
        for place, payload in self.payloads(offset, limit):
            yield place, _entry_decoder.decode(payload)

    def payloads(self, offset: int = 0, limit: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Like `entries`, but the records' bytes as they stand."""
        self.end, self.sealed = max(offset, self.start), False
        given = 0
        with self.path.open("rb", buffering=0) as file:
            buffer, base = b"", self.end
            while limit is None or given < limit:
                at = self.end - base
                size, checksum = _FRAME.unpack_from(buffer, at) if len(buffer) >= at + _FRAME.size else (None, 0)
                if size == SEAL:
                    self.sealed = True
                    return
                if size is None or (size and len(buffer) < at + _FRAME.size + size):
                    wanted = _FRAME.size + (size or 0)
                    base, buffer = self.end, os.pread(file.fileno(), max(_CHUNK, wanted), self.end)
                    if len(buffer) < wanted:
                        return
                    continue
                payload = buffer[at + _FRAME.size : at + _FRAME.size + size]
                if not size:
                    return
                if crc32(payload) != checksum:
                    self._torn()
                    return
                place = self.end
                self.end += _FRAME.size + size
                given += 1
                yield place, payload

    def is_open(self) -> bool:
        """Whether its writer still lives (it holds the file's lock)."""
        return _locked(self.path)

    def _torn(self) -> None:
        """A checksum that does not hold: the torn tail of a segment without a seal, damage in one with it."""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - _FRAME.size))
            if file.read() == _SEAL_FRAME:
                raise TreadleError(
                    f"Segment {self.segment} is damaged at offset {self.end}: the record no longer matches its checksum.",
                    remedy=f"Restore {self.path} from a backup; records before that offset are intact.",
                    code="corrupt",
                    details={"segment": self.segment, "offset": self.end},
                )


def segments(folder: Path) -> list[Path]:
    """The segment files of a log folder, oldest first."""
    return sorted(folder.glob("*.seg"))


def prediction_id(segment: str, offset: int, row: int) -> str:
    """The name of one prediction.

    >>> prediction_id("01kd", 255, 2)
    '01kd-ff-2'
    """
    return f"{segment}-{offset:x}-{row}"


def parse_prediction_id(text: str) -> tuple[str, int, int]:
    """Segment, offset and row of a prediction id.

    Raises:
        TreadleError: it is none.

    >>> parse_prediction_id("01kd-ff-2")
    ('01kd', 255, 2)
    """
    parts = text.split("-")
    with contextlib.suppress(ValueError):
        if len(parts) == 3 and parts[0].isascii() and parts[0].isalnum() and "_" not in text:
            offset, row = int(parts[1], 16), int(parts[2])
            if offset >= 0 and row >= 0:
                return parts[0], offset, row
    raise TreadleError(
        f"{text[:80]!r} is no prediction id.",
        remedy="Copy an id from the `ids` of an answer; it looks like 01kd3v5x9c2mf7qh1a-1f40-0.",
    )


def find(folder: Path, text: str) -> tuple[Segment, LogEntry, int]:
    """The record of a prediction: segment header, entry, row in it. Opens one file.

    Raises:
        TreadleError: `not_found` (also where the segment was dropped after its retention), `corrupt`.
    """
    segment, offset, row = parse_prediction_id(text)
    reader = SegmentReader(folder / f"{segment}.seg")
    if offset >= reader.start:
        for place, entry in reader.entries(offset, limit=1):
            if place == offset and row < max(entry.rows, 1):
                return reader.header, entry, row
    raise TreadleError(
        f"Segment {segment} has no prediction at {offset:x}-{row}.",
        remedy="Copy the id from the `ids` of an answer, unchanged.",
        code="not_found",
    )


def seal_orphans(folder: Path) -> list[Path]:
    """Seal the segments whose writers died, each after its last complete record; returns the files sealed."""
    done = []
    for path in segments(folder):
        reader = SegmentReader(path)
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for _ in reader.payloads():
                pass
            if not reader.sealed:
                os.pwrite(file.fileno(), _SEAL_FRAME, reader.end)
                os.ftruncate(file.fileno(), reader.end + _FRAME.size)
                _datasync(file.fileno())
                done.append(path)
    for partial in folder.glob("*.tmp"):
        if not _locked(partial):
            partial.unlink(missing_ok=True)
    return done


def _frame(buffer: bytes, at: int) -> bytes | None:
    if len(buffer) < at + _FRAME.size:
        return None
    size, checksum = _FRAME.unpack_from(buffer, at)
    payload = buffer[at + _FRAME.size : at + _FRAME.size + size]
    return payload if len(payload) == size and crc32(payload) == checksum else None


def _locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _reserve(file: int, capacity: int) -> None:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, capacity)
        else:  # macOS: real zeros, so that the blocks exist
            for start in range(0, capacity, _CHUNK):
                os.pwrite(file, bytes(min(_CHUNK, capacity - start)), start)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise TreadleError(
                f"The disk is full: no room for a prediction log segment of {capacity >> 20} MB, so predictions cannot be logged.",
                remedy="Free space on the disk that holds the home: treadle gc --dry-run",
                code="storage_full",
            ) from error
        raise


def _datasync(file: int) -> None:
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(file)


def _gone(segment: str) -> TreadleError:
    return TreadleError(
        f"There is no prediction log segment {segment} here.",
        remedy="Check the id and the environment; a segment is dropped after its retention, its predictions stay in the prediction table.",
        code="not_found",
    )
