"""Rules over what a training recorded of its inside: statistics of tensors (`watch/NAME/STATISTIC`), sections of time (`profile/PATH/…`).

Tensors stand in the order from the input of a network to its output, which is the order they were first watched in; where their names
differ only in numbers, the numbers decide.
"""

import math
import re
from collections.abc import Mapping, Sequence
from statistics import median

from treadle.records.diagnosis import Finding, Section, WatchedTensor
from treadle.records.series import History

#: Early gradients below this share of the late ones have vanished; late below it of the early, exploded.
VANISHED = 1e-3
#: A gradient so many times its median until then explodes.
EXPLODED = 100.0
#: Shares: of saturated values, of units that are always 0, of a step spent on waiting for input.
SATURATED, DEAD, WAITING = 0.5, 0.4, 0.3
#: Captures, and seconds, below which nothing is said.
FEW_CAPTURES, FEW_SECONDS = 3, 0.2
_INPUT = re.compile(
    r"(?<![a-z])(load|loads|loading|loader|dataloader|input|inputs|fetch|fetching|read|reading|data|dataset|prefetch)(?![a-z])"
)
_KINDS = (("gradient", ("grad",)), ("activation", ("act", "output", "relu", "tanh", "sigmoid")), ("weight", ("weight", "kernel", "bias")))

#: statistic → history.
Tensor = Mapping[str, History]


def kind_of(name: str) -> str:
    """What a watched tensor is, by the last part of its name.

    >>> kind_of("dense1/gradient"), kind_of("dense1/activations"), kind_of("dense1/weights"), kind_of("dense1")
    ('gradient', 'activation', 'weight', 'tensor')
    """
    last = name.lower().rpartition("/")[2]
    return next((kind for kind, starts in _KINDS if last.startswith(starts)), "tensor")


def tensors(histories: Mapping[str, History]) -> dict[str, dict[str, History]]:
    """Watched tensors, name → statistic → history, from input to output."""
    found: dict[str, dict[str, History]] = {}
    for metric, points in histories.items():
        if metric.startswith("watch/") and points:
            name, _, statistic = metric[len("watch/") :].rpartition("/")
            found.setdefault(name, {})[statistic] = points
    numbered: dict[str, list[str]] = {}
    for name in found:
        numbered.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    turn = {shape: iter(sorted(names, key=_numbers)) for shape, names in numbered.items()}
    return {name: found[name] for name in [next(turn[re.sub(r"\d+", "#", name)]) for name in found]}


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def watched(histories: Mapping[str, History]) -> list[WatchedTensor]:
    """What was watched, with its latest numbers; those that are none are None."""
    told: list[WatchedTensor] = []
    for name, statistics in tensors(histories).items():
        longest = max(statistics.values(), key=len)
        last = {key: points[-1][1] if math.isfinite(points[-1][1]) else None for key, points in statistics.items()}
        told.append(
            WatchedTensor(
                name=name, kind=kind_of(name), captures=len(longest), first_step=longest[0][0], last_step=longest[-1][0], last=last
            )
        )
    return told


def of_tensors(histories: Mapping[str, History]) -> list[Finding]:
    """All rules over watched tensors."""
    known = tensors(histories)
    gradients = {name: t for name, t in known.items() if kind_of(name) == "gradient"}
    found = [f for f in (through_depth(gradients),) if f]
    for name, tensor in known.items():
        rules = (not_finite, exploding, saturated, dead) if name in gradients else (not_finite, saturated, dead)
        found += [f for rule in rules if (f := rule(name, tensor))]
    return found


def _size(tensor: Tensor) -> dict[int, float]:
    """Root mean square by step: what gradients of layers of different sizes are compared by."""
    means, deviations = dict(tensor.get("mean", ())), dict(tensor.get("std", ()))
    return {step: math.hypot(means[step], deviations[step]) for step in means.keys() & deviations.keys()}


