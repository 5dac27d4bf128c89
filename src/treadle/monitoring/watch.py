"""Watching one endpoint: what it remembers, and what it finds when a block is complete.

A *finding* is one test's answer at one look: firing, clear, or neither (in between an alarm stays as it is, so that it does not flutter).
Quality and calibration are judged over the last `window_blocks` complete blocks that the champion has scored, by itself or as a
challenger beside its predecessor; before there are so many, nothing is said. Drift is judged over as many blocks since the champion
serves: a cold spell of three days is weather, not drift.
"""

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray

from treadle.evaluation import metrics as table
from treadle.evaluation import profiles
from treadle.monitoring import budget, calibration, decay, drift
from treadle.monitoring.blocks import Block, Memory
from treadle.monitoring.quality import Place, paired_block, report
from treadle.packaging import bundle
from treadle.plugins.storage import BlobStore
from treadle.records.clock import from_micros, micros
from treadle.records.definitions import Endpoint
from treadle.records.monitoring import WindowReport
from treadle.records.releases import Evidence, Release
from treadle.releases.advance import live_since

Array = NDArray[Any]
#: A complete block with at least so many predictions and no outcome at all is an alarm.
SILENT_ROWS = 50


class Reference(Struct, frozen=True, kw_only=True):
    """What the champion is held against: its own evaluation, and the profile of its training rows."""

    version: int
    metrics: dict[str, float]
    bins: dict[str, drift.Bins]


class Finding(Struct, frozen=True, kw_only=True):
    """One test's answer at one look."""

    kind: str  # decay | calibration | drift | outcomes
    firing: bool
    clear: bool
    text: str
    facts: dict[str, Any]


def reference_of(blobs: BlobStore, version: int, bundle_digest: str, metrics: dict[str, float]) -> Reference:
    """Read a champion's reference from its bundle; without a profile in it, drift is not watched."""
    manifest = bundle.read(blobs, bundle_digest)
    content = bundle.content(blobs, manifest, bundle.PROFILE)
    bins = {} if content is None else drift.bins_of(profiles.from_bytes(content))
    inputs = {column.name for column in manifest.signature.inputs}
    return Reference(version=version, metrics=metrics, bins={name: b for name, b in bins.items() if name in inputs})


