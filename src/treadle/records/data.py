"""Records of data: versions, findings, profiles of a table."""

import datetime as dt
from typing import Any

from msgspec import Struct

from treadle.records.definitions import Column


class DatasetVersion(Struct, frozen=True, kw_only=True):
    """An immutable state of a dataset: the Delta version it is, and the digest of all that was appended up to it."""

    project: str
    dataset: str
    number: int
    digest: str
    delta_version: int
    rows: int
    added_rows: int
    columns: tuple[Column, ...]
    source: str
    event_time: dt.datetime
    recorded_time: dt.datetime | None = None
    known_until: dt.datetime | None = None
    description: str = ""
    tags: tuple[str, ...] = ()


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that validation found. `effect`: `halt` (schema skew), `retrain` (value skew), `note`."""

    check: str
    column: str | None
    effect: str
    text: str
    rows: int = 0
    facts: dict[str, Any] = {}


class Shift(Struct, frozen=True, kw_only=True):
    """How far the values of a column are from the reference: above `threshold` of the `measure` it asks for retraining."""

    column: str
    value: float
    threshold: float
    measure: str = "psi"

    @property
    def moved(self) -> bool:
        """Above the threshold."""
        return self.value > self.threshold


class Verdict(Struct, frozen=True, kw_only=True):
    """What a pipeline does about the data it was given: `go`, `retrain` or `halt`, with the evidence.

    `shifts` has every column that was compared, the farthest first; none where there was no reference.
    """

    decision: str
    findings: list[Finding]
    rows: int = 0
    shifts: tuple[Shift, ...] = ()


class ColumnProfile(Struct, frozen=True, kw_only=True):
    """Content and structure of one column. Numbers are None for columns that have none; quantiles at 0, .05, .25, .5, .75, .95, 1.

    `shares` are the shares of the present values in the bins that `edges` bound: up to and including the first edge, …, above the last.
    """

    name: str
    dtype: str
    rows: int
    missing: int
    distinct: int | None = None
    minimum: float | str | None = None
    maximum: float | str | None = None
    mean: float | None = None
    std: float | None = None
    quantiles: tuple[float, ...] = ()
    top: tuple[tuple[str, int], ...] = ()
    edges: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()


class TableProfile(Struct, frozen=True, kw_only=True):
    """A profile of a whole table."""

    rows: int
    columns: tuple[ColumnProfile, ...]
