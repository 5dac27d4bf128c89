"""`make bench`: every benchmark in turn, or those named: `python -m bench steps imports`."""

import importlib
import sys

#: In the order in which a reader of docs/benchmarks.md meets them; `demo` is the longest.
ALL = ("imports", "steps", "data", "features", "prediction", "server", "tracking", "sdk", "policy", "demo")


def main(names: list[str]) -> int:
    """Run benchmarks by name, all where none is named."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    for name in names or ALL:
        print(f"── bench.{name} ".ljust(100, "─"), flush=True)
        sys.argv = [f"bench.{name}"]  # a benchmark run by itself takes options of its own
        importlib.import_module(f"bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
