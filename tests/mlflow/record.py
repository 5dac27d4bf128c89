"""Record what a stock `mlflow server` answers to the scripts: the oracle Treadle is compared with.

    make clients
    .venv/bin/python tests/mlflow/record.py [--release new|old] [--twice] [SCRIPT ...]

Starts the server of the same release from the client's own environment (SQLite, proxied artifacts, loopback), runs each script and writes
expected/<script>.<release>.json. With --twice every script is run against two fresh servers and what differs is printed: such an item is
none to compare by.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from clients import ENDED, HERE, RELEASES, SCRIPTS, environment, observe, python, recorded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=", ".join(SCRIPTS))
    parser.add_argument("--release", choices=RELEASES, action="append")
    parser.add_argument("--twice", action="store_true")
    asked = parser.parse_args()
    (HERE / "expected").mkdir(exist_ok=True)
    for release in asked.release or RELEASES:
        answers = [take(release, asked.scripts or SCRIPTS) for _ in range(1 + asked.twice)]
        for script, items in answers[-1].items():
            for name in items if asked.twice else ():
                if items[name] != answers[0][script].get(name):
                    print(f"unsteady: {script} {release}: {name}: {answers[0][script].get(name)} / {items[name]}")
            lines = [f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(seen, ensure_ascii=False)}" for name, seen in items.items()]
            recorded(release, script).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def take(release: str, scripts: list[str]) -> dict[str, dict[str, object]]:
    taken = {}
    with tempfile.TemporaryDirectory() as folder, stock(release, Path(folder)) as server:
        for script in scripts:
            began = time.monotonic()
            seen = observe(release, script, server, Path(folder) / script)
            if ENDED in seen:
                raise SystemExit(f"{script}.py: {seen[ENDED]}")
            taken[script] = seen
            print(f"{RELEASES[release]:8}{script:18}{len(taken[script]):5} items {time.monotonic() - began:6.1f} s", flush=True)
    return taken


@contextlib.contextmanager
def stock(release: str, folder: Path) -> Iterator[str]:
    """A stock server of the release; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python(release), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder / "artifacts"]
    variables = environment(release, folder / "server") | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen([str(word) for word in command], env=variables, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, server)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()


def wait_for(url: str, server: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        time.sleep(0.2)
    raise SystemExit(f"{' '.join(map(str, server.args))} did not start")


if __name__ == "__main__":
    main()
