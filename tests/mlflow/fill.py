"""Fills a tracking store by the client, for what imports it, and prints what is in it as JSON. Run by the client's own python."""

import json

import pandas as pd
from sklearn.linear_model import LogisticRegression

import mlflow
from mlflow import MlflowClient

client = MlflowClient()
told: dict = {"runs": {}, "models": {}, "logged": {}}

for number in range(2):
    name = f"import {number}"
    mlflow.set_experiment(name)
    for index in range(3):
        with mlflow.start_run(run_name=f"run {number}.{index}", tags={"kind": "x" * (index + 1)}) as run:
            mlflow.log_params({"depth": index, "note": "ü/ñ"})
            client.log_batch(
                run.info.run_id,
                metrics=[mlflow.entities.Metric("loss", 1 / (s + 1), 1_700_000_000_000 + s, s) for s in range(900)],
            )
            mlflow.log_metric("odd", float("nan"))
            mlflow.log_text(f"hello {index}", "notes/deep/a b.txt")
            data = pd.DataFrame({"x": [1, 2, index]})
            mlflow.log_input(mlflow.data.from_pandas(data, name="rows"), context="training")
            with mlflow.start_run(nested=True, run_name="child"):
                mlflow.log_metric("inner", index)
        told["runs"][run.info.run_id] = {"name": f"run {number}.{index}", "points": 900, "experiment": name}
client.delete_run(run.info.run_id)
told["deleted"] = run.info.run_id
client.set_experiment_tag(client.get_experiment_by_name("import 1").experiment_id, "team", "growth")

mlflow.set_experiment("import 0")
for version in (1, 2):
    with mlflow.start_run() as run:
        model = LogisticRegression(C=version).fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        made = mlflow.sklearn.log_model(model, name="model", registered_model_name="churn")
        mlflow.log_metric("recall", version / 4, model_id=made.model_id)
        told["logged"][made.model_id] = version / 4
client.set_registered_model_alias("churn", "best", 1)
client.set_model_version_tag("churn", "2", "seen", "yes")
client.update_registered_model("churn", description="who leaves")
client.update_model_version("churn", "1", description="the first")
told["models"]["churn"] = {"versions": [1, 2], "aliases": {"best": 1}}
client.set_experiment_tag("0", "kept", "yes")
experiment = client.get_experiment_by_name("import 1")
told["made"] = {
    "experiment": experiment.creation_time,
    "model": client.get_registered_model("churn").creation_timestamp,
    "version": client.get_model_version("churn", "1").creation_timestamp,
}
told["prediction"] = [float(p) for p in mlflow.sklearn.load_model("models:/churn/2").predict_proba([[1.4]])[0]]
print(json.dumps(told))
