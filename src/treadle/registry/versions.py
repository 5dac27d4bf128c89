"""The verbs of versions that are not sealed yet, and of what people do with any version: describe, tag, pin, stage, seal, compare, delete.

A version without a bundle is a `candidate`. It has files (of a run, of a logged model, uploaded), so it can be loaded; sealing gives it the
content-addressed bundle that approvals and releases are about.
"""

import math
from typing import Any

from treadle.ledger import lineage
from treadle.ledger.dispatch import Unchanged
from treadle.operations.registry import (
    CompareVersions,
    CreateVersion,
    DeleteVersion,
    DownloadVersion,
    ModelVersions,
    SealVersion,
    SearchVersions,
    SetStage,
    SetVersionTags,
    UpdateVersion,
)
from treadle.operations.table import implements
from treadle.packaging import bundle as bundles
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import Clock
from treadle.records.errors import TreadleError
from treadle.records.ledger import Edge, Page, Version
from treadle.records.models import Comparison, Download, ModelVersion, Removal
from treadle.records.states import VERSION_MOVES, VersionState, move
from treadle.registry import meaning, search, sources
from treadle.registry.compare import compare
from treadle.registry.evidence import gather
from treadle.registry.models import TEXT, check_version_tags
from treadle.registry.moves import check_model_name, draw, model_node, version_of, withdraw
from treadle.registry.places import address_of
from treadle.registry.uses import check_unused, keeping
from treadle.store.db import Connection
from treadle.store.queries import models as queries
from treadle.store.queries import registry
from treadle.tracking.limits import ID, TITLE, check_text, moment_of

STAGES = ("None", "Staging", "Production", "Archived")
#: The stages in which one version is meant to stand at a time.
ACTIVE_STAGES = ("Staging", "Production")
_MOST = 1000


