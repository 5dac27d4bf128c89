"""A running gateway, asked over HTTP: rightly, wrongly, and with ill will."""

import http.client
import json
import math
import re
import socket
import subprocess
import sys
import time

import pytest

from treadle.client.inference import InferenceClient
from treadle.records.errors import CODES, TreadleError
from treadle.serving.segments import SegmentReader, find, segments
from treadle.testing.gateways import ENDPOINT, NOW_US, GatewayProcess, TinyHome, flights, running_gateway


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = TinyHome(tmp_path_factory.mktemp("http") / "home")
    home.publish(1)
    return home


@pytest.fixture(scope="module")
def gateway(home):
    with running_gateway(home.layout) as gateway:
        yield gateway


class Web:
    def __init__(self, port):
        self.port = port

    def __call__(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            content = answer.read()
            assert int(answer.headers["content-length"]) == len(content)
            return answer.status, json.loads(content) if answer.headers["content-type"] == "application/json" else content.decode()
        finally:
            connection.close()


@pytest.fixture
def web(gateway):
    return Web(gateway.port)


def rows(number, seed=0):
    columns = flights(number, seed)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def last_entry(home):
    (path,) = [p for p in segments(home.here.log) if SegmentReader(p).is_open()]
    return list(SegmentReader(path).entries())[-1][1]


def test_both_protocols_give_the_same_scores(home, web):
    status, native = web(
        "POST", "/endpoints/delay/predict", {"rows": rows(3), "event_time": "2013-02-01T00:00:00Z", "ids": ["a", "b", "c"]}
    )
    assert status == 200
    assert set(native) == {"predictions", "ids", "model_version", "variant", "generation", "row_ids"}
    inputs = [
        {"name": name, "shape": [3] if place % 2 else [3, 1], "datatype": "BYTES" if isinstance(values[0], str) else "FP64", "data": values}
        for place, (name, values) in enumerate(flights(3).items())
    ]
    body = {"id": "r7", "inputs": inputs, "parameters": {"event_time": NOW_US}}
    status, oip = web("POST", "/v2/models/delay/infer", body)
    assert status == 200
    assert (oip["id"], oip["model_name"], oip["model_version"]) == ("r7", "delay", "1")
    outputs = {output["name"]: output["data"] for output in oip["outputs"]}
    assert outputs["probability"] == native["predictions"]
    for name in (*native["ids"], *outputs["prediction_id"]):
        assert find(home.here.log, name)[1].event_time == NOW_US
    assert find(home.here.log, outputs["prediction_id"][0])[1].request_id == "r7"
    status, one = web("POST", "/v2/models/delay/versions/1/infer", body | {"outputs": [{"name": "prediction_id"}]})
    assert [output["name"] for output in one["outputs"]] == ["prediction_id"]


def test_metadata_health_and_metrics(web):
    assert web("GET", "/v2/health/live") == (200, {"live": True})
    assert web("GET", "/v2/health/ready") == web("GET", "/ready") == (200, {"ready": True, "generation": 1})
    assert web("GET", "/v2")[1]["name"] == "treadle"
    status, model = web("GET", "/v2/models/delay")
    assert (status, model["versions"], model["platform"]) == (200, ["1"], "treadle_lightgbm")
    assert {i["name"]: i["datatype"] for i in model["inputs"]} == {
        "carrier": "BYTES",
        "tailnum": "BYTES",
        "distance": "FP64",
        "hour": "INT64",
        "origin": "BYTES",
        "flight_id": "BYTES",
    }
    assert web("GET", "/v2/models/delay/ready") == (200, {"name": "delay", "ready": True})
    web("POST", "/endpoints/delay/predict", {"rows": rows(2)})
    status, metrics = web("GET", "/metrics")
    assert status == 200
    assert 'treadle_gateway_requests_total{endpoint="delay",status="200"}' in metrics
    assert "treadle_gateway_generation 1\n" in metrics
    assert 'treadle_gateway_latency_seconds_bucket{endpoint="delay",le="+Inf"}' in metrics


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/endpoints/delay/predict", b"{", 400, "bad_request"),
        ("POST", "/endpoints/delay/predict", b"", 400, "bad_request"),
        ("POST", "/endpoints/delay/predict", b'{"rows": [{"distance": NaN}]}', 400, "bad_request"),
        ("POST", "/endpoints/delay/predict", b'{"rows": []}', 400, "bad_request"),
        ("POST", "/endpoints/delay/predict", b"[" * 1_000_000, 400, "bad_request"),
        ("POST", "/endpoints/other/predict", b'{"rows": [{"a": 1}]}', 404, "not_found"),
        ("POST", "/endpoints/delay/predict/", b"{", 400, "bad_request"),
        ("POST", "/endpoints//predict", b"{}", 404, "not_found"),
        ("POST", "/v2/models/delay/infer", b"{}", 400, "bad_request"),
        ("POST", "/v2/models/delay/infer", b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP64","data":[1]}]}', 400, "bad_request"),
        (
            "POST",
            "/v2/models/delay/infer",
            b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}]}',
            400,
            "bad_request",
        ),
        ("POST", "/v2/models/delay/infer", b'{"inputs":[{"name":"x","shape":[],"datatype":"FP64","data":[1]}]}', 400, "bad_request"),
        ("POST", "/v2/models/delay/infer", b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP99","data":[1]}]}', 400, "bad_request"),
        ("POST", "/v2/models/delay/versions/7/infer", b"{}", 404, "not_found"),
        ("POST", "/v2/models/other/infer", b"{}", 404, "not_found"),
        ("GET", "/nowhere", None, 404, "not_found"),
        ("GET", "/endpoints/delay/predict", None, 404, "not_found"),
        ("DELETE", "/v2/models/delay", None, 404, "not_found"),
        ("POST", "/metrics", b"", 404, "not_found"),
    ],
)
def test_bad_requests_get_an_error_body(web, method, path, body, status, code):
    given, answer = web(method, path, body)
    assert (given, answer["code"]) == (status, code)
    assert code in CODES
    assert answer["what"]
    assert answer["remedy"]
    # what a client of the Open Inference Protocol shows its user
    assert answer.get("error") == (f"{answer['what']} {answer['remedy']}" if path.startswith("/v2") else None)


