"""The data room's verbs."""

import datetime as dt

from msgspec import Struct

from treadle.operations.table import Writes, operation
from treadle.records.data import DatasetVersion, TableProfile
from treadle.records.definitions import Column
from treadle.records.ledger import Page


class DatasetVersions(Struct, frozen=True, kw_only=True):
    """A page of versions, newest first."""

    items: list[DatasetVersion]
    page: Page


@operation(
    "POST /projects/{project}/datasets/{dataset}/versions",
    allow="data:write",
    returns=DatasetVersion,
    writes=Writes("treadle.data.arrived", "dataset/{dataset}"),
)
class AddDatasetVersion(Struct, frozen=True, kw_only=True):
    """Record that a dataset has a new version (its rows are already in the table). The same digest again changes nothing."""

    project: str
    dataset: str
    digest: str
    delta_version: int
    rows: int
    added_rows: int
    columns: tuple[Column, ...]
    source: str
    parent: str | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    profile: str | None = None  # digest of the profile blob
    known_until: dt.datetime | None = None  # the newest time of its rows


@operation("GET /projects/{project}/datasets/{dataset}/versions", allow="read", returns=DatasetVersions)
class ListDatasetVersions(Struct, frozen=True, kw_only=True):
    """Versions of a dataset, newest first."""

    project: str
    dataset: str
    limit: int = 50
    page: str | None = None


@operation("GET /projects/{project}/datasets/{dataset}/versions/{number}", allow="read", returns=DatasetVersion)
class GetDatasetVersion(Struct, frozen=True, kw_only=True):
    """One version; number 0 is the newest."""

    project: str
    dataset: str
    number: int


@operation("GET /projects/{project}/datasets/{dataset}/versions/{number}/profile", allow="read", returns=TableProfile)
class GetDatasetProfile(Struct, frozen=True, kw_only=True):
    """The profile of a version: types, missing, cardinality, distribution."""

    project: str
    dataset: str
    number: int
