"""The sequential test behind a canary: an e-process over blocks of paired differences, valid whenever it is looked at.

Observations are one number a block (a day), because requests of one day share weather, crowds and outages and are not independent,
while days nearly are. Under the null hypothesis a block's `x` is distributed symmetrically, with one peak, about a centre at or
below zero. Then, whatever the sizes |x| were, its sign is plus with probability at most one half, so for any c > 0

    e = 2 / (1 + exp(-2 c x / s)),    s = root mean square of x over the blocks up to and including this one

has an expectation of at most 1 given the past (s depends on sizes only), and the running product is a nonnegative supermartingale
that starts at 1. By Ville's inequality it ever reaches 1/alpha with probability at most alpha, however often one looks and
whenever one stops. The mean over several c is again such a process.

Since exp(u)/cosh(u) = 2/(1 + exp(-2u)) >= exp(u - u*u/2), this dominates the self-normalised exponential process of de la Peña (A
general class of exponential inequalities for martingales and ratios, Annals of Probability 27, 1999); see also Howard, Ramdas,
McAuliffe and Sekhon (Time-uniform Chernoff bounds, Annals of Statistics 49, 2021) and Ramdas, Ruf, Larsson and Koolen (Admissible
anytime-valid sequential inference must rely on nonnegative martingales, 2020). No unit of the loss enters: dividing all x by a
constant changes nothing. A block multiplies the evidence by at most 2, so alpha = 0.05 takes five blocks at the very least.
"""

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from treadle.records.releases import Block

#: How boldly to bet, in units of the blocks' root mean square; the process is the mean over these. Chosen by simulation of normal
#: blocks: with a mean of one standard deviation it decides 80 % of canaries within 14 blocks, 96 % within 21 (alpha = 0.05).
BETS = (0.5, 1.0)


class Reading(Struct, frozen=True, kw_only=True):
    """The two processes after some blocks: natural logarithms now, and the greatest they have been.

    `better` is evidence against "the challenger is worse by `margin` or more", `worse` against "the challenger is not worse".
    """

    blocks: int
    better: float
    worse: float
    better_peak: float
    worse_peak: float
    mean: float  # of the blocks' differences, each block counting once
    spread: float  # their standard deviation, 0.0 for fewer than two

    def decision(self, alpha: float) -> str:
        """`promote`, `stop` or `go on`; `stop` where both have been shown."""
        threshold = -math.log(alpha)
        if self.worse_peak >= threshold:
            return "stop"
        return "promote" if self.better_peak >= threshold else "go on"


def path(values: Iterable[float], *, bets: Sequence[float] = BETS) -> list[float]:
    """Natural logarithm of the e-process after each value; its null is "centred at or below zero".

    >>> [round(v, 2) for v in path([1.0, 1.0, 1.0])]
    [0.48, 0.96, 1.46]
    """
    logs = [0.0] * len(bets)
    squares = 0.0
    out = []
    for count, x in enumerate(values, start=1):
        squares += x * x
        scale = math.sqrt(squares / count)
        if scale > 0.0:
            for i, bet in enumerate(bets):
                logs[i] += math.log(2.0) - math.log1p(math.exp(-2.0 * bet * x / scale))
        top = max(logs)
        out.append(top + math.log(sum(math.exp(value - top) for value in logs) / len(logs)))
    return out


def read(blocks: Sequence[Block], *, margin: float) -> Reading:
    """Both processes over blocks in order of time.

    `margin` (>= 0, in the unit of the loss) is how much worse the challenger may be and still be promoted. A block counts in units of
    its `scale`, which depends on the two variants' scores alone: where they nearly agree, a small difference says as much as a
    large one where they do not. That changes no sign, so the error rates hold whatever the scales are.
    """
    better = path((margin - b.difference) / (b.scale or 1.0) for b in blocks)
    worse = path(b.difference / (b.scale or 1.0) for b in blocks)
    differences = [b.difference for b in blocks]
    count = len(differences)
    mean = sum(differences) / count if count else 0.0
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1)) if count > 1 else 0.0
    return Reading(
        blocks=count,
        better=better[-1] if better else 0.0,
        worse=worse[-1] if worse else 0.0,
        better_peak=max(better, default=0.0),
        worse_peak=max(worse, default=0.0),
        mean=mean,
        spread=spread,
    )


def pool(blocks: Sequence[Block], min_rows: int) -> tuple[Block, ...]:
    """Blocks of at least `min_rows` rows: a smaller one is merged into the next, and what is left over at the end waits.

    A merged block starts where its first part starts; its difference is the mean over rows, its scale the root mean square.
    """
    out: list[Block] = []
    held: Block | None = None
    for block in blocks:
        if block.rows <= 0:
            continue
        if held is None:
            held = block
        else:
            rows = held.rows + block.rows
            mean = (held.difference * held.rows + block.difference * block.rows) / rows
            square = (held.scale**2 * held.rows + block.scale**2 * block.rows) / rows
            held = Block(start=held.start, rows=rows, difference=mean, scale=math.sqrt(square))
        if held.rows >= min_rows:
            out.append(held)
            held = None
    return tuple(out)
