"""What other retraining policies would have made of the same year, on the same logged features.

*never*: the first version answers everything. *monthly*: at the start of each month a model is trained, with the same settings, on
everything known by then, and answers that month. Both see exactly the inputs and features that the gateway logged.
"""

import datetime as dt
import zoneinfo
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl

from treadle.online.encoding import encode_frame
from treadle.packaging.bundle import load
from treadle.packaging.scoring import score_fitted
from treadle.plugins.storage import BlobStore
from treadle.records.models import Bundle, Signature
from treadle.training.fit import fit_lightgbm
from treadle.workshop.verify import ZONE


def inputs_of(rows: pl.DataFrame, signature: Signature) -> pl.DataFrame:
    """Logged rows with the model's inputs under their own names."""
    columns = [pl.col(f"{'in' if c.origin == 'request' else 'ft'}.{c.name}").alias(c.name) for c in signature.inputs]
    return rows.with_columns(columns)


def never(rows: pl.DataFrame, blobs: BlobStore, first_bundle: str) -> np.ndarray:
    """Scores of the first version for all rows."""
    bundle, predictor = load(blobs, first_bundle)
    return predictor.predict(encode_frame(bundle.signature, inputs_of(rows, bundle.signature)))


def monthly(rows: pl.DataFrame, before: pl.DataFrame, bundle: Bundle, *, label: str, seed: int) -> tuple[np.ndarray, int]:
    """Scores of a model trained anew at the start of each month, and how many trainings that took.

    Args:
        rows: logged rows with `truth`, `known_at` (UTC) and `month`, sorted as they are to be scored.
        before: training rows of the time before the log, with the inputs under their names, `truth` and `known_at`.
        bundle: of the first version: its inputs and settings.
        label, seed: as in the first training.
    """
    names = [c.name for c in bundle.signature.inputs]
    unknown = {c.name: c.unknown for c in bundle.signature.inputs if c.categories is not None}
    logged = inputs_of(rows, bundle.signature)
    past = pl.concat([before.select(*names, "truth", "known_at"), logged.select(*names, "truth", "known_at")], how="vertical_relaxed")
    scores = np.full(rows.height, np.nan)

    def train_and_score(month: str) -> None:
        train = past.filter(pl.col("truth").is_not_null() & (pl.col("known_at") < _start(month)))
        fitted = fit_lightgbm(
            train.with_columns(pl.col("truth").cast(pl.Boolean).alias(label)),
            features=names,
            label=label,
            params=_settings(bundle),
            seed=seed,
            unknown=unknown,
        )
        asked = (rows["month"] == month).to_numpy()
        part = logged.filter(pl.Series(asked))
        scores[asked] = score_fitted(fitted, part)

    listed = sorted(rows["month"].unique())
    # LightGBM lets go of the interpreter; two trainings side by side use two cores better than each of them does alone.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train_and_score, listed))
    return scores, len(listed)


def _settings(bundle: Bundle) -> dict[str, Any]:
    return dict(bundle.card.get("params", {}))


def _start(month: str) -> dt.datetime:
    year, number = month.split("-")
    return dt.datetime(int(year), int(number), 1, tzinfo=zoneinfo.ZoneInfo(ZONE)).astimezone(dt.UTC)
