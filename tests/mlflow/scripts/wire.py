"""The protocol itself, as clients in other languages read it: every answer's exact JSON."""

import re

from observing import NAMED_ID, Observed

seen = Observed()
API = "/api/2.0/mlflow"
TIMES = re.compile(r"(time|timestamp|timestamp_ms)$")


def timeless(value):
    """Times of now as the word `now`, those the request named stay; tags, params and metrics by name, for their order means nothing."""
    if isinstance(value, dict):
        return {
            k: "now" if TIMES.search(k) and isinstance(v, int) and v > 1_750_000_000_000 else timeless(v)
            for k, v in value.items()
            if k != "workspace"
        }
    if isinstance(value, list):
        return sorted((timeless(v) for v in value), key=lambda v: v.get("key", "") if isinstance(v, dict) else "")
    return value


def call(item, method, path, body=None):
    """One request, a body as JSON or (GET) as the query; keeps status and JSON, gives the JSON."""
    import requests
    from observing import SERVER

    sent = {"params": body} if method == "GET" else {"json": body}
    answer = requests.request(method, SERVER + path, timeout=60, **sent)
    json = answer.json() if answer.headers.get("content-type", "").startswith("application/json") and answer.content else answer.text
    if isinstance(json, dict):
        json = {k: v for k, v in json.items() if k not in ("sqlstate", "error_class")}
    seen.see(item, [answer.status_code, timeless(json)])
    return json


call("health", "GET", "/health")
e = call("experiments/create", "POST", f"{API}/experiments/create", {"name": "wire", "tags": [{"key": "a", "value": "b"}]})["experiment_id"]
seen.see("an experiment id is text", [isinstance(e, str), e.isdigit()])
seen.items["experiments/create"][1]["experiment_id"] = "<number>"
seen.items.pop("an experiment id is text")


def get_experiment(item, path, body):
    got = call(item, "GET", path, body)
    seen.items[item][1]["experiment"]["experiment_id"] = got["experiment"]["experiment_id"] == e
    return got


get_experiment("experiments/get", f"{API}/experiments/get", {"experiment_id": e})
get_experiment("experiments/get-by-name", f"{API}/experiments/get-by-name", {"experiment_name": "wire"})
get_experiment("experiments/get under ajax-api", "/ajax-api/2.0/mlflow/experiments/get", {"experiment_id": e})
call("experiments/get missing", "GET", f"{API}/experiments/get", {"experiment_id": "987654"})
call("experiments/get without id", "GET", f"{API}/experiments/get")
call("experiments/create without name", "POST", f"{API}/experiments/create", {})
call("experiments/create name a number", "POST", f"{API}/experiments/create", {"name": 5})
call("experiments/set-experiment-tag", "POST", f"{API}/experiments/set-experiment-tag", {"experiment_id": e, "key": "k", "value": "v"})
call("experiments/update", "POST", f"{API}/experiments/update", {"experiment_id": e, "new_name": "wire two"})
found = call("experiments/search", "POST", f"{API}/experiments/search", {"max_results": 1, "filter": "name = 'wire two'"})
seen.items["experiments/search"][1]["experiments"][0]["experiment_id"] = found["experiments"][0]["experiment_id"] == e
call("experiments/search nothing", "POST", f"{API}/experiments/search", {"max_results": 1, "filter": "name = 'wire none'"})
call("experiments/search by GET", "GET", f"{API}/experiments/search", {"max_results": 1, "filter": "name = 'wire none'"})
call("experiments/search without size", "POST", f"{API}/experiments/search", {})


def run_call(item, method, path, body):
    got = call(item, method, path, body)
    kept = seen.items[item][1]
    for run in [kept.get("run", {}).get("info"), kept.get("run_info"), *[r["info"] for r in kept.get("runs", [])]]:
        if run:
            run["experiment_id"] = "<experiment>"
    return got


