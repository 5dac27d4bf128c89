"""Registered models, versions, aliases, stages, prompts and webhooks over sockets, as MLflow's clients ask for them."""

import http.client
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from api_house import House

from treadle.api.mlflow.app import MlflowApi
from treadle.operations.tracking import CreateLoggedModel, GetLoggedModel, StartRun
from treadle.records.definitions import Endpoint, Environment, Project
from treadle.records.digests import digest_of
from treadle.registry.service import Registry
from treadle.store.queries import workshop
from treadle.tracking.service import services
from treadle.workshop.webhooks import Tries

RUN = "0123456789abcdef0123456789abcdef"
MODEL = "m-" + RUN
RM, MV = "/api/2.0/mlflow/registered-models", "/api/2.0/mlflow/model-versions"


class Shop(House):
    """A server with a registry."""

    def __init__(self, root):
        super().__init__(root, services)
        self.registry = Registry(self.database, self.blobs)
        self.dispatch = type(self.dispatch)(self.database, [*services(self.blobs), self.registry, Tries()], complete=False)
        self.api = MlflowApi(self.dispatch, project="p", blobs=self.blobs)
        self.dispatch(StartRun(project="p", run_id=RUN), actor=self.owner)
        self.dispatch(CreateLoggedModel(project="p", model_id=MODEL, name="m", run_id=RUN), actor=self.owner)
        self.port = 0

    def __call__(self, method: str, path: str, given: dict[str, Any] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        if method == "GET":
            query = [(k, str(v)) for k, v in (given or {}).items() if not isinstance(v, list)]
            query += [(k, v) for k, items in (given or {}).items() if isinstance(items, list) for v in items]
            connection.request(method, f"{path}?{urlencode(query)}")
        else:
            connection.request(method, path, json.dumps(given or {}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, json.loads(content)

    def ok(self, method: str, path: str, **given: Any) -> Any:
        status, answer = self(method, path, given)
        assert status == 200, answer
        return answer

    def refused(self, method: str, path: str, **given: Any) -> tuple[int, str, str]:
        status, answer = self(method, path, given)
        assert set(answer) == {"error_code", "message"}, answer
        return status, answer["error_code"], answer["message"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Shop(tmp_path_factory.mktemp("house"))
    with made.serving(mlflow=made.api) as port:
        made.port = port
        yield made
    made.database.close()


def version(shop, name, **given):
    return shop.ok("POST", f"{MV}/create", name=name, **{"source": f"runs:/{RUN}/model", **given})["model_version"]


def test_a_model_and_its_forms(shop):
    made = shop.ok("POST", f"{RM}/create", name="W", description="d", tags=[{"key": "a", "value": "b"}])["registered_model"]
    times = {"creation_timestamp", "last_updated_timestamp"}
    assert set(made) == {"name", "description", "tags", *times}
    assert isinstance(made["creation_timestamp"], int)
    bare = shop.ok("POST", f"{RM}/create", name="W bare")["registered_model"]
    assert set(bare) == {"name", *times}
    assert shop.refused("POST", f"{RM}/create", name="W") == (
        400,
        "RESOURCE_ALREADY_EXISTS",
        "Registered Model (name=W) already exists.",
    )
    assert shop.ok("GET", f"{RM}/get", name="W")["registered_model"] == made
    missing = (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=none not found")
    assert shop.refused("GET", f"{RM}/get", name="none") == missing
    assert shop.refused("PATCH", f"{RM}/update", name="none", description="x") == missing
    assert shop.refused("DELETE", f"{RM}/delete", name="none") == missing
    assert shop.refused("POST", f"{MV}/create", name="none", source=f"runs:/{RUN}/m") == missing
    assert shop.refused("POST", f"{RM}/rename", name="none", new_name="x") == missing
    assert shop.refused("POST", f"{RM}/set-tag", name="none", key="k", value="v") == missing
    updated = shop.ok("PATCH", f"{RM}/update", name="W bare", description="new")["registered_model"]
    assert updated["description"] == "new"
    assert shop.ok("POST", f"{RM}/set-tag", name="W", key="k", value="") == {}
    assert shop.ok("DELETE", f"{RM}/delete-tag", name="W", key="a") == {}
    assert shop.ok("DELETE", f"{RM}/delete-tag", name="W", key="a") == {}
    assert shop.ok("GET", f"{RM}/get", name="W")["registered_model"]["tags"] == [{"key": "k", "value": ""}]
    for name in ("a/b", "a:b"):
        said = (400, "INVALID_PARAMETER_VALUE", f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
        assert shop.refused("POST", f"{RM}/create", name=name) == said
    assert shop.refused("POST", f"{RM}/create")[2].startswith("Missing value for required parameter 'name'.")
    for name in ("x" * 300, "a\x00b", "a\u202eb", "..", " "):
        assert shop.refused("POST", f"{RM}/create", name=name)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_versions_and_their_forms(shop):
    shop.ok("POST", f"{RM}/create", name="V")
    made = version(shop, "V", run_id=RUN, tags=[{"key": "a", "value": "b"}], run_link="http://l", description="text")
    assert {k: v for k, v in made.items() if not k.endswith("timestamp")} == {
        "name": "V",
        "version": "1",
        "current_stage": "None",
        "description": "text",
        "source": f"runs:/{RUN}/model",
        "run_id": RUN,
        "status": "READY",
        "run_link": "http://l",
        "tags": [{"key": "a", "value": "b"}],
    }
    of_model = version(shop, "V", source=f"models:/{MODEL}", model_id=MODEL)
    assert of_model["run_id"] == RUN
    tags = shop.dispatch(GetLoggedModel(project="p", model_id=MODEL), actor=shop.owner).tags
    assert json.loads(tags["mlflow.modelVersions"]) == [{"name": "V", "version": 2}]
    version(shop, "V", source="models:/V/2")
    version(shop, "V", source="s3://bucket/model")
    uris = [shop.ok("GET", f"{MV}/get-download-uri", name="V", version=n)["artifact_uri"] for n in (1, 2, 3, 4)]
    artifacts = f"mlflow-artifacts:/0/models/{MODEL}/artifacts"
    assert uris == [f"runs:/{RUN}/model", artifacts, artifacts, "s3://bucket/model"]
    for wrong, said in (("99", None), ("0", None), ("-1", None), ("x", "x"), ("1.0", "1.0"), ("9" * 40, None)):
        answer = shop.refused("GET", f"{MV}/get", name="V", version=wrong)
        if said is None:
            assert answer == (404, "RESOURCE_DOES_NOT_EXIST", f"Model Version (name=V, version={wrong}) not found")
        else:
            assert answer == (400, "INVALID_PARAMETER_VALUE", f"Parameter 'version' must be an integer, got '{said}'.")
    assert shop.ok("PATCH", f"{MV}/update", name="V", version="1", description="new")["model_version"]["description"] == "new"
    assert shop.ok("POST", f"{MV}/set-tag", name="V", version="1", key="k", value="v") == {}
    assert shop.ok("DELETE", f"{MV}/delete-tag", name="V", version="1", key="a") == {}
    assert shop.ok("GET", f"{MV}/get", name="V", version="1")["model_version"]["tags"] == [{"key": "k", "value": "v"}]
    assert shop.ok("DELETE", f"{MV}/delete", name="V", version="4") == {}
    assert version(shop, "V")["version"] == "5"


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "x/y",
        "http://169.254.169.254/",
        "mlflow-artifacts://host/x",
        "mlflow-artifacts:/../../etc",
        "mlflow-artifacts:/%2e%2e/etc",
        "mlflow-artifacts:/%252e%252e/etc",
        "mlflow-artifacts:/",
        "mlflow-artifacts:///",
        "s3://b/../c",
        f"runs:/{RUN}/..%5c..",
        "models:/V/../x",
        "s3://b/x%00y",
    ],
)
def test_sources_that_lead_elsewhere(shop, source):
    shop("POST", f"{RM}/create", {"name": "S"})
    status, code, said = shop.refused("POST", f"{MV}/create", name="S", source=source)
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert said.startswith("Invalid model version source: ")


def test_another_runs_files(shop):
    shop("POST", f"{RM}/create", {"name": "S"})
    said = shop.refused("POST", f"{MV}/create", name="S", source=f"runs:/{'f' * 32}/m", run_id=RUN)[2]
    assert "The run_id request parameter must identify the resource that contains the source." in said
    assert shop.refused("POST", f"{MV}/create", name="S", source="models:/S/99")[0] == 404
    assert shop.refused("POST", f"{MV}/create", name="S", source="models:/m-nope")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert version(shop, "S", source="runs:/run_id/model", run_id="run_id_1")["run_id"] == "run_id_1"  # neither run is known


def test_a_source_of_a_run_that_is_not_there(shop):
    shop("POST", f"{RM}/create", {"name": "S"})
    for source in ("runs:/nowhere/model", f"runs:/{'f' * 32}/m", f"mlflow-artifacts:/0/{'f' * 32}/artifacts/m"):
        status, code, said = shop.refused("POST", f"{MV}/create", name="S", source=source)
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
        assert said.startswith(f"Invalid model version source: '{source}'. The run_id request parameter must identify the resource")
    assert version(shop, "S", source=f"runs:/{RUN}/model")["run_id"] == RUN


@pytest.mark.parametrize("field", ["run_link", "run_id", "model_id"])
@pytest.mark.parametrize("text", ["x" * 401, "x" * 10_000, "漢" * 401, "a\0b"])
def test_texts_of_a_version_that_no_column_holds(shop, field, text):
    shop("POST", f"{RM}/create", {"name": "L"})
    assert shop.refused("POST", f"{MV}/create", name="L", source="s3://bucket/m", **{field: text})[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert shop.ok("GET", f"{MV}/search", filter="name = 'L'") == {}


def test_stages(shop):
    shop.ok("POST", f"{RM}/create", name="st")
    for _ in range(4):
        version(shop, "st")

    def to(number, stage, **more):
        request = {"name": "st", "version": str(number), "stage": stage, **more}
        return shop.ok("POST", f"{MV}/transition-stage", **request)["model_version"]["current_stage"]

    assert [to(1, "Staging"), to(2, "production"), to(3, "Production")] == ["Staging", "Production", "Production"]
    latest = shop.ok("POST", f"{RM}/get-latest-versions", name="st", stages=["PRODUCTION", "None"])["model_versions"]
    assert [v["version"] for v in latest] == ["3", "4"]
    assert to(4, "Production", archive_existing_versions=True) == "Production"
    every = shop.ok("GET", f"{RM}/get-latest-versions", name="st")["model_versions"]
    assert {v["current_stage"]: v["version"] for v in every} == {"Staging": "1", "Archived": "3", "Production": "4"}
    bad = (400, "INVALID_PARAMETER_VALUE", "Invalid Model Version stage: weird. Value must be one of None, Staging, Production, Archived.")
    assert shop.refused("POST", f"{MV}/transition-stage", name="st", version="1", stage="weird") == bad
    assert shop.refused("POST", f"{RM}/get-latest-versions", name="st", stages=["weird"]) == bad
    archiving = {"name": "st", "version": "1", "stage": "Archived", "archive_existing_versions": True}
    assert shop.refused("POST", f"{MV}/transition-stage", **archiving)[0] == 400


def test_aliases(shop):
    shop.ok("POST", f"{RM}/create", name="al")
    for _ in range(2):
        version(shop, "al")
    assert shop.ok("POST", f"{RM}/alias", name="al", alias="champion", version="1") == {}
    assert shop.ok("POST", f"{RM}/alias", name="al", alias="champion", version="2") == {}
    assert shop.ok("GET", f"{RM}/alias", name="al", alias="champion")["model_version"]["aliases"] == ["champion"]
    assert shop.ok("GET", f"{RM}/alias", name="al", alias="latest")["model_version"]["version"] == "2"
    model = shop.ok("GET", f"{RM}/get", name="al")["registered_model"]
    assert model["aliases"] == [{"alias": "champion", "version": "2"}]
    missing = (400, "INVALID_PARAMETER_VALUE", "Registered model alias nope not found.")
    assert shop.refused("GET", f"{RM}/alias", name="al", alias="nope") == missing
    assert shop.refused("GET", f"{RM}/alias", name="none", alias="nope")[0] == 404
    assert "not found" in shop.refused("POST", f"{RM}/alias", name="al", alias="a", version="9")[2]
    for alias, said in (
        ("a b", "Invalid alias name: 'a b'. Names may only contain alphanumerics, underscores (_), and dashes (-)."),
        ("Latest", "'latest' alias name (case insensitive) is reserved."),
        ("v1", "Version alias name 'v1' is reserved."),
        ("x" * 300, "'Registered model alias name' exceeds the maximum length of 255 characters"),
    ):
        assert shop.refused("POST", f"{RM}/alias", name="al", alias=alias, version="1") == (400, "INVALID_PARAMETER_VALUE", said)
    assert shop.ok("DELETE", f"{RM}/alias", name="al", alias="champion") == {}
    assert shop.ok("DELETE", f"{RM}/alias", name="al", alias="champion") == {}


def test_an_alias_that_an_endpoint_follows(shop):
    shop.ok("POST", f"{RM}/create", name="served")
    version(shop, "served")
    project = Project(name="p", environments=(Environment(name="prod"),), endpoints=(Endpoint(name="e", model="served"),))
    now = shop.registry._clock.now()
    row = {"project": "p", "environment": "prod", "digest": digest_of(project), "definitions": project, "actor": "mia"}
    shop.database.write(lambda tx: workshop.apply(tx, {**row, "event_time": now, "recorded_time": now}))
    for method in ("POST", "DELETE"):
        status, code, said = shop.refused(method, f"{RM}/alias", name="served", alias="champion", version="1")
        assert (status, code) == (403, "PERMISSION_DENIED")
        assert "treadle release start" in said
    status, code, said = shop.refused("DELETE", f"{RM}/delete", name="served")
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "the endpoint e is defined on it in prod" in said
    shop.ok("POST", f"{RM}/alias", name="served", alias="mine", version="1")


def test_renaming_and_deleting(shop):
    shop.ok("POST", f"{RM}/create", name="old")
    version(shop, "old")
    shop.ok("POST", f"{RM}/alias", name="old", alias="a", version="1")
    renamed = shop.ok("POST", f"{RM}/rename", name="old", new_name="new")["registered_model"]
    assert renamed["aliases"] == [{"alias": "a", "version": "1"}]
    assert shop.refused("POST", f"{RM}/rename", name="new", new_name="W")[1] == "RESOURCE_ALREADY_EXISTS"
    assert shop.refused("POST", f"{RM}/rename", name="new", new_name="a/b")[2].startswith("Invalid model name 'a/b'.")
    assert shop.ok("DELETE", f"{RM}/delete", name="new") == {}
    assert shop.refused("GET", f"{MV}/get", name="new", version="1")[0] == 404
    assert shop.ok("GET", f"{MV}/search", filter="name = 'new'") == {}


def test_search_and_prompts(shop):
    for i in range(5):
        shop.ok("POST", f"{RM}/create", name=f"find{i}", tags=[{"key": "even", "value": str(i % 2 == 0)}])
        version(shop, f"find{i}")
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    shop.ok("POST", f"{RM}/create", name="find-prompt", tags=prompt)
    version(shop, "find-prompt", source="dummy-source", tags=[*prompt, {"key": "mlflow.prompt.text", "value": "Hi {{name}}"}])

    def models(filter, **more):
        found, token = [], ""
        while True:
            answer = shop.ok("GET", f"{RM}/search", filter=filter, max_results=2, page_token=token, **more)
            found += [m["name"] for m in answer.get("registered_models", [])]
            token = answer.get("next_page_token", "")
            if not token:
                return found

    assert models("name LIKE 'find%'") == [f"find{i}" for i in range(5)]
    assert models("name LIKE 'FIND%'") == []
    assert models("name ILIKE 'FIND%' AND tags.even = 'True'") == ["find0", "find2", "find4"]
    assert models("name LIKE 'find%' AND tags.`mlflow.prompt.is_prompt` = 'true'") == ["find-prompt"]
    assert models("name LIKE 'find%' AND tags.`mlflow.prompt.is_prompt` != 'true'", order_by=["name DESC"])[0] == "find4"
    found = shop.ok("GET", f"{MV}/search", filter="name = 'find1'")["model_versions"]
    assert [(v["name"], v["version"]) for v in found] == [("find1", "1")]
    assert "find-prompt" not in {v["name"] for v in shop.ok("GET", f"{MV}/search")["model_versions"]}
    for path, filter in ((RM, "creation_timestamp > 0"), (RM, "metrics.x > 1"), (MV, "current_stage = 'None'"), (RM, "nonsense")):
        assert shop.refused("GET", f"{path}/search", filter=filter)[:2] == (400, "INVALID_PARAMETER_VALUE")
    assert shop.refused("GET", f"{RM}/search", filter="nonsense")[2] == "Invalid clause(s) in filter string: nonsense"
    assert shop.refused("GET", f"{RM}/search", page_token="!!")[2] == "Invalid page token, could not base64-decode"
    assert shop.refused("GET", f"{RM}/search", max_results=1001)[2].startswith("Invalid value \"1001\" for parameter 'max_results'")
    said = shop.refused("POST", f"{RM}/create", name="find-prompt")
    assert said[1] == "RESOURCE_ALREADY_EXISTS"
    assert "already taken by a prompt" in said[2]


def test_webhooks(shop, monkeypatch):
    path = "/api/2.0/mlflow/webhooks"
    events = [{"entity": "MODEL_VERSION", "action": "CREATED"}]
    given = {"name": "w", "url": "https://hooks.example.com/x", "events": events, "secret": "hush"}
    code, said = shop.refused("POST", path, **given)[1:]
    assert (code, "TREADLE_WEBHOOK_HOSTS" in said) == ("INVALID_PARAMETER_VALUE", True)
    monkeypatch.setenv("TREADLE_WEBHOOK_HOSTS", "hooks.example.com, *.example.org")
    made = shop.ok("POST", path, **given)["webhook"]
    assert (made["status"], made["events"]) == ("ACTIVE", events)
    assert "hush" not in json.dumps(shop.ok("GET", path))
    one = f"{path}/{made['webhook_id']}"
    assert shop.ok("GET", one)["webhook"] == made
    assert shop.ok("PATCH", one, status="DISABLED")["webhook"]["status"] == "DISABLED"
    monkeypatch.setattr("treadle.workshop.webhooks.post", lambda *_, **__: 204)
    assert shop.ok("POST", f"{one}/test")["result"] == {"success": True, "response_status": 204}
    monkeypatch.setattr("treadle.workshop.webhooks.post", lambda *_, **__: 500)
    assert shop.ok("POST", f"{one}/test", event={"entity": "MODEL_VERSION", "action": "CREATED"})["result"] == {
        "success": False,
        "response_status": 500,
        "error_message": "answered 500",
    }
    inside = [
        "http://hooks.example.org",
        "http://a.example.org",
        "https://example.org",
        "https://localhost/x",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
    ]
    inside += [
        "https://2130706433/",
        "https://0x7f.1/",
        "https://10.0.0.1",
        "file:///etc/passwd",
        "https://a:b@hooks.example.com",
        "https://",
    ]
    for url in inside:
        assert shop.refused("POST", path, **{**given, "url": url})[:2] == (400, "INVALID_PARAMETER_VALUE"), url
        assert shop.refused("PATCH", one, url=url)[0] == 400
    assert shop.ok("PATCH", one, url="https://a.b.example.org/")["webhook"]["url"] == "https://a.b.example.org/"
    monkeypatch.setenv("TREADLE_WEBHOOK_HOSTS", "localhost:9000")
    assert shop.ok("POST", f"{one}/test")["result"]["success"] is False
    assert shop.ok("POST", path, **{**given, "url": "http://localhost:9000/x"})["webhook"]["url"] == "http://localhost:9000/x"
    assert shop.refused("POST", path, **{**given, "events": [{"entity": "RUN", "action": "CREATED"}]})[0] == 400
    with shop.database.read() as connection:
        told = " ".join(str(row) for row in connection.exec_driver_sql("SELECT payload FROM events"))
    assert "hush" not in told
    assert len(shop.ok("GET", path, max_results=1)["webhooks"]) == 1
    assert shop.ok("DELETE", one) == {}
    assert shop.refused("GET", one)[0] == 404
