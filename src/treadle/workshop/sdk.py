"""`treadle.run`: where a script's run goes, and `treadle.runs`, how it is found again.

A server where one is named (`url`, TREADLE_URL), else the home here (TREADLE_HOME, or `.treadle`). The home is opened by the shipping
thread, so that a script does not wait for it.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from treadle.client.http import Client
from treadle.client.journal import Reader, journals
from treadle.client.run import Run
from treadle.client.shipping import Sink, drain
from treadle.operations.tracking import GetFile, GetTrackedRun, PutFile, SearchRuns, UpdateRun
from treadle.records.states import RunState
from treadle.workshop.places import home_path, project_here, spool_path

if TYPE_CHECKING:
    import polars as pl

#: The owner, in a server's address, of files that are nobody's.
NOBODY = "-"


class HomeSink:
    """A home on this disk."""

    def __init__(self, root: Path):
        from treadle.workshop.home import open_home  # noqa: PLC0415  (every room, in the shipping thread)

        self._workshop = open_home(root)

    def call(self, request: Any) -> Any:
        """Run an operation."""
        return self._workshop.call(request)

    def put_file(self, project: str, run_id: str, path: str, file: Path, media_type: str) -> None:
        """Store the blob, then say where it stands."""
        digest = self._workshop.blobs.put_file(file)
        size = file.stat().st_size
        self._workshop.call(PutFile(project=project, owner=run_id, path=path, digest=digest, size=size, media_type=media_type))

    @contextlib.contextmanager
    def open_file(self, project: str, owner: str, path: str) -> Iterator[BinaryIO]:
        """A file's content, verified."""
        kept = self._workshop.call(GetFile(project=project, owner=owner, path=path))
        with self._workshop.blobs.path(kept.digest).open("rb") as file:
            yield file

    def close(self) -> None:
        """Close the home."""
        self._workshop.close()


class ServerSink:
    """A server."""

    def __init__(self, url: str, token: str | None = None):
        self._client = Client(url, token)

    def call(self, request: Any) -> Any:
        """Run an operation."""
        return self._client.call(request)

    def put_file(self, project: str, run_id: str, path: str, file: Path, media_type: str) -> None:
        """Upload it."""
        self._client.put_file(project, run_id or NOBODY, path, file, media_type)

    def open_file(self, project: str, owner: str, path: str) -> AbstractContextManager[BinaryIO]:
        """A file's content."""
        return self._client.get_file(project, owner or NOBODY, path)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def run(  # noqa: PLR0913  (each is a thing of its own that a script may say)
    experiment: str = "Default",
    *,
    name: str = "",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    seed: int | None = None,
    parent: str | None = None,
    project: str | None = None,
    home: Path | str | None = None,
    url: str | None = None,
    offline: bool | None = None,
    run_id: str | None = None,
    system_every: float | None = 10.0,
) -> Run:
    """Open a run of an experiment, to be logged by the script that calls this.

    Code revision and uncommitted changes, command line, installed packages and machine are recorded without being asked.

    Args:
        experiment: id or name; a new name becomes an experiment.
        name: of the run, for people.
        params, tags: as by `log_params` and `set_tags`.
        seed: recorded, and given to Python's, NumPy's and PyTorch's random numbers.
        parent: id of the run this one is a part of; the run that is open here where None.
        project: TREADLE_PROJECT, the project of the folder, or `default` where None.
        home, url: where it goes; see the module.
        offline: only write the journal; `treadle sync` sends it (TREADLE_OFFLINE=1).
        run_id: an id of the caller's, unique for ever.
        system_every: seconds between measurements of the machine; None: not measured.

    Raises:
        TreadleError: `conflict` for a run id that has a journal here.
    """
    url = url or os.environ.get("TREADLE_URL") or None
    root = home_path(home)
    offline = os.environ.get("TREADLE_OFFLINE", "") not in ("", "0") if offline is None else offline
    return Run(
        experiment,
        project=project or project_here(),
        spool=spool_path(root, url),
        target=url or str(root),
        connect=None if offline else (lambda: connect(url or str(root))),
        run_id=run_id,
        name=name,
        params=params,
        tags=tags,
        parent=parent,
        seed=seed,
        system_every=system_every,
    )


def runs(
    filter: str = "",
    *,
    experiments: list[str] | None = None,
    order_by: list[str] | None = None,
    limit: int = 1000,
    project: str | None = None,
    home: Path | str | None = None,
    url: str | None = None,
) -> "pl.DataFrame":
    """Runs that a filter finds, a row each: `run_id, experiment, name, state, started, ended, metrics.…, params.…, tags.…`.

    Times are UTC; a metric is its latest value, a parameter text; what a run lacks is null.

    >>> treadle.runs("metrics.auc > 0.8 and params.depth = '4'", order_by=["metrics.auc DESC"])  # doctest: +SKIP
    """
    import polars as pl  # noqa: PLC0415  (a script that only logs does not wait for it)

    sink = connect(url or os.environ.get("TREADLE_URL") or str(home_path(home)))
    try:
        found: list[Any] = []
        page: str | None = None
        while len(found) < limit:
            asked = SearchRuns(
                project=project or project_here(),
                experiments=experiments or [],
                filter=filter,
                order_by=order_by or [],
                limit=min(limit - len(found), 1000),
                page=page,
            )
            answer = sink.call(asked)
            found += answer.items
            page = answer.page.next
            if page is None:
                break
    finally:
        sink.close()
    rows = [
        {
            "run_id": r.run_id,
            "experiment": r.experiment_id,
            "name": r.name,
            "state": str(r.state),
            "started": r.created,
            "ended": r.ended,
            **{f"metrics.{p.key}": float(p.value) for p in r.metrics},
            **{f"params.{k}": v for k, v in r.params.items()},
            **{f"tags.{k}": v for k, v in r.tags.items()},
        }
        for r in found
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def sync(spool: Path, target: str | None = None, *, seconds: float = 60.0) -> list[dict[str, Any]]:
    """Send what the journals in a spool hold, to where each belongs or to `target`; what was done with each.

    A run whose process is gone without having closed it is closed as failed. Journals that are being written are shipped by their own
    process, and left alone.
    """
    done: list[dict[str, Any]] = []
    for path in journals(spool):
        reader = Reader(path)
        told: dict[str, Any] = {"run_id": reader.header.run_id, "journal": str(path), "sent": 0, "state": "shipped"}
        done.append(told)
        with reader.alone() as mine:
            if not mine or not reader.abandoned():
                told["state"] = "being written"
                continue
            sink = connect(target or reader.header.target)
            try:
                told["sent"] = drain(reader, sink, seconds=seconds)
                _close_if_open(reader, sink)
                told["refused"] = str(reader.refusals) if reader.refusals else None
                reader.remove()
            finally:
                sink.close()
    return done


def _close_if_open(reader: Reader, sink: Sink) -> None:
    project, run_id = reader.header.project, reader.header.run_id
    found = sink.call(GetTrackedRun(project=project, run_id=run_id))
    if found.state == RunState.running:
        last = max((p.time or 0 for p in found.metrics), default=0) or None
        why = "its process ended without closing it"
        sink.call(UpdateRun(project=project, run_id=run_id, state=RunState.failed, ended=last, error=why))


def connect(target: str) -> HomeSink | ServerSink:
    """A server's address, or a home's folder."""
    return ServerSink(target) if target.startswith(("http://", "https://")) else HomeSink(Path(target))
