"""How a project says what is watched, and what starts a retraining: `tr.monitor(…)`, `tr.retrain(delay, when=[tr.decayed("roc_auc")])`."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from treadle.records.clock import seconds
from treadle.records.definitions import Condition, Monitor, Trigger
from treadle.records.errors import TreadleError

_WINDOWS = {"day": 86_400, "week": 604_800, "month": 2_592_000, "quarter": 7_776_000, "year": 31_536_000}
_CRON = {
    "hour": "0 * * * *",
    "day": "0 0 * * *",
    "week": "0 0 * * MON",
    "month": "0 0 1 * *",
    "quarter": "0 0 1 1,4,7,10 *",
    "year": "0 0 1 1 *",
}


def false_alarms(rate: str) -> tuple[float, int]:
    """A budget of false alarms an endpoint may raise when nothing is wrong: "1/month", "0.5/week"; as (number, seconds).

    >>> false_alarms("1/month")
    (1.0, 2592000)
    """
    return _rate(rate, "false_alarms")


def monitor(
    *,
    outcome: str = "",
    outcome_within: str | dt.timedelta = "1d",
    block: str | dt.timedelta = "1d",
    window: str | dt.timedelta = "14d",
    decay: Condition | None = None,
    calibration: Condition | None = None,
    drift: tuple[float, int] | None = None,
    slices: Sequence[str] = (),
) -> Monitor:
    """What is watched at an endpoint.

    Args:
        outcome: `dataset.column` of the truth, joined on the endpoint's unit.
        outcome_within: when outcomes are in; a block is judged only after that.
        block: what counts as one observation; days, where requests of one day have much in common.
        window: over how much of the past quality and calibration are judged; a multiple of the block.
        decay: `decayed(metric, by=…)`, from when on an alarm is worth raising.
        calibration: `calibration(by=…)`.
        drift: `false_alarms("1/month")`, the budget that all alarms of the endpoint are held to.
        slices: request columns to report metrics by.
    """
    block_s, window_s = _seconds(block), _seconds(window)
    if window_s % block_s or window_s // block_s < 3:
        raise _wrong(f"The window of {window} is not at least three whole blocks of {block}.", 'tr.monitor(block="1d", window="14d")')
    number, per = drift or (1.0, _WINDOWS["month"])
    decay = decay or decayed()
    return Monitor(
        outcome=outcome,
        outcome_within_s=_seconds(outcome_within),
        block_s=block_s,
        window_blocks=window_s // block_s,
        decay_metric=decay.metric,
        decay_by=decay.by,
        calibration_by=(calibration or _calibration()).by,
        false_alarms=number,
        false_alarm_window_s=per,
        slices=tuple(slices),
    )


def decayed(metric: str = "brier", *, by: float = 0.01) -> Condition:
    """The champion's metric is worse than its own evaluation by at least `by` (in the metric's unit), a change of base rate aside."""
    if by <= 0:
        raise _wrong(f"by is {by}; it says how much worse, and must be positive.", 'tr.decayed("brier", by=0.01)')
    return Condition(kind="decayed", metric=metric, by=float(by))


def calibration(*, by: float = 0.05) -> Condition:
    """Mean prediction and mean outcome differ by at least `by` (in the outcome's unit)."""
    if by <= 0:
        raise _wrong(f"by is {by}; it says how far apart, and must be positive.", "tr.calibration(by=0.05)")
    return Condition(kind="calibration", by=float(by))


_calibration = calibration


def drifted() -> Condition:
    """Inputs are distributed otherwise than in training. That alone does not mean a worse model: ask for it knowingly."""
    return Condition(kind="drifted")


def grown(factor: float = 1.5, *, dataset: Any = "") -> Condition:
    """A dataset (given as its definition or name; any where left out) has `factor` times as many rows as at the last training."""
    if factor <= 1:
        raise _wrong(f"factor is {factor}; rows must have grown, so it is greater than 1.", "tr.grown(1.5)")
    return Condition(kind="grown", factor=float(factor), dataset=_name(dataset) if dataset else "")


def every(period: str, *, zone: str = "UTC") -> Condition:
    """At the start of every hour, day, week, month, quarter or year in `zone`, or by a cron expression of five fields.

    >>> every("quarter").cron
    '0 0 1 1,4,7,10 *'
    """
    cron = _CRON.get(period, period)
    if len(cron.split()) != 5:
        raise _wrong(f"{period!r} is no period: one of {', '.join(_CRON)}, or five cron fields.", 'tr.every("0 6 * * MON")')
    return Condition(kind="cron", cron=cron, zone=zone)


def on_event(type: str, **filter: Any) -> Condition:
    """An event of that type whose payload has these values."""
    return Condition(kind="event", event=type, filter=filter)


def on_dataset(dataset: Any) -> Condition:
    """A new version of a dataset, given as its definition or name."""
    return Condition(kind="dataset", dataset=_name(dataset))


def trigger(
    name: str,
    pipeline: Any,
    *,
    when: Sequence[Condition],
    parameters: dict[str, Any] | None = None,
    at_most_every: str | dt.timedelta | None = None,
    budget: str | None = None,
    was: str | None = None,
) -> Trigger:
    """Start a pipeline (a function under `@tr.pipeline`, or its name) when any of the conditions holds.

    `at_most_every` is the least time between two starts, `budget` the most starts in a while: "6/year".
    """
    if not when:
        raise _wrong(f"Trigger {name} has no condition and would never fire.", 'when=[tr.every("month")]')
    number, per = _rate(budget, "budget") if budget else (None, _WINDOWS["year"])
    if number is not None and number != int(number):
        raise _wrong(f"The budget of {budget} is no whole number of starts.", 'budget="6/year"')
    return Trigger(
        name=name,
        pipeline=_name(pipeline),
        when=tuple(when),
        parameters=parameters or {},
        at_most_every_s=_seconds(at_most_every) if at_most_every else 0,
        budget=None if number is None else int(number),
        budget_window_s=per,
        was=was,
    )


def retrain(
    pipeline: Any,
    *,
    when: Sequence[Condition],
    parameters: dict[str, Any] | None = None,
    at_most_every: str | dt.timedelta | None = None,
    budget: str | None = None,
    name: str = "",
) -> Trigger:
    """The trigger of an endpoint's retraining: it hears only that endpoint's alarms."""
    return trigger(
        name or f"retrain-{_name(pipeline)}",
        pipeline,
        when=when,
        parameters=parameters,
        at_most_every=at_most_every,
        budget=budget,
    )


def _name(thing: Any) -> str:
    """The name of a definition, of a decorated pipeline, or the string itself."""
    if isinstance(thing, str):
        return thing
    definition = getattr(thing, "definition", thing)
    found = getattr(definition, "name", None)
    if not isinstance(found, str):
        raise _wrong(f"{thing!r} is neither a definition nor a name.", 'tr.retrain("delay_model", when=[…])')
    return found


def _rate(text: str, what: str) -> tuple[float, int]:
    number, _, window = text.partition("/")
    try:
        value = float(number)
        per = _WINDOWS[window] if window in _WINDOWS else seconds(window)
    except ValueError as error:
        raise _wrong(f"{text!r} is no rate for {what}.", f'{what}="1/month"') from error
    if value <= 0:
        raise _wrong(f"{text!r} is no rate for {what}: it must be positive.", f'{what}="1/month"')
    return value, per


def _seconds(duration: str | dt.timedelta) -> int:
    try:
        return seconds(duration)
    except ValueError as error:
        raise _wrong(str(error), '"14d"') from error


def _wrong(what: str, remedy: str) -> TreadleError:
    return TreadleError(what, remedy=f"Write for example: {remedy}", code="bad_definition")
