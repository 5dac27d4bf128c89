"""Experiments: groups of runs, with a name, a folder and tags; and the views of listings that people keep."""

import datetime as dt
from typing import Any

from treadle.ledger.dispatch import Unchanged
from treadle.operations import implements
from treadle.operations import tracking as ops
from treadle.operations.ledger import Done
from treadle.records.calls import Call
from treadle.records.clock import EPOCH, SystemClock
from treadle.records.digests import canonical
from treadle.records.errors import TreadleError
from treadle.records.tracking import DEFAULT_EXPERIMENT, DEFAULT_NAME, Experiment, Lifecycle, SavedView
from treadle.store.db import Connection
from treadle.store.queries import experiments as queries
from treadle.tracking import limits
from treadle.tracking.locations import check_location

#: Saved views of a project, at most.
MOST_VIEWS = 1000


class ExperimentVerbs:
    """Experiments and saved views."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    @implements(ops.CreateExperiment)
    def create_experiment(self, tx: Connection, request: ops.CreateExperiment, call: Call) -> Experiment | Unchanged:
        """Make it; the same id with the same content again changes nothing."""
        limits.check_id(request.experiment_id, "experiment")
        limits.check_text(request.name, "name of the experiment", limits.EXPERIMENT, needed=True)
        limits.check_folder(request.folder)
        limits.check_text(request.description, "description", limits.TEXT)
        check_location(request.artifact_location)
        limits.check_pairs(request.tags, "tag")
        now = self._clock.now()
        made = Experiment(
            project=request.project,
            experiment_id=request.experiment_id,
            name=request.name,
            folder=request.folder,
            artifact_location=request.artifact_location,
            description=request.description,
            tags=request.tags,
            actor=call.actor.actor_id,
            created=limits.moment_of(request.created, now),
            updated=now,
        )
        if self._is_defaults(tx, made.project, made.name, made.experiment_id):
            raise _taken(made.name)
        if queries.insert_experiment(tx, made):
            return made
        known = queries.get_experiment(tx, request.project, request.experiment_id, "id")
        if known is not None:
            same = ("name", "folder", "artifact_location", "description", "tags")
            if all(getattr(known, name) == getattr(request, name) for name in same):
                return Unchanged(known)
            raise TreadleError(
                f"There is an experiment {request.experiment_id} already, with other content.",
                remedy="Make a fresh id for a new experiment: treadle.records.ids.new_id('exp')",
                code="conflict",
            )
        raise _taken(request.name)

    @implements(ops.GetExperiment)
    def get_experiment(self, connection: Connection, request: ops.GetExperiment, call: Call) -> Experiment:
        """One, by id or name; the default is there even before anything was recorded in it."""
        if request.by not in ("id", "name", "any"):
            raise TreadleError(f"{request.by!r} is no way to find an experiment.", remedy="Use id, name or any.")
        found = queries.get_experiment(connection, request.project, request.experiment, request.by)
        if found is not None:
            return found
        wanted = {"id": (DEFAULT_EXPERIMENT,), "name": (DEFAULT_NAME,)}.get(request.by, (DEFAULT_EXPERIMENT, DEFAULT_NAME, "default"))
        if request.experiment in wanted:
            known = queries.get_experiment(connection, request.project, DEFAULT_EXPERIMENT, "id")
            if known is None or request.by != "name":  # which may have been given another name
                return known or default_experiment(request.project, EPOCH)
        raise no_experiment(request.project, request.experiment)

    @implements(ops.UpdateExperiment)
    def update_experiment(self, tx: Connection, request: ops.UpdateExperiment, call: Call) -> Experiment | Unchanged:
        """Rename, move to a folder, describe."""
        known = self._here(tx, request.project, request.experiment_id, call)
        values: dict[str, Any] = {}
        if request.name is not None and request.name != known.name:
            limits.check_text(request.name, "name of the experiment", limits.EXPERIMENT, needed=True)
            if known.lifecycle != Lifecycle.active:
                raise binned("experiment", known.experiment_id)
            taken = queries.name_taken(tx, request.project, request.name, known.experiment_id)
            if taken or self._is_defaults(tx, request.project, request.name, known.experiment_id):
                raise _taken(request.name)
            values["name"] = request.name
        if request.folder is not None and request.folder != known.folder:
            limits.check_folder(request.folder)
            values["folder"] = request.folder
        if request.description is not None and request.description != known.description:
            limits.check_text(request.description, "description", limits.TEXT)
            values["description"] = request.description
        if not values:
            return Unchanged(known)
        queries.update_experiment(tx, request.project, request.experiment_id, {**values, "updated": self._clock.now()})
        return self._known(tx, request.project, request.experiment_id)

    @implements(ops.SetExperimentTags)
    def set_experiment_tags(self, tx: Connection, request: ops.SetExperimentTags, call: Call) -> Done:
        """Set and remove tags."""
        limits.check_pairs(request.tags, "tag")
        known = self._here(tx, request.project, request.experiment_id, call)
        if known.lifecycle != Lifecycle.active:
            raise binned("experiment", known.experiment_id)
        changed = any(known.tags.get(name) != value for name, value in request.tags.items())
        queries.put_experiment_tags(tx, request.project, request.experiment_id, request.tags)
        missing = [name for name in request.remove if name not in known.tags and name not in request.tags]
        if missing:
            raise TreadleError(
                f"The experiment {known.experiment_id} has no tag {missing[0]!r}.",
                remedy=f"It has: {', '.join(known.tags) or 'none'}.",
                code="not_found",
                details={"missing": "tag", "name": missing[0], "thing": "experiment", "id": known.experiment_id},
            )
        if request.remove:
            queries.drop_experiment_tags(tx, request.project, request.experiment_id, request.remove)
        return Done(changed=changed or bool(request.remove))

    @implements(ops.BinExperiment)
    def bin_experiment(self, tx: Connection, request: ops.BinExperiment, call: Call) -> Experiment | Unchanged:
        """Put it and its active runs into the bin, or take it and those that went with it back."""
        wanted = lifecycle(request.lifecycle)
        known = self._here(tx, request.project, request.experiment_id, call)
        if known.lifecycle == wanted:
            return Unchanged(known)
        now = self._clock.now()
        if wanted == Lifecycle.deleted:
            queries.bin_runs_of(tx, request.project, request.experiment_id, now)
        elif known.deleted is not None:
            queries.restore_runs_of(tx, request.project, request.experiment_id, known.deleted)
        deleted = now if wanted == Lifecycle.deleted else None
        queries.update_experiment(
            tx, request.project, request.experiment_id, {"lifecycle": str(wanted), "deleted": deleted, "updated": now}
        )
        return self._known(tx, request.project, request.experiment_id)

    # ── saved views ──────────────────────────────────────────────────────────────────────────────────────────────

    @implements(ops.SaveView)
    def save_view(self, tx: Connection, request: ops.SaveView, call: Call) -> SavedView:
        """Keep a listing as it is set up."""
        limits.check_id(request.view_id, "view")
        limits.check_text(request.name, "name of the view", limits.NAME, needed=True)
        limits.check_text(request.page, "page", limits.NAME, needed=True)
        if len(canonical(request.query)) > limits.TEXT:
            raise TreadleError("The view is larger than 64 KB.", remedy="Keep fewer columns and charts in it.")
        if queries.count_views(tx, request.project) >= MOST_VIEWS:
            raise TreadleError(f"{request.project} keeps {MOST_VIEWS} views already.", remedy="Delete some that nobody opens.")
        view = SavedView(
            project=request.project,
            view_id=request.view_id,
            page=request.page,
            name=request.name,
            actor=call.actor.actor_id,
            query=request.query,
            recorded_time=self._clock.now(),
        )
        queries.put_view(tx, view)
        return view

    @implements(ops.ListViews)
    def list_views(self, connection: Connection, request: ops.ListViews, call: Call) -> list[SavedView]:
        """Views of a page, by name."""
        return queries.list_views(connection, request.project, request.page)

    @implements(ops.DeleteView)
    def delete_view(self, tx: Connection, request: ops.DeleteView, call: Call) -> Done:
        """Forget a view; one that is not there is forgotten already."""
        return Done(changed=queries.drop_view(tx, request.project, request.view_id))

    def _here(self, tx: Connection, project: str, experiment_id: str, call: Call) -> Experiment:
        """An experiment that is about to change; the default is made where it was not yet."""
        found = queries.get_experiment(tx, project, experiment_id, "id")
        if found is None and experiment_id == DEFAULT_EXPERIMENT:
            queries.insert_experiment(tx, default_experiment(project, self._clock.now(), call.actor.actor_id))
            return self._known(tx, project, experiment_id)
        if found is None:
            raise no_experiment(project, experiment_id)
        return found

    def _is_defaults(self, tx: Connection, project: str, name: str, experiment_id: str) -> bool:
        """Whether a name is the default's, which has it even before anything was recorded in it."""
        if name != DEFAULT_NAME or experiment_id == DEFAULT_EXPERIMENT:
            return False
        return queries.get_experiment(tx, project, DEFAULT_EXPERIMENT, "id") is None

    def _known(self, tx: Connection, project: str, experiment_id: str) -> Experiment:
        found = queries.get_experiment(tx, project, experiment_id, "id")
        if found is None:
            raise no_experiment(project, experiment_id)
        return found


