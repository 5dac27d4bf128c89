"""The fluent API: what a notebook does on its first day."""

import json
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from observing import Observed, recent, run_of, tree

import mlflow

seen = Observed()
client = seen.client
here = Path(tempfile.mkdtemp())

experiment = mlflow.set_experiment("fluent")
seen.see("set_experiment creates", {"name": experiment.name, "stage": experiment.lifecycle_stage, "tags": experiment.tags})
seen.see("experiment artifacts", experiment.artifact_location)
seen.see("experiment times", [recent(experiment.creation_time), recent(experiment.last_update_time)])
seen.see("set_experiment finds", mlflow.set_experiment("fluent").experiment_id == experiment.experiment_id)
seen.see("set_experiment by id", mlflow.set_experiment(experiment_id=experiment.experiment_id).name)
seen.see("set_experiment unknown id", lambda: mlflow.set_experiment(experiment_id="987654"))
seen.see("get_experiment_by_name none", mlflow.get_experiment_by_name("fluent nothing"))
seen.see("create_experiment", type(mlflow.create_experiment("fluent made", tags={"team": "a", "note": "é ü 漢"})).__name__)
seen.see("created experiment's tags", mlflow.get_experiment_by_name("fluent made").tags)
mlflow.set_experiment("fluent")
seen.see("set_experiment_tag", lambda: mlflow.set_experiment_tag("owner", "me"))
seen.see("set_experiment_tags", lambda: mlflow.set_experiment_tags({"a": 1, "b": "two"}))
seen.see("experiment's tags", lambda: mlflow.get_experiment(experiment.experiment_id).tags)

with mlflow.start_run(run_name="first", tags={"given": "yes"}, description="a **note**") as run:
    seen.name(run.info.run_id, "first")
    seen.see("started run", run_of(run))
    seen.see("run ids agree", run.info.run_id == getattr(run.info, "run_uuid", run.info.run_id) == mlflow.active_run().info.run_id)
    seen.see("log_param", mlflow.log_param("depth", 3))
    mlflow.log_param("empty", "")
    mlflow.log_param("unicode ключ", "значение 漢字 🎉")
    mlflow.log_params({"rate": 0.1, "kind": "gbdt", "none": None, "flag": True, "list": [1, 2]})
    seen.see("log_metric", mlflow.log_metric("loss", 0.5))
    mlflow.log_metric("loss", 0.4, step=1)
    mlflow.log_metric("loss", 0.3, step=2, timestamp=1_700_000_000_000)
    mlflow.log_metric("val/auc", 0.91, step=-3)
    mlflow.log_metrics({"a b": 1, "c.d-e_f:g": 2.5}, step=7)
    mlflow.log_metric("tiny", 5e-324)
    mlflow.log_metric("huge", 1.7976931348623157e308)
    mlflow.log_metric("exact", 0.1 + 0.2)
    mlflow.set_tag("tag", "value")
    mlflow.set_tag("number", 12)
    mlflow.set_tags({"t1": "1", "t2": "2", "mlflow.note.content": "**bold**"})
    mlflow.set_tag("tag", "changed")
    mlflow.delete_tag("t2")

    mlflow.log_text("hello\nworld ✓", "notes/hello.txt")
    mlflow.log_text("<b>x</b>", "page.html")
    mlflow.log_dict({"a": 1, "b": [1, 2]}, "conf/a.json")
    mlflow.log_dict({"a": 1}, "conf/a.yaml")
    figure = plt.figure(figsize=(1, 1))
    mlflow.log_figure(figure, "plots/figure.png")
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "plots/zeros.png")
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="steps", step=1, timestamp=1_700_000_000_000, synchronous=True)
    mlflow.log_table({"q": ["a", "b"], "n": [1, 2]}, "table.json")
    mlflow.log_table(pd.DataFrame({"q": ["c"], "n": [3]}), "table.json")
    (here / "one.bin").write_bytes(bytes(range(256)) * 16)
    (here / "empty").write_bytes(b"")
    (here / "deep" / "er").mkdir(parents=True)
    (here / "deep" / "er" / "x.txt").write_text("x")
    mlflow.log_artifact(str(here / "one.bin"))
    mlflow.log_artifact(str(here / "one.bin"), "sub/dir")
    mlflow.log_artifact(str(here / "empty"))
    mlflow.log_artifacts(str(here / "deep"), "tree")

    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [0, 1]})
    dataset = mlflow.data.from_pandas(frame, source="https://example.org/data.csv", name="points", targets="y")
    mlflow.log_input(dataset, context="training", tags={"part": "a"})
    mlflow.log_input(dataset, context="again")
    mlflow.log_input(mlflow.data.from_numpy(np.arange(6).reshape(3, 2), name="grid"), context="testing")
    seen.see("artifact uri", mlflow.get_artifact_uri())
    seen.see("artifact uri of a file", mlflow.get_artifact_uri("notes/hello.txt"))
