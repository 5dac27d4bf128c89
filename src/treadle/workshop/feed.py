"""Feeding the online store row by row, as a stream would: everything known by a moment, before that moment's requests."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from treadle.features.transforms import Transform, apply
from treadle.online.store import SqliteOnline
from treadle.online.windows import columns_of
from treadle.records.definitions import Dataset, FeatureView


class _Stream:
    """The rows of one view in order of time, and how far they have been pushed."""

    def __init__(self, view: FeatureView, frame: pl.DataFrame, time: str):
        frame = frame.drop_nulls(time)
        self.view = view
        self.times: list[int] = frame[time].dt.epoch("us").to_list()
        self.keys: list[tuple[Any, ...]] = list(zip(*(frame[name].to_list() for name in view.entity), strict=True))
        names = columns_of(view) if view.windows else view.columns
        self.columns: dict[str, list[Any]] = {name: frame[name].to_list() for name in names}
        self.done = 0

    def push(self, store: SqliteOnline, moment: int) -> None:
        first, last = self.done, bisect_right(self.times, moment, lo=self.done)
        if first == last:
            return
        push = store.push_events if self.view.windows else store.push_values
        push(
            self.view,
            self.keys[first:last],
            self.times[first:last],
            {name: values[first:last] for name, values in self.columns.items()},
        )
        self.done = last


class Feed:
    """Several views' streams, advanced together."""

    def __init__(self, store: SqliteOnline, streams: list[_Stream]):
        self._store = store
        self._streams = streams

    def advance(self, moment: int) -> None:
        """Push what became known up to and including `moment` (microseconds since 1970 UTC), in one transaction."""
        if any(s.done < len(s.times) and s.times[s.done] <= moment for s in self._streams):
            with self._store.batch():
                for stream in self._streams:
                    stream.push(self._store, moment)


class Pusher:
    """Makes feeds for the views of a project."""

    def __init__(
        self, store: SqliteOnline, views: Iterable[FeatureView], datasets: Mapping[str, Dataset], transforms: Mapping[str, Transform]
    ):
        self._store = store
        self._views = [(v, transforms.get(v.name)) for v in views]
        self._datasets = datasets

    def feed(self, frames: Mapping[str, pl.DataFrame]) -> Feed:
        """A feed of new rows by dataset, sorted by the dataset's time."""
        streams = []
        for view, transform in self._views:
            frame, time = frames.get(view.source), self._datasets[view.source].time
            if frame is not None and frame.height and time is not None:
                streams.append(_Stream(view, apply(view, frame, time, transform), time))
        return Feed(self._store, streams)
