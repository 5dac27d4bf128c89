"""`diagnose`, `diff`: how healthy a run is, and what changed from one to another."""

import click

from treadle.cli import show
from treadle.cli.session import Session, verb
from treadle.operations.diagnosis import CompareRuns, DiagnoseRun

_COLOURS = {"critical": "red", "warning": "yellow", "info": None}


@click.command()
@click.argument("run_id")
@click.option("--inside", is_flag=True, help="Print the watched tensors and the sections of time too.")
@verb(project=True)
def diagnose(session: Session, run_id: str, inside: bool, project: str | None) -> int:
    """Say what is wrong with a training: overfitting, divergence, vanishing gradients, dead units, waiting for input.

    Exit code 1 where something critical was found.

    \b
    Example:
      treadle diagnose run_01ks… --inside
    """
    found = session.call(DiagnoseRun(project=session.project(project), run_id=run_id))
    code = 1 if any(f.severity == "critical" for f in found.findings) else 0
    if session.as_json:
        show.as_json(found)
        return code
    for f in found.findings:
        steps = "" if f.first_step is None else f"  steps {f.first_step} to {f.last_step}"
        click.echo(f"{click.style(f.severity, fg=_COLOURS[f.severity], bold=True)}  {f.rule}{steps}\n  {f.text}\n  {f.advice}")
    if not found.findings:
        click.echo(
            f"Nothing found in {found.examined} metrics." if found.examined else "The run has no metrics: there is nothing to look at."
        )
    if inside:
        click.echo()
        names = [name for name in ("norm", "mean", "std", "min", "max", "zeros", "saturated", "dead", "nan")]
        rows = [(w.name, w.captures, w.last_step, *(w.last.get(name) for name in names)) for w in found.watched]
        show.table(("TENSOR", "LOOKS", "STEP", *(name.upper() for name in names)), rows, empty="No tensor was watched: run.watch(…)")
        click.echo()
        sections = [(s.path, s.count, s.seconds, f"{s.share:.0%}") for s in found.sections]
        show.table(("SECTION", "COUNT", "SECONDS", "SHARE"), sections, empty="No time was measured: with run.timed(…):")
    return code


@click.command()
@click.argument("run_id")
@click.argument("other", required=False)
@verb(project=True)
def diff(session: Session, run_id: str, other: str | None, project: str | None) -> None:
    """Say what changed from RUN_ID to OTHER: parameters, code, packages, data, metrics. With one run, what changed since its parent.

    \b
    Example:
      treadle diff run_01ks… run_01kt…
    """
    asked = {"run_id": other, "since": run_id} if other else {"run_id": run_id}
    found = session.call(CompareRuns(project=session.project(project), **asked))
    if session.as_json:
        show.as_json(found)
        return
    click.echo(found.text)
    rows = [(c.what, c.name, c.before, c.after) for c in (*found.inputs, *found.metrics)]
    if rows:
        click.echo()
        show.table(("WHAT", "NAME", found.before, found.after), rows)
