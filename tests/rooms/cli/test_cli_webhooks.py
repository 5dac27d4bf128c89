"""`treadle webhooks …` on a real home, typed as a person would."""

import http.server
import json
import threading

import pytest

from treadle.cli import main
from treadle.ledger.sealer import seal_all
from treadle.operations.registry import CreateModel
from treadle.workshop import open_home
from treadle.workshop.webhooks import Courier


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500 if self.path == "/broken" else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_webhooks_from_end_to_end(address, tmp_path, monkeypatch, capsys):
    for name in ("TREADLE_TOKEN", "TREADLE_URL", "TREADLE_ENV", "TREADLE_WEBHOOK_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    monkeypatch.setenv("TREADLE_PROJECT", "crm")
    monkeypatch.setenv("TREADLE_WEBHOOK_SECRET", "hush")
    monkeypatch.chdir(tmp_path)
    open_home(tmp_path / "home").close()

    def treadle(*words, code=0):
        got = main(["webhooks", *words])
        said = capsys.readouterr()
        assert got == code, f"{words} ended with {got}: {said.out}{said.err}"
        return said.out + said.err

    add = ("add", f"{address}/x", "--event", "registered_model.created")
    assert "TREADLE_WEBHOOK_HOSTS=127.0.0.1" in treadle(*add, code=2)
    monkeypatch.setenv("TREADLE_WEBHOOK_HOSTS", "127.0.0.1")
    assert "Nobody is told" in treadle()
    made = json.loads(treadle(*add, "--json"))
    assert (made["signed"], made["state"], made["name"]) == (True, "active", address.removeprefix("http://"))
    assert made["webhook_id"] in treadle()
    assert [w["webhook_id"] for w in json.loads(treadle("list", "--json"))] == [made["webhook_id"]]
    assert "answered 204" in treadle("test", made["webhook_id"])
    broken = json.loads(treadle("add", f"{address}/broken", "--event", "prompt.created", "--name", "b", "--disabled", "--json"))
    said = treadle("test", broken["webhook_id"], "--event", "prompt_alias.deleted", code=5)
    assert "answered 500" in said
    assert json.loads(treadle("test", broken["webhook_id"], "--json", code=5))["status"] == 500
    assert "Nothing yet" in treadle("deliveries")
    with open_home(tmp_path / "home") as shop:
        shop.call(CreateModel(project="crm", model="churn"))
        seal_all(shop.database)
        courier = Courier(shop.database)
        courier.look()
        courier.send()
        courier.close()
    assert "delivered" in treadle("deliveries", made["webhook_id"])
    (told,) = json.loads(treadle("deliveries", "--state", "delivered", "--json"))
    assert (told["event"], told["status"]) == ("registered_model.created", 204)
    assert "told nothing" in treadle("remove", made["webhook_id"])
    assert json.loads(treadle("deliveries", "--json")) == []
    assert json.loads(treadle("remove", broken["webhook_id"], "--json"))["changed"] is True
