"""Records of a diagnosis: what rules found in what a run recorded, and what it recorded of its inside."""

from typing import Any

from msgspec import Struct

#: The worst first.
SEVERITIES = ("critical", "warning", "info")


class Finding(Struct, frozen=True, kw_only=True):
    """What a rule found. `text` says it with its numbers, `advice` what to try; steps are the range it was seen in.

    `severity` is `critical` (the result is not usable), `warning` (it is worse than it could be) or `info`. `value` was measured against
    `bound`, both finite or None.
    """

    rule: str
    severity: str
    text: str
    advice: str
    metrics: list[str] = []  # it was read from
    first_step: int | None = None
    last_step: int | None = None
    value: float | None = None
    bound: float | None = None


class WatchedTensor(Struct, frozen=True, kw_only=True):
    """A tensor whose statistics were recorded (`run.watch`): how often, and its latest numbers by name."""

    name: str
    kind: str  # weight, gradient, activation, tensor
    captures: int
    first_step: int
    last_step: int
    last: dict[str, float | None]


class Section(Struct, frozen=True, kw_only=True):
    """A section of a training's time (`run.timed`). `path` names what it stands in: `step/load batch`; `share` is of that, or of all."""

    path: str
    seconds: float
    count: int
    share: float


class Diagnosis(Struct, frozen=True, kw_only=True):
    """What is known of a run's health: findings, worst first, and what they were read from.

    `examined` is the number of metrics that rules looked at: no finding among none says nothing.
    """

    project: str
    run_id: str
    findings: list[Finding] = []
    watched: list[WatchedTensor] = []
    sections: list[Section] = []
    examined: int = 0


class Change(Struct, frozen=True, kw_only=True):
    """One thing that two runs do not share. None: the run has no such thing."""

    what: str  # data, parameter, code, package, machine, metric
    name: str
    before: Any = None
    after: Any = None


class RunDifference(Struct, frozen=True, kw_only=True):
    """What changed from one run (`before`) to another (`after`).

    `inputs` are what a result is made of: parameters, code, packages, data; `metrics` what came of it. `text` puts it in a sentence, and
    says so where a single kind of input changed, which then is the cause, or nothing did.
    """

    project: str
    before: str
    after: str
    related: str = ""  # parent, child, or nothing
    inputs: list[Change] = []
    metrics: list[Change] = []
    text: str = ""
