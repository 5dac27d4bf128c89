"""Unchanged MLflow clients of two releases on a Treadle server: they must see what they see of a stock `mlflow server`.

Each script of tests/mlflow/scripts is run by the client's own Python; what it observes is compared, item by item, with the recorded
answers of a stock server of the same release. Where Treadle answers otherwise on purpose, DIFFERENT says why, and Treadle's own answer
is asserted.
"""

import concurrent.futures
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from treadle.records.layout import Layout
from treadle.workshop.supervisor import living

HERE = Path(__file__).parents[1] / "mlflow"
_spec = importlib.util.spec_from_file_location("mlflow_clients", HERE / "clients.py")
assert _spec is not None
assert _spec.loader is not None
clients = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(clients)

pytestmark = [pytest.mark.mlflow, pytest.mark.timeout(600)]


def refused(answer: Any) -> bool:
    """A request that is at fault: 400 with a code a client can read."""
    if isinstance(answer, list):
        return answer[0] == 400 and answer[1] == "INVALID_PARAMETER_VALUE" and not any(answer[2:])
    return isinstance(answer, dict) and answer.get("raised") == "INVALID_PARAMETER_VALUE" and answer.get("by") == "server"


#: script, item (a pattern), what Treadle answers instead, why
DIFFERENT: list[tuple[str, str, Callable[[Any], bool], str]] = []


def difference(script: str, item: str) -> Callable[[Any], bool] | None:
    """The check that replaces the recorded answer, if there is one."""
    return next((answers for where, pattern, answers, _ in DIFFERENT if where == script and re.fullmatch(pattern, item, re.DOTALL)), None)


class Server:
    """A Treadle server on a fresh home, and the scripts of one release that run on it, two at a time."""

    def __init__(self, release: str, folder: Path):
        self.release, self.folder = release, folder
        self.layout = Layout(folder / "home")
        self.output = folder / "server.out"
        with self.output.open("wb") as out:
            command = [sys.executable, "-m", "treadle", "server", "--home", str(self.layout.root), "--port", "0"]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        self.url = self._ready()
        self.pool = concurrent.futures.ThreadPoolExecutor(2)
        self.running: dict[str, concurrent.futures.Future[dict[str, Any]]] = {}

    def start(self, scripts: list[str]) -> None:
        for script in scripts:
            self.running[script] = self.pool.submit(clients.observe, self.release, script, self.url, self.folder / script)

    def seen(self, script: str) -> dict[str, Any]:
        if script not in self.running:
            self.start([script])
        try:
            return self.running[script].result()
        except AssertionError as error:
            said = self.output.read_text()[-3000:]
            pytest.fail(f"{error}\nThe server said:\n{said}", pytrace=False)

    def stop(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)

    def _ready(self, seconds: float = 60.0) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            url = next((note.url for note in living(self.layout) if note.name == "server"), "")
            with contextlib.suppress(OSError):
                if url:
                    urllib.request.urlopen(f"{url}/health", timeout=5).close()
                    return url.rstrip("/")
            time.sleep(0.05)
        raise AssertionError(f"the server did not start: {self.output.read_text()}")


@pytest.fixture(scope="module", params=list(clients.RELEASES))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    release = request.param
    if not clients.python(release).exists():
        reason = f"there is no environment of mlflow {clients.RELEASES[release]} at {clients.python(release)}: make clients"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    started = Server(release, tmp_path_factory.mktemp(f"mlflow-{release}"))
    wanted = [item.callspec.params for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    started.start([params["script"] for params in wanted if params["server"] == release])
    yield started
    started.stop()


@pytest.mark.parametrize("script", clients.SCRIPTS)
def test_a_client_sees_what_a_stock_server_shows(server: Server, script: str) -> None:
    """An older client may also be answered what the newest stock server says: Treadle speaks as that one does."""
    stock, newest = (json.loads(clients.recorded(release, script).read_text()) for release in (server.release, "new"))
    seen = server.seen(script)
    wrong = []
    for item in sorted(stock.keys() | seen.keys()):
        own, answer = difference(script, item), seen.get(item, "was not observed")
        right = own(answer) if own else answer in (stock.get(item, "is not recorded"), newest.get(item, "is not recorded"))
        if not right:
            rule = " (and not what DIFFERENT says)" if own else ""
            wrong.append(f"{item}\n    stock:   {brief(stock.get(item, 'is not recorded'))}\n    Treadle: {brief(answer)}{rule}")
    assert not wrong, f"{len(wrong)} of {len(stock)} items of {script}.py with mlflow {clients.RELEASES[server.release]}:\n" + "\n".join(
        wrong
    )


def brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 1200 else f"{text[:800]} … {text[-300:]}"


def test_each_difference_is_met_by_an_item() -> None:
    """No line of the table outlives what it was written for."""
    named = {
        (script, item)
        for script in clients.SCRIPTS
        for release in clients.RELEASES
        for item in json.loads(clients.recorded(release, script).read_text())
    }
    unused = [
        pattern
        for where, pattern, _, _ in DIFFERENT
        if not any(where == script and re.fullmatch(pattern, item, re.DOTALL) for script, item in named)
    ]
    assert unused == []