def test_a_wrong_column_is_named_and_the_rejection_logged(home, web):
    row = rows(1)[0] | {"distance": "far"}
    status, answer = web("POST", "/endpoints/delay/predict", {"rows": [row]}, X_Request_Id="r-42")
    assert (status, answer["details"]["column"]) == (400, "distance")
    assert {"expected", "given"} <= set(answer["details"])
    entry = last_entry(home)
    assert (entry.status, entry.request_id, entry.rows) == (400, "r-42", 0)
    assert "distance" in entry.error
    web("POST", "/endpoints/delay/predict", b"{")
    assert last_entry(home).request_id == ""


def test_host_origin_and_binary_tensors(web):
    assert web("GET", "/ready", Host="evil.example")[0] == 403
    assert web("POST", "/endpoints/delay/predict", {"rows": rows(1)}, Origin="http://evil.example")[0] == 403
    assert web("POST", "/endpoints/delay/predict", {"rows": rows(1)}, Origin="http://localhost:5000")[0] == 200
    status, answer = web("POST", "/v2/models/delay/infer", b"{}", Inference_Header_Content_Length="2")
    assert (status, "binary_data=False" in answer["remedy"]) == (400, True)


def test_large_bodies(web, home):
    status, answer = web("POST", "/endpoints/delay/predict", {"columns": flights(20_000), "event_time": NOW_US})
    assert (status, len(answer["predictions"])) == (200, 20_000)
    assert find(home.here.log, answer["ids"][19_999])[2] == 19_999
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    connection.putrequest("POST", "/endpoints/delay/predict")
    connection.putheader("Content-Length", str(65 << 20))
    connection.endheaders()
    refused = connection.getresponse()
    assert (refused.status, json.loads(refused.read())["details"]["limit"]) == (413, 64 << 20)
    connection.close()


def test_chunked_and_pipelined_requests(gateway):
    body = json.dumps({"rows": rows(1)}).encode()
    head = b"POST /endpoints/delay/predict HTTP/1.1\r\nHost: localhost\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (1, bytes([b])) for b in body) + b"0\r\n\r\n"
    plain = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(chunked + plain + plain)
        received = b""
        while received.count(b'"generation":1}') < 3:
            received += connection.recv(1 << 16)
        assert received.count(b"HTTP/1.1 200") == 3
        connection.sendall(b"\x00\x01garbage\r\n\r\n")
        assert b"400" in connection.recv(1 << 16)


def test_the_short_and_the_long_way_keep_their_order(gateway, web):
    web("POST", "/endpoints/delay/predict", {"rows": rows(1)})  # from now on the path is known
    body = json.dumps({"rows": rows(1)}).encode()
    post = b"POST /endpoints/delay/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    get = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
    large = json.dumps({"columns": flights(6000)}).encode()
    chunked = b"POST /endpoints/delay/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(large), large)
    bad = b"POST /endpoints/delay/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n{"
    last = b"POST /endpoints/delay/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        for byte in post:
            connection.send(bytes([byte]))
        connection.sendall(get + post + chunked + post + bad + get + last)
        received = b""
        while chunk := connection.recv(1 << 16):
            received += chunk
    statuses, sizes = [], []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        statuses.append(int(head.split()[1]))
        answer, received = json.loads(rest[:size]), rest[size:]
        sizes.append(len(answer.get("predictions", ())))
    assert statuses == [200, 200, 200, 200, 200, 400, 200, 400]
    assert sizes == [1, 0, 1, 6000, 1, 0, 0, 0]


