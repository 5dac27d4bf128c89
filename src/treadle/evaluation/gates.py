"""Gates: the checks that a candidate must pass, judged on its report alone.

A gate that cannot be judged does not pass: a metric that was not measured, a slice that has no rows. The one exception is `no_worse` where
there is no champion to be worse than. Each answer is a sentence with its numbers, which the registry keeps with the version.
"""

from collections.abc import Callable, Mapping, Sequence

from treadle.evaluation.metrics import METRICS
from treadle.records.definitions import Gate
from treadle.records.errors import TreadleError
from treadle.records.models import GateResult, Report


def judge(gates: Sequence[Gate], report: Report) -> tuple[GateResult, ...]:
    """One answer a gate, in order.

    Raises:
        TreadleError: `bad_definition` for a kind that is no gate.
    """
    for gate in gates:
        if gate.kind not in GATES:
            raise TreadleError(f"{gate.kind!r} is no gate.", remedy=f"Use one of {', '.join(GATES)}.", code="bad_definition")
    return tuple(GATES[gate.kind](gate, report) for gate in gates)


def named(gate: Gate) -> str:
    """A gate's name in listings: `no_worse(brier)`."""
    return f"{gate.kind}({gate.metric})"


def direction_of(metric: str, report: Report) -> int:
    """1 where higher is better, -1 where lower is.

    Raises:
        TreadleError: `bad_definition` where neither is, so that nothing can be worse or better.
    """
    direction = report.directions.get(metric, METRICS[metric].direction if metric in METRICS else 0)
    if not direction:
        raise TreadleError(
            f"The metric {metric!r} has no better or worse.",
            remedy="Gate on a metric that has (or mark your own: @metric(better='lower')), or use at_least and at_most.",
            code="bad_definition",
        )
    return direction


def _no_worse(gate: Gate, report: Report) -> GateResult:
    mine, theirs = report.metrics.get(gate.metric), (report.champion or {}).get(gate.metric)
    if report.champion is None:
        return _answer(gate, True, "There is no champion to compare with.")
    if mine is None or theirs is None:
        return _unmeasured(gate)
    worse = (theirs - mine) * direction_of(gate.metric, report)
    who = f"champion {report.champion_version}" if report.champion_version else "the champion"
    who += ", as it was judged," if report.champion_as_judged else ""
    text = f"{gate.metric} {mine:.4f}, {who} {theirs:.4f} on the same {report.rows} rows: {_by(worse)}; {gate.by:g} is allowed."
    if report.champion_until and report.test_from and report.champion_until >= report.test_from:
        text += f" The champion has learned from rows up to {report.champion_until:%Y-%m-%d %H:%M}, some of these among them."
    return _answer(gate, worse <= gate.by, text, candidate=mine, champion=theirs, worse_by=worse, rows=report.rows)


def _bound(gate: Gate, report: Report) -> GateResult:
    mine = report.metrics.get(gate.metric)
    if mine is None:
        return _unmeasured(gate)
    least = gate.kind == "at_least"
    text = f"{gate.metric} is {mine:.4f}; at {'least' if least else 'most'} {gate.bound:g} is asked for."
    return _answer(gate, mine >= gate.bound if least else mine <= gate.bound, text, candidate=mine, bound=gate.bound)


def _slice_floor(gate: Gate, report: Report) -> GateResult:
    columns = gate.slices or tuple(dict.fromkeys(s.column for s in report.slices))
    missing = [column for column in columns if not any(s.column == column for s in report.slices)]
    judged = [s for s in report.slices if s.column in columns and s.rows >= gate.min_rows and gate.metric in s.metrics]
    if missing or not judged:
        what = f"no slices by {', '.join(missing)}" if missing else f"no slice with {gate.min_rows} rows"
        return _answer(gate, False, f"The report has {what}, so that {gate.metric} by slice cannot be judged.", missing=missing)
    sign = direction_of(gate.metric, report)
    failed = sorted((s for s in judged if (s.metrics[gate.metric] - gate.bound) * sign < 0), key=lambda s: s.metrics[gate.metric] * sign)
    worst = min(judged, key=lambda s: s.metrics[gate.metric] * sign)
    limit = f"{'at least' if sign > 0 else 'at most'} {gate.bound:g}"
    least = f"{worst.column}={worst.value} with {worst.metrics[gate.metric]:.4f}"
    text = f"{gate.metric} is {limit} on all {len(judged)} slices; the worst is {least}."
    if failed:
        listed = ", ".join(f"{s.column}={s.value} {s.metrics[gate.metric]:.4f} ({s.rows} rows)" for s in failed[:5])
        text = f"{gate.metric} must be {limit} on every slice of {gate.min_rows} rows; {len(failed)} of {len(judged)} fail: {listed}."
    return _answer(gate, not failed, text, judged=len(judged), failed=len(failed), worst=worst.metrics[gate.metric])


def _beats_baseline(gate: Gate, report: Report) -> GateResult:
    if report.baseline is None:
        return _answer(gate, False, "No baseline was scored on the test rows: evaluate(..., baseline=fitted).")
    mine, theirs = report.metrics.get(gate.metric), report.baseline.get(gate.metric)
    if mine is None or theirs is None:
        return _unmeasured(gate)
    better = (mine - theirs) * direction_of(gate.metric, report)
    text = f"{gate.metric} {mine:.4f} against {theirs:.4f} of the baseline: {_by(-better)}; at least {gate.by:g} better is asked for."
    return _answer(gate, better > 0 and better >= gate.by, text, candidate=mine, baseline=theirs, better_by=better)


#: kind → judge.
GATES: Mapping[str, Callable[[Gate, Report], GateResult]] = {
    "no_worse": _no_worse,
    "at_least": _bound,
    "at_most": _bound,
    "slice_floor": _slice_floor,
    "beats_baseline": _beats_baseline,
}


def _by(worse: float) -> str:
    return f"{worse:.4f} worse" if worse > 0 else f"{-worse:.4f} better" if worse < 0 else "equal"


def _answer(gate: Gate, passed: bool, text: str, **facts: object) -> GateResult:
    return GateResult(gate=named(gate), passed=bool(passed), text=text, facts=facts)


def _unmeasured(gate: Gate) -> GateResult:
    return _answer(
        gate, False, f"{gate.metric} was not measured (or is not defined) on the test rows: evaluate(..., metrics=[{gate.metric!r}])."
    )