class VersionVerbs:
    """Versions, sealed or not. A part of `Registry`."""

    _blobs: BlobStore
    _clock: Clock

    @implements(CreateVersion)
    def create_version(self, tx: Connection, request: CreateVersion, call: Call) -> ModelVersion | Unchanged:
        """Register what is not sealed.

        Raises:
            TreadleError: `not_found` for a model or logged model that is not there, `bad_request` for a source elsewhere, `conflict` for
                a number that another version has or had.
        """
        check_model_name(request.model)
        check_version_tags(request.tags)
        check_text(request.description, "description", TEXT)
        check_text(request.run_link, "run link", TITLE)
        check_text(request.run_id, "run", ID)
        check_text(request.model_id, "logged model", ID)
        if queries.find_model(tx, request.project, request.model) is None and not request.create:
            raise TreadleError(
                f"There is no model {request.model} in {request.project}.",
                remedy="Make it first (CreateModel), or with the version: create=True.",
                code="not_found",
                details={"missing": "registered_model", "id": request.model},
            )
        made_of = _made_of(tx, request)
        metrics = request.metrics or _metrics(tx, request.project, made_of)
        now = self._clock.now()
        number = registry.last_number(tx, request.project, request.model) + 1
        if request.number and request.number < number:
            return _there(registry.find_version(tx, request.project, request.model, request.number), request, made_of)
        number = request.number or number
        registry.insert_version(
            tx,
            {
                "project": request.project,
                "model": request.model,
                "number": number,
                "state": str(VersionState.candidate),
                "bundle_digest": None,
                "run_id": made_of["run_id"],
                "model_id": made_of["model_id"],
                "source": made_of["source"],
                "run_link": request.run_link,
                "metrics": {k: v for k, v in metrics.items() if math.isfinite(v)},
                "gates": (),
                "description": request.description,
                "tags": request.tags,
                "actor": call.actor.actor_id,
                "event_time": moment_of(request.created, call.event_time),
                "recorded_time": moment_of(request.created, now),
                "updated": now,
            },
        )
        version = version_of(tx, request.project, request.model, number)
        _draw_unsealed(tx, version)
        return version

    @implements(SearchVersions)
    def search_versions(self, tx: Connection, request: SearchVersions, call: Call) -> ModelVersions:
        """Versions of all models that a filter finds."""
        order = search.version_order(request.order_by)
        after = search.place_of(request.page, order)
        found, more = queries.search_versions(
            tx,
            request.project,
            search.version_clauses(request.filter),
            order,
            after=after,
            limit=min(max(request.limit, 1), 200_000),
            without_tag=request.without_tag,
        )
        return ModelVersions(items=found, page=Page(next=search.token_of(more)))

    @implements(UpdateVersion)
    def update_version(self, tx: Connection, request: UpdateVersion, call: Call) -> ModelVersion | Unchanged:
        """Describe a version, pin it, say when it must be reviewed."""
        known = version_of(tx, request.project, request.model, request.number)
        check_text(request.description or "", "description", TEXT)
        given = {"description": request.description, "pinned": request.pinned, "review_due": request.review_due}
        values = {k: v for k, v in given.items() if v is not None and v != getattr(known, k)}
        return self._changed(tx, known, values) if values else Unchanged(known)

    @implements(SetVersionTags)
    def set_version_tags(self, tx: Connection, request: SetVersionTags, call: Call) -> ModelVersion | Unchanged:
        """Set and remove tags."""
        known = version_of(tx, request.project, request.model, request.number)
        check_version_tags(request.tags)
        tags = {k: v for k, v in {**known.tags, **request.tags}.items() if k not in request.remove}
        if tags == known.tags:
            return Unchanged(known)
        registry.put_version_tags(tx, request.project, request.model, known.number, tags)
        registry.update_version(tx, known.project, known.model, known.number, {"tags": tags})  # no change of what it is, nor of the order
        return version_of(tx, known.project, known.model, known.number)

    @implements(DeleteVersion)
    def delete_version(self, tx: Connection, request: DeleteVersion, call: Call) -> Removal | Unchanged:
        """Delete a version and its free aliases.

        Raises:
            TreadleError: `conflict` while something refers to it, saying what.
        """
        known = version_of(tx, request.project, request.model, request.number)
        kept = keeping(tx, request.project, request.model, known.number)
        removal = Removal(preview=request.preview, versions=[known.number], aliases=list(known.aliases), kept=kept)
        if request.preview:
            return Unchanged(removal)
        check_unused(tx, request.project, request.model, known.number, "deleted")
        gone = f"{known.model}@{known.number} was deleted"
        withdraw(tx, call, project=known.project, model=known.model, number=known.number, reason=gone)
        queries.delete_version(tx, request.project, request.model, known.number)
        registry.touch_model(tx, request.project, request.model, self._clock.now())
        return removal

    @implements(SealVersion)
    def seal_version(self, tx: Connection, request: SealVersion, call: Call) -> ModelVersion | Unchanged:
        """Give an unsealed version its bundle.

        Raises:
            TreadleError: `conflict` where it has another, or another version has this one; `bad_request` where it is another model's.
        """
        known = version_of(tx, request.project, request.model, request.number)
        if known.bundle_digest == request.bundle_digest:
            return Unchanged(known)
        if known.sealed:
            raise TreadleError(
                f"{known.model}@{known.number} is sealed already, with another bundle.",
                remedy="A sealed version does not change; register a new one.",
                code="conflict",
            )
        sealed = bundles.read(self._blobs, request.bundle_digest)
        if (sealed.project, sealed.model) != (request.project, request.model):
            raise TreadleError(
                f"The bundle was sealed as {sealed.project}/{sealed.model}, not as {request.project}/{request.model}.",
                remedy="Seal it under the name of the version: treadle models seal " + f"{request.model}@{known.number}",
            )
        other = registry.find_registered(tx, request.project, request.model, request.bundle_digest, known.run_id)
        if other is not None:
            raise TreadleError(
                f"This bundle is registered as {other.model}@{other.number}.",
                remedy=f"Use that version: treadle models show {other.model}@{other.number}",
                code="conflict",
            )
        state = VersionState.validated if all(gate.passed for gate in request.gates) else VersionState.rejected
        move(VERSION_MOVES, known.state, state, what=f"{known.model}@{known.number}")
        values: dict[str, Any] = {"bundle_digest": request.bundle_digest, "state": str(state), "gates": request.gates}
        version = self._changed(tx, known, values)
        views, labels = meaning.said(tx, version, sealed)
        draw(tx, version, sealed, views=views, labels=labels)
        return version

    @implements(SetStage)
    def set_stage(self, tx: Connection, request: SetStage, call: Call) -> ModelVersion | Unchanged:
        """Put a version into a stage of the older vocabulary."""
        stage = next((s for s in STAGES if s.lower() == request.stage.lower()), None)
        if stage is None:
            raise TreadleError(
                f"Invalid Model Version stage: {request.stage[:80]}. Value must be one of {', '.join(STAGES)}.",
                remedy="Use one of these; states are moved by approvals and releases.",
                details={"field": "stage"},
            )
        if request.archive_others and stage not in ACTIVE_STAGES:
            raise TreadleError(
                f"Model version transition cannot archive existing model versions because '{stage}' is not an Active stage. "
                f"Valid stages are {list(ACTIVE_STAGES)}",
                remedy="Leave archive_existing_versions out.",
                details={"field": "stage"},
            )
        known = version_of(tx, request.project, request.model, request.number)
        now = self._clock.now()
        if request.archive_others:
            queries.set_stages(tx, request.project, request.model, of=stage, to="Archived", but=known.number, now=now)
        registry.touch_model(tx, request.project, request.model, now)
        return self._changed(tx, known, {"stage": stage})

    @implements(DownloadVersion)
    def download(self, tx: Connection, request: DownloadVersion, call: Call) -> Download:
        """Where a version's files are; counted."""
        version = version_of(tx, request.project, request.model, request.number)
        uri = address_of(tx, self._blobs, version, now=self._clock.now())
        queries.count_download(tx, request.project, request.model, version.number)
        return Download(uri=uri, downloads=version.downloads + 1)

    @implements(CompareVersions)
    def compare(self, tx: Connection, request: CompareVersions, call: Call) -> Comparison:
        """Two versions side by side. What stands in files is left out where one side's cannot be read."""
        left = version_of(tx, request.project, request.model, request.left)
        right = version_of(tx, request.project, request.other or request.model, request.right)
        sides = [gather(tx, self._blobs, version) for version in (left, right)]
        unread = [f"{side.version.model}@{side.version.number}: {side.unread}" for side in sides if side.unread]
        one, two = (side.sections(files=not unread) for side in sides)
        items = [i for i in compare(one, two) if not (request.differences and i.same)]
        return Comparison(left=left, right=right, items=items, unread=unread)

    def _changed(self, tx: Connection, known: ModelVersion, values: dict[str, Any]) -> ModelVersion:
        registry.update_version(tx, known.project, known.model, known.number, {**values, "updated": self._clock.now()})
        return version_of(tx, known.project, known.model, known.number)


