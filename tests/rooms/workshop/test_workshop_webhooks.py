"""Webhooks told for real: a receiver on this machine, a worker that is killed, answers of every kind."""

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from sqlalchemy import update

from treadle.ledger import Dispatcher
from treadle.ledger.sealer import seal_all
from treadle.ledger.service import Ledger
from treadle.operations import registry as ops
from treadle.operations import webhooks as hooks
from treadle.operations.ledger import ErasePayload
from treadle.records.calls import SYSTEM
from treadle.records.errors import TreadleError
from treadle.registry.service import Registry
from treadle.store import tables as t
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.workshop.webhooks import Courier, Tries

SOON = dt.timedelta(milliseconds=20)
SECRET = "hush"
PROMPT = {"mlflow.prompt.is_prompt": "true"}


class Receiver:
    """Keeps what it is told; `answers` is what it says, by path."""

    def __init__(self):
        self.got = []
        self.answers = {}
        self.slow = threading.Event()
        self.slow.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                if self.path == "/slow":
                    receiver.slow.wait(20)
                statuses = receiver.answers.get(self.path, [])
                status = statuses.pop(0) if statuses else 200
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Location", "/elsewhere")
                    self.end_headers()
                    self.wfile.write(b"thanks")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def told(self, path="/hook"):
        return [json.loads(body) for where, _, body in self.got if where == path]

    def ids(self, path="/hook"):
        return [headers["X-MLflow-Delivery-Id"] for where, headers, _ in self.got if where == path]


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setenv("TREADLE_WEBHOOK_HOSTS", "127.0.0.1")
    made = Receiver()
    yield made
    made.slow.set()
    made.server.shutdown()
    made.server.server_close()


class House:
    def __init__(self, database, root):
        self.database = database
        blobs = LocalBlobs(root)
        self.dispatch = Dispatcher(database, [Registry(database, blobs), Ledger(database, blobs), Tries()], complete=False)
        self.courier = Courier(database, first=SOON, lease=dt.timedelta(seconds=2), timeout=0.6)

    def __call__(self, request):
        return self.dispatch(request, actor=SYSTEM)

    def hook(self, url, *events, webhook_id="w", **more):
        return self(
            hooks.CreateWebhook(
                project="p", webhook_id=webhook_id, name=webhook_id, address=url, events=list(events), secret=SECRET, **more
            )
        )

    def turn(self):
        seal_all(self.database)
        self.courier.look()
        self.courier.send()
        self.courier.settled()

    def until(self, fine, seconds=10.0):
        end = time.monotonic() + seconds
        while not fine():
            assert time.monotonic() < end, self.deliveries()
            self.turn()
            time.sleep(0.01)

    def deliveries(self, **more):
        return self(hooks.ListWebhookDeliveries(project="p", **more)).items


@pytest.fixture
def house(database, tmp_path, monkeypatch):
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    made = House(database, tmp_path / "blobs")
    yield made
    made.courier.close()


ALL = ("registered_model.created", "model_version.created", "model_version_tag.set", "model_version_tag.deleted")
ALL += ("model_version_alias.created", "model_version_alias.deleted")


def test_what_is_told_and_signed(house, receiver):
    house(ops.CreateModel(project="p", model="early"))
    house.hook(f"{receiver.url}/hook", *ALL)
    house.hook(f"{receiver.url}/off", *ALL, webhook_id="off", state="disabled")
    house.hook(f"{receiver.url}/tags", "model_version_tag.set", webhook_id="tags")
    house(ops.CreateModel(project="p", model="delay", description="late", tags={"team": "ops"}))
    house(ops.CreateVersion(project="p", model="delay", source="runs:/r1/model", run_id="r1", tags={"a": "1"}))
    house(ops.SetVersionTags(project="p", model="delay", number=1, tags={"b": "2", "c": "3"}, remove=["a"]))
    house(ops.SetAlias(project="p", model="delay", number=1, alias="best"))
    house(ops.DeleteAlias(project="p", model="delay", alias="best"))
    house.until(lambda: len(receiver.got) >= 9)
    told = {(one["entity"], one["action"], one["data"].get("key")): one["data"] for one in receiver.told()}
    version = {"name": "delay", "version": "1"}
    assert told == {
        ("registered_model", "created", None): {"name": "delay", "description": "late", "tags": {"team": "ops"}},
        ("model_version", "created", None): {
            **version,
            "source": "runs:/r1/model",
            "run_id": "r1",
            "tags": {"a": "1"},
            "description": None,
        },
        ("model_version_tag", "set", "b"): {**version, "key": "b", "value": "2"},
        ("model_version_tag", "set", "c"): {**version, "key": "c", "value": "3"},
        ("model_version_tag", "deleted", "a"): {**version, "key": "a"},
        ("model_version_alias", "created", None): {**version, "alias": "best"},
        ("model_version_alias", "deleted", None): {"name": "delay", "alias": "best"},
    }
    assert len(receiver.told("/tags")) == 2
    assert receiver.told("/off") == []
    for _, headers, body in receiver.got:
        signed = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
        assert headers["X-MLflow-Signature"] == f"v1,{expected}"
        assert abs(int(headers["X-MLflow-Timestamp"]) - time.time()) < 60
    house.until(lambda: {d.state for d in house.deliveries()} == {"delivered"})  # said once the answer is there
    known = house.deliveries()
    assert {d.status for d in known} == {200}
    events = {e.event_id for e in known}
    assert all(i.partition(".")[0] in events for i in receiver.ids())
    house.turn()
    assert len(receiver.got) == 9


