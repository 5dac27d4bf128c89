"""Who uses a model: endpoints that serve it, aliases, releases, snapshots, copies, a pin. What keeps a thing says so in words."""

from treadle.records.errors import TreadleError
from treadle.records.models import ModelVersion, Use
from treadle.records.serving import ServedEndpoint
from treadle.records.states import VersionState
from treadle.registry.moves import PROTECTED, is_protected
from treadle.store.db import Connection
from treadle.store.queries import models as queries
from treadle.store.queries import registry
from treadle.store.queries import releases as release_queries


def uses(tx: Connection, project: str, model: str, number: int = 0) -> list[Use]:
    """What refers to a version, or with number 0 to the model and any of its versions."""
    found = [u for u in _everything(tx, project, model, number) if not number or u.number == number]
    return sorted(found, key=lambda u: (not u.keeps, u.kind, u.environment, u.name, u.number))


def keeping(tx: Connection, project: str, model: str, number: int = 0) -> list[str]:
    """Why a version, or the model with all of them, cannot go; empty where it can. For deletion, and for removal for good."""
    return list(dict.fromkeys(u.text for u in uses(tx, project, model, number) if u.keeps))


def check_unused(tx: Connection, project: str, model: str, number: int, what: str) -> None:
    """Raises `conflict`, naming everything that refers to the thing."""
    kept = keeping(tx, project, model, number)
    if kept:
        thing = f"{model}@{number}" if number else f"The model {model}"
        raise TreadleError(
            f"{thing} cannot be {what}: {'; '.join(kept[:8])}{f'; and {len(kept) - 8} more' if len(kept) > 8 else ''}.",
            remedy=f"End what refers to it first; see all of it: treadle models show {model}{f'@{number}' if number else ''}",
            code="conflict",
            details={"kept": kept},
        )


def followed_by(tx: Connection, project: str, model: str, alias: str) -> str:
    """Why an alias is protected, in words; empty where it is free.

    `champion` and `challenger` are what endpoints follow. Without an environment they are free as long as no endpoint serves the model.
    """
    if not is_protected(alias):
        return ""
    environment = alias.partition(".")[2]
    served = _followers(tx, project, model, environment)
    if served:
        return f"the endpoint {served[0][1]} in {served[0][0]} follows the alias {alias!r}"
    if environment:
        return f"the endpoints of {environment} follow the alias {alias!r}"
    return f"releases move the alias {alias!r} of this model" if _released(tx, project, model) else ""


def check_free(tx: Connection, project: str, model: str, alias: str, number: int | None) -> None:
    """Raises `denied` for an alias that an endpoint follows, with the way to ask."""
    why = followed_by(tx, project, model, alias)
    if why:
        named = alias.partition(".")[2]
        environment, endpoint = next(iter(_followers(tx, project, model, named)), (named or "ENV", "ENDPOINT"))
        asked = f"{model}@{number or 'N'} --env {environment}"
        raise TreadleError(
            f"{why[0].upper()}{why[1:]}; it moves by an approval and a release only.",
            remedy=f"Ask for it: treadle models ask {asked}; somebody else answers: treadle approve {asked}; "
            f"then: treadle release start {endpoint} --version {number or 'N'} --env {environment}",
            code="denied",
            details={"alias": alias, "model": model},
        )


def _followers(tx: Connection, project: str, model: str, environment: str) -> list[tuple[str, str]]:
    """(environment, endpoint) where a model is served; of one environment, or with "" of all."""
    return [
        (name, endpoint.name)
        for name, definitions in registry.applied_environments(tx, project).items()
        for endpoint in definitions.endpoints
        if endpoint.model == model and environment in ("", name)
    ]


def _released(tx: Connection, project: str, model: str) -> bool:
    return any(registry.newest_alias(tx, project, model, alias) is not None for alias in PROTECTED)


def _everything(tx: Connection, project: str, model: str, only: int) -> list[Use]:
    found: list[Use] = []
    for environment, definitions in registry.applied_environments(tx, project).items():
        for e in definitions.endpoints:
            if e.model == model:
                text = f"the endpoint {e.name} is defined on it in {environment}"
                found.append(Use(kind="endpoint", name=e.name, environment=environment, text=text, keeps=True))
    for snapshot in release_queries.newest_snapshots(tx, project):
        for served in snapshot.endpoints:
            if served.model == model:
                found += _served(served, snapshot.environment)
    for release in queries.releases_of(tx, project, model):
        for number in {release.to_version, release.from_version} - {None}:
            text = f"release {release.release_id} in {release.environment} ({release.state}) refers to it"
            found.append(
                Use(kind="release", name=release.release_id, environment=release.environment, text=text, keeps=True, number=number)
            )
    registered = queries.find_model(tx, project, model)
    for alias, number in (registered.aliases if registered else {}).items():
        why = followed_by(tx, project, model, alias)
        found.append(Use(kind="alias", name=alias, text=why or f"the alias {alias!r} names it", keeps=bool(why), number=number))
    for number in [only] if only else queries.numbers_of(tx, project, model):
        version = registry.find_version(tx, project, model, number)
        if version is not None:
            found += _own(tx, version)
    return found


def _served(served: ServedEndpoint, environment: str) -> list[Use]:
    return [
        Use(
            kind="snapshot",
            name=served.name,
            environment=environment,
            text=f"it is the {variant.name} of the endpoint {served.name} in {environment}",
            keeps=True,
            number=variant.model_version,
        )
        for variant in (served.champion, served.challenger)
        if variant is not None
    ]


def _own(tx: Connection, version: ModelVersion) -> list[Use]:
    number, named = version.number, f"{version.model}@{version.number}"
    found: list[Use] = []
    if version.state == VersionState.released:
        found.append(Use(kind="state", name="released", text=f"{named} is released", keeps=True, number=number))
    if version.pinned:
        found.append(Use(kind="pin", name="pinned", text=f"{named} is pinned", keeps=True, number=number))
    for model, copy in queries.versions_from_source(tx, version.project, f"models:/{version.model}/{number}"):
        found.append(Use(kind="copy", name=f"{model}@{copy}", text=f"{model}@{copy} is a copy of it", keeps=True, number=number))
    return found
