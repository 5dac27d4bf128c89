"""Asynchronous logging, many threads, big batches: everything arrives, once."""

import threading

from mlflow.entities import Metric
from observing import Observed

import mlflow

seen = Observed()
client = seen.client
experiment = mlflow.set_experiment("async")
T = 1_700_000_000_000

with mlflow.start_run(run_name="async") as run:
    last = None
    for step in range(500):
        last = mlflow.log_metric("m", step / 10, step=step, synchronous=False)
    mlflow.log_params({f"p{i}": i for i in range(50)}, synchronous=False)
    mlflow.set_tags({f"t{i}": i for i in range(50)}, synchronous=False)
    last.wait()
    mlflow.flush_async_logging()
data = client.get_run(run.info.run_id).data
seen.see("async: metrics", [m.step for m in client.get_metric_history(run.info.run_id, "m")] == list(range(500)))
seen.see("async: latest", data.metrics)
seen.see("async: params and tags", [len(data.params), len([k for k in data.tags if k.startswith("t")])])

mlflow.config.enable_async_logging(True)
with mlflow.start_run(run_name="async by default") as run:
    mlflow.log_metrics({"a": 1.0, "b": 2.0}, step=1)
    mlflow.log_param("x", "1")
    mlflow.set_tag("y", "2")
    mlflow.log_text("late", "late.txt")
mlflow.flush_async_logging()
mlflow.flush_artifact_async_logging()
mlflow.config.enable_async_logging(False)
data = client.get_run(run.info.run_id).data
seen.see("async by default", [data.metrics, data.params, data.tags.get("y")])

run_id = client.create_run(experiment.experiment_id, run_name="threads").info.run_id
errors = []


def work(number: int) -> None:
    try:
        for step in range(20):
            client.log_metric(run_id, f"thread {number}", float(step), T + step, step)
            client.log_metric(run_id, "shared", float(number * 100 + step), T, step)
        client.log_param(run_id, "shared", "same")
        client.set_tag(run_id, "shared", str(number))
    except Exception as error:  # noqa: BLE001
        errors.append(str(error))


threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
seen.see("threads: errors", errors)
seen.see("threads: histories", [len(client.get_metric_history(run_id, f"thread {n}")) for n in range(8)])
seen.see("threads: shared history", len(client.get_metric_history(run_id, "shared")))
seen.see("threads: shared latest", client.get_run(run_id).data.metrics["shared"])
seen.see("threads: shared param", client.get_run(run_id).data.params)

names = []


def create(number: int) -> None:
    try:
        names.append(mlflow.set_experiment("async, made by many").experiment_id)
    except Exception as error:  # noqa: BLE001
        names.append(type(error).__name__)


threads = [threading.Thread(target=create, args=(n,)) for n in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
seen.see("threads: one experiment", len(set(names)))

client.create_registered_model("async")
made = []
threads = [threading.Thread(target=lambda: made.append(int(client.create_model_version("async", "s3://b/c").version))) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
seen.see("threads: versions", sorted(made))
big = client.create_run(experiment.experiment_id, run_name="big").info.run_id
client.log_batch(big, [Metric(f"k{i % 20}", float(i), T + i, i) for i in range(5000)])
seen.see("big batch", [len(client.get_metric_history(big, "k7")), len(client.get_run(big).data.metrics)])
seen.done()