def test_requests_of_one_piece_are_answered_in_one_piece(gateway, web):
    web("POST", "/endpoints/delay/predict", {"rows": rows(1)})  # from now on the path is known
    body = json.dumps({"rows": rows(1)}).encode()
    post = b"POST /endpoints/delay/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(post * 5)
        assert connection.recv(1 << 16).count(b"HTTP/1.1 200") == 5
        connection.sendall(post * 2 + post[:-4])  # the third is not whole yet: it keeps nobody waiting
        assert connection.recv(1 << 16).count(b"HTTP/1.1 200") == 2
        connection.sendall(post[-4:])
        assert connection.recv(1 << 16).count(b"HTTP/1.1 200") == 1
        connection.sendall(post * 2 + b"\x00garbage\r\n\r\n")
        received = b""
        while chunk := connection.recv(1 << 16):
            received += chunk
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200", b"400"]


def test_the_client_says_what_the_gateway_says(gateway):
    with InferenceClient("127.0.0.1", gateway.port) as client:
        answer = client.predict(ENDPOINT, flights(3), NOW_US, ["a", "b", "c"])
        assert (len(answer.predictions), answer.row_ids) == (3, ["a", "b", "c"])
        assert all(math.isfinite(score) for score in answer.predictions)
        with pytest.raises(TreadleError, match="distance") as error:
            client.predict(ENDPOINT, flights(1) | {"distance": ["far"]}, NOW_US)
        assert error.value.details["column"] == "distance"
        for seed in range(6):
            client.send(ENDPOINT, flights(2, seed), NOW_US)
        assert [client.receive().predictions for _ in range(6)] == [
            client.predict(ENDPOINT, flights(2, s), NOW_US).predictions for s in range(6)
        ]
        for seed in range(9):  # four in one piece, four in another, and one that goes out when its answer is asked for
            client.send(ENDPOINT, flights(2, seed), NOW_US, hold=seed % 4 != 3)
        assert [client.receive().predictions for _ in range(9)] == [
            client.predict(ENDPOINT, flights(2, s), NOW_US).predictions for s in range(9)
        ]
        large = client.predict(ENDPOINT, flights(5000), NOW_US)
        assert len(set(large.ids)) == 5000
    with pytest.raises(TreadleError) as error:
        InferenceClient("127.0.0.1", 1).predict(ENDPOINT, flights(1))
    assert error.value.code == "unavailable"


def test_a_second_gateway_and_a_port_in_use_are_refused(home, gateway):
    with pytest.raises(RuntimeError, match="runs on this home already"):
        _second(home, "tiny", "prod")
    with pytest.raises(RuntimeError, match=rf"cannot listen on 127\.0\.0\.1:{gateway.port}.*\n.*--port"):
        _second(home, "tiny", "staging", "--port", str(gateway.port))
    with pytest.raises(RuntimeError, match=r"needs a token.*\n.*export TREADLE_GATEWAY_TOKEN="):
        _second(home, "tiny", "staging", "--host", "0.0.0.0")


def _second(home, project, environment, *options):
    command = [
        sys.executable,
        "-m",
        "treadle.gateway",
        "--home",
        str(home.layout.root),
        "--project",
        project,
        "--env",
        environment,
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    raise RuntimeError(done.stderr)


def test_before_the_first_snapshot(tmp_path):
    from treadle.records.layout import Layout

    layout = Layout(tmp_path / "home")
    with running_gateway(layout) as gateway:
        web = Web(gateway.port)
        assert web("GET", "/v2/health/live")[0] == 200
        assert web("GET", "/v2/health/ready")[0] == 503
        status, answer = web("POST", "/endpoints/delay/predict", {"rows": rows(1)})
        assert (status, answer["code"]) == (503, "unavailable")
        TinyHome(layout.root).publish(1)
        deadline = time.monotonic() + 10
        while web("GET", "/ready")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert web("POST", "/endpoints/delay/predict", {"rows": rows(1)})[0] == 200


def test_durability_ack_and_a_token(tmp_path, monkeypatch):
    other = TinyHome(tmp_path / "home")
    other.publish(1)
    monkeypatch.setenv("TREADLE_GATEWAY_TOKEN", "0123456789abcdef")
    gateway = GatewayProcess(other.layout, "--durability", "ack", "--host", "0.0.0.0")
    try:
        with InferenceClient("127.0.0.1", gateway.port, token="0123456789abcdef") as client:
            assert [client.predict(ENDPOINT, flights(1), NOW_US).generation for _ in range(20)] == [1] * 20
        with InferenceClient("127.0.0.1", gateway.port) as client, pytest.raises(TreadleError) as error:
            client.predict(ENDPOINT, flights(1), NOW_US)
        assert error.value.code == "unauthenticated"
    finally:
        assert gateway.stop()[0] == 0
