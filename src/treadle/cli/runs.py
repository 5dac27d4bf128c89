"""`run`, `runs`, `logs`, `why-ran`, `cancel`, `resume`: pipelines at work."""

import contextlib
import datetime as dt
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.operations.ledger import GetRun, ListRuns, Runs
from treadle.operations.pipelines import CancelRun, ListSteps, LogLines, ReadLog, ResumeRun, SubmitRun
from treadle.operations.tracking import GetTrackedRun
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.ledger import Run, Step
from treadle.records.states import RunState
from treadle.records.tracking import TrackedRun

_POLL = 0.2
_PATIENCE = 10  # seconds that an interrupted verb lets its work end


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("pipeline")
@click.argument("parameters", nargs=-1, type=click.UNPROCESSED)
@click.option("--detach", is_flag=True, help="Queue it and return; a worker takes it up.")
@click.option("--no-cache", is_flag=True, help="Run every step, whatever was kept.")
@click.option("--run-id", help="An id of your own; the same one again changes nothing.")
@click.option("--at", metavar="TIME", help="Business time of the run, RFC 3339; now where left out.")
@click.option("--parent", metavar="RUN", help="The run that this one goes on from; treadle diff RUN says what changed.")
@verb(project=True, environment=True)
def run(  # noqa: PLR0913  (each is an option of the verb)
    session: Session,
    pipeline: str,
    parameters: tuple[str, ...],
    project: str | None,
    env: str | None,
    detach: bool,
    no_cache: bool,
    run_id: str | None,
    at: str | None,
    parent: str | None,
) -> int:
    """Run PIPELINE and follow it. Options that are none of these are the pipeline's own parameters.

    Without a worker at this home the run is done here, in this process. Exit code 0 when it finished, 1 when it failed.

    \b
    Example:
      treadle run delay_model --until 2013-03-31 --seed 7
    """
    name = session.project(project)
    environment = session.environment(name, env)
    request = SubmitRun(
        project=name,
        pipeline=pipeline,
        run_id=run_id or new_id("run"),
        environment=environment,
        params=_parameters(parameters),
        use_cache=not no_cache,
        parent=parent,
    )
    made: Run = session.call(request, event_time=moment(at) if at else None)
    if detach:
        _show_run(session, made)
        return 0
    if not session.as_json:
        click.echo(f"{made.run_id}  {pipeline} in {environment}")
    with _worked(session, made.run_id):
        return _follow(session, name, made.run_id)


@click.command()
@click.argument("run_id", required=False)
@click.option("--state", type=click.Choice([s.value for s in RunState]), help="Only these.")
@click.option("--pipeline", help="Only this pipeline's.")
@click.option("--limit", default=20, show_default=True)
@verb(project=True, environment=True)
def runs(
    session: Session, run_id: str | None, project: str | None, env: str | None, state: str | None, pipeline: str | None, limit: int
) -> None:
    """List runs, newest first; with RUN_ID show one with its metrics and steps.

    \b
    Example:
      treadle runs --state failed
    """
    name = session.project(project)
    if run_id:
        detail = session.call(GetRun(project=name, run_id=run_id))
        if session.as_json:
            show.as_json(detail)
            return
        r = detail.run
        seen: TrackedRun = session.call(GetTrackedRun(project=name, run_id=run_id))
        show.facts(
            [
                ("run", r.run_id),
                ("name", seen.name),
                ("pipeline", r.pipeline),
                ("experiment", r.experiment),
                ("by", seen.user or r.actor),
                ("parent", r.parent_run),
                ("environment", r.environment),
                ("state", r.state),
                ("reason", r.reason.text),
                ("parameters", r.params or seen.params),
                ("data read", [f"{i.name} {show.short(i.digest)}{f' ({i.context})' if i.context else ''}" for i in seen.inputs]),
                ("models", [m.model_id for m in seen.models]),
                ("time", r.event_time),
                ("started", r.started),
                ("ended", r.ended),
                ("metrics", detail.metrics),
                ("tags", detail.tags),
                ("code", show.short(r.code_digest)),
                ("git", r.git_revision),
                ("in the bin since", seen.deleted),
                ("error", r.error),
            ]
        )
        steps: list[Step] = session.call(ListSteps(project=name, run_id=run_id))
        if r.pipeline or steps:
            click.echo()
            _steps(steps)
        return
    page: Runs = session.call(ListRuns(project=name, environment=env, pipeline=pipeline, state=state, limit=limit))
    if session.as_json:
        show.as_json(page)
        return
    show.table(
        ("RUN", "PIPELINE", "ENV", "STATE", "TIME", "TOOK", "WHY"),
        [(r.run_id, r.pipeline, r.environment, r.state, r.event_time, _took(r), r.reason.text) for r in page.items],
        empty="No runs yet. Start one: treadle run PIPELINE",
    )