seen.see("after the run", mlflow.active_run())
seen.see("last_active_run", mlflow.last_active_run().info.run_id == run.info.run_id)

got = mlflow.get_run(run.info.run_id)
seen.see("finished run", run_of(got))
seen.see("end after start", got.info.end_time >= got.info.start_time)
inputs = sorted(got.inputs.dataset_inputs, key=lambda i: i.dataset.name)
seen.see(
    "inputs",
    [
        [i.dataset.name, i.dataset.digest, i.dataset.source_type, json.loads(i.dataset.schema), json.loads(i.dataset.profile)]
        for i in inputs
    ],
)
seen.see("input sources", [json.loads(i.dataset.source).get("url", "code") for i in inputs])
seen.see("input tags", [sorted((t.key, t.value) for t in i.tags) for i in inputs])
seen.see("outputs", [o.model_id for o in got.outputs.model_outputs])
seen.see("loss history", [(m.value, m.step, recent(m.timestamp)) for m in client.get_metric_history(run.info.run_id, "loss")])
files = tree(lambda path: client.list_artifacts(run.info.run_id, path))
seen.see("files", [f for f in files if not f.startswith("images/")])
seen.see("image files", len([f for f in files if f.startswith("images/")]))
seen.see(
    "sizes", {f.path: f.file_size for f in client.list_artifacts(run.info.run_id) if f.path in ("one.bin", "empty", "page.html", "sub")}
)
seen.see("listed in order", [f.path for f in client.list_artifacts(run.info.run_id, "conf")])
seen.see("list of a file", [f.path for f in client.list_artifacts(run.info.run_id, "one.bin")])
seen.see("list of nothing", [f.path for f in client.list_artifacts(run.info.run_id, "nothing/here")])
seen.see("load_text", mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/hello.txt"))
seen.see("load_dict", mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/conf/a.json"))
seen.see("load_table", lambda: mlflow.load_table("table.json", run_ids=[run.info.run_id]).to_dict("list"))
down = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="sub/dir/one.bin"))
seen.see("binary comes back", down.read_bytes() == (here / "one.bin").read_bytes())
down = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"runs:/{run.info.run_id}/tree", dst_path=str(here / "got")))
seen.see("a folder comes back", sorted(str(p.relative_to(down)) for p in down.rglob("*") if p.is_file()))
(here / "all").mkdir()
down = Path(client.download_artifacts(run.info.run_id, "", str(here / "all")))
seen.see("everything comes back", len([p for p in down.rglob("*") if p.is_file()]))
for dots in (".", "./tree", "tree/."):
    down = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=dots))
    seen.see(f"{dots} comes back", len([p for p in down.rglob("*") if p.is_file()]))
    seen.see(f"list of {dots}", sorted(f.path.removeprefix("./") for f in client.list_artifacts(run.info.run_id, dots)))
down = here / "all"
seen.see("empty file comes back", (down / "empty").read_bytes() == b"")
with mlflow.start_run(run_name="odd names") as odd:
    for name in (
        "with spaces.txt",
        "ünïcode 漢.txt",
        "per%cent.txt",
        "a&b=c+d.txt",
        "hash#mark.txt",
        "semi;colon.txt",
        "quo'te.txt",
        "per%20cent.txt",
    ):
        (here / name).write_text(name)
        seen.see(f"odd name {name}: log_artifact", lambda n=name: mlflow.log_artifact(str(here / n), "odd"))
        seen.see(f"odd name {name}: comes back", lambda n=name: mlflow.artifacts.load_text(f"runs:/{odd.info.run_id}/odd/{n}"))
    seen.see("odd names are listed", lambda: sorted(f.path for f in client.list_artifacts(odd.info.run_id, "odd")))
    seen.see("odd names come back together", lambda: len(list(Path(client.download_artifacts(odd.info.run_id, "odd")).iterdir())))