def default_experiment(project: str, at: dt.datetime, actor: str = "") -> Experiment:
    """The experiment that every project has."""
    return Experiment(project=project, experiment_id=DEFAULT_EXPERIMENT, name=DEFAULT_NAME, actor=actor, created=at, updated=at)


def no_experiment(project: str, experiment: str) -> TreadleError:
    """There is none."""
    return TreadleError(
        f"There is no experiment {experiment!r} in project {project!r}.",
        remedy="List them: treadle api search-experiments",
        code="not_found",
        details={"missing": "experiment", "id": experiment},
    )


def binned(thing: str, thing_id: str) -> TreadleError:
    """What is in the bin is not written to."""
    return TreadleError(
        f"The {thing} {thing_id} is in the bin, and what is there is not written to.",
        remedy="Restore it first: lifecycle active.",
        code="conflict",
        details={"binned": thing, "id": thing_id},
    )


def lifecycle(name: str) -> Lifecycle:
    """The lifecycle of that name."""
    try:
        return Lifecycle(name)
    except ValueError:
        raise TreadleError(f"{name!r} is no lifecycle.", remedy="Use active or deleted.") from None


def _taken(name: str) -> TreadleError:
    return TreadleError(
        f"There is an experiment named {name!r} already, perhaps in the bin.",
        remedy="Use another name, or restore that one.",
        code="conflict",
        details={"taken": "experiment", "name": name},
    )
