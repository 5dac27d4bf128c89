"""A whole home behind MLflow's protocol, over a real socket."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from treadle.api.app import build_app
from treadle.api.mlflow.app import MlflowApi
from treadle.api.parsing import Http
from treadle.api.server import bind
from treadle.api.testing import TESTING, Reset
from treadle.workshop.home import Workshop, open_home

API = "/api/2.0/mlflow"
JSON = {"content-type": "application/json"}


class House:
    """A home behind the protocol."""

    def __init__(self, root: Path, *, token: bool = False, reset: bool = False, store: str | None = None):
        self.shop: Workshop = open_home(root, store=store)
        api = MlflowApi(self.shop.dispatch, blobs=self.shop.blobs)
        api.begin()

        def empty(actor: Any) -> None:
            self.shop.reset(actor)
            api.begin()

        self.app = build_app(
            self.shop.dispatch,
            authenticate=self.shop.access.authenticate,
            nobody=None if token else self.shop.actor,
            mlflow=api,
            mounts=[(TESTING, Reset(empty))] if reset and self.shop.disposable else [],
        )

    @contextlib.contextmanager
    def listening(self) -> Iterator["House"]:
        listener = bind("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(self.app, http=Http, lifespan="off", log_config=None, access_log=False))
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield self
        finally:
            server.should_exit = True
            thread.join()
            listener.close()
            self.shop.close()

    def raw(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] = JSON) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def headers(self, method: str, path: str) -> dict[str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            answer.read()
            return {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None, base: str = "") -> tuple[int, Any]:
        status, content = self.raw(method, f"{base}{API}{path}", b"" if body is None else json.dumps(body).encode())
        return status, json.loads(content)

    def post(self, path: str, **body: Any) -> Any:
        status, content = self.ask("POST", path, body)
        assert status == 200, content
        return content

    def get(self, path: str) -> Any:
        status, content = self.ask("GET", path)
        assert status == 200, content
        return content

    def refused(self, path: str, body: Any, method: str = "POST") -> tuple[int, str, str]:
        status, content = self.ask(method, path, body)
        assert set(content) == {"error_code", "message"}
        return status, content["error_code"], content["message"]

    def run(self, **more: Any) -> str:
        return self.post("/runs/create", experiment_id="0", start_time=1234, run_name="r", **more)["run"]["info"]["run_id"]
