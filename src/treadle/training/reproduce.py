"""Reproduction: was the second training the same as the first?

Equal bytes of the model prove it. Where a library is not deterministic the bytes differ, and equal predictions on the same rows say that
nothing that matters does. What differed in the surroundings (code, data, environment) is told along, so that a difference has a cause.
Pure; the workshop runs the second training and brings both.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from treadle.records.digests import digest

TOLERANCE = 1e-9


class Reproduction(Struct, frozen=True, kw_only=True):
    """What a reproduction found. `verdict`: `identical` (the same bytes), `equal` (other bytes, the same predictions within the
    tolerance), `different`. `changed`: what was not the same to begin with, in words."""

    verdict: str
    equal_digest: bool
    digest: str
    again: str
    rows: int
    max_difference: float | None
    changed: tuple[str, ...] = ()
    text: str = ""


def compare(
    first: bytes,
    second: bytes,
    *,
    predictions: np.ndarray | None = None,
    again: np.ndarray | None = None,
    before: Mapping[str, str | Sequence[str]] | None = None,
    after: Mapping[str, str | Sequence[str]] | None = None,
    tolerance: float = TOLERANCE,
) -> Reproduction:
    """Compare two trainings.

    Args:
        first: the sealed model's bytes.
        second: the bytes of the second training.
        predictions: the sealed model's scores on the proof or test rows.
        again: the second's scores of the same rows.
        before: surroundings by name (`code`, `environment`, `trained_on`, …) of the first.
        after: the same of the second.
        tolerance: largest absolute difference of scores that counts as equal.
    """
    one, two = digest(first), digest(second)
    difference = None
    if predictions is not None and again is not None:
        same_shape = predictions.shape == again.shape
        difference = float(np.max(np.abs(predictions - again), initial=0.0)) if same_shape else float("inf")
    old, new = before or {}, after or {}
    told = (_told(name, old.get(name, ""), new.get(name, "")) for name in sorted({*old, *new}))
    changed = tuple(text for text in told if text)
    rows = 0 if predictions is None else len(predictions)
    equal = difference is not None and difference <= tolerance
    verdict = "identical" if one == two else "equal" if equal else "different"
    return Reproduction(
        verdict=verdict,
        equal_digest=one == two,
        digest=one,
        again=two,
        rows=rows,
        max_difference=difference,
        changed=changed,
        text=_text(verdict, one, two, rows, difference, changed),
    )


def _told(name: str, before: str | Sequence[str], after: str | Sequence[str]) -> str:
    if isinstance(before, str) and isinstance(after, str):
        return "" if before == after else f"{name}: {before[:16] or 'nothing'} → {after[:16] or 'nothing'}"
    gone, come = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    if not gone and not come:
        return "" if list(before) == list(after) else f"{name}: another order"
    return f"{name}: " + ", ".join([*(f"-{item}" for item in gone[:5]), *(f"+{item}" for item in come[:5])])


def _text(verdict: str, one: str, two: str, rows: int, difference: float | None, changed: tuple[str, ...]) -> str:
    surroundings = f" Not the same to begin with: {'; '.join(changed)}." if changed else ""
    if verdict == "identical":
        return f"Identical: the second training gave the same model, {one[:16]}, byte for byte.{surroundings}"
    told = "no predictions were compared" if difference is None else f"the largest difference of {rows} predictions is {difference:.3g}"
    return f"{verdict.capitalize()}: the model's digest is {two[:16]} instead of {one[:16]}; {told}.{surroundings}"