def test_prompts_are_told_as_prompts(house, receiver):
    wanted = ("registered_model.created", "model_version.created", "prompt.created", "prompt_version.created", "prompt_tag.set")
    house.hook(
        f"{receiver.url}/hook", *wanted, "prompt_tag.deleted", "prompt_version_tag.set", "prompt_alias.created", "prompt_alias.deleted"
    )
    house(ops.CreateModel(project="p", model="greet", tags={**PROMPT, "team": "ops"}))
    text = "Hello {{name}} " * 2000
    tags = {**PROMPT, "mlflow.prompt.text": text, "x": "y"}
    house(ops.CreateVersion(project="p", model="greet", source="dummy", tags=tags, description="first"))
    house(ops.UpdateModel(project="p", model="greet", tags={"k": "v"}, remove_tags=["team"]))
    house(ops.SetVersionTags(project="p", model="greet", number=1, tags={"q": "1"}))
    house(ops.SetAlias(project="p", model="greet", number=1, alias="live"))
    house(ops.DeleteAlias(project="p", model="greet", alias="live"))
    house.until(lambda: len(receiver.got) >= 7)
    told = {f"{one['entity']}.{one['action']}": one["data"] for one in receiver.told()}
    assert told == {
        "prompt.created": {"name": "greet", "tags": {"team": "ops"}, "description": None},
        "prompt_version.created": {"name": "greet", "version": "1", "template": text, "tags": {"x": "y", "q": "1"}, "description": "first"},
        "prompt_tag.set": {"name": "greet", "key": "k", "value": "v"},
        "prompt_tag.deleted": {"name": "greet", "key": "team"},
        "prompt_version_tag.set": {"name": "greet", "version": "1", "key": "q", "value": "1"},
        "prompt_alias.created": {"name": "greet", "alias": "live", "version": "1"},
        "prompt_alias.deleted": {"name": "greet", "alias": "live"},
    }


def test_tried_again_until_answered_well(house, receiver):
    receiver.answers["/hook"] = [500, 503, 307]
    house.hook(f"{receiver.url}/hook", "registered_model.created")
    house(ops.CreateModel(project="p", model="delay"))
    house.until(lambda: receiver.ids())
    (waits,) = house.deliveries(state="waiting")
    assert (waits.attempts, waits.status, waits.due is not None) == (1, 500, True)
    house.until(lambda: house.deliveries(state="delivered"))
    assert len(receiver.ids()) == 4
    assert len(set(receiver.ids())) == 1
    assert {path for path, _, _ in receiver.got} == {"/hook"}  # the redirect led nowhere
    (done,) = house.deliveries()
    assert (done.attempts, done.status, done.due, done.error) == (4, 200, None, None)


def test_given_up_dropped_pruned_and_erased(house, receiver):
    receiver.answers["/hook"] = [404] * 50
    house.hook(f"{receiver.url}/hook", "registered_model.created")
    house(ops.CreateModel(project="p", model="one"))
    house.until(lambda: receiver.ids())
    house(hooks.UpdateWebhook(project="p", webhook_id="w", state="disabled"))
    house.until(lambda: house.deliveries(state="dropped"))
    house(hooks.UpdateWebhook(project="p", webhook_id="w", state="active"))
    house(ops.CreateModel(project="p", model="two"))
    house.until(lambda: house.deliveries(state="waiting"))
    (waits,) = house.deliveries(state="waiting")
    _age(house.database, waits.delivery_id, dt.timedelta(days=4))
    house.until(lambda: house.deliveries(state="failed"))
    _age(house.database, waits.delivery_id, dt.timedelta(days=8))
    assert house.courier.prune() == 1
    (kept,) = house.deliveries()
    assert kept.state == "dropped"
    house(ErasePayload(project="p", event_id=kept.event_id, reason="asked"))
    assert house.deliveries() == []


def _age(database, delivery_id, by):
    d = t.webhook_deliveries
    then = dt.datetime.now(dt.UTC) - by
    database.write(lambda tx: tx.execute(update(d).where(d.c.delivery_id == delivery_id).values(created=then, due=then)))