def through_depth(gradients: Mapping[str, Tensor]) -> Finding | None:
    """Gradients that vanish, or explode, on their way from the last layers to the first, at half of the captures or more."""
    sizes = [(name, size) for name, tensor in gradients.items() if (size := _size(tensor))]
    if len(sizes) < 2:
        return None
    third = max(1, len(sizes) // 3)
    steps = sorted(set.intersection(*(set(size) for _, size in sizes)))
    fallen: dict[int, float] = {}
    grown: dict[int, float] = {}
    for step in steps:
        early, late = ([size[step] for _, size in some] for some in (sizes[:third], sizes[-third:]))
        if all(map(math.isfinite, early + late)):  # the end they come from by its largest, the end they reach by its middle
            fallen[step] = _middle(early) / max(late) if max(late) else 1.0
            grown[step] = max(early) / _middle(late) if _middle(late) else 1.0
    for vanish in (True, False):
        ratios = fallen if vanish else grown
        hit = [step for step, ratio in ratios.items() if (ratio < VANISHED if vanish else ratio > 1 / VANISHED)]
        if len(hit) < FEW_CAPTURES or len(hit) < 0.5 * len(ratios):
            continue
        ratio = median(ratios[step] for step in hit)
        first, last = sizes[0][0], sizes[-1][0]
        rule, verb = ("vanishing_gradient", "vanish") if vanish else ("exploding_gradient", "explode")
        amount = f"{ratio:.1e} of" if vanish else f"{ratio:.1e} times"
        return Finding(
            rule=rule,
            severity="critical",
            text=f"Gradients {verb} towards the input: at {len(hit)} of {len(ratios)} captures the first layers' ({first}) are {amount} "
            f"the last layers' ({last}), in the median.",
            advice="Use ReLU or GELU instead of sigmoid or tanh, residual connections or normalisation; initialise after He or Glorot."
            if vanish
            else "Clip gradients by their norm, normalise layers, and initialise smaller.",
            metrics=[f"watch/{name}/{statistic}" for name in (first, last) for statistic in ("mean", "std")],
            first_step=hit[0],
            last_step=hit[-1],
            value=ratio if math.isfinite(ratio) else None,
            bound=VANISHED if vanish else 1 / VANISHED,
        )
    return None


def _middle(values: Sequence[float]) -> float:
    """The geometric mean; 0 where one is."""
    if min(values) <= 0:
        return 0.0
    return math.exp(sum(math.log(value) for value in values) / len(values))


def not_finite(name: str, tensor: Tensor) -> Finding | None:
    """A tensor with NaN or infinities in it."""
    hit = [(step, share) for step, share in tensor.get("nan", ()) if share > 0 or math.isnan(share)]
    if not hit:
        return None
    return Finding(
        rule="exploding_gradient" if kind_of(name) == "gradient" else "not_finite",
        severity="critical",
        text=f"{name} holds NaN or infinities at {len(hit)} of {len(tensor['nan'])} captures, first at step {hit[0][0]} "
        f"({hit[0][1]:.1%} of its values).",
        advice="Clip gradients, lower the learning rate, and with half precision scale the loss.",
        metrics=[f"watch/{name}/nan"],
        first_step=hit[0][0],
        last_step=hit[-1][0],
        value=max(share for _, share in hit),
        bound=0.0,
    )


def exploding(name: str, tensor: Tensor) -> Finding | None:
    """A gradient's norm jumps to a hundred times its median until then, twice or more."""
    points = [(step, value) for step, value in tensor.get("norm", ()) if math.isfinite(value)]
    hit: list[tuple[int, float]] = []
    quiet: list[float] = []
    for step, value in points:
        usual = median(quiet) if len(quiet) >= FEW_CAPTURES else 0.0
        if usual > 0 and value > EXPLODED * usual:
            hit.append((step, value / usual))
        else:
            quiet.append(value)
    if len(hit) < 2:
        return None
    worst = max(times for _, times in hit)
    return Finding(
        rule="exploding_gradient",
        severity="critical",
        text=f"The norm of {name} was up to {worst:.1e} times its median until then, at {len(hit)} of {len(points)} captures from step "
        f"{hit[0][0]} on.",
        advice="Clip gradients by their norm, lower the learning rate or warm it up.",
        metrics=[f"watch/{name}/norm"],
        first_step=hit[0][0],
        last_step=hit[-1][0],
        value=worst,
        bound=EXPLODED,
    )


def saturated(name: str, tensor: Tensor) -> Finding | None:
    """An activation most of whose values lie at the ends of its range, where its gradient is almost 0."""
    advice = "Scale the inputs, initialise smaller, normalise before the activation, or use one that does not saturate."
    return _share("saturated_activation", name, tensor, "saturated", SATURATED, "of its values lie at the ends of its range", advice)


def dead(name: str, tensor: Tensor) -> Finding | None:
    """A layer with units that are 0 for every row."""
    advice = "Lower the learning rate, use a leaky activation, and initialise after He."
    return _share("dead_units", name, tensor, "dead", DEAD, "of its units are 0 for every row of the batch", advice)


def _share(rule: str, name: str, tensor: Tensor, statistic: str, bound: float, words: str, advice: str) -> Finding | None:
    points = tensor.get(statistic, ())
    hit = [(step, share) for step, share in points if share > bound]
    if len(hit) < FEW_CAPTURES or len(hit) < 0.5 * len(points) or points[-1][1] <= bound:
        return None
    middle = median(share for _, share in hit)
    return Finding(
        rule=rule,
        severity="warning",
        text=f"{name}: {middle:.0%} {words}, at {len(hit)} of {len(points)} captures and at the last.",
        advice=advice,
        metrics=[f"watch/{name}/{statistic}"],
        first_step=hit[0][0],
        last_step=hit[-1][0],
        value=middle,
        bound=bound,
    )


# ── where the time goes ──────────────────────────────────────────────────────────────────────────────────────────────


def sections(histories: Mapping[str, History]) -> list[Section]:
    """Sections with their totals, and the share of what they stand in (of all, at the top), by path."""
    latest = {metric: points[-1][1] for metric, points in histories.items() if metric.startswith("profile/") and points}
    seconds = {m[len("profile/") : -len("/seconds")]: value for m, value in latest.items() if m.endswith("/seconds")}
    whole = sum(value for path, value in seconds.items() if "/" not in path)
    told: list[Section] = []
    for path in sorted(seconds):
        parent = seconds.get(path.rpartition("/")[0]) or whole
        count = int(latest.get(f"profile/{path}/count", 0))
        told.append(Section(path=path, seconds=seconds[path], count=count, share=min(1.0, seconds[path] / parent) if parent else 0.0))
    return told


def of_profile(histories: Mapping[str, History]) -> list[Finding]:
    """Input that is waited for: sections named after loading that take more than 30 % of what they stand in."""
    known = sections(histories)
    inputs = [s for s in known if _INPUT.search(s.path.rpartition("/")[2].lower())]
    found: list[Finding] = []
    for parent in dict.fromkeys(s.path.rpartition("/")[0] for s in inputs):
        some = [s for s in inputs if s.path.rpartition("/")[0] == parent]
        share, spent = sum(s.share for s in some), sum(s.seconds for s in some)
        beside = [s for s in known if s.path.rpartition("/")[0] == parent and s not in some]
        if share <= WAITING or spent < FEW_SECONDS or not (parent or beside):
            continue
        names = ", ".join(s.path for s in some)
        found.append(
            Finding(
                rule="input_bottleneck",
                severity="warning",
                text=f"{names} took {share:.0%} of {parent or 'the time measured'}: {spent:.3g} s in {sum(s.count for s in some)} calls.",
                advice="Load in the background (prefetch, more workers), keep decoded data, and read columns rather than rows.",
                metrics=[f"profile/{s.path}/seconds" for s in some],
                value=share,
                bound=WAITING,
            )
        )
    return found
