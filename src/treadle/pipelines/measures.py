"""Measurements of a run by step, from code that does not know what kind of run it is in: a pipeline's, or one that a script has open."""

from treadle.operations.ledger import LogMetrics
from treadle.pipelines.context import peek
from treadle.pipelines.decorators import step
from treadle.records.ledger import Metric
from treadle.records.open_run import open_run

#: Points in one call.
_MANY = 1000


@step(cache=False, name="record_points")
def record_points(points: dict[str, list[tuple[int, float]]]) -> int:
    """Log name → (step, value) on the run that is going on; returns how many. Without a run (a notebook) none.

    A step of its own and not cached: what was measured by a step that the cache answers for stands in this run too.
    """
    here = peek()
    dispatch = here.resources.get("dispatch") if here else None
    if here is not None and dispatch is not None:
        metrics = [
            Metric(key=name, value=value, step=at, time=here.event_time) for name, history in points.items() for at, value in history
        ]
        for start in range(0, len(metrics), _MANY):
            some = LogMetrics(project=here.project, run_id=here.run_id, metrics=metrics[start : start + _MANY])
            dispatch(some, actor=here.actor, event_time=here.clock.now())
        return len(metrics)
    script = open_run()
    if script is None:
        return 0
    by: dict[int, dict[str, float]] = {}
    for name, history in points.items():
        for at, value in history:
            by.setdefault(at, {})[name] = value
    for at, values in sorted(by.items()):
        script.log(values, at)
    return sum(len(values) for values in by.values())
