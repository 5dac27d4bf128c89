"""What one block of predictions was like: its report, and its part in a release's evidence. Functions of arrays."""

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from treadle.evaluation import metrics as table
from treadle.monitoring.blocks import Block
from treadle.monitoring.decay import auc
from treadle.monitoring.drift import Bins, psi
from treadle.records.monitoring import WindowReport
from treadle.records.releases import Block as Paired

Array = NDArray[Any]
#: Least rows of a slice that is reported.
SLICE_ROWS = 30


class Place(Struct, frozen=True, kw_only=True):
    """Where a block was seen."""

    project: str
    environment: str
    endpoint: str


def report(block: Block, place: Place, *, champion: int | None, bins: dict[str, Bins], slices: tuple[str, ...] = ()) -> WindowReport:
    """The report of a block as far as its outcomes are known now.

    `metrics` has no entry for what is not defined: no outcome yet, or one class only. `drift` is each column's PSI against the
    champion's reference.
    """
    outcome = block.outcome
    known = ~np.isnan(outcome)
    truth, score = outcome[known], block.of("output")[known]
    measured = _measured(truth, score)
    latency = block.of("latency_us")[block.of("first") > 0]
    if len(latency):
        measured["latency_p99_us"] = float(np.percentile(latency, 99))
        measured["latency_p50_us"] = float(np.percentile(latency, 50))
    versions, counts = np.unique(block.of("model_version"), return_counts=True)
    facts: dict[str, Any] = {"versions": {str(int(v)): int(n) for v, n in zip(versions, counts, strict=True)}}
    paired = int((~np.isnan(block.of("other"))).sum())
    if paired:
        facts["paired"] = paired
    if slices:
        facts["slices"] = _slices(block, slices, known, truth, score)
    served = int(versions[np.argmax(counts)]) if len(versions) else champion
    return WindowReport(
        project=place.project,
        environment=place.environment,
        endpoint=place.endpoint,
        start=block.start,
        end=block.end,
        predictions=block.rows,
        rejected=block.rejected,
        outcomes=int(known.sum()),
        metrics=measured,
        drift={n: psi(bins[n].reference, c) for n, c in block.counts.items() if n in bins} if block.counted_for == champion else {},
        champion=served,
        facts=facts,
    )


def paired_block(block: Block, *, champion: int, challenger: int, since_us: int, metric: str) -> Paired | None:
    """A block's paired difference for a canary, None where no pair has its outcome.

    Losses per row where the metric is one (`brier`, `log_loss`, `mae`, `mse`), else the metric of the whole block turned so that
    positive means the challenger is worse; a block where it is not defined gives None.
    """
    truth, old, new = block.paired(champion, challenger, since_us)
    if not len(truth):
        return None
    loss = _LOSSES.get(metric)
    if loss is not None:
        difference = float((loss(truth, new) - loss(truth, old)).mean())
    else:
        kind = table.find(metric)
        difference = -kind.direction * (kind.function(truth, new) - kind.function(truth, old))
    if not np.isfinite(difference):
        return None
    scale = float(np.sqrt(np.square(new - old).mean()))
    return Paired(start=block.start, rows=len(truth), difference=float(difference), scale=scale or 1.0)


def _brier(truth: Array, score: Array) -> Array:
    return np.square(score - truth)


def _log_loss(truth: Array, score: Array) -> Array:
    p = np.clip(score, 1e-15, 1 - 1e-15)
    return -(truth * np.log(p) + (1 - truth) * np.log1p(-p))


def _absolute(truth: Array, score: Array) -> Array:
    return np.abs(score - truth)


_LOSSES = {"brier": _brier, "log_loss": _log_loss, "mae": _absolute, "mse": _brier}


def _measured(truth: Array, score: Array) -> dict[str, float]:
    if not len(truth):
        return {}
    found = {"mean_predicted": float(score.mean()), "mean_observed": float(truth.mean())}
    if np.isin(truth, (0.0, 1.0)).all():
        found["brier"] = float(_brier(truth, score).mean())
        found["log_loss"] = float(_log_loss(truth, score).mean())
        ranked = auc(truth, score)
        if ranked is not None:
            found["roc_auc"] = ranked
    else:
        found["mae"] = float(_absolute(truth, score).mean())
        found["rmse"] = float(np.sqrt(_brier(truth, score).mean()))
    return found


def _slices(block: Block, slices: tuple[str, ...], known: Array, truth: Array, score: Array) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in slices:
        values = np.array([v if v is not None else "" for v in block.slice_values(name)], dtype=object)[known]
        for value in sorted(set(values)):
            here = values == value
            if here.sum() >= SLICE_ROWS:
                found[f"{name}={value}"] = {"rows": int(here.sum()), **_measured(truth[here], score[here])}
    return found
