"""Statements on dataset versions."""

from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, insert, select

from treadle.records.data import DatasetVersion
from treadle.store import tables as t

_v = t.dataset_versions.c
_FIELDS = [f.name for f in msgspec.structs.fields(DatasetVersion)]


def newest_version(connection: Connection, project: str, dataset: str) -> DatasetVersion | None:
    """The newest version of a dataset."""
    return _first(connection, _v.project == project, _v.dataset == dataset)


def get_version(connection: Connection, project: str, dataset: str, number: int) -> DatasetVersion | None:
    """One version by number."""
    return _first(connection, _v.project == project, _v.dataset == dataset, _v.number == number)


def find_version(connection: Connection, project: str, dataset: str, digest: str) -> DatasetVersion | None:
    """One version by digest."""
    return _first(connection, _v.project == project, _v.dataset == dataset, _v.digest == digest)


def list_versions(connection: Connection, project: str, dataset: str, *, before: int | None, limit: int) -> list[DatasetVersion]:
    """Versions, newest first, below a number."""
    where = [_v.project == project, _v.dataset == dataset, *([] if before is None else [_v.number < before])]
    rows = connection.execute(select(t.dataset_versions).where(*where).order_by(_v.number.desc()).limit(limit))
    return [_version(row) for row in rows.mappings()]


def insert_version(tx: Connection, version: DatasetVersion, profile: str | None) -> None:
    """A new version."""
    row = {name: getattr(version, name) for name in _FIELDS}
    tx.execute(insert(t.dataset_versions), {**row, "tags": list(version.tags), "profile": profile})


def profile_digest(connection: Connection, project: str, dataset: str, number: int) -> str | None:
    """The blob of a version's profile."""
    where = (_v.project == project, _v.dataset == dataset, _v.number == number)
    return connection.execute(select(_v.profile).where(*where)).scalar()


def _first(connection: Connection, *where: Any) -> DatasetVersion | None:
    statement = select(t.dataset_versions).where(*where).order_by(_v.number.desc()).limit(1)
    row = connection.execute(statement).mappings().first()
    return None if row is None else _version(row)


def _version(row: RowMapping) -> DatasetVersion:
    return msgspec.convert({name: row[name] for name in _FIELDS}, DatasetVersion)
