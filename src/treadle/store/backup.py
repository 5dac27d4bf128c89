"""Backup and restore of a live home.

The order makes it consistent while others write: first the metadata database, as one snapshot, then what its rows refer to. Blobs
are immutable; a Delta table's log is copied before its data files, which were all there when the log named them; log segments are
readable to their last complete record. What was written meanwhile is extra, never missing. Every file stands in `manifest.json`
with its digest, and a restore verifies each one before the home appears, whole or not at all.

A PostgreSQL database is backed up as the same SQLite file, so that one format can be restored to either. Blobs in object storage
are copied like those of the disk, and a restore makes a home that has them on its disk; or the backup names the bucket and what it
needs of it, and a restore makes a home that goes on using it.
"""

import contextlib
import datetime as dt
import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from blake3 import blake3
from msgspec import Struct
from sqlalchemy import Connection, func, insert, select

from treadle.plugins.storage import CollectableBlobs
from treadle.records.clock import SystemClock
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.layout import Layout
from treadle.store import migrate, tables
from treadle.store.blobs import digest_of_file, place, sync
from treadle.store.bucket import address
from treadle.store.db import Database
from treadle.store.objects import ObjectBlobs

MANIFEST = "manifest.json"
#: 1: everything is in the backup. 2: the blobs are in a bucket that it names.
FORMAT = 2
_CHUNK = 1 << 20
#: Not carried over: addresses of processes, locks, SQLite's own side files, and the metadata database, which is copied by itself.
_LEFT = ("processes", "treadle.db", "treadle.db-wal", "treadle.db-shm", "treadle.db.gate", "treadle.db.lock", "store.url", "blobs.url")


class BackupFile(Struct, frozen=True):
    """A file of a backup: its path in the home, bytes and BLAKE3."""

    path: str
    size: int
    digest: str


class Backup(Struct, frozen=True, kw_only=True):
    """The manifest of a backup. `blobs` is the bucket of one without blobs, and `needs` their digests there."""

    format: int
    home_id: str
    revision: str
    made: dt.datetime
    files: list[BackupFile]
    blobs: str = ""
    needs: list[str] = []


def backup(layout: Layout, database: Database, blobs: CollectableBlobs, target: Path, *, with_blobs: bool = True) -> Backup:
    """Copy a live home to a new folder.

    Args:
        with_blobs: copy blobs that are in object storage too; otherwise say only where they are and which are needed.

    Raises:
        TreadleError: `conflict` where `target` exists, `busy` during a garbage collection, `corrupt` for a blob that is not what its
            name says, `storage_full`, `unavailable`. Nothing is left at `target` then.
    """
    _must_be_free(target, "Give a folder that does not exist yet: treadle backup backups/2013-03-31")
    if not with_blobs and not isinstance(blobs, ObjectBlobs):
        raise TreadleError(
            "The blobs of this home are on its own disk, and a backup without them could not be restored.",
            remedy=f"Leave out --without-blobs: treadle backup {target}",
        )
    with _appearing(target) as new, blobs.maintenance("the backup"):
        copy_database(database, new / "treadle.db")
        with contextlib.closing(sqlite3.connect(new / "treadle.db")) as connection:
            home_id, revision = (connection.execute(q).fetchone()[0] for q in (_HOME_ID, _REVISION))
        files = [BackupFile("treadle.db", (new / "treadle.db").stat().st_size, digest_of_file((new / "treadle.db").open("rb")))]
        if with_blobs:
            files += (_blob(blobs, digest, new) for digest, _ in blobs.listing())
        for path in _in_order(layout.root):
            copied = _copied(layout.root, path, new)
            if copied is not None:
                files.append(copied)
        made = Backup(format=1, home_id=home_id, revision=revision, made=SystemClock().now(), files=files)
        if not with_blobs and isinstance(blobs, ObjectBlobs):
            needs = [digest for digest, _ in blobs.listing()]
            made = msgspec.structs.replace(made, format=2, blobs=str(blobs.bucket.address), needs=needs)
        _write(new / MANIFEST, msgspec.json.format(msgspec.json.encode(made)))
    return made


