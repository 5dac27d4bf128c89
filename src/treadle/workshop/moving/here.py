"""A home or server as a source: what `treadle export` reads."""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from msgspec.structs import replace

from treadle.client.shipping import Sink
from treadle.operations.registry import DownloadVersion, GetCard, SearchModels, SearchVersions
from treadle.operations.tracking import ListFiles, MetricHistory, SearchExperiments, SearchLoggedModels, SearchRuns
from treadle.records.clock import micros
from treadle.records.models import CARD_SECTIONS, Card, ModelVersion
from treadle.records.moving import MovedExperiment, MovedFile, MovedLogged, MovedModel, MovedRun, MovedVersion, bundle_owner
from treadle.records.tracking import Point, View

_PAGE = 1000
_BUNDLE = bundle_owner("")


class Here:
    """A project of a home or server.

    Args:
        sink: whose operations are called.
        open_file: (owner, path) → a context manager of its content.
    """

    def __init__(self, sink: Sink, project: str, open_file: Callable[[str, str], AbstractContextManager[BinaryIO]], name: str):
        self._sink, self._project, self._open_file, self.name = sink, project, open_file, name

    def experiments(self) -> Iterator[MovedExperiment]:
        """Every experiment, the bin included."""
        for e in self._pages(lambda page: SearchExperiments(project=self._project, view=View.all, limit=_PAGE, page=page)):
            yield MovedExperiment(
                experiment_id=e.experiment_id,
                name=e.name,
                lifecycle=str(e.lifecycle),
                description=e.description,
                folder=e.folder,
                tags=e.tags,
                created=micros(e.created),
            )

    def runs(self, experiment_id: str) -> Iterator[MovedRun]:
        """The runs of an experiment, the bin included."""
        asked = {"project": self._project, "experiments": [experiment_id], "view": View.all, "limit": _PAGE}
        for r in self._pages(lambda page: SearchRuns(page=page, **asked)):
            yield MovedRun(
                run_id=r.run_id,
                name=r.name,
                user=r.user,
                state=str(r.state),
                lifecycle=str(r.lifecycle),
                created=micros(r.created),
                ended=None if r.ended is None else micros(r.ended),
                error=r.error,
                parent_run=r.parent_run,
                git_revision=r.git_revision,
                metrics=sorted(p.key for p in r.metrics),
                params=r.params,
                tags=r.tags,
                inputs=r.inputs,
                models=r.models,
            )

    def points(self, run: MovedRun) -> Iterator[list[Point]]:
        """Every point of every metric."""
        for key in run.metrics:
            page: str | None = None
            while True:
                answer = self._sink.call(MetricHistory(project=self._project, key=key, run_ids=[run.run_id], limit=5000, page=page))
                if found := answer.points.get(run.run_id):
                    yield [p if isinstance(p.value, str) or math.isfinite(p.value) else replace(p, value=_word(p.value)) for p in found]
                page = answer.page.next
                if page is None:
                    break

    def logged_models(self, experiment_id: str) -> Iterator[MovedLogged]:
        """The logged models of an experiment."""
        asked = {"project": self._project, "experiments": [experiment_id], "limit": 100}
        for m in self._pages(lambda page: SearchLoggedModels(page=page, **asked)):
            yield MovedLogged(
                model_id=m.model_id,
                name=m.name,
                run_id=m.run_id,
                state=str(m.state),
                model_type=m.model_type,
                created=micros(m.created),
                params=m.params,
                tags=m.tags,
                metrics=m.metrics,
            )

    def models(self) -> Iterator[MovedModel]:
        """The registered models with their versions."""
        for model in self._pages(lambda page: SearchModels(project=self._project, limit=100, page=page)):
            named = "name = '" + model.model + "'"
            versions = list(self._pages(lambda page, n=named: SearchVersions(project=self._project, filter=n, limit=100, page=page)))
            yield MovedModel(
                name=model.model,
                description=model.description,
                tags=model.tags,
                aliases={alias: v.number for v in versions for alias in v.aliases},
                versions=[
                    MovedVersion(
                        number=v.number,
                        run_id=v.run_id,
                        model_id=v.model_id,
                        source=v.source,
                        description=v.description,
                        stage=v.stage,
                        tags=v.tags,
                        created=micros(v.event_time),
                        bundle=self._laid_out(v),
                        metrics=v.metrics,
                        gates=v.gates,
                        card=self._written(v, model.card),
                    )
                    for v in sorted(versions, key=lambda v: v.number)
                ],
                created=micros(model.created),
                card=model.card,
            )

    def _laid_out(self, version: ModelVersion) -> str:
        """The digest of a sealed version's bundle, whose files stand under `bundles/DIGEST` from now on; they count as downloaded."""
        if version.sealed:
            self._sink.call(DownloadVersion(project=self._project, model=version.model, number=version.number))
        return version.bundle_digest

    def _written(self, version: ModelVersion, of_model: dict[str, str]) -> dict[str, str]:
        """What the card of a version says in people's words, where it is not what its model's says."""
        card: Card = self._sink.call(GetCard(project=self._project, model=version.model, number=version.number))
        told = {s.key: s.text for s in card.sections if s.key in CARD_SECTIONS and s.text}
        return {key: text for key, text in told.items() if text != of_model.get(key)}

    def files(self, experiment_id: str, owner: str) -> Iterator[MovedFile]:
        """The files of a run or logged model, folder by folder."""
        owner, root = _place(owner)
        folders = [root]
        while folders:
            folder, page = folders.pop(), None
            while True:
                answer = self._sink.call(ListFiles(project=self._project, owner=owner, path=folder, page=page))
                folders += answer.folders
                for file in answer.files:
                    yield MovedFile(path=file.path.removeprefix(f"{root}/") if root else file.path, size=file.size)
                page = answer.page.next
                if page is None:
                    break

    @contextlib.contextmanager
    def open(self, experiment_id: str, owner: str, path: str) -> Iterator[BinaryIO]:
        """One file's content."""
        owner, root = _place(owner)
        with self._open_file(owner, f"{root}/{path}" if root else path) as file:
            yield file

    def close(self) -> None:
        """The sink is closed by whoever made it."""

    def _pages(self, ask: Callable[[str | None], Any]) -> Iterator[Any]:
        page: str | None = None
        while True:
            answer = self._sink.call(ask(page))
            yield from answer.items
            page = answer.page.next
            if page is None:
                return


def _place(owner: str) -> tuple[str, str]:
    """Owner and folder of somebody's files here: a bundle's stand below `bundles/`, and are nobody's."""
    return ("", owner.replace(_BUNDLE, "bundles/", 1)) if owner.startswith(_BUNDLE) else (owner, "")


def _word(value: float) -> str:
    """What JSON has no number for."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
