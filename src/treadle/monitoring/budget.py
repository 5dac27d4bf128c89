"""The false-alarm budget: how often an endpoint may cry wolf, and what that leaves for one test at one look."""

from treadle.records.definitions import Monitor

#: Tests that share an endpoint's budget: decay, calibration, drift.
TESTS = 3


def per_look(monitor: Monitor) -> float:
    """Chance of a false alarm that one test may have each time a block is complete.

    Looks overlap (a window of 14 days moves by one), so the alarms that come of it are fewer than the budget, never more on
    average (Bonferroni).

    >>> round(per_look(Monitor(false_alarms=1.0, false_alarm_window_s=2_592_000, block_s=86_400)), 4)
    0.0111
    """
    looks = max(1.0, monitor.false_alarm_window_s / monitor.block_s)
    return min(0.25, monitor.false_alarms / looks / TESTS)
