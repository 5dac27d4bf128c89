"""Removing runs, experiments and logged models for good: rows, files, and what events told of them.

First a plan: what is asked for, what goes with it (an experiment's runs, a run's logged models), and what is kept, by what. Then the
work, in short transactions between those of others: a run goes to the bin so that nothing is written to it, its points and log lines
go by the thousand, and all the rest of it at once. What keeps a run is looked at again in that last transaction. A removal that is
cut short is taken up by asking for it again.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from treadle.ledger import events
from treadle.records.calls import Call
from treadle.records.clock import SystemClock
from treadle.records.errors import TreadleError
from treadle.records.tracking import DEFAULT_EXPERIMENT, Lifecycle
from treadle.store.db import Connection, Database
from treadle.store.queries import events as event_queries
from treadle.store.queries import removal as queries
from treadle.store.queries.experiments import get_experiment

#: Rows of points or lines, runs, and event payloads that go in one transaction.
POINTS, RUNS, EVENTS = 5000, 40, 200
ENDED = ("finished", "failed", "cancelled")
KINDS = ("run", "experiment", "logged-model", "model")
BEGUN = "treadle.removal.begun"
ERASED = "treadle.payload.erased"


class Asked(Struct, frozen=True):
    """What a removal is asked to take, by kind. Registered models are names, or names and numbers."""

    runs: list[str] = []
    experiments: list[str] = []
    logged_models: list[str] = []
    models: list[tuple[str, int | None]] = []


class Plan(Struct, kw_only=True):
    """What goes, what is kept and why, and what going means in figures."""

    runs: list[str]
    experiments: list[str]
    logged_models: list[str]
    kept: list[str]
    files: int = 0
    bytes: int = 0
    points: int = 0

    def things(self) -> list[str]:
        """What goes, as it is asked for."""
        told = [("run", self.runs), ("experiment", self.experiments), ("logged-model", self.logged_models)]
        return [f"{kind}/{name}" for kind, names in told for name in names]


def asked(things: Sequence[str]) -> Asked:
    """Read what a removal is asked to take.

    >>> asked(["run/r1", "model/delay", "model/delay/3"])
    Asked(runs=['r1'], experiments=[], logged_models=[], models=[('delay', None), ('delay', 3)])

    Raises:
        TreadleError: one that is no thing that can be removed.
    """
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for thing in dict.fromkeys(things):
        kind, _, name = thing.partition("/")
        if kind not in KINDS or not name:
            raise TreadleError(
                f"{thing[:200]!r} is nothing that can be removed.",
                remedy="Write run/ID, experiment/ID, logged-model/ID, model/NAME or model/NAME/NUMBER",
            )
        if kind == "model":
            model, slash, number = name.rpartition("/")
            named = (model, int(number)) if slash and number.isdigit() and len(number) < 19 else (name, None)
            found[kind].append(named)
        else:
            found[kind].append(name)
    return Asked(found["run"], found["experiment"], found["logged-model"], found["model"])


def plan(connection: Connection, project: str, wanted: Asked, *, going: Sequence[tuple[str, int | None]] = (), weigh: bool = True) -> Plan:
    """What would go.

    Args:
        going: registered models, or versions, that go before: they keep nothing.
        weigh: count files, bytes and points too.
    """
    kept: list[str] = []
    experiments = {e: found.experiment_id for e in wanted.experiments if (found := get_experiment(connection, project, e)) is not None}
    of_experiments = {e: queries.runs_of(connection, project, e) for e in experiments.values()}
    runs = list(dict.fromkeys([*wanted.runs, *(r for some in of_experiments.values() for r in some)]))
    facts = {fact.run_id: fact for fact in queries.run_facts(connection, project, runs)}
    models = list(wanted.logged_models)
    for experiment in of_experiments:
        models += queries.models_of(connection, project, experiment=experiment)
    known = queries.known_models(connection, project, models)
    holding = _holding(connection, project, going)
    held_models = {m for m in (*models, *_made(connection, project, runs)) if ("model", m) in holding}
    kept += [f"run/{r}: there is no such run" for r in wanted.runs if r not in facts]
    kept += [f"experiment/{e}: there is no such experiment" for e in wanted.experiments if e not in experiments]
    kept += [f"logged-model/{m}: there is no such logged model" for m in wanted.logged_models if m not in known]
    kept += [f"logged-model/{m}: {holding['model', m]}" for m in sorted(held_models)]
    gone: list[str] = []
    for run_id in runs:
        fact = facts.get(run_id)
        why = fact and (holding.get(("run", run_id)) or _busy(fact) or _through(connection, project, run_id, held_models, holding))
        if why:
            kept.append(f"run/{run_id}: {why}")
        elif fact:
            gone.append(run_id)
    spared = set(_made(connection, project, [r for r in facts if r not in set(gone)])) - set(wanted.logged_models) - held_models
    kept += [f"logged-model/{m}: the run that made it is kept" for m in sorted(spared & set(models))]
    there = {*known, *_made(connection, project, gone)} - held_models - spared
    models_gone = [m for m in dict.fromkeys([*models, *sorted(there)]) if m in there]
    experiments_gone = _experiments(of_experiments, set(gone), facts, connection, project, set(models_gone), kept)
    made = Plan(runs=gone, experiments=experiments_gone, logged_models=models_gone, kept=kept)
    if weigh:
        made.files, made.bytes, made.points = queries.weigh(connection, project, gone, models_gone)
    return made


def _experiments(
    of: dict[str, list[str]], gone: set[str], facts: Any, connection: Connection, project: str, models_gone: set[str], kept: list[str]
) -> list[str]:
    found: list[str] = []
    for experiment, runs in of.items():
        stays = sum(1 for r in runs if r in facts and r not in gone)
        stays += sum(1 for m in queries.models_of(connection, project, experiment=experiment) if m not in models_gone)
        if experiment == DEFAULT_EXPERIMENT:
            kept.append(f"experiment/{experiment}: every project has it; what is in it goes")
        elif stays:
            kept.append(f"experiment/{experiment}: {stays} of its runs and logged models are kept")
        else:
            found.append(experiment)
    return found


def _made(connection: Connection, project: str, runs: Sequence[str]) -> list[str]:
    return queries.models_of(connection, project, runs=runs) if runs else []


def _busy(fact: queries.RunFacts) -> str:
    if fact.at_work:
        return "a worker has it, or will; cancel it first"
    if fact.state not in ENDED and fact.lifecycle == Lifecycle.active:
        return f"it has not ended ({fact.state}); end it, or put it into the bin first"
    return ""


def _through(connection: Connection, project: str, run_id: str, held: set[str], holding: dict[tuple[str, str], str]) -> str:
    """Why a run is kept whose logged model is."""
    if not held:
        return ""
    model = next((m for m in _made(connection, project, [run_id]) if m in held), None)
    return f"its logged model {model} is kept: {holding['model', model]}" if model else ""


def _holding(connection: Connection, project: str, going: Sequence[tuple[str, int | None]]) -> dict[tuple[str, str], str]:
    """(run or model, id) → which registered version refers to it."""
    leaving = set(going)
    found: dict[tuple[str, str], str] = {}
    for model, number, run_id, model_id, source in queries.registered(connection, project):
        if (model, None) in leaving or (model, number) in leaving:
            continue
        why = f"model/{model}/{number} refers to it"
        for kind, name in (("run", run_id), ("model", model_id), *_of_source(source)):
            if name:
                found.setdefault((kind, name), why)
    return found


def _of_source(source: str) -> list[tuple[str, str]]:
    """Runs and logged models that the address of a version's files may name."""
    scheme, _, rest = source.partition(":")
    parts = [part for part in rest.split("/") if part]
    if scheme == "runs":
        return [("run", parts[0])] if parts else []
    if scheme == "models":
        return [("model", parts[0])] if parts else []
    return [(kind, part) for part in parts for kind in ("run", "model")] if scheme == "mlflow-artifacts" else []


