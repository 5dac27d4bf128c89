"""What it costs to start: `import treadle` and `treadle --help`, beside a bare interpreter and click alone.

CPU seconds of a child process (user + system), median of several; wall time says little on a shared machine.
Budgets (DESIGN §7): 100 ms for the import, 200 ms for the help.

    python -m bench.imports [--rounds 9]
"""

import argparse
import os
import statistics
import subprocess
import sys

HEAVY = ("sqlalchemy", "polars", "numpy", "pyarrow", "sklearn", "lightgbm", "onnxruntime", "starlette", "uvicorn", "rich", "click")
CASES = {
    "python -c pass": (["-c", "pass"], None),
    "import click": (["-c", "import click"], None),
    "import treadle": (["-c", "import treadle"], 100),
    "treadle --help": (["-m", "treadle", "--help"], 200),
    "treadle run --help": (["-m", "treadle", "run", "--help"], None),
    "import treadle.client": (["-c", "import treadle.client"], None),
    "import treadle.workshop (all rooms)": (["-c", "import treadle.workshop.home"], None),
}


def cpu(arguments: list[str]) -> float:
    """CPU seconds of one child."""
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{arguments} ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime


def loaded(arguments: list[str]) -> list[str]:
    """The heavy libraries that a child imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    return [name for name in HEAVY if name in modules]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(f"{'':38}{'CPU ms':>8}{'- bare':>8}{'budget':>8}  loads")
    bare = 0.0
    for name, (arguments, budget) in CASES.items():
        ms = statistics.median(cpu(arguments) for _ in range(rounds)) * 1000
        bare = bare or ms
        verdict = "" if budget is None else f"{budget}{'' if ms <= budget else ' !'}"
        print(f"{name:38}{ms:8.0f}{ms - bare:8.0f}{verdict:>8}  {', '.join(loaded(arguments))}")


if __name__ == "__main__":
    main()
