"""Opening a home: settings → database, blobs → one service per room → the one door.

Everything is made here, once, and handed down; nothing is global. Closing goes in reverse.
"""

import datetime as dt
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from treadle.data.service import DataService
from treadle.ledger.access import Access
from treadle.ledger.dispatch import Dispatcher
from treadle.ledger.sealer import home_id
from treadle.ledger.service import Ledger
from treadle.monitoring.service import Monitoring
from treadle.pipelines.service import Pipelines
from treadle.plugins.storage import CollectableBlobs
from treadle.records.calls import Actor, Role
from treadle.records.clock import Clock, SystemClock
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.registry.service import Registry
from treadle.releases.publish import Publisher
from treadle.releases.service import Releases
from treadle.store.db import Database
from treadle.store.migrate import ensure, revision
from treadle.store.queries import home as home_queries
from treadle.store.queries.disposable import empty
from treadle.tracking.service import services as tracking_services
from treadle.workshop.blobs import open_blobs
from treadle.workshop.overview import Rooms
from treadle.workshop.places import home_path
from treadle.workshop.removal import Removals
from treadle.workshop.service import Workbench
from treadle.workshop.webhooks import Tries

STORE_FILE = "store.url"
#: The named value of a home that was made for tests to empty.
DISPOSABLE = "disposable"


class Workshop:
    """A home with every room open. Close it, or use it as a context manager.

    Attributes:
        layout, database, blobs: the ground the rooms stand on.
        ledger, pipelines, data, registry, releases, monitoring, workbench: the rooms' services.
        dispatch: the one door for operations.
        actor: who calls when `call` is not told otherwise.
    """

    def __init__(
        self, layout: Layout, database: Database, blobs: CollectableBlobs, *, clock: Clock | None = None, actor: Actor | None = None
    ):
        self.layout = layout
        self.database = database
        self.clock: Clock = clock or SystemClock()
        self.blobs = blobs
        self.access = Access(database)
        self.ledger = Ledger(database, self.blobs)
        self.pipelines = Pipelines(database, clock=self.clock)
        self.data = DataService(database, layout, self.blobs)
        self.registry = Registry(database, self.blobs)
        self.publisher = Publisher(database, layout, self.blobs)
        self.releases = Releases(database, self.publisher)
        self.monitoring = Monitoring(database, layout, self.blobs, self.data)
        rooms = Rooms(self.ledger, self.pipelines, self.data, self.registry, self.releases, self.monitoring)
        self.workbench = Workbench(layout, self.blobs, rooms)
        rooms_services = (self.ledger, self.pipelines, self.data, self.registry, self.releases, self.monitoring, self.workbench)
        self.removals = Removals(database, self.blobs)
        services = (*rooms_services, *tracking_services(self.blobs), self.removals, Tries())
        self.dispatch = Dispatcher(database, services, clock=self.clock)
        self.data.dispatch = self.removals.dispatch = self.dispatch
        self.actor = actor or self.access.actor_here()

    def call(self, request: Any, *, idempotency_key: str | None = None, event_time: dt.datetime | None = None) -> Any:
        """Run an operation as `self.actor`."""
        return self.dispatch(request, actor=self.actor, idempotency_key=idempotency_key, event_time=event_time)

    @property
    def home_id(self) -> str:
        """What tells this home from all others."""
        return home_id(self.database)

    @property
    def disposable(self) -> bool:
        """Whether this home was made to be emptied by tests, and is opened for that."""
        with self.database.read() as connection:
            return disposable_asked() and home_queries.get_value(connection, DISPOSABLE) is not None

    def reset(self, actor: Actor) -> None:
        """Empty a disposable home: experiments, runs, models and all else but actors and events.

        Raises:
            TreadleError: `denied` where the home is none, or the actor no admin.
        """
        if not self.disposable or actor.role != Role.admin:
            raise TreadleError(
                "This home is not one to be emptied, or you are not its admin.",
                remedy="Make a fresh one for tests, and start it, with TREADLE_DISPOSABLE=1.",
                code="denied",
            )
        self.database.write(empty)

    def close(self) -> None:
        """Finish what is being written and close the database."""
        self.database.close()

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def open_home(
    root: Path | str | None = None,
    *,
    store: str | None = None,
    blobs: str | None = None,
    clock: Clock | None = None,
    actor: Actor | None = None,
) -> Workshop:
    """Open a home, making it where there is none.

    Args:
        root: the folder; see `home_path`.
        store: URL of another metadata database than the home's own SQLite file; kept in the home for the next time.
        blobs: where the blobs are: `s3://BUCKET/PREFIX`, or `local`; TREADLE_BLOBS where None. Kept in the home for the next time, and
            no other is taken then.
        clock: business time; the machine's where None.
        actor: who calls; the owner of the home (or the holder of TREADLE_TOKEN) where None.

    Raises:
        TreadleError: `newer_schema`, `unavailable`, `corrupt`; `conflict` for blobs that are elsewhere.
    """
    layout = Layout(home_path(root))
    layout.root.mkdir(parents=True, exist_ok=True)
    database = Database.open(store or store_url(layout))
    try:
        if store and store != store_url(layout):
            _move(layout, store, database)
        ensure(database, marks={DISPOSABLE: "yes"} if disposable_asked() else None)
        workshop = Workshop(layout, database, open_blobs(layout, blobs, home_id(database)), clock=clock, actor=actor)
        if store:
            _keep(layout, store)
        return workshop
    except BaseException:
        database.close()
        raise


def disposable_asked() -> bool:
    """Whether TREADLE_DISPOSABLE=1: a home that is made now is for tests, which may empty it."""
    return os.environ.get("TREADLE_DISPOSABLE") == "1"


def store_url(layout: Layout) -> str:
    """The metadata database of a home: as told before (`store.url` in the home), or its own SQLite file."""
    kept = layout.root / STORE_FILE
    return kept.read_text().strip() if kept.exists() else layout.database_url


def _keep(layout: Layout, store: str) -> None:
    kept = layout.root / STORE_FILE
    if store == layout.database_url:
        kept.unlink(missing_ok=True)
    elif store_url(layout) != store:
        kept.write_text(store + "\n")


def _move(layout: Layout, store: str, database: Database) -> None:
    """A home with metadata takes the address of another database only if there is a home in it: an empty one would hide all it has."""
    has = (layout.root / STORE_FILE).exists() or layout.database.exists()
    if has and store != layout.database_url and revision(database) is None:
        raise TreadleError(
            f"{layout.root} has its metadata elsewhere, and the database of --store is empty.",
            remedy="Leave --store out. To move the home: treadle backup COPY, then treadle restore COPY --home NEW --store URL",
            code="conflict",
        )
