"""A registry behind a dispatcher, with bundles to register and definitions to apply."""

import datetime as dt

import msgspec
from sqlalchemy import select

from treadle.ledger.dispatch import Dispatcher
from treadle.operations import registry as ops
from treadle.records.calls import Actor, Call, Role
from treadle.records.definitions import Endpoint, Environment, Project
from treadle.records.digests import canonical, digest_of
from treadle.records.models import Bundle, GateResult, Signature
from treadle.registry import service as registry
from treadle.store import tables as t
from treadle.store.blobs import LocalBlobs
from treadle.store.queries import workshop as workshop_queries

NOW = dt.datetime(2013, 3, 1, tzinfo=dt.UTC)
ANA = Actor(actor_id="ana", name="Ana", role=Role.admin)
BEN = Actor(actor_id="ben", name="Ben", role=Role.approver)
PASSED = (GateResult(gate="at_least(roc_auc)", passed=True, text="0.7"),)
FAILED = (GateResult(gate="at_least(roc_auc)", passed=False, text="0.5 is too low"),)


class House:
    """A registry behind a dispatcher, and bundles to register."""

    def __init__(self, database, root):
        self.database = database
        self.blobs = LocalBlobs(root)
        self.registry = registry.Registry(database, self.blobs)
        self.dispatch = Dispatcher(database, [self.registry], complete=False)

    def __call__(self, request, actor=ANA, **changes):
        return self.dispatch(request, actor=actor, event_time=NOW, **changes)

    def bundle(self, run="run_1", model="delay", **changes):
        made = Bundle(
            **{
                "format": 1,
                "model": model,
                "flavor": "lightgbm",
                "signature": Signature(inputs=()),
                "views": (),
                "files": (),
                "onnx_equal": 0.0,
                "environment": ("numpy==2.0",),
                "python": "3.11.7",
                "code_digest": "c0de",
                "run_id": run,
                "project": "flights",
                "trained_on": ("data1",),
                "event_time": NOW,
                **changes,
            }
        )
        return self.blobs.put(canonical(made))

    def register(self, run="run_1", gates=PASSED, model="delay", **changes):
        digest = self.bundle(run, model)
        request = ops.RegisterVersion(
            project="flights", model=model, bundle_digest=digest, run_id=run, metrics={"roc_auc": 0.7}, gates=gates
        )
        return self(msgspec.structs.replace(request, **changes))

    def ask(self, number, environment="prod", approval_id=None, actor=ANA):
        approval_id = approval_id or f"apr_{environment}_{number}"
        request = ops.RequestApproval(
            project="flights", approval_id=approval_id, environment=environment, subject=f"model/delay/{number}", question="May it?"
        )
        return self(request, actor)

    def decide(self, approval_id, grant=True, actor=BEN):
        return self(ops.DecideApproval(project="flights", approval_id=approval_id, grant=grant), actor)

    def version(self, number):
        return self(ops.GetModelVersion(project="flights", model="delay", number=number))

    def tx(self, function, **changes):
        call = Call(actor=ANA, event_time=NOW)
        return self.database.write(lambda tx: function(tx, call, project="flights", model="delay", **changes))

    def apply(self, environment, **changes):
        project = Project(
            name="flights", environments=(Environment(name=environment, **changes),), endpoints=(Endpoint(name="delay", model="delay"),)
        )
        row = {
            "project": "flights",
            "environment": environment,
            "digest": digest_of(project),
            "definitions": project,
            "actor": "ana",
            "event_time": NOW,
            "recorded_time": NOW,
        }
        self.database.write(lambda tx: workshop_queries.apply(tx, row))

    def events(self):
        with self.database.read() as connection:
            query = select(t.events.c.type, t.events.c.subject, t.events.c.environment).order_by(t.events.c.recorded_time)
            return [tuple(row) for row in connection.execute(query)]
