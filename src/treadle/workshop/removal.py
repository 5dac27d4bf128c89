"""Removal for good and retention: what spans experiments, registered models, files and the space that all of them take.

Registered models go by the registry's own rules (`DeleteModel`, `DeleteVersion`), runs and what is theirs by `tracking.removal`; then the
blobs that nothing refers to any more are swept, and the database gives its free pages back. Retention rules say what goes by
itself: they are applied by `ApplyRetention`, and once an hour by the worker.
"""

import contextlib
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from treadle.ledger import garbage
from treadle.ledger.dispatch import Unchanged
from treadle.operations import artifacts as ops
from treadle.operations.registry import DeleteModel, DeleteVersion
from treadle.operations.table import implements
from treadle.operations.tracking import BinRun
from treadle.plugins.storage import BlobStore
from treadle.records.calls import SYSTEM, Actor, Call
from treadle.records.clock import SystemClock, from_micros, micros
from treadle.records.errors import TreadleError
from treadle.records.tracking import DEFAULT_EXPERIMENT, Removed
from treadle.registry.moves import model_node
from treadle.store.db import Connection, Database
from treadle.store.queries import home
from treadle.store.queries import removal as queries
from treadle.store.queries.experiments import get_experiment
from treadle.tracking import removal

#: What a rule can be about.
WHATS = ("runs", "failed_runs", "binned", "artifacts")
#: The named value of the home that says when the rules were last applied, and how often they are.
LAST, EVERY = "retention.applied", dt.timedelta(hours=1)
#: Rules that one project has at most, things that are told one by one, and the latest that a rule can be about, in days.
_RULES, _TOLD, _DAYS = 100, 1000, 36_500


