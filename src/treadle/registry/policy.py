"""What an environment declares about versions that come to it: papers that must be there, questions that expire, reviews, tidying up."""

import datetime as dt

from treadle.ledger import events
from treadle.records.calls import Call
from treadle.records.clock import SystemClock
from treadle.records.definitions import Environment
from treadle.records.digests import digest_of
from treadle.records.models import CARD_SECTIONS, ModelVersion
from treadle.records.states import VersionState
from treadle.registry.moves import is_protected, move_state
from treadle.store.db import Connection
from treadle.store.queries import models as queries
from treadle.store.queries import registry

REVIEW_DUE = "treadle.model.review_due"


def declared(tx: Connection, project: str, environment: str) -> Environment:
    """What is applied of an environment; its defaults where it is not declared."""
    applied = registry.applied_project(tx, project, environment)
    found = next((e for e in applied.environments if e.name == environment), None) if applied else None
    return found or Environment(name=environment)


def written_sections(tx: Connection, version: ModelVersion, sealed_card: dict[str, object]) -> dict[str, str]:
    """What people wrote: of the version, else of the model, else with the candidate when it was sealed."""
    model = queries.find_model(tx, version.project, version.model)
    sealed = {key: _text(sealed_card[key]) for key in CARD_SECTIONS if sealed_card.get(key)}
    own = queries.version_card(tx, version.project, version.model, version.number)
    return {**sealed, **(model.card if model else {}), **own}


def promoted(tx: Connection, call: Call, *, project: str, model: str, number: int, environment: str, before: int | None) -> None:
    """After a version was promoted: the next review is set, and where the environment says so, older versions are archived."""
    place = declared(tx, project, environment)
    if place.review_every_s:
        due = call.event_time + dt.timedelta(seconds=place.review_every_s)
        registry.update_version(tx, project, model, number, {"review_due": due, "updated": SystemClock().now()})
    if not place.archive_others:
        return
    for other in queries.numbers_of(tx, project, model):
        version = registry.find_version(tx, project, model, other)
        if version is None or other >= number or other == before or version.pinned or any(map(is_protected, version.aliases)):
            continue
        if version.state in (VersionState.candidate, VersionState.validated, VersionState.approved, VersionState.rejected):
            reason = f"{model}@{number} was promoted in {environment}"
            move_state(tx, call, project=project, model=model, number=other, state=VersionState.archived, reason=reason)


def tell_due(tx: Connection, call: Call) -> int:
    """An event for each review that has fallen due and was not told of yet; how many."""
    told = 0
    for version, event_id in untold(tx, call.event_time):
        due = version.review_due
        events.append(
            tx,
            call,
            type=REVIEW_DUE,
            subject=f"model/{version.model}/{version.number}",
            project=version.project,
            payload={"model": version.model, "number": version.number, "due": due, "state": str(version.state)},
            event_id=event_id,
        )
        told += 1
    return told


def untold(connection: Connection, now: dt.datetime) -> list[tuple[ModelVersion, str]]:
    """Versions whose review is due, with the id of the event that tells of it, where there is none yet."""
    found = []
    for version in queries.versions_due(connection, now):
        event_id = "evt_" + digest_of([REVIEW_DUE, version.project, version.model, version.number, version.review_due])[:26]
        if not queries.has_event(connection, version.project, event_id):
            found.append((version, event_id))
    return found


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{k}: {_text(v)}" for k, v in value.items())
    return "\n".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