# ── the work ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def carry_out(database: Database, project: str, planned: Plan, call: Call, *, erase_events: bool = False) -> Plan:
    """Remove what is planned; returns what did go, with what was kept after all."""
    now = SystemClock().now()
    things = planned.things()
    done = Plan(runs=[], experiments=[], logged_models=[], kept=list(planned.kept), files=planned.files, bytes=planned.bytes)
    if not things:
        return done
    told = {"things": things[:1000], "count": len(things)}
    database.write(lambda tx: events.append(tx, call, type=BEGUN, subject="removal", project=project, payload=told))
    for some in _parts(planned.runs, 500):
        database.write(lambda tx, some=some: queries.put_into_bin(tx, project, some, now))
    for some in _parts(planned.logged_models, RUNS):
        _strip_files(database, project, some)
        gone = database.write(lambda tx, some=some: _drop_models(tx, project, some))
        done.logged_models += gone
        done.kept += [f"logged-model/{m}: a version refers to it since" for m in some if m not in gone]
    for some in _parts(planned.runs, RUNS):
        for run_id in some:
            done.points += _strip(database, project, run_id)
        gone = database.write(lambda tx, some=some: _drop_runs(tx, project, some))
        done.runs += gone
        done.kept += [f"run/{r}: a version refers to it since" for r in some if r not in gone]
    for experiment in planned.experiments:
        if database.write(lambda tx, experiment=experiment: queries.drop_experiment(tx, project, experiment)):
            done.experiments.append(experiment)
        else:
            done.kept.append(f"experiment/{experiment}: something is in it since")
    if erase_events:
        erase(database, project, done.things(), call)
    return done


