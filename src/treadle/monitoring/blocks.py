"""The recent past of an endpoint, in memory: its predictions by block of business time, and the outcomes as they come in.

Everything here can be built again from the prediction table and the outcomes' dataset; it exists so that a tick costs milliseconds.
A unit's first outcome counts; outcomes that come before their prediction was folded wait for it.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from treadle.monitoring.drift import Bins, count
from treadle.records.clock import from_micros

Array = NDArray[Any]
_NUMBERS = ("output", "other", "model_version", "other_version", "event_us", "latency_us", "first")
#: Outcomes kept for units that were not predicted (yet).
EARLY = 200_000


class Block:
    """Predictions of one block: arrays of one value a row, and counts by cell for drift."""

    def __init__(self, start_us: int, end_us: int):
        self.start_us = start_us
        self.end_us = end_us
        self.rejected = 0
        self.rows = 0
        self.changed = True
        self.counts: dict[str, Array] = {}
        self.counted_for: int | None = None
        self._chunks: dict[str, list[Array]] = {name: [] for name in _NUMBERS}
        self._outcome: list[Array] = []
        self._slices: dict[str, list[str | None]] = {}

    @property
    def start(self) -> dt.datetime:
        """Its first moment."""
        return from_micros(self.start_us)

    @property
    def end(self) -> dt.datetime:
        """The first moment after it."""
        return from_micros(self.end_us)

    def add(self, frame: pl.DataFrame, slices: Sequence[str]) -> int:
        """Append answered predictions; returns the index of the first."""
        first = self.rows
        for name in _NUMBERS:
            self._chunks[name].append(frame[name].cast(pl.Float64).to_numpy())
        self._outcome.append(np.full(frame.height, np.nan))
        for name in slices:
            column = next((c for c in (f"in.{name}", f"ft.{name}") if c in frame.columns), None)
            values = [None] * frame.height if column is None else frame[column].cast(pl.String).to_list()
            self._slices.setdefault(name, [None] * first).extend(values)
        self.rows += frame.height
        self.changed = True
        return first

    def of(self, name: str) -> Array:
        """One column."""
        return _joined(self._chunks[name])

    @property
    def outcome(self) -> Array:
        """Outcomes, NaN where not known; writable."""
        return _joined(self._outcome)

    def slice_values(self, name: str) -> list[str | None]:
        """Values of a slicing column."""
        return self._slices.get(name, [None] * self.rows)

    def scores_of(self, version: int) -> tuple[Array, Array]:
        """(rows' indexes, scores) that a version gave here, as the one that answered or as the other of a pair."""
        answered = self.of("model_version") == version
        paired = (self.of("other_version") == version) & ~answered & ~np.isnan(self.of("other"))
        index = np.flatnonzero(answered | paired)
        return index, np.where(answered, self.of("output"), self.of("other"))[index]

    def paired(self, one: int, other: int, since_us: int) -> tuple[Array, Array, Array]:
        """(outcomes, scores of `one`, scores of `other`) of rows that both scored at or after a moment and whose outcome is known."""
        mine, its = self.of("model_version"), self.of("other_version")
        forth = (mine == one) & (its == other)
        back = (mine == other) & (its == one)
        known = (forth | back) & ~np.isnan(self.outcome) & ~np.isnan(self.of("other")) & (self.of("event_us") >= since_us)
        answer, beside = self.of("output"), self.of("other")
        return (
            self.outcome[known],
            np.where(forth, answer, beside)[known],
            np.where(forth, beside, answer)[known],
        )


class Memory:
    """Blocks of one endpoint.

    Args:
        block_s: length of a block, seconds.
        slices: request columns whose values are kept.
    """

    def __init__(self, block_s: int, slices: Sequence[str] = ()):
        self.block_us = block_s * 1_000_000
        self.slices = tuple(slices)
        self.blocks: dict[int, Block] = {}
        self._waiting: dict[str, list[tuple[Block, int]]] = {}
        self._early: dict[str, float] = {}

    def add(self, frame: pl.DataFrame, bins: dict[str, Bins], version: int | None) -> None:
        """Take in rows of the prediction table of this endpoint; `bins` count drift against the profile of that champion."""
        frame = frame.with_columns(
            event_us=pl.col("event_time").dt.timestamp("us"),
            first=pl.col("row").fill_null(0) == 0,
        ).with_columns(block=pl.col("event_us").floordiv(self.block_us))
        for (number,), part in frame.partition_by("block", as_dict=True, include_key=False).items():
            block = self.at(int(number) * self.block_us)  # type: ignore[arg-type]
            answered = part.filter(pl.col("status") < 400)
            block.rejected += part.height - answered.height
            block.changed = True
            if answered.height:
                self._enrol(block, answered)
                _count(block, answered, bins, version)

    def at(self, moment_us: int) -> Block:
        """The block that a moment lies in."""
        start = moment_us // self.block_us * self.block_us
        if start not in self.blocks:
            self.blocks[start] = Block(start, start + self.block_us)
        return self.blocks[start]

    def learn(self, units: Iterable[str], outcomes: Iterable[float]) -> None:
        """Take in outcomes by unit."""
        learned: dict[int, tuple[list[int], list[float]]] = {}
        for unit, value in zip(units, outcomes, strict=True):
            places = self._waiting.pop(unit, None)
            if places is None:
                self._early[unit] = value
                continue
            for block, index in places:
                indexes, values = learned.setdefault(block.start_us, ([], []))
                indexes.append(index)
                values.append(value)
        for start, (indexes, values) in learned.items():
            block = self.blocks[start]
            block.outcome[indexes] = values
            block.changed = True
        while len(self._early) > EARLY:
            self._early.pop(next(iter(self._early)))

    def forget(self, before_us: int) -> None:
        """Let go of blocks that ended before a moment, and of outcomes still waited for in them."""
        gone = [start for start, block in self.blocks.items() if block.end_us <= before_us]
        for start in gone:
            del self.blocks[start]
        if gone:
            self._waiting = {u: kept for u, at in self._waiting.items() if (kept := [p for p in at if p[0].start_us in self.blocks])}

    def ordered(self) -> list[Block]:
        """Blocks by time."""
        return [self.blocks[start] for start in sorted(self.blocks)]

    def _enrol(self, block: Block, frame: pl.DataFrame) -> None:
        first = block.add(frame, self.slices)
        outcome = None
        for index, unit in enumerate(frame["unit"].to_list(), start=first):
            if unit in self._early:
                outcome = block.outcome if outcome is None else outcome
                outcome[index] = self._early[unit]
            else:
                self._waiting.setdefault(unit, []).append((block, index))


def _count(block: Block, frame: pl.DataFrame, bins: dict[str, Bins], version: int | None) -> None:
    if block.counted_for != version:
        block.counts, block.counted_for = {}, version
    for name, cells in bins.items():
        column = next((c for c in (f"in.{name}", f"ft.{name}") if c in frame.columns), None)
        if column is not None:
            found = count(cells, frame[column])
            block.counts[name] = block.counts[name] + found if name in block.counts else found


def _joined(chunks: list[Array]) -> Array:
    """The chunks as one array, which takes their place."""
    if len(chunks) != 1:
        whole = np.concatenate(chunks) if chunks else np.empty(0)
        chunks[:] = [whole]
    return chunks[0]
