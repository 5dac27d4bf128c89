"""Rules over a run's recorded histories: is it learning, does it overfit, do its gradients vanish, does it wait for its input?

Each rule is a function of histories and gives findings; `diagnose` asks all of them. Which metric is a training's and which a
validation's, and which way is better, is read from its name (`role`, `direction`), in the words of the usual libraries: `train/loss` and
`valid/loss`, `loss` and `val_loss`, `train_auc` and `valid_0-auc`. What the names do not say is not judged.
"""

import math
import re
from collections.abc import Iterable, Mapping
from statistics import median

from treadle.records.diagnosis import SEVERITIES, Finding
from treadle.records.insides import of_profile, of_tensors
from treadle.records.series import History, by_step, noise, smoothed, thinned, trend

#: Points of a metric below which a curve says nothing, and above which it is thinned.
FEW, MANY = 10, 2000
#: Mann and Kendall's z that counts as a trend.
SURE = 2.5
#: Metrics that are no curves of a training.
ASIDE = ("watch/", "profile/", "system/", "cv/", "champion.", "baseline.", "shift.", "shift/")

_TRAIN = {"train", "training", "trn", "fit", "learn"}
_VALID = {"val", "valid", "validation", "eval", "evaluation", "dev", "holdout", "test"}
_LOWER = {"loss", "logloss", "error", "err", "rmse", "mse", "mae", "mape", "brier", "perplexity", "ppl", "deviance", "nll", "l1", "l2"}
_LOWER |= {"cost", "crossentropy", "entropy", "mlogloss", "merror", "rmsle", "huber", "quantile", "poisson", "gamma", "objective"}
_HIGHER = {"auc", "accuracy", "acc", "f1", "precision", "recall", "r2", "ndcg", "map", "score", "bleu", "rouge", "iou", "dice", "aucpr"}


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def role(name: str) -> str:
    """`train`, `valid`, or nothing.

    >>> role("train/loss"), role("val_loss"), role("valid_0-auc"), role("loss")
    ('train', 'valid', 'valid', '')
    """
    words = set(_words(name))
    return "train" if words & _TRAIN else "valid" if words & _VALID else ""


def base(name: str) -> str:
    """The name without the words of its role: the same for the two curves of a pair.

    >>> base("train/loss") == base("val_loss") == base("loss"), base("valid_0-auc")
    (True, 'auc')
    """
    words = [word for word in _words(name) if word not in _TRAIN | _VALID]
    return " ".join(word for word in words if not word.isdigit()) or " ".join(words)


