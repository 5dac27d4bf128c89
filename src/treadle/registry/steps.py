"""From a fitted model to a registered version: pin the champion, evaluate beside it, judge the gates, seal, register, ask for approval.

Reading which version is champion and writing a version are not functions of their inputs, so both are journaled steps without a cache: a
run that resumes sees the same champion, and a registration that was interrupted is repeated without doubling anything. Where a project
declares a policy for an environment, the policy grants the approval at once, under its own name and recorded as such.
"""

import datetime as dt
import io
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from treadle.evaluation import profiles
from treadle.evaluation.gates import judge
from treadle.online.encoding import encode_frame
from treadle.operations.ledger import LogMetrics
from treadle.operations.registry import DecideApproval, RegisterVersion, RequestApproval
from treadle.packaging import bundle
from treadle.packaging.scoring import score_fitted
from treadle.packaging.steps import measure
from treadle.pipelines import environment, step, value
from treadle.pipelines.context import RunContext, current, peek
from treadle.records.calls import Actor, Role
from treadle.records.definitions import Gate, Project
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ledger import Metric
from treadle.records.models import Approval, Fitted, GateResult, ModelVersion, Report
from treadle.training.steps import refit as train_again

#: The column of the reference profile that holds the model's own scores.
SCORE = "_score"
_LARGE = 200_000


def evaluate(
    fitted: Any,
    test: Any,
    *,
    metrics: Sequence[Any] = ("roc_auc", "brier"),
    slices: Sequence[str] = (),
    champion: bool | str = True,
    baseline: Any = None,
    time: str | None = None,
) -> Report:
    """Measure a candidate on held-out rows, beside the champion and a baseline.

    Args:
        fitted: the candidate, or its handle.
        test: the rows, or their handle.
        metrics: names of `evaluation.metrics`, or functions of your own marked by `@metric`.
        slices: columns whose values are measured each.
        champion: True: that of the model which the project's endpoints serve; or a model's name; False: compare with none.
        baseline: another fitted model, for `beats_baseline`.
        time: the rows' time column.

    Raises:
        TreadleError: `bad_definition` where the project serves several models and `champion` does not say which.
    """
    model = _champion_of(champion)
    pinned = value(pin_champion(model)) if model else None
    measured = measure(
        fitted,
        test,
        list(metrics),
        list(slices),
        pinned["bundle"] if pinned else None,
        pinned["version"] if pinned else None,
        baseline,
        time,
    )
    record(measured)
    return measured


def candidate(
    model: str,
    fitted: Any,
    report: Any,
    gates: Sequence[Gate] = (),
    *,
    rows: Any = None,
    refit: Any = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
    card: Mapping[str, Any] | None = None,
) -> ModelVersion:
    """Judge a candidate, seal it and register it; where it passed, ask for approval in every environment that serves the model.

    Args:
        model: the model's name.
        fitted: what the fit step returned, or its handle.
        report: what `evaluate` returned, or its handle.
        gates: what must hold, `treadle.gates`.
        rows: training rows for the reference profile; the sample that the fitted model carries where None.
        refit: all rows, the held-out ones among them, or their handle. Where every gate passed the model is fitted on them anew, with
            the same settings, and that one is registered: it has learned from the newest rows too. The report stays that of the model
            that was judged, which travels in the bundle: a later candidate whose test rows the refit has seen is compared with it.
        description: of the version.
        tags: of the version.
        card: for the model card: intended use, owners, limits.
    """
    judged = None
    if refit is not None and all(result.passed for result in judge(gates, value(report))):
        judged, fitted, rows = fitted, train_again(fitted, refit), refit
    return register(model, fitted, report, list(gates), rows, description, dict(tags or {}), dict(card or {}), judged)


@step(cache=False, name="pin_champion")
def pin_champion(model: str) -> dict[str, Any]:
    """{bundle, version} of a model's champion as the run found it; None in both where there is none."""
    here = current()
    found = here.resource("registry").champion(here.project, model, here.environment)
    return {"bundle": found.bundle_digest if found else None, "version": found.number if found else None}


@step(cache=False, name="record_metrics")
def record(report: Report) -> int:
    """Log a report's metrics on the run; returns how many. Without a dispatcher (a notebook) none."""
    here = current() if peek() else None
    dispatch = here.resources.get("dispatch") if here else None
    if here is None or dispatch is None:
        return 0
    named = {**report.metrics}
    named |= {f"champion.{name}": number for name, number in (report.champion or {}).items()}
    named |= {f"baseline.{name}": number for name, number in (report.baseline or {}).items()}
    points = [Metric(key=name, value=number, time=here.event_time) for name, number in named.items()]
    dispatch(LogMetrics(project=here.project, run_id=here.run_id, metrics=points), actor=here.actor, event_time=here.clock.now())
    return len(points)


@step(cache=False, name="register")
def register(
    model: str,
    fitted: Fitted,
    report: Report,
    gates: list[Gate],
    rows: pl.DataFrame | None,
    description: str,
    tags: dict[str, str],
    card: dict[str, Any],
    judged: Fitted | None = None,
) -> ModelVersion:
    """The work of `candidate`; repeating it after an interruption gives the same version."""
    here = current()
    results = judge(gates, report)
    sealed = seal(here, model, fitted, report, results, rows=rows, card=card, judged=judged)
    version = here.resource("dispatch")(
        RegisterVersion(
            project=here.project,
            model=model,
            bundle_digest=sealed,
            run_id=here.run_id,
            metrics=report.metrics,
            gates=results,
            description=description,
            tags=tags,
        ),
        actor=here.actor,
        event_time=here.clock.now(),
    )
    for result in results:
        here.log(f"{'passed' if result.passed else 'FAILED'} {result.gate}: {result.text}")
    here.log(f"registered {model}@{version.number} as {version.state}")
    if all(result.passed for result in results):
        for asked in ask(here, version):
            here.log(f"approval in {asked.environment}: {asked.state}{f' by {asked.decided_by}' if asked.decided_by else ''}")
    return version


