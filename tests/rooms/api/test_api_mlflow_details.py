"""What a stock server of MLflow says in the corners: asked beside one, answered as it does."""

import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from api_mlflow_house import API, House

from treadle.api.mlflow import runs
from treadle.operations.tracking import CreateExperiment
from treadle.operations.workshop import ListProjects
from treadle.records.errors import TreadleError

FILES = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    store = None
    if request.param == "postgres":
        store = f"postgresql://postgres@127.0.0.1:5432/{request.getfixturevalue('postgres')}"
    with House(tmp_path_factory.mktemp("home"), store=store).listening() as listening:
        yield listening


@pytest.fixture
def run(house: House) -> str:
    return house.run()


def model(house: House, name: str, *sources: str) -> None:
    house.post("/registered-models/create", name=name)
    for source in sources or ("s3://bucket/model",):
        house.post("/model-versions/create", name=name, source=source)


# ── values that do not fit ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (
            "/runs/log-metric",
            {"run_id": "RUN", "key": "m", "value": "foo", "timestamp": 1},
            "Invalid value \"foo\" for parameter 'value' supplied",
        ),
        (
            "/runs/log-metric",
            {"run_id": "RUN", "key": "m", "value": 1, "timestamp": 1, "dataset_name": "d"},
            "Both dataset_name and dataset_digest must be provided if one is provided",
        ),
        ("/runs/update", {"run_id": "RUN", "status": 31}, "Invalid value 31 for parameter 'status' supplied"),
        ("/runs/search", {"experiment_ids": ["abc"]}, "Invalid experiment ID 'abc'. Experiment ID must be a valid integer."),
        ("/logged-models/search", {"experiment_ids": ["abc"]}, "Invalid experiment ID 'abc'."),
        ("/logged-models", {"experiment_id": "abc", "name": "m"}, "Invalid experiment ID 'abc'."),
        ("/experiments/set-experiment-tag", {"experiment_id": "abc", "key": "k", "value": "v"}, "Invalid experiment ID 'abc'."),
        ("/experiments/search-datasets", {}, "SearchDatasets request must specify at least one experiment_id."),
        ("/experiments/search-datasets", {"experiment_ids": ["0"] * 21}, "SearchDatasets request cannot specify more than 20"),
        ("/registered-models/get-latest-versions", {"name": "m", "stages": [1]}, "Invalid value [1] for parameter 'stages' supplied"),
        ("/registered-models/create", {"name": "ok", "tags": [None]}, "Invalid value null for parameter 'tags[0]' supplied"),
        ("/registered-models/create", {"name": ".."}, "This name would resolve to '..'"),
        ("/registered-models/create", {"name": " "}, "Missing value for required parameter 'name'."),
        (
            "/webhooks",
            {"name": "a b", "url": "https://h/x", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]},
            "Webhook name 'a b'",
        ),
        (
            "/webhooks",
            {"name": "w", "url": "  ", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]},
            "Webhook URL cannot be empty or just whitespace",
        ),
        (
            "/webhooks",
            {"name": "w", "url": "ftp://h", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]},
            "Invalid webhook URL scheme: 'ftp'.",
        ),
        (
            "/webhooks",
            {"name": "w", "url": "http://[h", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]},
            "Invalid webhook URL",
        ),
    ],
)
def test_refusals_are_word_for_word(house: House, run: str, path: str, body: dict[str, Any], said: str) -> None:
    given = {**body, "run_id": run} if body.get("run_id") == "RUN" else body
    status, code, message = house.refused(path, given)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert said in message


def test_a_status_is_a_word_or_a_number_in_either_form(house: House, run: str) -> None:
    for status, word in ((3, "FINISHED"), ("4", "FAILED"), ("KILLED", "KILLED")):
        assert house.post("/runs/update", run_id=run, status=status)["run_info"]["status"] == word


