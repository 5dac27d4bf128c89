"""The `mlflow-artifacts` proxy and the listings, as clients of that protocol ask for them."""

import http.client
import json
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from api_house import House

from treadle.api.files import raw_path
from treadle.api.mlflow.artifacts import ROWS, Proxy, streams
from treadle.api.mlflow.places import Place, of_uri, place
from treadle.api.mlflow.table import Context, ProtocolError
from treadle.operations.tracking import BinRun, CreateExperiment, CreateLoggedModel, GetFile, StartRun
from treadle.records.calls import Role
from treadle.records.digests import digest
from treadle.tracking.service import services

RUN = "0123456789abcdef0123456789abcdef"
MODEL = "m-" + RUN
ROOT = f"/api/2.0/mlflow-artifacts/artifacts/0/{RUN}/artifacts"
BASE = "/mlflow/p"
POST = "/ajax-api/2.0/mlflow/upload-artifact"


class Shop(House):
    """A run and a logged model behind the proxy."""

    def __init__(self, root):
        super().__init__(root, services)
        self.call(CreateExperiment(project="p", experiment_id="7", name="elsewhere", artifact_location="mlflow-artifacts:/team/a"))
        self.call(StartRun(project="p", run_id=RUN))
        self.call(StartRun(project="p", run_id="f" * 32, experiment="7"))
        self.call(CreateLoggedModel(project="p", model_id=MODEL, name="m"))

    def call(self, request):
        return self.dispatch(request, actor=self.owner)

    def app(self, **more):
        proxy = Proxy(self.dispatch, self.blobs, **more)

        async def app(scope, receive, send):
            path = raw_path(scope).removeprefix(BASE)
            assert streams(path), path
            scope["state"]["project"] = "p"
            await proxy({**scope, "raw_path": path.encode("latin-1")}, receive, send)

        return app

    def row(self, route, **fields):
        context = Context("p", self.owner, self.call)
        row = next(r for r in ROWS if r.path == route)
        return row.handle(context, row.request(**fields))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Shop(tmp_path_factory.mktemp("house"))
    with made.serving(mounts=[(BASE, made.app())]) as port:
        made.port = port
        yield made
    made.database.close()


