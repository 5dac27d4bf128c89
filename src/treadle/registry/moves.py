"""What happens to versions inside a transaction of the caller's: they are found, their states and aliases move, their lineage is drawn.

Releases move what endpoints follow with `move_alias` and `move_state`; no face calls these.
"""

from collections.abc import Iterable

import msgspec

from treadle.ledger import events, lineage
from treadle.records.calls import Call
from treadle.records.clock import SystemClock
from treadle.records.definitions import FeatureView, Label, definition_digest
from treadle.records.digests import digest_of
from treadle.records.errors import TreadleError
from treadle.records.ledger import Edge, Version
from treadle.records.models import Approval, Bundle, ModelVersion, RegisteredModel
from treadle.records.states import VERSION_MOVES, ApprovalState, VersionState, move
from treadle.store.db import Connection
from treadle.store.queries import models as model_queries
from treadle.store.queries import registry as queries

#: Aliases that endpoints follow, with or without `.ENVIRONMENT` behind them.
PROTECTED = ("champion", "challenger")
#: States in which a version is not asked about.
OUT = (VersionState.rejected, VersionState.archived)


def model_of(tx: Connection, project: str, model: str) -> RegisteredModel:
    """A registered model.

    Raises:
        TreadleError: `not_found`.
    """
    found = model_queries.find_model(tx, project, model)
    if found is None:
        raise TreadleError(
            f"There is no model {model} in {project}.",
            remedy="See what there is: treadle models",
            code="not_found",
            details={"missing": "registered_model", "id": model},
        )
    return found


def version_of(tx: Connection, project: str, model: str, number: int = 0) -> ModelVersion:
    """A version; number 0 is the newest.

    Raises:
        TreadleError: `not_found`.
    """
    found = queries.find_version(tx, project, model, number)
    if found is None:
        raise TreadleError(
            f"The model {model} has no version {number}." if number else f"There is no model {model} in {project}.",
            remedy="See what there is: treadle models",
            code="not_found",
            details={"missing": "model_version", "id": f"{model}@{number}", "model": model, "number": number},
        )
    return found


def resolve(tx: Connection, project: str, model: str, alias: str, environment: str = "") -> ModelVersion | None:
    """The version that an alias names, None where there is none. With an environment, `alias.ENVIRONMENT`; a protected alias without one is
    that of the environment where it moved last."""
    if environment and is_protected(alias):
        return queries.find_alias(tx, project, model, f"{alias}.{environment}")
    found = queries.find_alias(tx, project, model, alias)
    return found or (queries.newest_alias(tx, project, model, alias) if alias in PROTECTED else None)


def move_alias(
    tx: Connection, call: Call, *, project: str, model: str, alias: str, number: int | None, environment: str = "", reason: str = ""
) -> None:
    """Move an alias, a protected one too, with its event; `number` None removes it. For releases. With an environment it is
    `alias.ENVIRONMENT` that moves, since staging and production have each a champion of their own."""
    full = f"{alias}.{environment}" if environment else alias
    now = queries.find_alias(tx, project, model, full)
    before = None if now is None else now.number
    if before == number:
        return
    if number is not None:
        version_of(tx, project, model, number)
    queries.put_alias(tx, project, model, full, number, SystemClock().now())
    events.append(
        tx,
        call,
        type="treadle.model.alias_moved",
        subject=f"model/{model}/{number or before}",
        project=project,
        environment=environment,
        payload={"model": model, "alias": full, "from": before, "to": number, "reason": reason},
    )


def move_state(tx: Connection, call: Call, *, project: str, model: str, number: int, state: VersionState, reason: str = "") -> ModelVersion:
    """Move a version's state by the table of moves, with its event; already there is fine. For releases."""
    version = version_of(tx, project, model, number)
    if version.state == state:
        return version
    then = moved(tx, version, state)
    payload = {"model": model, "number": number, "from": str(version.state), "to": str(state), "reason": reason}
    events.append(tx, call, type="treadle.model.moved", subject=f"model/{model}/{number}", project=project, payload=payload)
    if state in OUT:
        withdraw(tx, call, project=project, model=model, number=number, reason=reason or f"{model}@{number} is {state}")
    return then


def approved_for(tx: Connection, project: str, model: str, number: int, environment: str) -> Approval | None:
    """The approval that lets a version into an environment, None where nobody has granted one (or it is rejected or archived)."""
    version = version_of(tx, project, model, number)
    if version.state not in (VersionState.approved, VersionState.released):
        return None
    return queries.approval_of(tx, project, environment, f"model/{model}/{number}", ApprovalState.granted)


def withdraw(tx: Connection, call: Call, *, project: str, model: str, number: int, reason: str) -> None:
    """Take back what waits for an answer about a version that can no longer be approved, each with its event."""
    subject = f"model/{model}/{number}"
    for asked in model_queries.approvals_of(tx, project, subject):
        if asked.state != ApprovalState.waiting:
            continue
        queries.decide_approval(tx, project, asked.approval_id, withdrawn(call, reason))
        payload = {"approval_id": asked.approval_id, "reason": reason}
        event = {"subject": subject, "project": project, "environment": asked.environment, "payload": payload}
        events.append(tx, call, type="treadle.approval.withdrawn", **event)


