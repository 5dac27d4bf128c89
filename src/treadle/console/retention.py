"""How long a project keeps things: its rules, to be set and taken back, and what they would let go now. Only an admin's word does it."""

import datetime as dt
from typing import Any

from starlette.responses import RedirectResponse, Response

from treadle.console import words
from treadle.console.asked import Address, Fields
from treadle.console.desk import Desk, check_same_origin
from treadle.console.files import size
from treadle.console.notices import notice
from treadle.console.removals import link, parts
from treadle.operations.artifacts import ApplyRetention, ListRetention, RetentionRule, SetRetention
from treadle.operations.tracking import GetExperiment
from treadle.records.calls import Role
from treadle.records.errors import TreadleError
from treadle.records.tracking import Removed

#: What a rule can be about, and what becomes of it.
WHATS = {
    "runs": ("runs", "go to the bin once they ended that long ago, and for good as long after"),
    "failed_runs": ("failed and stopped runs", "go to the bin once they ended that long ago, and for good as long after"),
    "binned": ("what is in the bin", "goes for good once it has been there that long"),
    "artifacts": ("files of runs", "go once the run ended that long ago; the run stays"),
}


def page(desk: Desk) -> Response:
    """The rules; with `preview=1` what they would let go now."""
    return _page(desk)


def _page(desk: Desk, error: TreadleError | None = None, typed: Fields | None = None, *, preview: bool = False) -> Response:
    here = Address.of(desk.request)
    rules: list[RetentionRule] = desk.call(ListRetention(project=desk.project))
    admin = desk.actor.role == Role.admin
    found: Removed | None = None
    if (preview or here.get("preview") == "1") and rules and admin:
        found = desk.call(ApplyRetention(project=desk.project, preview=True))
    goes = _goes(found) if found else []
    return desk.page(
        "retention.html",
        status=400 if error else 200,
        sentence=_sentence(rules),
        notice=notice(here, desk.base),
        rules=[_rule(desk, r) for r in rules],
        whats=[(what, f"{name}: {does}") for what, (name, does) in WHATS.items()],
        admin=admin,
        found=found,
        goes=goes,
        freed=size(found.freed_bytes) if found else "",
        links=[(t, _link(desk, t)) for t in found.things] if found else [],
        error=error,
        typed={k: typed.get(k) if typed else "" for k in ("rule", "what", "days", "experiment", "tag")},
    )


def _sentence(rules: list[RetentionRule]) -> str:
    if not rules:
        return "There is no rule: everything is kept until somebody removes it."
    if len(rules) == 1:
        return "One rule says how long things are kept; the worker applies it once an hour."
    return f"{len(rules):,} rules say how long things are kept; the worker applies them once an hour."


def _rule(desk: Desk, rule: RetentionRule) -> dict[str, Any]:
    name, does = WHATS.get(rule.what, (rule.what, ""))
    found = desk.maybe(GetExperiment(project=desk.project, experiment=rule.experiment, by="id")) if rule.experiment != "*" else None
    return {
        "id": rule.rule_id,
        "what": rule.what,
        "name": name,
        "does": does,
        "days": words.count(rule.days),
        "span": words.span(dt.timedelta(days=rule.days).total_seconds()) if rule.days > 60 else "",
        "where": found.name if found else rule.experiment,
        "href": desk.base + words.path("experiments", rule.experiment, "runs") if rule.experiment != "*" else "",
        "tag": rule.keep_tagged,
    }


def _goes(found: Removed) -> list[str]:
    binned = [f"{found.binned:,} run{'s' if found.binned != 1 else ''} to the bin"] if found.binned else []
    return [*binned, *(f"{part} for good" for part in parts(found))]


def _link(desk: Desk, thing: str) -> str:
    """Of `run/ID` and of what is said of it: `bin run/ID`, `files of run/ID`."""
    return link(desk, thing.removeprefix("bin ").removeprefix("files of "))


def change(desk: Desk, fields: Fields) -> Response:
    """Set a rule, take one back, or apply them all now."""
    check_same_origin(desk.request)
    what = fields.get("act")
    there = f"{desk.base}/removals/retention"
    if what == "set":
        try:
            return RedirectResponse(f"{there}?said={_set(desk, fields)}", 303)
        except TreadleError as error:
            if error.code in ("denied", "unauthenticated"):
                raise
            return _page(desk, error, fields)
    if what == "drop":
        rules: list[RetentionRule] = desk.call(ListRetention(project=desk.project))
        rule = next((r for r in rules if r.rule_id == fields.get("rule")), None)
        if rule is None:
            raise TreadleError("There is no such rule any more.", remedy=f"See those that there are: {there}", code="not_found")
        desk.call(SetRetention(project=desk.project, rule_id=rule.rule_id, what=rule.what, days=0))
        return RedirectResponse(f"{there}?said=rule_gone", 303)
    if what == "apply":
        if fields.get("sure") != "yes":
            told = TreadleError("Nothing was removed: the box was not ticked.", remedy="Tick it, then press the button again.")
            return _page(desk, told, preview=True)
        done: Removed = desk.call(ApplyRetention(project=desk.project, preview=False))
        return RedirectResponse(f"{there}?said=applied&done={len(done.things)}", 303)
    raise TreadleError("The form does not say what to do with the rules.", remedy="Use one of its buttons.")


def _set(desk: Desk, fields: Fields) -> str:
    days = fields.get("days")
    if not days.isdecimal() or not 0 < len(days) < 7 or not int(days):
        raise TreadleError(
            f"{days[:40]!r} is no number of days.", remedy="Give a whole number, 1 or more; a rule is taken back by its button."
        )
    experiment = fields.get("experiment") or "*"
    if experiment != "*":
        experiment = desk.call(GetExperiment(project=desk.project, experiment=experiment)).experiment_id
    desk.call(
        SetRetention(
            project=desk.project,
            rule_id=fields.get("rule"),
            what=fields.get("what"),
            days=int(days),
            experiment=experiment,
            keep_tagged=fields.get("tag"),
        )
    )
    return "rule"
