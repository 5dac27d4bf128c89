"""What people do around their training code: the command line, projects, files in parts, several processes at once, runs gone on with."""

import os

os.environ |= {
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",  # where the server says that it takes files in parts; else they come whole
    "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "6000000",
    "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": "5242880",
}

import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlflow.exceptions import MlflowException
from observing import Observed, model_of, tree

import mlflow

logging.disable(logging.ERROR)
seen = Observed()
client = seen.client
here = Path.cwd()
experiment = seen.name(mlflow.set_experiment("workflows").experiment_id, "experiment")
ALIKE = re.compile(r"\d{4}-\d\d-\d\d[ T][\d:., ]+(?:UTC)?|\b\d{10,}\b|\b\d\d?(?= has been)")

# ── runs that begin with odd tags, end, and are gone on with ─────────────────────────────────────────────────────────

with mlflow.start_run(run_name="odd", tags={"team@site": "1", "user (x)": "y", "é*": "z"}) as run:
    mlflow.log_metric("m", 1)
    mlflow.log_text("hello", "d/a.txt")
run_id = seen.name(run.info.run_id, "run")
seen.see("tags of any name", {k: v for k, v in client.get_run(run_id).data.tags.items() if not k.startswith("mlflow.")})
seen.see("found by one", lambda: [r.info.run_name for r in client.search_runs([experiment], "tags.`team@site` = '1'")])
client.set_terminated(run_id, "FINISHED", 1_700_000_000_000)
client.update_run(run_id, status="FAILED")
seen.see("a new status keeps the end", client.get_run(run_id).info.end_time)
with mlflow.start_run(run_id=run_id):
    mlflow.log_metric("later", 1)
info = client.get_run(run_id).info
seen.see("gone on with", [info.status, info.end_time > 1_700_000_000_000, client.get_run(run_id).data.metrics])
client.delete_run(run_id)
seen.see("a deleted run is not gone on with", lambda: mlflow.start_run(run_id=run_id))
while mlflow.active_run():
    mlflow.end_run()
client.restore_run(run_id)

# ── files in parts ───────────────────────────────────────────────────────────────────────────────────────────────────

content = os.urandom(1 << 16) * 257
(here / "big one.bin").write_bytes(content)
(here / "many" / "in").mkdir(parents=True)
(here / "many" / "in" / "part.bin").write_bytes(content[:7_000_000])
(here / "many" / "small.txt").write_text("s")
client.log_artifact(run_id, str(here / "big one.bin"), "parts")
client.log_artifacts(run_id, str(here / "many"), "many")
seen.see("files", lambda: tree(lambda path: client.list_artifacts(run_id, path)))
seen.see("sizes", lambda: [f.file_size for f in client.list_artifacts(run_id, "parts")])
seen.see("the same bytes", lambda: Path(client.download_artifacts(run_id, "parts/big one.bin")).read_bytes() == content)
seen.see("of a folder", lambda: Path(client.download_artifacts(run_id, "many"), "in", "part.bin").read_bytes() == content[:7_000_000])

# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────


def command(*words: str):
    done = subprocess.run([sys.executable, "-m", "mlflow", *words], capture_output=True, text=True, timeout=120)
    return [done.returncode, ALIKE.sub("#", done.stdout).replace(str(here), "<here>")]


seen.see("runs list", lambda: command("runs", "list", "--experiment-id", experiment))
seen.see("runs delete", lambda: command("runs", "delete", "--run-id", run_id))
seen.see("runs list deleted", lambda: command("runs", "list", "--experiment-id", experiment, "--view", "deleted_only"))
seen.see("runs restore", lambda: command("runs", "restore", "--run-id", run_id))
seen.see("experiments search", lambda: "workflows" in command("experiments", "search")[1])
seen.see("experiments create one that is there", lambda: command("experiments", "create", "-n", "workflows")[0])
other = client.create_experiment("workflows, other")
seen.see("experiments rename", lambda: command("experiments", "rename", "--experiment-id", other, "--new-name", "workflows, renamed")[0])
seen.see("experiments csv", lambda: len(command("experiments", "csv", "-x", experiment)[1].splitlines()))
seen.see("artifacts list", lambda: command("artifacts", "list", "--run-id", run_id, "--artifact-path", "d"))
seen.see("artifacts download", lambda: command("artifacts", "download", "--artifact-uri", f"runs:/{run_id}/d", "--dst-path", "down")[0])
seen.see("artifacts downloaded", lambda: (here / "down" / "d" / "a.txt").read_text())
seen.see("artifacts log", lambda: command("artifacts", "log-artifact", "--local-file", "many/small.txt", "--run-id", run_id)[0])

