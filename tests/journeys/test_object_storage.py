"""A server whose blobs are in a bucket: files through the API and MLflow's proxy, and what happens when the bucket goes away."""

import contextlib
import datetime as dt
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_server import BUCKET, S3Server
from treadle.client import Client
from treadle.client.inference import InferenceClient
from treadle.operations.ledger import CollectGarbage
from treadle.operations.registry import RegisterVersion
from treadle.operations.tracking import StartRun
from treadle.records.digests import canonical, digest
from treadle.records.layout import Layout
from treadle.records.models import Bundle, BundleFile, Signature
from treadle.store.bucket import Bucket, address
from treadle.store.objects import ObjectBlobs
from treadle.testing.gateways import ENDPOINT, NOW_US, GatewayProcess, TinyHome, flights
from treadle.workshop import open_home
from treadle.workshop.supervisor import living

pytestmark = [pytest.mark.s3, pytest.mark.heavy]
RUN = "0123456789abcdef0123456789abcdef"
ARTIFACTS = f"/api/2.0/mlflow-artifacts/artifacts/0/{RUN}/artifacts"


class Served:
    """A home in a bucket and its server process."""

    def __init__(self, home: Path, where: str):
        self.home, self.where = home, where
        with open_home(home, blobs=where) as shop:
            shop.call(StartRun(project="default", run_id=RUN))
        command = [sys.executable, "-m", "treadle", "server", "--home", str(home), "--port", "0"]
        with (home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(600):
            note = next((n for n in living(Layout(home)) if n.name == "server"), None)
            if note is not None or self.process.poll() is not None:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
        assert note is not None, (home / "server.log").read_text()
        self.port = note.port

    def __call__(self, method: str, path: str, body=None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def objects(self) -> dict[str, int]:
        """What is in the bucket, seen from outside."""
        return {seen.key.replace("/", "").removeprefix("blobs"): seen.size for seen in Bucket(address(self.where)).list("blobs/")}

    def forget_copies(self) -> None:
        """Make the server ask the bucket."""
        for file in (self.home / "blobs" / "cache").glob("??/*"):
            file.unlink()

    def peak(self) -> int:
        """Bytes of memory that the server had at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TREADLE_HOME", "TREADLE_TOKEN", "TREADLE_URL", "TREADLE_BLOBS", "TREADLE_BLOB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads.jsonl"))


@pytest.fixture
def served(tmp_path: Path, clean: None, s3: str) -> Iterator[Served]:
    made = Served(tmp_path / "home", s3)
    yield made
    made.stop()


@pytest.fixture
def mortal(tmp_path: Path, clean: None, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A storage server of this test's own."""
    server = S3Server(tmp_path / "storage")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    server.start()
    yield server
    server.stop()


def test_artifacts_of_mlflow_clients_live_in_the_bucket(served: Served) -> None:
    content = os.urandom(100_000)
    assert served("PUT", f"{ARTIFACTS}/model/weights.bin", content)[0] == 200
    assert served("PUT", f"{ARTIFACTS}/model/MLmodel", b"flavors: {}")[0] == 200
    assert served.objects() == {digest(content): 100_000, digest(b"flavors: {}"): 11}
    listed = json.loads(served("GET", f"/api/2.0/mlflow-artifacts/artifacts?path=0/{RUN}/artifacts/model")[1])
    assert [(f["path"], f["file_size"]) for f in listed["files"]] == [("MLmodel", 11), ("weights.bin", 100_000)]
    for _ in range(2):
        assert served("GET", f"{ARTIFACTS}/model/weights.bin") == (200, content)
        served.forget_copies()
    assert served("GET", f"{ARTIFACTS}/model/weights.bin", None, Range="bytes=99990-") == (206, content[-10:])
    assert served("DELETE", f"{ARTIFACTS}/model")[0] == 200
    assert served("GET", f"{ARTIFACTS}/model/weights.bin")[0] == 404
    with Client(f"http://127.0.0.1:{served.port}") as client:
        assert client.call(CollectGarbage(dry_run=False, min_age_s=0)).freed_bytes == 100_011
    assert served.objects() == {}


def test_a_large_file_is_never_in_memory(served: Served) -> None:
    block = os.urandom(1 << 20)
    path, times = f"/files/default/{RUN}/large.bin", 160
    served("PUT", f"/files/default/{RUN}/small.bin", b"warm")
    before = served.peak()
    status, told = served("PUT", path, (block for _ in range(times)), **{"content-length": str(times << 20)})
    assert (status, json.loads(told)["size"]) == (200, times << 20)
    assert list(served.objects().values()).count(times << 20) == 1
    served.forget_copies()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    for _ in range(times):
        assert answer.read(1 << 20) == block
    assert answer.read() == b""
    connection.close()
    assert served.peak() - before < 90_000_000
    assert not list((served.home / "blobs" / "cache" / "tmp").iterdir())


def test_an_upload_that_is_cut_leaves_nothing_in_the_bucket(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as raw:
        head = f"PUT /files/default/{RUN}/cut.bin HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nContent-Length: 20000000\r\n\r\n"
        raw.sendall(head.encode() + b"x" * 9_000_000)
    assert served("GET", f"/files/default/{RUN}/cut.bin")[0] == 404
    assert served.objects() == {}


def test_a_server_outlives_its_bucket(tmp_path: Path, mortal: S3Server) -> None:
    served = Served(tmp_path / "home", f"s3://{BUCKET}/here")
    try:
        path = f"/files/default/{RUN}/a.txt"
        assert served("PUT", path, b"before")[0] == 200
        mortal.kill()
        served.forget_copies()
        for method, body in (("PUT", b"meanwhile"), ("GET", None)):
            status, told = served(method, path, body)
            assert (status, json.loads(told)["code"], json.loads(told)["details"]) == (503, "unavailable", {"cause": "endpoint"})
            assert "AWS_ENDPOINT_URL" in json.loads(told)["remedy"]
        status, told = served("PUT", f"{ARTIFACTS}/b.txt", b"meanwhile")
        assert (status, json.loads(told)["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert served("GET", "/health")[0] == 200
        with Client(f"http://127.0.0.1:{served.port}") as client:
            assert client.call(StartRun(project="default", run_id="r2")).run_id == "r2", "what needs no blobs goes on"
        mortal.start()
        assert served("GET", path) == (200, b"before")
        assert served("PUT", path, b"after")[0] == 200
        assert served.objects() == {digest(b"before"): 6, digest(b"after"): 5}
    finally:
        served.stop()


def test_a_model_card_says_that_the_bucket_is_away(tmp_path: Path, mortal: S3Server) -> None:
    served = Served(tmp_path / "home", f"s3://{BUCKET}/cards")
    page = "/projects/default/dev/models/delay/1"
    try:
        with open_home(tmp_path / "home") as shop:
            card = {"limits": "Winter was not seen.", "params": {"trees": 80}}
            made = Bundle(
                format=1,
                model="delay",
                flavor="lightgbm",
                signature=Signature(inputs=()),
                views=(),
                files=(BundleFile(path="model.txt", digest=shop.blobs.put(b"tree"), size=4),),
                onnx_equal=0.0,
                environment=("numpy==2.0",),
                python="3.11.7",
                code_digest="c0de",
                run_id=RUN,
                project="default",
                trained_on=(),
                event_time=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
                card=card,
            )
            sealed = shop.blobs.put(canonical(made))
            shop.call(RegisterVersion(project="default", model="delay", bundle_digest=sealed, run_id=RUN, metrics={"auc": 0.7}))
        for path, told in ((page, b"Winter was not seen."), (f"{page}/card.json", b'"unread": ""')):
            status, body = served("GET", path)
            assert (status, told in body) == (200, True), path
        mortal.kill()
        served.forget_copies()
        status, body = served("GET", page)
        assert status == 200
        assert body.count(b"cannot be read now") == 1
        assert b"They cannot be listed now." in body
        assert b"AWS_ENDPOINT_URL" in body
        assert b"Winter" not in body
        assert b"Nobody has written this yet" not in body
        assert b"not sealed" not in body
        card = json.loads(served("GET", f"{page}/card.json")[1])
        assert "cannot be read now" in card["unread"]
        assert next(f for f in card["sections"][0]["fields"] if f["name"] == "bundle")["text"] == sealed
        for kind in ("md", "html"):
            status, body = served("GET", f"{page}/card.{kind}")
            assert (status, b"cannot be read now" in body) == (200, True)
        status, told = served("GET", f"{page}/bundle/model.txt")
        assert (status, b"AWS_ENDPOINT_URL" in told) == (503, True)
        mortal.start()
        assert b"Winter was not seen." in served("GET", page)[1]
    finally:
        served.stop()


def test_a_gateway_serves_and_starts_again_without_the_bucket(tmp_path: Path, mortal: S3Server) -> None:
    blobs = ObjectBlobs(tmp_path / "home" / "blobs", address(f"s3://{BUCKET}/bundles"), home_id="home")
    blobs.claim()
    home = TinyHome(tmp_path / "home", blobs=blobs)
    home.publish(1)
    assert len(list(blobs.listing())) > 4

    def ask(gateway: GatewayProcess) -> list[float]:
        with contextlib.closing(InferenceClient("127.0.0.1", gateway.port)) as client:
            return list(client.predict(ENDPOINT, flights(5), NOW_US).predictions)

    gateway = GatewayProcess(home.layout)
    try:
        before = ask(gateway)
        mortal.kill()
        for file in (tmp_path / "home" / "blobs").rglob("*"):
            if file.is_file():
                file.unlink()
        assert ask(gateway) == before
        gateway.stop()
        gateway = GatewayProcess(home.layout)
        assert ask(gateway) == before
    finally:
        gateway.stop()
