"""Bringing experiments and models from a source into a home or server, as often as one likes.

Every write carries the source's ids and changes nothing when it is there already, so an import that was interrupted is started
again and goes on; a run that had come over as a whole is known by its tag `treadle.imported` and passed over.
"""

import contextlib
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3
from msgspec import Struct, field

from treadle.client.shipping import Sink
from treadle.operations.artifacts import DeleteFiles
from treadle.operations.registry import (
    CreateModel,
    CreateVersion,
    GetModel,
    GetModelVersion,
    RegisterVersion,
    SealVersion,
    SetAlias,
    SetStage,
    UpdateCard,
)
from treadle.operations.tracking import (
    BinExperiment,
    BinRun,
    CreateExperiment,
    CreateLoggedModel,
    GetExperiment,
    GetLoggedModel,
    GetTrackedRun,
    LogBatch,
    LogInputs,
    SetExperimentTags,
    StartRun,
    UpdateLoggedModel,
    UpdateRun,
)
from treadle.packaging import bundle as bundles
from treadle.records.digests import canonical, digest_of
from treadle.records.digests import digest as digest_of_bytes
from treadle.records.errors import TreadleError
from treadle.records.models import Bundle, ModelVersion
from treadle.records.moving import MovedExperiment, MovedLogged, MovedModel, MovedRun, MovedVersion, Source, bundle_owner
from treadle.records.states import RunState
from treadle.records.tracking import DEFAULT_EXPERIMENT, Experiment, Lifecycle, LoggedModel, ModelState, Point, TrackedRun

#: The tag of a run that has come over as a whole: from where.
MARK = "treadle.imported"
_CHUNK = 1 << 20
_PARAMS = 100
#: Where a bundle's files stand until it is sealed with them.
_INCOMING = "incoming"


class Report(Struct, kw_only=True):
    """What an import found, brought and left: how many came now, and how many were there before. `problems` are things that did not come
    over, each with its reason."""

    source: str
    project: str
    experiments: int = 0
    experiments_there: int = 0
    runs: int = 0
    runs_there: int = 0
    points: int = 0
    files: int = 0
    bytes: int = 0
    logged_models: int = 0
    logged_models_there: int = 0
    models: int = 0
    models_there: int = 0
    versions: int = 0
    versions_there: int = 0
    bundles: int = 0
    aliases: int = 0
    aliases_there: int = 0
    problems: list[str] = field(default_factory=list)


