"""Counters of one worker, in plain dictionaries, rendered as Prometheus text when asked.

Bound labels are dictionary keys and a histogram is one list, so that an observation costs about a microsecond.
"""

from bisect import bisect_left

#: Upper bounds of the latency histogram, seconds.
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """What a worker counts."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.rows: dict[str, int] = {}
        self.challenger_errors: dict[str, int] = {}
        self.unlogged = 0
        self._latency: dict[str, list[float]] = {}

    def observe(self, endpoint: str, status: int, rows: int, seconds: float) -> None:
        """One answered request: its status, its rows, and how long it took in this process."""
        key = (endpoint, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.rows[endpoint] = self.rows.get(endpoint, 0) + rows
        buckets = self._latency.get(endpoint)
        if buckets is None:
            buckets = self._latency[endpoint] = [0.0] * (len(BOUNDS) + 2)
        buckets[bisect_left(BOUNDS, seconds)] += 1
        buckets[-1] += seconds

    def render(self, gauges: dict[str, float]) -> bytes:
        """Prometheus text exposition, with further gauges (`name → value`)."""
        lines = ["# TYPE treadle_gateway_requests_total counter"]
        lines += [
            f'treadle_gateway_requests_total{{endpoint="{_escaped(endpoint)}",status="{status}"}} {count}'
            for (endpoint, status), count in sorted(self.requests.items())
        ]
        for name, counts in (("rows", self.rows), ("challenger_errors", self.challenger_errors)):
            lines.append(f"# TYPE treadle_gateway_{name}_total counter")
            lines += [f'treadle_gateway_{name}_total{{endpoint="{_escaped(endpoint)}"}} {n}' for endpoint, n in sorted(counts.items())]
        lines.append("# TYPE treadle_gateway_unlogged_total counter")
        lines.append(f"treadle_gateway_unlogged_total {self.unlogged}")
        lines.append("# TYPE treadle_gateway_latency_seconds histogram")
        for endpoint, buckets in sorted(self._latency.items()):
            label, below = f'endpoint="{_escaped(endpoint)}"', 0
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), buckets, strict=False):
                below += int(count)
                lines.append(f'treadle_gateway_latency_seconds_bucket{{{label},le="{bound}"}} {below}')
            lines.append(f"treadle_gateway_latency_seconds_sum{{{label}}} {buckets[-1]:.6f}")
            lines.append(f"treadle_gateway_latency_seconds_count{{{label}}} {below}")
        for name, value in gauges.items():
            lines += [f"# TYPE treadle_gateway_{name} gauge", f"treadle_gateway_{name} {value:g}"]
        return ("\n".join(lines) + "\n").encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
