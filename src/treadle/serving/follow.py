"""Following the snapshots: find generation N, load it whole, switch, acknowledge; or say why not and go on serving the one before.

A generation that cannot be loaded is tried again from time to time (a disk may come back), and a newer one replaces it at once.
After a restart the newest generation that loads is served, even if a later one is broken.
"""

import datetime as dt
import logging
import os
import time
from collections.abc import Callable

from treadle.records.errors import TreadleError
from treadle.records.layout import GatewayLayout
from treadle.records.serving import Ack
from treadle.serving import snapshots
from treadle.serving.generation import Generation, Loader

_log = logging.getLogger(__name__)
#: Seconds between attempts at a generation that failed.
RETRY_S = 5.0


class Follower:
    """Keeps one worker on the newest generation that loads.

    Args:
        layout: the gateway's folder.
        loader: makes generations.
        switch: called with each generation loaded, before it is acknowledged.
        worker: this worker's name.
    """

    def __init__(self, layout: GatewayLayout, loader: Loader, switch: Callable[[Generation], None], worker: str):
        self._layout = layout
        self._loader = loader
        self._switch = switch
        self._worker = worker
        self.serving = -1
        self.error = ""
        self._failed = -1
        self._retry_at = 0.0

    def due(self, monotonic: float) -> int | None:
        """The generation to load now, if there is one; a listing of one folder."""
        numbers = snapshots.generations(self._layout)
        if not numbers or numbers[0] <= self.serving:
            return None
        if numbers[0] == self._failed and monotonic < self._retry_at:
            return None
        return numbers[0]

    def start(self) -> None:
        """Serve the newest generation that loads, going back as far as needed."""
        numbers = snapshots.generations(self._layout)
        for number in numbers:
            if self.follow(number):
                break
        if numbers and self.serving not in (-1, numbers[0]):
            self._failed = numbers[0]
            self._acknowledge(numbers[0], "error", self.error)
        if not numbers:
            self._acknowledge(0, "ready")

    def follow(self, number: int) -> bool:
        """Load generation `number`, switch to it and acknowledge; False where it did not load."""
        try:
            generation = self._loader.load(snapshots.read(self._layout, number))
        except Exception as error:  # noqa: BLE001  (whatever breaks a bundle must not break the one being served; it is acknowledged)
            remedy = f" {error.remedy}" if isinstance(error, TreadleError) else ""
            self.error = f"{error}{remedy}" or type(error).__name__
            self._failed, self._retry_at = number, time.monotonic() + RETRY_S
            _log.error("generation %d does not load: %s", number, self.error)
            self._acknowledge(number, "error", self.error)
            return False
        self._switch(generation)
        self.serving, self.error = number, ""
        self._acknowledge(number, "ready")
        _log.info("serving generation %d", number)
        return True

    def _acknowledge(self, generation: int, state: str, error: str = "") -> None:
        snapshots.write_ack(
            self._layout,
            Ack(worker=self._worker, generation=generation, state=state, error=error, pid=os.getpid(), time=dt.datetime.now(dt.UTC)),
        )
