"""Registered models: the list, one model with its versions, two versions side by side; and what is done with a model."""

from typing import Any

from starlette.responses import RedirectResponse, Response

from treadle.console import listing as listings
from treadle.console import words
from treadle.console.asked import Address, Fields
from treadle.console.desk import Desk, check_same_origin
from treadle.console.notices import notice
from treadle.operations.registry import (
    CompareVersions,
    CreateModel,
    DeleteAlias,
    DeleteModel,
    GetModel,
    GetUses,
    ListModelVersions,
    ModelVersions,
    RegisteredModels,
    RenameModel,
    SearchModels,
    UpdateModel,
)
from treadle.records.errors import TreadleError
from treadle.records.models import Comparison, ModelVersion, RegisteredModel, Removal, Use

_PAGE = 50
#: Models that hold prompts are none that anybody serves.
_PROMPT = "mlflow.prompt.is_prompt"
_COMMAND = """import mlflow
mlflow.set_tracking_uri("{url}")
mlflow.register_model("runs:/RUN/model", "my-model")

treadle run PIPELINE        # a pipeline that ends in tr.candidate(…) registers a sealed one"""
SECTIONS = {
    "facts": "About",
    "metrics": "Metrics",
    "params": "Parameters",
    "schema": "Inputs and output",
    "data": "Data",
    "code": "Code",
    "environment": "Environment",
    "tags": "Tags",
}


def page(desk: Desk) -> Response:
    """The list."""
    return _page(desk)


def _page(desk: Desk, error: TreadleError | None = None, kept: Fields | None = None) -> Response:
    here = Address.of(desk.request)
    q = here.get("name").strip()[:200]
    text = listings.literal(f"%{q}%") if q else None
    found: RegisteredModels = desk.call(
        SearchModels(
            project=desk.project,
            filter=f"name ILIKE {text}" if text else "",
            order_by=["last_updated_timestamp DESC"],
            limit=_PAGE,
            page=here.get("page") or None,
            without_tag=_PROMPT,
        )
    )
    n = len(found.items)
    named = f" called something like “{q}”" if q else ""
    more = "; more follow" if found.page.next else ""
    sentence = f"{n:,} model{'s' if n != 1 else ''}{named}, last changed first{more}." if n else f"No model is registered{named}."
    return desk.page(
        "models.html",
        status=400 if error else 200,
        here=here,
        sentence=sentence,
        models=[(m, _newest(m)) for m in found.items],
        name=q,
        older=here.to(page=found.page.next) if found.page.next else "",
        newest=here.to(page=None) if here.get("page") else "",
        notice=notice(here, desk.base),
        error=error,
        kept=kept or Fields([]),
        command=_COMMAND.format(url=str(desk.request.base_url).rstrip("/")),
    )


def _newest(model: RegisteredModel) -> ModelVersion | None:
    return max(model.latest, key=lambda v: v.number, default=None)


def create(desk: Desk, fields: Fields) -> Response:
    """Make a model that has no version yet."""
    check_same_origin(desk.request)
    name = fields.get("name")
    try:
        desk.call(CreateModel(project=desk.project, model=name, description=fields.text("description")))
    except TreadleError as error:
        return _page(desk, error, fields)
    return RedirectResponse(f"{desk.base}{words.path('models', name)}?said=saved", 303)


# ── one model ────────────────────────────────────────────────────────────────────────────────────────────────────────


def model(desk: Desk) -> Response:
    """A model: what people say of it, its aliases, its versions."""
    here, name = Address.of(desk.request), desk.request.path_params["model"]
    found: RegisteredModel = desk.call(GetModel(project=desk.project, model=name))
    after = here.get("page") or None
    versions: ModelVersions = desk.call(ListModelVersions(project=desk.project, model=name, limit=_PAGE, page=after))
    metrics = sorted({k for v in versions.items for k in v.metrics})[:6]
    aliases = sorted(found.aliases.items())
    called = ", ".join(f"{alias} is {number}" for alias, number in aliases[:6])
    count = f"{found.versions:,} version{'s' if found.versions != 1 else ''}"
    said = f"{count}, the newest {found.newest}" if found.versions else "No version yet"
    removal: Removal | None = None
    if here.get("delete") == "1":
        removal = desk.call(DeleteModel(project=desk.project, model=name, preview=True))
    return desk.page(
        "model.html",
        here=here,
        found=found,
        home=desk.base + words.path("models", name),
        sentence=f"{said}{f'; {called}' if called else ''}.",
        versions=versions.items,
        metrics=metrics,
        older=here.to(page=versions.page.next) if versions.page.next else "",
        newest=here.to(page=None) if after else "",
        notice=notice(here, desk.base),
        removal=removal,
        aliases=[(alias, number, _followed(desk, name, alias)) for alias, number in aliases],
    )