def test_a_slow_receiver_holds_up_nobody_else(house, receiver):
    receiver.slow.clear()
    house.hook(f"{receiver.url}/slow", "registered_model.created", webhook_id="slow")
    house.hook(f"{receiver.url}/hook", "registered_model.created", webhook_id="quick")
    for number in range(30):
        house(ops.CreateModel(project="p", model=f"m{number}"))
    seal_all(house.database)
    stop = threading.Event()
    began = time.monotonic()
    thread = threading.Thread(target=house.courier.run, args=(stop,), kwargs={"interval_s": 0.02})
    thread.start()
    try:
        while len(receiver.told()) < 30:
            assert time.monotonic() < began + 10
            time.sleep(0.01)
        waits = house.deliveries(webhook_id="slow")
        assert not any(d.state == "delivered" for d in waits)
        while not any("no answer" in (d.error or "") for d in house.deliveries(webhook_id="slow")):
            assert time.monotonic() < began + 10
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()


def test_only_allowed_hosts(house, receiver, monkeypatch):
    house.hook(f"{receiver.url}/hook", "registered_model.created")
    for allowed in ("", "hooks.example.com", "*.0.0.1"):
        monkeypatch.setenv("TREADLE_WEBHOOK_HOSTS", allowed)
        with pytest.raises(TreadleError, match="refused") as refused:
            house.hook(f"{receiver.url}/other", "registered_model.created", webhook_id="x")
        assert "TREADLE_WEBHOOK_HOSTS" in str(refused.value.what + refused.value.remedy)
        tried = house(hooks.TryWebhook(project="p", delivery_id="try_1", webhook_id="w"))
        assert (tried.success, tried.status) == (False, None)
        assert "TREADLE_WEBHOOK_HOSTS" in tried.error
    house(ops.CreateModel(project="p", model="delay"))
    house.until(lambda: any(d.error for d in house.deliveries()))
    assert receiver.got == []
    monkeypatch.setenv("TREADLE_WEBHOOK_HOSTS", "127.0.0.1")
    house.until(lambda: house.deliveries(state="delivered"))
    # a name that stands there by a pattern only may not lead inside
    monkeypatch.setenv("TREADLE_WEBHOOK_HOSTS", "*.example.com")
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("10.0.0.7", 443))])
    house.hook("https://a.example.com/x", "registered_model.created", webhook_id="inner")
    assert "10.0.0.7" in house(hooks.TryWebhook(project="p", delivery_id="try_1", webhook_id="inner")).error
    assert house(hooks.UpdateWebhook(project="p", webhook_id="w", state="disabled")).state == "disabled"


def test_trying_one(house, receiver):
    house.hook(f"{receiver.url}/hook?a=b", "model_version.created", "model_version_tag.set")
    done = house(hooks.TryWebhook(project="p", delivery_id="try_1", webhook_id="w"))
    assert (done.success, done.status, done.event, done.error) == (True, 200, "model_version.created", "")
    receiver.answers["/hook?a=b"] = [302]
    done = house(hooks.TryWebhook(project="p", delivery_id="try_1", webhook_id="w", event="model_version_tag.set"))
    assert (done.success, done.status) == (False, 302)
    assert "redirects" in done.error
    assert [one["data"]["version"] for one in receiver.told("/hook?a=b")] == ["1", "1"]
    with pytest.raises(TreadleError):
        house(hooks.TryWebhook(project="p", delivery_id="try_1", webhook_id="nobody"))


CHILD = """
import datetime as dt, sys, threading
from treadle.store.db import Database
from treadle.workshop.webhooks import Courier
with Database.open(sys.argv[1]) as database:
    Courier(database, first=dt.timedelta(milliseconds=20), lease=dt.timedelta(seconds=2)).run(threading.Event(), interval_s=0.02)
"""


def test_a_worker_that_is_killed_loses_nothing(house, receiver, database_url):
    receiver.slow.clear()
    house.hook(f"{receiver.url}/slow", "registered_model.created")
    for number in range(6):
        house(ops.CreateModel(project="p", model=f"m{number}"))
    seal_all(house.database)
    child = subprocess.Popen([sys.executable, "-c", CHILD, database_url], env=dict(os.environ))
    try:
        end = time.monotonic() + 20
        while not receiver.ids("/slow"):
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    began = set(receiver.ids("/slow"))
    assert not house.deliveries(state="delivered")
    receiver.slow.set()
    house.until(lambda: len(house.deliveries(state="delivered")) == 6, seconds=20)
    ids = receiver.ids("/slow")
    assert len(set(ids)) == 6
    assert len(ids) >= 6 + len(began)  # those under way came again, with the same id
    assert {one["data"]["name"] for one in receiver.told("/slow")} == {f"m{number}" for number in range(6)}


def test_two_workers_tell_once(house, receiver, database_url):
    house.hook(f"{receiver.url}/hook", "registered_model.created")
    for number in range(20):
        house(ops.CreateModel(project="p", model=f"m{number}"))
    seal_all(house.database)
    stop = threading.Event()
    with Database.open(database_url) as other:
        threads = [threading.Thread(target=Courier(db).run, args=(stop,), kwargs={"interval_s": 0.01}) for db in (house.database, other)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 20
        while len(house.deliveries(state="delivered")) < 20:
            assert time.monotonic() < end
            time.sleep(0.02)
        stop.set()
        for thread in threads:
            thread.join()
    assert len(receiver.ids()) == len(set(receiver.ids())) == 20
