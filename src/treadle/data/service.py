"""The data room's verbs: append rows, and read what a dataset was at any version.

An append is three steps under one lock of its table: the rows are checked and given the schema (nothing is written if they do not fit),
committed to the Delta table, and told to the ledger as a version. If the process dies between the second and the third, the commit's
note tells the next append what to say first, so no row is ever without its version for long and none is appended twice.
"""

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from blake3 import blake3

from treadle.data import files, profiles, schema
from treadle.data.tables import ROW, Tables
from treadle.ledger import lineage
from treadle.ledger.dispatch import Unchanged, role_in
from treadle.operations.data import AddDatasetVersion, DatasetVersions, GetDatasetProfile, GetDatasetVersion, ListDatasetVersions
from treadle.operations.table import allows, implements
from treadle.plugins.storage import BlobStore
from treadle.records.calls import SYSTEM, Actor, Call
from treadle.records.clock import SystemClock, from_micros
from treadle.records.data import DatasetVersion, TableProfile
from treadle.records.definitions import Column, Dataset
from treadle.records.digests import digest
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.ledger import Edge, Page, Version
from treadle.records.open_run import open_run
from treadle.store.db import Connection, Database
from treadle.store.queries import data as queries

_clock = SystemClock()
_log = logging.getLogger("treadle.data")


