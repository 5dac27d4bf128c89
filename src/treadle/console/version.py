"""One model version: its numbers, gates and approvals, where it came from and who uses it, its card; and what is done with it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import RedirectResponse, Response, StreamingResponse

from treadle.console import files, lineage, words
from treadle.console.asked import Address, Fields
from treadle.console.desk import Desk, check_same_origin
from treadle.console.exports import safe_name
from treadle.console.notices import notice
from treadle.console.questions import question
from treadle.console.tables import Cell, Fact, Table, number, text, time
from treadle.operations.ledger import GetLineage, Lineage
from treadle.operations.registry import (
    AddComment,
    DecideApproval,
    DeleteVersion,
    GetCard,
    GetModelVersion,
    GetUses,
    ListApprovals,
    ListComments,
    ListModelVersions,
    ModelVersions,
    MoveVersion,
    RequestApproval,
    SetAlias,
    SetStage,
    SetVersionTags,
    UpdateCard,
    UpdateVersion,
    WithdrawApproval,
)
from treadle.packaging import bundle as bundles
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.models import CARD_SECTIONS, Approval, Bundle, BundleFile, Card, ModelVersion, Removal, Use
from treadle.records.states import VERSION_MOVES, VersionState

STAGES = ("None", "Staging", "Production", "Archived")
_FORMATS = {"md": "text/markdown", "html": "text/html", "json": "application/json"}


def page(desk: Desk) -> Response:
    """The whole page."""
    return _page(desk)


def _page(desk: Desk, error: TreadleError | None = None, kept: Fields | None = None) -> Response:
    here = Address.of(desk.request)
    model, wanted = desk.request.path_params["model"], desk.request.path_params["number"]
    found: ModelVersion = desk.call(GetModelVersion(project=desk.project, model=model, number=wanted))
    others: ModelVersions = desk.call(ListModelVersions(project=desk.project, model=model, limit=200))
    before = next((v for v in others.items if v.number < found.number), None)
    approvals: list[Approval] = desk.call(ListApprovals(project=desk.project, state=None, limit=200))
    subject = f"model/{model}/{found.number}"
    asked = [a for a in approvals if a.subject == subject]
    standing = found.state in (VersionState.approved, VersionState.released)
    let_in = sorted({a.environment for a in asked if a.state == "granted"}) if standing else []
    answered = {*let_in, *(a.environment for a in asked if a.state == "waiting")}
    uses: list[Use] = desk.call(GetUses(project=desk.project, model=model, number=found.number))
    removal: Removal | None = None
    if here.get("delete") == "1":
        removal = desk.call(DeleteVersion(project=desk.project, model=model, number=found.number, preview=True))
    listed, unlisted = _files(desk, found)
    environments = next((p.environments for p in desk.projects if p.name == desk.project), [])
    return desk.page(
        "version.html",
        status=400 if error else 200,
        error=error,
        kept=kept or Fields([]),
        here=here,
        found=found,
        home=desk.base + words.path("models", model),
        me=desk.base + words.path("models", model, found.number),
        sentence=_sentence(found, uses),
        notice=notice(here, desk.base),
        waiting=[question(desk, a) for a in asked if a.state == "waiting"],
        comments=desk.call(ListComments(project=desk.project, subject=subject)),
        places=[e for e in environments or [desk.environment] if e not in answered],
        let_in=let_in,
        tables=_tables(found, before, asked, uses),
        drawing=_drawing(desk, found, uses),
        card=desk.call(GetCard(project=desk.project, model=model, number=found.number)),
        written=CARD_SECTIONS,
        files=listed,
        unlisted=unlisted,
        source=_source(desk, found),
        others=[v.number for v in others.items if v.number != found.number],
        facts=_facts(desk, found),
        removal=removal,
        stages=STAGES,
        may=VERSION_MOVES[found.state],
        size=files.size,
    )


def _sentence(found: ModelVersion, uses: list[Use]) -> str:
    passed = sum(g.passed for g in found.gates)
    gates = f"{passed} of {len(found.gates)} gates passed" if found.gates else "no gate was declared for it"
    called = f" It is {' and '.join(found.aliases)}." if found.aliases else ""
    sealed = "" if found.sealed else " It is not sealed yet: it can be loaded and compared, and not released."
    serving = sorted({f"{u.name} in {u.environment}" for u in uses if u.kind == "snapshot"})
    served = f" It serves {' and '.join(serving)}." if serving else ""
    return f"Version {found.number} of {found.model} is {found.state}: {gates}.{called}{served}{sealed}"


def _tables(found: ModelVersion, before: ModelVersion | None, asked: list[Approval], uses: list[Use]) -> list[Table]:
    metrics = [
        [
            text(k.replace("_", " ")),
            number(words.metric(v), title=repr(v)),
            number(words.metric(before.metrics[k]) if before and k in before.metrics else "—"),
        ]
        for k, v in found.metrics.items()
    ]
    return [
        Table(
            id="gates",
            title="Gates",
            head=("gate", "answer", "in words and numbers"),
            rows=[
                [text(g.gate), Cell(text="passed" if g.passed else "failed", tone="healthy" if g.passed else "harm"), text(g.text)]
                for g in found.gates
            ],
            empty="No gate was declared. A gate says what a candidate must hold before anybody may approve it:",
            command="tr.candidate(…, gates=[tr.gates.no_worse('brier', by=0.002)])",
        ),
        Table(
            id="metrics",
            title="On held-out rows" if found.sealed else "Metrics of its run",
            note=f"beside version {before.number}{', each on its own test rows' if found.sealed else ''}" if before else "",
            head=("metric", f"#version {found.number}", f"#version {before.number}" if before else "#before"),
            rows=metrics,
            empty="No metric was recorded for it.",
        ),
        *_slices(found),
        Table(
            id="approvals",
            title="Approvals",
            head=("environment", "state", "question", "asked by", "decided by", "when", "comment"),
            rows=[_approval(a) for a in asked],
            empty="Nobody has been asked about this version.",
        ),
        Table(
            id="uses",
            title="Who uses it",
            head=("what", "environment", "name", "in words", "keeps it"),
            rows=[
                [text(u.kind), text(u.environment), text(u.name), text(u.text), Cell(text="yes", tone="waits") if u.keeps else text("no")]
                for u in uses
            ],
            empty="No endpoint, alias or release refers to it.",
        ),
    ]


def _slices(found: ModelVersion) -> list[Table]:
    """Metrics by slice where a gate recorded them in its facts: {slice: number} or {slice: {metric: number}}."""
    rows = []
    for gate in found.gates:
        for name, value in (gate.facts.get("slices") or {}).items() if isinstance(gate.facts.get("slices"), dict) else ():
            rows.append([text(gate.gate), text(name), number(words.fact(value))])
    return [Table(id="slices", title="By slice", head=("gate", "slice", "#value"), rows=rows)] if rows else []


def _approval(a: Approval) -> list[Cell]:
    state = Cell(text=str(a.state), tone=words.tone(a.state))
    when = time(a.decided_time or a.asked_time)
    return [text(a.environment), state, text(a.question), text(a.asked_by), text(a.decided_by), when, text(a.comment)]


def _facts(desk: Desk, found: ModelVersion) -> list[Fact]:
    run = desk.base + words.path("runs", found.run_id) if found.run_id else None
    logged = desk.base + words.path("logged-models", found.model_id) if found.model_id else None
    facts = [
        Fact(name="run", text=found.run_id or "—", href=run),
        Fact(name="logged model", text=found.model_id, href=logged) if found.model_id else None,
        Fact(name="bundle", text=found.bundle_digest or "not sealed"),
        Fact(name="files are at", text=found.source) if found.source else None,
        Fact(name="registered by", text=found.actor),
        Fact(name="business time", time=found.event_time),
        Fact(name="changed", time=found.updated) if found.updated else None,
        Fact(name="downloads", text=f"{found.downloads:,}"),
        Fact(name="stage (older clients)", text=found.stage),
        Fact(name="review due", time=found.review_due) if found.review_due else None,
        Fact(name="pinned", text="yes: no clean-up takes it") if found.pinned else None,
        *(Fact(name=f"tag {k}", text=v) for k, v in found.tags.items()),
        Fact(name="train it again and compare", text=f"treadle reproduce {found.model}@{found.number}") if found.sealed else None,
        Fact(name="load it", text=f'mlflow.pyfunc.load_model("models:/{found.model}/{found.number}")') if not found.sealed else None,
    ]
    return [f for f in facts if f is not None]


def _bundle(desk: Desk, found: ModelVersion) -> Bundle | None:
    """The manifest of its bundle; None where it has none.

    Raises:
        TreadleError: where it cannot be read: the bucket is away, or its bytes are gone or damaged.
    """
    return bundles.read(desk.workshop.blobs, found.bundle_digest) if found.bundle_digest else None


def _files(desk: Desk, found: ModelVersion) -> tuple[Sequence[BundleFile], TreadleError | None]:
    """The files of its bundle, or why they cannot be listed now."""
    try:
        bundle = _bundle(desk, found)
    except TreadleError as error:
        return (), error
    return bundle.files if bundle else (), None


def _source(desk: Desk, found: ModelVersion) -> str:
    """The page of the files that an unsealed version was made of."""
    if found.source.startswith("runs:/"):
        run, _, path = found.source.removeprefix("runs:/").partition("/")
        return desk.base + words.path("runs", run, "files") + (words.path(*path.split("/")) if path else "")
    if found.model_id:
        return desk.base + words.path("logged-models", found.model_id, "files")
    return desk.base + words.path("runs", found.run_id, "files") if found.run_id and found.source and not found.sealed else ""


def _drawing(desk: Desk, found: ModelVersion, uses: list[Use]) -> lineage.Drawing | None:
    node = digest_of(["model", found.project, found.model, found.number])
    graph: Lineage = desk.call(GetLineage(project=desk.project, digest=node, direction="up", depth=6))

    def link(digest: str, version: Any) -> str | None:
        if version is None:
            return desk.base + words.path("runs", digest) if lineage.is_run(graph, digest) else None
        if version.kind == "model" and version.number is not None:
            return desk.base + words.path("models", version.name, version.number)
        if version.kind == "run":
            return desk.base + words.path("runs", digest)
        return f"{desk.base}/data" if version.kind == "dataset" and version.number is not None else None

    return lineage.draw(graph, node, uses, link)


# ── what is done with it ─────────────────────────────────────────────────────────────────────────────────────────────


def change(desk: Desk, fields: Fields) -> Response:
    """Ask, answer, name, move, describe, write the card, comment, delete; an error says what and keeps what was typed."""
    check_same_origin(desk.request)
    model, wanted = desk.request.path_params["model"], desk.request.path_params["number"]
    what = fields.get("act")
    try:
        call, said = _call(desk, fields, model, wanted, what)
        desk.call(call, event_time=desk.replayed)
    except TreadleError as error:
        if error.code == "not_found":
            raise
        return _page(desk, error, fields)
    home = desk.base + words.path("models", model)
    if what == "delete":
        return RedirectResponse(f"{home}?said={said}", 303)
    return RedirectResponse(f"{home}/{wanted}?said={said}", 303)


def _call(desk: Desk, fields: Fields, model: str, wanted: int, what: str) -> tuple[Any, str]:  # noqa: PLR0911  (one per button)
    at: dict[str, Any] = {"project": desk.project, "model": model, "number": wanted}
    subject = f"model/{model}/{wanted}"
    match what:
        case "ask":
            environment = fields.get("environment")
            question = fields.get("question") or f"May {model}@{wanted} serve in {environment}?"
            asked = RequestApproval(
                project=desk.project, approval_id=new_id("apr"), environment=environment, subject=subject, question=question
            )
            return asked, "asked"
        case "grant" | "refuse":
            answer = DecideApproval(
                project=desk.project,
                approval_id=fields.get("approval"),
                grant=what == "grant",
                comment=fields.get("comment")[:500],
                environment=fields.get("environment"),
            )
            return answer, "granted" if what == "grant" else "refused"
        case "withdraw":
            reason = fields.get("comment")[:500]
            return WithdrawApproval(project=desk.project, approval_id=fields.get("approval"), reason=reason), "withdrawn"
        case "alias":
            return SetAlias(alias=fields.get("alias"), **at), "alias"
        case "reject" | "archive":
            return MoveVersion(state=f"{what}{'d' if what == 'archive' else 'ed'}", reason=fields.get("reason"), **at), "state"
        case "unarchive":
            return MoveVersion(state="validated", reason=fields.get("reason"), **at), "state"
        case "stage":
            return SetStage(stage=fields.get("stage"), archive_others=fields.get("others") == "yes", **at), "state"
        case "describe":
            return UpdateVersion(description=fields.text("description"), pinned=fields.get("pinned") == "yes", **at), "saved"
        case "tag":
            tag, value = fields.get("tag"), fields.get("value")
            return SetVersionTags(tags={tag: value} if value else {}, remove=[] if value else [tag], **at), "saved"
        case "card":
            sections = {k: fields.text(k) for k in CARD_SECTIONS if any(name == k for name, _ in fields.pairs)}
            everywhere = fields.get("everywhere") == "yes"
            return UpdateCard(project=desk.project, model=model, sections=sections, number=0 if everywhere else wanted), "card"
        case "comment":
            return AddComment(project=desk.project, comment_id=new_id("com"), subject=subject, text=fields.text("text")), "saved"
        case "delete":
            return DeleteVersion(**at), "version_deleted"
        case _:
            raise TreadleError("The form does not say what to do with the version.", remedy="Use one of its buttons.")


# ── the card and the files, taken away ───────────────────────────────────────────────────────────────────────────────


def card(desk: Desk) -> Response:
    """The card as Markdown, HTML or JSON, as a download."""
    params = desk.request.path_params
    if params["format"] not in _FORMATS:
        raise TreadleError(f"{params['format']!r} is no format of a card.", remedy="Use md, html or json.", code="not_found")
    found: Card = desk.call(GetCard(project=desk.project, model=params["model"], number=params["number"], format=params["format"]))
    body = msgspec.json.format(msgspec.json.encode(found), indent=2) if params["format"] == "json" else found.text.encode()
    name = safe_name(f"{found.model}-{found.number}-card.{params['format']}")
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return Response(body, media_type=_FORMATS[params["format"]], headers=headers)


def bundle_file(desk: Desk) -> Response:
    """A file of its bundle, as a download."""
    params = desk.request.path_params
    found: ModelVersion = desk.call(GetModelVersion(project=desk.project, model=params["model"], number=params["number"]))
    bundle = _bundle(desk, found)
    file: BundleFile | None = next((f for f in bundle.files if f.path == params["path"]), None) if bundle else None
    if file is None:
        raise TreadleError(f"The bundle has no file {params['path']!r}.", remedy="See the version's page for its files.", code="not_found")
    headers = {"content-disposition": f'attachment; filename="{safe_name(file.path)}"', "content-length": str(file.size)}
    return StreamingResponse(
        files.chunks(desk.workshop.blobs.open_read(file.digest)), media_type="application/octet-stream", headers=headers
    )
