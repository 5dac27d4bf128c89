"""The database: SQLite by default, PostgreSQL by URL; one way to read and one way to write.

A write is a function of a connection. On SQLite it is handed to the one writer thread of this process, which gathers what waits
into one transaction (a savepoint for each but the first, so that one failure undoes only itself), and answers after the commit
is on disk (`synchronous=FULL`): sixteen writers share one fsync. Between processes stands a file lock with a turnstile:
SQLite's own busy handler sleeps and retries, which starves writers, and a plain lock lets the holder grab it again before
anybody wakes. On PostgreSQL a write is a serialisable transaction of its own, run again after a serialisation failure or
deadlock, and then by itself, so that nobody starves; so a write function must be repeatable: read, decide and write through the
connection only. Either way writes behave as if they ran one after the other, and a read sees one snapshot.
"""

import contextlib
import errno
import fcntl
import functools
import os
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, exc, text
from sqlalchemy.pool import NullPool, QueuePool

from treadle.records.errors import TreadleError
from treadle.store.postgres import FORGOTTEN, SESSION, Kept, Session, alive

T = TypeVar("T")
#: A write function and where its value goes.
_Waiting = tuple[Callable[[Connection], Any], Future[Any]]

#: Most write functions in one transaction, and the longest that one may gather, in seconds: bounds what a waiting process waits.
BATCH = 256
BATCH_SECONDS = 0.05
#: Threads in which PostgreSQL writes that were submitted run, most writes at a time, and most connections that wait for the next one.
_SUBMITTED = 8
_AT_ONCE = 12
_KEPT, _KEPT_READERS = 8, 4
_RETRIES = 30
#: A PostgreSQL write that others undid so often is then done alone.
_PATIENCE = 2
#: Free pages that are given back in one transaction.
_PAGES = 500
#: How PostgreSQL isolates what reads and what writes.
_READS, _WRITES = "REPEATABLE READ", "SERIALIZABLE"
#: SQLSTATEs after which a PostgreSQL write runs again: serialisation failure, deadlock, a statement that was forgotten, and a key that a
#: concurrent write took meanwhile.
_UNDONE = ("40001", "40P01")
_AGAIN = (*_UNDONE, FORGOTTEN)
_TAKEN = "23505"


