"""Experiments and models on their way from one place to another: what a source tells, whatever kind of place it is.

Times are microseconds since 1970 UTC. Ids are those of the source.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from msgspec import Struct

from treadle.records.models import GateResult
from treadle.records.tracking import ModelPoint, Point, RunInput, RunModel


class MovedExperiment(Struct, frozen=True, kw_only=True):
    """An experiment. `created` is 0 where the source does not know."""

    experiment_id: str
    name: str
    lifecycle: str = "active"
    description: str = ""
    folder: str = ""
    tags: dict[str, str] = {}
    created: int = 0


class MovedRun(Struct, frozen=True, kw_only=True):
    """A run without its points and files. `state` is a word of `RunState`."""

    run_id: str
    name: str = ""
    user: str = ""
    state: str = "finished"
    lifecycle: str = "active"
    created: int
    ended: int | None = None
    error: str | None = None
    parent_run: str | None = None
    git_revision: str | None = None
    metrics: list[str] = []  # names
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: list[RunInput] = []
    models: list[RunModel] = []


class MovedLogged(Struct, frozen=True, kw_only=True):
    """A logged model without its files."""

    model_id: str
    name: str = ""
    run_id: str = ""
    state: str = "ready"
    model_type: str = ""
    created: int
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: list[ModelPoint] = []


class MovedVersion(Struct, frozen=True, kw_only=True):
    """A model version. `stage` is a word of MLflow's older vocabulary; `bundle` the digest of the bundle of one that was sealed, whose
    files are those of the owner `bundle_owner(bundle)`; `card` what people wrote of this version alone."""

    number: int
    run_id: str = ""
    model_id: str = ""
    source: str = ""
    description: str = ""
    stage: str = "None"
    tags: dict[str, str] = {}
    created: int = 0
    bundle: str = ""
    metrics: dict[str, float] = {}
    gates: tuple[GateResult, ...] = ()
    card: dict[str, str] = {}


class MovedModel(Struct, frozen=True, kw_only=True):
    """A registered model."""

    name: str
    description: str = ""
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}
    versions: list[MovedVersion] = []
    created: int = 0
    card: dict[str, str] = {}


class MovedFile(Struct, frozen=True, kw_only=True):
    """A file of a run or logged model, by its path there."""

    path: str
    size: int


def bundle_owner(bundle: str) -> str:
    """Whose the files of a sealed bundle are, where a source is asked for files."""
    return f"bundle/{bundle}"


class Source(Protocol):
    """A place that experiments and models can be read from. `owner` is the id of a run or logged model, or a `bundle_owner`."""

    name: str

    def experiments(self) -> Iterator[MovedExperiment]:
        """Every experiment, the bin included."""
        ...

    def runs(self, experiment_id: str) -> Iterator[MovedRun]:
        """The runs of an experiment, the bin included."""
        ...

    def points(self, run: MovedRun) -> Iterator[list[Point]]:
        """Every point of every metric of a run, in batches of at most a few thousand."""
        ...

    def logged_models(self, experiment_id: str) -> Iterator[MovedLogged]:
        """The logged models of an experiment."""
        ...

    def models(self) -> Iterator[MovedModel]:
        """The registered models with their versions."""
        ...

    def files(self, experiment_id: str, owner: str) -> Iterator[MovedFile]:
        """The files of a run or logged model."""
        ...

    def open(self, experiment_id: str, owner: str, path: str) -> AbstractContextManager[BinaryIO]:
        """One file's content."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...
