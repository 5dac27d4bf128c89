"""Evaluating as a step: the candidate, the champion's sealed bundle and the baseline score the same held-out rows, through the same
encoding that serving runs. The champion comes as the digest of its bundle, pinned by the registry's room, which is above this one. One that
was fitted again after its gates, on rows that are test rows now, is compared as it was judged, before it had learned from them."""

import datetime as dt
from typing import Any

import numpy as np
import polars as pl

from treadle.evaluation.report import edge, report
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
    time = time or next((name for name, kind in test.schema.items() if isinstance(kind, pl.Datetime)), None)
    theirs, until, as_judged = None, None, False
    if champion is not None:
        sealed, predictor = bundle.load(current().resource("blobs"), champion)
        signature, until = sealed.signature, _moment(sealed.card.get("trained_until"))
        if _seen(until, test, time) and (judged := bundle.load_judged(current().resource("blobs"), sealed)) is not None:
            (signature, predictor), as_judged = judged, True
            until = _moment(sealed.card["judged"]["until"])
        theirs = score_frame(signature, predictor, test)
    return report(
        truth,
        score_fitted(fitted, test),
        test,
        metrics=metrics,
        slices=slices,
        champion=theirs,
        champion_version=champion_version,
        champion_until=until,
        champion_as_judged=as_judged,
        baseline=None if baseline is None else score_fitted(baseline, test),
        time=time,
        test_digest=digest(np.ascontiguousarray(np.column_stack([matrix, truth])).tobytes()),
    )


def _moment(written: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(written) if written else None


def _seen(until: dt.datetime | None, test: pl.DataFrame, time: str | None) -> bool:
    """Whether a model that learned from rows up to a moment has learned from some of these."""
    first = edge(test, time, first=True)
    return until is not None and first is not None and until >= first
