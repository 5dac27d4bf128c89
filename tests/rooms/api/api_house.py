"""A ledger behind its dispatcher, and servers over it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from treadle.api.app import build_app
from treadle.api.server import bind
from treadle.ledger.access import Access, ensure_owner
from treadle.ledger.dispatch import Dispatcher
from treadle.ledger.service import Ledger
from treadle.operations.ledger import CreateActor, IssueToken
from treadle.records.calls import Role
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.store.migrate import ensure


class House:
    """A home of a ledger and what `rooms` makes over its blobs."""

    def __init__(self, root: Path, rooms: Callable[[LocalBlobs], list[object]] = lambda blobs: []):
        self.database = Database.open(f"sqlite:///{root / 'treadle.db'}")
        ensure(self.database)
        self.owner = ensure_owner(self.database, "mia")
        self.access = Access(self.database)
        self.blobs = LocalBlobs(root / "blobs")
        self.dispatch = Dispatcher(self.database, [Ledger(self.database, self.blobs), *rooms(self.blobs)], complete=False)

    def token(self, actor_id: str, token_id: str, role: Role = Role.viewer) -> str:
        if actor_id != "owner":
            self.dispatch(CreateActor(actor_id=actor_id, name=actor_id, role=role), actor=self.owner)
        return self.dispatch(IssueToken(actor_id=actor_id, token_id=token_id), actor=self.owner).token

    @contextlib.contextmanager
    def serving(self, *, login: bool = False, **more: Any) -> Iterator[int]:
        app = build_app(self.dispatch, authenticate=self.access.authenticate, nobody=None if login else self.owner, **more)
        listener = bind("127.0.0.1", 0)
        server = uvicorn.Server(
            uvicorn.Config(app, loop="uvloop", http="httptools", lifespan="off", log_config=None, access_log=False, server_header=False)
        )
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
            listener.close()
