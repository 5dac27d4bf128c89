"""`mlflow models serve` of a model that lies on the server: bounded, on loopback, stopped afterwards."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pandas as pd
import requests
from observing import Observed, without_guessing
from sklearn.linear_model import LinearRegression

import mlflow

seen = Observed()
without_guessing()
mlflow.set_experiment("serve")
x = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})
with mlflow.start_run():
    mlflow.sklearn.log_model(LinearRegression().fit(x, [1.0, 2.0, 3.0]), name="m", input_example=x.iloc[:1], registered_model_name="served")
seen.client.set_registered_model_alias("served", "live", 1)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
log = tempfile.TemporaryFile()
command = [
    sys.executable,
    "-W",
    "ignore",
    "-m",
    "mlflow",
    "models",
    "serve",
    "-m",
    "models:/served@live",
    "--env-manager",
    "local",
    "--host",
    "127.0.0.1",
    "--port",
    str(port),
    "--workers",
    "1",
]
server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
try:
    end = time.monotonic() + 120
    ready = False
    while not ready and time.monotonic() < end and server.poll() is None:
        try:
            ready = requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).status_code == 200
        except requests.RequestException:
            time.sleep(0.3)
    seen.see("it serves", ready)
    answer = requests.post(f"http://127.0.0.1:{port}/invocations", json={"dataframe_split": x.to_dict("split")}, timeout=60)
    seen.see("status", answer.status_code)
    seen.see("predictions", [round(v, 6) for v in answer.json()["predictions"]])
    bad = requests.post(f"http://127.0.0.1:{port}/invocations", json={"dataframe_split": {"columns": ["z"], "data": [[1]]}}, timeout=60)
    seen.see("a bad frame", bad.status_code)
finally:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    server.wait(30)
    if not seen.items.get("it serves"):
        log.seek(0)
        sys.stderr.write(log.read().decode(errors="replace")[-3000:])
seen.done()
