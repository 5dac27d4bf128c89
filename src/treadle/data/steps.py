"""Steps on data: pin a version for the run, judge new rows, split.

A run must see the same rows when it is resumed, and its cache must know which rows they were. So a plain function in front asks
`pin`, a journaled step that is never cached, for the version to use, and hands its number and digest to the step that works.
"""

import datetime as dt
import importlib
from typing import Any

import polars as pl
from msgspec import structs

from treadle.data import splits
from treadle.data import validate as validation
from treadle.ledger import events, lineage
from treadle.operations.ledger import LogMetrics, SetTags
from treadle.pipelines import context, step, value
from treadle.records.calls import Call
from treadle.records.data import Finding, Verdict
from treadle.records.definitions import Dataset
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.ledger import Edge, Metric
from treadle.store.db import Connection
from treadle.store.queries import events as queries

#: A dataset's rows made a pipeline halt, or ask for retraining.
SKEWED = "treadle.data.skewed"
_SAID = 500  # characters of a tag


@step(cache=False)
def pin(dataset: str, number: int = 0, role: str = "read") -> dict[str, Any]:
    """The version of a dataset that this run uses (0: the newest now), and the lineage edge that says so.

    Returns:
        `{"dataset", "number", "digest", "rows", "delta_version"}`.
    """
    run = context.current()
    version = run.resource("data").version(run.project, dataset, number)
    edge = Edge(project=run.project, child=run.run_id, parent=version.digest, role=role, run_id=run.run_id)
    if "db" in run.resources:
        run.resource("db").write(lambda tx: lineage.add_edge(tx, edge))
    run.log(f"{dataset} version {version.number}: {version.rows:,} rows ({version.digest[:12]})")
    return {
        "dataset": dataset,
        "number": version.number,
        "digest": version.digest,
        "rows": version.rows,
        "delta_version": version.delta_version,
    }


@step(cache=False)
def pin_reference(dataset: str, model: str) -> dict[str, Any]:
    """The version of a dataset that a model's champion was trained on, as the run found it, and the lineage edge that says so.

    Returns:
        What `pin` does, and `of`, the champion (`delay@3`). Where there is none, `number` is 0 and `of` says why.
    """
    run = context.current()
    if not model or "registry" not in run.resources:
        return {"dataset": dataset, "number": 0, "of": "no model of this project is served"}
    registry = run.resource("registry")
    champion = registry.champion(run.project, model, run.environment)
    if champion is None:
        return {"dataset": dataset, "number": 0, "of": f"{model} has no champion"}
    with run.resource("db").read() as connection:
        read = [lineage.get_version(connection, run.project, d) for d in registry.datasets_of_run(run.project, champion.run_id)]
    numbers = [v.number or 0 for v in read if v is not None and v.kind == "dataset" and v.name == dataset]
    name = f"{model}@{champion.number}"
    if not numbers:
        return {"dataset": dataset, "number": 0, "of": f"{name} was not trained on it"}
    return {**value(pin(dataset, max(numbers), "reference")), "of": name}


@step
def judge(dataset: Dataset, pinned: dict[str, Any], reference: dict[str, Any] | None) -> Verdict:
    """The verdict on the rows that a version has beyond the reference version (all of its rows where there is none)."""
    run = context.current()
    data = run.resource("data")
    version = data.version(run.project, dataset.name, pinned["number"])
    since = reference["number"] if reference and reference["number"] < pinned["number"] else 0
    rows = data.read(run.project, dataset.name, version.number, after=since).collect()
    profile = data.profile(run.project, dataset.name, since) if since else None
    checks = {c.name: _imported(c.entry.path) for c in dataset.checks}
    verdict = validation.validate(dataset, rows, profile, columns=version.columns, checks=checks)
    if reference and not since:
        why = f"no rows since {reference['of']} was trained" if reference["number"] else f"no reference yet, {reference['of']}"
        note = Finding(check="reference", column=None, effect="note", text=f"Values of {dataset.name} were not compared: {why}.")
        verdict = structs.replace(verdict, findings=[*verdict.findings, note])
    for finding in verdict.findings:
        run.log(f"{finding.effect}: {finding.text}")
    compared = f", compared with version {since}" if since else ""
    run.log(f"{dataset.name}: {verdict.decision}, {rows.height:,} rows looked at{compared}")
    return verdict


