"""The verbs of the whole: apply a project, look at its loop, walk back from a prediction."""

from typing import Any

import msgspec

from treadle.ledger import lineage
from treadle.ledger.dispatch import Unchanged
from treadle.operations import workshop as ops
from treadle.operations.table import implements
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.clock import SystemClock
from treadle.records.definitions import Project
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.ledger import Version
from treadle.records.serving import Snapshot
from treadle.store.db import Connection
from treadle.store.queries import workshop as queries
from treadle.workshop.overview import Rooms, overview
from treadle.workshop.planning import lacking, leads, plan
from treadle.workshop.why import why_prediction


class Workbench:
    """Implements the operations that span rooms."""

    def __init__(self, layout: Layout, blobs: BlobStore, rooms: Rooms):
        self._layout = layout
        self._blobs = blobs
        self._rooms = rooms

    @implements(ops.ListProjects)
    def list_projects(self, tx: Connection, request: ops.ListProjects, call: Call) -> list[ops.ProjectSummary]:
        """Projects by name, with their environments (those that lead to another first) and endpoints; without either where scripts
        only log to them."""
        found: dict[str, tuple[list[str], set[str]]] = {name: ([], set()) for name in queries.logged_projects(tx)}
        for project, environment, definitions in queries.environments(tx):
            environments, endpoints = found.setdefault(project, ([], set()))
            environments.insert(0 if leads(definitions, environment) else len(environments), environment)
            endpoints.update(e.name for e in definitions.endpoints)
        return [ops.ProjectSummary(name=n, environments=e, endpoints=sorted(p)) for n, (e, p) in sorted(found.items())]

    @implements(ops.GetApplied)
    def get_applied(self, tx: Connection, request: ops.GetApplied, call: Call) -> Project | None:
        """What is applied."""
        return queries.applied(tx, request.project, request.environment)

    @implements(ops.ApplyProject)
    def apply(self, tx: Connection, request: ops.ApplyProject, call: Call) -> Any:
        """Apply, if nothing came between plan and apply and nothing live would be removed."""
        old = queries.applied(tx, request.project, request.environment)
        new = request.definitions
        if new.name != request.project:
            raise TreadleError(
                f"The definitions are of project {new.name!r}, the call is for {request.project!r}.",
                remedy="Apply a project under its own name.",
            )
        base, digest = (digest_of(old) if old else ""), digest_of(new)
        made = plan(old, new, request.environment, live=live(tx, request.project, request.environment))
        if base == digest:
            return Unchanged(ops.Applied(plan=made, digest=digest))
        if request.base != base:
            raise TreadleError(
                f"{request.project} was applied to {request.environment} by somebody else since the plan was made; nothing was changed.",
                remedy=f"Look at the new plan and apply again: treadle plan --env {request.environment}",
                code="conflict",
            )
        unsaid = lacking(new, request.environment)
        if unsaid:
            raise TreadleError(
                f"{request.environment} requires what these do not say: {'; '.join(unsaid)}.",
                remedy="Say it where they are defined, e.g. tr.dataset(…, owner=…, provenance=…), then apply again.",
                code="bad_definition",
                details={"lacking": unsaid},
            )
        refused = [f"{c.kind} {c.name}: {c.refused}" for c in made.changes if c.refused]
        if refused and not request.remove:
            raise TreadleError(
                f"The plan removes what something live depends on: {'; '.join(refused)}.",
                remedy="Keep the definition, declare a rename with was=…, or stop what depends on it first.",
                code="conflict",
            )
        lineage.add_version(
            tx, Version(project=request.project, digest=digest, kind="project", name=request.project, facts=msgspec.to_builtins(new))
        )
        queries.apply(
            tx,
            {
                "project": request.project,
                "environment": request.environment,
                "digest": digest,
                "definitions": new,
                "actor": call.actor.actor_id,
                "event_time": call.event_time,
                "recorded_time": SystemClock().now(),
            },
        )
        self._rooms.releases.refresh(tx, request.project, request.environment, call)
        return ops.Applied(plan=made, digest=digest)

    @implements(ops.GetOverview)
    def get_overview(self, tx: Connection, request: ops.GetOverview, call: Call) -> ops.Overview:
        """The loop at a glance."""
        return overview(tx, self._rooms, request, call)

    @implements(ops.WhyPrediction)
    def why(self, tx: Connection, request: ops.WhyPrediction, call: Call) -> ops.Chain:
        """From a prediction back to the rows."""
        return why_prediction(tx, self._layout, self._blobs, request.project, request.prediction_id)


def live(tx: Connection, project: str, environment: str) -> dict[tuple[str, str], str]:
    """What may not be removed now, and why: endpoints that serve with the models behind them, pipelines that run."""
    found: dict[tuple[str, str], str] = {}
    body = queries.serving(tx, project, environment)
    for endpoint in msgspec.convert(body, Snapshot).endpoints if body else ():
        if endpoint.champion is not None:
            found["endpoint", endpoint.name] = f"{endpoint.model} {endpoint.champion.model_version} serves there"
    for run_id, pipeline in queries.running_of(tx, project, environment):
        found["pipeline", pipeline] = f"{run_id} has not ended"
    return found
