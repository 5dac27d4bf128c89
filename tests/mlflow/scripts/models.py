"""Models with their files: logged, registered, loaded by every kind of address."""

import pathlib
import tempfile

import pandas as pd
from mlflow.models import infer_signature
from observing import Observed, logged_of, model_of, registered_of, tree, without_guessing
from sklearn.linear_model import LinearRegression

import mlflow

seen = Observed()
client = seen.client
experiment = mlflow.set_experiment("models")
x = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0]})
fitted = [LinearRegression().fit(x, [factor * v for v in (1.0, 2.0, 3.0, 4.0)]) for factor in (1, 2, 3)]
signature = infer_signature(x, fitted[0].predict(x))


def answers(uri: str):
    return [round(float(v), 6) for v in mlflow.sklearn.load_model(uri).predict(x)]


with mlflow.start_run(run_name="logs a model") as run:
    seen.name(run.info.run_id, "run")
    info = mlflow.sklearn.log_model(
        fitted[0], name="linear", signature=signature, input_example=x.iloc[:2], params={"p": 1}, tags={"t": "x"}, metadata={"m": 1}
    )
    seen.name(info.model_id, "model")
    seen.see("log_model", [info.artifact_path, info.model_uri, sorted(info.flavors), info.run_id == run.info.run_id])
    mlflow.log_metric("on the model", 0.5, model_id=info.model_id)
    mlflow.log_metrics({"many": 1.5}, step=3, model_id=info.model_id, dataset=mlflow.data.from_pandas(x, name="points"))
without_guessing()
seen.see("logged model", logged_of(mlflow.get_logged_model(info.model_id)))
seen.see("its files", tree(lambda path: client.list_logged_model_artifacts(info.model_id, path)))
seen.see("its run's outputs", [(o.model_id, o.step) for o in client.get_run(run.info.run_id).outputs.model_outputs])
seen.see("its run's files", tree(lambda path: client.list_artifacts(run.info.run_id, path)))
seen.see("its run's metrics", client.get_run(run.info.run_id).data.metrics)
seen.see("last_logged_model", mlflow.last_logged_model().model_id)
seen.see("get_model_info", lambda: mlflow.models.get_model_info(info.model_uri).signature.inputs.to_dict())

seen.see("register_model", model_of(mlflow.register_model(info.model_uri, "mm", tags={"k": "v"})))
with mlflow.start_run(run_name="registers too"):
    again = mlflow.sklearn.log_model(fitted[1], name="linear", signature=signature, registered_model_name="mm")
    seen.see("log_model registers", [again.registered_model_version, again.artifact_path])
with mlflow.start_run(run_name="by run") as by_run:
    seen.name(by_run.info.run_id, "by run")
    third = mlflow.sklearn.log_model(fitted[2], name="inside", signature=signature)
    seen.name(third.model_id, "third")
seen.see("register a run's model", lambda: model_of(mlflow.register_model(f"runs:/{by_run.info.run_id}/inside", "mm")))
client.set_registered_model_alias("mm", "champion", 2)
client.transition_model_version_stage("mm", 1, "Staging")
client.transition_model_version_stage("mm", 2, "Production")
seen.see("registered model", registered_of(client.get_registered_model("mm")))
seen.see("the logged model's tags", logged_of(mlflow.get_logged_model(info.model_id))["tags"])

for uri in (
    "models:/mm/1",
    "models:/mm/2",
    "models:/mm/3",
    "models:/mm@champion",
    "models:/mm/Staging",
    "models:/mm/Production",
    "models:/mm/production",
    "models:/mm/latest",
    f"models:/{info.model_id}",
    f"runs:/{by_run.info.run_id}/inside",
    f"runs:/{run.info.run_id}/linear",
    "models:/mm@latest",
    "models:/mm/99",
    "models:/mm@none",
    "models:/mm/Archived",
    "models:/none/1",
    "models:/m-" + "0" * 32,
    f"runs:/{run.info.run_id}/none",
    "models:/mm",
):
    seen.see(f"load {seen.text(uri)}", lambda u=uri: answers(u))
loaded = mlflow.pyfunc.load_model("models:/mm@champion")
seen.see("pyfunc", [round(float(v), 6) for v in loaded.predict(x)])
seen.see("pyfunc's metadata", [loaded.metadata.signature.inputs.to_dict(), loaded.metadata.run_id == again.run_id])
seen.see("pyfunc refuses a bad frame", lambda: loaded.predict(pd.DataFrame({"c": [1.0]})))
seen.see(
    "download a model",
    lambda: sorted(p.name for p in __import__("pathlib").Path(mlflow.artifacts.download_artifacts("models:/mm@champion")).iterdir()),
)
seen.see("list a model version", lambda: sorted(f.path for f in mlflow.artifacts.list_artifacts("models:/mm/2")))
seen.see("load_text of a model", lambda: "flavors" in mlflow.artifacts.load_text("models:/mm/2/MLmodel"))


class Doubles(mlflow.pyfunc.PythonModel):
    """A model that is code."""

    def load_context(self, context):
        with open(context.artifacts["factor"]) as file:
            self.factor = float(file.read())

    def predict(self, context, model_input, params=None):
        return model_input * self.factor


factor = pathlib.Path(tempfile.mkdtemp()) / "factor.txt"
factor.write_text("2.5")
with mlflow.start_run(run_name="python"):
    made = mlflow.pyfunc.log_model(name="doubles", python_model=Doubles(), artifacts={"factor": str(factor)})
seen.see("a model of code", lambda: mlflow.pyfunc.load_model(made.model_uri).predict(pd.DataFrame({"v": [2.0]}))["v"].tolist())
external = mlflow.create_external_model(name="external", model_type="agent", params={"a": "b"}, tags={"c": "d"})
seen.see("an external model", logged_of(external))
with mlflow.start_run(run_name="a step each"):
    for step in (1, 2):
        mlflow.sklearn.log_model(fitted[0], name="checkpoint", step=step)
found = mlflow.search_runs([experiment.experiment_id], "attributes.run_name = 'a step each'", output_format="list")[0]
seen.see("steps of models", sorted(o.step for o in found.outputs.model_outputs))
seen.see("models in all", sorted(m.name for m in mlflow.search_logged_models([experiment.experiment_id], output_format="list")))
seen.see("copied version", lambda: model_of(client.copy_model_version("models:/mm/2", "mm copy"))["version"])
seen.see("the copy answers", lambda: answers("models:/mm copy/1"))
for uri in ("models:/mm@champion", "models:/mm/Staging", "models:/mm/latest"):
    seen.see(f"register {uri}", lambda u=uri: mlflow.register_model(u, "mm by name").source)
client.rename_registered_model("mm", "mm renamed")
seen.see("the copy answers when its model is renamed", lambda: answers("models:/mm copy/1"))
client.rename_registered_model("mm renamed", "mm")
seen.see(
    "delete_logged_model",
    lambda: [
        client.delete_logged_model(third.model_id),
        sorted({m.name for m in mlflow.search_logged_models([experiment.experiment_id], output_format="list")}),
    ],
)
with mlflow.start_run(run_name="old way") as old:
    mlflow.sklearn.save_model(fitted[0], path := str(pathlib.Path(tempfile.mkdtemp()) / "m"))
    mlflow.log_artifacts(path, "saved")
seen.see("a model as plain artifacts", lambda: answers(f"runs:/{old.info.run_id}/saved"))
seen.see("register plain artifacts", lambda: model_of(mlflow.register_model(f"runs:/{old.info.run_id}/saved", "mm plain"))["version"])
seen.see("load it back", lambda: answers("models:/mm plain/1"))
seen.done()
