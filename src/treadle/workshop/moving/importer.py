"""Bringing experiments and models from a source into a home or server, as often as one likes.

Every write carries the source's ids and changes nothing when it is there already, so an import that was interrupted is started
again and goes on; a run that had come over as a whole is known by its tag `treadle.imported` and passed over.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from treadle.client.shipping import Sink
from treadle.operations.registry import CreateModel, CreateVersion, GetModel, SetAlias, SetStage
from treadle.operations.tracking import (
    BinExperiment,
    BinRun,
    CreateExperiment,
    CreateLoggedModel,
    GetExperiment,
    GetTrackedRun,
    LogBatch,
    LogInputs,
    StartRun,
    UpdateLoggedModel,
    UpdateRun,
)
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.moving import MovedExperiment, MovedLogged, MovedModel, MovedRun, MovedVersion, Source
from treadle.records.states import RunState
from treadle.records.tracking import DEFAULT_EXPERIMENT, ModelState

#: The tag of a run that has come over as a whole: from where.
MARK = "treadle.imported"
_CHUNK = 1 << 20
_PARAMS = 100


class Report(Struct, kw_only=True):
    """What an import found, brought and left. `problems` are things that did not come over, each with its reason."""

    source: str
    project: str
    experiments: int = 0
    runs: int = 0
    runs_there: int = 0
    points: int = 0
    files: int = 0
    bytes: int = 0
    logged_models: int = 0
    models: int = 0
    versions: int = 0
    aliases: int = 0
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

    def run(self, *, experiments: Collection[str] | None = None, models: bool = True) -> Report:
        """Bring experiments (by id or name; None: all) and the registered models.

        A thing that the target refuses is noted in the report and left; an error of the connection ends the import, to be started again.
        """
        for experiment in self.source.experiments():
            if experiments is None or experiment.experiment_id in experiments or experiment.name in experiments:
                self._experiment(experiment)
        for run in self._linked:
            self._try(f"run {run.run_id}", lambda r=run: self._link(r))
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
            self.sink.call(BinExperiment(project=self.project, experiment_id=here, lifecycle="deleted"))
        self.report.experiments += 1

    def _make_experiment(self, experiment: MovedExperiment) -> str:
        """The experiment of the same name here, made with the source's id where that is free."""
        if experiment.experiment_id == DEFAULT_EXPERIMENT:
            return DEFAULT_EXPERIMENT
        try:
            return self.sink.call(GetExperiment(project=self.project, experiment=experiment.name, by="name")).experiment_id
        except TreadleError as error:
            if error.code != "not_found":
                raise
        made = {
            "project": self.project,
            "name": experiment.name,
            "folder": experiment.folder,
            "description": experiment.description,
            "tags": experiment.tags,
        }
        try:
            return self.sink.call(CreateExperiment(experiment_id=experiment.experiment_id, **made)).experiment_id
        except TreadleError as error:
            if error.code != "conflict":
                raise
        return self.sink.call(CreateExperiment(experiment_id=digest_of([self._mark, experiment.name])[:18], **made)).experiment_id

    def _run(self, run: MovedRun, experiment: MovedExperiment, here: str) -> None:
        if self._known(run.run_id):
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
        """It is here as a whole."""
        self.sink.call(LogBatch(project=self.project, run_id=run.run_id, tags={MARK: self.source.name}))
        if run.lifecycle == "deleted":
            self.sink.call(BinRun(project=self.project, run_id=run.run_id, lifecycle="deleted"))

    def _known(self, run_id: str) -> bool:
        try:
            found = self.sink.call(GetTrackedRun(project=self.project, run_id=run_id))
        except TreadleError as error:
            if error.code != "not_found":
                raise
            return False
        return MARK in found.tags

    def _texts(self, run_id: str, *, params: dict[str, str] | None = None, tags: dict[str, str] | None = None) -> None:
        for pairs in _parts(params or {}):
            self.sink.call(LogBatch(project=self.project, run_id=run_id, params=pairs))
        for pairs in _parts(tags or {}):
            self.sink.call(LogBatch(project=self.project, run_id=run_id, tags=pairs))

    def _logged(self, model: MovedLogged, experiment: MovedExperiment, here: str) -> None:
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
            )
        )
        self._files(experiment.experiment_id, model.model_id)
        if model.state != ModelState.pending:
            self.sink.call(UpdateLoggedModel(project=self.project, model_id=model.model_id, state=ModelState(model.state)))
        self.report.logged_models += 1

    def _files(self, experiment_id: str, owner: str) -> None:
        for file in list(self.source.files(experiment_id, owner)):
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "content"
                with self.source.open(experiment_id, owner, file.path) as content, copy.open("wb") as to:
                    while chunk := content.read(_CHUNK):
                        to.write(chunk)
                self.sink.put_file(self.project, owner, file.path, copy, "application/octet-stream")
                self.report.bytes += copy.stat().st_size
            self.report.files += 1

    def _model(self, model: MovedModel) -> None:
        problem = self._try(f"model {model.name}", lambda: self._make_model(model))
        if problem:
            return
        for version in model.versions:
            made = CreateVersion(
                project=self.project,
                model=model.name,
                number=version.number,
                run_id=version.run_id,
                model_id=version.model_id,
                source=_source(version),
                description=version.description,
                tags=version.tags,
            )
            if self._try(f"{model.name}@{version.number}", lambda m=made: self.sink.call(m)):
                continue
            if version.stage != "None":
                self.sink.call(SetStage(project=self.project, model=model.name, number=version.number, stage=version.stage))
            self.report.versions += 1
        for alias, number in model.aliases.items():
            asked = SetAlias(project=self.project, model=model.name, alias=alias, number=number)
            if not self._try(f"alias {model.name}@{alias}", lambda a=asked: self.sink.call(a)):
                self.report.aliases += 1
        self.tell(f"model {model.name}: {len(model.versions)} versions")

    def _make_model(self, model: MovedModel) -> None:
        try:
            self.sink.call(CreateModel(project=self.project, model=model.name, description=model.description, tags=model.tags))
        except TreadleError as error:
            if error.code != "conflict":
                raise
            self.sink.call(GetModel(project=self.project, model=model.name))  # it is there: its versions are looked at one by one
        self.report.models += 1

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


def _source(version: MovedVersion) -> str:
    """Where a version's files are here: with its logged model, or below the artifacts of its run."""
    if version.model_id:
        return f"models:/{version.model_id}"
    if version.run_id and not version.source.startswith(("runs:/", "models:/")):
        return f"runs:/{version.run_id}/{version.source.partition('/artifacts/')[2] or 'model'}"
    return version.source