@click.command()
@click.argument("run_id")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run has ended.")
@verb(project=True)
def logs(session: Session, run_id: str, project: str | None, follow: bool) -> int:
    """Print what a run wrote. With -f the exit code says how the run ended.

    \b
    Example:
      treadle logs run_01ks… -f
    """
    name = session.project(project)
    if follow:
        return _follow(session, name, run_id, log=True)
    session.call(GetRun(project=name, run_id=run_id))
    _lines(session, name, run_id, 0)
    return 0


@click.command("why-ran")
@click.argument("run_id")
@click.argument("step", required=False)
@verb(project=True)
def why_ran(session: Session, run_id: str, step: str | None, project: str | None) -> None:
    """Say why each step of RUN_ID (or only STEP: a name, or a place such as 0003:fit) ran or was skipped.

    \b
    Example:
      treadle why-ran run_01ks… fit
    """
    steps: list[Step] = session.call(ListSteps(project=session.project(project), run_id=run_id))
    chosen = [s for s in steps if step in (None, s.name, s.path)]
    if step and not chosen:
        names = ", ".join(dict.fromkeys(s.name for s in steps)) or "none"
        raise TreadleError(f"{run_id} has no step {step!r}.", remedy=f"Its steps: {names}", code="not_found")
    if session.as_json:
        show.as_json(chosen)
        return
    for s in chosen:
        click.echo(f"{click.style(s.path, bold=True)}  {show.state(str(s.state))}  {s.why}")
        if step:
            show.facts([("  key", show.short(s.cache_key)), *((f"  {k}", show.short(v)) for k, v in s.components.items())])


@click.command()
@click.argument("run_id")
@verb(project=True)
def cancel(session: Session, run_id: str, project: str | None) -> None:
    """Ask a run to stop: the step in flight is ended, finished steps stay.

    \b
    Example:
      treadle cancel run_01ks…
    """
    _show_run(session, session.call(CancelRun(project=session.project(project), run_id=run_id)))


@click.command()
@click.argument("run_id")
@click.option("--detach", is_flag=True, help="Queue it and return.")
@verb(project=True)
def resume(session: Session, run_id: str, project: str | None, detach: bool) -> int:
    """Continue a failed or cancelled run: finished steps answer from the journal, the failed one runs again.

    \b
    Example:
      treadle resume run_01ks…
    """
    name = session.project(project)
    seen = session.call(ReadLog(project=name, run_id=run_id, limit=10_000)).items
    made: Run = session.call(ResumeRun(project=name, run_id=run_id))
    if detach:
        _show_run(session, made)
        return 0
    with _worked(session, run_id):
        return _follow(session, name, run_id, after=seen[-1].number if seen else 0)


def moment(text: str) -> dt.datetime:
    """A time typed by a person: RFC 3339, or a date (midnight UTC).

    Raises:
        TreadleError: anything else.
    """
    try:
        parsed = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise TreadleError(f"{text!r} is no time.", remedy="Write 2013-04-01 or 2013-04-01T06:00:00Z") from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)


