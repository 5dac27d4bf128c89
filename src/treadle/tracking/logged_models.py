"""Logged models: files that a run saved as a model, under an id of their own, before anybody registers them."""

from typing import Any

from treadle.ledger import lineage
from treadle.ledger.dispatch import Unchanged
from treadle.operations import implements
from treadle.operations import tracking as ops
from treadle.operations.ledger import Done
from treadle.records.calls import Call
from treadle.records.clock import SystemClock
from treadle.records.errors import TreadleError
from treadle.records.ledger import Edge, Version
from treadle.records.tracking import DEFAULT_EXPERIMENT, Lifecycle, LoggedModel
from treadle.store.db import Connection
from treadle.store.queries import experiments as experiment_queries
from treadle.store.queries import ledger as ledger_queries
from treadle.store.queries import logged_models as queries
from treadle.tracking import limits
from treadle.tracking.experiments import binned, no_experiment
from treadle.tracking.runs import no_model


class ModelVerbs:
    """Logged models."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    @implements(ops.CreateLoggedModel)
    def create(self, tx: Connection, request: ops.CreateLoggedModel, call: Call) -> LoggedModel | Unchanged:
        """Announce a model whose files follow."""
        limits.check_id(request.model_id, "logged model")
        limits.check_text(request.name, "name of the model", limits.TITLE)
        limits.check_text(request.model_type, "type of the model", limits.TITLE)
        limits.check_text(request.run_id, "run", limits.ID)
        limits.check_pairs(request.params, "parameter")
        limits.check_pairs(request.tags, "tag")
        now = self._clock.now()
        state = experiment_queries.experiment_state(tx, request.project, request.experiment_id)
        if state is None and request.experiment_id == DEFAULT_EXPERIMENT:
            ledger_queries.ensure_experiment(tx, request.project, DEFAULT_EXPERIMENT, call.actor.actor_id, now)
            state = ("active", "")
        if state is None:
            raise no_experiment(request.project, request.experiment_id)
        if state[0] != "active":
            raise binned("experiment", request.experiment_id)
        made = LoggedModel(
            project=request.project,
            model_id=request.model_id,
            experiment_id=request.experiment_id,
            name=request.name,
            run_id=request.run_id,
            model_type=request.model_type,
            artifact_location=f"{state[1]}/models/{request.model_id}/artifacts" if state[1] else "",
            actor=call.actor.actor_id,
            created=limits.moment_of(request.created, now),
            updated=now,
            params=request.params,
            tags=request.tags,
        )
        if not queries.insert_logged_model(tx, made):
            known = self._known(tx, request.project, request.model_id)
            asked = (request.experiment_id, request.name, request.run_id, request.model_type)
            if (known.experiment_id, known.name, known.run_id, known.model_type) == asked:
                return Unchanged(known)
            raise TreadleError(
                f"There is a logged model {request.model_id} already, with other content.",
                remedy="Make a fresh id for a new model.",
                code="conflict",
            )
        node = Version(project=request.project, digest=request.model_id, kind="logged_model", name=request.name)
        lineage.add_version(tx, node, event_time=call.event_time)
        if request.run_id:
            ends = {"child": request.model_id, "parent": request.run_id}
            lineage.add_edge(tx, Edge(project=request.project, **ends, role="output", run_id=request.run_id))
        return made

    @implements(ops.GetLoggedModel)
    def get(self, connection: Connection, request: ops.GetLoggedModel, call: Call) -> LoggedModel:
        """One; what is in the bin only where `deleted` says so."""
        known = self._known(connection, request.project, request.model_id)
        if known.lifecycle != Lifecycle.active and not request.deleted:
            raise no_model(request.project, request.model_id)
        return known

    @implements(ops.UpdateLoggedModel)
    def update(self, tx: Connection, request: ops.UpdateLoggedModel, call: Call) -> LoggedModel:
        """Say that its files are there or will not come; tags and parameters."""
        limits.check_pairs(request.tags, "tag")
        limits.check_pairs(request.params, "parameter")
        limits.check_text(request.status_message, "status message", limits.TEXT)
        project, model_id = request.project, request.model_id
        head = queries.model_heads(tx, project, [model_id]).get(model_id)
        if head is None:
            raise no_model(project, model_id)
        values: dict[str, Any] = {}
        if request.state is not None:
            values = {"state": str(request.state), "status_message": request.status_message, "updated": self._clock.now()}
        queries.put_model_tags(tx, project, model_id, head.experiment, request.tags)
        if request.params:
            self._check_unchanged(request.params, self._known(tx, project, model_id).params, model_id)
        queries.put_model_params(tx, project, model_id, head.experiment, request.params)
        for name in request.remove_tags:
            if not queries.drop_model_tag(tx, project, model_id, name):
                raise TreadleError(
                    f"The logged model {model_id} has no tag {name[:80]!r}.",
                    remedy="See its tags: treadle api get-logged-model",
                    code="not_found",
                    details={"missing": "tag", "name": name, "thing": "logged_model", "id": model_id},
                )
        if values:
            queries.update_logged_model(tx, project, model_id, values)
        return self._known(tx, project, model_id)

    @implements(ops.BinLoggedModel)
    def bin(self, tx: Connection, request: ops.BinLoggedModel, call: Call) -> Done | Unchanged:
        """Put it into the bin."""
        head = queries.model_heads(tx, request.project, [request.model_id]).get(request.model_id)
        if head is None:
            raise no_model(request.project, request.model_id)
        if head.lifecycle != "active":
            return Unchanged(Done(changed=False))
        now = self._clock.now()
        queries.update_logged_model(tx, request.project, request.model_id, {"lifecycle": "deleted", "deleted": now, "updated": now})
        return Done()

    @staticmethod
    def _check_unchanged(params: dict[str, str], known: dict[str, str], model_id: str) -> None:
        for name, value in params.items():
            if known.get(name, value) != value:
                raise TreadleError(
                    f"The logged model {model_id} has the parameter {name[:80]!r} already, with another value.",
                    remedy="Log it under another name: what a model was made with does not change.",
                    code="conflict",
                )

    def _known(self, connection: Connection, project: str, model_id: str) -> LoggedModel:
        found = queries.logged_models(connection, project, [model_id])
        if not found:
            raise no_model(project, model_id)
        return found[0]