project = here / "project"
project.mkdir()
(project / "MLproject").write_text(
    'name: p\nentry_points:\n  main:\n    parameters:\n      a: {type: float, default: 0.5}\n    command: "python main.py {a}"\n'
)
(project / "main.py").write_text("import sys, mlflow\nwith mlflow.start_run():\n    mlflow.log_param('given', sys.argv[1])\n")
seen.see("run a project", lambda: command("run", "project", "--env-manager", "local", "--experiment-id", experiment, "-P", "a=0.25")[0])
seen.see(
    "the project's run",
    lambda: [
        [r.info.status, r.data.params, sorted(k for k in r.data.tags if k.startswith("mlflow.project."))]
        for r in client.search_runs([experiment], "params.given = '0.25'")
    ],
)

# ── several at once ──────────────────────────────────────────────────────────────────────────────────────────────────


def at_once(work, count: int = 8) -> list[str]:
    def one(number: int) -> str:
        try:
            work(number)
        except MlflowException as error:
            return error.error_code
        return "done"

    with ThreadPoolExecutor(count) as pool:
        return sorted(pool.map(one, range(count)))


seen.see("an experiment made eight times", at_once(lambda _: client.create_experiment("workflows, race")))
script = "import mlflow, sys; mlflow.set_experiment(sys.argv[1]); mlflow.start_run(); mlflow.log_metric('many', 1); mlflow.end_run()"
processes = [subprocess.Popen([sys.executable, "-c", script, "workflows, many"], stderr=subprocess.DEVNULL, stdout=2) for _ in range(2)]
seen.see("two processes set a new experiment", [process.wait(120) for process in processes])
many = client.get_experiment_by_name("workflows, many").experiment_id
# The client that comes second to make it goes on in the default experiment: it forgets to set the one that it then finds.
found = client.search_runs([many, "0"], "metrics.many = 1")
seen.see("and log to it", [{"x": r.data.metrics["many"]} for r in found])
racing = client.create_run(experiment, run_name="racing").info.run_id
seen.see("a metric logged by eight", at_once(lambda n: client.log_metric(racing, "m", n, step=n)))
seen.see("its history", lambda: sorted(m.value for m in client.get_metric_history(racing, "m")))
seen.see("a parameter logged by eight", at_once(lambda n: client.log_param(racing, "p", n)))
client.create_registered_model("workflows")
seen.see("eight versions", at_once(lambda _: client.create_model_version("workflows", "s3://bucket/model")))
seen.see("their numbers", lambda: sorted(int(v.version) for v in client.search_model_versions("name = 'workflows'")))

# ── a version of each kind of address ────────────────────────────────────────────────────────────────────────────────

model = seen.name(client.create_logged_model(experiment, "plain", source_run_id=run_id).model_id, "model")
client.set_registered_model_alias("workflows", "champion", 2)
seen.see("of a logged model", lambda: model_of(mlflow.register_model(f"models:/{model}", "workflows of")))
seen.see("of a version", lambda: model_of(mlflow.register_model("models:/workflows/1", "workflows of")))
seen.see("a copy by alias", lambda: model_of(client.copy_model_version("models:/workflows@champion", "workflows copied")))
seen.see("a copy of a copy", lambda: model_of(client.copy_model_version("models:/workflows copied/1", "workflows copied")))
seen.see("of a run that is not there", lambda: mlflow.register_model(f"runs:/{'0' * 32}/model", "workflows of"))
seen.see("of an address without its run", lambda: client.create_model_version("workflows of", f"runs:/{'0' * 32}/model").source)
seen.see("of everything", lambda: client.create_model_version("workflows of", "mlflow-artifacts:/"))
seen.see("how many there are", lambda: len(client.search_model_versions("name = 'workflows of'")))
seen.see("a long page of logged models", lambda: len(client.search_logged_models([experiment], max_results=20_000)))
seen.done()
