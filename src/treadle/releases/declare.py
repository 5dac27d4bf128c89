"""How a project says how its model changes: `tr.canary(guard=tr.not_harmed("brier", margin=0.001), share=0.5, deadline="14d")`."""

import datetime as dt
from collections.abc import Sequence

from msgspec import Struct

from treadle.records.clock import seconds
from treadle.records.definitions import ABOUT, Canary, Dataset, Endpoint, Environment, Monitor, Trigger
from treadle.records.errors import TreadleError
from treadle.records.models import CARD_SECTIONS


class Guard(Struct, frozen=True, kw_only=True):
    """What must be shown before a challenger is promoted: not worse by `margin` in `metric`, at level `alpha`."""

    metric: str = "brier"
    margin: float = 0.0
    alpha: float = 0.05


def not_harmed(metric: str = "brier", *, margin: float = 0.0, alpha: float = 0.05) -> Guard:
    """The challenger must be shown to be worse by less than `margin` (in the metric's unit); 0 asks that it be shown better.

    `alpha` is the chance (0 to 1) that a challenger which is worse by `margin` is promoted, and that one which is no worse is stopped.

    >>> not_harmed("brier", margin=0.001).alpha
    0.05
    """
    if not 0 < alpha < 1:
        raise _wrong(f"alpha is {alpha}; it is a probability between 0 and 1.", 'tr.not_harmed("brier", alpha=0.05)')
    if margin < 0:
        raise _wrong(
            f"margin is {margin}; it says how much worse is still acceptable, and cannot be negative.", "tr.not_harmed(margin=0.001)"
        )
    return Guard(metric=metric, margin=float(margin), alpha=float(alpha))


def canary(
    share: float = 0.25,
    *,
    guard: Guard | None = None,
    block: str | dt.timedelta = "1d",
    deadline: str | dt.timedelta = "28d",
    min_rows: int = 20,
) -> Canary:
    """A canary: `share` of the units (0 to 1) is answered by the challenger and scored by both variants.

    Paired differences are gathered by `block` of business time; the sequential test looks at each block once its outcomes are in;
    at the `deadline` (a multiple of the block) without evidence the champion stays. Blocks with fewer than `min_rows` paired outcomes
    are pooled into the next.

    >>> canary(0.5, deadline="21d").deadline_blocks
    21
    """
    guard = guard or not_harmed()
    block_s, deadline_s = _seconds(block), _seconds(deadline)
    if not 0 < share <= 1:
        raise _wrong(f"share is {share}; it is a fraction of the units between 0 and 1.", "tr.canary(share=0.25)")
    if deadline_s % block_s:
        raise _wrong(f"The deadline of {deadline} is no multiple of the block of {block}.", 'tr.canary(block="1d", deadline="14d")')
    if 2.0 ** (deadline_s // block_s) < 1 / guard.alpha:
        raise _wrong(
            f"A canary of {deadline_s // block_s} blocks can never decide at level {guard.alpha}: a block doubles the evidence at most.",
            'Give it a later deadline or shorter blocks: tr.canary(deadline="14d")',
        )
    return Canary(
        share=float(share),
        metric=guard.metric,
        margin=guard.margin,
        alpha=guard.alpha,
        block_s=block_s,
        deadline_blocks=deadline_s // block_s,
        min_rows=min_rows,
    )


def endpoint(
    name: str,
    *,
    model: str,
    release: Canary | None = None,
    monitor: Monitor | None = None,
    retrain: Trigger | None = None,
    unit: str = "",
    requests: Dataset | str = "",
    predictions_change_outcomes: bool = True,
    was: str | None = None,
) -> Endpoint:
    """A name that answers predictions of `model`.

    `unit` is the request column by which traffic is split and outcomes are joined. `requests` is the dataset whose rows are what is
    asked (smoke tests and replays send them). `predictions_change_outcomes=False` says that what is
    predicted has no influence on what happens, which a replay needs to be valid.
    """
    monitor = monitor or Monitor()
    if monitor.outcome and monitor.outcome.count(".") != 1:
        raise _wrong(f"The outcome {monitor.outcome!r} of endpoint {name} names no column of a dataset.", 'outcome="arrivals.late"')
    return Endpoint(
        name=name,
        model=model,
        release=release or canary(),
        monitor=monitor,
        retrain=retrain,
        unit=unit,
        requests=requests if isinstance(requests, str) else requests.name,
        predictions_change_outcomes=predictions_change_outcomes,
        was=was,
    )


def environment(  # noqa: PLR0913  (each is a rule of its own that an environment may have)
    name: str,
    *,
    after: str = "",
    auto_approve: str = "",
    four_eyes: bool = True,
    variables: dict[str, str] | None = None,
    documents: Sequence[str] = (),
    approval_within: str | dt.timedelta = "",
    review_every: str | dt.timedelta = "",
    archive_others: bool = False,
    requires: Sequence[str] = (),
) -> Environment:
    """Where endpoints live.

    Args:
        name: dev, staging, prod, …
        after: the environment in which a version must serve, smoke-tested, before it may come here.
        auto_approve: a policy actor that grants by itself when all gates hold; where it is empty, a person must.
        four_eyes: whoever asks for an approval cannot grant it.
        variables: of the environment.
        documents: sections of the model card (`intended_use`, `limits`, …) without which no approval is granted.
        approval_within: how long a question waits for its answer, `"14d"`; then it expires.
        review_every: how often a version that serves must be looked at again, `"90d"`.
        archive_others: archive the older versions that do not serve when one is promoted here.
        requires: what every dataset, feature view and label must say before a project is applied here: `owner`, `license`, `provenance`,
            `restrictions`, `description`, `source`, `confidence`, each where it has such a field.
    """
    unknown = [section for section in documents if section not in CARD_SECTIONS]
    if unknown:
        raise _wrong(
            f"{', '.join(map(repr, unknown))}: a card has no such section; those that people write are {', '.join(CARD_SECTIONS)}",
            'documents=["intended_use", "limits"]',
        )
    strange = [word for word in requires if word not in ABOUT or word == "only_in"]
    if strange:
        raise _wrong(f"{', '.join(map(repr, strange))}: nothing has such a field", 'requires=["owner", "license", "provenance"]')
    return Environment(
        name=name,
        after=after,
        auto_approve=auto_approve,
        four_eyes=four_eyes,
        variables=variables or {},
        documents=tuple(documents),
        approval_within_s=_seconds(approval_within) if approval_within else 0,
        review_every_s=_seconds(review_every) if review_every else 0,
        archive_others=archive_others,
        requires=tuple(requires),
    )


def _seconds(duration: str | dt.timedelta) -> int:
    try:
        return seconds(duration)
    except ValueError as error:
        raise _wrong(str(error), 'block="1d", deadline="14d"') from error


def _wrong(what: str, remedy: str) -> TreadleError:
    return TreadleError(what, remedy=f"Write for example: {remedy}", code="bad_definition")
