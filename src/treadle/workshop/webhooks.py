"""Telling webhooks: sealed events → an outbox in the database → one POST each, until it is answered well.

`Courier.look` reads sealed events behind the cursor `webhooks` and writes what they say into the outbox, in one transaction with the
cursor: a worker that is killed loses nothing and writes nothing twice. `Courier.send` takes what is due for as long as an attempt may last
(`LEASE`), posts it, and writes down what became of it. A worker that is killed in between leaves a delivery that another takes when that
time is over; so a receiver may meet one twice, under the same delivery id. Answers of 200 to 299 end a delivery; after any other it is
tried again, later and later, for three days.
"""

import base64
import datetime as dt
import hashlib
import hmac
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from treadle.client.posting import NotSentError, post
from treadle.ledger import events as log
from treadle.operations.table import implements
from treadle.operations.webhooks import TryWebhook
from treadle.records.calls import Call
from treadle.records.clock import Clock, SystemClock
from treadle.records.errors import TreadleError
from treadle.records.ledger import Event
from treadle.records.models import WebhookTest
from treadle.registry.addresses import check_address
from treadle.registry.hearing import EVENTS, TYPES, body, example, heard
from treadle.registry.webhooks import no_webhook
from treadle.store.db import Connection, Database
from treadle.store.queries import deliveries as queries
from treadle.store.queries import webhooks
from treadle.store.queries.events import EVERY
from treadle.store.queries.pipelines import last_sealed
from treadle.tracking.limits import check_id

READER = "webhooks"
#: Longest that an attempt may take, name resolution aside, in seconds.
TIMEOUT = 5.0
#: How long a delivery that is being attempted is left to who attempts it.
LEASE = dt.timedelta(seconds=60)
#: Wait after the first attempt; each further one waits thrice as long, an hour at most.
FIRST, LONGEST = dt.timedelta(seconds=5), dt.timedelta(hours=1)
#: How long a delivery is tried, and how long it is remembered.
GIVE_UP, KEEP = dt.timedelta(days=3), dt.timedelta(days=7)
#: Attempts at a time: of all webhooks, and of one, so that a slow receiver holds up its own deliveries only.
AT_ONCE, EACH = 16, 4
_PAGE = 1000
_PRUNE_SECONDS = 3600.0
_log = logging.getLogger(__name__)


