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
from treadle.ledger import lineage
from treadle.pipelines import context, step, value
from treadle.records.data import Verdict
from treadle.records.definitions import Dataset
from treadle.records.ledger import Edge


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


@step
def judge(dataset: Dataset, pinned: dict[str, Any], reference: dict[str, Any] | None) -> Verdict:
    """The verdict on the rows that a version has beyond the reference version (all of its rows where there is none)."""
    run = context.current()
    data = run.resource("data")
    version = data.version(run.project, dataset.name, pinned["number"])
    rows = data.read(run.project, dataset.name, version.number, after=reference["number"] if reference else 0).collect()
    profile = data.profile(run.project, dataset.name, reference["number"]) if reference else None
    checks = {c.name: _imported(c.entry.path) for c in dataset.checks}
    verdict = validation.validate(dataset, rows, profile, columns=version.columns, checks=checks)
    for finding in verdict.findings:
        run.log(f"{finding.effect}: {finding.text}")
    run.log(f"{dataset.name}: {verdict.decision}, {rows.height:,} rows looked at")
    return verdict


def validate(dataset: Dataset, *, since: int | None = None, halt: bool = True) -> Verdict:
    """Judge a dataset's newest version: the rows added since version `since`, against that version's profile.

    Args:
        dataset: the dataset.
        since: the version that is known to be good, e.g. what the champion was trained on; None looks at all rows, without a
            comparison of distributions.
        halt: whether rows that must not be used end the run.

    Returns:
        The verdict: `go`, `retrain` or, with `halt=False`, `halt`.

    Raises:
        TreadleError: `bad_data` where the verdict is to halt.
    """
    pinned = value(pin(dataset.name))
    reference = value(pin(dataset.name, since, "reference")) if since and since < pinned["number"] else None
    verdict = value(judge(structs.replace(dataset, description="", owner=""), pinned, reference))
    return validation.require(verdict, what=dataset.name) if halt else verdict


@step
def split_by_time(rows: pl.DataFrame, test: str | dt.datetime = "14d", time: str | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, test): the test rows are the newest, `"14d"` of them or those from a moment on. `time` defaults to the first datetime."""
    return splits.by_time(rows, test=test, time=time)


@step
def split_random(rows: pl.DataFrame, test: float = 0.2, seed: int = 0, key: str | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(train, test): a seeded share of the rows, or of the values of `key` with all their rows."""
    return splits.at_random(rows, test=test, seed=seed, key=key)


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
