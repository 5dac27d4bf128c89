"""`runs` with its bin, `remove`, `retention`: what goes, and what goes for good."""

import shlex
import sys

import click

from treadle.cli import show
from treadle.cli.runs import moment
from treadle.cli.runs import runs as listing
from treadle.cli.session import Session, verb
from treadle.operations.artifacts import ApplyRetention, ListRetention, RemoveForGood, RetentionRule, SetRetention
from treadle.operations.tracking import BinRun
from treadle.records.clock import micros, seconds
from treadle.records.errors import TreadleError
from treadle.records.tracking import Removed, RunHead

#: What is shown of things that go, and of things that are kept.
_SHOWN = 20


class _Listing(click.Group):
    """A group that lists where no other verb of it is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click, with `list` put in."""
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group(cls=_Listing)
def runs() -> None:
    """List runs, newest first; with a run's id show it; put runs into the bin and take them back.

    \b
    Example:
      treadle runs --state failed
      treadle runs delete run_01ks…
    """


runs.add_command(listing, "list")


@runs.command()
@click.argument("run_ids", metavar="RUN…", nargs=-1, required=True)
@verb(project=True)
def delete(session: Session, run_ids: tuple[str, ...], project: str | None) -> None:
    """Put runs into the bin. What is there is not shown and not written to; `treadle remove` takes it for good.

    \b
    Example:
      treadle runs delete run_01ks…
    """
    _bin(session, run_ids, project, "deleted", "in the bin")


@runs.command()
@click.argument("run_ids", metavar="RUN…", nargs=-1, required=True)
@verb(project=True)
def restore(session: Session, run_ids: tuple[str, ...], project: str | None) -> None:
    """Take runs back out of the bin.

    \b
    Example:
      treadle runs restore run_01ks…
    """
    _bin(session, run_ids, project, "active", "back")


def _bin(session: Session, run_ids: tuple[str, ...], project: str | None, lifecycle: str, said: str) -> None:
    name = session.project(project)
    made: list[RunHead] = [session.call(BinRun(project=name, run_id=run_id, lifecycle=lifecycle)) for run_id in run_ids]
    if session.as_json:
        show.as_json(made)
    else:
        for run in made:
            click.echo(f"{run.run_id} is {said}.")


