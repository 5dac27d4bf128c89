"""A release as a pure function: what it becomes, given what was seen and what time it is.

    waiting/deploying   the challenger is loaded at 0 % of the traffic
      → waiting/routing   its share of the traffic, or all of it, is published
          → running         every live gateway worker has acknowledged that
              → promoted | stopped | inconclusive (canary), promoted (direct)

A gateway worker that cannot load the version makes the release `failed`, before any traffic has moved. Nothing here reads a
clock or a table: the same record, evidence and time give the same release, live and in a replay.
"""

import datetime as dt
import math
from typing import Any

from msgspec.structs import replace

from treadle.records.definitions import Canary
from treadle.records.releases import Evidence, Release
from treadle.records.states import RELEASE_MOVES, ReleaseState, move
from treadle.releases import sequential

#: `facts["phase"]` of a release that waits.
DEPLOYING = "deploying"
ROUTING = "routing"
LIVE = "live"


def advance(release: Release, evidence: Evidence, now: dt.datetime) -> Release:
    """One step of a release; the same record where nothing is due.

    A change of `facts["phase"]` asks for a new snapshot: `routing` for one that moves traffic, an end for one without challenger.
    """
    if release.state == ReleaseState.waiting:
        return _load(release, evidence, now)
    if release.state != ReleaseState.running:
        return release
    if release.strategy is None:
        return _end(
            release,
            ReleaseState.promoted,
            now,
            verdict="promoted",
            reason=f"Version {release.to_version} serves all traffic: a direct switch.",
        )
    return _judge(release, release.strategy, evidence, now)


def _load(release: Release, evidence: Evidence, now: dt.datetime) -> Release:
    if evidence.error:
        return _end(release, ReleaseState.failed, now, verdict="failed", reason=f"A gateway could not load it: {evidence.error}")
    if not evidence.acknowledged:
        return release
    if release.facts.get("phase") == DEPLOYING:
        return replace(release, facts={**release.facts, "phase": ROUTING, "deployed": now.isoformat()})
    running = move(RELEASE_MOVES, release.state, ReleaseState.running, what=f"Release {release.release_id}")
    return replace(release, state=running, facts={**release.facts, "phase": LIVE, "live": now.isoformat()})


def _judge(release: Release, strategy: Canary, evidence: Evidence, now: dt.datetime) -> Release:
    live = live_since(release)
    deadline = live + dt.timedelta(seconds=strategy.deadline_blocks * strategy.block_s)
    blocks = sequential.pool([b for b in evidence.blocks if b.start < deadline], strategy.min_rows)
    reading = sequential.read(blocks, margin=strategy.margin)
    facts = {**release.facts, **_facts(reading, strategy, sum(b.rows for b in blocks))}
    decision = reading.decision(strategy.alpha)
    if decision == "promote":
        return _end(replace(release, facts=facts), ReleaseState.promoted, now, verdict="promoted", reason=_promoted(reading, strategy))
    if decision == "stop":
        return _end(replace(release, facts=facts), ReleaseState.stopped, now, verdict="stopped", reason=_stopped(reading, strategy))
    if (evidence.complete_until or now) >= deadline:
        return _end(
            replace(release, facts=facts),
            ReleaseState.inconclusive,
            now,
            verdict="inconclusive",
            reason=_inconclusive(reading, strategy),
        )
    return release if facts == release.facts else replace(release, facts=facts)


def live_since(release: Release) -> dt.datetime:
    """When its traffic began to move, business time; when it was started, where it has not yet."""
    live = release.facts.get("live")
    return dt.datetime.fromisoformat(live) if live else release.started


def _end(release: Release, state: ReleaseState, now: dt.datetime, *, verdict: str, reason: str) -> Release:
    move(RELEASE_MOVES, release.state, state, what=f"Release {release.release_id}")
    return replace(release, state=state, ended=now, verdict=verdict, reason=reason)


def _facts(reading: sequential.Reading, strategy: Canary, rows: int) -> dict[str, Any]:
    return {
        "blocks": reading.blocks,
        "rows": rows,
        "mean_difference": reading.mean,
        "sd_difference": reading.spread,
        "log_e_better": reading.better,
        "log_e_worse": reading.worse,
        "threshold": -math.log(strategy.alpha),
        "margin": strategy.margin,
        "metric": strategy.metric,
    }


def _said(reading: sequential.Reading, strategy: Canary) -> str:
    return (
        f"over {reading.blocks} blocks the challenger's {strategy.metric} loss differs by {reading.mean:+.5f} on average "
        f"(standard deviation of a block {reading.spread:.5f})"
    )


def _promoted(reading: sequential.Reading, strategy: Canary) -> str:
    bound = f"worse by {strategy.margin:g} or more" if strategy.margin else "no better"
    return (
        f"That the challenger is {bound} is rejected at level {strategy.alpha:g}: {_said(reading, strategy)}; "
        f"e-value {math.exp(min(reading.better_peak, 700)):.3g}, needed {1 / strategy.alpha:.3g}."
    )


def _stopped(reading: sequential.Reading, strategy: Canary) -> str:
    return (
        f"That the challenger does no harm is rejected at level {strategy.alpha:g}: {_said(reading, strategy)}; "
        f"e-value {math.exp(min(reading.worse_peak, 700)):.3g}, needed {1 / strategy.alpha:.3g}. The champion stays."
    )


def _inconclusive(reading: sequential.Reading, strategy: Canary) -> str:
    seen = _said(reading, strategy) if reading.blocks else "no block has enough paired outcomes"
    return (
        f"Deadline of {strategy.deadline_blocks} blocks reached without evidence either way: {seen}; "
        f"e-values {math.exp(min(reading.better_peak, 700)):.3g} for promotion, {math.exp(min(reading.worse_peak, 700)):.3g} for harm, "
        f"needed {1 / strategy.alpha:.3g}. The champion stays."
    )
