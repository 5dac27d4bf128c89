"""Requests no client of good will sends: paths that climb out, broken bodies, SQL, numbers that are none."""

import json

import requests
from observing import SERVER, Observed

seen = Observed()
client = seen.client
experiment = client.create_experiment("bad input")
info = client.create_run(experiment, run_name="bad").info
run = seen.name(info.run_id, "run")
client.log_text(run, "inside", "d/in.txt")
root = info.artifact_uri.removeprefix("mlflow-artifacts:/")
FILES, API = "/api/2.0/mlflow-artifacts/artifacts", "/api/2.0/mlflow"

CLIMBING = [
    "../x",
    "..%2fx",
    "%2e%2e/x",
    "%2e%2e%2fx",
    "%252e%252e%252fx",
    "%25252e%25252e/x",
    "a/../../x",
    "a/%2e%2e/%2e%2e/x",
    "..",
    "%2e%2e",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "%252fetc",
    "..%5cx",
    "a%5c..%5cx",
    "C:/x",
    "C:%5cx",
    "file:/etc/passwd",
    "file:///etc/passwd",
    "a%00b",
    "a%23b",
    "a%0ab",
    "..%c0%afx",
    "%uff0e%uff0e/x",
    "....//x",
    "~root/x",
]


def verdict(method: str, path: str, **request):
    """Status class and code: was it refused, or taken as a name like any other?"""
    prepared = requests.Request(method, SERVER + path, **request).prepare()
    prepared.url = SERVER + path + (("?" + prepared.url.split("?", 1)[1]) if "?" in prepared.url and "?" not in path else "")
    with requests.Session() as session:
        answer = session.send(prepared, timeout=60, allow_redirects=False)
    code = (
        answer.json().get("error_code")
        if answer.headers.get("content-type", "").startswith("application/json") and answer.content
        else None
    )
    return [answer.status_code, code, "root:" in answer.text]


for path in CLIMBING:
    seen.see(f"get {path}", lambda p=path: verdict("GET", f"{FILES}/{root}/{p}"))
    seen.see(f"put {path}", lambda p=path: verdict("PUT", f"{FILES}/{root}/{p}", data=b"x"))
    seen.see(f"delete {path}", lambda p=path: verdict("DELETE", f"{FILES}/{root}/{p}"))
    seen.see(f"get {path} at the root", lambda p=path: verdict("GET", f"{FILES}/{p}"))
for path in [
    "..",
    "../..",
    "a/../..",
    "/etc",
    "%2e%2e",
    "%252e%252e",
    "..\\..",
    "C:/",
    "file:///etc",
    "a#b",
    "a\0b",
    "d/..",
    "./d",
    "d//in.txt",
    "d/",
]:
    seen.see(f"list {path!r}", lambda p=path: verdict("GET", FILES, params={"path": f"{root}/{p}"}))
    seen.see(f"list {path!r} alone", lambda p=path: verdict("GET", FILES, params={"path": p}))
    seen.see(f"list of the run {path!r}", lambda p=path: verdict("GET", f"{API}/artifacts/list", params={"run_id": run, "path": p}))
seen.see("what is there afterwards", [f.path for f in client.list_artifacts(run, "d")])
seen.see("client: log_text climbing", lambda: client.log_text(run, "x", "../../x.txt"))
seen.see("client: log_text absolute", lambda: client.log_text(run, "x", "/x.txt"))
seen.see("client: list climbing", lambda: [f.path for f in client.list_artifacts(run, "../..")])
seen.see("client: download climbing", lambda: client.download_artifacts(run, "../../x"))
seen.call("get a missing file", "GET", f"{FILES}/{root}/none.txt")
seen.see("get a folder", verdict("GET", f"{FILES}/{root}/d"))
seen.see("delete a missing file", verdict("DELETE", f"{FILES}/{root}/none.txt"))
seen.see(
    "put over a file",
    [verdict("PUT", f"{FILES}/{root}/d/in.txt", data=b"new"), requests.get(f"{SERVER}{FILES}/{root}/d/in.txt", timeout=60).text],
)
seen.see("put onto a folder", verdict("PUT", f"{FILES}/{root}/d", data=b"x")[0] >= 400)
seen.see("put below a file", verdict("PUT", f"{FILES}/{root}/d/in.txt/x", data=b"x")[0] >= 400)
seen.see("delete a folder", [verdict("DELETE", f"{FILES}/{root}/d"), [f.path for f in client.list_artifacts(run)]])
seen.see("get-artifact", verdict("GET", "/get-artifact", params={"run_id": run, "path": "none.txt"}))
seen.see("get-artifact climbing", verdict("GET", "/get-artifact", params={"run_id": run, "path": "../../x"}))