seen.see("download of nothing", lambda: client.download_artifacts(run.info.run_id, "nothing.txt"))

with mlflow.start_run(run_id=run.info.run_id):
    mlflow.log_metric("later", 1)
seen.see("resumed run", {k: v for k, v in run_of(mlflow.get_run(run.info.run_id)).items() if k in ("status", "name", "ended")})

with mlflow.start_run(run_name="parent") as parent:
    seen.name(parent.info.run_id, "parent")
    for number in range(3):
        with mlflow.start_run(run_name=f"child {number}", nested=True) as child:
            mlflow.log_metric("score", number)
            with mlflow.start_run(run_name="grandchild", nested=True) as grand:
                seen.see(f"grandparent {number}", mlflow.get_parent_run(grand.info.run_id).info.run_id == child.info.run_id)
    seen.see("second run without nested", lambda: mlflow.start_run())
    seen.see(
        "children",
        [
            r.info.run_name
            for r in client.search_runs(
                [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", order_by=["metrics.score DESC"]
            )
        ],
    )
seen.see("parent of parent", mlflow.get_parent_run(parent.info.run_id))
seen.see("a child's tags", run_of(mlflow.get_run(child.info.run_id))["tags"])

try:
    with mlflow.start_run(run_name="fails") as failed:
        raise RuntimeError("on purpose")
except RuntimeError:
    seen.see("a raised error ends the run as", mlflow.get_run(failed.info.run_id).info.status)
killed = mlflow.start_run(run_name="killed")
mlflow.end_run("KILLED")
seen.see("end_run with a status", mlflow.get_run(killed.info.run_id).info.status)

with mlflow.start_run() as unnamed:
    pass
parts = unnamed.info.run_name.split("-")
seen.see("name given when there is none", [len(parts), parts[0].isalpha(), parts[1].isalpha(), parts[2].isdigit()])
seen.see("its tag says the same", mlflow.get_run(unnamed.info.run_id).data.tags["mlflow.runName"] == unnamed.info.run_name)

os.environ["MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"] = "1"
with mlflow.start_run(run_name="machine", log_system_metrics=True) as machine:
    time.sleep(3.5)
names = sorted(client.get_run(machine.info.run_id).data.metrics)
seen.see(
    "system metrics",
    [
        n
        for n in names
        if n in ("system/cpu_utilization_percentage", "system/system_memory_usage_megabytes", "system/disk_usage_percentage")
    ],
)
history = client.get_metric_history(machine.info.run_id, "system/cpu_utilization_percentage")
seen.see("system metrics have steps", [m.step for m in history][:2])

frame = mlflow.search_runs(
    experiment_names=["fluent"], order_by=["attributes.start_time ASC"], filter_string="attributes.run_name = 'first'"
)
columns = sorted(c for c in frame.columns if not c.startswith("tags.mlflow.source"))
seen.see("search_runs as a table", [len(frame), columns])
seen.see(
    "search_runs in all experiments", len(mlflow.search_runs(search_all_experiments=True, filter_string="attributes.run_name = 'first'"))
)
seen.see("search_runs of a missing experiment", lambda: len(mlflow.search_runs(experiment_names=["fluent none"])))
client.log_batch(run.info.run_id, metrics=[Metric("batch", 1.0, 1_700_000_000_000, 0)], params=[Param("bp", "1")], tags=[RunTag("bt", "1")])
data = client.get_run(run.info.run_id).data
seen.see("log_batch", [data.metrics["batch"], data.params["bp"], data.tags["bt"]])
mlflow.delete_run(killed.info.run_id)
seen.see("deleted run", mlflow.get_run(killed.info.run_id).info.lifecycle_stage)
seen.see("delete_experiment", mlflow.delete_experiment(mlflow.get_experiment_by_name("fluent made").experiment_id))
seen.see("set_experiment of a deleted one", lambda: mlflow.set_experiment("fluent made"))
seen.done()
