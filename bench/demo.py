"""The demo as a whole: wall time, peak memory, and where its time goes, beside the budget of three minutes on two cores."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

BUDGET_SECONDS = 180.0


def main() -> None:
    """Run `treadle demo` in a folder of its own and print its figures."""
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
        done = subprocess.run([sys.executable, "-m", "treadle", "demo", "--build", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"the demo failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        summary = json.loads((Path(folder) / "summary.json").read_text())
    seconds, requests = summary["wall_seconds"], summary["predictions"]["acknowledged"]
    print(f"wall {seconds:.0f} s, {seconds / BUDGET_SECONDS:.2f} of the budget; peak {summary['peak_rss_mb']} MB over all processes")
    print(f"{requests:,} predictions over HTTP; stages (s): {summary['stages']}")


if __name__ == "__main__":
    main()
