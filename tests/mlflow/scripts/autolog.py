"""Autologging of scikit-learn (with a grid search's child runs), LightGBM and XGBoost."""

import lightgbm as lgb
import xgboost as xgb
from observing import Observed, tags_of, tree, without_guessing
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mlflow

seen = Observed()
without_guessing()
client = seen.client
experiment = mlflow.set_experiment("autolog")
x, y = load_iris(return_X_y=True, as_frame=True)


def summary(item: str, identity: str) -> None:
    """What a training run holds, down to the model's files; model files' versions are not compared."""
    run = client.get_run(identity)
    seen.see(f"{item}: status and name", [run.info.status, run.info.run_name.count("-")])
    seen.see(f"{item}: metrics", {k: round(v, 4) for k, v in sorted(run.data.metrics.items())})
    seen.see(f"{item}: params", dict(sorted(run.data.params.items())))
    seen.see(f"{item}: tags", {k: v for k, v in tags_of(run.data.tags).items() if k not in ("mlflow.runName", "mlflow.log-model.history")})
    seen.see(f"{item}: files", tree(lambda path: client.list_artifacts(identity, path)))
    seen.see(
        f"{item}: inputs",
        sorted((i.dataset.name, i.dataset.source_type, [(t.key, t.value) for t in i.tags]) for i in run.inputs.dataset_inputs),
    )
    models = [client.get_logged_model(o.model_id) for o in run.outputs.model_outputs]
    seen.see(
        f"{item}: models", [[m.name, str(m.status), m.source_run_id == identity, sorted(m.params), len(m.metrics or [])] for m in models]
    )
    for number, model in enumerate(models):
        seen.see(f"{item}: files of model {number}", tree(lambda path, m=model: client.list_logged_model_artifacts(m.model_id, path)))
        loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
        seen.see(f"{item}: model {number} answers", len(loaded.predict(x.iloc[:3])))


mlflow.sklearn.autolog(silent=True)
with mlflow.start_run(run_name="logistic") as run:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(x, y)
    seen.see("sklearn: score inside", round(float(model.score(x, y)), 4))
summary("sklearn", run.info.run_id)

search = GridSearchCV(LogisticRegression(max_iter=300), {"C": [0.1, 1.0, 10.0]}, cv=2)
search.fit(x, y)
found = mlflow.search_runs([experiment.experiment_id], "tags.estimator_name = 'GridSearchCV'", output_format="list")
seen.see("grid search: runs", len(found))
parent = found[0].info.run_id
summary("grid search", parent)
children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", order_by=["params.C"])
seen.see(
    "grid search: children", [[c.data.params["C"], c.info.status, sorted(k for k in c.data.metrics if "time" not in k)] for c in children]
)
mlflow.sklearn.autolog(disable=True)

x, y = load_breast_cancer(return_X_y=True, as_frame=True)
train_x, test_x, train_y, test_y = train_test_split(x, y, random_state=0)
mlflow.lightgbm.autolog(silent=True)
with mlflow.start_run(run_name="lightgbm") as run:
    lgb.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 1},
        lgb.Dataset(train_x, train_y),
        num_boost_round=5,
        valid_sets=[lgb.Dataset(test_x, test_y)],
        valid_names=["test"],
    )
summary("lightgbm", run.info.run_id)
seen.see("lightgbm: metric history", [m.step for m in client.get_metric_history(run.info.run_id, "test-binary_logloss")])
mlflow.lightgbm.autolog(disable=True)

mlflow.xgboost.autolog(silent=True)
with mlflow.start_run(run_name="xgboost") as run:
    xgb.train(
        {"objective": "binary:logistic", "nthread": 1, "seed": 1},
        xgb.DMatrix(train_x, train_y),
        num_boost_round=5,
        evals=[(xgb.DMatrix(test_x, test_y), "test")],
        verbose_eval=False,
    )
summary("xgboost", run.info.run_id)
seen.see("xgboost: metric history", [m.step for m in client.get_metric_history(run.info.run_id, "test-logloss")])
seen.done()
