"""What people said about data, features and labels: as it stood when a model was trained, and what follows from it where it is to serve.

A restriction is of the data, not of the model: it is looked up in what is applied where the model wants to go, so that one that is
written down later holds from then on.
"""

import msgspec

from treadle.ledger import lineage
from treadle.records.definitions import Dataset, FeatureView, Label, Project
from treadle.records.errors import TreadleError
from treadle.records.ledger import Version
from treadle.records.models import Bundle, ModelVersion
from treadle.registry.moves import model_node
from treadle.store.db import Connection
from treadle.store.queries import ledger as queries
from treadle.store.queries import models, registry

_VIEW, _LABEL = "feature_view/", "label/"


def pinned(tx: Connection, project: str, run_id: str) -> Project | None:
    """The definitions that a run was pinned to; None where it is not of a project that is applied."""
    run = queries.get_run(tx, project, run_id) if run_id else None
    found = lineage.get_version(tx, project, run.project_digest) if run and run.project_digest else None
    return msgspec.convert(found.facts, Project) if found is not None and found.kind == "project" else None


def said(tx: Connection, version: ModelVersion, sealed: Bundle) -> tuple[list[FeatureView], list[Label]]:
    """The feature views and labels of a sealed version, as they were declared when it was trained."""
    definitions = pinned(tx, version.project, version.run_id)
    if definitions is None:
        return [], []
    datasets = {row["dataset"] for row in models.dataset_facts(tx, version.project, list(sealed.trained_on))}
    used, column = {view.name for view in sealed.views}, sealed.card.get("label")
    views = [view for view in definitions.feature_views if view.name in used]
    return views, [label for label in definitions.labels if label.column == column and label.dataset in datasets]


def made_of(tx: Connection, version: ModelVersion) -> tuple[set[str], set[str], set[str]]:
    """Names of the datasets, feature views and labels that a sealed version was made of, from the lineage graph."""
    node = model_node(version.project, version.model, version.number)
    seen = lineage.around(tx, version.project, node, direction="up", depth=2).versions
    return (
        {v.name for v in seen if v.kind == "dataset"},
        {v.name.removeprefix(_VIEW) for v in _definitions(seen, _VIEW)},
        {v.name.removeprefix(_LABEL) for v in _definitions(seen, _LABEL)},
    )


def barred(tx: Connection, version: ModelVersion, environment: str) -> list[tuple[str, Dataset | FeatureView | Label]]:
    """(kind, definition) of all that a version was made of and that is restricted to other environments."""
    applied = registry.applied_project(tx, version.project, environment)
    if applied is None:
        return []
    datasets, views, labels = made_of(tx, version)
    learned: list[tuple[str, Dataset | FeatureView | Label]] = [
        *(("dataset", d) for d in applied.datasets if d.name in datasets),
        *(("feature view", v) for v in applied.feature_views if v.name in views),
        *(("label", label) for label in applied.labels if label.name in labels),
    ]
    return [(kind, d) for kind, d in learned if d.only_in and environment not in d.only_in]


def check_allowed(tx: Connection, version: ModelVersion, environment: str) -> None:
    """That nothing a version was made of is restricted to other environments.

    Raises:
        TreadleError: `denied`, naming what, whose it is and what it says.
    """
    found = barred(tx, version, environment)
    if not found:
        return
    told = [
        f"{kind} {d.name} may be used in {', '.join(d.only_in)} only{f' ({d.restrictions})' if d.restrictions else ''}" for kind, d in found
    ]
    owner = next((d.owner for _, d in found if d.owner), "")
    raise TreadleError(
        f"{version.model}@{version.number} may not serve in {environment}: it learned from what is restricted; {'; '.join(told)}.",
        remedy=f"Train without it, or ask {owner or 'its owner'} to allow {environment} (only_in=…): treadle apply --env {environment}",
        code="denied",
        details={"restricted": [d.name for _, d in found], "environment": environment},
    )


def _definitions(seen: list[Version], prefix: str) -> list[Version]:
    return [v for v in seen if v.kind == "definition" and v.name.startswith(prefix)]
