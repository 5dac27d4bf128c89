"""An `mlruns` folder as a source: MLflow's file store."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from treadle.records.errors import TreadleError
from treadle.records.moving import MovedExperiment, MovedFile, MovedLogged, MovedModel, MovedRun, MovedVersion
from treadle.records.tracking import ModelPoint, Point, RunInput, RunModel

_BATCH = 5000
_STATES = {1: "running", 2: "queued", 3: "finished", 4: "failed", 5: "cancelled"}
_LOGGED = {1: "pending", 2: "ready", 3: "failed"}


class MlflowFolder:
    """An `mlruns` folder.

    Raises:
        TreadleError: `not_found`, or `bad_data` where it is no such folder.
    """

    def __init__(self, root: Path):
        if not root.is_dir():
            raise TreadleError(f"There is no folder {root}.", remedy="Name the mlruns folder.", code="not_found")
        self.name = str(root)
        self._root = root
        if not any(True for _ in self._experiment_folders()) and not (root / "models").is_dir():
            raise TreadleError(f"{root} holds no experiment of MLflow.", remedy="Name the folder that has 0/meta.yaml.", code="bad_data")

    def experiments(self) -> Iterator[MovedExperiment]:
        """Every experiment, the bin (`.trash`) included."""
        for folder in self._experiment_folders():
            meta = _meta(folder)
            tags = _texts(folder / "tags")
            yield MovedExperiment(
                experiment_id=str(meta.get("experiment_id", folder.name)),
                name=str(meta["name"]),
                lifecycle=str(meta.get("lifecycle_stage", "active")),
                description=tags.get("mlflow.note.content", ""),
                tags=tags,
                created=int(meta.get("creation_time") or 0) * 1000,
            )

    def runs(self, experiment_id: str) -> Iterator[MovedRun]:
        """The runs of an experiment, the bin included."""
        for folder in sorted(self._experiment(experiment_id).iterdir()):
            if not (folder / "meta.yaml").exists() or folder.name in ("models", "tags", "traces", "datasets"):
                continue
            meta, tags = _meta(folder), _texts(folder / "tags")
            if "run_id" not in meta and "run_uuid" not in meta:
                continue
            yield MovedRun(
                run_id=str(meta.get("run_id") or meta["run_uuid"]),
                name=str(meta.get("run_name") or tags.get("mlflow.runName", "")),
                user=str(meta.get("user_id") or ""),
                state=_STATES.get(int(meta.get("status") or 3), "finished"),
                lifecycle=str(meta.get("lifecycle_stage", "active")),
                created=int(meta.get("start_time") or 0) * 1000,
                ended=int(meta["end_time"]) * 1000 if meta.get("end_time") is not None else None,
                parent_run=tags.get("mlflow.parentRunId"),
                git_revision=tags.get("mlflow.source.git.commit"),
                metrics=[path.relative_to(folder / "metrics").as_posix() for path in _files(folder / "metrics")],
                params=_texts(folder / "params"),
                tags=tags,
                inputs=self._inputs(experiment_id, folder),
                models=self._models_of(folder),
            )

    def points(self, run: MovedRun) -> Iterator[list[Point]]:
        """Every point of every metric."""
        folder = next(f for f in self._run_folders(run.run_id))
        for key in run.metrics:
            batch: list[Point] = []
            with (folder / "metrics" / key).open() as file:
                for line in file:
                    words = line.split()
                    if len(words) < 2:
                        continue
                    step = int(words[2]) if len(words) > 2 else 0
                    batch.append(Point(key=key, value=_value(words[1]), step=step, time=int(words[0]) * 1000))
                    if len(batch) == _BATCH:
                        yield batch
                        batch = []
            if batch:
                yield batch

    def logged_models(self, experiment_id: str) -> Iterator[MovedLogged]:
        """The logged models of an experiment."""
        for folder in sorted((self._experiment(experiment_id) / "models").glob("*/meta.yaml")):
            meta = _meta(folder.parent)
            if meta.get("lifecycle_stage") == "deleted":
                continue
            yield MovedLogged(
                model_id=str(meta["model_id"]),
                name=str(meta.get("name") or ""),
                run_id=str(meta.get("source_run_id") or ""),
                state=_LOGGED.get(int(meta.get("status") or 2), "ready"),
                model_type=str(meta.get("model_type") or ""),
                created=int(meta.get("creation_timestamp") or 0) * 1000,
                params=_texts(folder.parent / "params"),
                tags=_texts(folder.parent / "tags"),
                metrics=list(_model_points(folder.parent / "metrics")),
            )

    def models(self) -> Iterator[MovedModel]:
        """The registered models with their versions, prompts not among them."""
        for place in sorted((self._root / "models").glob("*/meta.yaml")):
            folder, meta = place.parent, _meta(place.parent)
            tags = _texts(folder / "tags")
            if tags.get("mlflow.prompt.is_prompt") == "true":
                continue
            versions = []
            for version in sorted(folder.glob("version-*/meta.yaml")):
                told = _meta(version.parent)
                if told.get("current_stage") == "Deleted_Internal":
                    continue
                source = str(told.get("source") or "")
                versions.append(
                    MovedVersion(
                        number=int(told["version"]),
                        run_id=str(told.get("run_id") or ""),
                        model_id=str(told.get("model_id") or (source.removeprefix("models:/") if source.startswith("models:/m-") else "")),
                        source=source,
                        description=str(told.get("description") or ""),
                        stage=str(told.get("current_stage") or "None"),
                        tags=_texts(version.parent / "tags"),
                        created=int(told.get("creation_timestamp") or 0) * 1000,
                    )
                )
            yield MovedModel(
                name=str(meta.get("name", folder.name)),
                description=str(meta.get("description") or ""),
                tags=tags,
                created=int(meta.get("creation_timestamp") or 0) * 1000,
                aliases={a: int(n) for a, n in _texts(folder / "aliases").items()},
                versions=sorted(versions, key=lambda v: v.number),
            )

    def files(self, experiment_id: str, owner: str) -> Iterator[MovedFile]:
        """The files of a run or logged model."""
        root = self._artifacts(experiment_id, owner)
        for path in _files(root):
            yield MovedFile(path=path.relative_to(root).as_posix(), size=path.stat().st_size)

    @contextlib.contextmanager
    def open(self, experiment_id: str, owner: str, path: str) -> Iterator[BinaryIO]:
        """One file's content."""
        with (self._artifacts(experiment_id, owner) / path).open("rb") as file:
            yield file

    def close(self) -> None:
        """Nothing is held."""

    def _experiment_folders(self) -> Iterator[Path]:
        for root in (self._root, self._root / ".trash"):
            for folder in sorted(root.iterdir()) if root.is_dir() else ():
                if folder.name not in ("models", ".trash") and (folder / "meta.yaml").exists() and "run_id" not in _meta(folder):
                    yield folder

    def _experiment(self, experiment_id: str) -> Path:
        return next(f for f in self._experiment_folders() if f.name == experiment_id)

    def _run_folders(self, run_id: str) -> Iterator[Path]:
        for folder in self._experiment_folders():
            if (folder / run_id / "meta.yaml").exists():
                yield folder / run_id

    def _artifacts(self, experiment_id: str, owner: str) -> Path:
        folder = self._experiment(experiment_id)
        return folder / owner / "artifacts" if (folder / owner).is_dir() else folder / "models" / owner / "artifacts"

    def _inputs(self, experiment_id: str, run: Path) -> list[RunInput]:
        found = []
        for place in sorted((run / "inputs").glob("*/meta.yaml")):
            told = _meta(place.parent)
            data = (
                _meta(self._experiment(experiment_id) / "datasets" / str(told.get("source_id")))
                if told.get("source_type") == "DATASET"
                else {}
            )
            if data:
                tags = {str(k): str(v) for k, v in (told.get("tags") or {}).items()}
                found.append(
                    RunInput(
                        name=str(data["name"]),
                        digest=str(data["digest"]),
                        source_type=str(data.get("source_type") or ""),
                        source=str(data.get("source") or ""),
                        schema=data.get("schema"),
                        profile=data.get("profile"),
                        context=tags.get("mlflow.data.context", ""),
                        tags=tags,
                    )
                )
        return found

    def _models_of(self, run: Path) -> list[RunModel]:
        read = [_meta(p.parent) for p in sorted((run / "inputs").glob("*/meta.yaml"))]
        made = [_meta(p.parent) for p in sorted((run / "outputs").glob("*/meta.yaml"))]
        return [
            *(RunModel(model_id=str(m["source_id"]), role="input") for m in read if str(m.get("source_type")).startswith("MODEL")),
            *(RunModel(model_id=str(m["destination_id"]), role="output", step=int(m.get("step") or 0)) for m in made),
        ]


def _meta(folder: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load((folder / "meta.yaml").read_text())
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TreadleError(
            f"{folder / 'meta.yaml'} cannot be read: {str(error).splitlines()[0]}.",
            remedy="Mend the file or move it away.",
            code="bad_data",
        ) from error
    return found if isinstance(found, dict) else {}


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []


def _texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in _files(folder)}


def _value(word: str) -> float | str:
    number = float(word)
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _model_points(folder: Path) -> Iterator[ModelPoint]:
    for path in _files(folder):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) >= 4:
                yield ModelPoint(
                    key=path.relative_to(folder).as_posix(),
                    value=_value(words[1]),
                    step=int(words[2]),
                    time=int(words[0]) * 1000,
                    run_id=words[3],
                    dataset_name=words[4] if len(words) > 5 else "",
                    dataset_digest=words[5] if len(words) > 5 else "",
                )
