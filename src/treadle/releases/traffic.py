"""What gateways are to serve, as pure functions: a snapshot and a wish in, the next generation out."""

import datetime as dt

from msgspec.structs import replace

from treadle.records.serving import ServedEndpoint, Snapshot, Split, Variant

CHAMPION = "champion"
CHALLENGER = "challenger"


def endpoint_of(snapshot: Snapshot | None, name: str) -> ServedEndpoint | None:
    """An endpoint in a snapshot."""
    return next((e for e in snapshot.endpoints if e.name == name), None) if snapshot else None


def champion(version: int, bundle: str) -> Variant:
    """A version as the variant that answers by default."""
    return Variant(name=CHAMPION, model_version=version, bundle_digest=bundle)


def with_challenger(endpoint: ServedEndpoint, version: int, bundle: str, *, share: float, release_id: str) -> ServedEndpoint:
    """The endpoint with a challenger that answers `share` (0 to 1) of the units; those units are scored by both.

    The release's id salts the split, so that each release draws its own units, and a restart draws the same.
    """
    return replace(
        endpoint,
        challenger=Variant(name=CHALLENGER, model_version=version, bundle_digest=bundle),
        split=Split(share=share, paired=True, salt=release_id),
        release_id=release_id,
    )


def with_champion(endpoint: ServedEndpoint, version: int, bundle: str, *, release_id: str | None) -> ServedEndpoint:
    """The endpoint with that version for everybody."""
    return replace(without_challenger(endpoint), champion=champion(version, bundle), release_id=release_id)


def without_challenger(endpoint: ServedEndpoint) -> ServedEndpoint:
    """The endpoint with its champion for everybody."""
    return replace(endpoint, challenger=None, split=Split(), release_id=None)


def succeed(snapshot: Snapshot | None, endpoint: ServedEndpoint, *, project: str, environment: str, now: dt.datetime) -> Snapshot:
    """The next generation, with that endpoint as given and all others as they were."""
    others = tuple(e for e in snapshot.endpoints if e.name != endpoint.name) if snapshot else ()
    return Snapshot(
        project=project,
        environment=environment,
        generation=(snapshot.generation if snapshot else 0) + 1,
        endpoints=tuple(sorted((*others, endpoint), key=lambda e: e.name)),
        published=now,
    )


def retain(snapshot: Snapshot, units: dict[str, str], *, now: dt.datetime) -> Snapshot:
    """The snapshot with only the endpoints named, each with its randomisation unit; the same one where nothing differs."""
    endpoints = tuple(replace(e, unit=units[e.name]) for e in snapshot.endpoints if e.name in units)
    if endpoints == snapshot.endpoints:
        return snapshot
    return replace(snapshot, generation=snapshot.generation + 1, endpoints=endpoints, published=now)


def serves(snapshot: Snapshot, model: str, version: int) -> bool:
    """Whether a version is the champion of an endpoint of that model."""
    return any(e.model == model and e.champion is not None and e.champion.model_version == version for e in snapshot.endpoints)
