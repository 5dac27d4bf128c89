"""The verbs of registered models: a model is a thing of its own, with a description, tags and aliases, before and besides its versions."""

import re

from msgspec.structs import replace

from treadle.ledger import lineage
from treadle.ledger.dispatch import Unchanged
from treadle.operations.registry import (
    CreateModel,
    DeleteAlias,
    DeleteModel,
    GetModel,
    GetUses,
    RegisteredModels,
    RenameModel,
    SearchModels,
    UpdateModel,
)
from treadle.operations.table import implements
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import Clock
from treadle.records.errors import TreadleError
from treadle.records.ledger import Edge, Page, Version
from treadle.records.models import IMAGE_TAG, RegisteredModel, Removal, Use
from treadle.registry import search
from treadle.registry.moves import check_model_name, model_node, model_of, version_of, withdraw
from treadle.registry.uses import check_free, check_unused, keeping, uses
from treadle.store.db import Connection
from treadle.store.queries import models as queries
from treadle.store.queries import registry
from treadle.tracking.limits import check_text, moment_of

_MOST = 1000
#: Characters of a tag's name and value, and of a description.
TAG_NAME, TAG_VALUE, TEXT = 250, 100_000, 100_000
#: A container image by digest, as the OCI distribution specification writes one: registry and name, perhaps a tag, and the digest.
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64}")


