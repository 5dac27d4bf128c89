"""The API over real sockets: the guard, the routes, what bad callers get."""

import contextlib
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from api_house import House

from treadle.api.errors import STATUS
from treadle.api.guard import COOKIE
from treadle.api.server import bind, serve
from treadle.client import Client
from treadle.console.app import build_console
from treadle.ledger.dispatch import Dispatcher
from treadle.operations.ledger import (
    CreateRun,
    DisableActor,
    Done,
    GetRun,
    IssueToken,
    ListActors,
    LogMetrics,
    RevokeToken,
    SetTags,
    WhoAmI,
)
from treadle.operations.table import implements
from treadle.operations.workshop import ListProjects
from treadle.records.calls import Role
from treadle.records.errors import CODES, TreadleError
from treadle.records.ledger import Metric
from treadle.tracking.search import SearchVerbs


class Nothing:
    """Stands in for the rooms that this test does not need."""

    @implements(ListProjects)
    def projects(self, tx: Any, request: ListProjects, call: Any) -> list[Any]:
        return []


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, lambda blobs: [SearchVerbs(), Nothing()])
    yield made
    made.database.close()


@pytest.fixture
def port(house: House) -> Iterator[int]:
    with house.serving() as port:
        yield port


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        if body is not None and "content-type" not in {k.lower() for k in named}:
            named["Content-Type"] = "application/json"
        connection.request(method, path, body=body, headers=named)
        answer = connection.getresponse()
        content = answer.read()
        told = {k.lower(): v for k, v in answer.getheaders()}
        return answer.status, json.loads(content) if "json" in told.get("content-type", "") and content else content or None, told
    finally:
        connection.close()


def test_statuses_cover_exactly_the_error_codes() -> None:
    assert set(STATUS) == set(CODES)
    assert all(400 <= status < 600 for status in STATUS.values())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8400", "127.0.0.1.evil.example", "", "localhost.evil", "192.168.1.4"])
