"""What a script saw of a server, as one JSON document without ids, addresses and times, so that two servers can be compared.

The scripts beside this file are run by a real MLflow client's own Python. `MLFLOW_TRACKING_URI` names the server; each prints what it
observed when it ends.
"""

import datetime
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import requests
from mlflow.exceptions import MlflowException, RestException

import mlflow
from mlflow import MlflowClient

SERVER = os.environ["MLFLOW_TRACKING_URI"]
NAMED_ID = re.compile(r"\bm-[0-9a-f]{32}\b|\btr-[0-9a-f]{32}\b|\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
LOCATION = re.compile(r"(mlflow-artifacts:/|artifacts/|[Ee]xperiment (?:with id[ =])?|\?path=)\d+(?=/|%2F|\b)|\b\d+(?=/<)")
SQL = re.compile(r"( already exists\.) Error: \(.*|^\((?:sqlite3\.|raised as a result).*", re.DOTALL)
A_SET = re.compile(r"\{('[^'{}]*'(?:, '[^'{}]*')*)\}")
ENDED = "the script ended with"
ADVICE = "\n\nThe cause of this error is typically due to repeated calls"


#: the document's way out; whatever else the client prints goes to the errors
OUT, sys.stdout = sys.stdout, sys.stderr


class Observed:
    """The document under way: `see` adds an item, `call` a raw request, `name` gives an id the label it is printed as."""

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.labels: dict[str, str] = {}
        self.client = MlflowClient()
        sys.excepthook = self._ended

    def name(self, identity: Any, label: str) -> Any:
        self.labels[str(identity)] = f"<{label}>"
        return identity

    def see(self, item: str, of: Any) -> Any:
        """Keep a value, or what a call gives or raises; gives the value (None after an error)."""
        if item in self.items:
            raise KeyError(f"{item} was observed already")
        value = None
        if callable(of):
            try:
                value = of()
                self.items[item] = self.plain(value)
            except Exception as error:  # noqa: BLE001
                self.items[item] = self.plain(raised(error))
        else:
            value = of
            self.items[item] = self.plain(of)
        return value

    def call(self, item: str, method: str, path: str, **request: Any) -> Any:
        """Keep the status and the JSON of one HTTP request; gives the JSON."""
        answer = requests.request(method, SERVER + path, timeout=60, **request)
        kind = answer.headers.get("content-type", "").split(";")[0]
        body = answer.json() if kind == "application/json" and answer.content else answer.text[:300]
        if isinstance(body, dict):
            body = {k: v for k, v in body.items() if k not in ("sqlstate", "error_class")}
        self.see(item, {"status": answer.status_code, "body": body})
        return body

    def plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else ("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(k)): self.plain(v) for k, v in value.items()}
        if isinstance(value, set | frozenset):
            return sorted(self.plain(v) for v in value)
        if isinstance(value, list | tuple) or hasattr(value, "__iter__"):
            return [self.plain(v) for v in value]
        return self.text(str(value))

    def text(self, value: str) -> str:
        for identity, label in self.labels.items():
            if len(identity) > 6:
                value = value.replace(identity, label)
        value = NAMED_ID.sub("<id>", value.replace(SERVER, "<server>"))
        value = LOCATION.sub(lambda found: f"{found[1] or ''}<experiment>", SQL.sub(lambda found: found[1] or "<an SQL error>", value))
        return A_SET.sub(lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", value)

    def _ended(self, kind: Any, error: Any, trace: Any) -> None:
        """What was seen until the script failed is worth a look too."""
        sys.__excepthook__(kind, error, trace)
        self.items[ENDED] = self.plain(raised(error))
        self.done()

    def done(self) -> None:
        json.dump(self.items, OUT, indent=1, ensure_ascii=False, allow_nan=False)
        OUT.write("\n")


def without_guessing() -> None:
    """Models are logged with given requirements: guessing them starts a process per model and says nothing about the server."""
    mlflow.models.infer_pip_requirements = lambda *_arguments, **_named: ["mlflow"]


def raised(error: Exception) -> dict[str, Any]:
    """An exception as the caller of the client sees it; `by` says whose check it was."""
    if isinstance(error, RestException):
        return {"raised": error.error_code, "by": "server", "message": error.json.get("message", "")}
    if isinstance(error, MlflowException) and str(error).startswith("API request to"):
        return {"raised": "INTERNAL_ERROR", "by": "server", "message": "<an answer of 5xx, tried again until given up>"}
    if isinstance(error, MlflowException):
        return {"raised": error.error_code, "by": "client", "message": error.message.split(ADVICE)[0]}
    return {"raised": type(error).__name__, "by": "client", "message": str(error).split(" Response text:")[0]}


def recent(moment: Any) -> Any:
    """Is it a time of the last minutes? Milliseconds since 1970, or a datetime."""
    if moment is None:
        return None
    if isinstance(moment, datetime.datetime):
        moment = moment.timestamp() * 1000
    return abs(time.time() * 1000 - moment) < 900_000


def run_of(run: Any) -> dict[str, Any]:
    """A run as it is compared."""
    info = run.info
    return {
        "name": info.run_name,
        "status": info.status,
        "stage": info.lifecycle_stage,
        "started": recent(info.start_time),
        "ended": recent(info.end_time),
        "user": info.user_id,
        "artifacts": info.artifact_uri,
        "metrics": dict(sorted(run.data.metrics.items())),
        "params": dict(sorted(run.data.params.items())),
        "tags": tags_of(run.data.tags),
    }


#: tags that say where the script ran, not what the server does
OWN = ("mlflow.source.name", "mlflow.user")


def tags_of(tags: dict[str, str]) -> dict[str, str]:
    return {k: "<own>" if k in OWN else v for k, v in sorted(tags.items()) if not k.startswith("mlflow.source.git.")}


def model_of(version: Any) -> dict[str, Any]:
    """A model version as it is compared."""
    return {
        "name": version.name,
        "version": version.version,
        "type": type(version.version).__name__,
        "stage": version.current_stage,
        "description": version.description,
        "source": version.source,
        "run": version.run_id,
        "run_link": version.run_link,
        "status": version.status,
        "message": version.status_message,
        "tags": dict(sorted(version.tags.items())),
        "aliases": sorted(version.aliases),
        "created": recent(version.creation_timestamp),
        "changed": recent(version.last_updated_timestamp),
        "user": version.user_id,
    }


def registered_of(model: Any) -> dict[str, Any]:
    """A registered model as it is compared."""
    return {
        "name": model.name,
        "description": model.description,
        "tags": dict(sorted(model.tags.items())),
        "aliases": dict(sorted((k, str(v)) for k, v in model.aliases.items())),
        "latest": sorted((str(v.version), v.current_stage) for v in model.latest_versions),
        "created": recent(model.creation_timestamp),
        "changed": recent(model.last_updated_timestamp),
    }


def logged_of(model: Any) -> dict[str, Any]:
    """A logged model as it is compared."""
    return {
        "name": model.name,
        "type": model.model_type,
        "status": str(model.status),
        "run": model.source_run_id,
        "artifacts": model.artifact_location,
        "params": dict(sorted(model.params.items())),
        "tags": {k: v if k != "mlflow.modelVersions" else json.loads(v) for k, v in tags_of(model.tags).items()},
        "metrics": sorted((m.key, m.value, m.step, m.dataset_name, m.dataset_digest) for m in model.metrics or []),
        "created": recent(model.creation_timestamp),
        "changed": recent(model.last_updated_timestamp),
    }


def tree(list_artifacts: Callable[[str | None], Any], below: str | None = None) -> list[str]:
    """All files below a folder, directories with a slash, each with its size."""
    found = []
    for entry in list_artifacts(below):
        if entry.is_dir:
            found += [f"{entry.path}/", *tree(list_artifacts, entry.path)]
        else:
            found.append(entry.path)
    return sorted(found)
