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


def error_of(answer: Any) -> tuple[str, str] | None:
    """Code and text of an answer that is an error, whichever way the script observed it; None for any other."""
    if isinstance(answer, list) and len(answer) == 3 and isinstance(answer[0], int) and answer[0] >= 400:
        return answer[1] or str(answer[0]), ""
    body = answer.get("body", answer) if isinstance(answer, dict) else answer
    if isinstance(answer, list) and len(answer) == 2 and isinstance(answer[0], int):
        body = answer[1]
    if isinstance(body, dict) and ("raised" in body or "error_code" in body):
        return body.get("raised") or body["error_code"], body.get("message", "")
    return None


def same(stock: Any, answer: Any) -> bool:
    """Is it what the stock server says?

    Two things are better and count as the same: a remedy after the same words (the house rule for errors), and a refusal that a client
    can read and does not repeat (4xx) where the stock server fails (5xx).
    """
    if stock == answer:
        return True
    expected, got = error_of(stock), error_of(answer)
    if expected is None or got is None:
        return False
    if expected[0] in ("INTERNAL_ERROR", "500"):
        return got[0] in (
            "INVALID_PARAMETER_VALUE",
            "RESOURCE_DOES_NOT_EXIST",
            "BAD_REQUEST",
            "INVALID_STATE",
            "ENDPOINT_NOT_FOUND",
            "RESOURCE_ALREADY_EXISTS",
        )
    return expected[0] == got[0] and got[1].startswith(expected[1])


def refused(answer: Any) -> bool:
    """A request that is at fault."""
    found = error_of(answer)
    return found is not None and found[0] == "INVALID_PARAMETER_VALUE"


def missing(answer: Any) -> bool:
    """What was asked for is not there."""
    found = error_of(answer)
    return found is not None and found[0] == "RESOURCE_DOES_NOT_EXIST"


def is_(*values: Any) -> Callable[[Any], bool]:
    return lambda answer: answer in values