def test_the_first_run_that_ends_after_a_start_says_where_its_files_are(house: House, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    find = runs.experiments.find
    monkeypatch.setattr(runs.experiments, "find", lambda *given: asked.append(threading.current_thread().name) or find(*given))
    runs.LOCATIONS.forget()  # as a server that has just begun
    ended = house.post("/runs/update", run_id=run, status="FINISHED", end_time=2345)["run_info"]
    assert (ended["end_time"], ended["artifact_uri"]) == (2345, f"mlflow-artifacts:/0/{run}/artifacts")
    assert house.post("/runs/update", run_id=run, status="FAILED")["run_info"] == {**ended, "status": "FAILED"}
    assert [name.startswith("treadle-api") for name in asked] == [True], "once, and not in the event loop"


def test_numbers_that_no_column_holds_find_nothing_and_break_nothing(house: House) -> None:
    model(house, "numbered")
    for number, found in (("99999999999999999999", 0), ("-99999999999999999999", 1)):
        answer = house.get(f"/model-versions/search?filter=name%3D%27numbered%27%20and%20version_number%20%3E%20{number}")
        assert len(answer.get("model_versions", [])) == found


def test_a_list_of_outputs_may_be_empty_but_must_be_there(house: House, run: str) -> None:
    assert house.post("/runs/outputs", run_id=run, models=[]) == {}
    assert "parameter 'models'" in house.refused("/runs/outputs", {"run_id": run})[2]
    assert house.refused("/runs/outputs", {"run_id": "0" * 32, "models": []})[0] == 404


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"run_id": "RUN", "key": "k", "value": "caf\\udce9"}', "caf\ufffd"),  # a name of a file, as Python has it
        (b'\xef\xbb\xbf{"run_id": "RUN", "key": "k", "value": "v"}', "v"),
        ('{"run_id": "RUN", "key": "k", "value": "\u00e9"}', "\u00e9"),
    ],
)
def test_bodies_that_python_reads(house: House, run: str, body: bytes | str, kept: str) -> None:
    sent = body.replace("RUN", run).encode("utf-16") if isinstance(body, str) else body.replace(b"RUN", run.encode())
    assert house.raw("POST", f"{API}/runs/set-tag", sent) == (200, b"{}")
    assert {"key": "k", "value": kept} in house.get(f"/runs/get?run_id={run}")["run"]["data"]["tags"]
    metric = b'{"run_id": "%s", "key": "m", "value": NaN, "timestamp": 1}' % run.encode()
    assert house.raw("POST", f"{API}/runs/log-metric", metric) == (200, b"{}")
    assert house.get(f"/runs/get?run_id={run}")["run"]["data"]["metrics"][0]["value"] == "NaN"


def test_nul_is_the_callers_fault(house: House) -> None:
    """What is told of it is a 4xx, which clients do not send again and again."""
    for method, path, body in (
        ("GET", "/runs/get?run_id=a%00b", None),
        ("GET", "/registered-models/get?name=a%00b", None),
        ("GET", "/logged-models/a%00b", None),
        ("GET", "/webhooks/a%00b", None),
        ("GET", "/artifacts/list?run_id=a%00b", None),
        ("POST", "/runs/log-batch", {"run_id": "a\0b", "tags": [{"key": "k", "value": "v"}]}),
        ("POST", "/runs/set-tag", {"run_id": "a\0b", "key": "k", "value": "v"}),
        ("POST", "/experiments/set-experiment-tag", {"experiment_id": "1\0", "key": "k", "value": "v"}),
        ("POST", "/model-versions/set-tag", {"name": "a\0b", "version": "1", "key": "k", "value": "v"}),
    ):
        status, answer = house.ask(method, path, body)
        assert (status in (400, 404), answer["error_code"] != "INTERNAL_ERROR") == (True, True), (path, answer)


