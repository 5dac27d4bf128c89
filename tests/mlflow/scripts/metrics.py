"""Metric histories, and which point is a run's latest value."""

import math
import time

from mlflow.entities import Metric
from observing import Observed

seen = Observed()
client = seen.client
experiment = client.create_experiment("metrics")
T = 1_700_000_000_000
NAN, INF = float("nan"), float("inf")
CASES = {
    "growing steps": [(1.0, T, 0), (2.0, T + 1, 1), (3.0, T + 2, 2)],
    "decreasing steps": [(1.0, T, 5), (2.0, T + 1, 4), (3.0, T + 2, 3)],
    "equal steps later time": [(1.0, T, 1), (2.0, T + 1, 1)],
    "equal steps earlier time": [(1.0, T, 1), (2.0, T - 1, 1)],
    "equal steps and times greater": [(1.0, T, 1), (2.0, T, 1)],
    "equal steps and times smaller": [(2.0, T, 1), (1.0, T, 1)],
    "the same point twice": [(1.0, T, 1), (1.0, T, 1)],
    "no steps later time": [(5.0, T, 0), (4.0, T + 5, 0)],
    "negative steps": [(1.0, T, -1), (2.0, T + 1, -2)],
    "negative and zero steps": [(1.0, T, -1), (2.0, T - 5, 0)],
    "NaN alone": [(NAN, T, 0)],
    "NaN then number": [(NAN, T, 0), (1.0, T, 1)],
    "number then NaN": [(1.0, T, 0), (NAN, T, 1)],
    "NaN beside a positive number": [(NAN, T, 0), (1.0, T, 0)],
    "a positive number beside NaN": [(1.0, T, 0), (NAN, T, 0)],
    "NaN beside a negative number": [(NAN, T, 0), (-1.0, T, 0)],
    "NaN beside zero": [(NAN, T, 0), (0.0, T, 0)],
    "NaN twice": [(NAN, T, 0), (NAN, T, 0)],
    "infinite": [(INF, T, 0)],
    "minus infinite": [(-INF, T, 0)],
    "infinite and the greatest": [(INF, T, 0), (1.7976931348623157e308, T, 0)],
    "infinite beside minus infinite": [(INF, T, 0), (-INF, T, 0)],
    "tiny": [(5e-324, T, 0), (-0.0, T + 1, 0)],
    "precise": [(0.1, T, 0), (1 / 3, T + 1, 0), (123456789.123456789, T + 2, 0)],
    "great steps": [(1.0, T, 2**53 + 1), (2.0, T, 2**62)],
    "time zero": [(1.0, 0, 0)],
}


def log(run, way, case, points):
    if way == "one by one":
        return [client.log_metric(run, case, *point, synchronous=True) for point in points]
    return client.log_batch(run, [Metric(case, *point) for point in points])


for way in ("one by one", "in a batch"):
    run = client.create_run(experiment, run_name=way).info.run_id
    for case, points in CASES.items():
        seen.see(f"{way}: log: {case}", lambda run=run, way=way, case=case, points=points: log(run, way, case, points))
    latest = client.get_run(run).data.metrics
    searched = client.search_runs([experiment], f"attributes.run_name = '{way}'")[0].data.metrics
    seen.see(f"{way}: search and get agree", [k for k in latest if searched.get(k) != latest[k] and not math.isnan(latest[k])])
    for case in CASES:
        seen.see(f"{way}: latest: {case}", latest.get(case))
        seen.see(
            f"{way}: history: {case}",
            [(m.value, m.timestamp - T if m.timestamp else 0, m.step) for m in client.get_metric_history(run, case)],
        )

run = client.create_run(experiment, run_name="long").info.run_id
for start in range(0, 3000, 1000):
    client.log_batch(run, [Metric("m", float(i), T + i, i) for i in range(start, start + 1000)])
history = client.get_metric_history(run, "m")
seen.see("long history", [len(history), history[0].value, history[-1].value, [m.step for m in history] == list(range(3000))])
seen.see("long latest", client.get_run(run).data.metrics)
seen.see("history of a missing metric", [m.value for m in client.get_metric_history(run, "none")])
seen.see("history of a missing run", lambda: [m.value for m in client.get_metric_history("0" * 32, "m")])
seen.call(
    "history: a page of one", "GET", "/api/2.0/mlflow/metrics/get-history", params={"run_id": run, "metric_key": "m", "max_results": 1}
)
seen.call("history: no results asked", "GET", "/api/2.0/mlflow/metrics/get-history", params={"run_id": run, "metric_key": "none"})
seen.call(
    "history: zero results asked", "GET", "/api/2.0/mlflow/metrics/get-history", params={"run_id": run, "metric_key": "m", "max_results": 0}
)
seen.call(
    "history: minus one asked", "GET", "/api/2.0/mlflow/metrics/get-history", params={"run_id": run, "metric_key": "m", "max_results": -1}
)
seen.call("history: without the key", "GET", "/api/2.0/mlflow/metrics/get-history", params={"run_id": run})
seen.call(
    "history: made-up token",
    "GET",
    "/api/2.0/mlflow/metrics/get-history",
    params={"run_id": run, "metric_key": "m", "max_results": 5, "page_token": "made up"},
)

for label, arguments in {
    "text": ("m", "abc"),
    "text that is a number": ("m", "1.5"),
    "none": ("m", None),
    "true": ("m", True),
    "a list": ("m", [1]),
    "negative time": ("m", 1.0, -1),
    "huge int": ("m", 10**400),
    "numpy": ("np", __import__("numpy").float32(0.1)),
}.items():
    seen.see(f"log_metric with {label}", lambda a=arguments: client.log_metric(run, *a))
seen.see("a float32 is kept as", client.get_run(run).data.metrics.get("np"))
before = time.time() * 1000
client.log_metric(run, "now", 1.0)
point = client.get_metric_history(run, "now")[0]
seen.see("no time given", [abs(point.timestamp - before) < 60_000, point.step])


def asked(path, **query):
    import requests
    from observing import SERVER

    answer = requests.get(f"{SERVER}/{path}", params=query, timeout=60).json()
    return [[p["step"], p["timestamp"] - T, p["value"]] for p in answer["metrics"]] if "metrics" in answer else answer


thin = client.create_run(experiment).info.run_id
client.log_batch(thin, [Metric("thin", (n * 7) % 11, T + (n * 5) % 17, (n * 3) % 13 - 3) for n in range(40)])
for most in (1, 2, 5, 39, 40, 41):
    sample = {"run_ids": [thin], "metric_key": "thin", "max_results": most}
    seen.see(f"sample of {most}", asked("api/2.0/mlflow/metrics/get-history-bulk-interval", **sample))
    seen.see(
        f"sample of {most} between", asked("ajax-api/2.0/mlflow/metrics/get-history-bulk-interval", **sample, start_step=0, end_step=6)
    )
    seen.see(f"bulk of {most}", asked("ajax-api/2.0/mlflow/metrics/get-history-bulk", run_id=[thin], metric_key="thin", max_results=most))
seen.done()