def ask(shop, method, path, body=None, **headers) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=30)
    try:
        connection.request(method, BASE + path.removeprefix(BASE), body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def told(answer):
    return answer[0], json.loads(answer[2])


def refused(answer):
    return answer[0], json.loads(answer[2])["error_code"]


def test_what_is_put_is_listed_and_comes_back(shop):
    for name in ("model/MLmodel", "model/data/weights.bin", "a b.txt"):
        assert told(ask(shop, "PUT", f"{ROOT}/{quote(name)}", name.encode())) == (200, {})
    status, headers, body = ask(shop, "GET", f"{ROOT}/model/MLmodel")
    assert (status, body) == (200, b"model/MLmodel")
    assert headers["content-disposition"].startswith("attachment")
    listed = "/api/2.0/mlflow-artifacts/artifacts?path="
    assert told(ask(shop, "GET", f"{listed}0/{RUN}/artifacts"))[1] == {
        "files": [{"path": "a b.txt", "is_dir": False, "file_size": 7}, {"path": "model", "is_dir": True}]
    }
    assert told(ask(shop, "GET", f"{listed}0/{RUN}/artifacts/model"))[1] == {
        "files": [{"path": "MLmodel", "is_dir": False, "file_size": 13}, {"path": "data", "is_dir": True}]
    }
    for nothing in ("model/MLmodel", "none"):
        assert told(ask(shop, "GET", f"/ajax-{listed[1:]}0/{RUN}/artifacts/{nothing}")) == (200, {})
        assert told(ask(shop, "GET", f"{listed}0/{RUN}/artifacts/{nothing}")) == (200, {})
    assert shop.row("/artifacts/list", run_id=RUN, path="model") == {
        "root_uri": f"mlflow-artifacts:/0/{RUN}/artifacts",
        "files": [{"path": "model/MLmodel", "is_dir": False, "file_size": 13}, {"path": "model/data", "is_dir": True}],
    }
    assert shop.row("/artifacts/list", run_uuid="f" * 32) == {"root_uri": f"mlflow-artifacts:/team/a/{'f' * 32}/artifacts"}
    assert told(ask(shop, "DELETE", f"{ROOT}/model")) == (200, {})
    assert told(ask(shop, "DELETE", f"{ROOT}/model")) == (200, {})
    assert told(ask(shop, "GET", f"{listed}0/{RUN}/artifacts"))[1]["files"][0]["path"] == "a b.txt"


def test_logged_models_have_files_of_their_own(shop):
    assert told(ask(shop, "PUT", f"/ajax-api/2.0/mlflow-artifacts/artifacts/0/models/{MODEL}/artifacts/MLmodel", b"flavor"))[0] == 200
    assert shop.call(GetFile(project="p", owner=MODEL, path="MLmodel")).size == 6
    answer = shop.row("/logged-models/{model_id}/artifacts/directories", model_id=MODEL)
    assert [f["path"] for f in answer["files"]] == ["MLmodel"]
    assert ask(shop, "GET", f"/ajax-api/2.0/mlflow/logged-models/{MODEL}/artifacts/files?artifact_file_path=MLmodel")[2] == b"flavor"
    assert refused(ask(shop, "GET", f"/ajax-api/2.0/mlflow/logged-models/{MODEL}/artifacts/files")) == (400, "BAD_REQUEST")


def test_errors_that_clients_act_on(shop):
    ask(shop, "PUT", f"{ROOT}/folder/file", b"x")
    missing = ask(shop, "GET", f"{ROOT}/folder/none")
    assert told(missing) == (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No such artifact: 'folder/none'"})
    assert refused(ask(shop, "GET", f"{ROOT}/folder")) == (400, "INVALID_PARAMETER_VALUE")
    gone = f"/api/2.0/mlflow-artifacts/artifacts/0/{'e' * 32}/artifacts/x"
    for method in ("GET", "PUT", "DELETE"):
        answer = told(ask(shop, method, gone, b"x" if method == "PUT" else None))
        assert answer == (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"Run with id={'e' * 32} not found"})
    for method in ("DELETE", "PUT"):
        for root in (ROOT, ROOT + "/", "/api/2.0/mlflow-artifacts/artifacts/", "/api/2.0/mlflow-artifacts/artifacts"):
            assert ask(shop, method, root)[0] in (400, 405)
    assert refused(ask(shop, "POST", f"{ROOT}/x", b"x")) == (405, "METHOD_NOT_ALLOWED")
    assert refused(ask(shop, "GET", "/api/2.0/mlflow-artifacts/presigned/0/x")) == (501, "NOT_IMPLEMENTED")
    with pytest.raises(ProtocolError, check=lambda e: e.code == "NOT_IMPLEMENTED"):
        shop.row("/artifacts/presigned-upload-url", run_id=RUN, path="a")
    assert refused(ask(shop, "PUT", f"{ROOT}/folder", b"x")) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "%2e%2e/x",
        "%252e%252e/x",
        "a/..%2f..%2fx",
        "..%5cx",
        "%2fetc/passwd",
        "C:/x",
        "file:/etc",
        "a%23b",
        "a%00b",
        "a//b",
        "x" * 2000,
    ],
)
def test_whatever_climbs_is_an_invalid_path(shop, path):
    before = list(shop.blobs.listing())
    invalid = (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid path"})
    for method in ("GET", "PUT", "DELETE"):
        assert told(ask(shop, method, f"{ROOT}/{path}", b"x" if method == "PUT" else None)) == invalid
        assert told(ask(shop, method, f"/api/2.0/mlflow-artifacts/artifacts/{path}", b"x" if method == "PUT" else None)) == invalid
    listed = invalid if path != "a//b" else (200, {})  # says nothing more than a/b does
    assert told(ask(shop, "GET", f"/api/2.0/mlflow-artifacts/artifacts?path={path}")) == listed
    assert told(ask(shop, "GET", f"/get-artifact?run_uuid={RUN}&path={path}")) == invalid
    assert list(shop.blobs.listing()) == before
    assert ask(shop, "GET", f"{ROOT}/%ff")[0] == 400


def test_a_range_behind_the_end_is_told_the_size(shop):
    ask(shop, "PUT", f"{ROOT}/digits", b"0123456789")
    for path in (f"{ROOT}/digits", f"/get-artifact?run_id={RUN}&path=digits"):
        assert ask(shop, "GET", path, Range="bytes=8-99")[2] == b"89"
        for method in ("GET", "HEAD"):
            status, headers, body = ask(shop, method, path, Range="bytes=10-")
            assert (status, headers.get("content-range")) == (416, "bytes */10")
        status, headers, body = ask(shop, "GET", path, Range="bytes=10-")
        assert json.loads(body)["error_code"] == "INVALID_PARAMETER_VALUE"
    assert ask(shop, "PUT", f"{ROOT}/digits", b"x", Content_Encoding="gzip")[0] == 415


def test_get_and_upload_of_the_browser(shop):
    page = b"<script>1</script>"
    assert told(ask(shop, "POST", f"{POST}?run_uuid={RUN}&path=notes/page.html", page))[0] == 200
    for query in (f"run_uuid={RUN}", f"run_id={RUN}"):
        status, headers, body = ask(shop, "GET", f"/get-artifact?{query}&path=notes/page.html")
        assert (status, body, headers["x-content-type-options"]) == (200, page, "nosniff")
        assert headers["content-disposition"].startswith("attachment")
    assert refused(ask(shop, "POST", f"{POST}?run_uuid={RUN}&path=empty", b"")) == (400, "INVALID_PARAMETER_VALUE")
    large = told(ask(shop, "POST", f"{POST}?run_uuid={RUN}&path=large", b"x" * (10 * 1024 * 1024 + 1)))
    assert large == (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Artifact size is too large. Max size is 10MB."})
    for query in ("", "run_uuid=x", "path=x"):
        assert ask(shop, "GET", f"/get-artifact?{query}")[0] in (400, 404)
        assert ask(shop, "POST", f"{POST}?{query}", b"x")[0] in (400, 404)


def test_a_run_in_the_bin_takes_nothing(shop):
    run = "d" * 32
    shop.call(StartRun(project="p", run_id=run))
    shop.call(BinRun(project="p", run_id=run, lifecycle="deleted"))
    answer = told(ask(shop, "PUT", f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/x", b"x"))
    said = f"The run {run} must be in the 'active' state. Current state is deleted."
    assert answer == (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": said})


def test_an_upload_in_parts_as_the_client_does_it(shop):
    parts = [b"a" * 100_000, b"b" * 100_000, b"c"]
    base = f"/api/2.0/mlflow-artifacts/mpu/{{}}/0/{RUN}/artifacts/big"
    token = {"Authorization": f"Bearer {shop.token('ed', 'tok', Role.editor)}"}
    made = told(ask(shop, "POST", base.format("create"), json.dumps({"path": "/tmp/w.bin", "num_parts": 3}), **token))[1]
    assert [c["part_number"] for c in made["credentials"]] == [1, 2, 3]
    done = []
    for credential, part in zip(made["credentials"], parts, strict=True):
        url = urlsplit(credential["url"])
        assert (url.netloc, credential["headers"]) == (f"127.0.0.1:{shop.port}", token)
        status, headers, _ = ask(shop, "PUT", url.path, part, **credential["headers"])
        assert status == 200
        done.append({"part_number": credential["part_number"], "etag": headers["etag"], "url": credential["url"]})
    finish = {"path": "/tmp/w.bin", "upload_id": made["upload_id"]}
    for wrong in (done[:2], [], [{**d, "etag": "x"} for d in done]):
        assert refused(ask(shop, "POST", base.format("complete"), json.dumps({**finish, "parts": wrong})))[0] == 400
    assert refused(ask(shop, "POST", base.format("complete") + "/other", json.dumps({**finish, "parts": done})))[0] == 400
    assert told(ask(shop, "POST", base.format("complete"), json.dumps({**finish, "parts": done}))) == (200, {})
    body = ask(shop, "GET", f"{ROOT}/big/w.bin")[2]
    assert digest(body) == digest(b"".join(parts))
    assert refused(ask(shop, "POST", base.format("complete"), json.dumps({**finish, "parts": done}))) == (404, "RESOURCE_DOES_NOT_EXIST")
    made = told(ask(shop, "POST", base.format("create"), json.dumps({"path": "w2.bin", "num_parts": "1"})))[1]
    assert told(ask(shop, "POST", base.format("abort"), json.dumps({"path": "w2.bin", "upload_id": made["upload_id"]}))) == (200, {})
    assert refused(ask(shop, "PUT", urlsplit(made["credentials"][0]["url"]).path, b"late")) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"path": 5}',
        b"",
        b'{"num_parts": 1}',
        b'{"path": "a", "num_parts": 0}',
        b'{"path": "..", "num_parts": 1}',
        b'{"path":' + b"[" * 100_000,
    ],
)
def test_bodies_that_cannot_be(shop, body):
    answer = refused(ask(shop, "POST", f"/api/2.0/mlflow-artifacts/mpu/create/0/{RUN}/artifacts", body))
    assert answer == (400, "INVALID_PARAMETER_VALUE")


def test_whose_a_path_is():
    native = "run_" + "0" * 26
    assert place(f"team/a/{RUN}/artifacts/x/y") == Place(RUN, "x/y")
    assert place(f"team/a/{native}/artifacts") == Place(native, "")
    assert place(f"team/a/models/{MODEL}/artifacts/x") == Place(MODEL, "x")
    assert place(f"0/{RUN}/artifacts/1/{'f' * 32}/artifacts/x") == Place(RUN, f"1/{'f' * 32}/artifacts/x")
    assert place("1/traces/tr-1/artifacts/traces.json") == Place("", "1/traces/tr-1/artifacts/traces.json")
    assert of_uri(f"runs:/{RUN}/model", "MLmodel") == Place(RUN, "model/MLmodel")
    assert of_uri(f"models:/{MODEL}", "MLmodel") == Place(MODEL, "MLmodel")
    assert of_uri(f"mlflow-artifacts:/0/{RUN}/artifacts/model", "MLmodel") == Place(RUN, "model/MLmodel")
    for elsewhere in ("s3://bucket/x", "file:///etc", "mlflow-artifacts://other:5000/0/x", "/etc/passwd", "dbfs:/x"):
        with pytest.raises(ProtocolError):
            of_uri(elsewhere, "a")
    with pytest.raises(ProtocolError):
        of_uri(f"runs:/{RUN}/../..", "a")
