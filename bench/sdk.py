"""What logging costs a script: CPU of the whole process, threads included, beside the same work without logging.

The script sleeps in slices of 10 ms and logs a metric after each: nearly 100 a second, to a server on this machine and into a home
of its own, the machine measured every ten seconds as by default. Two figures: the CPU that logging adds, as a share of the
run's wall time (what a training that keeps one core busy loses), and the microseconds that one call of `run.log` takes. The
budget is 1 % of the training.

    python -m bench.sdk [--seconds 20]
"""

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from treadle.records.layout import Layout
from treadle.workshop.sdk import run
from treadle.workshop.supervisor import living

SLICE = 0.01


def cpu() -> float:
    """CPU seconds of this process."""
    return time.process_time()


def idle(seconds: float) -> float:
    """CPU seconds of the loop alone."""
    start = cpu()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(SLICE)
    return cpu() - start


def logged(seconds: float, home: Path, url: str | None) -> tuple[float, list[float]]:
    """CPU seconds of the loop with logging (opening and closing the run left out), and the seconds each call took."""
    calls: list[float] = []
    with run("bench", home=home, url=url) as here:
        time.sleep(4)  # the home is opened, the first entries are sent
        start = cpu()
        end = time.perf_counter() + seconds
        step = 0
        while time.perf_counter() < end:
            time.sleep(SLICE)
            before = time.perf_counter()
            here.log({"loss": 1 / (step + 1)}, step)
            calls.append(time.perf_counter() - before)
            step += 1
        spent = cpu() - start
    return spent, calls


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        server = subprocess.Popen([sys.executable, "-m", "treadle", "server", "--home", str(home), "--port", "0"])
        try:
            note = None
            while note is None:
                note = next((n for n in living(Layout(home)) if n.name == "server"), None)
                time.sleep(0.05)
            for name, url, place in (("to a server", note.url, home), ("into a home", None, Path(folder) / "own")):
                alone = idle(seconds)
                spent, calls = logged(seconds, place, url)
                share = (spent - alone) / seconds
                print(
                    f"{name:14}{len(calls) / seconds:5.0f} metrics a second  {share:7.2%} of a core   budget 1%   "
                    f"one call {statistics.median(calls) * 1e6:.0f} µs (99 %: {sorted(calls)[int(len(calls) * 0.99)] * 1e6:.0f} µs)"
                )
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


if __name__ == "__main__":
    main()