def _parameters(words: tuple[str, ...]) -> dict[str, Any]:
    """`--until 2013-03-31 --seed=7 --fast` as parameters: JSON where it is JSON, text where not, true where nothing follows."""
    values: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise TreadleError(
                f"{word!r} stands alone.", remedy="Parameters of the pipeline are written --name value or --name=value, after its name."
            )
        name, equals, text = word[2:].partition("=")
        if not equals:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        try:
            values[name.replace("-", "_")] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            values[name.replace("-", "_")] = text
    return values


@contextlib.contextmanager
def _worked(session: Session, run_id: str) -> Iterator[None]:
    """See that the queue is worked: by a worker of this home, by the server's, or else by a thread of this process.

    An interrupted verb says what becomes of the run.
    """
    from treadle.workshop.supervisor import living

    if session.url or any(note.name.startswith("worker") for note in living(session.workshop.layout)):
        try:
            yield
        except KeyboardInterrupt:
            click.echo(f"\nThe run goes on. Follow it: treadle logs {run_id} -f   End it: treadle cancel {run_id}", err=True)
            raise
        return
    from treadle.workshop.loops import Loop

    loop = Loop(session.workshop, name=f"run-{os.getpid()}")
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            loop.worker.run_due(session.workshop.clock.now())
            stop.wait(0.05)

    thread = threading.Thread(target=work, name="treadle-run", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nWaiting for what runs, at most {_PATIENCE} s (Ctrl-C again: not at all).", err=True)
        click.echo(f"A worker, or the next treadle run, goes on with what is left. End it: treadle cancel {run_id}", err=True)
        raise
    finally:
        stop.set()
        thread.join(_PATIENCE)
        loop.seal()


def _follow(session: Session, project: str, run_id: str, *, after: int = 0, log: bool = False) -> int:
    """Follow a run to its end. With --json its record is the answer; where the log was asked for, the last of the lines."""
    while True:
        after, ended = _lines(session, project, run_id, after, quiet=session.as_json and not log)
        if ended:
            break
        time.sleep(_POLL)
    made: Run = session.call(GetRun(project=project, run_id=run_id)).run
    if session.as_json and log:
        show.line_json(made)
    else:
        _show_run(session, made)
    return 0 if made.state is RunState.finished else 1


def _lines(session: Session, project: str, run_id: str, after: int, *, quiet: bool = False) -> tuple[int, bool]:
    """Print the lines after a number; the last number and whether no more will come."""
    while True:
        lines: LogLines = session.call(ReadLog(project=project, run_id=run_id, after=after))
        for line in lines.items:
            after = line.number
            if session.as_json and not quiet:
                show.line_json(line)
            elif not quiet:
                click.echo(f"{click.style(line.step or '·', fg='cyan')}  {line.text}")
        if not lines.items or lines.page.next is None:
            return after, lines.ended


def _show_run(session: Session, made: Run) -> None:
    if session.as_json:
        show.as_json(made)
        return
    took = f" in {_took(made)}" if made.ended else ""
    click.echo(f"{made.run_id} {show.state(str(made.state))}{took}")
    if made.error:
        click.echo(f"  {made.error}")
    if made.state is RunState.failed:
        click.echo(f"  To do: Look: treadle logs {made.run_id}. Where the cause is outside the code: treadle resume {made.run_id}")
        click.echo("         A run keeps its code. Where that was mended: treadle apply, and run again; unchanged steps are cached.")


def _took(r: Run) -> str:
    return f"{(r.ended - r.started).total_seconds():.1f} s" if r.started and r.ended else ""


def _steps(steps: list[Step]) -> None:
    show.table(
        ("STEP", "STATE", "TOOK", "WHY"),
        [(s.path, s.state, f"{(s.ended - s.started).total_seconds():.2f} s" if s.started and s.ended else "", s.why) for s in steps],
        empty="No steps yet.",
    )