class Watch:
    """One endpoint's recent past and its tests.

    Args:
        place: project, environment, endpoint.
        endpoint: its definition.
    """

    def __init__(self, place: Place, endpoint: Endpoint):
        self.place = place
        self.endpoint = endpoint
        self.memory = Memory(endpoint.monitor.block_s, endpoint.monitor.slices)
        self.reference: Reference | None = None
        self.table_version = -1
        self.outcome_version = 0
        self._judged_quality: int | None = None
        self._judged_drift: int | None = None

    @property
    def horizon_s(self) -> int:
        """How far back it must remember, seconds."""
        monitor, canary = self.endpoint.monitor, self.endpoint.release
        blocks = max(2 * monitor.window_blocks, canary.deadline_blocks * canary.block_s // monitor.block_s + 1) + 2
        return blocks * monitor.block_s + monitor.outcome_within_s

    def add(self, frame: pl.DataFrame) -> None:
        """Take in new rows of the prediction table."""
        mine = frame.filter(pl.col("endpoint") == self.endpoint.name)
        if mine.height:
            known = self.reference
            self.memory.add(mine, known.bins if known else {}, known.version if known else None)

    def learn(self, frame: pl.DataFrame) -> None:
        """Take in outcomes: rows with the unit and the outcome's column."""
        column = self.endpoint.monitor.outcome.partition(".")[2]
        unit = self.endpoint.unit or "prediction_id"
        rows = frame.select(pl.col(unit).cast(pl.String), pl.col(column).cast(pl.Float64)).drop_nulls()
        self.memory.learn(rows[unit].to_list(), rows[column].to_list())

    def reports(self, now: dt.datetime) -> list[WindowReport]:
        """Reports of blocks that changed since the last call and have begun."""
        known = self.reference
        changed = [b for b in self.memory.ordered() if b.changed and (b.rows or b.rejected) and b.start <= now]
        made = []
        for block in changed:
            made.append(
                report(
                    block,
                    self.place,
                    champion=known.version if known else None,
                    bins=known.bins if known else {},
                    slices=self.endpoint.monitor.slices,
                )
            )
            block.changed = False
        return made

    def findings(self, now: dt.datetime) -> list[Finding]:
        """What the tests say, where a block has been completed since they were last asked."""
        if self.reference is None:
            return []
        found: list[Finding] = []
        monitor = self.endpoint.monitor
        now_us = micros(now)
        ended = [b for b in self.memory.ordered() if b.end_us <= now_us and b.rows]
        complete = [b for b in ended if b.end_us + monitor.outcome_within_s * 1_000_000 <= now_us]
        if ended and ended[-1].start_us != self._judged_drift:
            self._judged_drift = ended[-1].start_us
            found += self._drift(self.reference, ended)
        if monitor.outcome and complete and complete[-1].start_us != self._judged_quality:
            self._judged_quality = complete[-1].start_us
            found += self._quality(self.reference, complete)
        return found

    def evidence(self, release: Release, now: dt.datetime) -> Evidence:
        """Paired blocks of a running canary whose outcomes are all in."""
        canary = release.strategy
        if canary is None or release.from_version is None:
            return Evidence(acknowledged=True)
        within = self.endpoint.monitor.outcome_within_s * 1_000_000
        since = micros(live_since(release))
        until = (micros(now) - within) // self.memory.block_us * self.memory.block_us
        found = (
            paired_block(b, champion=release.from_version, challenger=release.to_version, since_us=since, metric=canary.metric)
            for b in self.memory.ordered()
            if since < b.end_us <= until
        )
        return Evidence(blocks=tuple(b for b in found if b is not None), acknowledged=True, complete_until=from_micros(until))

    def _quality(self, reference: Reference, complete: list[Block]) -> list[Finding]:
        monitor = self.endpoint.monitor
        found = [_outcomes(complete[-1], monitor.outcome)]
        truth, score, block, count = self._window(reference.version, complete)
        if count < monitor.window_blocks:
            return found
        alpha = budget.per_look(monitor)
        context = {"champion": reference.version, "blocks": count, "rows": len(truth), "alpha": alpha}
        context["until"] = complete[-1].end.isoformat()
        kind = table.find(monitor.decay_metric)
        if monitor.decay_metric in reference.metrics:
            worse = decay.estimate(
                monitor.decay_metric,
                truth,
                score,
                block,
                reference=reference.metrics[monitor.decay_metric],
                reference_rate=reference.metrics.get("mean_observed"),
                direction=kind.direction,
                function=kind.function,
            )
            if worse is not None:
                found.append(_decay(worse, monitor.decay_metric, monitor.decay_by, alpha, context))
        gap = calibration.measure(truth, score, block)
        if gap is not None:
            found.append(_calibration(gap, monitor.calibration_by, alpha, context))
        return found

    def _window(self, version: int, complete: list[Block]) -> tuple[Array, Array, Array, int]:
        """Truth, champion's score and block of the last `window_blocks` complete blocks that it scored."""
        parts: list[tuple[Array, Array, Array]] = []
        for block in reversed(complete):
            index, score = block.scores_of(version)
            truth = block.outcome[index]
            known = ~np.isnan(truth)
            if known.any():
                parts.append((truth[known], score[known], np.full(int(known.sum()), block.start_us)))
            if len(parts) == self.endpoint.monitor.window_blocks:
                break
        if not parts:
            return np.empty(0), np.empty(0), np.empty(0), 0
        return *(np.concatenate([part[i] for part in parts]) for i in range(3)), len(parts)  # type: ignore[return-value]

    def _drift(self, reference: Reference, ended: list[Block]) -> list[Finding]:
        monitor = self.endpoint.monitor
        recent = [b for b in ended if b.counted_for == reference.version][-monitor.window_blocks :]
        if not reference.bins or len(recent) < monitor.window_blocks:
            return []
        alpha = budget.per_look(monitor)
        counts = {
            name: np.stack([b.counts[name] for b in recent if name in b.counts])
            for name in reference.bins
            if any(name in b.counts for b in recent)
        }
        shifts = drift.shifts(reference.bins, counts, alpha)
        if not shifts:
            return []
        moved = sorted((s for s in shifts if s.drifted), key=lambda s: -s.psi)
        worst = max(shifts, key=lambda s: s.psi)
        listed = ", ".join(f"{s.column} (PSI {s.psi:.2f}, threshold {max(s.threshold, drift.FLOOR):.2f})" for s in moved[:5])
        text = (
            f"Inputs have drifted from version {reference.version}'s training rows: {listed}."
            if moved
            else f"Inputs are distributed as in training; the most different is {worst.column} (PSI {worst.psi:.2f})."
        )
        facts = {
            "champion": reference.version,
            "columns": {s.column: {"psi": s.psi, "threshold": s.threshold, "design_effect": s.design_effect} for s in moved},
            "by": worst.psi,
            "blocks": len(recent),
            "alpha": alpha,
            "until": recent[-1].end.isoformat(),
        }
        return [Finding(kind="drift", firing=bool(moved), clear=not moved, text=text, facts=facts)]


def _decay(worse: decay.Estimate, metric: str, by: float, alpha: float, context: dict[str, Any]) -> Finding:
    scaled = " at this base rate" if metric in ("brier", "log_loss") else ""
    text = (
        f"{metric} of version {context['champion']} is {worse.value:.4f} over {context['blocks']} blocks, "
        f"{abs(worse.worse):.4f} {'worse' if worse.worse > 0 else 'better'} than its evaluation promises{scaled} "
        f"({worse.expected:.4f}; standard error {worse.error:.4f})."
    )
    facts = {
        **context,
        "metric": metric,
        "value": worse.value,
        "expected": worse.expected,
        "by": worse.worse,
        "error": worse.error,
        "p_value": worse.p_value,
    }
    return Finding(kind="decay", firing=worse.decayed(by, alpha), clear=worse.worse < by / 2, text=text, facts=facts)


def _calibration(gap: calibration.Calibration, by: float, alpha: float, context: dict[str, Any]) -> Finding:
    text = (
        f"Version {context['champion']} predicted {gap.predicted:.4f} on average over {context['blocks']} blocks, and {gap.observed:.4f} "
        f"came (gap {gap.gap:+.4f}, standard error {gap.error:.4f})."
    )
    facts = {
        **context,
        "predicted": gap.predicted,
        "observed": gap.observed,
        "by": gap.gap,
        "error": gap.error,
        "p_value": gap.p_value,
    }
    return Finding(kind="calibration", firing=gap.off(by, alpha), clear=abs(gap.gap) < by / 2, text=text, facts=facts)


def _outcomes(block: Block, source: str) -> Finding:
    known = int((~np.isnan(block.outcome)).sum())
    day = block.start.isoformat(timespec="minutes")
    text = f"No outcome has come for any of the {block.rows} predictions of the block from {day}: look at {source}."
    facts = {"rows": block.rows, "outcomes": known, "source": source, "start": block.start.isoformat()}
    return Finding(kind="outcomes", firing=block.rows >= SILENT_ROWS and not known, clear=known > 0, text=text, facts=facts)
