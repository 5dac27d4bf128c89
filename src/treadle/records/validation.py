"""Records of a cross-validation."""

import datetime as dt

from msgspec import Struct


class FoldMetrics(Struct, frozen=True, kw_only=True):
    """One fold: rows it was trained and tested on, and what was measured. Times where the rows have them."""

    fold: int
    train_rows: int
    test_rows: int
    metrics: dict[str, float]
    train_until: dt.datetime | None = None
    test_from: dt.datetime | None = None
    test_until: dt.datetime | None = None


class CrossValidation(Struct, frozen=True, kw_only=True):
    """A model measured on several folds: mean and standard deviation (between folds, n - 1) of each metric that at least two have.

    `by` is random or time. Folds share training rows, so the deviation says how much one fold differs from another, not how sure the
    mean is (Bengio and Grandvalet 2004).
    """

    by: str
    folds: tuple[FoldMetrics, ...]
    mean: dict[str, float]
    std: dict[str, float]
    group: str | None = None

    @property
    def text(self) -> str:
        """In a line: `roc_auc 0.81 ± 0.02, brier 0.14 ± 0.01 over 5 folds by time`."""
        told = (f"{name} {value:.4g}" + (f" ± {self.std[name]:.2g}" if name in self.std else "") for name, value in self.mean.items())
        return f"{', '.join(told)} over {len(self.folds)} folds by {'time' if self.by == 'time' else 'chance'}"
