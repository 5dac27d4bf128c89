"""Writes `schema_0001.sql`, a database of the first schema with rows in it: `python tests/upgrade/freeze_schema.py`.

Frozen at the first release; until then it is written anew with every change of the schema.
"""

import datetime as dt
import sqlite3
import tempfile
from pathlib import Path

from treadle.ledger import Dispatcher, Ledger, access, lineage, sealer
from treadle.operations import ledger as ops
from treadle.records.calls import SYSTEM, Role
from treadle.records.clock import UTC
from treadle.records.ledger import Edge, Metric, Version
from treadle.store import migrate
from treadle.store.blobs import LocalBlobs
from treadle.store.db import Database

FILE = Path(__file__).parent / "schema_0001.sql"
T = dt.datetime(2013, 3, 31, 12, tzinfo=UTC)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "treadle.db"
        with Database.open(f"sqlite:///{path}") as database:
            migrate.ensure(database)
            ledger = Ledger(database, LocalBlobs(Path(folder) / "blobs"))
            dispatch = Dispatcher(database, [ledger], complete=False)
            access.ensure_owner(database, "Ada")
            dispatch(ops.CreateActor(actor_id="ben", name="Ben", role=Role.approver), actor=SYSTEM, event_time=T)
            dispatch(ops.CreateRun(project="flights", run_id="run_1", pipeline="delay", params={"seed": 7}), actor=SYSTEM, event_time=T)
            dispatch(ops.MoveRun(project="flights", run_id="run_1", state="running"), actor=SYSTEM, event_time=T)
            metrics = [Metric(key="brier", value=0.15, step=s, time=T) for s in range(3)]
            dispatch(ops.LogMetrics(project="flights", run_id="run_1", metrics=metrics), actor=SYSTEM, event_time=T)
            dispatch(ops.SetTags(project="flights", run_id="run_1", tags={"owner": "ada"}), actor=SYSTEM)
            sealer.seal(database)

            def grow(tx):
                for digest, kind in (("a" * 64, "dataset"), ("b" * 64, "model")):
                    lineage.add_version(tx, Version(project="flights", digest=digest, kind=kind, name=kind, number=1), event_time=T)
                lineage.add_edge(tx, Edge(project="flights", child="b" * 64, parent="a" * 64, role="trained_on", run_id="run_1"))

            database.write(grow)
            dispatch(ops.EmitEvent(project="flights", event_id="evt_own", type="acme.x", subject="x", payload={"n": 1}), actor=SYSTEM)
        with sqlite3.connect(path) as connection:
            FILE.write_text("\n".join(connection.iterdump()) + "\n")
        connection.close()


if __name__ == "__main__":
    main()