POST = {"headers": {"content-type": "application/json"}}
for label, data in {
    "broken": b'{"run_id":',
    "empty": b"",
    "list": b"[]",
    "text": b'"x"',
    "number": b"5",
    "null": b"null",
    "nested": b'{"run_id": {"a": 1}}',
    "bytes": b"\xff\xfe",
    "deep": b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "two spellings": json.dumps({"runId": run, "run_id": run, "key": "a", "value": "b"}).encode(),
    "camel": json.dumps({"runId": run, "key": "camel", "value": "b"}).encode(),
    "unknown field": json.dumps({"run_id": run, "key": "unknown", "value": "b", "more": 1}).encode(),
    "double encoded": json.dumps(json.dumps({"run_id": run, "key": "double", "value": "b"})).encode(),
    "run_uuid": json.dumps({"run_uuid": run, "key": "old", "value": "b"}).encode(),
}.items():
    seen.see(f"body: {label}", lambda d=data: verdict("POST", f"{API}/runs/set-tag", data=d, **POST))
seen.call("no content type", "POST", f"{API}/runs/set-tag", data=b"{}", headers={"content-type": ""})
seen.call("text/plain", "POST", f"{API}/runs/set-tag", data=b"{}", headers={"content-type": "text/plain"})
seen.call(
    "a charset",
    "POST",
    f"{API}/runs/set-tag",
    data=json.dumps({"run_id": run, "key": "charset", "value": "b"}).encode(),
    headers={"content-type": "application/json; charset=utf-8"},
)
for value in ("NaN", "Infinity", "-Infinity", "1e400", "1.5", "abc", "", None, True, [], {}, 10**400, "0x10", " 1"):
    seen.see(
        f"metric value {str(value)[:12]!r} {type(value).__name__}",
        lambda v=value: verdict("POST", f"{API}/runs/log-metric", json={"run_id": run, "key": "v", "value": v, "timestamp": 1}),
    )
for stamp in (-1, "5", "x", 1.5, None, 2**63, 2**63 - 1, True):
    seen.see(
        f"metric time {stamp!r}",
        lambda s=stamp: verdict("POST", f"{API}/runs/log-metric", json={"run_id": run, "key": "t", "value": 1, "timestamp": s}),
    )
for step in ("5", "x", 1.5, None, 2**63, -(2**63)):
    seen.see(
        f"metric step {step!r}",
        lambda s=step: verdict("POST", f"{API}/runs/log-metric", json={"run_id": run, "key": "s", "value": 1, "timestamp": 1, "step": s}),
    )
for label, body in {
    "max_results text": {"max_results": "5"},
    "max_results words": {"max_results": "five"},
    "max_results none": {"max_results": None},
    "max_results huge": {"max_results": 2**40},
    "view a number": {"run_view_type": 3},
    "view a word": {"run_view_type": "ALL"},
    "view unknown": {"run_view_type": "NONE"},
    "filter a number": {"filter": 5},
    "order a text": {"order_by": "metrics.a"},
    "order of numbers": {"order_by": [1]},
    "ids a text": {"experiment_ids": experiment},
    "ids of numbers": {"experiment_ids": [int(experiment)]},
    "no ids": {"experiment_ids": None},
    "token a number": {"page_token": 5},
}.items():
    seen.see(f"search: {label}", lambda b=body: verdict("POST", f"{API}/runs/search", json={"experiment_ids": [experiment], **b}))
SQL = [
    "' OR '1'='1",
    "1; DROP TABLE runs",
    "x' UNION SELECT name FROM sqlite_master --",
    "\\' OR 1=1 --",
    "%27%20OR%201=1",
    "metrics.a > 1) OR (1=1",
    "params.`a' OR '1'='1` = 'x'",
    "tags.\"a\" = 'x' OR 1=1",
    "attributes.start_time > 0 OR 1=1",
    "attributes.start_time > (SELECT 1)",
    "metrics.a > 1 /**/ AND /**/ 1=1",
    "params.a = 'x' AND SLEEP(5)",
]
for text in SQL:
    seen.see(
        f"sql in a filter: {text}", lambda t=text: verdict("POST", f"{API}/runs/search", json={"experiment_ids": [experiment], "filter": t})
    )
    seen.see(
        f"sql in an order: {text}",
        lambda t=text: verdict("POST", f"{API}/runs/search", json={"experiment_ids": [experiment], "order_by": [t]}),
    )
    seen.see(f"sql in a model filter: {text}", lambda t=text: verdict("GET", f"{API}/registered-models/search", params={"filter": t}))
    seen.see(
        f"sql in an experiment's name: {text}",
        lambda t=text: verdict("GET", f"{API}/experiments/get-by-name", params={"experiment_name": t}),
    )
    seen.see(f"sql in a run id: {text}", lambda t=text: verdict("GET", f"{API}/runs/get", params={"run_id": t}))
for method, path in (("GET", "/runs/create"), ("POST", "/runs/get"), ("DELETE", "/runs/delete"), ("GET", "/nothing"), ("POST", "/nothing")):
    seen.see(f"{method} {path}", verdict(method, API + path, **({"json": {}} if method == "POST" else {}))[0] in (404, 405))
seen.see(
    "everything still stands",
    [client.get_run(run).info.run_name, sorted(k for k in client.get_run(run).data.tags if not k.startswith("mlflow."))],
)
seen.done()
