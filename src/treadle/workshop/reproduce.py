"""Training a registered version again, to prove where it came from.

The body runs for real, from the code snapshot the run was pinned to. Steps that are functions of their inputs are executed anew;
steps that are not (which dataset versions were pinned, which champion was compared with, the registration itself) answer from the
run's journal, so the second training sees what the first saw, and nothing is written.
"""

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from treadle.packaging import bundle as bundles
from treadle.packaging.flavors import load
from treadle.pipelines import environment, parameters
from treadle.pipelines.artifacts import Artifacts, Saved
from treadle.pipelines.context import RunContext, entered, inside_step
from treadle.pipelines.handle import Handle, value
from treadle.records.calls import SYSTEM
from treadle.records.clock import VirtualClock
from treadle.records.errors import TreadleError
from treadle.records.ledger import Run
from treadle.records.models import Bundle, Fitted
from treadle.registry.service import version_of
from treadle.store.queries import ledger as runs
from treadle.store.queries import pipelines as journal
from treadle.training.reproduce import Reproduction, compare
from treadle.workshop.home import Workshop
from treadle.workshop.loops import Loop


class _Again:
    """A journal that re-executes pure steps and answers the others from what was recorded."""

    def __init__(self, shop: Workshop, run: Run):
        with shop.database.read() as tx:
            rows = journal.steps_of(tx, run.project, run.run_id)
        self._recorded = {row.path: row for row in rows}
        self._artifacts = Artifacts(shop.blobs)
        self._counter = 0
        self.context: RunContext | None = None
        self.fitted: list[Fitted] = []

    def call(self, step: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """One call at the next place of the body."""
        place, self._counter = self._counter, self._counter + 1
        return self._one(step, f"{place:04d}:{step.name}", args, kwargs)

    def each(self, step: Any, items: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """A call for every item."""
        place, self._counter = self._counter, self._counter + 1
        return [self._one(step, f"{place:04d}:{step.name}[{i}]", (item, *args), kwargs) for i, item in enumerate(value(items))]

    def _one(self, step: Any, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Handle[Any]:
        assert self.context is not None
        given, named = value(args), value(dict(kwargs))
        if step.cache:
            with entered(inside_step(self.context, path)):
                result = step.function(*given, **named)
        else:
            # What is handed to the registration first is the model itself; the one that was judged may come after it.
            self.fitted += [item for item in (*given, *named.values()) if isinstance(item, Fitted)][:1]
            row = self._recorded.get(path)
            if row is None or row.output is None:
                raise TreadleError(
                    f"The journal of the run has no result for {path}, so the training cannot be repeated as it was.",
                    remedy="The code or the journal is not the run's own; was this home restored only in part? treadle doctor",
                    code="nondeterministic",
                )
            result = self._artifacts.load(Saved(row.output, row.codec, row.content))
        return Handle("", "", path, lambda: result, value=result)


def reproduce(shop: Workshop, project: str, model: str, number: int) -> Reproduction:
    """Train a version again and compare.

    Raises:
        TreadleError: `not_found`, or what the training raises.
    """
    with shop.database.read() as tx:
        version = version_of(tx, project, model, number)
        sealed = bundles.read(shop.blobs, version.bundle_digest)
        run = runs.get_run(tx, project, sealed.run_id)
    if run is None:
        raise TreadleError(
            f"The run {sealed.run_id} of {model} {version.number} is not in this home.",
            remedy="A version can be reproduced where it was trained; import its run first.",
            code="not_found",
        )
    again = _train(shop, run)
    path = bundles.MODEL[sealed.flavor]
    first = bundles.content(shop.blobs, sealed, path) or b""
    proof = bundles.content(shop.blobs, sealed, bundles.PROOF)
    rows = np.load(io.BytesIO(proof)) if proof else None
    return compare(
        first,
        again.content,
        predictions=None if rows is None else rows[:, -1],
        again=None if rows is None else load(again.flavor, again.content).predict(np.ascontiguousarray(rows[:, :-1])),
        before=_before(sealed),
        after={"environment": environment.lock(), "code": run.code_digest, "trained_on": list(sealed.trained_on)},
    )


def _before(sealed: Bundle) -> dict[str, Any]:
    """What the first training stood on, as the bundle says."""
    return {"environment": list(sealed.environment), "code": sealed.code_digest, "trained_on": list(sealed.trained_on)}


def _train(shop: Workshop, run: Run) -> Fitted:
    loop = Loop(shop, name="reproduce")
    body = loop.load_body(run)
    again = _Again(shop, run)
    context = RunContext(
        project=run.project,
        environment=run.environment,
        run_id=run.run_id,
        event_time=run.event_time,
        actor=SYSTEM,
        clock=VirtualClock(run.event_time),
        resources=loop.resources(run),
        params=run.params,
        journal=again,
        write_line=lambda _text, _level: None,
    )
    again.context = replace(context, journal=None)
    with entered(context):
        body.function(**parameters.convert(body.function, run.params))
    if not again.fitted:
        raise TreadleError(
            f"The second run of {run.pipeline} handed no model in.",
            remedy="Its body must end in tr.candidate(…); see the first run's steps: treadle status " + run.run_id,
            code="nondeterministic",
        )
    return again.fitted[-1]