class ModelVerbs:
    """Registered models. A part of `Registry`."""

    def __init__(self, blobs: BlobStore, clock: Clock):
        self._blobs = blobs
        self._clock = clock

    @implements(CreateModel)
    def create_model(self, tx: Connection, request: CreateModel, call: Call) -> RegisteredModel:
        """Make a model.

        Raises:
            TreadleError: `conflict` for a name that is taken.
        """
        check_model_name(request.model)
        check_text(request.description, "description", TEXT)
        check_tags(request.tags)
        now = self._clock.now()
        row = {
            "project": request.project,
            "model": request.model,
            "description": request.description,
            "actor": call.actor.actor_id,
            "tags": request.tags,
            "created": moment_of(request.created, now),
            "updated": now,
        }
        if not queries.insert_model(tx, row):
            raise _taken(request.model)
        return model_of(tx, request.project, request.model)

    @implements(GetModel)
    def get_model(self, tx: Connection, request: GetModel, call: Call) -> RegisteredModel:
        """One model."""
        return model_of(tx, request.project, request.model)

    @implements(SearchModels)
    def search_models(self, tx: Connection, request: SearchModels, call: Call) -> RegisteredModels:
        """Models that a filter finds."""
        order = search.model_order(request.order_by)
        after = search.place_of(request.page, order)
        found, more = queries.search_models(
            tx,
            request.project,
            search.model_clauses(request.filter),
            order,
            after=after,
            limit=min(max(request.limit, 1), _MOST),
            without_tag=request.without_tag,
        )
        return RegisteredModels(items=found, page=Page(next=search.token_of(more)))

    @implements(UpdateModel)
    def update_model(self, tx: Connection, request: UpdateModel, call: Call) -> RegisteredModel | Unchanged:
        """Describe and tag a model."""
        known = model_of(tx, request.project, request.model)
        check_text(request.description or "", "description", TEXT)
        check_tags(request.tags)
        tags = {k: v for k, v in {**known.tags, **request.tags}.items() if k not in request.remove_tags}
        description = known.description if request.description is None else request.description
        if (tags, description) == (known.tags, known.description):
            return Unchanged(known)
        values: dict[str, object] = {"description": description, "tags": tags}
        if description != known.description:  # a tag is no change of what it is
            values["updated"] = self._clock.now()
        queries.update_model(tx, request.project, request.model, values)
        return model_of(tx, request.project, request.model)

    @implements(RenameModel)
    def rename_model(self, tx: Connection, request: RenameModel, call: Call) -> RegisteredModel | Unchanged:
        """Give a model another name; versions, aliases, tags, approvals and comments follow.

        Raises:
            TreadleError: `conflict` while something refers to it, or where the name is taken.
        """
        known = model_of(tx, request.project, request.model)
        check_model_name(request.name)
        if request.name == request.model:
            return Unchanged(known)
        if queries.find_model(tx, request.project, request.name) is not None:
            raise _taken(request.name)
        refers = [u for u in uses(tx, request.project, request.model) if u.keeps and u.kind in ("endpoint", "release", "snapshot", "alias")]
        if refers:
            check_unused(tx, request.project, request.model, 0, "renamed")
        queries.rename_model(tx, request.project, request.model, request.name, self._clock.now())
        for number in queries.numbers_of(tx, request.project, request.name):
            node, before = (model_node(request.project, name, number) for name in (request.name, request.model))
            version = Version(project=request.project, digest=node, kind="model", name=request.name, number=number)
            lineage.add_version(tx, version, event_time=call.event_time)
            lineage.add_edge(tx, Edge(project=request.project, child=node, parent=before, role="renamed_from"))
        return model_of(tx, request.project, request.name)

    @implements(DeleteModel)
    def delete_model(self, tx: Connection, request: DeleteModel, call: Call) -> Removal | Unchanged:
        """Delete a model with its versions.

        Raises:
            TreadleError: `conflict` while something refers to one of them, saying what.
        """
        known = model_of(tx, request.project, request.model)
        removal = Removal(
            preview=request.preview,
            versions=queries.numbers_of(tx, request.project, request.model),
            aliases=sorted(known.aliases),
            kept=keeping(tx, request.project, request.model),
        )
        if request.preview:
            return Unchanged(removal)
        check_unused(tx, request.project, request.model, 0, "deleted")
        for number in removal.versions:
            withdraw(tx, call, project=request.project, model=request.model, number=number, reason=f"{request.model} was deleted")
        queries.delete_model(tx, request.project, request.model)
        return removal

    @implements(DeleteAlias)
    def delete_alias(self, tx: Connection, request: DeleteAlias, call: Call) -> RegisteredModel | Unchanged:
        """Take a free alias away.

        Raises:
            TreadleError: `denied` for an alias that an endpoint follows.
        """
        known = model_of(tx, request.project, request.model)
        check_free(tx, request.project, request.model, request.alias, known.aliases.get(request.alias))
        if request.alias not in known.aliases:
            return Unchanged(known)
        now = self._clock.now()
        registry.put_alias(tx, request.project, request.model, request.alias, None, now)
        registry.touch_model(tx, request.project, request.model, now)
        return replace(known, aliases={k: v for k, v in known.aliases.items() if k != request.alias}, updated=now)

    @implements(GetUses)
    def get_uses(self, tx: Connection, request: GetUses, call: Call) -> list[Use]:
        """What refers to a version or model."""
        model_of(tx, request.project, request.model)
        if request.number:
            version_of(tx, request.project, request.model, request.number)
        return uses(tx, request.project, request.model, request.number)


def check_tags(tags: dict[str, str]) -> None:
    """Raises for a tag that is too long, has no name, or cannot be stored."""
    for name, value in tags.items():
        check_text(name, "name of a tag", TAG_NAME, needed=True)
        check_text(value, f"value of the tag {name[:40]!r}", TAG_VALUE)


def check_version_tags(tags: dict[str, str]) -> None:
    """As `check_tags`; and the container image that a version is in must be named by its digest, since a name can be moved."""
    check_tags(tags)
    image = tags.get(IMAGE_TAG)
    if image is not None and not _IMAGE.fullmatch(image):
        raise TreadleError(
            f"{image[:200]!r} does not name a container image by its digest (registry/name@sha256: and 64 hexadecimal digits).",
            remedy="Its registry tells it: docker inspect --format '{{index .RepoDigests 0}}' IMAGE",
        )


def _taken(name: str) -> TreadleError:
    return TreadleError(
        f"Registered Model (name={name}) already exists.",
        remedy="Take another name, or add a version to it.",
        code="conflict",
        details={"exists": "registered_model", "id": name},
    )
