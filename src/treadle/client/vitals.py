"""What the machine does while a run goes on: processor, memory, disk, network, and graphics processors where there are any."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import psutil

log = logging.getLogger("treadle.client")

_MB = 1024 * 1024


class Vitals:
    """A thread that measures every so many seconds and hands the values on.

    Values of the machine are named `system/…`, of this process and its children `process/…`; shares are percent (of one core for
    `process/cpu_percent`), sizes megabytes (2^20 bytes), disk and network since the run began.

    Args:
        tell: what is called with name → value.
        every: seconds between measurements.
    """

    def __init__(self, tell: Callable[[dict[str, float]], None], *, every: float):
        self._tell = tell
        self._every = every
        self._process = psutil.Process()
        self._disk, self._net = psutil.disk_io_counters(), psutil.net_io_counters()
        self._gpus = _gpus()
        self._over = threading.Event()
        psutil.cpu_percent()
        self._process.cpu_percent()
        self._thread = threading.Thread(target=self._run, name="treadle-vitals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """One last measurement, and no more."""
        self._over.set()
        self._thread.join(5)

    def _run(self) -> None:
        while True:
            over = self._over.wait(self._every)
            try:
                self._tell(self.measure())
            except (psutil.Error, OSError) as error:
                log.warning("the machine could not be measured: %s", error)
            if over:
                return

    def measure(self) -> dict[str, float]:
        """All values now."""
        memory = psutil.virtual_memory()
        found = {
            "system/cpu_percent": psutil.cpu_percent(),
            "system/memory_percent": memory.percent,
            "system/memory_used_mb": memory.used / _MB,
            "process/cpu_percent": self._process.cpu_percent(),
            "process/memory_mb": self._process.memory_info().rss / _MB,
        }
        disk, net = psutil.disk_io_counters(), psutil.net_io_counters()
        if disk is not None and self._disk is not None:
            found["system/disk_read_mb"] = (disk.read_bytes - self._disk.read_bytes) / _MB
            found["system/disk_written_mb"] = (disk.write_bytes - self._disk.write_bytes) / _MB
        if net is not None and self._net is not None:
            found["system/network_received_mb"] = (net.bytes_recv - self._net.bytes_recv) / _MB
            found["system/network_sent_mb"] = (net.bytes_sent - self._net.bytes_sent) / _MB
        for number, gpu in enumerate(self._gpus):
            found.update({f"system/gpu_{number}_{name}": value for name, value in _gpu(gpu).items()})
        return found


def _gpus() -> list[Any]:
    """Handles of NVIDIA's processors; none without its library (`pip install nvidia-ml-py`) or driver."""
    try:
        import pynvml  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _gpu(handle: Any) -> dict[str, float]:
    import pynvml  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "percent": float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        "memory_used_mb": memory.used / _MB,
        "memory_percent": 100 * memory.used / memory.total,
        "power_watts": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
    }