# ── histories ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sample_of_a_history_goes_by_step_and_keeps_its_ends(house: House, run: str) -> None:
    for step in reversed(range(10)):  # the last step comes first
        house.post("/runs/log-metric", run_id=run, key="m", value=step, timestamp=1000 - step, step=step)
    path = f"/metrics/get-history-bulk-interval?run_ids={run}&metric_key=m"

    def steps(more: str) -> list[int]:
        return [point["step"] for point in house.get(path + more)["metrics"]]

    assert steps("&max_results=5") == [0, 2, 4, 6, 9]
    assert steps("&max_results=1") == [9]
    assert steps("") == list(range(10))
    assert steps("&max_results=2&start_step=3&end_step=7") == [3, 7]
    missing = house.ask("GET", f"/metrics/get-history-bulk-interval?run_ids={'0' * 32}&metric_key=m")
    assert (missing[0], missing[1]["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert house.get(f"/metrics/get-history-bulk?run_id={run}&metric_key=m&max_results=0") == {"metrics": []}


def test_data_of_experiments_is_told_once_for_each_context(house: House) -> None:
    experiment = house.post("/experiments/create", name="data")["experiment_id"]
    data = {"name": "n", "digest": "d", "source_type": "s", "source": "x"}
    training = [{"key": "mlflow.data.context", "value": "training"}]
    for tags in (training, training, []):
        run = house.post("/runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
        house.post("/runs/log-inputs", run_id=run, datasets=[{"dataset": data, "tags": tags}])
    told = house.post("/experiments/search-datasets", experiment_ids=[experiment])["dataset_summaries"]
    assert sorted(told, key=len) == [
        {"experiment_id": experiment, "name": "n", "digest": "d"},
        {"experiment_id": experiment, "name": "n", "digest": "d", "context": "training"},
    ]
    assert house.post("/experiments/search-datasets", experiment_ids=["0"]) == {}


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_version_is_made_of_another_by_alias_stage_or_latest(house: House) -> None:
    model(house, "first", "s3://bucket/1", "s3://bucket/2", "s3://bucket/3")
    house.post("/registered-models/alias", name="first", alias="best", version="1")
    house.post("/model-versions/transition-stage", name="first", version="2", stage="Staging")
    model(house, "second", "models:/first@best", "models:/first/staging", "models:/first/latest")
    for number, copied in (("1", "1"), ("2", "2"), ("3", "3")):
        made = house.get(f"/model-versions/get?name=second&version={number}")["model_version"]
        assert made["source"] == f"models:/first/{copied}"
        assert house.get(f"/model-versions/get-download-uri?name=second&version={number}") == {"artifact_uri": f"s3://bucket/{copied}"}
    assert house.refused("/model-versions/create", {"name": "second", "source": "models:/first@none"})[2].endswith("alias none not found.")
    assert "No versions of model" in house.refused("/model-versions/create", {"name": "second", "source": "models:/first/Production"})[2]


def test_copies_follow_a_model_that_is_renamed(house: House) -> None:
    model(house, "before_%", "s3://bucket/a")
    model(house, "copies", "models:/before_%/1")
    model(house, "before_x", "s3://bucket/other")
    house.post("/registered-models/rename", name="before_%", new_name="after")
    assert house.get("/model-versions/get?name=copies&version=1")["model_version"]["source"] == "models:/after/1"
    assert house.get("/model-versions/get-download-uri?name=copies&version=1") == {"artifact_uri": "s3://bucket/a"}
    status, answer = house.ask("DELETE", "/model-versions/delete", {"name": "after", "version": "1"})
    assert (status, "copies@1 is a copy of it" in answer["message"]) == (400, True)


def test_azures_addresses_are_those_of_an_object_store(house: House) -> None:
    model(house, "azure", "abfss://container@account.dfs.core.windows.net/model", "wasbs://c@a.blob.core.windows.net/m")


@pytest.mark.parametrize(
    "address",
    [
        "s3://user@bucket/m",
        "s3://bucket:9000/m",
        "abfss://c@example.com/m",
        "abfss://c@a.dfs.core.windows.net.example.com/m",
        "abfss://a:b@account/m",
        "r2://bucket@example.com/m",
        "b2://bucket@backblazeb2.com.example/m",
        "hdfs://example.com:8020/m",
        "viewfs://example.com/m",
        "https://account.blob.core.windows.net/m",
        "dbfs://profile@host/m",
    ],
)
def test_an_address_that_names_a_host_of_its_own(house: House, address: str) -> None:
    if house.ask("GET", "/registered-models/get?name=elsewhere")[0] == 404:
        house.post("/registered-models/create", name="elsewhere")
    assert house.refused("/model-versions/create", {"name": "elsewhere", "source": address})[:2] == (400, "INVALID_PARAMETER_VALUE")
    with pytest.raises(TreadleError, match="Invalid artifact location"):
        house.shop.call(CreateExperiment(project="default", experiment_id="7", name=address, artifact_location=address))
    said = house.refused("/experiments/create", {"name": address, "artifact_location": address})
    assert (said[0], said[2].startswith("Invalid artifact location: ")) == (400, True)


@pytest.mark.parametrize(
    "address",
    [
        "mlflow-artifacts:/",
        "mlflow-artifacts:/file:///etc/passwd",
        "mlflow-artifacts:/C:/x",
        "mlflow-artifacts:/x//y",
        "mlflow-artifacts:/s3://b/k",
        "mlflow-artifacts:/" + "a/" * 600,
    ],
)
def test_a_location_where_no_file_can_be(house: House, address: str) -> None:
    said = house.refused("/experiments/create", {"name": address[:90], "artifact_location": address})
    assert (said[0], said[2].startswith("Invalid artifact location: ")) == (400, True)
    assert house.ask("GET", f"/experiments/get-by-name?experiment_name={quote(address[:90], safe='')}")[0] == 404


@pytest.mark.parametrize("path", ["../x", "%252e%252e/x", "..%5cx", "file:///etc/passwd", "C:/x"])
def test_what_climbs_is_refused_before_what_is_not_there(house: House, run: str, path: str) -> None:
    status, answer = house.raw("GET", f"/api/2.0/mlflow-artifacts/presigned/{path}")
    assert (status, b'"Invalid path"' in answer) == (400, True)
    for which in ("upload", "download"):
        body = {"run_id": run, "path": unquote(unquote(path))}
        assert house.refused(f"/artifacts/presigned-{which}-url", body)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_an_empty_name_leaves_a_run_its_own(house: House, run: str) -> None:
    house.post("/runs/set-tag", run_id=run, key="mlflow.runName", value="")
    house.post("/runs/log-batch", run_id=run, tags=[{"key": "mlflow.runName", "value": ""}, {"key": "k", "value": ""}])
    kept = house.get(f"/runs/get?run_id={run}")["run"]
    assert kept["info"]["run_name"] == "r"
    assert sorted((tag["key"], tag["value"]) for tag in kept["data"]["tags"]) == [("k", ""), ("mlflow.runName", "r")]


def test_a_run_may_begin_with_tags_of_any_name(house: House) -> None:
    """`start_run(tags={"a@b": …})` works on a stock server, which looks at the names of tags only when they are set later."""
    tags = {"a@b": "1", "user (x)": "y", "é*": "z", "//": "p", "..": "q"}
    run = house.run(tags=[{"key": key, "value": value} for key, value in tags.items()])
    kept = {tag["key"]: tag["value"] for tag in house.get(f"/runs/get?run_id={run}")["run"]["data"]["tags"]}
    assert {key: value for key, value in kept.items() if key != "mlflow.runName"} == tags
    assert [r["info"]["run_id"] for r in house.post("/runs/search", experiment_ids=["0"], filter="tags.`a@b` = '1'")["runs"]] == [run]
    for key in ("", "k" * 251, "a\0b", "a\u202eb"):
        body = {"experiment_id": "0", "tags": [{"key": key, "value": "v"}]}
        assert house.refused("/runs/create", body)[:2] == (400, "INVALID_PARAMETER_VALUE")
    body = {"run_id": run, "key": "a@b", "value": "2"}
    assert "Names may only contain alphanumerics" in house.refused("/runs/set-tag", body)[2]


def test_a_run_that_has_ended_keeps_its_end(house: House, run: str) -> None:
    def told(**changes: Any) -> list[Any]:
        answer = house.post("/runs/update", run_id=run, **changes)["run_info"]
        return [answer["status"], answer.get("end_time")]

    assert told(status="FINISHED", end_time=12345) == ["FINISHED", 12345]
    assert told(status="FAILED") == ["FAILED", 12345]
    assert told(run_name="renamed") == ["FAILED", 12345]
    assert told(status="RUNNING") == ["RUNNING", 12345]
    status, ended = told(status="FINISHED")  # it ran once more, and ends now
    assert status == "FINISHED"
    assert ended > 1_700_000_000_000


def test_the_defaults_name_is_taken_before_anything_is_in_it(house: House) -> None:
    """Every project has the experiment 0, `Default`; another of that name would leave what goes to 0 without a place."""
    base = "/mlflow/untouched"

    def ask(method: str, path: str, body: Any = None) -> Any:
        status, answer = house.ask(method, path, body, base)
        return answer if status == 200 else (status, answer["error_code"])

    taken = (400, "RESOURCE_ALREADY_EXISTS")
    assert ask("POST", "/experiments/create", {"name": "Default"}) == taken
    other = ask("POST", "/experiments/create", {"name": "other"})["experiment_id"]
    assert ask("POST", "/experiments/update", {"experiment_id": other, "new_name": "Default"})[0] == 400
    assert ask("POST", "/runs/create", {"experiment_id": "0"})["run"]["info"]["experiment_id"] == "0"
    # renamed, it leaves its name to others
    assert ask("POST", "/experiments/update", {"experiment_id": "0", "new_name": "first"}) == {}
    assert ask("GET", "/experiments/get-by-name?experiment_name=Default") == (404, "RESOURCE_DOES_NOT_EXIST")
    assert ask("POST", "/experiments/create", {"name": "Default"})["experiment_id"] not in ("0", other)


def test_the_default_is_found_before_anything_is_in_it(house: House) -> None:
    """As on a stock server; a read makes neither the experiment nor the project."""
    base = "/mlflow/unwritten"

    def found(body: dict[str, Any]) -> list[str]:
        status, answer = house.ask("POST", "/experiments/search", {"max_results": 10, **body}, base)
        assert status == 200, answer
        return [e["experiment_id"] for e in answer.get("experiments", [])]

    assert found({}) == ["0"]
    answer = house.ask("GET", "/experiments/search?max_results=10", None, base)[1]
    assert answer["experiments"] == [house.ask("GET", "/experiments/get?experiment_id=0", None, base)[1]["experiment"]]
    assert found({"view_type": "ALL"}) == found({"filter": "name LIKE 'Def%' AND tags.team IS NULL"}) == ["0"]
    assert found({"view_type": "DELETED_ONLY"}) == found({"filter": "name = 'x'"}) == found({"filter": "creation_time > 0"}) == []
    projects = {p.name for p in house.shop.call(ListProjects())}
    assert "default" in projects
    assert "unwritten" not in projects

    made = [house.ask("POST", "/experiments/create", {"name": n}, base)[1]["experiment_id"] for n in ("a", "b")]
    assert found({"order_by": ["name"]}) == ["0", *made]
    first = house.ask("POST", "/experiments/search", {"max_results": 2}, base)[1]
    assert [e["name"] for e in first["experiments"]] == ["b", "a"]
    assert found({"max_results": 2, "page_token": first["next_page_token"]}) == ["0"]
    house.ask("POST", "/experiments/delete", {"experiment_id": "0"}, base)
    assert found({"order_by": ["name"]}) == made
    assert found({"view_type": "DELETED_ONLY"}) == ["0"]


def test_a_page_of_logged_models_may_be_asked_as_long_as_one_likes(house: House) -> None:
    place = house.post("/experiments/create", name="long pages")["experiment_id"]
    house.post("/logged-models", experiment_id=place, name="one", params=[{"key": "p", "value": "v" * 8000}])
    for most in (1001, 10_000, 2**63 - 1):
        found = house.post("/logged-models/search", experiment_ids=[place], max_results=most)["models"]
        assert [m["info"]["name"] for m in found] == ["one"]
    for most in (-1, 2**63):
        body = {"experiment_ids": [place], "max_results": most}
        assert house.refused("/logged-models/search", body)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_a_tag_is_no_change_of_what_it_is_on(house: House) -> None:
    experiment = house.post("/experiments/create", name="tagged")["experiment_id"]
    model(house, "tagged", "s3://bucket/1", "s3://bucket/2")
    logged = house.post("/logged-models", experiment_id=experiment, name="tagged")["model"]["info"]["model_id"]

    def times() -> list[Any]:
        return [
            house.get(f"/experiments/get?experiment_id={experiment}")["experiment"]["last_update_time"],
            house.get("/registered-models/get?name=tagged")["registered_model"]["last_updated_timestamp"],
            [v["version"] for v in house.get("/model-versions/search?filter=name%3D%27tagged%27")["model_versions"]],
            house.get(f"/logged-models/{logged}")["model"]["info"]["last_updated_timestamp_ms"],
        ]

    before = times()
    house.post("/experiments/set-experiment-tag", experiment_id=experiment, key="k", value="v")
    house.post("/registered-models/set-tag", name="tagged", key="k", value="v")
    house.post("/model-versions/set-tag", name="tagged", version="1", key="k", value="v")
    assert house.ask("PATCH", f"/logged-models/{logged}/tags", {"tags": [{"key": "k", "value": "v"}]})[0] == 200
    assert times() == before
    assert house.ask("PATCH", "/model-versions/update", {"name": "tagged", "version": "1", "description": "d"})[0] == 200
    assert times()[2] == ["1", "2"]


def test_aliases_that_cannot_be_are_told_so_when_they_are_read_or_removed(house: House) -> None:
    model(house, "aliased")
    for method in ("GET", "DELETE"):
        status, answer = house.ask(method, "/registered-models/alias?name=aliased&alias=a%20b")
        assert (status, "Invalid alias name: 'a b'." in answer["message"]) == (400, True)


def test_what_a_logged_model_was_made_with_does_not_change(house: House) -> None:
    made = house.post("/logged-models", experiment_id="0", name="lm", params=[{"key": "depth", "value": "3"}])
    path = f"/logged-models/{made['model']['info']['model_id']}"
    assert house.post(f"{path}/params", params=[{"key": "depth", "value": "3"}, {"key": "rate", "value": "1"}]) == {}
    assert house.refused(f"{path}/params", {"params": [{"key": "rate", "value": "2"}]})[1] == "INVALID_PARAMETER_VALUE"
    assert house.get(path)["model"]["data"]["params"] == [{"key": "depth", "value": "3"}, {"key": "rate", "value": "1"}]


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def put(house: House, run: str, path: str, content: bytes = b"x") -> None:
    assert house.raw("PUT", f"{FILES}/0/{run}/artifacts/{path}", content, {})[0] == 200


@pytest.mark.parametrize("spelling", [".", "./", "/.", "", "./plots"])
def test_a_folder_may_be_written_with_dots(house: House, run: str, spelling: str) -> None:
    put(house, run, "plots/roc.png")
    listed = house.raw("GET", f"{FILES}?path=0/{run}/artifacts/{spelling}")
    assert listed[0] == 200
    assert b"roc.png" in listed[1] or b'"plots"' in listed[1]


def test_files_are_shown_by_their_names(house: House, run: str) -> None:
    for name, kind in (("MLmodel", "text/plain"), ("a.json", "text/plain"), ("a.py", "text/plain"), ("a.png", "image/png"), ("a", "")):
        put(house, run, name)
        for path in (f"{FILES}/0/{run}/artifacts/{name}", f"/get-artifact?run_id={run}&path={name}"):
            headers = house.headers("GET", path)
            assert headers["content-type"] == (kind or "application/octet-stream")
            assert headers["content-disposition"] == f"attachment; filename={name}"
            assert headers["x-content-type-options"] == "nosniff"


def test_names_with_percent_signs_come_back(house: House, run: str) -> None:
    put(house, run, "10%decline.png", b"first")  # as the clients send it
    assert b'"10%decline.png"' in house.raw("GET", f"{FILES}?path=0/{run}/artifacts")[1]
    for spelling in ("10%decline.png", "10%25decline.png", "10%EF%BF%BDcline.png"):  # the last: of a listing, decoded by the client
        assert house.raw("GET", f"{FILES}/0/{run}/artifacts/{spelling}") == (200, b"first")
    put(house, run, "10%25dfcline.png")  # now the client's spelling may mean either
    assert house.raw("GET", f"{FILES}/0/{run}/artifacts/10%EF%BF%BDcline.png")[0] == 404
    for hidden in ("%c0%ae%c0%ae/x", "..%c0%afx", "..%e0%80%afx", "..%f0%80%80%afx", "%ff"):
        assert house.raw("PUT", f"{FILES}/0/{run}/artifacts/{hidden}", b"x", {})[0] == 400


def test_a_file_needs_a_name(house: House, run: str) -> None:
    assert house.raw("PUT", f"{FILES}/0/{run}/artifacts/folder/", b"x", {})[0] == 400


def test_files_of_a_version_and_of_its_copies(house: House, run: str) -> None:
    put(house, run, "model/MLmodel", b"flavors")
    model(house, "filed", f"runs:/{run}/model", f"mlflow-artifacts:/0/{run}/artifacts/model", "models:/filed/1", "models:/filed/3")
    for number in "1234":
        assert house.raw("GET", f"/model-versions/get-artifact?name=filed&version={number}&path=MLmodel") == (200, b"flavors")
    path = "/model-versions/get-artifact?name={}&version={}&path={}"
    for name, number, wanted, status, said in (
        ("nope", "1", "../x", 400, "Invalid path"),
        ("nope", "1", "x", 404, "Model Version (name=nope, version=1) not found"),
        ("filed", "x", "x", 400, "Parameter 'version' must be an integer, got 'x'."),
    ):
        got = house.raw("GET", path.format(name, number, wanted))
        assert (got[0], said in got[1].decode()) == (status, True)
    missing = house.raw("GET", "/ajax-api/2.0/mlflow/logged-models/nope/artifacts/files?artifact_file_path=x")
    assert (missing[0], b"Logged model with ID 'nope' not found." in missing[1]) == (404, True)


def test_an_address_with_a_slash_at_its_end(house: House, run: str) -> None:
    assert house.raw("GET", f"/{API}/runs/get?run_id={run}") == house.raw("GET", f"{API}/runs/get?run_id={run}")
    assert house.raw("GET", "//model-versions/get-artifact?name=a&version=1&path=../x")[0] == 400
    assert house.raw("POST", "/graphql", b"{}")[0] == 501


def test_a_webhook_that_is_not_there(house: House) -> None:
    for method, path in (("GET", "/webhooks/w"), ("DELETE", "/webhooks/w"), ("PATCH", "/webhooks/w"), ("POST", "/webhooks/w/test")):
        status, answer = house.ask(method, path, {"name": "n"} if method == "PATCH" else {})
        assert (status, answer["message"]) == (404, "Webhook with ID w not found.")