r = run_call(
    "runs/create",
    "POST",
    f"{API}/runs/create",
    {"experiment_id": e, "start_time": 1234, "run_name": "r", "user_id": "joe", "tags": [{"key": "mlflow.user", "value": "joe"}]},
)["run"]["info"]["run_id"]
seen.see("a run id is 32 hex digits", bool(NAMED_ID.fullmatch(r)))
run_call("runs/create, time as text", "POST", f"{API}/runs/create", {"experiment_id": e, "start_time": "1234", "run_name": "t"})
call("runs/log-metric", "POST", f"{API}/runs/log-metric", {"run_id": r, "key": "m", "value": 1.5, "timestamp": 5})
call("runs/log-metric NaN", "POST", f"{API}/runs/log-metric", {"run_id": r, "key": "nan", "value": "NaN", "timestamp": 5, "step": 2})
call(
    "runs/log-metric infinite",
    "POST",
    f"{API}/runs/log-metric",
    {"run_id": r, "key": "inf", "value": "Infinity", "timestamp": "5", "step": "3"},
)
call("runs/log-metric whole", "POST", f"{API}/runs/log-metric", {"run_id": r, "key": "whole", "value": 2, "timestamp": 5})
call("runs/log-parameter", "POST", f"{API}/runs/log-parameter", {"run_id": r, "key": "p", "value": "1"})
call("runs/set-tag", "POST", f"{API}/runs/set-tag", {"run_id": r, "key": "t", "value": "1"})
call(
    "runs/log-batch",
    "POST",
    f"{API}/runs/log-batch",
    {
        "run_id": r,
        "metrics": [{"key": "b", "value": 2, "timestamp": 6, "step": 1}],
        "params": [{"key": "q", "value": "2"}],
        "tags": [{"key": "u", "value": "2"}],
    },
)
run_call("runs/get", "GET", f"{API}/runs/get", {"run_id": r})
run_call("runs/get by run_uuid", "GET", f"{API}/runs/get", {"run_uuid": r})
call("runs/get missing", "GET", f"{API}/runs/get", {"run_id": "0" * 32})
call("metrics/get-history", "GET", f"{API}/metrics/get-history", {"run_id": r, "metric_key": "m"})
call("metrics/get-history NaN", "GET", f"{API}/metrics/get-history", {"run_id": r, "metric_key": "nan"})
call("metrics/get-history infinite", "GET", f"{API}/metrics/get-history", {"run_id": r, "metric_key": "inf"})
run_call("runs/update", "POST", f"{API}/runs/update", {"run_id": r, "status": "FINISHED", "end_time": 2345})
call(
    "runs/log-inputs",
    "POST",
    f"{API}/runs/log-inputs",
    {
        "run_id": r,
        "datasets": [
            {
                "tags": [{"key": "mlflow.data.context", "value": "train"}],
                "dataset": {"name": "d", "digest": "x", "source_type": "local", "source": "{}", "schema": "{}", "profile": "{}"},
            }
        ],
    },
)
model = call(
    "logged-models",
    "POST",
    f"{API}/logged-models",
    {
        "experiment_id": e,
        "name": "lm",
        "source_run_id": r,
        "model_type": "t",
        "params": [{"key": "a", "value": "1"}],
        "tags": [{"key": "a", "value": "1"}],
    },
)["model"]["info"]["model_id"]
seen.items["logged-models"][1]["model"]["info"]["experiment_id"] = "<experiment>"
call("runs/outputs", "POST", f"{API}/runs/outputs", {"run_id": r, "models": [{"model_id": model, "step": 3}]})
run_call("runs/get with inputs and outputs", "GET", f"{API}/runs/get", {"run_id": r})
run_call("runs/search", "POST", f"{API}/runs/search", {"experiment_ids": [e], "max_results": 1, "filter": "attributes.run_name = 'r'"})
run_call("runs/search nothing", "POST", f"{API}/runs/search", {"experiment_ids": [e], "filter": "attributes.run_name = 'none'"})
for item, method, path, body in (
    ("logged-models get", "GET", f"{API}/logged-models/{model}", None),
    ("logged-models ready", "PATCH", f"{API}/logged-models/{model}", {"model_id": model, "status": "LOGGED_MODEL_READY"}),
):
    call(item, method, path, body)
    seen.items[item][1]["model"]["info"]["experiment_id"] = "<experiment>"