def test_a_foreign_host_is_refused(port: int, host: str) -> None:
    status, error, _ = ask(port, "GET", "/api/whoami", Host=host)
    assert (status, error["code"]) == (403, "denied")
    assert "--allow-host" in error["remedy"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:99", "[::1]:8400", "127.0.0.1:1", "127.8.8.8"])
def test_loopback_names_are_answered(port: int, host: str) -> None:
    assert ask(port, "GET", "/api/whoami", Host=host)[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1:1", "null", "http://localhost:1"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_foreign_origin_is_refused(port: int, origin: str, method: str) -> None:
    status, error, headers = ask(port, method, "/api/actors", b"{}" if method == "POST" else None, Origin=origin)
    assert (status, error["code"]) == (403, "denied")
    assert "access-control-allow-origin" not in headers


def test_the_own_origin_is_answered_and_a_cross_site_write_is_not(port: int) -> None:
    assert ask(port, "GET", "/api/whoami", Origin=f"http://127.0.0.1:{port}")[0] == 200
    assert ask(port, "POST", "/api/actors", b"{}", Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(port, "POST", "/api/actors", b"a=b", Content_Type="text/plain")[0] == 415


def test_two_hosts_in_one_request_are_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"GET /api/whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n")
        assert b" 400 " in raw.recv(4096).splitlines()[0]


def test_a_large_body_is_refused_by_its_length_and_by_what_comes(house: House) -> None:
    with house.serving(max_body=1000) as port:
        status, error, _ = ask(port, "POST", "/api/projects/p/runs", b"x" * 1001)
        assert (status, error["details"]) == (413, {"limit": 1000})
        # Two chunks pass the limit together; nothing is sent behind them, so that the refusal cannot cross with more of the body.
        head = f"POST /api/projects/p/runs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + (b"258\r\n" + b"x" * 600 + b"\r\n") * 2)
            assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
        assert ask(port, "POST", "/api/projects/p/runs", b'{"run_id": "r"}')[0] == 200


def test_nested_json_is_refused_and_the_server_lives(port: int) -> None:
    for bomb in (b"[" * 5_000_000, b'{"params":' * 100_000, b'{"run_id":"r","params":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001):
        status, error, _ = ask(port, "POST", "/api/projects/p/runs", bomb)
        assert (status, error["code"]) == (400, "bad_request")
    assert ask(port, "GET", "/health")[0] == 200


def test_compressed_bodies_are_refused(port: int) -> None:
    assert ask(port, "POST", "/api/projects/p/runs", b"\x1f\x8b", Content_Encoding="gzip")[0] == 415


def test_what_is_not_there_says_so(port: int) -> None:
    assert ask(port, "GET", "/api/nothing")[1]["code"] == "not_found"
    assert ask(port, "GET", "/nothing")[1]["code"] == "not_found"
    assert ask(port, "GET", "/api/projects/%ff/runs")[0] == 400
    status, _, headers = ask(port, "PUT", "/api/projects/p/runs")
    assert (status, headers["allow"]) == (405, "GET, POST")


def test_answers_forbid_sniffing_and_storing(port: int) -> None:
    _, _, headers = ask(port, "GET", "/api/whoami")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_header_values_are_checked(port: int) -> None:
    body = b'{"run_id": "r"}'
    assert ask(port, "POST", "/api/projects/p/runs", body, Treadle_Event_Time="yesterday")[0] == 400
    assert ask(port, "POST", "/api/projects/p/runs", body, Treadle_Event_Time="2013-01-01T00:00:00")[0] == 400
    assert ask(port, "POST", "/api/projects/p/runs", body, Idempotency_Key="x" * 201)[0] == 400
    status, run, _ = ask(port, "POST", "/api/projects/p/runs", body, Treadle_Event_Time="2013-01-01T00:00:00+02:00")
    assert (status, run["event_time"]) == (200, "2012-12-31T22:00:00Z")


def test_openapi_describes_every_operation(port: int) -> None:
    from treadle.operations import operations

    _, described, _ = ask(port, "GET", "/openapi.json")
    assert described["openapi"] == "3.1.0"
    ids = {entry["operationId"] for path in described["paths"].values() for entry in path.values()}
    assert ids == {o.name for o in operations().values()}
    known = set(described["components"]["schemas"])
    referred = {r.rpartition("/")[2] for r in _references(described) if "/schemas/" in r}
    assert referred <= known


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_with_login_only_tokens_open(house: House) -> None:
    token = house.token("ann", "tok_a", Role.viewer)
    with house.serving(login=True) as port:
        status, error, headers = ask(port, "GET", "/api/whoami")
        assert (status, error["code"], headers["www-authenticate"]) == (401, "unauthenticated", "Bearer")
        assert "treadle token add" in error["remedy"]
        assert ask(port, "GET", "/health")[0] == 200
        assert ask(port, "GET", "/api/whoami", Authorization=f"Bearer {token}x")[0] == 401
        assert ask(port, "GET", "/api/whoami", Authorization=f"Bearer {token}")[1]["name"] == "ann"
        assert ask(port, "GET", "/api/whoami", Cookie=f"{COOKIE}={token}; other=1")[1]["name"] == "ann"
        denied = ask(port, "POST", "/api/projects/p/runs", b'{"run_id": "r"}', Authorization=f"Bearer {token}")
        assert (denied[0], denied[1]["code"]) == (403, "denied")
        house.dispatch(RevokeToken(actor_id="ann", token_id="tok_a"), actor=house.owner)
        assert ask(port, "GET", "/api/whoami", Authorization=f"Bearer {token}")[0] == 401


def test_a_disabled_actors_token_and_cookie_open_nothing_from_the_next_request_on(house: House) -> None:
    token = house.token("ann", "tok_a", Role.editor)
    with house.serving(login=True) as port:
        assert ask(port, "GET", "/api/whoami", Authorization=f"Bearer {token}")[0] == 200
        house.dispatch(DisableActor(actor_id="ann"), actor=house.owner)
        assert ask(port, "GET", "/api/whoami", Authorization=f"Bearer {token}")[0] == 401
        assert ask(port, "GET", "/api/whoami", Cookie=f"{COOKIE}={token}")[0] == 401


PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_browser_without_a_token_is_sent_to_the_login_and_back(house: House) -> None:
    token = house.token("owner", "tok_b")
    console = build_console(SimpleNamespace(dispatch=house.dispatch, access=house.access, actor=None))
    with house.serving(login=True, mounts=[("", console)]) as port:

        def led(path: str, **headers: str) -> tuple[int, str]:
            status, _, found = ask(port, "GET", path, **PAGE, **headers)
            return status, found["location"]

        asked = "/projects/flights/prod?metric=brier&endpoint=a%2Fb"
        assert led("/") == (303, "/login")
        assert led(asked) == (303, "/login?next=/projects/flights/prod%3Fmetric%3Dbrier%26endpoint%3Da%252Fb")
        assert led("/projects", Cookie=f"{COOKIE}=trd_revoked") == (303, "/login?next=/projects")
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as browser:
            browser.request("GET", led(asked)[1])
            html = browser.getresponse().read().decode()
            back = unescape(re.findall(r'name="next" value="([^"]*)"', html)[0])
            assert back == asked
            form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{port}"}
            browser.request("POST", "/login", urlencode({"token": token, "next": back}), form)
            answer = browser.getresponse()
            answer.read()
            assert (answer.status, answer.headers["location"]) == (303, asked)
            cookie = answer.headers["set-cookie"].partition(";")[0]
            browser.request("GET", "/", headers={**PAGE, "Cookie": cookie})
            assert browser.getresponse().status == 200


def test_programs_are_told_in_json_and_a_part_of_a_page_leads_the_whole_page_to_the_login(house: House) -> None:
    with house.serving(login=True) as port:
        assert ask(port, "GET", "/")[0] == 401
        for path, headers in (("/", {"Accept": "*/*"}), ("/api/whoami", PAGE), ("/", {**PAGE, "Authorization": "Bearer trd_x"})):
            status, error, _ = ask(port, "GET", path, **headers)
            assert (status, error["code"]) == (401, "unauthenticated")
        part = {**PAGE, "HX-Request": "true", "HX-Current-URL": f"http://127.0.0.1:{port}/projects/flights/prod?metric=brier#bymonth"}
        status, error, headers = ask(port, "GET", "/projects/flights/prod/live", **part)
        assert (status, error["code"]) == (401, "unauthenticated")
        assert headers["hx-redirect"] == "/login?next=/projects/flights/prod%3Fmetric%3Dbrier"


def test_a_wrong_token_is_refused_on_loopback_too(port: int) -> None:
    assert ask(port, "GET", "/api/whoami", Authorization="Bearer trd_nonsense")[0] == 401


class Shop:
    """As much of a workshop as `serve` needs."""

    def __init__(self, house: House, root: Path):
        from treadle.records.layout import Layout

        self.dispatch, self.access, self.actor, self.layout = house.dispatch, house.access, house.owner, Layout(root)


def test_beyond_loopback_without_a_token_is_refused(house: House, tmp_path: Path) -> None:
    with pytest.raises(TreadleError, match="lets others in") as caught:
        serve(Shop(house, tmp_path), host="0.0.0.0", port=0)
    assert caught.value.code == "denied"
    assert "treadle token add owner" in caught.value.remedy


def test_a_port_in_use_is_named(house: House, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TreadleError, match=str(port)) as caught:
            serve(Shop(house, tmp_path), port=port)
    assert caught.value.code == "busy"


def test_an_unforeseen_error_is_numbered_and_not_told(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Any, **_: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    house.dispatch = broken  # type: ignore[assignment]
    with house.serving() as port:
        status, error, _ = ask(port, "GET", "/api/whoami")
    assert (status, error["code"]) == (500, "internal")
    assert "secret detail" not in json.dumps(error)
    assert error["details"]["number"] in caplog.text


class Unforeseen:
    """A room whose write fails as nobody foresaw, and one that is told to wait."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    @implements(SetTags)
    def set_tags(self, tx: Any, request: SetTags, call: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        if "fail" in request.tags:
            raise ZeroDivisionError("secret detail")
        return Done()


def test_a_write_is_submitted_whatever_its_size_and_fails_as_any_other(house: House, caplog: pytest.LogCaptureFixture) -> None:
    room = Unforeseen()
    house.dispatch = Dispatcher(house.database, [room], complete=False)
    submitted: list[Any] = []
    submit = house.dispatch.submit
    house.dispatch.submit = lambda request, **more: submitted.append(request) or submit(request, **more)  # type: ignore[assignment]
    with house.serving() as port:
        for tags in ({"a": "b"}, {"a": "b" * 600_000}):
            assert ask(port, "POST", "/api/projects/p/runs/r/tags", msgspec.json.encode({"tags": tags}))[0] == 200
        assert ask(port, "POST", "/api/projects/p/runs/r/tags", b'{"tags": 3}')[0] == 400
        status, error, _ = ask(port, "POST", "/api/projects/p/runs/r/tags", b'{"tags": {"fail": ""}}')
    assert (status, error["code"]) == (500, "internal")
    assert "secret detail" not in json.dumps(error)
    assert error["details"]["number"] in caplog.text
    assert [len(request.tags) for request in submitted] == [1, 1, 1]
    assert set(room.threads) == {"treadle-writer"}


def test_many_writes_wait_together_and_reads_pass_them(house: House) -> None:
    """More writes than there are threads wait for the writer; a read is answered meanwhile."""
    begun, go = threading.Event(), threading.Event()

    def hold(tx: Any) -> None:
        begun.set()
        assert go.wait(60)

    with house.serving() as port:
        held = house.database.submit(hold)
        assert begun.wait(60)
        outcomes: list[int] = []
        body = b'{"run_id": "r%d"}'
        asking = [
            threading.Thread(target=lambda n=n: outcomes.append(ask(port, "POST", "/api/projects/p/runs", body % n)[0])) for n in range(60)
        ]
        for thread in asking:
            thread.start()
        assert ask(port, "GET", "/api/whoami")[0] == 200
        assert outcomes == []
        go.set()
        for thread in asking:
            thread.join()
        held.result(60)
    assert outcomes == [200] * 60


def test_an_unforeseen_error_before_the_api_is_told_as_json(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def broken(token: str) -> Any:
        raise ZeroDivisionError("secret detail")

    house.access.authenticate = broken  # type: ignore[method-assign]
    with house.serving() as port:
        status, error, _ = ask(port, "GET", "/api/whoami", Authorization="Bearer trd_x")
    assert (status, error["code"]) == (500, "internal")
    assert "secret detail" not in json.dumps(error)


def test_a_retried_write_changes_nothing(house: House, port: int) -> None:
    with Client(f"http://127.0.0.1:{port}") as client:
        first = client.call(CreateRun(project="p", run_id="r"), idempotency_key="k")
        assert client.call(CreateRun(project="p", run_id="r"), idempotency_key="k") == first
        assert client.call(CreateRun(project="p", run_id="r")) == first
        with pytest.raises(TreadleError) as caught:
            client.call(CreateRun(project="p", run_id="other"), idempotency_key="k")
        assert caught.value.code == "conflict"
        measured = LogMetrics(project="p", run_id="r", metrics=[Metric(key="auc", value=0.5)])
        client.call(measured)
        client.call(measured)
        client.call(SetTags(project="p", run_id="r", tags={"a": "b"}))
        assert client.call(GetRun(project="p", run_id="r")).metrics == {"auc": 0.5}


def test_a_token_is_not_kept_with_its_idempotency_key(house: House, port: int, tmp_path: Path) -> None:
    with Client(f"http://127.0.0.1:{port}") as client:
        token = client.call(IssueToken(actor_id="owner", token_id="tok_1"), idempotency_key="k").token
        assert token.startswith("trd_tok_1_")
        assert client.call(IssueToken(actor_id="owner", token_id="tok_1"), idempotency_key="k").token == ""
    house.database.close()
    secret = token.rpartition("_")[2].encode()
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and secret in f.read_bytes()]


def test_the_client_survives_a_server_that_restarts(house: House) -> None:
    with house.serving() as port:
        client = Client(f"http://127.0.0.1:{port}")
        assert client.call(WhoAmI()).name == "mia"
    with pytest.raises(TreadleError, match="does not answer") as caught:
        client.call(WhoAmI())
    assert caught.value.code == "unavailable"
    listener = bind("127.0.0.1", port)
    listener.close()
    client.close()


def test_the_client_retries_on_a_connection_that_was_dropped(house: House, port: int) -> None:
    client = Client(f"http://127.0.0.1:{port}")
    client.call(ListActors())
    client._connection().sock.shutdown(socket.SHUT_RDWR)
    assert client.call(CreateRun(project="p", run_id="r")).run_id == "r"
    client.close()


def test_the_client_says_what_answered_instead_of_a_server() -> None:
    with socket.socket() as fake:
        fake.bind(("127.0.0.1", 0))
        fake.listen()

        def answer() -> None:
            connection, _ = fake.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(f"http://127.0.0.1:{fake.getsockname()[1]}") as client, pytest.raises(TreadleError, match="not what this client knows"):
            client.call(WhoAmI())
        thread.join()


@pytest.mark.parametrize("url", ["", "localhost:8400", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(TreadleError, match="no address"):
        Client(url)