def change(desk: Desk, fields: Fields) -> Response:
    """Describe, tag, rename or delete a model, or take an alias away."""
    check_same_origin(desk.request)
    name, what = desk.request.path_params["model"], fields.get("act")
    home = desk.base + words.path("models", name)
    call: Any
    said = "saved"
    if what == "describe":
        call = UpdateModel(project=desk.project, model=name, description=fields.text("description"))
    elif what == "tag":
        tag, value = fields.get("tag"), fields.get("value")
        call = UpdateModel(project=desk.project, model=name, tags={tag: value} if value else {}, remove_tags=[] if value else [tag])
    elif what == "rename":
        call = RenameModel(project=desk.project, model=name, name=fields.get("name"))
        home = desk.base + words.path("models", fields.get("name"))
    elif what == "unalias":
        call, said = DeleteAlias(project=desk.project, model=name, alias=fields.get("alias")), "alias_gone"
    elif what == "delete":
        call, said, home = DeleteModel(project=desk.project, model=name), "model_deleted", f"{desk.base}/models"
    else:
        raise TreadleError("The form does not say what to do with the model.", remedy="Use one of its buttons.")
    desk.call(call)
    return RedirectResponse(f"{home}?said={said}", 303)


# ── two versions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _followed(desk: Desk, model: str, alias: str) -> bool:
    """Whether releases move an alias, so that nobody may take it away by hand."""
    called, _, environment = alias.partition(".")
    if called not in ("champion", "challenger"):
        return False
    uses: list[Use] = desk.call(GetUses(project=desk.project, model=model, number=0))
    return bool(environment) or any(u.kind in ("endpoint", "release", "snapshot") for u in uses)


def compare(desk: Desk) -> Response:
    """Two versions side by side, or only what differs."""
    here, name = Address.of(desk.request), desk.request.path_params["model"]
    left, right = (int(t) if t.isdigit() and len(t) < 10 else 0 for t in (here.get("left"), here.get("right")))
    if not left or not right:
        raise TreadleError("Which two versions?", remedy=f"Pick two on the model's page: {desk.base}{words.path('models', name)}")
    only = here.get("only") == "1"
    found: Comparison = desk.call(CompareVersions(project=desk.project, model=name, left=left, right=right, other=here.get("other")))
    sections = []
    for section in dict.fromkeys(i.section for i in found.items):
        rows = [i for i in found.items if i.section == section]
        kept = [i for i in rows if not only or not i.same]
        sections.append((SECTIONS.get(section, section), [_row(desk, section, i) for i in kept], len(rows) - len(kept)))
    differ = sum(not i.same for i in found.items)
    n = f"{differ:,} fact{'s' if differ != 1 else ''}"
    agree = "agree in what could be compared" if found.unread else "agree in everything that was recorded"
    return desk.page(
        "versions.html",
        name=name,
        home=desk.base + words.path("models", name),
        sentence=f"Version {right} beside version {left}: they {f'differ in {n}' if differ else agree}.",
        left=found.left,
        right=found.right,
        sections=sections,
        unread=found.unread,
        only=only,
        toggle=here.to(only=None if only else "1"),
        swap=here.to(left=str(right), right=str(left)),
    )


def _row(desk: Desk, section: str, item: Any) -> dict[str, Any]:
    def said(value: Any) -> str:
        if section == "facts":
            return words.fact(value)
        return "—" if value is None else listings.told(value) if isinstance(value, float) else str(value)

    change = ""
    if item.change:
        change = ("+" if item.change > 0 else "−") + listings.told(abs(item.change))
    runs = section == "facts" and item.name == "run"
    links = [desk.base + words.path("runs", v) if runs and v else "" for v in (item.left, item.right)]
    sides = list(zip((said(item.left), said(item.right)), links, strict=True))
    return {"name": item.name, "sides": sides, "same": item.same, "change": change}