class Importer:
    """Brings what a source has into a project, through operations.

    Args:
        sink: where to.
        tell: called with a line for each thing that came.
    """

    def __init__(self, source: Source, sink: Sink, project: str, tell: Callable[[str], None] = lambda _: None):
        self.source, self.sink, self.project, self.tell = source, sink, project, tell
        self.report = Report(source=source.name, project=project)
        self._mark = digest_of(source.name)[:16]
        self._linked: list[MovedRun] = []  # runs that name logged models, which have to be there first
        self._measured: list[MovedLogged] = []  # logged models with metrics of runs, which have to be there first
        self._binned: list[BinExperiment] = []  # an experiment that is in the bin takes nothing more

    def run(self, *, experiments: Collection[str] | None = None, models: bool = True) -> Report:
        """Bring experiments (by id or name; None: all) and the registered models.

        A thing that the target refuses is noted in the report and left; an error of the connection ends the import, to be started again.
        """
        for experiment in self.source.experiments():
            if experiments is None or experiment.experiment_id in experiments or experiment.name in experiments:
                self._experiment(experiment)
        for model in self._measured:
            self._try(f"logged model {model.model_id}", lambda m=model: self._measure(m))
        for run in self._linked:
            self._try(f"run {run.run_id}", lambda r=run: self._link(r))
        for binned in self._binned:
            self.sink.call(binned)
        for model in self.source.models() if models else ():
            self._model(model)
        return self.report

    def _experiment(self, experiment: MovedExperiment) -> None:
        here = self._make_experiment(experiment)
        for run in self.source.runs(experiment.experiment_id):
            with_problem = self._try(f"run {run.run_id}", lambda r=run: self._run(r, experiment, here))
            self.tell(f"run {run.run_id}" + (": " + with_problem if with_problem else ""))
        for model in self.source.logged_models(experiment.experiment_id):
            self._try(f"logged model {model.model_id}", lambda m=model: self._logged(m, experiment, here))
        if experiment.lifecycle == "deleted":
            self._binned.append(BinExperiment(project=self.project, experiment_id=here, lifecycle="deleted"))

    def _make_experiment(self, experiment: MovedExperiment) -> str:
        """The experiment of the same name here, made with the source's id where that is free."""
        asked = GetExperiment(project=self.project, experiment=experiment.name, by="name")
        if experiment.experiment_id == DEFAULT_EXPERIMENT:
            asked = GetExperiment(project=self.project, experiment=DEFAULT_EXPERIMENT, by="id")
        known: Experiment | None = self._maybe(asked)
        if known is not None:
            self.report.experiments_there += 1
            fresh = {name: text for name, text in experiment.tags.items() if name not in known.tags}
            if fresh and known.experiment_id == DEFAULT_EXPERIMENT:  # it is there from the beginning, with nothing said of it
                self.sink.call(SetExperimentTags(project=self.project, experiment_id=DEFAULT_EXPERIMENT, tags=fresh))
            return known.experiment_id
        self.report.experiments += 1
        made = {
            "project": self.project,
            "name": experiment.name,
            "folder": experiment.folder,
            "description": experiment.description,
            "tags": experiment.tags,
            "created": experiment.created or None,
        }
        try:
            return self.sink.call(CreateExperiment(experiment_id=experiment.experiment_id, **made)).experiment_id
        except TreadleError as error:
            if error.code != "conflict":
                raise
        return self.sink.call(CreateExperiment(experiment_id=digest_of([self._mark, experiment.name])[:18], **made)).experiment_id

    def _run(self, run: MovedRun, experiment: MovedExperiment, here: str) -> None:
        if self._known(GetTrackedRun(project=self.project, run_id=run.run_id)):
            self.report.runs_there += 1
            return
        self.sink.call(
            StartRun(
                project=self.project,
                run_id=run.run_id,
                experiment=here,
                name=run.name,
                user=run.user,
                started=run.created,
                parent_run=run.parent_run,
                git_revision=run.git_revision,
            )
        )
        self._texts(run.run_id, params=run.params)
        self._texts(run.run_id, tags=run.tags)
        for batch in self.source.points(run):
            for start in range(0, len(batch), 1000):
                self.sink.call(LogBatch(project=self.project, run_id=run.run_id, metrics=batch[start : start + 1000]))
            self.report.points += len(batch)
        if run.inputs:
            self.sink.call(LogInputs(project=self.project, run_id=run.run_id, inputs=run.inputs))
        self._files(experiment.experiment_id, run.run_id)
        state = RunState(run.state)
        if state != RunState.running or run.ended is not None:
            self.sink.call(UpdateRun(project=self.project, run_id=run.run_id, state=state, ended=run.ended, error=run.error))
        self.report.runs += 1
        if run.models:
            self._linked.append(run)
        else:
            self._close(run)

    def _link(self, run: MovedRun) -> None:
        """The logged models that a run read or made, now that they are there."""
        for model in run.models:
            what = f"run {run.run_id}: its {model.role} {model.model_id}"
            link = LogInputs(project=self.project, run_id=run.run_id, models=[model])
            self._try(what, lambda asked=link: self.sink.call(asked))
        self._close(run)

    def _close(self, run: MovedRun) -> None:
        """It is here as a whole. Nothing is written to one that is in the bin, so that comes last."""
        self.sink.call(LogBatch(project=self.project, run_id=run.run_id, tags={MARK: self.source.name}))
        if run.lifecycle == "deleted":
            self.sink.call(BinRun(project=self.project, run_id=run.run_id, lifecycle="deleted"))

    def _known(self, request: GetTrackedRun | GetLoggedModel) -> bool:
        """Whether it had come over as a whole."""
        found: TrackedRun | LoggedModel | None = self._maybe(request)
        return found is not None and (MARK in found.tags or found.lifecycle == Lifecycle.deleted)

    def _maybe(self, request: Any) -> Any:
        """The answer; None where there is no such thing here."""
        try:
            return self.sink.call(request)
        except TreadleError as error:
            if error.code != "not_found":
                raise
            return None

    def _texts(self, run_id: str, *, params: dict[str, str] | None = None, tags: dict[str, str] | None = None) -> None:
        for pairs in _parts(params or {}):
            self.sink.call(LogBatch(project=self.project, run_id=run_id, params=pairs))
        for pairs in _parts(tags or {}):
            self.sink.call(LogBatch(project=self.project, run_id=run_id, tags=pairs))

    def _logged(self, model: MovedLogged, experiment: MovedExperiment, here: str) -> None:
        if self._known(GetLoggedModel(project=self.project, model_id=model.model_id, deleted=True)):
            self.report.logged_models_there += 1
            return
        self.sink.call(
            CreateLoggedModel(
                project=self.project,
                model_id=model.model_id,
                experiment_id=here,
                name=model.name,
                run_id=model.run_id,
                model_type=model.model_type,
                params=model.params,
                tags=model.tags,
                created=model.created or None,
            )
        )
        self._files(experiment.experiment_id, model.model_id)
        if model.state != ModelState.pending:
            self.sink.call(UpdateLoggedModel(project=self.project, model_id=model.model_id, state=ModelState(model.state)))
        self.report.logged_models += 1
        self._measured.append(model)

    def _measure(self, model: MovedLogged) -> None:
        """What runs measured of a logged model, now that they are there; then it is here as a whole."""
        for run_id in dict.fromkeys(m.run_id for m in model.metrics):
            points = [
                Point(
                    key=m.key,
                    value=m.value,
                    step=m.step,
                    time=m.time,
                    model_id=model.model_id,
                    dataset_name=m.dataset_name,
                    dataset_digest=m.dataset_digest,
                )
                for m in model.metrics
                if m.run_id == run_id
            ]
            for start in range(0, len(points), 1000):
                self.sink.call(LogBatch(project=self.project, run_id=run_id, metrics=points[start : start + 1000]))
        self.sink.call(UpdateLoggedModel(project=self.project, model_id=model.model_id, tags={MARK: self.source.name}))

    def _files(self, experiment_id: str, owner: str) -> None:
        for file in list(self.source.files(experiment_id, owner)):
            self._file(experiment_id, owner, file.path, (owner, file.path))

    def _file(self, experiment_id: str, owner: str, path: str, to: tuple[str, str]) -> str:
        """Bring one file to (owner, path) here; its digest."""
        hasher = blake3()
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "content"
            with self.source.open(experiment_id, owner, path) as content, copy.open("wb") as writing:
                while chunk := content.read(_CHUNK):
                    hasher.update(chunk)
                    writing.write(chunk)
            self.sink.put_file(self.project, to[0], to[1], copy, "application/octet-stream")
            self.report.bytes += copy.stat().st_size
        self.report.files += 1
        return hasher.hexdigest()

    def _model(self, model: MovedModel) -> None:
        problem = self._try(f"model {model.name}", lambda: self._make_model(model))
        if problem:
            return
        for version in model.versions:
            self._try(f"{model.name}@{version.number}", lambda v=version: self._version(model.name, v))
        there = self.sink.call(GetModel(project=self.project, model=model.name)).aliases
        for alias, number in model.aliases.items():
            asked = SetAlias(project=self.project, model=model.name, alias=alias, number=number)
            if there.get(alias) == number:
                self.report.aliases_there += 1
            elif not self._try(f"alias {model.name}@{alias}", lambda a=asked: self.sink.call(a)):
                self.report.aliases += 1
        self.tell(f"model {model.name}: {len(model.versions)} versions")

    def _make_model(self, model: MovedModel) -> None:
        """The model; one that is there keeps what is said of it here, and its versions are looked at one by one."""
        if self._maybe(GetModel(project=self.project, model=model.name)) is not None:
            self.report.models_there += 1
            return
        of: dict[str, Any] = {"project": self.project, "model": model.name}
        self.sink.call(CreateModel(description=model.description, tags=model.tags, created=model.created or None, **of))
        if model.card:
            self.sink.call(UpdateCard(sections=model.card, **of))
        self.report.models += 1

    def _version(self, model: str, version: MovedVersion) -> None:
        """One version. What a pipeline sealed is its bundle, and is registered with it; another that was sealed has files, too."""
        of: dict[str, Any] = {"project": self.project, "model": model, "number": version.number}
        known: ModelVersion | None = self._maybe(GetModelVersion(**of))
        told = {"run_id": version.run_id, "description": version.description, "tags": version.tags, "created": version.created or None}
        if version.bundle and (known is None or not known.sealed):
            with self._bundle(version.bundle) as sealed:
                if not version.source and known is None:
                    register = RegisterVersion(bundle_digest=sealed, metrics=version.metrics, gates=version.gates, **told, **of)
                    self.sink.call(register)
                else:
                    if known is None:
                        self.sink.call(self._unsealed(version, told, of))
                    self.sink.call(SealVersion(bundle_digest=sealed, gates=version.gates, **of))
        elif known is None:
            self.sink.call(self._unsealed(version, told, of))
        if known is not None:
            self.report.versions_there += 1
            return
        if version.stage != "None":
            self.sink.call(SetStage(stage=version.stage, **of))
        if version.card:
            self.sink.call(UpdateCard(sections=version.card, **of))
        self.report.versions += 1

    def _unsealed(self, version: MovedVersion, told: dict[str, Any], of: dict[str, Any]) -> CreateVersion:
        return CreateVersion(model_id=version.model_id, source=_source(version), metrics=version.metrics, **told, **of)

    @contextlib.contextmanager
    def _bundle(self, digest: str) -> Iterator[str]:
        """Bring a bundle, every file of it by its digest, and have it here while it is registered; its digest here, which is another where
        the project is: the manifest names it. Its gates hold here, too; approvals are each home's own.

        Raises:
            TreadleError: `bad_data` where a file of it is missing or is not what the manifest says.
        """
        owner, place = bundle_owner(digest), f"{_INCOMING}/{digest}"
        there = {file.path for file in self.source.files("", owner)}
        if bundles.MANIFEST not in there:
            raise _not_whole(bundles.MANIFEST, digest)
        with self.source.open("", owner, bundles.MANIFEST) as content:
            manifest = content.read()
        if digest_of_bytes(manifest) != digest:
            raise _not_whole(bundles.MANIFEST, digest)
        sealed = msgspec.json.decode(manifest, type=Bundle)
        if sealed.project != self.project:
            manifest = canonical(msgspec.structs.replace(sealed, project=self.project))
        try:
            for file in sealed.files:
                if file.path not in there or self._file("", owner, file.path, ("", f"{place}/{file.path}")) != file.digest:
                    raise _not_whole(file.path, digest)
            with tempfile.NamedTemporaryFile() as kept:
                kept.write(manifest)
                kept.flush()
                self.sink.put_file(self.project, "", f"{place}/{bundles.MANIFEST}", Path(kept.name), "application/json")
            yield digest_of_bytes(manifest)
        finally:
            self.sink.call(DeleteFiles(project=self.project, owner="", path=place))
        self.report.bundles += 1

    def _try(self, what: str, work: Callable[[], Any]) -> str:
        """Do it; the reason where the target refuses it (a refusal of one thing does not end the rest)."""
        try:
            work()
        except TreadleError as error:
            if error.code not in ("bad_request", "conflict", "not_found", "bad_data"):
                raise
            self.report.problems.append(f"{what}: {error.what}")
            return error.what
        return ""


def _parts(named: dict[str, str]) -> Iterator[dict[str, str]]:
    pairs = sorted(named.items())
    for start in range(0, len(pairs), _PARAMS):
        yield dict(pairs[start : start + _PARAMS])


def _not_whole(path: str, digest: str) -> TreadleError:
    return TreadleError(
        f"The file {path} of its bundle {digest[:12]} is missing or not what was sealed.",
        remedy="Export it again: treadle export",
        code="bad_data",
    )


def _source(version: MovedVersion) -> str:
    """Where a version's files are here: with its logged model, or below the artifacts of its run."""
    if version.model_id:
        return f"models:/{version.model_id}"
    if version.run_id and not version.source.startswith(("runs:/", "models:/")):
        return f"runs:/{version.run_id}/{version.source.partition('/artifacts/')[2] or 'model'}"
    return version.source
