"""Watching a training from inside: statistics of tensors, compact enough to be taken all the way.

`Watch` takes arrays of NumPy, anything NumPy can read, and PyTorch's tensors (without importing PyTorch). A tensor is looked at every
so many steps, large ones on evenly spaced elements; after `MOST` looks the interval doubles and so on, so that a run of a million steps
leaves a bounded number of points. What has been seen goes to the run's metrics, and with histogram and quantiles into one table.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from treadle.records.errors import TreadleError
from treadle.records.insides import kind_of

#: Elements that are looked at; looks after which the interval doubles; bars of the histogram; the quantiles of the sketch.
SAMPLE, MOST, BINS = 16_384, 500, 20
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
#: Where the table stands among the run's files.
TABLE = "debug/tensors.parquet"
#: Rows that a unit is looked at on, at least.
_ROWS = 64
#: Rows of the table after which it is kept for the first time, and then whenever it has doubled.
_FIRST = 256
KINDS = ("weight", "gradient", "activation", "tensor")


def statistics(
    array: Any, *, bounds: tuple[float, float] | None = None, saturated: float = 0.99, activation: bool = False
) -> dict[str, Any]:
    """What is kept of an array: numbers by name, and `quantiles`, `counts` and `edges` of its finite values.

    Args:
        array: of any shape; units are its last axis, rows its first.
        bounds: the range of a bounded activation; a value within 1 - `saturated` of the half range from an end is saturated.
        saturated: without bounds, a value of an activation in [-1, 1] that is further from 0 than this is saturated.
        activation: whether `saturated` and `dead` (share of units that are 0 for every row) are asked for.

    Raises:
        TreadleError: not an array of numbers.

    >>> told = statistics([[0.0, 1.0], [0.0, -1.0]], activation=True)
    >>> told["mean"], told["norm"], told["zeros"], told["saturated"], told["dead"]
    (0.0, 1.4142135623730951, 0.5, 0.5, 0.5)
    """
    import numpy as np  # noqa: PLC0415  (a script that watches nothing does not wait for it)

    shape = tuple(int(n) for n in getattr(array, "shape", None) or np.shape(array))
    flat, size = _sampled(array)
    values = flat.astype(np.float64, copy=False)
    finite = values[np.isfinite(values)]
    told: dict[str, Any] = {"size": size, "sampled": len(values), "shape": list(shape)}
    told["nan"] = 1 - len(finite) / len(values) if len(values) else 0.0
    if not len(finite):
        return {**told, **dict.fromkeys(("mean", "std", "min", "max", "norm"), math.nan), "zeros": 0.0}
    least, most = float(finite.min()), float(finite.max())
    with np.errstate(over="ignore", under="ignore"):
        told |= {"mean": float(finite.mean()), "std": float(finite.std()), "min": least, "max": most}
        told["norm"] = float(np.linalg.norm(finite)) * math.sqrt(size / len(values))
        told["zeros"] = float(np.mean(finite == 0))
        quantiles = np.quantile(finite, QUANTILES)
        span = most / BINS - least / BINS  # of a bar; halves of what overflows
        bars = np.minimum((finite - least) / span, BINS - 1) if span > 0 and math.isfinite(most - least) else np.zeros(len(finite))
        counts = np.bincount(bars.astype(np.int64), minlength=BINS)
        edges = [least + i * span for i in range(BINS)] + [most]
    told |= {"quantiles": [float(q) for q in quantiles], "counts": [int(c) for c in counts], "edges": edges}
    if activation:
        told |= _activation(np, array, shape, finite, bounds, saturated)
    return told


def _sampled(array: Any) -> tuple[Any, int]:
    """(at most `SAMPLE` evenly spaced elements as a flat array of NumPy, how many there are); only those leave a graphics processor."""
    import numpy as np  # noqa: PLC0415

    if hasattr(array, "detach"):  # PyTorch's
        flat = array.detach().reshape(-1)
        size = int(flat.shape[0])
        return _numbers(np.asarray(flat[:: _stride(size)].float().cpu().numpy())), size
    flat = _numbers(np.asarray(array)).reshape(-1)
    chosen = flat[:: _stride(flat.size)]
    if len(chosen) < flat.size and flat.dtype.kind == "f" and np.isfinite(chosen).all() and not np.isfinite(flat).all():
        chosen = np.concatenate([chosen, flat[~np.isfinite(flat)][:1]])  # one NaN among millions is seen
    return chosen, int(flat.size)


def _stride(size: int) -> int:
    """Odd, so that it does not run along with rows of even length."""
    return 1 if size <= SAMPLE else -(-size // SAMPLE) | 1


def _numbers(array: Any) -> Any:
    if array.dtype.kind not in "fiub":
        raise TreadleError(
            f"An array of {array.dtype} cannot be watched.", remedy="Give numbers: weights, gradients or activations of a layer."
        )
    return array


def _activation(
    np: Any, array: Any, shape: tuple[int, ...], finite: Any, bounds: tuple[float, float] | None, saturated: float
) -> dict[str, float]:
    told: dict[str, float] = {}
    if bounds is not None:
        low, high = bounds
        margin = (1 - saturated) * (high - low) / 2
        told["saturated"] = float(np.mean((finite <= low + margin) | (finite >= high - margin)))
    elif float(np.abs(finite).max()) <= 1:
        told["saturated"] = float(np.mean(np.abs(finite) > saturated))
    if len(shape) > 1 and shape[0] > 1 and shape[-1]:
        rows = array.detach() if hasattr(array, "detach") else np.asarray(array)
        rows = rows.reshape(-1, shape[-1])
        rows = rows[:: min(_stride(int(rows.shape[0]) * shape[-1]), max(1, int(rows.shape[0]) // _ROWS))]
        alive = (rows != 0).any(0)
        alive = alive.cpu().numpy() if hasattr(alive, "cpu") else alive
        told["dead"] = 1 - float(np.mean(alive))
    return told


class Watch:
    """The tensors that one run watches.

    Args:
        log: takes metrics and their step.
        keep: takes the table (a list of rows) and where it is to stand.
        every: steps between two looks at a tensor.
    """

    def __init__(self, log: Callable[[Mapping[str, Any], int], None], keep: Callable[[list[dict[str, Any]], str], None], every: int = 10):
        self._log, self._keep, self.every = log, keep, every
        self._rows: list[dict[str, Any]] = []
        self._kept = 0
        self._looks: dict[str, tuple[int, int]] = {}  # name → (looks, step of the next)
        self._calls: dict[str, int] = {}

    def see(
        self,
        name: str,
        array: Any,
        step: int | None,
        *,
        kind: str | None,
        every: int | None,
        bounds: tuple[float, float] | None,
        saturated: float,
    ) -> bool:
        """Look at a tensor, if it is its turn; whether it was."""
        name = _named(name, kind)
        if step is None:
            step = self._calls.get(name, 0)
            self._calls[name] = step + 1
        looks, due = self._looks.get(name, (0, step))
        if step < due:
            return False
        interval = (every or self.every) * 2 ** (looks // MOST)
        told = statistics(array, bounds=bounds, saturated=saturated, activation=kind_of(name) == "activation")
        self._looks[name] = (looks + 1, step + interval)
        numbers = ("mean", "std", "min", "max", "norm", "zeros", "saturated", "dead", "nan")
        self._log({f"watch/{name}/{key}": told[key] for key in numbers if key in told}, step)
        self._rows.append({"name": name, "kind": kind_of(name), "step": step, **told})
        if len(self._rows) >= max(_FIRST, 2 * self._kept):
            self.flush()
        return True

    def flush(self) -> None:
        """Keep the table as it is now."""
        if len(self._rows) > self._kept:
            self._kept = len(self._rows)
            columns = list(dict.fromkeys(key for row in self._rows for key in row))
            self._keep([{key: row.get(key) for key in columns} for row in self._rows], TABLE)


def _named(name: str, kind: str | None) -> str:
    if not name.strip("/") or len(name) > 200:
        raise TreadleError(f"{name[:80]!r} is no name of a tensor.", remedy="Name it after its layer: 'dense1/gradient'.")
    if kind is not None and kind not in KINDS:
        raise TreadleError(f"There is no kind {kind!r} of tensor.", remedy=f"Write one of {', '.join(KINDS)}.")
    return name if kind in (None, kind_of(name)) else f"{name}/{kind}"