def withdrawn(call: Call, reason: str) -> dict[str, object]:
    """What is written of a question that is taken back."""
    return {
        "state": str(ApprovalState.withdrawn),
        "decided_by": call.actor.actor_id,
        "decided_time": call.event_time,
        "comment": reason,
    }


def is_protected(alias: str) -> bool:
    """Whether an alias is one of those that endpoints follow.

    >>> is_protected("champion"), is_protected("champion.prod"), is_protected("best")
    (True, True, False)
    """
    return alias.partition(".")[0] in PROTECTED


def subject_parts(subject: str) -> tuple[str, int]:
    """(model, number) of `model/NAME/N`.

    >>> subject_parts("model/delay/3")
    ('delay', 3)
    """
    kind, _, rest = subject.partition("/")
    model, _, number = rest.rpartition("/")
    if kind != "model" or not model or not number.isdigit():
        raise TreadleError(f"{subject!r} is no subject of an approval.", remedy="Write model/NAME/N, e.g. model/delay/3.")
    return model, int(number)


def model_node(project: str, model: str, number: int) -> str:
    """The digest under which a model version stands in the lineage graph."""
    return digest_of(["model", project, model, number])


def moved(tx: Connection, version: ModelVersion, state: VersionState) -> ModelVersion:
    """The version in another state, by the table of moves; without an event."""
    move(VERSION_MOVES, version.state, state, what=f"{version.model}@{version.number}")
    queries.set_state(tx, version.project, version.model, version.number, state)
    return version_of(tx, version.project, version.model, version.number)


def draw(tx: Connection, version: ModelVersion, sealed: Bundle, *, views: Iterable[FeatureView] = (), labels: Iterable[Label] = ()) -> None:
    """The version, its bundle and what that was made from, in the lineage graph.

    `views` are the feature views as they were declared, with what was said about them; `labels` what was learned.
    """
    project, bundle, run = version.project, version.bundle_digest, version.run_id
    node = model_node(project, version.model, version.number)
    facts = {"flavor": sealed.flavor, "onnx_equal": sealed.onnx_equal, "python": sealed.python}
    known = [
        Version(project=project, digest=bundle, kind="bundle", name=version.model, number=version.number, facts=facts),
        Version(project=project, digest=node, kind="model", name=version.model, number=version.number, facts={"bundle": bundle}),
    ]
    told = {view.name: view for view in views}
    edges = [(node, bundle, "packages"), (bundle, run, "sealed_by")]
    edges += [(bundle, digest, "trained_on") for digest in sealed.trained_on]
    if sealed.code_digest:
        known.append(Version(project=project, digest=sealed.code_digest, kind="code", name="code"))
        edges.append((bundle, sealed.code_digest, "code"))
    for view in sealed.views:
        digest = definition_digest(view)
        said = msgspec.to_builtins(told.get(view.name, view))
        known.append(Version(project=project, digest=digest, kind="definition", name=f"feature_view/{view.name}", facts=said))
        edges.append((bundle, digest, "features"))
    for label in labels:
        digest = definition_digest(label)
        known.append(
            Version(project=project, digest=digest, kind="definition", name=f"label/{label.name}", facts=msgspec.to_builtins(label))
        )
        edges.append((bundle, digest, "label"))
    if sealed.environment:
        lock = digest_of(list(sealed.environment))
        known.append(Version(project=project, digest=lock, kind="environment", name="lock", facts={"packages": len(sealed.environment)}))
        edges.append((bundle, lock, "environment"))
    for entry in known:
        lineage.add_version(tx, entry, event_time=version.event_time)
    lineage.add_edges(tx, [Edge(project=project, child=child, parent=parent, role=role, run_id=run) for child, parent, role in edges])


def check_name(name: str, what: str) -> None:
    """Raises for what is no name of a model or alias that a project declares: those become addresses and labels."""
    if not name or len(name) > 200 or not all(c.isalnum() or c in "_-." for c in name):
        raise TreadleError(
            f"{name[:80]!r} is no name for {'an' if what[0] in 'aeiou' else 'a'} {what}.",
            remedy="Use letters, digits, '_', '-' and '.', at most 200.",
        )


def check_model_name(name: str) -> None:
    """Raises for what is no name of a registered model: any text of visible characters, without '/' and ':', which addresses use."""
    if not name.strip() or len(name) > 200 or name != name.strip() or name in (".", ".."):
        raise TreadleError(
            f"{name[:80]!a} is no name for a model.",
            remedy="Use 1 to 200 visible characters; no spaces at the ends.",
            details={"field": "name"},
        )
    if "/" in name or ":" in name:
        raise TreadleError(
            f"Invalid model name {name[:80]!r}. Names cannot contain '/' or ':'.", remedy="Use '-' or '.'.", details={"field": "name"}
        )
    if not name.isprintable():
        raise TreadleError(
            f"{name[:80]!a} holds a character that cannot be seen, or that turns the direction of what follows.",
            remedy="Name the model in visible characters.",
            details={"field": "name"},
        )