class Removals:
    """Implements the verbs of removal and retention. `dispatch` is the one door, set once it is there."""

    def __init__(self, database: Database, blobs: BlobStore):
        self._database, self._blobs = database, blobs
        self._clock = SystemClock()
        self.dispatch: Callable[..., Any] | None = None

    @implements(ops.RemoveForGood, long=True)
    def remove_for_good(self, database: Database, request: ops.RemoveForGood, call: Call) -> Removed | Unchanged:
        """Remove, or say what would go."""
        wanted = removal.asked(request.things)
        if request.binned_before is not None:
            with database.read() as connection:
                old = removal.binned(connection, request.project, _moment(request.binned_before))
            wanted = removal.Asked(
                [*wanted.runs, *old.runs],
                [*wanted.experiments, *old.experiments],
                [*wanted.logged_models, *old.logged_models],
                wanted.models,
            )
        made = self._remove(database, request, wanted, call)
        return Unchanged(made) if made.preview or not made.things else made

    def _remove(self, database: Database, request: ops.RemoveForGood, wanted: removal.Asked, call: Call) -> Removed:
        going, kept = self._registered(request, wanted.models, call)
        with database.read() as connection:
            planned = removal.plan(connection, request.project, wanted, going=going)
        if request.preview:
            return _told(planned, going, kept, preview=True, freed=planned.bytes)
        done = removal.carry_out(database, request.project, planned, call, erase_events=request.erase_events)
        if request.erase_events:
            removal.erase(database, request.project, [_named(*one) for one in going], call)
        anything = bool(going or done.things())
        freed = self._give_back(database, request.min_age_s, whole=request.compact) if anything or request.compact else 0
        return _told(done, going, kept, preview=False, freed=freed)

    def _registered(
        self, request: ops.RemoveForGood, models: Sequence[tuple[str, int | None]], call: Call
    ) -> tuple[list[tuple[str, int | None]], list[str]]:
        """Registered models and versions that go (have gone, where this is no preview), and why the rest is kept."""
        gone: list[tuple[str, int | None]] = []
        kept: list[str] = []
        for model, number in models:
            if number is not None and (model, None) in gone:
                continue
            key: dict[str, Any] = {"project": request.project, "model": model, **({} if number is None else {"number": number})}
            verb = DeleteModel if number is None else DeleteVersion
            try:
                told = self._call(verb(**key, preview=True), call.actor)
                if told.kept:
                    kept.append(f"{_named(model, number)}: {'; '.join(told.kept[:5])}")
                    continue
                if not request.preview:
                    self._call(verb(**key), call.actor)
                    nodes = [model_node(request.project, model, n) for n in told.versions]
                    self._database.write(lambda tx, nodes=nodes: queries.prune(tx, request.project, nodes))
            except TreadleError as error:
                if error.code not in ("not_found", "conflict"):
                    raise
                kept.append(f"{_named(model, number)}: {error.what}")
                continue
            gone.append((model, number))
        return gone, kept

    def _call(self, request: Any, actor: Actor) -> Any:
        assert self.dispatch is not None
        return self.dispatch(request, actor=actor)

    def _give_back(self, database: Database, min_age_s: int, *, whole: bool) -> int:
        """Bytes that the blobs and the database take less. A collection or backup that is at work does it later."""
        freed = 0
        with contextlib.suppress(_Later):
            freed = _collected(database, self._blobs, min_age_s)
        return freed + database.give_back(whole=whole)

    # ── retention ────────────────────────────────────────────────────────────────────────────────────────────────

    @implements(ops.SetRetention)
    def set_retention(self, tx: Connection, request: ops.SetRetention, call: Call) -> ops.RetentionRule:
        """Declare a rule, or take it back."""
        rule = ops.RetentionRule(
            rule_id=request.rule_id,
            what=request.what,
            days=request.days,
            experiment=request.experiment,
            keep_tagged=request.keep_tagged,
        )
        if request.what not in WHATS:
            raise TreadleError(f"{request.what[:80]!r} is nothing that a retention rule is about.", remedy=f"One of: {', '.join(WHATS)}")
        if not 0 <= request.days <= _DAYS:
            raise TreadleError(f"{request.days} days are no time to keep things.", remedy=f"Give 1 to {_DAYS}; 0 takes the rule back.")
        if not request.rule_id or len(request.rule_id) > 100 or not request.rule_id.isprintable():
            raise TreadleError("A rule's id has 1 to 100 characters that can be shown.", remedy="Name it by what it does: old-failures")
        if not request.days:
            queries.drop_rule(tx, request.project, request.rule_id)
            return rule
        known = queries.rules(tx, request.project)
        if len(known) >= _RULES and request.rule_id not in {name for name, _ in known}:
            raise TreadleError(f"{request.project} has {_RULES} rules already.", remedy="Take one back: treadle retention set ID --days 0")
        if rule.experiment not in ("*", DEFAULT_EXPERIMENT):
            found = get_experiment(tx, request.project, rule.experiment)
            if found is None:
                raise TreadleError(
                    f"{request.project} has no experiment {rule.experiment[:80]!r}, so the rule would never do anything.",
                    remedy="See their ids and names: treadle experiments",
                    code="not_found",
                )
            rule = msgspec.structs.replace(rule, experiment=found.experiment_id)
        row = {"project": request.project, "rule_id": request.rule_id, "rule": rule, "actor": call.actor.actor_id}
        queries.put_rule(tx, {**row, "recorded_time": self._clock.now()})
        return rule

    @implements(ops.ListRetention)
    def list_retention(self, connection: Connection, request: ops.ListRetention, call: Call) -> list[ops.RetentionRule]:
        """The rules, by id."""
        return [ops.RetentionRule(**rule) for _, rule in queries.rules(connection, request.project)]

    @implements(ops.ApplyRetention, long=True)
    def apply_retention(self, database: Database, request: ops.ApplyRetention, call: Call) -> Removed | Unchanged:
        """What is past its time goes to the bin; what has been there for as long goes for good; files that are past theirs go."""
        now = self._clock.now()
        with database.read() as connection:
            rules = [ops.RetentionRule(**rule) for _, rule in queries.rules(connection, request.project)]
            found = [(rule, *_due(connection, request.project, rule, now)) for rule in rules]
        to_bin = list(dict.fromkeys(run for rule, due, _ in found if rule.what in ("runs", "failed_runs") for run in due))
        stripped = list(dict.fromkeys(run for rule, due, _ in found if rule.what == "artifacts" for run in due))
        wanted = removal.Asked(
            list(dict.fromkeys(run for _, _, gone in found for run in gone.runs)),
            list(dict.fromkeys(e for _, _, gone in found for e in gone.experiments)),
            list(dict.fromkeys(m for _, _, gone in found for m in gone.logged_models)),
        )
        with database.read() as connection:
            free = removal.plan(connection, request.project, removal.Asked(list({*to_bin, *stripped})), weigh=False)
            files, size, _ = queries.weigh(connection, request.project, [r for r in stripped if r in set(free.runs)], [])
        to_bin, stripped = ([r for r in some if r in set(free.runs)] for some in (to_bin, stripped))
        if not request.preview:
            for run in to_bin:
                self._call(BinRun(project=request.project, run_id=run, lifecycle="deleted"), call.actor)
            for run in stripped:
                while database.write(lambda tx, run=run: queries.drop_files(tx, request.project, run, removal.POINTS)) >= removal.POINTS:
                    pass
        made = self._remove(database, ops.RemoveForGood(project=request.project, preview=request.preview), wanted, call)
        freed = made.freed_bytes + size if request.preview else made.freed_bytes
        if stripped and not request.preview and not made.things:
            freed += self._give_back(database, 3600, whole=False)
        told = [*(f"bin run/{r}" for r in to_bin), *(f"files of run/{r}" for r in stripped), *made.things][:_TOLD]
        answer = Removed(
            preview=request.preview,
            binned=len(to_bin),
            runs=made.runs,
            experiments=made.experiments,
            logged_models=made.logged_models,
            artifacts=made.artifacts + files,
            metric_points=made.metric_points,
            freed_bytes=freed,
            things=told,
            kept=[*free.kept, *made.kept][:_TOLD],
        )
        return Unchanged(answer) if request.preview or not told else answer

    def keep(self) -> int:
        """Apply every project's rules where the last time is an hour ago, whichever worker comes first; returns how many projects."""
        now = self._clock.now()
        if not self._database.write(lambda tx: _claimed(tx, now)):
            return 0
        with self._database.read() as connection:
            projects = queries.ruled(connection)
        for project in projects:
            self._call(ops.ApplyRetention(project=project, preview=False), SYSTEM)
        return len(projects)