def restore(source: Path, layout: Layout, database: Database | None = None, *, url: str = "") -> Backup:
    """Make a home from a backup. It gets an id of its own: the home that was copied may live on, and both publish their heads by their id.
    One whose blobs stay in a bucket keeps its id, as the bucket is one home's.

    Args:
        database: an opened, empty database that the metadata shall go to; the home's own SQLite file where None.
        url: that database's, which the home keeps.

    Raises:
        TreadleError: `conflict` where the home is not empty, `not_found` or `corrupt` for a backup that is none or not whole,
            `newer_schema`; `unavailable` where a bucket that it names is. The home is left as it was.
    """
    if layout.root.exists() and any(layout.root.iterdir()):
        raise TreadleError(
            f"{layout.root} is not empty, and a restore replaces nothing.",
            remedy=f"Name a new home: treadle restore {source} --home NEW",
            code="conflict",
        )
    made = read(source)
    with _appearing(layout.root) as new:
        for file in made.files:
            path = new / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if not (source / file.path).exists() or _copy(source / file.path, path) != file.digest:
                raise _corrupt(source, file.path)
        if made.blobs:  # only one of them can own the bucket, so this one goes on as what it was
            _look_for(made, source, new)
            _write(Layout(new).blobs_url, f"{made.blobs}\n".encode())
        else:
            _as_another_home(new / "treadle.db")
        if database is not None:
            load_database(new / "treadle.db", database)
            for side in ("", ".gate", ".lock"):
                (new / f"treadle.db{side}").unlink(missing_ok=True)
            _write(new / "store.url", f"{url}\n".encode())
    return made


def read(source: Path) -> Backup:
    """A backup's manifest.

    Raises:
        TreadleError: `not_found`, `corrupt`, `newer_schema`.
    """
    if not (source / MANIFEST).exists():
        raise TreadleError(f"{source} is no backup: it has no {MANIFEST}.", remedy="Make one: treadle backup TARGET", code="not_found")
    try:
        made = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Backup)
    except msgspec.MsgspecError as error:
        raise _corrupt(source, MANIFEST) from error
    if made.format > FORMAT or made.revision not in migrate.REVISIONS:
        raise TreadleError(
            f"{source} was made by a newer release (format {made.format}, schema {made.revision}).",
            remedy="Upgrade Treadle: pip install --upgrade treadle",
            code="newer_schema",
        )
    if any(Path(file.path).is_absolute() or ".." in Path(file.path).parts for file in made.files):
        raise _corrupt(source, MANIFEST)
    return made


def verify(source: Path) -> list[str]:
    """Paths in a backup that are missing or not what its manifest says; none when it is whole."""
    return [
        f.path for f in read(source).files if not (source / f.path).exists() or digest_of_file((source / f.path).open("rb")) != f.digest
    ]


# ── the metadata database ────────────────────────────────────────────────────────────────────────────────────────────

_NEW_ID = "UPDATE home SET value = ? WHERE name = 'home_id'"
_HOME_ID = "SELECT value FROM home WHERE name = 'home_id'"
_REVISION = "SELECT version_num FROM alembic_version"


def _as_another_home(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_NEW_ID, [new_id("home")])
    sync(path)


def copy_database(database: Database, path: Path) -> None:
    """One snapshot of a database as a SQLite file, from SQLite by its own backup API, from PostgreSQL row by row."""
    if database.file is not None:
        _copy_sqlite(database.file, path)
        return
    with Database.open(f"sqlite:///{path}") as copy:
        migrate.ensure(copy)
        with database.read() as connection:
            copy.write(lambda tx: _copy_rows(connection, tx))
    _settle(path)


def load_database(path: Path, database: Database) -> None:
    """The rows of a backed-up SQLite file into an empty database, in one transaction.

    Raises:
        TreadleError: `conflict` where the database has anything in it.
    """
    with Database.open(f"sqlite:///{path}") as copy:
        migrate.ensure(copy)  # an older backup comes to this release's schema first
        migrate.ensure(database)
        with copy.read() as connection:
            database.write(lambda tx: _load_rows(connection, tx))


def _load_rows(source: Connection, tx: Connection) -> None:
    if any(tx.execute(select(func.count()).select_from(table)).scalar() for table in (tables.events, tables.runs, tables.actors)):
        raise TreadleError(
            "The metadata database is not empty, and a restore replaces nothing.",
            remedy="Name an empty database: --store postgresql://user@host/new",
            code="conflict",
        )
    _copy_rows(source, tx)


def _copy_rows(source: Connection, target: Connection) -> None:
    target.execute(tables.home.delete())  # a fresh schema has its own home's id
    for table in tables.metadata.sorted_tables:
        rows = source.execute(select(table).execution_options(yield_per=2000))
        for part in rows.partitions():
            target.execute(insert(table), [dict(zip(rows.keys(), row, strict=True)) for row in part])