class Tries:
    """Implements the trial of a webhook."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    @implements(TryWebhook, long=True)
    def try_webhook(self, database: Database, request: TryWebhook, call: Call) -> WebhookTest:
        """Send an example now, to a disabled webhook too.

        Raises:
            TreadleError: `not_found` where there is no such webhook, `bad_request` for an event that there is not.
        """
        check_id(request.delivery_id, "delivery")
        with database.read() as connection:
            webhook = webhooks.find_webhook(connection, request.project, request.webhook_id)
            secret = webhooks.secret_of(connection, request.project, request.webhook_id)
        if webhook is None:
            raise no_webhook(request.webhook_id)
        event = request.event or webhook.events[0]
        if event not in EVENTS:
            raise TreadleError(f"There is no event {event[:80]!r} of webhooks.", remedy=f"Use some of {', '.join(EVENTS)}.")
        told = body(event, self._clock.now().isoformat(), example(event))
        status, error = attempt(webhook.url, secret, request.delivery_id, told)
        return WebhookTest(success=not error, delivery_id=request.delivery_id, event=event, status=status, error=error)


class Courier:
    """Brings what events say to webhooks.

    Args:
        database: where events and the outbox are.
        clock: the machine's; deliveries know no business time.
        timeout, lease, first: instead of the module's, for tests.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        timeout: float = TIMEOUT,
        lease: dt.timedelta = LEASE,
        first: dt.timedelta = FIRST,
    ):
        self.database = database
        self._clock = clock or SystemClock()
        self._timeout, self._lease, self._first = timeout, lease, first
        self._seen = 0
        self._busy: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._freed = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="treadle-webhook")
        self._running: set[Any] = set()

    def run(self, stop: threading.Event, *, interval_s: float = 1.0) -> None:
        """Look and send until `stop` is set; what fails is logged, and tried again."""
        pruned = -_PRUNE_SECONDS
        while not stop.is_set():
            self._freed.clear()
            more = False
            try:
                more = self.look() == _PAGE
                self.send()
                if time.monotonic() - pruned > _PRUNE_SECONDS:
                    pruned = time.monotonic()
                    self.prune()
            except TreadleError as error:
                _log.warning("webhooks: %s %s", error.what, error.remedy)
            if not more:
                self._freed.wait(interval_s)  # until there is room, or something may have come
        self.close()

    def close(self) -> None:
        """Wait for attempts that are under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def look(self) -> int:
        """Write what was sealed since into the outbox; how many events were read."""
        with self.database.read() as connection:
            sealed = last_sealed(connection)
            if sealed == self._seen:
                return 0
            # A webhook that this snapshot has not yet is told of later events only, and these are sealed behind this place.
            if not webhooks.any_active(connection):
                self._seen = sealed
                return 0
            start = max(log.cursor(connection, EVERY, READER), self._seen)
            found = log.events_after(connection, EVERY, start, types=TYPES, limit=_PAGE)
        if found:
            self.database.write(lambda tx: self._tell(tx, found))
        self._seen = sealed if len(found) < _PAGE else (found[-1].seq or 0)
        return len(found)

    def send(self) -> int:
        """Start attempts of what is due and has room; how many."""
        now = self._clock.now()
        with self._lock:
            room = AT_ONCE - self._busy.total()
            busy = dict(self._busy)
        if room <= 0:
            return 0
        with self.database.read() as connection:
            if not queries.any_due(connection, now):
                return 0
        full = [key for key, running in busy.items() if running]
        claimed = self.database.write(
            lambda tx: queries.claim(tx, now, now + self._lease, busy=full, each=EACH, limit=room),
        )
        for row in claimed:
            with self._lock:
                self._busy[row.project, row.webhook_id] += 1
            self._running.add(self._pool.submit(self._attempt, row))
        self._running = {future for future in self._running if not future.done()}
        return len(claimed)

    def settled(self, seconds: float = 30.0) -> None:
        """Wait until no attempt is under way."""
        wait(self._running, timeout=seconds)

    def prune(self) -> int:
        """Forget old deliveries; how many."""
        before = self._clock.now() - KEEP
        return self.database.write(lambda tx: queries.prune(tx, before))

    def _tell(self, tx: Connection, found: list[Event]) -> None:
        """What events say, to each active webhook that wants it; and the cursor, so that no other worker says it again."""
        done = log.cursor(tx, EVERY, READER)
        now = self._clock.now()
        rows: list[dict[str, Any]] = []
        wanting: dict[str, list[Any]] = {}
        for event in found:
            if (event.seq or 0) <= done:
                continue
            if event.project not in wanting:
                wanting[event.project] = webhooks.active_webhooks(tx, event.project)
            hearers = [w for w in wanting[event.project] if w.created <= event.recorded_time]
            for place, (name, data) in enumerate(heard(tx, event) if hearers else [], start=1):
                told = body(name, event.recorded_time.isoformat(), data)
                rows += [
                    {
                        "project": event.project,
                        "webhook_id": hearer.webhook_id,
                        "delivery_id": event.event_id if place == 1 else f"{event.event_id}.{place}",
                        "event_id": event.event_id,
                        "event": name,
                        "body": told,
                        "state": "waiting",
                        "attempts": 0,
                        "due": now,
                        "created": now,
                        "updated": now,
                    }
                    for hearer in hearers
                    if name in hearer.events
                ]
        queries.insert_deliveries(tx, rows)
        log.advance(tx, EVERY, READER, max(event.seq or 0 for event in found))

    def _attempt(self, row: Any) -> None:
        """One attempt, and what becomes of the delivery; whatever breaks, it is tried again when its time is over."""
        try:
            status, error = attempt(row.url, row.secret, row.delivery_id, row.body, timeout=self._timeout)
            self._settle(row, status, error)
        except Exception:  # noqa: BLE001  (a pool swallows what is raised; the delivery stays due)
            _log.exception("webhook %s: delivery %s", row.webhook_id, row.delivery_id)
        finally:
            with self._lock:
                key = (row.project, row.webhook_id)
                self._busy[key] -= 1
                if self._busy[key] <= 0:
                    del self._busy[key]
            self._freed.set()

    def _settle(self, row: Any, status: int | None, error: str) -> None:
        now, attempts = self._clock.now(), row.attempts + 1
        values: dict[str, Any] = {"status": status, "error": error or None, "updated": now}
        if not error:
            values["state"] = "delivered"
        elif now - row.created > GIVE_UP:
            values["state"] = "failed"
            _log.warning("webhook %s: delivery %s is given up: %s", row.webhook_id, row.delivery_id, error)
        else:
            values["due"] = now + min(self._first * 3 ** min(attempts - 1, 12), LONGEST)
        key = (row.project, row.webhook_id, row.delivery_id)
        self.database.write(lambda tx: queries.settle(tx, key, values, attempt=attempts if error else None))


def attempt(url: str, secret: str | None, delivery_id: str, told: str, *, timeout: float = TIMEOUT) -> tuple[int | None, str]:
    """Post once: the status that was answered, and what is wrong ("" where nothing is)."""
    try:
        inside = check_address(url)
        status = post(url, told.encode(), headers_of(secret, delivery_id, told, int(time.time())), inside=inside, seconds=timeout)
    except TreadleError as refused:  # the operator's list has changed since
        return None, f"{refused.what} {refused.remedy}"
    except NotSentError as error:
        return None, str(error)
    if 200 <= status < 300:
        return status, ""
    return status, f"answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")


def headers_of(secret: str | None, delivery_id: str, told: str, moment: int) -> Mapping[str, str]:
    """Headers of a delivery, as MLflow's receivers verify them."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "treadle",
        "X-MLflow-Delivery-Id": delivery_id,
        "X-MLflow-Timestamp": str(moment),
    }
    if secret:
        signed = hmac.new(secret.encode(), f"{delivery_id}.{moment}.{told}".encode(), hashlib.sha256).digest()
        headers["X-MLflow-Signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return headers