call("logged-models tags", "PATCH", f"{API}/logged-models/{model}/tags", {"model_id": model, "tags": [{"key": "b", "value": "2"}]})
call("logged-models params", "POST", f"{API}/logged-models/{model}/params", {"model_id": model, "params": [{"key": "b", "value": "2"}]})
call("logged-models tag delete", "DELETE", f"{API}/logged-models/{model}/tags/b")
call("logged-models missing", "GET", f"{API}/logged-models/m-" + "0" * 32)
found = call("logged-models search", "POST", f"{API}/logged-models/search", {"experiment_ids": [e]})
for each in seen.items["logged-models search"][1]["models"]:
    each["info"]["experiment_id"] = "<experiment>"
call("logged-models search nothing", "POST", f"{API}/logged-models/search", {"experiment_ids": [e], "filter": "name = 'none'"})
call("artifacts/list nothing", "GET", f"{API}/artifacts/list", {"run_id": r})
seen.client.log_text(r, "hello", "d/a.txt")
seen.client.log_text(r, "hello you", "b.txt")
call("artifacts/list", "GET", f"{API}/artifacts/list", {"run_id": r})
call("artifacts/list of a folder", "GET", f"{API}/artifacts/list", {"run_id": r, "path": "d"})
root = seen.client.get_run(r).info.artifact_uri.removeprefix("mlflow-artifacts:/")
call("mlflow-artifacts list", "GET", "/api/2.0/mlflow-artifacts/artifacts", {"path": root})
call("mlflow-artifacts list of nothing", "GET", "/api/2.0/mlflow-artifacts/artifacts", {"path": f"{root}/none"})
call("mlflow-artifacts get", "GET", f"/api/2.0/mlflow-artifacts/artifacts/{root}/b.txt")
call("mlflow-artifacts delete", "DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{root}/b.txt")

RM = f"{API}/registered-models"
MV = f"{API}/model-versions"
call("registered-models/create", "POST", f"{RM}/create", {"name": "W", "description": "d", "tags": [{"key": "a", "value": "b"}]})
call("registered-models/create again", "POST", f"{RM}/create", {"name": "W"})
call("registered-models/create bare", "POST", f"{RM}/create", {"name": "W bare"})
call("registered-models/get", "GET", f"{RM}/get", {"name": "W"})
call("registered-models/get missing", "GET", f"{RM}/get", {"name": "W none"})
call(
    "model-versions/create",
    "POST",
    f"{MV}/create",
    {"name": "W", "source": f"mlflow-artifacts:/{root}/m", "run_id": r, "tags": [{"key": "a", "value": "b"}]},
)
call("model-versions/create of a model", "POST", f"{MV}/create", {"name": "W", "source": f"models:/{model}", "model_id": model})
call("model-versions/create of elsewhere", "POST", f"{MV}/create", {"name": "W", "source": "s3://b/c"})
call("model-versions/get", "GET", f"{MV}/get", {"name": "W", "version": "1"})
call("model-versions/get missing", "GET", f"{MV}/get", {"name": "W", "version": "99"})
call("model-versions/get-download-uri", "GET", f"{MV}/get-download-uri", {"name": "W", "version": "2"})
call("registered-models/alias set", "POST", f"{RM}/alias", {"name": "W", "alias": "c", "version": "2"})
call("registered-models/alias get", "GET", f"{RM}/alias", {"name": "W", "alias": "c"})
call("registered-models/alias missing", "GET", f"{RM}/alias", {"name": "W", "alias": "none"})
call("registered-models/alias reserved", "POST", f"{RM}/alias", {"name": "W", "alias": "latest", "version": "2"})
call("registered-models/alias bad", "POST", f"{RM}/alias", {"name": "W", "alias": "a b", "version": "2"})
call(
    "model-versions/transition-stage",
    "POST",
    f"{MV}/transition-stage",
    {"name": "W", "version": "1", "stage": "production", "archive_existing_versions": True},
)
call("registered-models/get-latest-versions by GET", "GET", f"{RM}/get-latest-versions", {"name": "W", "stages": ["Production"]})
call("registered-models/get-latest-versions by POST", "POST", f"{RM}/get-latest-versions", {"name": "W", "stages": ["None"]})
call("registered-models/get full", "GET", f"{RM}/get", {"name": "W"})
call("registered-models/search", "GET", f"{RM}/search", {"filter": "name = 'W bare'"})
call("registered-models/search nothing", "GET", f"{RM}/search", {"filter": "name = 'W none'"})
call("model-versions/search", "GET", f"{MV}/search", {"filter": "name = 'W' and version_number = 2"})
call("model-versions/update", "PATCH", f"{MV}/update", {"name": "W", "version": "1", "description": "new"})
call("model-versions/set-tag", "POST", f"{MV}/set-tag", {"name": "W", "version": "1", "key": "k", "value": "v"})
call("model-versions/delete-tag", "DELETE", f"{MV}/delete-tag", {"name": "W", "version": "1", "key": "k"})
call("registered-models/update", "PATCH", f"{RM}/update", {"name": "W bare", "description": "new"})
call("registered-models/set-tag", "POST", f"{RM}/set-tag", {"name": "W bare", "key": "k", "value": "v"})
call("registered-models/delete-tag", "DELETE", f"{RM}/delete-tag", {"name": "W bare", "key": "k"})
call("registered-models/alias delete", "DELETE", f"{RM}/alias", {"name": "W", "alias": "c"})
call("model-versions/delete", "DELETE", f"{MV}/delete", {"name": "W", "version": "2"})
call("registered-models/rename", "POST", f"{RM}/rename", {"name": "W bare", "new_name": "W renamed"})
call("registered-models/delete", "DELETE", f"{RM}/delete", {"name": "W renamed"})
told = call("experiments/search-datasets", "POST", "/ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": [e]})
for data in seen.items["experiments/search-datasets"][1]["dataset_summaries"]:
    data["experiment_id"] = data["experiment_id"] == e