def _copy_sqlite(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source, timeout=60)) as old, contextlib.closing(sqlite3.connect(target)) as new:
        old.backup(new)
    _settle(target)


def _settle(path: Path) -> None:
    """Leave a database as one file on disk."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    for side in (".gate", ".lock"):
        Path(f"{path}{side}").unlink(missing_ok=True)
    sync(path)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _in_order(root: Path) -> Iterator[Path]:
    """Files of a home, blobs aside, in the order in which they may be copied while others write."""
    for entry in sorted(root.iterdir()):
        if entry.name in (*_LEFT, "blobs"):
            continue
        if entry.is_file():
            yield entry
        else:
            files = [f for f in entry.rglob("*") if f.is_file()]
            yield from sorted(files, key=lambda f: ("_delta_log" not in f.parts, f.name != "_last_checkpoint", str(f)))


def _copied(root: Path, path: Path, new: Path) -> BackupFile | None:
    """A file copied; None for one that has gone meanwhile or stands for nothing by itself."""
    name = path.relative_to(root).as_posix()
    target = new / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".db-wal", ".db-shm", ".tmp", ".gate", ".lock"):
        return None
    try:
        if path.suffix == ".db":
            _copy_sqlite(path, target)
            digest = digest_of_file(target.open("rb"))
        else:
            digest = _copy(path, target)
    except FileNotFoundError:
        return None
    return BackupFile(name, target.stat().st_size, digest)


def _blob(blobs: CollectableBlobs, digest: str, new: Path) -> BackupFile:
    """A blob copied. None can go meanwhile: collections wait for the backup."""
    name = f"blobs/{place(digest)}"
    target = new / name
    target.parent.mkdir(parents=True, exist_ok=True)
    opened = blobs.peek(digest)
    if opened is None or _copy_stream(opened[0], target) != digest:
        raise TreadleError(
            f"Blob {digest} is corrupt: a backup of it would be worthless.",
            remedy=f"Restore it from an older backup, or delete {name} where the blobs are and run the step that made it again.",
            code="corrupt",
        )
    return BackupFile(name, target.stat().st_size, digest)


def _look_for(made: Backup, source: Path, new: Path) -> None:
    """See that the bucket has what a backup without blobs needs."""
    with tempfile.TemporaryDirectory(dir=new) as folder:
        there = {digest for digest, _ in ObjectBlobs(Path(folder), address(made.blobs), home_id=made.home_id).listing()}
    missing = [digest for digest in made.needs if digest not in there]
    if missing:
        raise TreadleError(
            f"{made.blobs} lacks {len(missing):,} of the {len(made.needs):,} blobs that the backup {source} refers to, {missing[0]} first.",
            remedy="Bring them back from the bucket's versions or a copy of it, or use another backup; nothing was restored from this one.",
            code="corrupt",
        )


def _copy(source: Path, target: Path) -> str:
    """Copy a file to disk, and its digest on the way."""
    return _copy_stream(source.open("rb"), target)


def _copy_stream(source: BinaryIO, target: Path) -> str:
    hasher = blake3()
    with source as reading, target.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            hasher.update(chunk)
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
    return hasher.hexdigest()


def _is(path: Path, digest: str) -> bool:
    """Whether a file is there and what it was."""
    return path.exists() and digest_of_file(path.open("rb")) == digest


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sync(path)


def _must_be_free(target: Path, remedy: str) -> None:
    if target.exists():
        raise TreadleError(f"{target} exists already.", remedy=remedy, code="conflict")


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder that gets its name when the block is through, and is removed when it fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.parent / f".{target.name}.{secrets.token_hex(4)}.partial"
    new.mkdir()
    try:
        yield new
        sync(new)
        if target.exists():
            target.rmdir()  # empty, or this fails
        new.rename(target)
        sync(target.parent)
    except OSError as error:
        raise TreadleError(
            f"The disk did not take it: {error}. Nothing was left at {target}.",
            remedy="Free space, or name a folder on another disk: df -h",
            code="storage_full",
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _corrupt(source: Path, path: str) -> TreadleError:
    return TreadleError(
        f"{path} of the backup {source} is missing or not what was backed up.",
        remedy="Use another backup; nothing was restored from this one.",
        code="corrupt",
    )
