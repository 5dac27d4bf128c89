"""The step that a training pipeline starts with: labelled rows, each with its features as of its own moment."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from treadle.data.splits import newest_by_key
from treadle.data.steps import pin
from treadle.features.declare import AnyView, view_of
from treadle.features.join import Source, join_features
from treadle.online.windows import columns_of
from treadle.pipelines import context, step, value
from treadle.records.clock import utc
from treadle.records.definitions import Dataset, FeatureView, Label, bare
from treadle.records.errors import TreadleError


def training_set(
    dataset: Dataset,
    *,
    features: Iterable[AnyView],
    label: str | Label | tuple[Dataset, str],
    until: dt.datetime | str,
    since: dt.datetime | str | None = None,
    sources: Iterable[Dataset] = (),
) -> pl.DataFrame:
    """Rows to learn from, as they could have been known at `until`. In a run, gives a handle of the frame.

    Args:
        dataset: its rows are the examples; needs `time` (the moment of prediction) and `key`.
        features: views, joined as of each row's time.
        label: a column of `dataset` (null: not yet known), or `(outcome dataset, column)`, joined by the key; only outcomes known by
            `until` count, by the outcome dataset's own time. A `tr.label` stands for either.
        until: rows before it.
        since: rows from it on.
        sources: the datasets that the views read, where they are neither `dataset` nor the label's.

    Returns:
        The time column, the dataset's other columns, the label, and `view.feature` columns; one row a key, sorted by time and
        then by key.

    Raises:
        TreadleError: `bad_definition`: a source, time or key is not declared; `bad_data`: no row has a label.
    """
    views = tuple(bare(view_of(v)) for v in features)
    label = _resolved(label, dataset, (*_declared(), *sources)) if isinstance(label, Label) else label
    outcome = label[0] if isinstance(label, tuple) else None
    known = {d.name: d for d in (*_declared(), *sources, *([outcome] if outcome else []), dataset)}
    needed = {dataset.name, *([outcome.name] if outcome else []), *(v.source for v in views)}
    for name in sorted(needed):
        if name not in known:
            raise _wrong(f"The features read the dataset {name!r}, which was not given.", "Pass it: training_set(…, sources=[…])")
        if known[name].time is None:
            raise _wrong(f"The dataset {name} declares no time column.", f"tr.dataset({name!r}, time=…)")
    if outcome and not dataset.key:
        raise _wrong(f"{dataset.name} has no key to join outcomes by.", f"tr.dataset({dataset.name!r}, key=…)")
    plain = {n: bare(known[n]) for n in sorted(needed)}
    return build(
        plain[dataset.name],
        features=list(views),
        label=[plain[outcome.name], label[1]] if outcome else label,
        until=_moment(until),
        since=None if since is None else _moment(since),
        sources=[plain[n] for n in sorted(needed)],
        pins=[value(pin(name)) for name in sorted(needed)],
    )


@step(name="training_set")
def build(
    dataset: Dataset,
    *,
    features: Sequence[FeatureView],
    label: Any,
    until: dt.datetime,
    since: dt.datetime | None,
    sources: Sequence[Dataset],
    pins: Sequence[dict[str, Any]],
) -> pl.DataFrame:
    """The work of `training_set`, from pinned versions."""
    run = context.current()
    data = run.resource("data")
    times = {d.name: d.time or "" for d in sources}
    outcome = None if isinstance(label, str) else label[0].name
    wanted = {name: _wanted(name, features, times[name], (*dataset.key, label[1]) if name == outcome else ()) for name in times}
    wanted[dataset.name] = None  # the examples: every column is kept
    frames = {p["dataset"]: data.read(run.project, p["dataset"], p["number"], wanted[p["dataset"]]).collect() for p in pins}
    rows = labelled(
        frames[dataset.name],
        time=times[dataset.name],
        key=dataset.key,
        label=label if isinstance(label, str) else label[1],
        outcomes=None if isinstance(label, str) else Source(frames[label[0].name], times[label[0].name]),
        until=until,
        since=since,
    )
    if not rows.height:
        raise TreadleError(
            f"No row of {dataset.name} before {until:%Y-%m-%d %H:%M} UTC has a label that was known by then.",
            remedy="Choose a later `until`, or check that outcomes are appended: treadle data versions",
            code="bad_data",
        )
    given = {name: Source(frame, times[name]) for name, frame in frames.items()}
    joined = join_features(rows, time=times[dataset.name], views=features, sources=given)
    run.log(f"training set: {joined.height:,} rows x {joined.width} columns until {until:%Y-%m-%d %H:%M} UTC")
    return joined


def labelled(
    rows: pl.DataFrame,
    *,
    time: str,
    key: Sequence[str],
    label: str,
    outcomes: Source | None,
    until: dt.datetime,
    since: dt.datetime | None = None,
) -> pl.DataFrame:
    """The newest row of each key with `since <= time < until` and its label, if that was known by `until`; time column first, sorted
    by time, then by key. Pure.

    Args:
        rows: examples, in the order they were appended.
        time: their time column.
        key: their key.
        label: the label's column, in `rows`, or in `outcomes` where these are given.
        outcomes: rows with key and label, and the column of the moment at which they became known.
        until: the moment of knowledge.
        since: the oldest time.
    """
    holder = rows if outcomes is None else outcomes.frame
    if label not in holder.columns:
        raise TreadleError(
            f"The label {label!r} is no column of the {'rows' if outcomes is None else 'outcomes'}.",
            remedy=f"Name one of {', '.join(holder.columns)}, or label=(outcome dataset, column).",
            code="bad_data",
            details={"column": label},
        )
    chosen = rows.filter(pl.col(time) < pl.lit(until), *([pl.col(time) >= pl.lit(since)] if since else []))
    chosen = newest_by_key(chosen, list(key), time)
    if outcomes is not None:
        told = outcomes.frame.filter(pl.col(outcomes.time) <= pl.lit(until))
        told = newest_by_key(told, list(key), outcomes.time).select(*key, label)
        chosen = chosen.drop(label, strict=False).join(told, on=list(key), how="inner", maintain_order="left")
    chosen = chosen.filter(pl.col(label).is_not_null())
    return chosen.select(time, pl.exclude(time)).sort(time, *key, maintain_order=True)


def _wanted(name: str, views: Sequence[FeatureView], time: str, also: Iterable[str]) -> list[str] | None:
    """The columns of a source that its views need; None for all of them, where a transform may ask for any."""
    mine = [view for view in views if view.source == name]
    if any(view.transform for view in mine):
        return None
    named = [column for view in mine for column in (*view.entity, *columns_of(view), *view.columns)]
    return list(dict.fromkeys([time, *also, *named]))


def _resolved(label: Label, dataset: Dataset, known: Iterable[Dataset]) -> str | tuple[Dataset, str]:
    """A declared label as its column, with the dataset that holds it where that is not the examples' own."""
    if label.dataset == dataset.name:
        return label.column
    held = next((d for d in known if d.name == label.dataset), None)
    if held is None:
        raise _wrong(f"The label {label.name} is of the dataset {label.dataset!r}, which was not given.", "training_set(…, sources=[…])")
    return held, label.column


def _declared() -> tuple[Dataset, ...]:
    """The datasets of the project that is applied, where there is a run."""
    run = context.peek()
    project = run.resources.get("project") if run else None
    return project.datasets if project is not None else ()


def _moment(moment: dt.datetime | str) -> dt.datetime:
    return utc(dt.datetime.fromisoformat(moment) if isinstance(moment, str) else moment)


def _wrong(what: str, remedy: str) -> TreadleError:
    return TreadleError(what, remedy=remedy, code="bad_definition")
