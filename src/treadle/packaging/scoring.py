"""Scoring a frame: the path that evaluation, reproduction and backtests share with serving: encode, then predict."""

from collections.abc import Sequence

import polars as pl

from treadle.online.encoding import encode_frame
from treadle.packaging import flavors
from treadle.packaging.flavors import Predictor, Scores
from treadle.records.models import Fitted, Signature


def score_frame(signature: Signature, predictor: Predictor, frame: pl.DataFrame) -> Scores:
    """Scores of a frame's rows, float64, in row order. Columns that the model does not take are left aside."""
    return predictor.predict(encode_frame(signature, frame))


def score_fitted(fitted: Fitted, frame: pl.DataFrame, *, trust: Sequence[str] = ()) -> Scores:
    """Scores of a frame's rows by a model that is not sealed yet."""
    return score_frame(fitted.signature, flavors.load(fitted.flavor, fitted.content, trust=trust), frame)