class _Later(Exception):
    """Somebody else is at it."""


def _collected(database: Database, blobs: BlobStore, min_age_s: int) -> int:
    try:
        return garbage.collect(database, blobs, dry_run=False, min_age_s=min_age_s).freed_bytes
    except TreadleError as error:
        if error.code in ("busy", "not_implemented"):
            raise _Later from error
        raise


def _due(connection: Connection, project: str, rule: ops.RetentionRule, now: dt.datetime) -> tuple[list[str], removal.Asked]:
    """Runs in use that are past a rule's time, and what has been in the bin for as long."""
    before = now - dt.timedelta(days=rule.days)
    if rule.what == "binned" and rule.experiment == "*":
        gone = removal.binned(connection, project, before)
        return [], _without_tagged(connection, project, gone, rule.keep_tagged)
    states = ("failed", "cancelled") if rule.what == "failed_runs" else removal.ENDED
    due: list[str] = []
    if rule.what != "binned":
        due = queries.ended_before(
            connection,
            project,
            before,
            states=states,
            experiment=rule.experiment,
            keep_tagged=rule.keep_tagged,
            with_files=rule.what == "artifacts",
        )
    if rule.what == "artifacts":
        return due, removal.Asked()
    gone = removal.Asked(
        queries.binned(connection, project, before, states=() if rule.what == "binned" else states, experiment=rule.experiment)
    )
    return due, _without_tagged(connection, project, gone, rule.keep_tagged)


def _without_tagged(connection: Connection, project: str, gone: removal.Asked, tag: str) -> removal.Asked:
    if not tag:
        return gone
    tagged = queries.tagged(connection, project, gone.runs, tag)
    free = [e for e in gone.experiments if not queries.tagged(connection, project, queries.runs_of(connection, project, e), tag)]
    return removal.Asked([r for r in gone.runs if r not in tagged], free, gone.logged_models, gone.models)


def _claimed(tx: Connection, now: dt.datetime) -> bool:
    last = home.get_value(tx, LAST)
    if last is not None and micros(now) - int(last) < EVERY // dt.timedelta(microseconds=1):
        return False
    home.put_value(tx, LAST, str(micros(now)))
    return True


def _told(plan: removal.Plan, models: Sequence[tuple[str, int | None]], kept: list[str], *, preview: bool, freed: int) -> Removed:
    things = [*(_named(*one) for one in models), *plan.things()]
    return Removed(
        preview=preview,
        runs=len(plan.runs),
        experiments=len(plan.experiments),
        models=sum(1 for _, number in models if number is None),
        versions=sum(1 for _, number in models if number is not None),
        logged_models=len(plan.logged_models),
        artifacts=plan.files,
        metric_points=plan.points,
        freed_bytes=freed,
        things=things[:_TOLD],
        kept=[*kept, *plan.kept][:_TOLD],
    )


def _named(model: str, number: int | None) -> str:
    return f"model/{model}" if number is None else f"model/{model}/{number}"


def _moment(microseconds: int) -> dt.datetime:
    try:
        return from_micros(microseconds)
    except (OverflowError, ValueError) as error:
        raise TreadleError(f"{microseconds} is no time.", remedy="Give microseconds since 1970 UTC.") from error
