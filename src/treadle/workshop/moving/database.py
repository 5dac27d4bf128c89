"""An MLflow backend database as a source; artifacts where its uris say, on this disk."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from treadle.client.mlflow import STATES
from treadle.records.errors import TreadleError
from treadle.records.moving import MovedExperiment, MovedFile, MovedLogged, MovedModel, MovedRun, MovedVersion
from treadle.records.tracking import ModelPoint, Point, RunInput, RunModel
from treadle.store.foreign import MlflowTables

_BATCH = 5000
_LOGGED = {1: "pending", 2: "ready", 3: "failed"}


class MlflowDatabase:
    """An MLflow backend database.

    Args:
        url: of the database.
        artifacts: the folder that stands for `mlflow-artifacts:/` (the server's `--artifacts-destination`) and for relative paths.
    """

    def __init__(self, url: str, artifacts: Path | None = None):
        self.name = url.partition("@")[2] or url
        self._tables = MlflowTables(url)
        self._artifacts = artifacts
        self._places: dict[str, Path | None] = {}

    def experiments(self) -> Iterator[MovedExperiment]:
        """Every experiment, the bin included."""
        for row in self._tables.rows("experiments", order=["experiment_id"]):
            tags = self._tables.pairs("experiment_tags", experiment_id=row["experiment_id"])
            yield MovedExperiment(
                experiment_id=str(row["experiment_id"]),
                name=row["name"],
                lifecycle=row.get("lifecycle_stage") or "active",
                description=tags.get("mlflow.note.content", ""),
                tags=tags,
                created=(row.get("creation_time") or 0) * 1000,
            )

    def runs(self, experiment_id: str) -> Iterator[MovedRun]:
        """The runs of an experiment, the bin included."""
        for row in self._tables.rows("runs", experiment_id=int(experiment_id), order=["start_time", "run_uuid"]):
            run_id = row["run_uuid"]
            tags = self._tables.pairs("tags", run_uuid=run_id)
            self._places[run_id] = self._place(row.get("artifact_uri"))
            yield MovedRun(
                run_id=run_id,
                name=tags.get("mlflow.runName") or row.get("name") or "",
                user=row.get("user_id") or "",
                state=STATES.get(row.get("status") or "", "finished"),
                lifecycle=row.get("lifecycle_stage") or "active",
                created=(row.get("start_time") or 0) * 1000,
                ended=row["end_time"] * 1000 if row.get("end_time") is not None else None,
                parent_run=tags.get("mlflow.parentRunId"),
                git_revision=tags.get("mlflow.source.git.commit"),
                metrics=sorted({m["key"] for m in self._tables.rows("latest_metrics", run_uuid=run_id)}),
                params=self._tables.pairs("params", run_uuid=run_id),
                tags=tags,
                inputs=self._inputs(run_id),
                models=self._models_of(run_id),
            )

    def points(self, run: MovedRun) -> Iterator[list[Point]]:
        """Every point of every metric."""
        batch: list[Point] = []
        for row in self._tables.rows("metrics", run_uuid=run.run_id):
            value = "NaN" if row.get("is_nan") else row["value"]
            batch.append(Point(key=row["key"], value=value, step=row.get("step") or 0, time=row["timestamp"] * 1000))
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def logged_models(self, experiment_id: str) -> Iterator[MovedLogged]:
        """The logged models of an experiment."""
        for row in self._tables.rows("logged_models", experiment_id=int(experiment_id), order=["model_id"]):
            if row.get("lifecycle_stage") == "deleted":
                continue
            model_id = row["model_id"]
            self._places[model_id] = self._place(row.get("artifact_location"))
            yield MovedLogged(
                model_id=model_id,
                name=row["name"] or "",
                run_id=row.get("source_run_id") or "",
                state=_LOGGED.get(row.get("status") or 0, "ready"),
                model_type=row.get("model_type") or "",
                created=(row.get("creation_timestamp_ms") or 0) * 1000,
                params={r["param_key"]: r["param_value"] for r in self._tables.rows("logged_model_params", model_id=model_id)},
                tags={r["tag_key"]: r["tag_value"] for r in self._tables.rows("logged_model_tags", model_id=model_id)},
                metrics=[
                    ModelPoint(
                        key=r["metric_name"],
                        value=r["metric_value"],
                        step=r["metric_step"],
                        time=r["metric_timestamp_ms"] * 1000,
                        run_id=r["run_id"],
                        dataset_name=r.get("dataset_name") or "",
                        dataset_digest=r.get("dataset_digest") or "",
                    )
                    for r in self._tables.rows("logged_model_metrics", model_id=model_id)
                ],
            )

    def models(self) -> Iterator[MovedModel]:
        """The registered models with their versions, prompts not among them."""
        for row in self._tables.rows("registered_models", order=["name"]):
            tags = self._tables.pairs("registered_model_tags", name=row["name"])
            if tags.get("mlflow.prompt.is_prompt") == "true":
                continue
            yield MovedModel(
                name=row["name"],
                description=row.get("description") or "",
                tags=tags,
                created=(row.get("creation_time") or 0) * 1000,
                aliases={r["alias"]: int(r["version"]) for r in self._tables.rows("registered_model_aliases", name=row["name"])},
                versions=[
                    MovedVersion(
                        number=v["version"],
                        run_id=v.get("run_id") or "",
                        model_id=(v["source"] or "").removeprefix("models:/") if (v["source"] or "").startswith("models:/m-") else "",
                        source=v["source"] or "",
                        description=v.get("description") or "",
                        stage=v.get("current_stage") or "None",
                        tags=self._tables.pairs("model_version_tags", name=row["name"], version=v["version"]),
                        created=(v.get("creation_time") or 0) * 1000,
                    )
                    for v in self._tables.rows("model_versions", name=row["name"], order=["version"])
                    if v.get("current_stage") != "Deleted_Internal"
                ],
            )

    def files(self, experiment_id: str, owner: str) -> Iterator[MovedFile]:
        """The files below an owner's artifact folder."""
        root = self._places.get(owner)
        if root is not None and root.is_dir():
            for path in sorted(p for p in root.rglob("*") if p.is_file()):
                yield MovedFile(path=path.relative_to(root).as_posix(), size=path.stat().st_size)

    @contextlib.contextmanager
    def open(self, experiment_id: str, owner: str, path: str) -> Iterator[BinaryIO]:
        """One file's content."""
        root = self._places.get(owner)
        assert root is not None
        with (root / path).open("rb") as file:
            yield file

    def close(self) -> None:
        """Close the database."""
        self._tables.close()

    def _inputs(self, run_id: str) -> list[RunInput]:
        found: list[RunInput] = []
        for row in self._tables.rows("inputs", destination_id=run_id, source_type="DATASET"):
            tags = {t["name"]: t["value"] for t in self._tables.rows("input_tags", input_uuid=row["input_uuid"])}
            for data in self._tables.rows("datasets", dataset_uuid=row["source_id"]):
                found.append(
                    RunInput(
                        name=data["name"],
                        digest=data["digest"],
                        source_type=data["dataset_source_type"] or "",
                        source=data["dataset_source"] or "",
                        schema=data.get("dataset_schema"),
                        profile=data.get("dataset_profile"),
                        context=tags.get("mlflow.data.context", ""),
                        tags=tags,
                    )
                )
        return found

    def _models_of(self, run_id: str) -> list[RunModel]:
        read = [RunModel(model_id=r["destination_id"], role="input") for r in self._edges(run_id, "RUN_INPUT")]
        made = [RunModel(model_id=r["destination_id"], role="output", step=r.get("step") or 0) for r in self._edges(run_id, "RUN_OUTPUT")]
        return read + made

    def _edges(self, run_id: str, kind: str) -> Iterator[dict[str, Any]]:
        return self._tables.rows("inputs", source_id=run_id, source_type=kind)

    def _place(self, uri: str | None) -> Path | None:
        """The folder on this disk that an artifact uri means; None where it is not on this disk."""
        parts = urlsplit(uri or "")
        if parts.scheme == "mlflow-artifacts":
            if self._artifacts is None:
                raise TreadleError(
                    f"The store's artifacts are at {uri}, behind its server.",
                    remedy="Name their folder, the server's --artifacts-destination: --artifacts DIR; or import from the running server.",
                )
            return self._artifacts / unquote(parts.path).lstrip("/")
        if parts.scheme == "file":
            return Path(unquote(parts.path))
        if parts.scheme == "" and uri:
            path = Path(uri)
            return path if path.is_absolute() or self._artifacts is None else self._artifacts / path
        return None
