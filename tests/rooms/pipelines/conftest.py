"""A home with pipelines applied, and a worker on it."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.operations.pipelines import CancelRun, ListSteps, ReadLog, ResumeRun, SubmitRun
from treadle.pipelines import PipelineFunction
from treadle.pipelines.service import Pipelines
from treadle.pipelines.worker import Worker
from treadle.records.calls import SYSTEM, Actor, Call
from treadle.records.clock import Clock, SystemClock
from treadle.records.definitions import Endpoint, Project, Trigger
from treadle.records.ids import new_id
from treadle.records.ledger import Run, Step
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database
from treadle.store.queries import ledger as runs
from treadle.store.queries import workshop

PROJECT = "engine"


class Engine:
    """Submits, executes and looks, without the dispatcher around."""

    def __init__(self, database: Database, home: Path):
        self.database = database
        self.blobs = LocalBlobs(home / "blobs")
        self.clock: Clock = SystemClock()
        self.bodies: dict[str, PipelineFunction[..., Any]] = {}

    @property
    def service(self) -> Pipelines:
        return Pipelines(self.database, clock=self.clock)

    @property
    def call(self) -> Call:
        return Call(actor=SYSTEM, event_time=self.clock.now())

    def apply(self, *bodies: PipelineFunction[..., Any], triggers: tuple[Trigger, ...] = (), endpoints: tuple[Endpoint, ...] = ()) -> None:
        self.bodies = {body.name: body for body in bodies}
        definitions = Project(name=PROJECT, pipelines=tuple(b.definition for b in bodies), triggers=triggers, endpoints=endpoints)
        row = {"project": PROJECT, "environment": "dev", "digest": "d", "definitions": definitions, "actor": "test"}
        now = dt.datetime.now(dt.UTC)
        self.database.write(lambda tx: workshop.apply(tx, {**row, "event_time": now, "recorded_time": now}))

    def submit(self, pipeline: str, *, run_id: str | None = None, use_cache: bool = True, **params: Any) -> str:
        request = SubmitRun(project=PROJECT, pipeline=pipeline, run_id=run_id or new_id("run"), params=params, use_cache=use_cache)
        self.do(self.service.submit, request)
        return request.run_id

    def do(self, method: Callable[..., Any], request: Any) -> Any:
        return self.database.write(lambda tx: method(tx, request, self.call))

    def __call__(self, request: Any, *, actor: Actor, event_time: dt.datetime, idempotency_key: str | None = None) -> Any:
        answer = self.database.write(lambda tx: self.service.submit(tx, request, Call(actor=actor, event_time=event_time)))
        return getattr(answer, "answer", answer)

    def worker(self, **options: Any) -> Worker:
        return Worker(self.database, self.blobs, load_body=lambda run: self.bodies[run.pipeline], clock=self.clock, name="w", **options)

    def run(self, *bodies: PipelineFunction[..., Any], use_cache: bool = True, **params: Any) -> Run:
        """Apply, submit the first, execute, and the run as it then is."""
        self.apply(*bodies)
        run_id = self.submit(bodies[0].name, use_cache=use_cache, **params)
        self.worker().run_due()
        return self.look(run_id)

    def cancel(self, run_id: str) -> None:
        self.do(self.service.cancel, CancelRun(project=PROJECT, run_id=run_id))

    def resume(self, run_id: str) -> Run:
        self.do(self.service.resume, ResumeRun(project=PROJECT, run_id=run_id))
        self.worker().run_due()
        return self.look(run_id)

    def look(self, run_id: str) -> Run:
        with self.database.read() as connection:
            found = runs.get_run(connection, PROJECT, run_id)
        assert found is not None
        return found

    def steps(self, run: Run | str) -> list[Step]:
        run_id = run if isinstance(run, str) else run.run_id
        with self.database.read() as connection:
            return self.service.steps(connection, ListSteps(project=PROJECT, run_id=run_id), self.call)

    def lines(self, run: Run) -> list[str]:
        with self.database.read() as connection:
            told = self.service.log(connection, ReadLog(project=PROJECT, run_id=run.run_id), self.call)
        assert told.ended
        return [line.text for line in told.items]


@pytest.fixture
def engine(database: Database, tmp_path: Path) -> Engine:
    return Engine(database, tmp_path)
