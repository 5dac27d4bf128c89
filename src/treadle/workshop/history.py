"""Recorded history: one table a dataset, each row at the moment at which it became known."""

import datetime as dt
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from treadle.data.files import read_file
from treadle.records.clock import utc
from treadle.records.definitions import Dataset
from treadle.records.errors import TreadleError

_SUFFIXES = (".parquet", ".arrow", ".feather", ".csv", ".csv.gz", ".jsonl", ".ndjson")


class History:
    """A folder with a file a dataset: `flights.parquet`, `outcomes.csv.gz`, …; read once, sorted by the dataset's time."""

    def __init__(self, folder: Path, datasets: Iterable[Dataset]):
        self.folder = folder
        self.datasets = {d.name: d for d in datasets if d.time}
        self.tables = {name: self._table(dataset) for name, dataset in self.datasets.items()}

    def _table(self, dataset: Dataset) -> pl.DataFrame:
        assert dataset.time is not None
        for suffix in _SUFFIXES:
            path = self.folder / f"{dataset.name}{suffix}"
            if path.exists():
                table = read_file(path)
                if dataset.time not in table.columns:
                    raise TreadleError(
                        f"{path} has no column {dataset.time!r}, the time of dataset {dataset.name}.",
                        remedy=f"It has: {', '.join(table.columns)}",
                        code="bad_data",
                    )
                return table.sort(dataset.time, maintain_order=True)
        raise TreadleError(
            f"The history in {self.folder} has no file for dataset {dataset.name}.",
            remedy=f"Put one there: {self.folder / (dataset.name + '.parquet')}",
            code="not_found",
        )

    def between(self, name: str, start: dt.datetime | None, end: dt.datetime) -> pl.DataFrame:
        """Rows known in [start, end), in order of time."""
        table, column = self.tables[name], self.datasets[name].time
        assert column is not None
        low = table[column].search_sorted(utc(start), side="left") if start else 0
        high = table[column].search_sorted(utc(end), side="left")
        return table.slice(int(low), int(high) - int(low))


def blocks(start: dt.datetime, end: dt.datetime, seconds: int) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """[start, end) cut into blocks of `seconds`, the last one shorter."""
    step = dt.timedelta(seconds=seconds)
    while start < end:
        then = min(start + step, end)
        yield start, then
        start = then


def lists(frame: pl.DataFrame, columns: Iterable[str]) -> dict[str, list[Any]]:
    """Columns as Python lists; datetimes as microseconds since 1970 UTC."""
    return {
        name: (frame[name].dt.epoch("us") if isinstance(frame.schema[name], pl.Datetime) else frame[name]).to_list() for name in columns
    }