class DataService:
    """Datasets of a home.

    Args:
        db: the metadata database.
        layout: where the tables stand.
        blobs: where profiles go.
        dispatch: the dispatcher, called as `dispatch(request, actor=…, event_time=…)`; may be set later, since the dispatcher
            itself is built from the services.
    """

    def __init__(self, db: Database, layout: Layout, blobs: BlobStore, dispatch: Callable[..., Any] | None = None):
        self.db = db
        self.layout = layout
        self.blobs = blobs
        self.dispatch = dispatch
        self.tables = Tables()
        self._said: set[tuple[str, ...]] = set()

    # ── appending ────────────────────────────────────────────────────────────────────────────────────────────────

    def append(
        self,
        project: str,
        definition: Dataset,
        rows: pl.DataFrame | Path | str,
        *,
        actor: Actor,
        event_time: dt.datetime | None = None,
        source: str = "",
        app: tuple[str, int] | None = None,
        profile: bool = True,
    ) -> DatasetVersion:
        """Append rows to a dataset; returns its new version, durable.

        Args:
            project: the project's name.
            definition: the dataset; its columns are the schema, or else those of the version before, or else the rows' own.
            rows: a frame, or a file (see `files.read_file`). Moments without a time zone are read as UTC, and the log says so.
            actor: who appends; needs `data:write`.
            event_time: business time of the append; now, where it is left out.
            source: where the rows came from, in words; the file's name where it is left out.
            app: (application id, version) of an exactly-once feed: a version that is not greater than the last one appended under
                that id changes nothing, and the version it made is returned.
            profile: whether to profile the whole table (types, missing, distribution) and keep it beside the version.

        Raises:
            TreadleError: `bad_data` (unreadable file, no rows, broken schema: nothing was written), `denied`, `storage_full`.
        """
        if not allows(role_in(actor, project, ""), "data:write"):
            raise TreadleError(
                f"{actor.name} may not append to {definition.name}: that needs data:write.",
                remedy="Ask an admin for a role that has data:write: treadle actor add NAME --role editor",
                code="denied",
            )
        path = self.layout.table(project, definition.name)
        with self.tables.locked(path):
            last = self._told(project, definition.name, path)
            if app is not None and (done := self._done(project, definition.name, path, app)):
                return done
            columns = _columns(definition, last)
            given = rows if isinstance(rows, pl.DataFrame) else files.read_file(rows, columns=columns)
            source = source or ("" if isinstance(rows, pl.DataFrame) else Path(rows).name)
            frame, columns = _checked(definition, given, columns)
            request = self._request(project, definition, last, frame, columns, source)
            if last is not None and last.digest == request.digest:
                return last
            if profile:
                whole = frame if last is None else pl.concat([self.read(project, definition.name).collect(), frame], how="diagonal")
                kept = msgspec.json.encode(profiles.profile(whole, columns))
                request = msgspec.structs.replace(request, profile=self.blobs.put(kept))
            moment = event_time or _clock.now()
            note = {"add": msgspec.to_builtins(request), "event_time": moment.isoformat(), "app": list(app) if app else None}
            version = self.tables.append(path, frame, first_row=request.rows - frame.height, note=note, application=app)
            self._say_utc(project, definition.name, schema.zoneless(given, columns))
            return self._tell(request, version, actor, moment)

    def _say_utc(self, project: str, dataset: str, without: list[str]) -> None:
        """Tell of moments that came without a time zone, once in a process: a feed of local times would be hours off without a word."""
        if without and (project, dataset, *without) not in self._said:
            self._said.add((project, dataset, *without))
            _log.warning(
                "%s: %s came without a time zone, read as UTC. Where it is another zone's, say so before appending: "
                "pl.col(%r).dt.replace_time_zone('Europe/Berlin')",
                dataset,
                ", ".join(without),
                without[0],
            )

    def _told(self, project: str, dataset: str, path: Path) -> DatasetVersion | None:
        """The newest version, after telling the ledger of commits that it has not heard of."""
        last = self.newest(project, dataset)
        for delta_version, note in self.tables.notes(path, after=-1 if last is None else last.delta_version):
            request = msgspec.convert(note["add"], AddDatasetVersion)
            last = self._tell(request, delta_version, SYSTEM, dt.datetime.fromisoformat(note["event_time"]))
        return last

    def _done(self, project: str, dataset: str, path: Path, app: tuple[str, int]) -> DatasetVersion | None:
        """The version that an application's append made before, if it did."""
        reached = self.tables.appended_by(path, app[0])
        if reached is None or reached < app[1]:
            return None
        digests = [note["add"]["digest"] for _, note in self.tables.notes(path, after=-1) if note["app"] == list(app)]
        with self.db.read() as connection:
            found = queries.find_version(connection, project, dataset, digests[0]) if digests else None
            return found or queries.newest_version(connection, project, dataset)

    def _request(
        self, project: str, definition: Dataset, last: DatasetVersion | None, frame: pl.DataFrame, columns: tuple[Column, ...], source: str
    ) -> AddDatasetVersion:
        known = None
        if definition.time:
            newest = frame.get_column(definition.time).to_physical().max()
            known = from_micros(int(newest)) if isinstance(newest, int) else None  # type: ignore[arg-type]
            if last is not None and last.known_until is not None:
                known = last.known_until if known is None else max(known, last.known_until)
        return AddDatasetVersion(
            project=project,
            dataset=definition.name,
            digest=digest(((last.digest if last else "") + content_digest(frame)).encode()),
            delta_version=-1,
            rows=frame.height + (last.rows if last else 0),
            added_rows=frame.height,
            columns=columns,
            source=source,
            parent=last.digest if last else None,
            description=definition.description,
            tags=definition.tags,
            known_until=known,
        )

    def _tell(self, request: AddDatasetVersion, delta_version: int, actor: Actor, event_time: dt.datetime) -> DatasetVersion:
        assert self.dispatch is not None, "DataService.dispatch was not set"
        return self.dispatch(msgspec.structs.replace(request, delta_version=delta_version), actor=actor, event_time=event_time)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────

    def newest(self, project: str, dataset: str) -> DatasetVersion | None:
        """The newest version, None where there is none."""
        with self.db.read() as connection:
            return queries.newest_version(connection, project, dataset)

    def version(self, project: str, dataset: str, number: int = 0) -> DatasetVersion:
        """One version; 0 is the newest.

        Raises:
            TreadleError: `not_found`.
        """
        with self.db.read() as connection:
            return _version(connection, project, dataset, number)

    def versions(self, project: str, dataset: str, *, limit: int = 50) -> list[DatasetVersion]:
        """The newest versions first."""
        with self.db.read() as connection:
            return queries.list_versions(connection, project, dataset, before=None, limit=limit)

    def read(
        self, project: str, dataset: str, number: int = 0, columns: Sequence[str] | None = None, *, after: int = 0, keep_row: bool = False
    ) -> pl.LazyFrame:
        """The rows of a version (0: the newest) in the order they were appended.

        Args:
            project: the project's name.
            dataset: the dataset's name.
            number: the version.
            columns: those wanted; all if None.
            after: leave out the rows that version `after` had already.
            keep_row: keep `_row`, the position of each row in the dataset.

        Raises:
            TreadleError: `not_found`; `corrupt` where the table's files are gone.
        """
        version = self.version(project, dataset, number)
        first = self.version(project, dataset, after).rows if after else 0
        wanted = [c.name for c in version.columns] if columns is None else list(columns)
        missing = set(wanted) - {c.name for c in version.columns}
        if missing:
            raise TreadleError(
                f"The dataset {dataset} has no column {sorted(missing)[0]!r} in version {version.number}.",
                remedy=f"It has {', '.join(c.name for c in version.columns)}.",
                code="not_found",
            )
        if (run := open_run()) is not None:
            run.reads(project, dataset, version.number, version.digest)
        rows = self.tables.scan(self.layout.table(project, dataset), version.delta_version)
        rows = rows.filter(pl.col(ROW) < version.rows, *([pl.col(ROW) >= first] if first else []))
        return rows.select(ROW, *wanted).sort(ROW).select(*([ROW] if keep_row else []), *wanted)

    # ── operations ───────────────────────────────────────────────────────────────────────────────────────────────

    @implements(AddDatasetVersion)
    def add_version(self, tx: Connection, request: AddDatasetVersion, call: Call) -> DatasetVersion | Unchanged:
        """Record a version whose rows are in the table already."""
        known = queries.find_version(tx, request.project, request.dataset, request.digest)
        if known is not None:
            if (known.rows, known.delta_version) != (request.rows, request.delta_version):
                raise TreadleError(
                    f"Version {known.number} of {request.dataset} has this digest, but other rows or another table version.",
                    remedy="Append through treadle data ingest, which computes them.",
                    code="conflict",
                )
            return Unchanged(known)
        last = queries.newest_version(tx, request.project, request.dataset)
        if last is not None and (request.parent or last.digest) != last.digest:
            raise TreadleError(
                f"{request.dataset} is at version {last.number} now, which is not the one that these rows were appended to.",
                remedy="Append again; it starts from the newest version.",
                code="conflict",
            )
        version = DatasetVersion(
            project=request.project,
            dataset=request.dataset,
            number=1 if last is None else last.number + 1,
            digest=request.digest,
            delta_version=request.delta_version,
            rows=request.rows,
            added_rows=request.added_rows,
            columns=request.columns,
            source=request.source,
            event_time=call.event_time,
            recorded_time=_clock.now(),
            known_until=request.known_until,
            description=request.description,
            tags=request.tags,
        )
        queries.insert_version(tx, version, request.profile)
        facts = {"rows": version.rows, "added_rows": version.added_rows, "delta_version": version.delta_version, "source": version.source}
        node = Version(
            project=version.project, digest=version.digest, kind="dataset", name=version.dataset, number=version.number, facts=facts
        )
        lineage.add_version(tx, node, event_time=call.event_time)
        if last is not None:
            lineage.add_edge(tx, Edge(project=version.project, child=version.digest, parent=last.digest, role="appended to"))
        return version

    @implements(ListDatasetVersions)
    def list_versions(self, connection: Connection, request: ListDatasetVersions, call: Call) -> DatasetVersions:
        """A page of versions."""
        limit = max(1, min(request.limit, 500))
        if request.page is not None and not request.page.isdigit():
            raise TreadleError(f"{request.page!r} is no page of this listing.", remedy="Use the `next` of the page before.")
        before = None if request.page is None else int(request.page)
        items = queries.list_versions(connection, request.project, request.dataset, before=before, limit=limit + 1)
        more = str(items[limit - 1].number) if len(items) > limit else None
        return DatasetVersions(items=items[:limit], page=Page(next=more))

    @implements(GetDatasetVersion)
    def get_version(self, connection: Connection, request: GetDatasetVersion, call: Call) -> DatasetVersion:
        """One version."""
        return _version(connection, request.project, request.dataset, request.number)

    @implements(GetDatasetProfile)
    def get_profile(self, connection: Connection, request: GetDatasetProfile, call: Call) -> TableProfile:
        """A version's profile."""
        version = _version(connection, request.project, request.dataset, request.number)
        kept = queries.profile_digest(connection, request.project, request.dataset, version.number)
        if kept is None:  # appended with `profile=False`
            return self.profile(request.project, request.dataset, version.number)
        return msgspec.json.decode(self.blobs.get(kept), type=TableProfile)

    def profile(self, project: str, dataset: str, number: int = 0) -> TableProfile:
        """The profile of a version, computed now."""
        version = self.version(project, dataset, number)
        return profiles.profile(self.read(project, dataset, version.number).collect(), version.columns)