def _made_of(tx: Connection, request: CreateVersion) -> dict[str, str]:
    """Run, logged model and source of a version to be: as given, and as its source says."""
    source, run_id, model_id = request.source, request.run_id, request.model_id
    if source and request.tags.get("mlflow.prompt.is_prompt", "").lower() != "true":
        read = sources.read(source)
        if read.kind == "version":
            copied = version_of(tx, request.project, read.owner, read.number)
            run_id, model_id = run_id or copied.run_id, model_id or copied.model_id
        elif read.kind == "model":
            if model_id and model_id != read.owner:
                raise _contradiction(source, "model_id")
            model_id = read.owner
        elif read.kind == "run":
            named = [r for r in (run_id, read.owner) if r]
            if run_id and run_id != read.owner and any(queries.has_run(tx, request.project, r) for r in named):
                raise _contradiction(source, "run_id")
            run_id = run_id or read.owner
    if model_id:
        logged = queries.logged_model_facts(tx, request.project, model_id)
        if logged is None:
            raise TreadleError(
                f"There is no logged model {model_id}.",
                remedy="Log it first; see what a run logged: treadle runs",
                code="not_found",
                details={"missing": "logged_model", "id": model_id},
            )
        run_id = run_id or str(logged["model"]["run_id"])
    if not source and not model_id and not run_id:
        raise TreadleError(
            f"Nothing says where the files of {request.model} are.",
            remedy="Give run_id, model_id or source (runs:/RUN_ID/model).",
            details={"field": "source"},
        )
    return {"run_id": run_id, "model_id": model_id, "source": source or (f"models:/{model_id}" if model_id else f"runs:/{run_id}/model")}


def _contradiction(source: str, name: str) -> TreadleError:
    return TreadleError(
        f"Invalid model version source: '{source}'. The {name} request parameter must identify the resource that contains the source.",
        remedy=f"Give the {name} that the source names.",
        details={"field": "source"},
    )


def _metrics(tx: Connection, project: str, made_of: dict[str, str]) -> dict[str, float]:
    """What was measured of the logged model, else of the run."""
    logged = queries.logged_model_facts(tx, project, made_of["model_id"]) if made_of["model_id"] else None
    if logged and logged["metrics"]:
        return logged["metrics"]
    run = queries.run_facts(tx, project, made_of["run_id"]) if made_of["run_id"] else None
    return run["metrics"] if run else {}


def _there(known: ModelVersion | None, request: CreateVersion, made_of: dict[str, str]) -> Unchanged:
    """The version that has the number already, if it is the one that is asked for."""
    if known is None or (known.run_id, known.model_id, known.source) != (made_of["run_id"], made_of["model_id"], made_of["source"]):
        raise TreadleError(
            f"{request.model}@{request.number} is or was another version.",
            remedy="Leave the number out, and it becomes the next one.",
            code="conflict",
        )
    return Unchanged(known)


def _draw_unsealed(tx: Connection, version: ModelVersion) -> None:
    """The version in the lineage graph: made by a run, of a logged model, or a copy of a version."""
    node = model_node(version.project, version.model, version.number)
    facts = {"source": version.source}
    known = Version(project=version.project, digest=node, kind="model", name=version.model, number=version.number, facts=facts)
    lineage.add_version(tx, known, event_time=version.event_time)
    edges = [(version.run_id, "logged_by"), (version.model_id, "made_of")]
    if version.source.startswith("models:/") and not version.source.startswith("models:/m-"):
        read = sources.read(version.source)
        edges.append((model_node(version.project, read.owner, read.number), "copy_of"))
    lineage.add_edges(
        tx,
        [Edge(project=version.project, child=node, parent=parent, role=role, run_id=version.run_id) for parent, role in edges if parent],
    )
