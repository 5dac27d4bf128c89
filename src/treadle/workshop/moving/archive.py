"""An archive of experiments and models: one zip file that another Treadle imports, with what it says of itself on top.

manifest.json              format, where it comes from, what is in it
experiments.jsonl          one `MovedExperiment` a line
runs/EXPERIMENT.jsonl      its runs; logged/EXPERIMENT.jsonl its logged models
points/RUN.jsonl           batches of points
models.jsonl               registered models with their versions
files/OWNER.jsonl          path, size and digest of each file of a run or logged model
blobs/DIGEST               contents, each once

Names inside are numbers given by the writer, not the ids themselves, which may be anything.
"""

import contextlib
import datetime as dt
import importlib.metadata
import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import msgspec
from blake3 import blake3

from treadle.records.errors import TreadleError
from treadle.records.moving import MovedExperiment, MovedFile, MovedLogged, MovedModel, MovedRun, Source, bundle_owner
from treadle.records.tracking import Point

FORMAT = 1
_CHUNK = 1 << 20
T = TypeVar("T")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive says of itself. `places` gives the number in file names of each experiment, run and logged model."""

    format: int
    treadle: str
    source: str
    made: dt.datetime
    experiments: int
    runs: int
    models: int
    files: int
    bytes: int
    places: dict[str, int]


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    size: int
    digest: str


def write(
    source: Source,
    target: Path,
    *,
    experiments: Collection[str] | None = None,
    models: Collection[str] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write an archive of experiments (by id or name) and models (by name); None is all of them. A model brings its runs with it.

    The file appears under its name when it is whole.

    Raises:
        TreadleError: `not_found` for an experiment or model that the source does not have, `conflict` for a target that exists.
    """
    if target.exists():
        raise TreadleError(f"{target} exists.", remedy="Name a file that is not there yet.", code="conflict")
    found_models = [m for m in source.models() if models is None or m.name in models]
    missing = set(models or ()) - {m.name for m in found_models}
    needed = {v.run_id for m in found_models for v in m.versions if v.run_id} | {
        v.model_id for m in found_models for v in m.versions if v.model_id
    }
    partial = target.with_name(target.name + ".part")
    writer = _Writer(source, tell)
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as zipped:
            writer.zipped = zipped
            wanted = None if experiments is None else set(experiments)
            kept = []
            for experiment in source.experiments():
                named = wanted is None or experiment.experiment_id in wanted or experiment.name in wanted
                if wanted is not None:
                    wanted -= {experiment.experiment_id, experiment.name}
                if writer.experiment(experiment, None if named else needed):
                    kept.append(experiment)
            missing |= wanted or set()
            if missing:
                raise TreadleError(
                    f"There is no {', '.join(sorted(missing))}.",
                    remedy="See what there is: treadle experiments, treadle models",
                    code="not_found",
                )
            writer.lines("experiments.jsonl", kept)
            writer.lines("models.jsonl", found_models)
            writer.bundles(found_models)
            manifest = Manifest(
                format=FORMAT,
                treadle=importlib.metadata.version("treadle"),
                source=source.name,
                made=dt.datetime.now(dt.UTC),
                experiments=len(kept),
                runs=writer.runs,
                models=len(found_models),
                files=writer.files,
                bytes=writer.bytes,
                places=writer.places,
            )
            zipped.writestr("manifest.json", msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return manifest


class _Writer:
    def __init__(self, source: Source, tell: Callable[[str], None]):
        self.source, self.tell = source, tell
        self.zipped = cast("zipfile.ZipFile", None)
        self.places: dict[str, int] = {}
        self.blobs: set[str] = set()
        self.runs = self.files = self.bytes = 0

    def experiment(self, experiment: MovedExperiment, only: set[str] | None) -> bool:
        """Write an experiment with its runs and logged models, or only those of some ids; False where none of those is in it."""
        runs = [r for r in self.source.runs(experiment.experiment_id) if only is None or r.run_id in only]
        logged = [m for m in self.source.logged_models(experiment.experiment_id) if only is None or {m.model_id, m.run_id} & only]
        if only is not None:
            makers = {m.run_id for m in logged} - {r.run_id for r in runs}
            runs += [r for r in self.source.runs(experiment.experiment_id) if r.run_id in makers] if makers else []
            if not runs and not logged:
                return False
        place = self._place(experiment.experiment_id)
        self.lines(f"runs/{place}.jsonl", runs)
        self.lines(f"logged/{place}.jsonl", logged)
        for run in runs:
            self.runs += 1
            self.lines(f"points/{self._place(run.run_id)}.jsonl", self.source.points(run))
            self._files(experiment.experiment_id, run.run_id)
            self.tell(f"run {run.run_id}")
        for model in logged:
            self._files(experiment.experiment_id, model.model_id)
        return True

    def bundles(self, models: Collection[MovedModel]) -> None:
        """Write the bundles of sealed versions."""
        for digest in sorted({v.bundle for m in models for v in m.versions if v.bundle}):
            self._files("", bundle_owner(digest))
            self.tell(f"bundle {digest[:12]}")

    def lines(self, name: str, items: Any) -> None:
        """A file of JSON lines."""
        with self.zipped.open(name, "w") as file:
            for item in items:
                file.write(msgspec.json.encode(item) + b"\n")

    def _files(self, experiment_id: str, owner: str) -> None:
        kept = []
        for file in list(self.source.files(experiment_id, owner)):
            digest = self._digest(experiment_id, owner, file.path)
            if digest not in self.blobs:
                self.blobs.add(digest)
                with (
                    self.source.open(experiment_id, owner, file.path) as content,
                    self.zipped.open(f"blobs/{digest}", "w", force_zip64=True) as to,
                ):
                    while chunk := content.read(_CHUNK):
                        to.write(chunk)
                        self.bytes += len(chunk)
            kept.append(_Kept(path=file.path, size=file.size, digest=digest))
            self.files += 1
        if kept:
            self.lines(f"files/{self._place(owner)}.jsonl", kept)

    def _digest(self, experiment_id: str, owner: str, path: str) -> str:
        hasher = blake3()
        with self.source.open(experiment_id, owner, path) as content:
            while chunk := content.read(_CHUNK):
                hasher.update(chunk)
        return hasher.hexdigest()

    def _place(self, name: str) -> int:
        return self.places.setdefault(name, len(self.places))


class Archive:
    """An archive as a source.

    Raises:
        TreadleError: `not_found`, `corrupt` where it is no archive or not whole, `newer_schema`.
    """

    def __init__(self, path: Path):
        if not path.exists():
            raise TreadleError(f"There is no file {path}.", remedy="Name an archive that treadle export made.", code="not_found")
        self.name = str(path)
        try:
            self._zipped = zipfile.ZipFile(path)
            self.manifest = msgspec.json.decode(self._zipped.read("manifest.json"), type=Manifest)
        except (zipfile.BadZipFile, KeyError, msgspec.MsgspecError) as error:
            raise TreadleError(
                f"{path} is no whole archive of Treadle: {error}.", remedy="Copy it again, or make it again: treadle export", code="corrupt"
            ) from error
        if self.manifest.format > FORMAT:
            raise TreadleError(
                f"{path} was written by a newer release ({self.manifest.treadle}).",
                remedy="Upgrade: pip install --upgrade treadle",
                code="newer_schema",
            )

    def experiments(self) -> Iterator[MovedExperiment]:
        """Its experiments."""
        return self._lines("experiments.jsonl", MovedExperiment)

    def runs(self, experiment_id: str) -> Iterator[MovedRun]:
        """The runs of an experiment."""
        return self._lines(f"runs/{self.manifest.places[experiment_id]}.jsonl", MovedRun)

    def points(self, run: MovedRun) -> Iterator[list[Point]]:
        """Every point of a run."""
        return self._lines(f"points/{self.manifest.places[run.run_id]}.jsonl", list[Point])

    def logged_models(self, experiment_id: str) -> Iterator[MovedLogged]:
        """The logged models of an experiment."""
        return self._lines(f"logged/{self.manifest.places[experiment_id]}.jsonl", MovedLogged)

    def models(self) -> Iterator[MovedModel]:
        """Its registered models."""
        return self._lines("models.jsonl", MovedModel)

    def files(self, experiment_id: str, owner: str) -> Iterator[MovedFile]:
        """The files of a run or logged model."""
        return (MovedFile(path=kept.path, size=kept.size) for kept in self._kept(owner))

    @contextlib.contextmanager
    def open(self, experiment_id: str, owner: str, path: str) -> Iterator[BinaryIO]:
        """One file's content."""
        digest = next(kept.digest for kept in self._kept(owner) if kept.path == path)
        with self._zipped.open(f"blobs/{digest}") as file:
            yield cast("BinaryIO", file)

    def close(self) -> None:
        """Close the file."""
        self._zipped.close()

    def _kept(self, owner: str) -> Iterator[_Kept]:
        return self._lines(f"files/{self.manifest.places.get(owner, -1)}.jsonl", _Kept)

    def _lines(self, name: str, of: type[T]) -> Iterator[T]:
        if name not in self._zipped.NameToInfo:
            return
        with self._zipped.open(name) as file:
            for line in file:
                yield msgspec.json.decode(line, type=of)
