"""A running MLflow server as a source: everything it will tell over its REST interface, page by page."""

import contextlib
import http.client
import os
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from treadle.records.errors import TreadleError
from treadle.records.moving import MovedExperiment, MovedFile, MovedLogged, MovedModel, MovedRun, MovedVersion
from treadle.records.tracking import ModelPoint, Point, RunInput, RunModel

STATES = {"RUNNING": "running", "SCHEDULED": "queued", "FINISHED": "finished", "FAILED": "failed", "KILLED": "cancelled"}
_LOGGED = {"LOGGED_MODEL_READY": "ready", "LOGGED_MODEL_UPLOAD_FAILED": "failed"}
_PAGE = 25_000


class MlflowServer:
    """A server's experiments, runs, models and artifacts.

    Args:
        url: as for `mlflow.set_tracking_uri`; MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, are sent.

    Raises:
        TreadleError: `unavailable` where nothing answers, `bad_request` where it is no MLflow server.
    """

    def __init__(self, url: str, *, timeout: float = 60.0):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TreadleError(f"{url!r} is no address of a server.", remedy="Write it like http://127.0.0.1:5000")
        self.name = url.rstrip("/")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._base = parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeout = timeout
        self._headers = _credentials()
        self._connection: http.client.HTTPConnection | None = None
        self._places: dict[str, str] = {}  # owner → path below the artifact proxy, "" where there is none

    def experiments(self) -> Iterator[MovedExperiment]:
        """Every experiment, the bin included."""
        for e in self._pages("POST", "/api/2.0/mlflow/experiments/search", "experiments", {"view_type": "ALL", "max_results": 1000}):
            tags = _pairs(e.get("tags"))
            yield MovedExperiment(
                experiment_id=str(e["experiment_id"]),
                name=e["name"],
                lifecycle=e.get("lifecycle_stage", "active"),
                description=tags.get("mlflow.note.content", ""),
                tags=tags,
                created=_us(e.get("creation_time")) or 0,
            )

    def runs(self, experiment_id: str) -> Iterator[MovedRun]:
        """The runs of an experiment, the bin included."""
        asked = {"experiment_ids": [experiment_id], "run_view_type": "ALL", "max_results": 1000}
        for run in self._pages("POST", "/api/2.0/mlflow/runs/search", "runs", asked):
            info, data = run["info"], run.get("data", {})
            tags = _pairs(data.get("tags"))
            self._places[info["run_id"]] = _proxied(info.get("artifact_uri", ""))
            yield MovedRun(
                run_id=info["run_id"],
                name=info.get("run_name") or tags.get("mlflow.runName", ""),
                user=info.get("user_id", ""),
                state=STATES.get(info.get("status", ""), "finished"),
                lifecycle=info.get("lifecycle_stage", "active"),
                created=_us(info.get("start_time")) or 0,
                ended=_us(info.get("end_time")),
                parent_run=tags.get("mlflow.parentRunId"),
                git_revision=tags.get("mlflow.source.git.commit"),
                metrics=sorted({m["key"] for m in data.get("metrics", [])}),
                params=_pairs(data.get("params")),
                tags=tags,
                inputs=[_input(i) for i in run.get("inputs", {}).get("dataset_inputs", [])],
                models=[
                    *(RunModel(model_id=m["model_id"], role="input") for m in run.get("inputs", {}).get("model_inputs", [])),
                    *(
                        RunModel(model_id=m["model_id"], role="output", step=int(m.get("step", 0)))
                        for m in run.get("outputs", {}).get("model_outputs", [])
                    ),
                ],
            )

    def points(self, run: MovedRun) -> Iterator[list[Point]]:
        """Every point of every metric."""
        for key in run.metrics:
            token = None
            while True:
                asked = {"run_id": run.run_id, "metric_key": key, "max_results": _PAGE, **({"page_token": token} if token else {})}
                answer = self._json("GET", "/api/2.0/mlflow/metrics/get-history?" + urlencode(asked))
                found = answer.get("metrics", [])
                for start in range(0, len(found), 5000):
                    yield [
                        Point(key=key, value=m["value"], step=int(m.get("step", 0)), time=_us(m["timestamp"]))
                        for m in found[start : start + 5000]
                    ]
                token = answer.get("next_page_token")
                if not token:
                    break

    def logged_models(self, experiment_id: str) -> Iterator[MovedLogged]:
        """The logged models of an experiment; none where the server is older than them."""
        asked = {"experiment_ids": [experiment_id], "max_results": 100}
        try:
            found = list(self._pages("POST", "/api/2.0/mlflow/logged-models/search", "models", asked))
        except TreadleError as error:
            if error.code == "not_found":
                return
            raise
        for model in found:
            info, data = model["info"], model.get("data", {})
            self._places[info["model_id"]] = _proxied(info.get("artifact_uri", ""))
            yield MovedLogged(
                model_id=info["model_id"],
                name=info.get("name", ""),
                run_id=info.get("source_run_id", ""),
                state=_LOGGED.get(str(info.get("status")), "pending"),
                model_type=info.get("model_type", ""),
                created=_us(info.get("creation_timestamp_ms")) or 0,
                params=_pairs(data.get("params")),
                tags=_pairs(info.get("tags")),
                metrics=[
                    ModelPoint(
                        key=m["key"],
                        value=m["value"],
                        step=int(m.get("step", 0)),
                        time=_us(m["timestamp"]) or 0,
                        run_id=m.get("run_id", ""),
                        dataset_name=m.get("dataset_name", ""),
                        dataset_digest=m.get("dataset_digest", ""),
                    )
                    for m in data.get("metrics", [])
                ],
            )

    def models(self) -> Iterator[MovedModel]:
        """The registered models with their versions, prompts not among them."""
        for model in self._pages("GET", "/api/2.0/mlflow/registered-models/search", "registered_models", {"max_results": 100}):
            name = model["name"]
            asked = {"filter": "name = '" + name + "'" if "'" not in name else f'name = "{name}"', "max_results": 1000}
            versions = [
                MovedVersion(
                    number=int(v["version"]),
                    run_id=v.get("run_id", ""),
                    model_id=v.get("model_id", "")
                    or (v.get("source", "").removeprefix("models:/") if "models:/m-" in v.get("source", "") else ""),
                    source=v.get("source", ""),
                    description=v.get("description", ""),
                    stage=v.get("current_stage", "None"),
                    tags=_pairs(v.get("tags")),
                    created=_us(v.get("creation_timestamp")) or 0,
                )
                for v in self._pages("GET", "/api/2.0/mlflow/model-versions/search", "model_versions", asked)
            ]
            yield MovedModel(
                name=name,
                description=model.get("description", ""),
                tags=_pairs(model.get("tags")),
                created=_us(model.get("creation_timestamp")) or 0,
                aliases={a["alias"]: int(a["version"]) for a in model.get("aliases", [])},
                versions=sorted(versions, key=lambda v: v.number),
            )

    def files(self, experiment_id: str, owner: str) -> Iterator[MovedFile]:
        """The files of a run or logged model, folder by folder."""
        folders = [""]
        while folders:
            folder = folders.pop()
            for entry in self._listed(owner, folder):
                if entry.get("is_dir"):
                    folders.append(entry["path"])
                else:
                    yield MovedFile(path=entry["path"], size=int(entry.get("file_size") or 0))

    @contextlib.contextmanager
    def open(self, experiment_id: str, owner: str, path: str) -> Iterator[BinaryIO]:
        """One file's content, as it comes."""
        place = self._places.get(owner, "")
        if place:
            target = f"/api/2.0/mlflow-artifacts/artifacts/{quote(place)}/{quote(path)}"
        else:
            target = "/get-artifact?" + urlencode({"run_uuid": owner, "path": path})
        response = self._request("GET", target, None)
        if response.status != 200:
            raise _refused(response.status, response.read(), f"{owner}/{path}")
        try:
            yield cast("BinaryIO", response)
        finally:
            response.read()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listed(self, owner: str, folder: str) -> list[dict[str, Any]]:
        """What stands in a folder, by paths from the owner's root."""
        place = self._places.get(owner, "")
        if not place:
            asked = urlencode({"run_id": owner, **({"path": folder} if folder else {})})
            return self._json("GET", f"/api/2.0/mlflow/artifacts/list?{asked}").get("files", [])
        found = self._json("GET", "/api/2.0/mlflow-artifacts/artifacts?" + urlencode({"path": f"{place}/{folder}".rstrip("/")}))
        return [{**f, "path": f"{folder}/{f['path']}".lstrip("/")} for f in found.get("files", [])]

    def _pages(self, method: str, path: str, field: str, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        token = None
        while True:
            named = {**asked, **({"page_token": token} if token else {})}
            answer = self._json(method, path, named) if method == "POST" else self._json(method, f"{path}?{urlencode(named)}")
            yield from answer.get(field, [])
            token = answer.get("next_page_token")
            if not token:
                return

    def _json(self, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        response = self._request(method, target, None if body is None else msgspec.json.encode(body))
        content = response.read()
        if response.status != 200:
            raise _refused(response.status, content, target)
        try:
            return msgspec.json.decode(content, type=dict)
        except msgspec.MsgspecError as error:
            raise TreadleError(
                f"{self.name} answers {target} with something that is no JSON object.",
                remedy="Give the address of an MLflow tracking server.",
            ) from error

    def _request(self, method: str, target: str, body: bytes | None) -> http.client.HTTPResponse:
        headers = {**self._headers, **({"Content-Type": "application/json"} if body is not None else {})}
        failure: Exception | None = None
        for attempt in range(4):
            try:
                self._connection = self._connection or self._connect()
                self._connection.request(method, self._base + target, body=body, headers=headers)
                return self._connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                failure = error
                time.sleep(0.1 * 2**attempt)
        raise TreadleError(
            f"The MLflow server at {self.name} does not answer: {failure}.",
            remedy="Check the address, and that it runs: curl " + self.name + "/version",
            code="unavailable",
        )

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)


def _credentials() -> dict[str, str]:
    token, name = os.environ.get("MLFLOW_TRACKING_TOKEN"), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if token:
        return {"Authorization": f"Bearer {token}"}
    if name:
        secret = b64encode(f"{name}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}".encode()).decode()
        return {"Authorization": f"Basic {secret}"}
    return {}


def _refused(status: int, content: bytes, what: str) -> TreadleError:
    told = content[:300].decode("utf-8", "replace")
    return TreadleError(
        f"The MLflow server answers {status} to {what}: {told}",
        remedy="Look at the server's log; the import goes on where it stopped when it is started again.",
        code={401: "unauthenticated", 403: "denied", 404: "not_found"}.get(status, "unavailable" if status >= 500 else "bad_request"),
    )


def _proxied(uri: str) -> str:
    """The path below the artifact proxy, or "" for what only `/get-artifact` gives."""
    parts = urlsplit(uri)
    return parts.path.strip("/") if parts.scheme == "mlflow-artifacts" else ""


def _pairs(found: list[dict[str, Any]] | None) -> dict[str, str]:
    return {pair["key"]: pair.get("value", "") for pair in found or []}


def _input(told: dict[str, Any]) -> RunInput:
    data, tags = told["dataset"], _pairs(told.get("tags"))
    return RunInput(
        name=data["name"],
        digest=data["digest"],
        source_type=data.get("source_type", ""),
        source=data.get("source", ""),
        schema=data.get("schema"),
        profile=data.get("profile"),
        context=tags.get("mlflow.data.context", ""),
        tags=tags,
    )


def _us(milliseconds: Any) -> int | None:
    return None if milliseconds is None else int(milliseconds) * 1000