#: script, items (a pattern), what Treadle answers instead, why
DIFFERENT: list[tuple[str, str, Callable[[Any], bool], str]] = [
    (
        "bad_input",
        r"(get|put|delete) (.*etc.*|\.\.%5cx|\.\.%c0%afx|\.\.\.\.//x|C:.*|a%00b|a%0ab|a%5c\.\.%5cx)( at the root)?",
        refused,
        "A stock server takes some of these as names and writes them; no file of a run has such a name.",
    ),
    (
        "bad_input",
        r"list( of the run)? ('\.\.\\\\\.\.'|'C:/'|'a\\x00b'|'file:///etc')( alone)?|list of the run '/etc'|list '/etc' alone",
        refused,
        "What cannot be a name is no folder either; a stock server shows an empty one.",
    ),
    (
        "bad_input",
        "body: two spellings",
        is_([200, None, False]),
        "Fields have one spelling; the other is an unknown field, and those are ignored.",
    ),
    ("bad_input", "everything still stands", is_(["bad", ["a", "charset", "double", "old", "unknown"]]), "The same."),
    ("bad_input", "delete a folder", is_([[200, None, False], []]), "The odd names above were never written."),
    ("bad_input", "get a folder", refused, "The same refusal, with a code."),
    ("bad_input", "get a missing file", missing, "The path is told as the run sees it."),
    (
        "bad_input",
        r"metric (step (1\.5|9223372036854775808)|time (1\.5|True|9223372036854775807|9223372036854775808)|value 'True' bool)",
        refused,
        "A stock server drops or bends numbers that are none or do not fit; times end with the year 9999.",
    ),
    ("bad_input", "search: (ids of numbers|token a number|view unknown)", refused, "A stock server searches as if it had not been said."),
    ("bad_input", "search: max_results none", is_([200, None, False]), "A null is an absent field; a stock server fails."),
    ("bad_input", "no content type", refused, "An empty content type is a missing one."),
    (
        "limits",
        r"experiment at (/tmp/x|file:///tmp/x|http://h/p\?q=1|http://h/p#f|s3://b/x+)",
        refused,
        "Paths of the server's own machine are no place for artifacts; the other addresses are refused by both, in other words.",
    ),
    ("limits", "raw batch: a text for a number", refused, "A stock server answers 200 and keeps nothing of the batch."),
    ("limits", r"registered model name ('n+'|' '|'\.\.')", refused, "Names have 1 to 200 visible characters."),
    ("limits", "alias 'a+' 255", refused, "Names have at most 200 characters."),
    (
        "metrics",
        ".*: history: infinite",
        is_([["Infinity", 0, 0]]),
        "An infinite metric stays infinite; a stock server makes it the greatest number.",
    ),
    ("metrics", ".*: history: minus infinite", is_([["-Infinity", 0, 0]]), "The same."),
    (
        "metrics",
        ".*: history: infinite and the greatest",
        is_([[1.7976931348623157e308, 0, 0], ["Infinity", 0, 0]]),
        "The same: two points, not one.",
    ),
    ("metrics", ".*: history: infinite beside minus infinite", is_([["-Infinity", 0, 0], ["Infinity", 0, 0]]), "The same."),
    ("metrics", ".*: latest: minus infinite", is_("-Infinity"), "The same."),
    ("metrics", ".*: latest: infinite.*", is_("Infinity"), "The same."),
    (
        "metrics",
        ".*: latest: NaN beside zero",
        is_(0.0),
        "A number beats NaN at the same step and time; a stock server keeps whichever came first.",
    ),
    (
        "metrics",
        "history: (zero results|minus one) asked",
        refused,
        "An older stock server answers nothing but a token; the newest one with a full stop.",
    ),
    (
        "metrics",
        "history: a page of one",
        lambda a: a["body"]["metrics"][0]["value"] == 0.0 and a["body"]["next_page_token"],
        "Page tokens are opaque.",
    ),
    ("wire", "metrics/get-history infinite", lambda a: a[1]["metrics"][0]["value"] == "Infinity", "An infinite metric stays infinite."),
    (
        "wire",
        "runs/(get|get by run_uuid|get with inputs and outputs|search)",
        lambda a: next(m["value"] for m in (a[1].get("run") or a[1]["runs"][0])["data"]["metrics"] if m["key"] == "inf") == "Infinity",
        "The same; everything else of them is compared in other scripts.",
    ),
    ("other_searches", "experiments: experiment_id = 'abc'", is_([]), "Ids are names here; no experiment has this one."),
    ("lifecycle", "ids count up", is_(True, False), "Ids are drawn, not counted."),
    ("other_searches", r"experiments: order \['experiment_id.*", lambda a: len(a) == 5, "Ids are drawn, not counted."),
    ("other_searches", "experiments: name like 'es-t%'", is_(["es-three"]), "Keywords are taken in any case, everywhere."),
    ("other_searches", "experiments: name > 'es-one'", refused, "Other words."),
    ("other_searches", "experiments: creation_time > 0.5", refused, "Other words."),
    ("other_searches", r"versions: (order \['version'\]|version = 1)", refused, "Other words."),
    ("other_searches", "logged: lifecycle_stage = 'active'", refused, "A column of a stock server's table, no attribute."),
    (
        "other_searches",
        "logged: (attributes.)?status = 'READY'",
        is_(["lm-a"]),
        "A stock server compares the word with a number and finds nothing.",
    ),
    ("other_searches", "logged: datasets", is_(["lm-B", "lm-a"]), "A stock server finds nothing without a digest."),
    ("other_searches", "logged: datasets and a metric", is_(["lm-a"]), "The same."),
    ("other_searches", "logged: a token of another query", refused, "Other words."),
    ("lifecycle", "deleted logged model: delete_tag", missing, "What is deleted is not changed."),
    (
        "lifecycle",
        "(deleted run|run of a deleted experiment): log_text",
        lambda a: a["raised"] == "HTTPError",
        "Nothing is written to a deleted run.",
    ),
    ("lifecycle", "(deleted run|run of a deleted experiment): list_artifacts", is_([]), "And so there is no file."),
    (
        "lifecycle",
        "stages in a restored experiment",
        is_({"by tag": "deleted", "nobody": "active", "one": "active", "two": "deleted", "user": "active"}),
        "Runs that were deleted one by one before stay deleted.",
    ),
    ("registry", "made again", is_(["st renamed", "7", {}]), "Version numbers are never used again, not even after the model was deleted."),
    (
        "registry",
        "refused version: (no run id|runs:/ without run id)",
        lambda a: isinstance(a, str) and a.isdigit(),
        "The address says which run it is.",
    ),
    ("registry", "refused version: missing registered model", missing, "Other words."),
    ("registry", "refused version: nul", refused, "Other words."),
    (
        "prompts_traces",
        "search_traces",
        lambda a: a["raised"] == "NOT_IMPLEMENTED",
        "Treadle keeps no traces; logging them breaks nothing.",
    ),
    ("fluent", "sizes", is_({"empty": 0, "one.bin": 4096, "page.html": 8, "sub": None}), "An empty file has a size: none."),
    ("runs_search", r"order: \['nothing'\]", refused, "Other words."),
    ("runs_search", "pages: (zero|negative)", refused, "Other words."),
    ("runs_search", "pages: token eyJ.*", refused, "Page tokens are opaque: a stock server's are none of ours."),
    ("lifecycle", "rename to a name in use", lambda a: a["raised"] == "BAD_REQUEST", "A stock server shows its SQL."),
]


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
        right = own(answer) if own and item in seen else any(item in known and same(known[item], answer) for known in (stock, newest))
        if not right:
            known = item in stock and same(stock[item], answer)
            rule = " (as the stock server now: take its line out of DIFFERENT)" if known else " (nor what DIFFERENT says)" if own else ""
            wrong.append(f"{item}\n    stock:   {brief(stock.get(item, 'is not recorded'))}\n    Treadle: {brief(answer)}{rule}")
    if wrong:
        said = f"{len(wrong)} of {len(stock)} items of {script}.py with mlflow {clients.RELEASES[server.release]}:\n"
        pytest.fail(said + "\n".join(wrong), pytrace=False)


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