def content_digest(frame: pl.DataFrame) -> str:
    """A digest of what a frame says: its names, dtypes and values, whatever its chunks or what stands under its nulls."""
    hasher = blake3(repr([(name, str(dtype)) for name, dtype in frame.schema.items()]).encode())
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    values = [
        pl.col(name).fill_null("").str.len_bytes()
        if dtype == pl.String
        else pl.col(name).to_physical().fill_null(False if dtype == pl.Boolean else 0)
        for name, dtype in frame.schema.items()
    ]
    # Three queries for the frame and not several a column: a daily append has few rows, and each query its fixed cost.
    for part in (frame.select(pl.all().is_null()), frame.select(values)):
        for series in part.iter_columns():
            hasher.update(series.to_numpy().tobytes())
    if texts:
        for text in frame.select(pl.col(texts).fill_null("").str.join("")).row(0):
            hasher.update((text or "").encode())
    return hasher.hexdigest()


def _columns(definition: Dataset, last: DatasetVersion | None) -> tuple[Column, ...]:
    """The schema that rows must have: the declared one, which may add columns to that of the table but not change or drop any."""
    if last is None or not definition.columns:
        return definition.columns or (() if last is None else last.columns)
    declared = {c.name: c for c in definition.columns}
    for column in last.columns:
        now = declared.get(column.name)
        if now is None or now.dtype != column.dtype:
            verb = "drops" if now is None else "retypes"
            raise TreadleError(
                f"The definition of {definition.name} {verb} the column {column.name} ({column.dtype}) of its table.",
                remedy="A table only gains columns. Declare the column as it is, or a new dataset.",
                code="bad_definition",
                details={"column": column.name, "expected": column.dtype, "given": now.dtype if now else "nothing"},
            )
    return definition.columns


