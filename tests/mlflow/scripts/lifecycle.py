"""Deleted, restored and missing experiments and runs, and what may still be done with them."""

from mlflow.entities import Dataset, DatasetInput, LoggedModelOutput, Metric, Param, RunTag, ViewType
from observing import Observed, recent, run_of, tags_of

seen = Observed()
client = seen.client
experiment = client.create_experiment("lifecycle")
seen.name(experiment, "experiment")
run = seen.name(client.create_run(experiment, run_name="one", tags={"a": "1"}, start_time=1_700_000_000_000).info.run_id, "run")
other = seen.name(client.create_run(experiment, run_name="two").info.run_id, "other")
MISSING = "0" * 32


def stages():
    found = client.search_runs([experiment], run_view_type=ViewType.ALL, order_by=["attributes.run_name"])
    return {r.info.run_name: r.info.lifecycle_stage for r in found}


def attempts(identity: str, case: str) -> None:
    for label, attempt in {
        "log_metric": lambda: client.log_metric(identity, "m", 1.0),
        "log_param": lambda: client.log_param(identity, "p", 1),
        "set_tag": lambda: client.set_tag(identity, "t", 1),
        "delete_tag": lambda: client.delete_tag(identity, "a"),
        "log_batch": lambda: client.log_batch(identity, [Metric("b", 1.0, 1, 0)], [Param("b", "1")], [RunTag("b", "1")]),
        "log_inputs": lambda: client.log_inputs(identity, [DatasetInput(Dataset("d", "d", "local", "{}"), [])]),
        "log_outputs": lambda: client.log_outputs(identity, [LoggedModelOutput("m-" + MISSING, 0)]),
        "update_run": lambda: client.update_run(identity, status="FAILED", name="renamed"),
        "set_terminated": lambda: client.set_terminated(identity),
        "log_text": lambda: client.log_text(identity, "x", "x.txt"),
        "list_artifacts": lambda: [f.path for f in client.list_artifacts(identity)],
        "get_run": lambda: client.get_run(identity).info.lifecycle_stage,
        "get_metric_history": lambda: [m.value for m in client.get_metric_history(identity, "m")],
    }.items():
        seen.see(f"{case}: {label}", attempt)


attempts(MISSING, "missing run")
seen.see("missing run: delete", lambda: client.delete_run(MISSING))
seen.see("missing run: restore", lambda: client.restore_run(MISSING))
for identity in ("x y", "../x", "%2e%2e", "'; DROP TABLE runs", "x" * 300):
    seen.see(f"run id {identity[:20]!r}: get", lambda i=identity: client.get_run(i))
    seen.see(f"run id {identity[:20]!r}: log_metric", lambda i=identity: client.log_metric(i, "m", 1.0))

seen.see(
    "rename a run", [client.update_run(run, name="uno"), client.get_run(run).info.run_name, client.get_run(run).data.tags["mlflow.runName"]]
)
seen.see("rename by tag", [client.set_tag(run, "mlflow.runName", "one"), client.get_run(run).info.run_name])
seen.see("rename by batch", [client.log_batch(run, tags=[RunTag("mlflow.runName", "eins")]), client.get_run(run).info.run_name])
client.set_tag(run, "mlflow.runName", "one")
seen.see(
    "delete the name tag",
    [client.delete_tag(run, "mlflow.runName"), client.get_run(run).info.run_name, "mlflow.runName" in client.get_run(run).data.tags],
)
client.set_tag(run, "mlflow.runName", "one")
seen.see("rename a run to nothing", [client.update_run(run, name=""), client.get_run(run).info.run_name])
seen.see("delete a missing tag", lambda: client.delete_tag(run, "none"))
for status in ("FINISHED", "RUNNING", "SCHEDULED", "FAILED", "KILLED", "finished", "NOTHING"):
    seen.see(f"status {status}", lambda s=status: [client.update_run(run, status=s), client.get_run(run).info.status])
seen.see("set_terminated", lambda: [client.set_terminated(run, "FINISHED", 1_700_000_005_000), client.get_run(run).info.end_time])
seen.see("back to running", lambda: [client.update_run(run, status="RUNNING"), client.get_run(run).info.end_time])
seen.see(
    "log after the end", lambda: [client.set_terminated(run), client.log_metric(run, "late", 2.0), client.get_run(run).data.metrics["late"]]
)
seen.see("run as it is", run_of(client.get_run(run)))
seen.see("run: name and tag disagree", lambda: client.create_run(experiment, run_name="a", tags={"mlflow.runName": "b"}))
seen.see("run: name by tag", lambda: client.create_run(experiment, tags={"mlflow.runName": "by tag"}).info.run_name)
client.delete_run(client.search_runs([experiment], "attributes.run_name = 'by tag'")[0].info.run_id)
seen.see("run: user by tag", lambda: client.create_run(experiment, run_name="user", tags={"mlflow.user": "ann"}).info.user_id)
seen.see("run: no user", lambda: client.create_run(experiment, run_name="nobody").info.user_id)
seen.see("run: in a missing experiment", lambda: client.create_run("987654"))
seen.see("run: in no experiment", lambda: client.create_run("abc"))