def seal(
    here: RunContext,
    model: str,
    fitted: Fitted,
    report: Report,
    results: Sequence[GateResult],
    *,
    rows: pl.DataFrame | None = None,
    card: Mapping[str, Any] | None = None,
    judged: Fitted | None = None,
) -> str:
    """Seal a fitted model in the running context; returns the bundle's digest, the same for the same run and inputs.

    `judged`: what the report is about, where the fitted model is its refit.
    """
    sample = pl.read_ipc(io.BytesIO(fitted.sample)) if fitted.sample else rows
    if sample is None:
        raise TreadleError(
            "The fitted model carries no sample of its training rows, and none were given.",
            remedy="Give them: candidate(..., rows=train), or fit with treadle.fit_lightgbm or training.fit.take_over.",
        )
    names = [column.name for column in fitted.signature.inputs]
    profiled = sample if rows is None else rows
    if len(profiled) > _LARGE:
        profiled = profiled.gather_every(len(profiled) // _LARGE + 1)
    scores = pl.Series(SCORE, score_fitted(fitted, profiled))
    reference = profiles.profile(profiled.select(names).with_columns(scores), reference=True)
    registry, project = here.resource("registry"), here.resources.get("project")
    sealed, _ = bundle.seal(
        here.resource("blobs"),
        fitted,
        project=here.project,
        model=model,
        run_id=here.run_id,
        views=fitted.views,
        trained_on=registry.datasets_of_run(here.project, here.run_id),
        code_digest=project.code if isinstance(project, Project) else "",
        event_time=here.event_time,
        environment=environment.lock(),
        judged=judged,
        card={
            **(card or {}),
            **({"judged": {"rows": judged.rows, "until": _iso(judged.event_time)}} if judged else {}),
            "label": fitted.label,
            "params": fitted.params,
            "rows": fitted.rows,
            "trained_until": _iso(fitted.event_time),
            "test": {
                "rows": report.rows,
                "digest": report.test_digest,
                "from": _iso(report.test_from),
                "until": _iso(report.test_until),
                "metrics": report.metrics,
                "champion": {"version": report.champion_version, "metrics": report.champion} if report.champion else None,
                "slices": [{"column": s.column, "value": s.value, "rows": s.rows, "metrics": s.metrics} for s in report.slices],
            },
            "gates": [{"gate": r.gate, "passed": r.passed, "text": r.text} for r in results],
        },
        reference_profile=profiles.to_bytes(reference),
        proof=encode_frame(fitted.signature, sample),
    )
    return sealed


def ask(here: RunContext, version: ModelVersion) -> list[Approval]:
    """Ask for approval in every environment that serves the model; grant at once where a policy is declared.

    The id of a question is made from what it asks, so that asking again changes nothing.
    """
    dispatch = here.resource("dispatch")
    answers: list[Approval] = []
    for name, applied in here.resource("registry").applied(here.project).items():
        declared = next((e for e in applied.environments if e.name == name), None)
        if not any(endpoint.model == version.model for endpoint in applied.endpoints):
            continue
        approval = dispatch(
            RequestApproval(
                project=here.project,
                approval_id=f"apr_{digest_of([here.project, version.model, version.number, name])[:26]}",
                environment=name,
                subject=f"model/{version.model}/{version.number}",
                question=f"May {version.model}@{version.number} serve in {name}?",
            ),
            actor=here.actor,
            event_time=here.clock.now(),
        )
        if declared is not None and declared.auto_approve and approval.state == "waiting":
            policy = Actor(actor_id=f"policy:{declared.auto_approve}", name=declared.auto_approve, kind="policy", role=Role.approver)
            try:
                approval = dispatch(
                    DecideApproval(
                        project=here.project,
                        approval_id=approval.approval_id,
                        grant=True,
                        comment=f"All {len(version.gates)} gates passed; granted by the declared policy {declared.auto_approve}.",
                    ),
                    actor=policy,
                    event_time=here.clock.now(),
                )
            except TreadleError as error:
                if not {"missing_documents", "restricted"} & set(error.details):
                    raise
                here.log(f"{error.what} {error.remedy}")  # the question waits until that is mended
        answers.append(approval)
    return answers


def _iso(moment: dt.datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _champion_of(champion: bool | str) -> str | None:
    """The model whose champion a candidate is compared with, None for none."""
    if not isinstance(champion, bool):
        return champion
    running = peek()
    project = running.resources.get("project") if running else None
    models = sorted({endpoint.model for endpoint in project.endpoints}) if champion and isinstance(project, Project) else []
    if len(models) > 1:
        raise TreadleError(
            f"The project serves several models ({', '.join(models)}); which one's champion is meant?",
            remedy=f"evaluate(..., champion={models[0]!r})",
            code="bad_definition",
        )
    return models[0] if models and running is not None and "registry" in running.resources else None
