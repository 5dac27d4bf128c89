"""The control plane: how fast `treadle up` is ready, what it weighs idle, and what one call costs the server.

Time to the first answer of a fresh home's API; PSS of all its processes after ten idle seconds; CPU of the server process per call,
with one client that waits for each answer. MLflow's figures beside it are those of docs/benchmarks.md (same machine class).
Budgets (DESIGN §7): ready under 2 s; under 250 MB PSS with no endpoint loaded; 10 times less server CPU than MLflow.

    python -m bench.server [--calls 300]
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from treadle.client import Client
from treadle.operations.ledger import CreateRun, GetRun, ListRuns, LogMetrics, WhoAmI
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.ledger import Metric
from treadle.workshop.supervisor import living

MLFLOW = {"create a run": 11.6, "log one metric": 7.4, "log 1,000 metrics": 87.0}
TICK = 100  # clock ticks a second in /proc


def cpu_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / TICK


def pss_mb(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=300)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder) / "home")
        began = time.perf_counter()
        command = [sys.executable, "-m", "treadle", "up", "--home", str(layout.root), "--port", "0"]
        up = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            measure(layout, up, began, calls)
        finally:
            up.send_signal(signal.SIGTERM)
            began = time.perf_counter()
            up.wait(60)
            print(f"{'all down after SIGTERM':34}{time.perf_counter() - began:8.2f} s")


def measure(layout: Layout, up: subprocess.Popen[str], began: float, calls: int) -> None:
    client, server = first_answer(layout)
    print(f"{'first answer':34}{time.perf_counter() - began:8.2f} s     budget 2")
    for line in up.stdout or ():
        if line.startswith("Ready"):
            print(f"{'everything ready':34}{time.perf_counter() - began:8.2f} s     {line.strip()}")
            break
    time.sleep(10)
    weights = {note.name: pss_mb(note.pid) for note in living(layout)} | {"supervisor": pss_mb(up.pid)}
    shown = ", ".join(f"{name} {mb:.0f}" for name, mb in weights.items())
    print(f"{'idle memory (PSS)':34}{sum(weights.values()):8.0f} MB    budget 250   ({shown})")
    idle = cpu_ms(server), time.perf_counter()
    time.sleep(3)
    print(f"{'idle CPU of the server':34}{(cpu_ms(server) - idle[0]) / (time.perf_counter() - idle[1]) / 10:8.2f} %")
    client.call(CreateRun(project="bench", run_id="run"))
    thousand = [Metric(key=f"m{i}", value=i / 7) for i in range(1000)]
    numbers = iter(range(10**9))
    cases = {
        "who am I": (calls, lambda: client.call(WhoAmI())),
        "create a run": (calls, lambda: client.call(CreateRun(project="bench", run_id=f"run_{next(numbers)}"))),
        "log one metric": (
            calls,
            lambda: client.call(LogMetrics(project="bench", run_id="run", metrics=[Metric(key="auc", value=0.5, step=next(numbers))])),
        ),
        "log 1,000 metrics": (
            max(20, calls // 10),
            lambda: client.call(LogMetrics(project="bench", run_id=f"run_{next(numbers) % 20 + 0}", metrics=thousand)),
        ),
        "get a run": (calls, lambda: client.call(GetRun(project="bench", run_id="run"))),
        "list 50 runs": (calls, lambda: client.call(ListRuns(project="bench"))),
    }
    for name, (times, call) in cases.items():
        before, start = cpu_ms(server), time.perf_counter()
        for _ in range(times):
            call()
        wall, cpu = (time.perf_counter() - start) * 1000 / times, (cpu_ms(server) - before) / times
        beside = f"MLflow {MLFLOW[name]} ms, {MLFLOW[name] / max(cpu, 0.01):.0f} times" if name in MLFLOW else ""
        print(f"{name:34}{cpu:8.2f} ms CPU, {wall:.2f} ms wall   {beside}")
    client.close()


def first_answer(layout: Layout) -> tuple[Client, int]:
    while True:
        note = next((n for n in living(layout) if n.name == "server"), None)
        if note is not None:
            client = Client(note.url, attempts=1)
            try:
                client.call(WhoAmI())
            except TreadleError:
                client.close()
            else:
                return client, note.pid
        time.sleep(0.01)


if __name__ == "__main__":
    main()