seen.see("delete run", client.delete_run(run))
attempts(run, "deleted run")
seen.see("delete run again", lambda: client.delete_run(run))
seen.see("stages after a delete", stages())
seen.see("restore run", client.restore_run(run))
seen.see("restore run again", lambda: client.restore_run(run))
seen.see("restored run", [client.get_run(run).info.lifecycle_stage, tags_of(client.get_run(run).data.tags)])
seen.see("log into a restored run", lambda: client.log_metric(run, "again", 1.0))

client.delete_run(other)
before = client.get_experiment(experiment).last_update_time
seen.see("delete experiment", client.delete_experiment(experiment))
gone = client.get_experiment(experiment)
seen.see("deleted experiment", [gone.name, gone.lifecycle_stage, recent(gone.last_update_time), gone.last_update_time >= before])
seen.see("deleted experiment by name", client.get_experiment_by_name("lifecycle").lifecycle_stage)
seen.see("stages in a deleted experiment", stages())
attempts(run, "run of a deleted experiment")
for label, attempt in {
    "create_run": lambda: client.create_run(experiment),
    "set_experiment_tag": lambda: client.set_experiment_tag(experiment, "a", "b"),
    "delete_experiment_tag": lambda: client.delete_experiment_tag(experiment, "a"),
    "rename": lambda: client.rename_experiment(experiment, "lifecycle 2"),
    "delete": lambda: client.delete_experiment(experiment),
    "create of the same name": lambda: client.create_experiment("lifecycle"),
    "create_logged_model": lambda: client.create_logged_model(experiment, "x"),
    "restore one run": lambda: client.restore_run(run),
    "log into the restored run": lambda: client.log_metric(run, "inside", 1.0),
}.items():
    seen.see(f"deleted experiment: {label}", attempt)
seen.see("restore experiment", client.restore_experiment(experiment))
seen.see("restored experiment", client.get_experiment(experiment).lifecycle_stage)
seen.see("stages in a restored experiment", stages())
seen.see("restore experiment again", lambda: client.restore_experiment(experiment))
seen.see("rename experiment", [client.rename_experiment(experiment, "lifecycle renamed"), client.get_experiment(experiment).name])
seen.see("rename to a name in use", lambda: client.rename_experiment(experiment, "Default"))
seen.see("rename to nothing", lambda: client.rename_experiment(experiment, ""))
seen.see("rename to its own name", lambda: client.rename_experiment(experiment, "lifecycle renamed"))
for label, attempt in {
    "get": lambda: client.get_experiment("987654"),
    "delete": lambda: client.delete_experiment("987654"),
    "restore": lambda: client.restore_experiment("987654"),
    "rename": lambda: client.rename_experiment("987654", "x"),
    "tag": lambda: client.set_experiment_tag("987654", "a", "b"),
    "get 'abc'": lambda: client.get_experiment("abc"),
    "get ''": lambda: client.get_experiment("").name,
    "get '-1'": lambda: client.get_experiment("-1"),
    "get by name": lambda: client.get_experiment_by_name("none"),
    "get '../0'": lambda: client.get_experiment("../0"),
}.items():
    seen.see(f"missing experiment: {label}", attempt)
client.set_experiment_tag(experiment, "k", "v")
seen.see("experiment tag", client.get_experiment(experiment).tags)
seen.see("experiment tag overwritten", [client.set_experiment_tag(experiment, "k", "w"), client.get_experiment(experiment).tags])
seen.see("experiment tag deleted", lambda: [client.delete_experiment_tag(experiment, "k"), client.get_experiment(experiment).tags])
seen.see("experiment tag deleted again", lambda: client.delete_experiment_tag(experiment, "k"))
seen.see("default experiment", [client.get_experiment("0").name, client.get_experiment("0").artifact_location])
seen.see("create of a name in use", lambda: client.create_experiment("Default"))
first, second = client.create_experiment("counted 1"), client.create_experiment("counted 2")
seen.see("ids count up", int(second) > int(first))

model = client.create_logged_model(experiment, "kept", run)
seen.name(model.model_id, "model")
seen.see("logged model: delete", client.delete_logged_model(model.model_id))
for label, attempt in {
    "get": lambda: client.get_logged_model(model.model_id),
    "set_tags": lambda: client.set_logged_model_tags(model.model_id, {"a": "b"}),
    "delete_tag": lambda: client.delete_logged_model_tag(model.model_id, "none"),
    "finalize": lambda: str(client.finalize_logged_model(model.model_id, "READY").status),
    "delete": lambda: client.delete_logged_model(model.model_id),
    "log_params": lambda: client.log_model_params(model.model_id, {"a": "b"}),
}.items():
    seen.see(f"deleted logged model: {label}", attempt)
for label, attempt in {
    "get": lambda: client.get_logged_model("m-" + MISSING),
    "delete": lambda: client.delete_logged_model("m-" + MISSING),
    "set_tags": lambda: client.set_logged_model_tags("m-" + MISSING, {"a": "b"}),
    "finalize": lambda: client.finalize_logged_model("m-" + MISSING, "READY"),
    "get '../x'": lambda: client.get_logged_model("../x"),
}.items():
    seen.see(f"missing logged model: {label}", attempt)
seen.done()