call("experiments/search-datasets none", "POST", "/ajax-api/2.0/mlflow/experiments/search-datasets", {})
call("runs/outputs empty", "POST", f"{API}/runs/outputs", {"run_id": r, "models": []})
call(
    "runs/log-metric half a dataset",
    "POST",
    f"{API}/runs/log-metric",
    {"run_id": r, "key": "m", "value": 1, "timestamp": 5, "dataset_name": "d"},
)
call("runs/log-metric a word", "POST", f"{API}/runs/log-metric", {"run_id": r, "key": "m", "value": "word", "timestamp": 5})
call(
    "experiments/set-experiment-tag no number",
    "POST",
    f"{API}/experiments/set-experiment-tag",
    {"experiment_id": "x", "key": "k", "value": "v"},
)
call("runs/search no number", "POST", f"{API}/runs/search", {"experiment_ids": ["x"]})
call("registered-models/alias get bad", "GET", f"{RM}/alias", {"name": "W", "alias": "a b"})
call("model-versions/get-artifact climbs", "GET", "/model-versions/get-artifact", {"name": "none", "version": "1", "path": "../x"})
call("model-versions/get-artifact missing", "GET", "/model-versions/get-artifact", {"name": "none", "version": "1", "path": "x"})
call("webhooks missing", "GET", f"{API}/webhooks/none")
for verb in ("delete", "restore", "delete"):
    call(f"runs/{verb}" if f"runs/{verb}" not in seen.items else f"runs/{verb} again", "POST", f"{API}/runs/{verb}", {"run_id": r})
call("runs/log-metric deleted", "POST", f"{API}/runs/log-metric", {"run_id": r, "key": "m", "value": 1.5, "timestamp": 5})
call("runs/delete-tag deleted", "POST", f"{API}/runs/delete-tag", {"run_id": r, "key": "t"})
call("experiments/delete", "POST", f"{API}/experiments/delete", {"experiment_id": e})
call("experiments/restore", "POST", f"{API}/experiments/restore", {"experiment_id": e})
seen.done()