def direction(name: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where the name does not say.

    >>> direction("val_loss"), direction("roc_auc"), direction("epochs")
    (-1, 1, 0)
    """
    words = set(_words(name))
    return -1 if words & _LOWER else 1 if words & _HIGHER else 0


def diagnose(histories: Mapping[str, Iterable[tuple[int, float]]]) -> list[Finding]:
    """All rules over a run's metrics, name → (step, value) in any order; findings worst first.

    Watched tensors are `watch/NAME/STATISTIC`, in the order from input to output, which the mapping has too; sections of time are
    `profile/PATH/seconds`.
    """
    known = {name: thinned(by_step(points), MANY) for name, points in histories.items()}
    curves = {name: points for name, points in known.items() if points and not name.startswith(ASIDE)}
    found: list[Finding] = []
    pairs = _pairs(curves)
    trained = {train for train, _ in pairs} | {name for name in curves if role(name) != "valid"}
    for name, points in curves.items():
        if not direction(name):
            continue
        broken = not_finite(name, points)
        if broken:
            found.append(broken)
        elif name in trained:
            found += [f for f in (diverging(name, points) or not_converging(name, points) or plateau(name, points),) if f]
    found += [f for train, valid in pairs if (f := overfitting(train, curves[train], valid, curves[valid]))]
    found += of_tensors(known) + of_profile(known)
    return sorted(found, key=lambda f: SEVERITIES.index(f.severity))


def _pairs(curves: Mapping[str, History]) -> list[tuple[str, str]]:
    """(train, validation) metrics of the same kind; a name without a role is the training's where there is none with it."""
    pairs: list[tuple[str, str]] = []
    for valid in (name for name in curves if role(name) == "valid"):
        same = [name for name in curves if role(name) != "valid" and base(name) == base(valid)]
        named = [name for name in same if role(name) == "train"]
        pairs += [(name, valid) for name in (named or same)[:1]]
    return pairs


def not_finite(name: str, points: History) -> Finding | None:
    """A loss or score that is no number any more."""
    bad = [step for step, value in points if not math.isfinite(value)]
    if not bad:
        return None
    finite = sum(step < bad[0] for step, _ in points)
    return Finding(
        rule="diverging",
        severity="critical",
        text=f"{name} is NaN or infinite at {len(bad)} of {len(points)} points, first at step {bad[0]}, after {finite} that were numbers.",
        advice="Lower the learning rate, clip gradients, and look for a logarithm or division of 0 and for missing values in the input.",
        metrics=[name],
        first_step=bad[0],
        last_step=bad[-1],
    )


def _losses(name: str, points: History) -> list[float]:
    """Values that are better the lower they are."""
    sign = -direction(name) or 1
    return [sign * value for _, value in points]


def diverging(name: str, points: History) -> Finding | None:
    """The training's own metric ends clearly worse than it began, and is getting worse."""
    if len(points) < FEW or direction(name) > 0:  # a score has a floor; what falls to it is not learning rather than diverging
        return None
    values = _losses(name, points)
    start, end, least = median(values[:3]), median(values[-3:]), min(smoothed(values, 1))
    rise = end - start
    if rise <= max(0.5 * abs(start), 5 * noise(values)) or trend(values[values.index(min(values)) :]) < SURE:
        return None
    at = values.index(min(values))
    return Finding(
        rule="diverging",
        severity="critical",
        text=f"{name} ends at {end:.4g}; it began at {start:.4g} and was {least:.4g} at step {points[at][0]}.",
        advice="Lower the learning rate or warm it up, clip gradients, and check that inputs are scaled.",
        metrics=[name],
        first_step=points[at][0],
        last_step=points[-1][0],
        value=end,
        bound=start + 0.5 * abs(start),
    )


def not_converging(name: str, points: History) -> Finding | None:
    """The training's own metric is at its end where it was at its beginning."""
    if len(points) < FEW:
        return None
    values = _losses(name, points)
    tenth = max(2, len(values) // 10)
    start, end = max(values[:tenth]), median(values[-2 * tenth :])  # what is learned at once is learned too
    gained, least = start - end, max(4 * noise(values), 0.01 * abs(start))
    perfect = abs(end) >= 0.98 if direction(name) > 0 else abs(end) <= 1e-3
    if gained > least or perfect or trend(values) <= -SURE:
        return None
    return Finding(
        rule="not_converging",
        severity="warning",
        text=f"{name} is {abs(end):.4g} after {len(points)} points and was {abs(start):.4g} at the beginning: "
        f"nothing gained beyond its noise of {noise(values):.2g}.",
        advice="Change the learning rate tenfold either way, check that labels belong to their rows, and overfit 100 rows first.",
        metrics=[name],
        first_step=points[0][0],
        last_step=points[-1][0],
        value=gained,
        bound=least,
    )


def plateau(name: str, points: History) -> Finding | None:
    """It learned, and has been flat for more than two thirds of the run: the rest was for nothing, or it is stuck."""
    if len(points) < 2 * FEW:
        return None
    values = _losses(name, points)
    width = max(1, len(values) // 40)
    smooth = smoothed(values, width)
    end, spread = median(values[-max(3, len(values) // 5) :]), noise(values)
    total = smooth[0] - end
    if total <= 10 * spread or total <= 0:
        return None
    flat = max(2 * spread, 0.005 * total)
    at = next(
        (i for i, value in enumerate(smooth) if abs(value - end) <= flat and max(smooth[i:]) - min(smooth[i:]) <= 2 * flat), len(values)
    )
    if at >= 0.3 * len(values) or trend(values[at:]) < -SURE:
        return None
    return Finding(
        rule="plateau",
        severity="info",
        text=f"{name} has stood at {abs(end):.4g} since step {points[at][0]}: {1 - at / len(values):.0%} of the points gained nothing.",
        advice="Stop earlier, or lower the learning rate when it stands still.",
        metrics=[name],
        first_step=points[at][0],
        last_step=points[-1][0],
        value=1 - at / len(values),
        bound=0.7,
    )


def overfitting(train: str, of_train: History, valid: str, of_valid: History) -> Finding | None:
    """The validation metric worsens from its best on, beyond its noise, while the training's goes on improving.

    From the best point (of a running median) to the end: Mann and Kendall's test sees the validation rise and the training fall; and the
    rise exceeds twice the noise, 5 % of what had been gained until then and 1 % of the best value.
    """
    y = [(step, value) for step, value in of_valid if math.isfinite(value)]
    x = [(step, value) for step, value in of_train if math.isfinite(value)]
    if len(y) < FEW or len(x) < FEW:
        return None
    values = _losses(valid, y)
    width = max(1, len(values) // 20)
    smooth = smoothed(values, width)
    at = smooth.index(min(smooth))
    tail = values[at:]
    if len(tail) < max(6, len(values) // 10):
        return None
    end, spread = median(tail[-max(3, len(tail) // 5) :]), noise(values)
    rise, gained = end - smooth[at], smooth[0] - smooth[at]
    least = max(2 * spread, 0.05 * gained, 0.01 * abs(smooth[at]), 1e-12)
    after = _losses(train, [(step, value) for step, value in x if step >= y[at][0]])
    if rise <= least or trend(tail[min(width, 3) :]) < SURE or len(after) < 6 or trend(after) > -SURE:
        return None
    best, last = abs(smooth[at]), abs(end)
    return Finding(
        rule="overfitting",
        severity="critical" if gained > 0 and rise > 0.5 * gained else "warning",
        text=f"{valid} was best at step {y[at][0]} ({best:.4g}) and has worsened to {last:.4g} since, over {len(tail)} points, "
        f"while {train} went on from {abs(after[0]):.4g} to {abs(after[-1]):.4g}.",
        advice=f"Stop at step {y[at][0]} (early stopping), regularise more, make the model smaller, or add rows.",
        metrics=[train, valid],
        first_step=y[at][0],
        last_step=y[-1][0],
        value=rise,
        bound=least,
    )
