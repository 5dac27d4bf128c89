"""Real MLflow clients: where their environments are, how a script is run in one, and what a stock server answered it.

`make clients` makes the environments under build/clients from requirements-new.txt and requirements-old.txt. The scripts lie in scripts/,
the answers of a stock server in expected/, recorded by record.py.
"""

import json
import os
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILT = HERE.parents[1] / "build" / "clients"
RELEASES = {
    name: re.search(r"^mlflow==(\S+)", (HERE / f"requirements-{name}.txt").read_text(), re.MULTILINE).group(1)  # type: ignore[union-attr]
    for name in ("new", "old")
}
#: Longest first, so that two at a time end together.
SCRIPTS = (
    "autolog",
    "models",
    "serve",
    "evaluate",
    "workflows",
    "fluent",
    "async_logging",
    "limits",
    "runs_search",
    "other_searches",
    "registry",
    "wire",
    "bad_input",
    "lifecycle",
    "metrics",
    "prompts_traces",
)
SECONDS = 280
ENDED = "the script ended with"


def python(release: str) -> Path:
    return BUILT / f"mlflow-{release}" / "bin" / "python"


def environment(release: str, folder: Path) -> dict[str, str]:
    """What a client runs with: nothing leaves the machine, nothing is tried for long, no file outside its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    return kept | {
        "PATH": f"{python(release).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LOGNAME": "tester",
        "USER": "tester",
        "DO_NOT_TRACK": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(BUILT / "matplotlib"),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }


def observe(release: str, script: str, server: str, folder: Path) -> dict[str, object]:
    """What the script saw of a server; the item `ENDED` is there when it failed on the way.

    Raises:
        AssertionError: the script saw nothing; the text is the end of what it said.
    """
    variables = environment(release, folder) | {"MLFLOW_TRACKING_URI": server}
    command = [str(python(release)), str(HERE / "scripts" / f"{script}.py")]
    done = subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stdout, f"{script}.py with mlflow {RELEASES[release]} against {server} failed:\n{done.stderr[-4000:]}"
    seen = json.loads(done.stdout)
    if ENDED in seen:
        seen[ENDED]["where"] = done.stderr[-3000:]
    return seen


def recorded(release: str, script: str) -> Path:
    return HERE / "expected" / f"{script}.{RELEASES[release]}.json"