class Database:
    """A metadata database. Make it with `Database.open`; close it, or use it as a context manager."""

    def __init__(self, engine: Engine, write_engine: Engine, lock: "_Turnstile | None"):
        self._read = engine
        self._write = write_engine
        self._lock = lock
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._gate = threading.Lock()
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._readers, self._writers = Kept(engine, _KEPT_READERS), Kept(write_engine, _KEPT)
        self._door = threading.Lock()
        self._closed = False
        self._process = os.getpid()

    @classmethod
    def open(cls, url: str) -> "Database":
        """Open `sqlite:///path/to/file.db` or `postgresql://…`; the schema is checked by `migrate.ensure`, not here."""
        if url.startswith("sqlite:///"):
            path = Path(url.removeprefix("sqlite:///"))
            with _translated():
                path.parent.mkdir(parents=True, exist_ok=True)
                turnstile = _Turnstile(path)
                _switch_to_wal(path, turnstile)
            return cls(_sqlite(path, writes=False), _sqlite(path, writes=True), turnstile)
        if url.startswith("postgresql"):
            url = "postgresql+psycopg" + url[url.index("://") :]
            read = create_engine(url, poolclass=QueuePool, pool_size=4, max_overflow=12, isolation_level=_READS)
            write = create_engine(url, poolclass=NullPool, isolation_level=_WRITES)
            event.listen(read, "checkout", _check_alive)
            for engine, isolation in ((read, _READS), (write, _WRITES)):
                event.listen(engine, "before_cursor_execute", _flush)
                event.listen(engine, "connect", functools.partial(_set_up, isolation))
            return cls(read, write, None)
        raise TreadleError(
            f"{url.split(':')[0]!r} is no metadata database that Treadle knows.",
            remedy="Use sqlite:///path/to/treadle.db or postgresql://user@host/database.",
        )

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._read.dialect.name

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database, None for a server's."""
        return Path(str(self._read.url.database)) if self.dialect == "sqlite" else None

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that reads one consistent snapshot."""
        with _translated():
            if self._lock is not None:
                with self._read.connect() as connection:
                    yield connection
                return
            connection, session = self._readers.take()
            try:
                yield connection
            finally:
                self._readers.give(connection, session)

    def write(self, function: Callable[[Connection], T]) -> T:
        """Run `function(connection)` in a transaction and return its value once it is on disk.

        Its exception undoes it and is raised here. Must not be called from inside a write function.
        """
        if self._lock is None:
            self._check_open()
            return self._write_postgresql(function)
        return self.submit(function).result()

    def submit(self, function: Callable[[Connection], T]) -> Future[T]:
        """`write` for a caller whose thread must not wait, such as an event loop: the future is done once the value is on disk.

        It holds what `write` would return or raise, and is set in a thread of the database's: what is added to it with
        `add_done_callback` must be short. Cancelled before its turn, the function does not run; later it cannot be cancelled.
        """
        with self._door:
            self._check_open()
            if self._lock is None:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(_SUBMITTED, thread_name_prefix="treadle-writer")
                return self._pool.submit(self._write_postgresql, function)
            if self._writer is None:
                self._writer = threading.Thread(target=self._run_writer, name="treadle-writer", daemon=True)
                self._writer.start()
            elif threading.current_thread() is self._writer:
                raise RuntimeError("a write function must use its connection, not start another write")
            future: Future[T] = Future()
            self._queue.put((function, future))
        return future

    @contextlib.contextmanager
    def alone(self, purpose: str) -> Iterator[None]:
        """Let one process at a time do `purpose` (writes inside the block are transactions of their own).

        On PostgreSQL an advisory lock, which ends with its holder; on SQLite nothing, because writes are exclusive there.
        """
        if self._lock is not None:
            yield
            return
        with _translated(), self._read.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            key = {"purpose": f"treadle {purpose} "}
            connection.execute(text("SELECT pg_advisory_lock(hashtext(:purpose || current_schema()))"), key)
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(hashtext(:purpose || current_schema()))"), key)

    def give_back(self, *, whole: bool = False) -> int:
        """Give the space of deleted rows back to the disk; returns the bytes. On PostgreSQL that is the server's own business: 0.

        It goes in small transactions between those of others. `whole` writes the file anew instead: it needs as much space again, and
        writers wait for it, but a file that was made before space could be given back can from then on.
        """
        if self._lock is None or self.file is None:
            return 0
        before = self.file.stat().st_size
        if whole:
            with _translated(), self._lock.held(), contextlib.closing(sqlite3.connect(self.file, timeout=60)) as connection:
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                connection.execute("VACUUM")
        else:
            while self.write(_vacuum_some):
                pass
        with _translated(), contextlib.closing(sqlite3.connect(self.file, timeout=60)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return max(0, before - self.file.stat().st_size)

    def close(self) -> None:
        """Finish what waits and close all connections."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        if self._process == os.getpid():
            if self._writer is not None:
                self._writer.join()
            if self._pool is not None:
                self._pool.shutdown()
            self._readers.close()
            self._writers.close()
        self._read.dispose()
        self._write.dispose()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise TreadleError("The database is closed.", remedy="Open the home again: treadle.workshop.open_home()", code="unavailable")
        if self._process != os.getpid():
            raise RuntimeError("a database does not survive a fork: open it again in the child")

    # ── PostgreSQL ───────────────────────────────────────────────────────────────────────────────────────────────

    def _write_postgresql(self, function: Callable[[Connection], T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            places = _AT_ONCE if attempt > _PATIENCE else 1  # a write that others undid again and again has this process to itself
            self._take(places)
            connection, session = None, None
            try:
                connection, session = self._writers.take()
                answer = function(connection)
                if session.undone:
                    raise RuntimeError("a write function met an error that undid the transaction, and went on")
                session.commit()
                if connection.in_transaction():
                    connection.commit()
                return answer
            except exc.DBAPIError as error:
                state = getattr(error.orig, "sqlstate", None)
                # A kept connection dies with the server that it led to. Before the commit was asked for, nothing of the write stays.
                lost = error.connection_invalidated and not (session is not None and session.committing)
                if not (state in _AGAIN and attempt < _RETRIES) and not ((lost or state == _TAKEN) and attempt < 3):
                    raise _readable(error) from error.orig
                if lost:
                    self._writers.clear()
            finally:
                try:
                    if connection is not None and session is not None:
                        self._writers.give(connection, session)
                finally:
                    self._places.release(places)
            time.sleep(0.001 * 2 ** min(attempt, 4) * random.random())  # apart from each other, or they meet again

    def _take(self, places: int) -> None:
        """Wait for some of the places for writes to PostgreSQL. Whoever wants all holds the gate until the others have finished, so that
        nobody comes in between."""
        with self._gate:
            for _ in range(places):
                self._places.acquire()

    # ── SQLite: one writer thread ────────────────────────────────────────────────────────────────────────────────

    def _run_writer(self) -> None:
        assert self._lock is not None
        connection: Connection | None = None
        while (first := self._queue.get()) is not None:
            batch = [first] if first[1].set_running_or_notify_cancel() else []
            try:
                with self._lock.held():
                    connection = connection or self._write.connect()
                    try:
                        answers = self._commit(connection, batch)
                    except BaseException:
                        connection.close()
                        connection = None
                        raise
            except BaseException as error:  # noqa: BLE001  (whatever happens to the writer is told to every caller that waits)
                for _, future in batch:
                    if not future.done():
                        future.set_exception(_readable(error))
            else:
                for future, answer in answers:
                    future.set_result(answer)
        if connection is not None:
            connection.close()

    def _commit(self, connection: Connection, batch: list[_Waiting]) -> list[tuple[Future[Any], Any]]:
        """One transaction of what is in `batch` and what else waits, which is added to it; the answers of those that succeeded."""
        answers: list[tuple[Future[Any], Any]] = []
        deadline = time.monotonic() + BATCH_SECONDS
        driver: Any = connection.connection.dbapi_connection
        transaction = connection.begin()
        for function, future in self._growing(batch, deadline):
            # What fails before anything succeeded takes nobody's work with it: it needs no savepoint.
            if answers:
                driver.execute("SAVEPOINT one")
            try:
                answer = function(connection)
            except (exc.OperationalError, sqlite3.OperationalError):
                raise  # the disk or the database: the whole transaction is lost, and every caller in it is told
            except Exception as error:  # noqa: BLE001  (the function's own error undoes it alone, and is raised where it was called)
                if answers:
                    driver.execute("ROLLBACK TO one")
                    driver.execute("RELEASE one")
                else:
                    transaction.rollback()
                    transaction = connection.begin()
                future.set_exception(error)
                continue
            if not driver.in_transaction:
                raise sqlite3.OperationalError("a write function met an error that undid the transaction, and went on")
            if answers:
                driver.execute("RELEASE one")
            answers.append((future, answer))
        transaction.commit()
        return answers

    def _growing(self, batch: list[_Waiting], deadline: float) -> Iterator[_Waiting]:
        """What is in `batch`, then what waits in the queue, until nothing waits, it is full, or the deadline is over."""
        yield from batch
        while len(batch) < BATCH and time.monotonic() < deadline:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                return
            if waiting is None:
                self._queue.put(None)  # the word to stop: for the loop that reads it next, with nothing behind it
                return
            if waiting[1].set_running_or_notify_cancel():
                batch.append(waiting)
                yield waiting


def _check_alive(driver: Any, _record: Any, _proxy: Any) -> None:
    """Have the pool open another connection in place of one whose server went away while nobody used it."""
    if not alive(driver):
        raise exc.DisconnectionError


def _set_up(isolation: str, driver: Any, _record: Any) -> None:
    """Have the server isolate transactions that do not say how, and keep one plan of each prepared statement: ours are written for one
    index each, and a plan costs more than most."""
    driver.execute(f"SET plan_cache_mode = force_generic_plan; SET default_transaction_isolation = '{isolation}'")
    driver.commit()


def _flush(connection: Connection, *_: Any) -> None:
    """The toolkit's statements come behind those that were put off."""
    session: Session | None = connection.info.get(SESSION)
    if session is not None:
        session.flush()


class _Turnstile:
    """A lock between processes that its last holder cannot grab again past somebody who waits.

    Whoever wants the lock takes the gate first, then the lock, then gives the gate back. While one waits for the lock it holds the
    gate, so the holder, coming back, queues behind it.
    """

    def __init__(self, database: Path):
        self._gate = os.open(f"{database}.gate", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file descriptors back."""
        os.close(self._gate)
        os.close(self._lock)


def _sqlite(path: Path, *, writes: bool) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=1 if writes else 8,
        max_overflow=0 if writes else 24,
        connect_args={"check_same_thread": False, "timeout": 60, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "cache_size=-16000", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        if not writes:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # The driver's own implicit BEGIN is off: a reader takes a snapshot, a writer the write lock, at once and not at its first write.
        driver: Any = connection.connection.dbapi_connection
        driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _switch_to_wal(path: Path, turnstile: _Turnstile) -> None:
    """Journal mode is a property of the file; changing it needs the file alone, without SQLite waiting for that."""
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            with turnstile.held():
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # of a new file: what is deleted can be given back (`give_back`)
                connection.execute("PRAGMA journal_mode=WAL")


def _vacuum_some(tx: Connection) -> bool:
    """Give some free pages back; whether there are more that can be."""
    free = tx.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    if not free:
        return False
    with contextlib.closing(tx.connection.cursor()) as cursor:  # a step frees a page, and only the driver's own cursor takes them all
        cursor.execute(f"PRAGMA incremental_vacuum({_PAGES})")
        cursor.fetchall()
    return 0 < tx.exec_driver_sql("PRAGMA freelist_count").scalar_one() < free


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (exc.OperationalError, exc.DataError, sqlite3.OperationalError, OSError) as error:
        readable = _readable(error)
        if readable is error:
            raise
        raise readable from error


def _readable(error: BaseException) -> BaseException:
    """A driver's operational error in words, and a text that PostgreSQL cannot hold; anything else as it is."""
    said = str(getattr(error, "orig", error)).strip().splitlines()[0:1]
    first = said[0] if said else type(error).__name__
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, exc.DataError) and "NUL" in first:
        return TreadleError("A text has a NUL character in it, which the database cannot hold.", remedy="Leave it out.", code="bad_request")
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    if state in _UNDONE:
        return TreadleError(
            "Others changed the same things each time that this was tried; nothing of it was kept.",
            remedy="Repeat the call, best when less is going on.",
            code="busy",
        )
    broken = isinstance(error, exc.OperationalError | sqlite3.OperationalError)
    if full or (broken and ("disk is full" in first or "disk I/O error" in first or "No space left" in first)):
        return TreadleError(
            f"The disk did not take the write: {first}. Nothing of it was kept.",
            remedy="Free space on the disk that holds the home (df -h), then repeat the call: treadle doctor",
            code="storage_full",
        )
    if broken and state != FORGOTTEN and "no such table" not in first:
        return TreadleError(
            f"The metadata database does not answer: {first}.",
            remedy="Check that it runs and that the address is right: treadle doctor",
            code="unavailable",
        )
    return error


def ping(database: Database) -> float:
    """Seconds that one trivial read takes."""
    start = time.perf_counter()
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
    return time.perf_counter() - start
