"""Judging rows before anything is learned from them: go, retrain, or halt.

Two kinds of skew, two consequences. *Schema skew* (a column is missing, unexpected or retyped, a null or value is not allowed, a
check of the project's own finds bad rows) means that the data is wrong: halt. *Value skew* (a column's distribution moved away from the
reference) means that the world moved: retrain. The measure is the population stability index (Siddiqi, Credit Risk Scorecards, 2006,
p. 136: sum of (p - q) ln(p / q) over bins) with missing values as a bin of their own, less what sampling alone gives.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from treadle.data import schema
from treadle.data.profiles import shares
from treadle.records.data import ColumnProfile, Finding, Shift, TableProfile, Verdict
from treadle.records.definitions import Column, Dataset
from treadle.records.errors import TreadleError

_LEAST = 1e-4  # a share of zero would make the index infinite
_LISTED = 20  # categories compared one by one; the rest are pooled


def validate(
    definition: Dataset,
    frame: pl.DataFrame,
    reference: TableProfile | None = None,
    *,
    columns: tuple[Column, ...] = (),
    checks: Mapping[str, Callable[[pl.DataFrame], Any]] | None = None,
) -> Verdict:
    """The verdict on rows.

    Args:
        definition: the dataset they belong to; its `max_shift` is the index from which a column asks for retraining.
        frame: the rows.
        reference: what they are compared with; no value skew is looked for without one.
        columns: the schema where the definition declares none (that of a version).
        checks: the functions of `definition.checks`, by name.

    Returns:
        The decision, every finding with its number of rows, and how far each compared column is from the reference.
    """
    columns = definition.columns or columns
    found = schema.skew(frame, columns)
    broken = {f.column for f in found}
    whole = [c for c in columns if c.name not in broken]
    if not frame.height:
        found.append(Finding(check="empty", column=None, effect="halt", text="There are no rows."))
    found += _values(frame, whole)
    if definition.key and not set(definition.key) & broken:
        again = frame.height - frame.select(definition.key).n_unique()
        if again:
            text = f"{again} rows repeat the key {', '.join(definition.key)}; the newest of each counts."
            found.append(Finding(check="duplicate_key", column=definition.key[0], effect="note", text=text, rows=again))
    if not broken:
        found += [f for check in definition.checks for f in _checked(check.name, check.halt, (checks or {})[check.name], frame)]
    shifts: list[Shift] = []
    if reference is not None and frame.height:
        skip = {definition.time, *definition.key}
        compared = {c.name for c in whole} - skip
        for profile in reference.columns:
            value = shift(frame.get_column(profile.name), profile) if profile.name in compared else None
            if value is not None:
                shifts.append(Shift(column=profile.name, value=round(value, 6), threshold=definition.max_shift))
                found += [_moved(frame, profile, shifts[-1])] if shifts[-1].moved else []
    effects = {f.effect for f in found}
    decision = "halt" if "halt" in effects else "retrain" if "retrain" in effects else "go"
    return Verdict(decision=decision, findings=found, rows=frame.height, shifts=tuple(sorted(shifts, key=lambda s: (-s.value, s.column))))


def require(verdict: Verdict, *, what: str) -> Verdict:
    """The verdict, unless it halts.

    Raises:
        TreadleError: `bad_data`, with what was found.
    """
    if verdict.decision != "halt":
        return verdict
    texts = [f.text for f in verdict.findings if f.effect == "halt"]
    raise TreadleError(
        f"The rows of {what} halt the pipeline: {' '.join(texts[:5])}",
        remedy="Correct the source and append the corrected rows, or declare the change in the dataset's definition.",
        code="bad_data",
        details={"findings": [{"check": f.check, "column": f.column, "rows": f.rows} for f in verdict.findings]},
    )


def psi(before: np.ndarray, now: np.ndarray) -> float:
    """Population stability index of two distributions over the same bins; both are shares that add to 1."""
    p, q = np.maximum(before, _LEAST), np.maximum(now, _LEAST)
    return float(((q - p) * np.log(q / p)).sum())


def shift(series: pl.Series, reference: ColumnProfile) -> float | None:
    """The index of a column against its profile, less its mean under no change ((bins - 1)(1/n + 1/m)); None where the profile has no
    distribution."""
    if not len(series) or not reference.rows:
        return None
    series = series.fill_nan(None) if series.dtype.is_float() else series
    present = series.drop_nulls()
    missing = 1 - len(present) / len(series), reference.missing / reference.rows
    if reference.edges:
        before = np.asarray(reference.shares)
        now = shares(present.cast(pl.Float64).to_numpy(), np.asarray(reference.edges))
    elif reference.top:
        there = reference.rows - reference.missing
        names = [name for name, _ in reference.top[:_LISTED]]
        known = np.array([n for _, n in reference.top[:_LISTED]]) / there
        counts = dict(present.cast(pl.String).value_counts(name="n").iter_rows())
        seen = np.array([counts.get(name, 0) for name in names]) / max(len(present), 1)
        before, now = np.append(known, max(1 - known.sum(), 0)), np.append(seen, max(1 - seen.sum(), 0))
    elif reference.missing == reference.rows:
        before = now = np.ones(1)
    else:
        return None
    before, now = np.append(before * (1 - missing[1]), missing[1]), np.append(now * (1 - missing[0]), missing[0])
    bins = int(((before > 0) | (now > 0)).sum())
    return max(psi(before, now) - (bins - 1) * (1 / len(series) + 1 / reference.rows), 0.0)


def _moved(frame: pl.DataFrame, reference: ColumnProfile, moved: Shift) -> Finding:
    missing = frame.get_column(reference.name).null_count() / frame.height
    text = f"The column {reference.name} moved: stability index {moved.value:.3f}, of {moved.threshold:g} allowed."
    facts = {"psi": moved.value, "missing": missing, "missing_before": reference.missing / max(reference.rows, 1)}
    return Finding(check="shift", column=reference.name, effect="retrain", text=text, rows=frame.height, facts=facts)


def _values(frame: pl.DataFrame, columns: list[Column]) -> list[Finding]:
    """Values outside what the schema allows, counted for all columns in one pass."""
    rules: dict[str, tuple[Column, str, pl.Expr]] = {}
    for c in columns:
        here = pl.col(c.name)
        if c.values is not None:
            rules[f"values:{c.name}"] = (c, f"outside {', '.join(c.values[:8])}", ~here.is_in(list(c.values)))
        if c.minimum is not None:
            rules[f"minimum:{c.name}"] = (c, f"below {c.minimum:g}", here < c.minimum)
        if c.maximum is not None:
            rules[f"maximum:{c.name}"] = (c, f"above {c.maximum:g}", here > c.maximum)
    if not rules:
        return []
    counts = frame.select(expression.fill_null(False).sum().alias(name) for name, (_, _, expression) in rules.items()).row(0)
    found = []
    for (name, (column, words, _)), rows in zip(rules.items(), counts, strict=True):
        if rows:
            text = f"The column {column.name} has {rows} values {words}."
            found.append(Finding(check=name.partition(":")[0], column=column.name, effect="halt", text=text, rows=rows))
    return found


def _checked(name: str, halt: bool, function: Callable[[pl.DataFrame], Any], frame: pl.DataFrame) -> list[Finding]:
    answer = function(frame)
    bad = frame.select(answer.alias("bad")).get_column("bad") if isinstance(answer, pl.Expr) else pl.Series("bad", answer)
    if bad.dtype != pl.Boolean or len(bad) != frame.height:
        raise TreadleError(
            f"The check {name} gave {len(bad)} values of {bad.dtype} for {frame.height} rows.",
            remedy="Return one boolean a row: true where the row is bad.",
            code="bad_definition",
        )
    rows = int(bad.fill_null(False).sum())
    text = f"The check {name} finds {rows} bad rows."
    return [Finding(check=name, column=None, effect="halt" if halt else "note", text=text, rows=rows)] if rows else []
