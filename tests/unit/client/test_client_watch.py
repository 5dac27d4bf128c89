"""Watching a training from inside: a real small network whose gradients vanish is found out, a healthy one is not."""

import io
import itertools
import json
import math
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from treadle.client.run import Run
from treadle.client.timing import Profile
from treadle.client.watching import MOST, SAMPLE, Watch, statistics
from treadle.operations.tracking import LogBatch
from treadle.records.errors import TreadleError
from treadle.records.open_run import open_run


class Sink:
    """Keeps the points and the files that arrive."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[int, Any]]] = {}
        self.files: dict[str, bytes] = {}

    def call(self, request: Any) -> None:
        if isinstance(request, LogBatch):
            for p in request.metrics:
                self.points.setdefault(p.key, []).append((p.step, p.value))

    def put_file(self, project: str, run_id: str, path: str, file: Path, media_type: str) -> None:
        self.files[path] = file.read_bytes()

    def close(self) -> None:
        pass


def opened(tmp_path: Path, sink: Sink | None = None) -> Run:
    connect = None if sink is None else lambda: sink
    return Run("tests", project="p", spool=tmp_path / "spool", target="here", connect=connect, system_every=None, ship_every=0.02)


class Network:
    """Dense layers by hand: forward, backward, gradient descent on a binary label."""

    def __init__(self, widths: list[int], activation: str, scale: float, rng: np.random.Generator):
        self.relu = activation == "relu"
        self.weights = [rng.normal(0, scale * math.sqrt(2 / a), (a, b)) for a, b in itertools.pairwise(widths)]
        self.biases = [np.zeros(w.shape[1]) for w in self.weights]

    def step(self, x: np.ndarray, y: np.ndarray, rate: float) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
        """(loss, activations of the hidden layers, gradients of the weights by layer)."""
        outs = [x]
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = outs[-1] @ w + b
            outs.append(np.maximum(z, 0) if self.relu else 1 / (1 + np.exp(-z)))
        p = 1 / (1 + np.exp(-np.clip((outs[-1] @ self.weights[-1] + self.biases[-1])[:, 0], -50, 50)))
        loss = float(-np.mean(y * np.log(p + 1e-12) + (1 - y) * np.log(1 - p + 1e-12)))
        back = ((p - y) / len(y))[:, None]
        gradients: list[np.ndarray] = []
        for i in reversed(range(len(self.weights))):
            gradients.insert(0, outs[i].T @ back)
            shift = back.sum(0)
            if i:
                slope = (outs[i] > 0) if self.relu else outs[i] * (1 - outs[i])
                back = (back @ self.weights[i].T) * slope
            self.weights[i] -= rate * gradients[0]
            self.biases[i] -= rate * shift
        return loss, outs[1:], gradients


def train(run: Run, widths: list[int], activation: str, *, scale: float = 1.0, rate: float = 0.1, steps: int = 200) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, widths[0]))
    y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(float)
    network = Network([*widths, 1], activation, scale, rng)
    for step in range(steps):
        loss, outs, gradients = network.step(x[:300], y[:300], rate)
        held = network.step(x[300:], y[300:], 0.0)[0]
        run.log({"train/loss": loss, "valid/loss": held}, step)
        for i, out in enumerate(outs):
            run.watch(f"dense{i}/activations", out, step, bounds=None if activation == "relu" else (0, 1))
        for i, (gradient, weights) in enumerate(zip(gradients, network.weights, strict=True)):
            run.watch(f"dense{i}/gradient", gradient, step)
            run.watch(f"dense{i}/weights", weights, step)


def test_a_vanishing_gradient_is_found_while_it_trains(tmp_path):
    with opened(tmp_path) as run:
        train(run, [8, *[16] * 8], "sigmoid", scale=0.7, steps=60)  # as Glorot has it
        found = {f.rule: f for f in run.diagnose()}
    assert "vanishing_gradient" in found
    assert found["vanishing_gradient"].severity == "critical"
    assert "dense0/gradient" in found["vanishing_gradient"].text
    assert found["vanishing_gradient"].value < 1e-3


def test_a_healthy_training_of_the_same_task_fires_nothing(tmp_path):
    sink = Sink()
    with opened(tmp_path, sink) as run:
        train(run, [8, 16, 16], "relu")
        assert run.diagnose() == []
    assert sink.points["train/loss"][-1][1] < 0.6 * sink.points["train/loss"][0][1]
    assert [step for step, _ in sink.points["watch/dense1/gradient/norm"]] == list(range(0, 200, 10))
    assert "watch/dense0/activations/dead" in sink.points
    assert "watch/dense0/weights/saturated" not in sink.points
    table = pl.read_parquet(io.BytesIO(sink.files["debug/tensors.parquet"]))
    assert table.height == 20 * (2 + 3 + 3)
    row = table.filter((pl.col("name") == "dense1/gradient") & (pl.col("step") == 190)).row(0, named=True)
    assert row["kind"] == "gradient"
    assert row["shape"] == [16, 16]
    assert sum(row["counts"]) == row["sampled"] == row["size"] == 256
    assert len(row["edges"]) == 21
    assert row["quantiles"][0] == row["min"]


def test_saturation_and_dead_units_are_found_in_real_networks(tmp_path):
    with opened(tmp_path) as run:
        train(run, [8, 16, 16], "sigmoid", scale=60, steps=60)
        assert "saturated_activation" in {f.rule for f in run.diagnose()}
    with opened(tmp_path) as run:
        train(run, [8, 16, 16], "relu", rate=30.0, steps=60)
        assert "dead_units" in {f.rule for f in run.diagnose()}


def test_the_table_is_kept_while_it_grows(tmp_path):
    kept: list[int] = []
    watch = Watch(lambda values, step: None, lambda rows, path: kept.append(len(rows)))
    for step in range(2000):
        watch.see("w", [1.0, 2.0], step, kind="weight", every=1, bounds=None, saturated=0.99)
    watch.flush()
    assert kept[0] == 256
    assert all(b >= 2 * a for a, b in itertools.pairwise(kept[:-1]))
    looks = kept[-1]
    assert MOST < looks < MOST + 1500 / 2 + 2  # the interval has doubled


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(st.sampled_from([np.float64, np.float32, np.int32, np.bool_]), arrays.array_shapes(min_dims=1, max_dims=3)))
def test_statistics_are_those_of_the_finite_values(array):
    told = statistics(array, activation=True)
    finite = array[np.isfinite(array)].astype(np.float64)
    assert told["nan"] == pytest.approx(1 - len(finite) / array.size)
    assert 0 <= told.get("dead", 0) <= 1
    assert 0 <= told.get("saturated", 0) <= 1
    if len(finite):
        assert (told["min"], told["max"]) == (finite.min(), finite.max())
        assert told["zeros"] == pytest.approx(np.mean(finite == 0))
        assert sum(told["counts"]) == len(finite)


def test_large_arrays_are_sampled_and_one_nan_among_millions_is_seen():
    rng = np.random.default_rng(0)
    large = rng.normal(2, 3, (3000, 1000)).astype(np.float32)
    began = time.perf_counter()
    told = statistics(large)
    assert time.perf_counter() - began < 1
    assert told["sampled"] <= SAMPLE
    assert told["size"] == 3_000_000
    assert told["mean"] == pytest.approx(2, abs=0.1)
    assert told["norm"] == pytest.approx(float(np.linalg.norm(large)), rel=0.02)
    large[1234, 567] = np.nan
    assert statistics(large)["nan"] > 0
    zeros = np.zeros((128, 4096))
    zeros[:, ::4] = rng.random((128, 1024))
    assert statistics(zeros, activation=True)["dead"] == pytest.approx(0.75)


class Tensor:
    """What a tensor of PyTorch answers to, without PyTorch: half precision that NumPy does not read, gradients, another device."""

    def __init__(self, array: np.ndarray, there: bool = True):
        self._array, self._there = array, there
        self.shape = array.shape

    def detach(self) -> "Tensor":
        return self

    def reshape(self, *shape: int) -> "Tensor":
        return Tensor(self._array.reshape(*shape))

    def __getitem__(self, key: Any) -> "Tensor":
        return Tensor(self._array[key])

    def __ne__(self, other: object) -> Any:
        return Tensor(self._array != other)

    __hash__ = None  # type: ignore[assignment]

    def any(self, axis: int) -> "Tensor":
        return Tensor(self._array.any(axis))

    def float(self) -> "Tensor":
        return Tensor(self._array.astype(np.float32))

    def cpu(self) -> "Tensor":
        return Tensor(self._array, there=False)

    def numpy(self) -> np.ndarray:
        assert not self._there, "still on the device"
        return self._array


def test_tensors_of_pytorch_are_read_without_it():
    array = np.array([[0.0, 0.5], [0.0, -1.0]])
    told, same = statistics(Tensor(array), activation=True), statistics(array, activation=True)
    assert told == same
    assert told["dead"] == 0.5


def test_what_cannot_be_watched_is_refused(tmp_path):
    with opened(tmp_path) as run:
        with pytest.raises(TreadleError, match="cannot be watched"):
            run.watch("w", np.array(["a"]))
        with pytest.raises(TreadleError, match="no name of a tensor"):
            run.watch("", [1.0])
        with pytest.raises(TreadleError, match="no kind"):
            run.watch("w", [1.0], kind="thing")
        with pytest.raises(TreadleError, match="no name of a section"):
            run.timed(" ").__enter__()
        assert run.watch("h", [0.5], kind="activation")
        assert not run.watch("h", [0.5], kind="activation")


def test_sections_nest_and_waiting_for_input_is_found(tmp_path):
    sink = Sink()
    with opened(tmp_path, sink) as run:

        def loader():
            for i in range(6):
                time.sleep(0.05)
                yield i

        with run.timed("epoch"):
            for batch in run.timed("load batch", loader()):
                with run.timed("train"):
                    time.sleep(0.02)
                assert batch < 6
    profile = {row["section"]: row for row in json.loads(sink.files["debug/profile.json"])}
    assert set(profile) == {"epoch", "epoch/load batch", "epoch/train"}
    assert (profile["epoch/train"]["count"], profile["epoch/load batch"]["count"], profile["epoch"]["depth"]) == (6, 7, 0)
    assert 0.3 <= profile["epoch/load batch"]["seconds"] < profile["epoch"]["seconds"]
    assert 0 <= profile["epoch"]["self_seconds"] < 0.3
    assert sink.points["profile/epoch/train/count"] == [(0, 6.0)]


def test_the_finding_is_there_while_it_runs(tmp_path):
    with opened(tmp_path) as run:
        run._profile = Profile(lambda values: run.log(values), lambda table, path: None, every=0.0)
        for _ in range(3):
            with run.timed("load batch"):
                time.sleep(0.1)
            with run.timed("train"):
                time.sleep(0.02)
        assert [f.rule for f in run.diagnose()] == ["input_bottleneck"]


def test_sections_of_threads_stand_by_themselves_and_errors_count():
    said: list[Any] = []
    profile = Profile(lambda values: None, lambda table, path: said.append(table))

    def work():
        with profile.section("prefetch"):
            time.sleep(0.02)

    thread = threading.Thread(target=work)
    with profile.section("step"):
        thread.start()
        thread.join()
    with pytest.raises(ZeroDivisionError), profile.section("step"):
        _ = 1 / 0
    with profile.section("a/b"):
        pass
    profile.flush()
    assert {row["section"] for row in said[0]} == {"step", "prefetch", "a-b"}


def test_sections_are_cheap():
    profile = Profile(lambda values: None, lambda table, path: None)
    began = time.perf_counter()
    for _ in range(10_000):
        with profile.section("s"):
            pass
    assert (time.perf_counter() - began) / 10_000 < 1e-4


def test_rooms_find_the_open_run(tmp_path):
    with opened(tmp_path) as run:
        assert open_run() is run
    assert open_run() is None
