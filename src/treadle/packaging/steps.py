"""Evaluating as a step: the candidate, the champion's sealed bundle and the baseline score the same held-out rows, through the same
encoding that serving runs. The champion comes as the digest of its bundle, pinned by the registry's room, which is above this one."""

import datetime as dt
from typing import Any

import numpy as np
import polars as pl

from treadle.evaluation.report import report
from treadle.online.encoding import encode_frame
from treadle.packaging import bundle
from treadle.packaging.scoring import score_fitted, score_frame
from treadle.pipelines import step
from treadle.pipelines.context import current
from treadle.records.digests import digest
from treadle.records.models import Fitted, Report
from treadle.training.fit import truth_of


@step(name="evaluate")
def measure(
    fitted: Fitted,
    test: pl.DataFrame,
    metrics: list[Any],
    slices: list[str],
    champion: str | None = None,
    champion_version: int | None = None,
    baseline: Fitted | None = None,
    time: str | None = None,
) -> Report:
    """Score and measure; see `registry.steps.evaluate`, which pins the champion.

    Args:
        fitted: the candidate.
        test: held-out rows with its features and label, and the columns of `slices`.
        metrics: names, or functions marked by `@metric`.
        slices: columns to slice by.
        champion: digest of the champion's bundle.
        champion_version: its number.
        baseline: another model to compare with.
        time: the rows' time column; the first datetime column where None.
    """
    truth = truth_of(test, fitted.label)
    matrix = encode_frame(fitted.signature, test)
    theirs, learned = None, None
    if champion is not None:
        sealed, predictor = bundle.load(current().resource("blobs"), champion)
        theirs, learned = score_frame(sealed.signature, predictor, test), sealed.card.get("trained_until")
    return report(
        truth,
        score_fitted(fitted, test),
        test,
        metrics=metrics,
        slices=slices,
        champion=theirs,
        champion_version=champion_version,
        champion_until=dt.datetime.fromisoformat(learned) if learned else None,
        baseline=None if baseline is None else score_fitted(baseline, test),
        time=time or next((name for name, kind in test.schema.items() if isinstance(kind, pl.Datetime)), None),
        test_digest=digest(np.ascontiguousarray(np.column_stack([matrix, truth])).tobytes()),
    )
