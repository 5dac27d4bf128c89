"""The flights' policy has the numbers that the rules of bench/policy.py give from January to March, and the page says the same."""

import ast
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
LOOP = ROOT / "src/treadle/workshop/flights/loop.py"
WRITTEN = json.loads((ROOT / "bench/policy.json").read_text())


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"policy_test_{path.stem}", path)
    made = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def policy() -> Iterator[ModuleType]:
    yield module(ROOT / "bench/policy.py")
    for name in [name for name in sys.modules if name.startswith(("policy_test_", "flights_"))]:
        del sys.modules[name]


def gates() -> dict[str, float]:
    """Gate → its number, as the pipeline's body writes it."""
    found = {}
    for node in ast.walk(ast.parse(LOOP.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("tr.gates."):
            (number,) = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(getattr(a, "value", ""), float)]
            found[ast.unparse(node.func).removeprefix("tr.gates.")] = number
    return found


def test_the_loop_declares_what_the_rules_give():
    delay = module(LOOP).delay
    day = 86_400
    conditions = {condition.kind: condition for condition in delay.retrain.when}
    assert conditions["decayed"].metric == delay.monitor.decay_metric == "roc_auc"
    declared = {
        "grown": conditions["grown"].factor,
        "outcome_within_h": delay.monitor.outcome_within_s / 3600,
        "decay": delay.monitor.decay_by,
        "calibration": delay.monitor.calibration_by,
        **gates(),
        "margin": delay.release.margin,
        "share": delay.release.share,
        "deadline_d": delay.release.deadline_blocks * delay.release.block_s / day,
        "at_most_every_d": delay.retrain.at_most_every_s / day,
        "budget": delay.retrain.budget,
    }
    assert declared == WRITTEN
    assert (conditions["decayed"].by, conditions["calibration"].by) == (WRITTEN["decay"], WRITTEN["calibration"])
    assert (delay.release.alpha, delay.release.block_s, delay.monitor.window_blocks) == (0.05, day, 14)
    assert {kind for kind in conditions} == {"grown", "decayed", "calibration"}


def test_the_page_has_the_numbers():
    text = (ROOT / "docs/flights.md").read_text()
    rows = [[cell.strip(" `") for cell in line.strip("| \n").split("|")] for line in text.splitlines() if line.startswith("| `")]
    shown = {row[0]: float(row[1]) for row in rows if row[0] in WRITTEN}
    assert shown == WRITTEN


def test_nothing_known_after_march_is_read(policy):
    for name, table in policy.known().items():
        column = {"flights": "scheduled_at", "outcomes": "known_at", "weather": "observed_at"}[name]
        assert table.height > 5000
        assert table[column].max() < policy.CUT
        assert f"{table[column].max():%Y-%m-%d}" == "2013-03-31"


def test_a_clearly_better_challenger_is_promoted_and_an_equal_one_is_not(policy):
    random = np.random.default_rng(1)
    truth = (random.random(30 * 400) < 0.25).astype(float)
    day = np.repeat(np.arange(30), 400)
    poor, good = np.full(len(truth), 0.5), np.where(truth > 0, 0.4, 0.2)
    clear = policy.Comparison(SimpleNamespace(), SimpleNamespace(), truth, poor, good, day, 30)
    equal = policy.Comparison(
        SimpleNamespace(), SimpleNamespace(), truth, *(0.25 + random.normal(0, 0.05, len(truth)) for _ in range(2)), day, 30
    )
    policy.CANARIES, before = 300, policy.CANARIES
    try:
        assert policy.promoted(clear, share=0.5, margin=0.0)[14] == 1.0
        assert policy.promoted(equal, share=0.5, margin=0.0)[42] < 0.5
    finally:
        policy.CANARIES = before
    assert (policy.down(0.00125, 0.0005), policy.down(0.001, 0.0005), policy.nearest(0.0453, 0.005)) == (0.001, 0.001, 0.045)


@pytest.mark.heavy
def test_the_rules_give_the_numbers_again(policy):
    assert policy.numbers()[0] == WRITTEN
