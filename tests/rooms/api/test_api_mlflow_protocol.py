"""MLflow's API over a real socket: shapes, errors in the protocol's form, and what bad callers get."""

import base64
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from api_mlflow_house import API, JSON, House

from treadle.api.mlflow.errors import CODES, STATUS
from treadle.operations.ledger import CreateActor, IssueToken
from treadle.operations.tracking import GetTrackedRun, StartRun
from treadle.records import errors
from treadle.records.calls import Role


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("home")).listening() as listening:
        yield listening


@pytest.fixture
def run(house: House) -> str:
    return house.run()


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_experiment_is_made_found_renamed_tagged_binned_and_restored(house: House) -> None:
    made = house.post("/experiments/create", name="trees", tags=[{"key": "a", "value": "b"}])["experiment_id"]
    assert made.isdigit()
    assert len(made) == 18
    found = house.get(f"/experiments/get?experiment_id={made}")["experiment"]
    assert {k: v for k, v in found.items() if "time" not in k} == {
        "experiment_id": made,
        "name": "trees",
        "artifact_location": f"mlflow-artifacts:/{made}",
        "lifecycle_stage": "active",
        "tags": [{"key": "a", "value": "b"}],
    }
    assert house.get("/experiments/get-by-name?experiment_name=trees")["experiment"] == found
    assert house.post("/experiments/update", experiment_id=made, new_name="woods") == {}
    assert house.post("/experiments/set-experiment-tag", experiment_id=made, key="c", value="d") == {}
    assert house.post("/experiments/delete-experiment-tag", experiment_id=made, key="a") == {}
    assert house.refused("/experiments/delete-experiment-tag", {"experiment_id": made, "key": "a"}) == (
        404,
        "RESOURCE_DOES_NOT_EXIST",
        f"No tag with name: a in experiment with id {made}",
    )
    assert house.post("/experiments/delete", experiment_id=made) == {}
    gone = f"The experiment {made} must be in the 'active' state. Current state is deleted."
    assert house.refused("/runs/create", {"experiment_id": made}) == (400, "INVALID_PARAMETER_VALUE", gone)
    assert house.refused("/experiments/create", {"name": "woods"})[:2] == (400, "RESOURCE_ALREADY_EXISTS")
    assert house.refused("/experiments/delete", {"experiment_id": made})[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert house.post("/experiments/restore", experiment_id=made) == {}
    assert house.post("/runs/create", experiment_id=made)["run"]["info"]["experiment_id"] == made


def test_a_run_is_answered_whole(house: House) -> None:
    made = house.post("/runs/create", experiment_id="0", start_time="1234", run_name="r", user_id="joe", tags=[{"key": "a", "value": "b"}])
    info = made["run"]["info"]
    run_id = info["run_id"]
    assert info == {
        "run_id": run_id,
        "run_uuid": run_id,
        "experiment_id": "0",
        "run_name": "r",
        "user_id": "joe",
        "status": "RUNNING",
        "start_time": 1234,
        "artifact_uri": f"mlflow-artifacts:/0/{run_id}/artifacts",
        "lifecycle_stage": "active",
    }
    assert made["run"]["data"] == {"tags": [{"key": "a", "value": "b"}, {"key": "mlflow.runName", "value": "r"}]}
    assert made["run"]["inputs"] == {}
    metrics = [{"key": "m", "value": v, "timestamp": 5, "step": s} for s, v in enumerate((1, "NaN", "-Infinity"))]
    assert house.post("/runs/log-batch", run_id=run_id, metrics=metrics, params=[{"key": "p", "value": "1"}]) == {}
    assert house.post("/runs/log-metric", run_id=run_id, key="n", value=2, timestamp="7", step="3") == {}
    dataset = {"name": "d", "digest": "x", "source_type": "local", "source": "{}"}
    tags = [{"key": "mlflow.data.context", "value": "train"}]
    assert house.post("/runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset, "tags": tags}]) == {}
    assert house.post("/runs/update", run_uuid=run_id, status="FINISHED", end_time=2345)["run_info"]["status"] == "FINISHED"
    read = house.get(f"/runs/get?run_id={run_id}")["run"]
    assert read["info"]["end_time"] == 2345
    assert read["data"]["metrics"] == [
        {"key": "m", "value": "-Infinity", "timestamp": 5, "step": 2},
        {"key": "n", "value": 2.0, "timestamp": 7, "step": 3},
    ]
    assert read["data"]["params"] == [{"key": "p", "value": "1"}]
    assert read["inputs"] == {"dataset_inputs": [{"tags": tags, "dataset": dataset}]}
    shown = house.get(f"/metrics/get-history?run_id={run_id}&metric_key=m")["metrics"]
    assert [m["value"] for m in shown] == [1.0, "NaN", "-Infinity"]
    assert house.get(f"/metrics/get-history?run_id={run_id}&metric_key=none") == {}
    bulk = house.get(f"/metrics/get-history-bulk?run_id={run_id}&run_id=none&metric_key=n")
    assert bulk == {"metrics": [{"key": "n", "value": 2.0, "timestamp": 7, "step": 3, "run_id": run_id}]}
    thin = house.get(f"/metrics/get-history-bulk-interval?run_ids={run_id}&metric_key=m&start_step=1&end_step=2&max_results=1")
    assert [m["step"] for m in thin["metrics"]] == [2]


def test_a_name_is_made_up_kept_in_the_tag_and_changed(house: House) -> None:
    made = house.post("/runs/create", experiment_id="0")["run"]
    name, run_id = made["info"]["run_name"], made["info"]["run_id"]
    assert name.count("-") == 2
    assert made["data"]["tags"] == [{"key": "mlflow.runName", "value": name}]
    house.post("/runs/set-tag", run_id=run_id, key="mlflow.runName", value="mine")
    assert house.get(f"/runs/get?run_id={run_id}")["run"]["info"]["run_name"] == "mine"
    house.post("/runs/update", run_id=run_id, run_name="yours")
    assert house.get(f"/runs/get?run_id={run_id}")["run"]["data"]["tags"] == [{"key": "mlflow.runName", "value": "yours"}]
    both = {"experiment_id": "0", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]}
    assert house.refused("/runs/create", both)[2].startswith("Both 'run_name' argument and 'mlflow.runName' tag are specified")


def test_a_run_of_ours_is_theirs_too(house: House) -> None:
    house.shop.call(StartRun(project="default", run_id="run_ours", name="ours", user="mia"))
    run = house.get("/runs/get?run_id=run_ours")["run"]
    assert (run["info"]["run_name"], run["info"]["user_id"]) == ("ours", "mia")
    assert run["data"]["tags"] == [{"key": "mlflow.runName", "value": "ours"}]


def test_a_logged_model_lives(house: House, run: str) -> None:
    params = [{"key": "p", "value": "1"}]
    made = house.post("/logged-models", experiment_id="0", name="lm", source_run_id=run, model_type="t", params=params)["model"]
    model_id = made["info"]["model_id"]
    assert made["info"]["artifact_uri"] == f"mlflow-artifacts:/0/models/{model_id}/artifacts"
    assert (made["info"]["status"], made["data"]) == ("LOGGED_MODEL_PENDING", {"params": params})
    assert house.ask("PATCH", f"/logged-models/{model_id}", {"status": "LOGGED_MODEL_READY"})[1]["model"]["info"]["status"] == (
        "LOGGED_MODEL_READY"
    )
    assert house.ask("PATCH", f"/logged-models/{model_id}/tags", {"tags": [{"key": "a/b", "value": "c"}]}) == (200, {})
    house.post("/runs/log-metric", run_id=run, key="auc", value=0.9, timestamp=1, model_id=model_id)
    house.post("/runs/outputs", run_id=run, models=[{"model_id": model_id, "step": 3}])
    read = house.get(f"/logged-models/{model_id}")["model"]
    assert read["info"]["tags"] == [{"key": "a/b", "value": "c"}]
    assert [(m["key"], m["run_id"], m["model_id"]) for m in read["data"]["metrics"]] == [("auc", run, model_id)]
    assert house.get(f"/runs/get?run_id={run}")["run"]["outputs"] == {"model_outputs": [{"model_id": model_id, "step": 3}]}
    assert house.ask("DELETE", f"/logged-models/{model_id}/tags/{quote('a/b', safe='')}") == (200, {})
    missing = house.refused(f"/logged-models/{model_id}/tags/zz", None, "DELETE")
    assert missing == (404, "RESOURCE_DOES_NOT_EXIST", f"No tag with key 'zz' found for model with ID '{model_id}'.")
    assert house.ask("DELETE", f"/logged-models/{model_id}") == (200, {})
    assert house.ask("GET", f"/logged-models/{model_id}")[0] == 404
    assert house.get(f"/logged-models/{model_id}?allow_deleted=true")["model"]["info"]["name"] == "lm"
    assert "Invalid model name ('a/b') provided" in house.refused("/logged-models", {"experiment_id": "0", "name": "a/b"})[2]


def test_every_path_has_its_twin_and_any_project_its_base(house: House, run: str) -> None:
    assert house.raw("GET", f"/ajax-api/2.0/mlflow/runs/get?run_id={run}") == house.raw("GET", f"{API}/runs/get?run_id={run}")
    made = house.ask("POST", "/runs/create", {"experiment_id": "0"}, base="/mlflow/flights")[1]["run"]["info"]["run_id"]
    assert house.shop.call(GetTrackedRun(project="flights", run_id=made)).experiment_id == "0"
    assert house.ask("GET", f"/runs/get?run_id={made}")[0] == 404
    assert house.raw("GET", "/mlflow/flights/version")[1].count(b".") == 2
    assert house.raw("GET", "/mlflow/flights/health") == (200, b"OK")
    assert house.ask("POST", "/runs/create", {}, base="/mlflow/no%2Fname")[0] == 400


def test_what_the_server_says_of_itself(house: House) -> None:
    info = json.loads(house.raw("GET", "/api/3.0/mlflow/server-info")[1])
    assert info["multipart_uploads_enabled"] is True
    assert house.raw("GET", "/health") == (200, b"OK")
    assert house.raw("GET", "/version", headers={"user-agent": "mlflow-python-client/3.17.2"})[1].count(b".") == 2
    assert json.loads(house.raw("GET", "/version")[1])["name"] == "treadle"


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_code_of_ours_has_one_of_theirs() -> None:
    assert set(CODES) == set(errors.CODES)
    assert set(CODES.values()) <= set(STATUS)


@pytest.mark.parametrize(
    ("method", "path", "code", "status"),
    [
        ("GET", "/nothing", "ENDPOINT_NOT_FOUND", 404),
        ("GET", "/runs/create", "ENDPOINT_NOT_FOUND", 405),
        ("POST", "/traces", "NOT_IMPLEMENTED", 501),
        ("POST", "/gateway/endpoints/create", "NOT_IMPLEMENTED", 501),
        ("GET", "/logged-models/m/x/y/z", "ENDPOINT_NOT_FOUND", 404),
        ("GET", "/logged-models/%ff", "INVALID_PARAMETER_VALUE", 400),
    ],
)
def test_what_is_not_there_says_so_in_the_protocols_form(house: House, method: str, path: str, code: str, status: int) -> None:
    assert house.refused(path, {} if method == "POST" else None, method)[:2] == (status, code)


def test_a_changed_parameter_names_both_values(house: House, run: str) -> None:
    house.post("/runs/log-parameter", run_id=run, key="p", value="1")
    house.post("/runs/log-parameter", run_id=run, key="p", value="1")
    assert house.refused("/runs/log-parameter", {"run_id": run, "key": "p", "value": "2"})[2] == (
        "Changing param values is not allowed. Param with key='p' was already logged with value='1' "
        f"for run ID='{run}'. Attempted logging new value '2'."
    )
    batch = {"run_id": run, "params": [{"key": "p", "value": "3"}, {"key": "q", "value": "1"}], "tags": [{"key": "t", "value": "1"}]}
    assert house.refused("/runs/log-batch", batch)[2] == (
        "Changing param values is not allowed. Params were already logged='[{'key': 'p', 'old_value': '1', 'new_value': '3'}]' "
        f"for run ID='{run}'."
    )
    assert house.get(f"/runs/get?run_id={run}")["run"]["data"]["params"] == [{"key": "p", "value": "1"}], "nothing of the batch is kept"
    twice = {"run_id": run, "params": [{"key": "z", "value": "1"}, {"key": "z", "value": "1"}]}
    assert house.refused("/runs/log-batch", twice)[2].startswith("Duplicate parameter keys have been submitted: ['z'].")


def test_a_deleted_run_is_read_and_not_written(house: House, run: str) -> None:
    assert house.post("/runs/delete", run_id=run) == house.post("/runs/delete", run_id=run) == {}
    told = f"The run {run} must be in the 'active' state. Current state is deleted."
    for path, body in (
        ("/runs/log-metric", {"key": "m", "value": 1, "timestamp": 1}),
        ("/runs/log-batch", {"tags": [{"key": "a", "value": "b"}]}),
        ("/runs/update", {"status": "FINISHED"}),
        ("/runs/delete-tag", {"key": "mlflow.runName"}),
    ):
        assert house.refused(path, {"run_id": run, **body}) == (400, "INVALID_PARAMETER_VALUE", told)
    assert house.get(f"/runs/get?run_id={run}")["run"]["info"]["lifecycle_stage"] == "deleted"
    house.post("/runs/restore", run_id=run)
    house.post("/runs/log-metric", run_id=run, key="m", value=1, timestamp=1)


BAD = [
    ("/runs/get", None, 400, "Missing value for required parameter 'run_id'."),
    ("/experiments/create", {"name": 5}, 400, "Invalid value 5 for parameter 'name' supplied:  Hint: Value was of type 'int'."),
    ("/experiments/create", {"name": ""}, 400, "Missing value for required parameter 'name'."),
    ("/experiments/create", {"name": "n" * 10_000}, 400, "'name' exceeds the maximum length of 500 characters"),
    ("/experiments/create", {"name": "a\x00b"}, 400, "'name' contains a NUL character"),
    ("/experiments/create", {"name": "x", "artifact_location": "file:///etc"}, 400, "Invalid artifact location"),
    ("/experiments/create", {"name": "x", "artifact_location": "mlflow-artifacts://elsewhere/x"}, 400, "Invalid artifact location"),
    ("/experiments/create", {"name": "x", "artifact_location": "/etc"}, 400, "Invalid artifact location"),
    ("/experiments/create", {"name": "x", "artifact_location": "s3://b/../x"}, 400, "Invalid artifact location"),
    ("/experiments/create", {"name": "x", "artifact_location": "C:\\x"}, 400, "Invalid artifact location"),
    ("/experiments/search", {}, 400, "Invalid value 0 for parameter 'max_results' supplied. It must be a positive integer"),
    ("/experiments/update", {"experiment_id": "0", "new_name": ""}, 400, "Missing value for required parameter 'new_name'."),
    ("/runs/create", {"experiment_id": "987654"}, 404, "No Experiment with id=987654 exists"),
    ("/runs/create", {"experiment_id": "abc"}, 400, "Invalid experiment ID 'abc'."),
    ("/runs/create", {"start_time": -1}, 400, "Invalid value -1 for parameter 'start_time'"),
    ("/runs/create", {"start_time": 2**63}, 400, "Invalid value 9223372036854775808 for parameter 'start_time'"),
    ("/runs/create", {"tags": "x"}, 400, "Invalid value \"x\" for parameter 'tags' supplied:  Hint: Value was of type 'str'."),
    ("/runs/log-metric", {"run_id": "none", "key": "m", "value": 1, "timestamp": 1}, 404, "Run with id=none not found"),
    ("/runs/log-metric", {"run_id": "RUN", "key": "m", "timestamp": 1}, 400, "Missing value for required parameter 'value'."),
    ("/runs/log-metric", {"run_id": "RUN", "key": "m", "value": "x", "timestamp": 1}, 400, "Invalid value \"x\" for parameter 'value'"),
    ("/runs/log-metric", {"run_id": "RUN", "key": "a*b", "value": 1, "timestamp": 1}, 400, "Invalid value \"a*b\" for parameter 'name'"),
    ("/runs/log-metric", {"run_id": "RUN", "key": "a//b", "value": 1, "timestamp": 1}, 400, "This name would resolve to 'a/b'"),
    ("/runs/log-metric", {"run_id": "RUN", "key": "m" * 251, "value": 1, "timestamp": 1}, 400, "'Metric name' exceeds the maximum length"),
    ("/runs/log-metric", {"run_id": "RUN", "key": "a\u202eb", "value": 1, "timestamp": 1}, 400, "Names may only contain alphanumerics"),
    ("/runs/log-metric", {"run_id": "RUN", "key": "m", "value": 1, "timestamp": -1}, 400, "Timestamp must be a nonnegative long"),
    ("/runs/log-metric", {"run_id": "RUN", "key": "m", "value": 1, "timestamp": 2**63 - 1}, 400, "before the year 10000"),
    ("/runs/log-metric", {"run_id": "RUN", "key": "m", "value": 1, "timestamp": 1, "step": 2**63}, 400, "for parameter 'step'"),
    ("/runs/log-parameter", {"run_id": "RUN", "key": "k" * 251, "value": "1"}, 400, "'Param key' exceeds the maximum length of 250"),
    ("/runs/log-parameter", {"run_id": "RUN", "key": "k", "value": "a\x00"}, 400, "'value' contains a NUL character"),
    ("/runs/set-tag", {"run_id": "RUN", "key": "", "value": "1"}, 400, "Missing value for required parameter 'key'."),
    ("/runs/delete-tag", {"run_id": "RUN", "key": "zz"}, 404, "No tag with name: zz in run with id"),
    ("/runs/log-batch", {"run_id": "RUN", "params": [{"key": str(i)} for i in range(101)]}, 400, "at most 100 params. Got 101 params."),
    ("/runs/log-batch", {"run_id": "RUN", "metrics": [{"key": "m", "timestamp": 1}]}, 400, "required parameter 'metrics[0].value'"),
    ("/runs/log-batch", {"run_id": "RUN", "metrics": [{"key": 5}]}, 400, "Invalid value 5 for parameter 'metrics[0].key' supplied"),
    ("/runs/log-batch", {"run_id": "../x"}, 400, "Invalid value \"../x\" for parameter 'run_id' supplied."),
    (
        "/runs/log-inputs",
        {"run_id": "RUN", "datasets": [{"dataset": {"name": "d", "digest": "x" * 37}}]},
        400,
        "Dataset source_type cannot be",
    ),
    ("/runs/search", {"experiment_ids": ["0"], "max_results": 60_000}, 400, "Invalid value 60000 for parameter 'max_results' supplied:"),
    ("/runs/search", {"experiment_ids": ["0"], "run_view_type": "SOME"}, 400, "Invalid value \"SOME\" for parameter 'run_view_type'"),
    ("/runs/search", {"experiment_ids": ["0"], "filter": "' OR '1'='1"}, 400, ""),
    ("/runs/log-model", {"run_id": "RUN", "model_json": "{"}, 400, "Malformed model info."),
    ("/logged-models", {"experiment_id": "0", "params": [{"key": ""}]}, 400, "Missing value for required parameter 'params[0].key'."),
]


@pytest.mark.parametrize(("path", "body", "status", "said"), BAD)
def test_what_the_caller_got_wrong_is_told_in_the_protocols_words(house: House, path: str, body: Any, status: int, said: str) -> None:
    if body is not None and body.get("run_id") == "RUN":
        body = {**body, "run_id": house.run()}
    got = house.refused(path, body, "GET" if body is None else "POST")
    assert got[0] == status
    assert said in got[2]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", b'"x"', b'{"run_id": null}'])
def test_a_body_that_is_no_object_counts_as_empty(house: House, content: bytes) -> None:
    status, answer = house.raw("POST", f"{API}/runs/set-tag", content)
    assert status == 400
    assert json.loads(answer)["message"].startswith("Missing value for required parameter 'run_id'")


@pytest.mark.parametrize("path", ["/runs/set-tag", "/runs/create", "/logged-models/m/tags"])
@pytest.mark.parametrize("opening", [b'{"a":', b"["])
def test_a_body_nested_a_hundred_thousand_deep_is_refused(house: House, path: str, opening: bytes) -> None:
    status, answer = house.raw("PATCH" if "models" in path else "POST", API + path, opening * 100_000)
    assert (status, json.loads(answer)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert house.raw("GET", "/health")[0] == 200


@pytest.mark.parametrize(
    ("target", "headers", "form"),
    [
        (f"{API}/runs/get?run_id={'x' * 100_000}", "", {"error_code", "message"}),
        (f"{API}/runs/g\xe9t", "", {"error_code", "message"}),
        (f"{API}/runs/set-tag", "Content-Length: -5\r\n", {"error_code", "message"}),
        (f"{API}/runs/set-tag", "Content-Length: 99999999999999999999999\r\n", {"error_code", "message"}),
        (f"{API}/runs/set-tag", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", {"error_code", "message"}),
        ("/ajax-api/2.0/mlflow/runs/get\0", "", {"error_code", "message"}),
        ("/api/projects", "Content-Length: x\r\n", {"code", "what", "remedy", "details"}),
    ],
)
def test_what_is_no_http_is_refused_in_the_form_of_what_it_was_meant_for(house: House, target: str, headers: str, form: set[str]) -> None:
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as connection:
        connection.sendall(f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{house.port}\r\n{headers}\r\n".encode("latin-1"))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.getheader("content-type"), answer.getheader("connection")) == (400, "application/json", "close")
        assert set(json.loads(answer.read())) == form
    assert house.raw("GET", "/health")[0] == 200


def test_a_body_over_the_limit_is_told_so_in_the_protocols_form(house: House) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=30)
    connection.putrequest("POST", f"{API}/runs/log-batch")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(64 << 20))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert set(json.loads(answer.read())) == {"error_code", "message"}
    connection.close()


def test_a_large_body_is_read_beside_the_loop(house: House, run: str) -> None:
    tags = [{"key": f"t{i}", "value": "x" * 5000} for i in range(100)]
    house.post("/runs/log-batch", run_id=run, tags=tags)
    assert len(house.get(f"/runs/get?run_id={run}")["run"]["data"]["tags"]) == 101


def test_content_types(house: House, run: str) -> None:
    body = json.dumps({"run_id": run, "key": "a", "value": "b"}).encode()
    for kind, status in (("application/json; charset=utf-8", 200), ("text/plain", 400)):
        assert house.raw("POST", f"{API}/runs/set-tag", body, {"content-type": kind})[0] == status
    assert b"Content-Type header is missing" in house.raw("POST", f"{API}/runs/set-tag", body, {})[1]


def test_a_foreign_host_or_origin_is_refused_in_the_protocols_form(house: House, run: str) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        status, answer = house.raw("GET", f"{API}/runs/get?run_id={run}", headers=headers)
        assert (status, json.loads(answer)["error_code"]) == (403, "PERMISSION_DENIED")


def test_a_token_comes_as_bearer_or_as_a_password(tmp_path: Path) -> None:
    with House(tmp_path / "home", token=True).listening() as house:
        house.shop.call(CreateActor(actor_id="vera", name="vera", role=Role.viewer))
        token = house.shop.call(IssueToken(actor_id="vera", token_id="tok_1")).token
        status, answer = house.raw("GET", f"{API}/experiments/get?experiment_id=0")
        assert (status, json.loads(answer)["error_code"]) == (401, "UNAUTHENTICATED")
        basic = base64.b64encode(f"anybody:{token}".encode()).decode()
        for given in (f"Bearer {token}", f"Basic {basic}"):
            assert house.raw("GET", f"{API}/experiments/get?experiment_id=0", headers={"authorization": given})[0] == 200
            said = house.raw("POST", f"{API}/experiments/create", b'{"name":"x"}', {**JSON, "authorization": given})
            assert (said[0], json.loads(said[1])["error_code"]) == (403, "PERMISSION_DENIED")
        for wrong in ("Basic !!!", "Basic " + base64.b64encode(b"a:b").decode(), "Bearer no"):
            assert house.raw("GET", f"{API}/experiments/get?experiment_id=0", headers={"authorization": wrong})[0] == 401


def test_a_disposable_home_is_emptied_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with House(tmp_path / "kept", reset=True).listening() as house:
        assert house.raw("POST", "/testing/reset")[0] == 404
    monkeypatch.setenv("TREADLE_DISPOSABLE", "1")
    with House(tmp_path / "kept", reset=True).listening() as house:
        assert house.raw("POST", "/testing/reset")[0] == 404, "the home was not made with the mark"
    with House(tmp_path / "disposable", reset=True).listening() as house:
        made = house.post("/experiments/create", name="x")["experiment_id"]
        run = house.post("/runs/create", experiment_id=made)["run"]["info"]["run_id"]
        assert house.raw("GET", "/testing/reset")[0] == 404
        assert house.raw("POST", "/testing/reset") == (200, b"{}")
        assert house.ask("GET", f"/runs/get?run_id={run}")[0] == 404
        assert house.ask("POST", "/runs/create", {"experiment_id": made})[0] == 404
        assert house.get("/experiments/get?experiment_id=0")["experiment"]["name"] == "Default"
        assert house.post("/experiments/create", name="x")
    monkeypatch.delenv("TREADLE_DISPOSABLE")
    with House(tmp_path / "disposable", reset=True).listening() as house:
        assert house.raw("POST", "/testing/reset")[0] == 404, "the server was not started with the mark"