def _checked(definition: Dataset, frame: pl.DataFrame, columns: tuple[Column, ...]) -> tuple[pl.DataFrame, tuple[Column, ...]]:
    """The rows in the schema, and the schema."""
    if not frame.height:
        raise TreadleError(f"There are no rows to append to {definition.name}.", remedy="Append at least one row.", code="bad_data")
    if ROW in frame.columns:
        raise TreadleError(f"The rows have a column {ROW}, which Treadle keeps for itself.", remedy="Drop it.", code="bad_data")
    columns = columns or schema.infer(frame)
    frame = schema.conform(frame, columns, what=definition.name)
    for name in definition.key + ((definition.time,) if definition.time else ()):
        if name not in frame.columns:
            raise TreadleError(
                f"{definition.name} has {name!r} as its key or time, and the rows have no such column.",
                remedy=f"The rows have {', '.join(frame.columns[:20])}.",
                code="bad_data",
                details={"column": name},
            )
    if definition.time and frame.schema[definition.time].base_type() != pl.Datetime:
        raise TreadleError(
            f"The time column {definition.time!r} of {definition.name} is {frame.schema[definition.time]}.",
            remedy="Append datetimes: pl.col(…).str.to_datetime(time_zone='UTC')",
            code="bad_data",
            details={"column": definition.time, "expected": "datetime"},
        )
    if definition.time and (nulls := frame.get_column(definition.time).null_count()):
        raise TreadleError(
            f"{nulls} rows have no {definition.time}, so nobody knows when they were known.",
            remedy="Leave rows out until their time is known.",
            code="bad_data",
            details={"column": definition.time},
        )
    return frame, columns


def _version(connection: Connection, project: str, dataset: str, number: int) -> DatasetVersion:
    found = queries.get_version(connection, project, dataset, number) if number else queries.newest_version(connection, project, dataset)
    if found is None:
        has_none = f"has no version {number}" if number else "has no rows yet"
        remedy = f"List its versions: treadle data versions {dataset}" if number else f"Append some: treadle data ingest {dataset} FILE"
        raise TreadleError(f"The dataset {dataset} of {project} {has_none}.", remedy=remedy, code="not_found")
    return found
