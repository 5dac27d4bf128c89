"""`python -m treadle.gateway --home HOME --project P --env E --port N`: a gateway alone, without the command line of the control plane."""

import argparse
import logging
import socket
import sys

import msgspec

from treadle.gateway import run
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.serving.segments import CAPACITY


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; 0 after a clean end, 1 for an error told on stderr."""
    parser = argparse.ArgumentParser(prog="python -m treadle.gateway", description=run.__doc__)
    parser.add_argument("--home", default=".treadle")
    parser.add_argument("--project", default="")
    parser.add_argument("--env", default="")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--durability", default="batch", choices=["batch", "ack"])
    parser.add_argument("--allow-host", action="append", default=[])
    parser.add_argument("--segment-bytes", type=int, default=CAPACITY)
    parser.add_argument("--worker", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--settings", default="", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        if given.worker >= 0:
            settings = msgspec.json.decode(given.settings, type=run.Settings)
            run.serve(settings, socket.socket(fileno=given.worker), announce=False)
        elif not given.project or not given.env:
            parser.error("--project and --env say what to serve")
        else:
            run.run_gateway(
                Layout(given.home),
                given.project,
                given.env,
                given.host,
                given.port,
                given.workers,
                durability=given.durability,
                allow_hosts=given.allow_host,
                segment_bytes=given.segment_bytes,
            )
    except TreadleError as error:
        print(f"error: {error.what}\n  {error.remedy}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