@step(cache=False)
def record_verdict(dataset: str, pinned: dict[str, Any], reference: dict[str, Any] | None, verdict: Verdict) -> str:
    """Keep a decision where people and triggers look: a tag and metrics of the run, and an event where it is not to go on as before.

    Without a home (a notebook) nothing is kept. Repeating it after an interruption changes nothing.

    Returns:
        The tag: the decision and, in words, its evidence.
    """
    run = context.current()
    told = summary(verdict)
    if "dispatch" in run.resources:
        dispatch = run.resource("dispatch")
        dispatch(SetTags(project=run.project, run_id=run.run_id, tags={f"data.{dataset}": told}), actor=run.actor)
        points = [Metric(key=f"shift.{dataset}.{s.column}", value=s.value, time=run.event_time) for s in verdict.shifts]
        if points:
            dispatch(LogMetrics(project=run.project, run_id=run.run_id, metrics=points), actor=run.actor)
    if "db" in run.resources and verdict.decision != "go":
        since = reference if reference and reference["number"] else None
        payload = {
            "dataset": dataset,
            "version": pinned["number"],
            "run_id": run.run_id,
            "decision": verdict.decision,
            "text": told,
            "rows": verdict.rows,
            "reference": since["number"] if since else None,
            "reference_of": since["of"] if since else "",
            "shifts": verdict.shifts,
            "findings": [f for f in verdict.findings if f.effect != "note"],
        }
        run.resource("db").write(lambda tx: _tell(tx, run, f"dataset/{dataset}", payload))
    return told


def summary(verdict: Verdict) -> str:
    """A verdict in words: the decision, and what it stands on, the farthest columns first.

    >>> summary(Verdict(decision="go", findings=[]))
    'go'
    """
    if verdict.decision == "halt":
        return f"halt: {' '.join(f.text for f in verdict.findings if f.effect == 'halt')}"[:_SAID]
    notes = [f.text for f in verdict.findings if f.check == "reference"]
    if not verdict.shifts:
        return f"{verdict.decision}{''.join(f': {text}' for text in notes)}"
    moved = [s for s in verdict.shifts if s.moved] or verdict.shifts[:1]
    said = ", ".join(f"{s.column} {s.measure} {s.value:.3f}" for s in moved)
    return f"{verdict.decision}: {said} ({'above' if moved[0].moved else 'at most'} {moved[0].threshold:g})"[:_SAID]


def validate(dataset: Dataset, *, since: int | str | None = None, model: str = "", halt: bool = True) -> Verdict:
    """Judge a dataset's newest version: the rows added since a version that is known to be good, against that version's profile.

    The decision and its evidence are kept with the run: a tag `data.DATASET`, a metric `shift.DATASET.COLUMN` per compared column, and an
    event `treadle.data.skewed` where it is to retrain or to halt.

    Args:
        dataset: the dataset.
        since: the version; `"champion"` for what the champion of the project's model was trained on (where there is none yet, the
            verdict says so); None looks at all rows, without a comparison of distributions.
        model: whose champion, where the project serves several models.
        halt: whether rows that must not be used end the run.

    Returns:
        The verdict: `go`, `retrain` or, with `halt=False`, `halt`.

    Raises:
        TreadleError: `bad_data` where the verdict is to halt; `bad_definition` for another `since`, or several models.
    """
    pinned = value(pin(dataset.name))
    reference: dict[str, Any] | None = None
    if isinstance(since, str):
        reference = value(pin_reference(dataset.name, _served(since, model)))
    elif since and since < pinned["number"]:
        reference = {**value(pin(dataset.name, since, "reference")), "of": f"version {since}"}
    verdict = value(judge(structs.replace(dataset, description="", owner=""), pinned, reference))
    value(record_verdict(dataset.name, pinned, reference, verdict))
    return validation.require(verdict, what=dataset.name) if halt else verdict


@step
def split_by_time(rows: pl.DataFrame, test: str | dt.datetime = "14d", time: str | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, test): the test rows are the newest, `"14d"` of them or those from a moment on. `time` defaults to the first datetime."""
    return splits.by_time(rows, test=test, time=time)


@step
def split_random(rows: pl.DataFrame, test: float = 0.2, seed: int = 0, key: str | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, test): a seeded share of the rows, or of the values of `key` with all their rows."""
    return splits.at_random(rows, test=test, seed=seed, key=key)


def _served(since: str, model: str) -> str:
    """The model whose champion is meant, "" where the project serves none."""
    if since != "champion":
        raise TreadleError(
            f"{since!r} is no version to compare with.", remedy='Give its number, or since="champion".', code="bad_definition"
        )
    run = context.peek()
    project = run.resources.get("project") if run else None
    models = sorted({endpoint.model for endpoint in project.endpoints}) if project is not None else []
    if not model and len(models) > 1:
        raise TreadleError(
            f"The project serves several models ({', '.join(models)}); which one's champion is meant?",
            remedy=f'validate(…, since="champion", model={models[0]!r})',
            code="bad_definition",
        )
    return model or (models[0] if models else "")


def _tell(tx: Connection, run: context.RunContext, subject: str, payload: dict[str, Any]) -> None:
    """The event of a verdict, once a run and dataset."""
    seed = bytes.fromhex(digest_of([run.project, run.run_id, subject]))[:10]
    event_id = new_id("evt", at_ms=int(run.event_time.timestamp() * 1000), entropy=seed)
    if queries.get_event(tx, run.project, event_id) is None:
        call = Call(actor=run.actor, event_time=run.clock.now())
        where = {"project": run.project, "environment": run.environment}
        events.append(tx, call, type=SKEWED, subject=subject, payload=payload, event_id=event_id, **where)


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