def erase(database: Database, project: str, subjects: Sequence[str], call: Call) -> int:
    """Erase what events told of things; of each erasure an event tells, and the chain still verifies. Returns how many."""
    with database.read() as connection:
        found = queries.event_ids(connection, project, subjects)
    for some in _parts(found, EVENTS):
        database.write(lambda tx, some=some: _erase(tx, project, some, call))
    return len(found)


def _erase(tx: Connection, project: str, ids: Sequence[str], call: Call) -> None:
    for event_id in ids:
        if event_queries.erase_payload(tx, project, event_id):
            told = {"event_id": event_id, "reason": "what it is about was removed for good"}
            events.append(tx, call, type=ERASED, subject=f"event/{event_id}", project=project, payload=told)


def _strip(database: Database, project: str, run_id: str) -> int:
    """Take what a run has much of, a little at a time; returns how many points."""
    points = 0
    while gone := database.write(lambda tx: queries.drop_points(tx, project, run_id, POINTS)):
        points += gone
        if gone < POINTS:
            break
    while database.write(lambda tx: queries.drop_lines(tx, project, run_id, POINTS)) >= POINTS:
        pass
    _strip_files(database, project, [run_id])
    return points


def _strip_files(database: Database, project: str, owners: Sequence[str]) -> None:
    for owner in owners:
        while database.write(lambda tx, owner=owner: queries.drop_files(tx, project, owner, POINTS)) >= POINTS:
            pass


def _drop_runs(tx: Connection, project: str, runs: Sequence[str]) -> list[str]:
    holding = _holding(tx, project, ())
    free = [r for r in runs if ("run", r) not in holding]
    queries.drop_runs(tx, project, free)
    return free


def _drop_models(tx: Connection, project: str, models: Sequence[str]) -> list[str]:
    holding = _holding(tx, project, ())
    free = [m for m in models if ("model", m) not in holding]
    queries.drop_models(tx, project, free)
    return free


def binned(connection: Connection, project: str, before: dt.datetime) -> Asked:
    """Everything that has been in the bin since before a time."""
    return Asked(
        queries.binned(connection, project, before),
        queries.binned_experiments(connection, project, before),
        queries.binned_models(connection, project, before),
    )


def _parts(values: Sequence[str], size: int) -> list[Sequence[str]]:
    return [values[n : n + size] for n in range(0, len(values), size)]
