"""Appends to a dataset: a year of flights, a day at a time, through schema, Delta commit and ledger.

Budget: 40 ms an append, and no dearer at the end of the year than at its start.

    python -m bench.data
"""

import datetime as dt
import statistics
import tempfile
import time

import polars as pl

from bench.features import year
from treadle.data.declare import dataset
from treadle.workshop import open_home


def main() -> None:
    """Print the figures."""
    flights, _, _ = year()
    flights = flights.with_columns(**{f"c{i}": pl.lit("x") for i in range(12)})
    definition = dataset("flights", time="at")
    with tempfile.TemporaryDirectory() as folder, open_home(folder) as shop:
        took: list[tuple[float, float]] = []
        for number, day in enumerate(flights.with_columns(day=pl.col("at").dt.date()).partition_by("day", include_key=False), start=1):
            start, used = time.perf_counter(), time.process_time()
            moment = dt.datetime(2013, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=number)
            shop.data.append("bench", definition, day, actor=shop.actor, event_time=moment, app=("bench", number), profile=False)
            took.append((time.perf_counter() - start, time.process_time() - used))
        for name, part in (("all", took), ("first 50", took[:50]), ("last 50", took[-50:])):
            wall, cpu = (statistics.mean(t[i] for t in part) * 1000 for i in (0, 1))
            middle = statistics.median(t[0] for t in part) * 1000
            print(f"append of a day, {name}: {wall:.1f} ms wall (median {middle:.1f}), {cpu:.1f} ms CPU")
        start = time.process_time()
        rows = shop.data.read("bench", "flights").collect().height
        print(f"read of {rows:,} rows in {len(took)} versions: {(time.process_time() - start) * 1000:.0f} ms CPU")


if __name__ == "__main__":
    main()
