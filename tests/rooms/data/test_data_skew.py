"""A run's decision about its data: schema skew halts, value skew asks for retraining, and either is kept with its evidence."""

import datetime as dt
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from treadle.data.declare import column, dataset
from treadle.data.service import DataService
from treadle.data.steps import SKEWED, pin, validate
from treadle.ledger.dispatch import Dispatcher
from treadle.ledger.sealer import seal
from treadle.ledger.service import Ledger
from treadle.operations.ledger import CreateRun, GetRun, ListEvents
from treadle.pipelines import context
from treadle.records.calls import SYSTEM
from treadle.records.definitions import Endpoint, Project
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.store.blobs import LocalBlobs
from treadle.store.queries.registry import datasets_of_run

COLUMNS = [column("id", int), column("at", dt.datetime), column("origin", str, values=["JFK", "LGA"]), column("delay", float)]
FLIGHTS = dataset("flights", time="at", key="id", columns=COLUMNS)
START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)


def rows(first: int, count: int = 4000, *, mean: float = 0.0, origin: str = "JFK") -> pl.DataFrame:
    random = np.random.default_rng(first)
    return pl.DataFrame(
        {
            "id": range(first, first + count),
            "at": [START + dt.timedelta(minutes=i) for i in range(first, first + count)],
            "origin": [origin, "LGA"] * (count // 2),
            "delay": random.normal(mean, 1, count),
        }
    )


class Champions:
    """What the steps ask of a registry: the newest run that was said to have made the champion."""

    def __init__(self, database):
        self.database = database
        self.runs: list[str] = []

    def champion(self, project: str, model: str, environment: str) -> SimpleNamespace | None:
        return SimpleNamespace(number=len(self.runs), run_id=self.runs[-1]) if self.runs else None

    def datasets_of_run(self, project: str, run_id: str) -> list[str]:
        with self.database.read() as connection:
            return datasets_of_run(connection, project, run_id)


class House:
    def __init__(self, database, root):
        self.database = database
        layout = Layout(root)
        blobs = LocalBlobs(layout.blobs)
        self.data = DataService(database, layout, blobs)
        self.dispatch = self.data.dispatch = Dispatcher(database, [self.data, Ledger(database, blobs)], complete=False)
        self.registry = Champions(database)
        self.endpoints = (Endpoint(name="delay", model="delay"),)

    def append(self, frame: pl.DataFrame) -> int:
        return self.data.append("p", FLIGHTS, frame, actor=SYSTEM).number

    def run(self, run_id: str, definition=FLIGHTS, **options):
        """The verdict of a run of its own."""
        self.dispatch(CreateRun(project="p", run_id=run_id), actor=SYSTEM)
        project = Project(name="p", datasets=(FLIGHTS,), endpoints=self.endpoints)
        resources = {"data": self.data, "db": self.database, "dispatch": self.dispatch, "registry": self.registry, "project": project}
        with context.local(project="p", run_id=run_id, event_time=START, resources=resources):
            return validate(definition, since="champion", **options)

    def kept(self, run_id: str):
        return self.dispatch(GetRun(project="p", run_id=run_id), actor=SYSTEM)

    def events(self):
        seal(self.database)
        return self.dispatch(ListEvents(project="p", type=SKEWED), actor=SYSTEM).items


@pytest.fixture
def house(database, tmp_path):
    house = House(database, tmp_path / "home")
    house.append(rows(0))
    return house


def test_the_first_training_says_that_there_is_no_reference_yet(house):
    verdict = house.run("run_1")
    assert (verdict.decision, verdict.shifts) == ("go", ())
    text = "Values of flights were not compared: no reference yet, delay has no champion."
    assert [f.text for f in verdict.findings] == [text]
    assert house.kept("run_1").tags == {"data.flights": f"go: {text}"}
    assert house.events() == []


def test_more_of_the_same_goes_on_with_its_measures(house):
    house.run("run_1")
    house.registry.runs.append("run_1")
    house.append(rows(4000))
    verdict = house.run("run_2")
    assert (verdict.decision, verdict.rows, verdict.findings) == ("go", 4000, [])
    assert {s.column for s in verdict.shifts} == {"origin", "delay"}
    assert all(s.measure == "psi" and s.value < 0.02 and s.threshold == 0.25 for s in verdict.shifts)
    kept = house.kept("run_2")
    assert kept.metrics == {f"shift.flights.{s.column}": s.value for s in verdict.shifts}
    assert kept.tags["data.flights"].endswith("(at most 0.25)")
    assert house.events() == []


def test_values_that_moved_ask_for_retraining_and_the_evidence_is_kept(house):
    house.run("run_1")
    house.registry.runs.append("run_1")
    house.append(rows(4000, mean=2.0))
    verdict = house.run("run_2")
    assert verdict.decision == "retrain"
    assert [f.column for f in verdict.findings] == ["delay"]
    assert verdict.shifts[0].column == "delay"
    assert verdict.shifts[0].value > 1
    assert house.kept("run_2").tags["data.flights"] == f"retrain: delay psi {verdict.shifts[0].value:.3f} (above 0.25)"
    (event,) = house.events()
    assert event.subject == "dataset/flights"
    told = {name: event.payload[name] for name in ("dataset", "version", "run_id", "decision", "rows", "reference", "reference_of")}
    assert told == {
        "dataset": "flights",
        "version": 2,
        "run_id": "run_2",
        "decision": "retrain",
        "rows": 4000,
        "reference": 1,
        "reference_of": "delay@1",
    }
    assert event.payload["shifts"][0] == {"column": "delay", "value": verdict.shifts[0].value, "threshold": 0.25, "measure": "psi"}
    assert house.run("run_2") == verdict
    assert len(house.events()) == 1


def test_the_reference_is_what_the_champion_read_and_not_what_it_was_compared_with(house):
    house.run("run_1")
    house.registry.runs.append("run_1")
    house.append(rows(4000, mean=2.0))
    assert house.run("run_2").decision == "retrain"
    house.registry.runs.append("run_2")
    assert house.run("run_3").findings[0].text.endswith("no rows since delay@2 was trained.")
    house.append(rows(8000, mean=1.0))  # as the mixture that the new champion knows, more or less
    verdict = house.run("run_4")
    assert verdict.rows == 4000
    assert {"run_2", "run_4"} >= {e.payload["run_id"] for e in house.events()}
    assert verdict.shifts[0].value < 1


def test_a_champion_of_another_dataset_is_no_reference(house):
    house.registry.runs.append("run_elsewhere")
    assert house.run("run_1").findings[0].text.endswith("no reference yet, delay@1 was not trained on it.")


@pytest.mark.parametrize(
    ("columns", "origin", "check"),
    [
        pytest.param([*COLUMNS, column("dest", str)], "JFK", "missing_column", id="missing column"),
        pytest.param(COLUMNS[:3], "JFK", "unexpected_column", id="unexpected column"),
        pytest.param(COLUMNS, "XXX", "values", id="unexpected value"),
    ],
)
def test_schema_skew_halts_with_an_error_and_an_event(house, columns, origin, check):
    house.run("run_1")
    house.registry.runs.append("run_1")
    house.append(rows(4000, origin=origin))
    definition = dataset("flights", time="at", key="id", columns=columns)
    with pytest.raises(TreadleError, match="halt the pipeline") as raised:
        house.run("run_2", definition)
    assert raised.value.code == "bad_data"
    assert house.kept("run_2").tags["data.flights"].startswith("halt: The column ")
    (event,) = house.events()
    assert event.payload["decision"] == "halt"
    assert [f["check"] for f in event.payload["findings"] if f["effect"] == "halt"] == [check]
    assert house.run("run_3", definition, halt=False).decision == "halt"


def test_which_champion_must_be_clear(house):
    house.endpoints = (Endpoint(name="delay", model="delay"), Endpoint(name="gate", model="gate"))
    with pytest.raises(TreadleError, match="several models") as raised:
        house.run("run_1")
    assert raised.value.code == "bad_definition"
    assert house.run("run_2", model="gate").decision == "go"
    house.endpoints = ()
    assert house.run("run_3").findings[0].text.endswith("no model of this project is served.")
    with context.local(project="p", resources={"data": house.data}), pytest.raises(TreadleError, match="is no version"):
        validate(FLIGHTS, since="yesterday")


def test_a_notebook_has_no_champion_and_keeps_nothing(house, capsys):
    with context.local(project="p", resources={"data": house.data}):
        assert validate(FLIGHTS, since="champion").decision == "go"
        assert pin("flights")["number"] == 1
    assert "no reference yet" in capsys.readouterr().out