@click.command()
@click.argument("things", metavar="[THING…]", nargs=-1)
@click.option("--binned-before", metavar="TIME", help="Take everything that has been in the bin since before then too.")
@click.option("--erase-events", is_flag=True, help="Erase what events told of it; the chain of events still verifies.")
@click.option("--min-age", default="1h", show_default=True, help="Leave blobs to a later collection that were used since.")
@click.option("--compact", is_flag=True, help="Write the database's file anew; writers wait meanwhile.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@verb(project=True)
def remove(
    session: Session,
    things: tuple[str, ...],
    project: str | None,
    binned_before: str | None,
    erase_events: bool,
    min_age: str,
    compact: bool,
    yes: bool,
) -> int:
    """Remove things for good, with their files and the space they take; first shows what would go and what keeps the rest.

    A THING is run/ID, experiment/ID or experiment/NAME (with its runs), logged-model/ID, model/NAME or model/NAME/NUMBER. Exit code 1 where
    nothing went.

    \b
    Example:
      treadle remove run/run_01ks… experiment/trial --yes
      treadle remove --binned-before 2013-03-01
    """
    if not things and not binned_before and not compact:
        raise TreadleError("Nothing to remove is named.", remedy="Name it: treadle remove run/ID, or --binned-before TIME")
    try:
        age = 0 if min_age in ("0", "0s") else seconds(min_age)
    except ValueError as error:
        raise TreadleError(str(error), remedy="Write --min-age 30m") from error
    before = micros(moment(binned_before)) if binned_before else None
    request = RemoveForGood(
        project=session.project(project),
        things=list(things),
        binned_before=before,
        erase_events=erase_events,
        min_age_s=age,
        compact=compact,
    )
    does = shlex.join(["treadle", "remove", *things, *(["--project", project] if project else [])])
    return _twice(session, request, yes=yes, does=does, anyway=compact)


@click.group()
def retention() -> None:
    """How long things are kept: rules by which runs, what is in the bin, and files go by themselves.

    \b
    Example:
      treadle retention set old-failures failed_runs --days 30
    """


@retention.command("set")
@click.argument("rule_id", metavar="RULE")
@click.argument("what", type=click.Choice(["runs", "failed_runs", "binned", "artifacts"]))
@click.option("--days", type=int, required=True, help="0 takes the rule back.")
@click.option("--experiment", default="*", help="Only this experiment's (its id or name).")
@click.option("--keep-tagged", default="", metavar="TAG", help="But not runs with this tag.")
@verb(project=True)
def set_rule(session: Session, rule_id: str, what: str, project: str | None, days: int, experiment: str, keep_tagged: str) -> None:
    """Declare RULE. Runs go to the bin DAYS after they ended, and for good DAYS later; the bin is emptied; files go and their runs stay.

    What a registered version refers to is kept.

    \b
    Example:
      treadle retention set old-failures failed_runs --days 30 --keep-tagged keep
    """
    request = SetRetention(
        project=session.project(project), rule_id=rule_id, what=what, days=days, experiment=experiment, keep_tagged=keep_tagged
    )
    made: RetentionRule = session.call(request)
    if session.as_json:
        show.as_json(made)
    elif not days:
        click.echo(f"The rule {rule_id} is taken back.")
    else:
        click.echo(f"{_rule(made)}. What goes now: treadle retention apply")


@retention.command("list")
@verb(project=True)
def list_rules(session: Session, project: str | None) -> None:
    """The rules of a project.

    \b
    Example:
      treadle retention list
    """
    found: list[RetentionRule] = session.call(ListRetention(project=session.project(project)))
    if session.as_json:
        show.as_json(found)
        return
    rows = [(r.rule_id, r.what, r.days, r.experiment, r.keep_tagged) for r in found]
    show.table(("RULE", "WHAT", "DAYS", "EXPERIMENT", "BUT TAGGED"), rows, empty="No rules: everything is kept.")


@retention.command("apply")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@verb(project=True)
def apply_rules(session: Session, project: str | None, yes: bool) -> int:
    """Apply the rules now, as the worker does once an hour; first shows what would go.

    \b
    Example:
      treadle retention apply --yes
    """
    return _twice(session, ApplyRetention(project=session.project(project)), yes=yes, does="treadle retention apply")


def _twice(session: Session, request: RemoveForGood | ApplyRetention, *, yes: bool, does: str, anyway: bool = False) -> int:
    """Show what would go, ask, and do it."""
    import msgspec

    told: Removed = session.call(request)
    if session.as_json and not yes:
        show.as_json(told)
        return 0
    if not session.as_json:
        _show(told)
    if not told.things and not anyway:
        if session.as_json:
            show.as_json(told)
        return 1 if told.kept else 0
    if not yes and not (sys.stdin.isatty() and click.confirm("Remove it for good?")):
        click.echo(f"Nothing was removed. Do it: {does} --yes")
        return 0
    done: Removed = session.call(msgspec.structs.replace(request, preview=False))
    if session.as_json:
        show.as_json(done)
    else:
        click.echo(f"Removed {_figures(done)}; {show.size(done.freed_bytes)} given back.")
        for kept in [k for k in done.kept if k not in told.kept][:_SHOWN]:
            click.echo(f"  kept: {kept}")
    return 0 if done.things or anyway else 1


def _show(told: Removed) -> None:
    click.echo(f"Would remove {_figures(told)}: {show.size(told.freed_bytes)} of files.")
    for thing in told.things[:_SHOWN]:
        click.echo(f"  {thing}")
    for kept in told.kept[:_SHOWN]:
        click.echo(f"  kept: {kept}")
    more = max(len(told.things) - _SHOWN, 0) + max(len(told.kept) - _SHOWN, 0)
    if more:
        click.echo(f"  and {more} more (--json shows them)")


def _figures(told: Removed) -> str:
    names = {
        "runs": "run",
        "experiments": "experiment",
        "models": "model",
        "versions": "version",
        "logged_models": "logged model",
        "artifacts": "file",
        "metric_points": "metric point",
    }
    parts = [f"{n:,} {word}{'s' if n != 1 else ''}" for name, word in names.items() if (n := getattr(told, name))]
    parts += [f"{told.binned:,} runs to the bin"] if told.binned else []
    return ", ".join(parts) or "nothing"


def _rule(rule: RetentionRule) -> str:
    where = "" if rule.experiment == "*" else f" of experiment {rule.experiment}"
    but = f", but not those tagged {rule.keep_tagged}" if rule.keep_tagged else ""
    return f"{rule.rule_id}: {rule.what.replace('_', ' ')}{where} after {rule.days} days{but}"
