"""mlflow.evaluate and mlflow.models.evaluate: metrics, plots and tables of a model that lies on the server."""

import logging

import pandas as pd
from observing import Observed, tree, without_guessing
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mlflow

logging.disable(logging.WARNING)

seen = Observed()
without_guessing()
client = seen.client
experiment = mlflow.set_experiment("evaluate")
data, target = load_breast_cancer(return_X_y=True, as_frame=True)
data = data.iloc[:200, :4]
target = target.iloc[:200]
with mlflow.start_run(run_name="train"):
    model = mlflow.sklearn.log_model(
        make_pipeline(StandardScaler(), LogisticRegression()).fit(data, target), name="m", input_example=data.iloc[:2]
    )
frame = data.assign(target=target)


def rounded(metrics):
    return {k: round(v, 3) for k, v in sorted(metrics.items()) if isinstance(v, int | float)}


with mlflow.start_run(run_name="models.evaluate") as run:
    result = mlflow.models.evaluate(
        model.model_uri, frame, targets="target", model_type="classifier", evaluator_config={"log_model_explainability": False}
    )
seen.see("models.evaluate: metrics", rounded(result.metrics))
seen.see("models.evaluate: artifacts", sorted(result.artifacts))
got = client.get_run(run.info.run_id)
seen.see("models.evaluate: the run's metrics", rounded(got.data.metrics))
seen.see("models.evaluate: the run's files", tree(lambda path: client.list_artifacts(run.info.run_id, path)))
seen.see("models.evaluate: inputs", [[i.dataset.source_type, [(t.key, t.value) for t in i.tags]] for i in got.inputs.dataset_inputs])
seen.see("models.evaluate: model inputs", [m.model_id == model.model_id for m in got.inputs.model_inputs])
logged = client.get_logged_model(model.model_id)
seen.see("models.evaluate: the model's metrics", sorted((m.key, round(m.value, 3), m.dataset_name is not None) for m in logged.metrics)[:5])

if hasattr(mlflow, "evaluate"):
    with mlflow.start_run(run_name="evaluate") as run:
        table = pd.DataFrame({"y": [1.0, 2.0, 3.0], "p": [1.1, 1.9, 3.2]})
        result = mlflow.evaluate(data=table, targets="y", predictions="p", model_type="regressor")
    seen.see("evaluate: metrics", rounded(result.metrics))
    seen.see("evaluate: the run's metrics", rounded(client.get_run(run.info.run_id).data.metrics))
seen.see(
    "validation passes",
    lambda: mlflow.validate_evaluation_results(
        validation_thresholds={"mean_squared_error": mlflow.models.MetricThreshold(threshold=1.0, greater_is_better=False)},
        candidate_result=result,
    ),
)
seen.done()
