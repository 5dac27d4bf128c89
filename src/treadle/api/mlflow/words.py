"""Our words and the protocol's: times, values, states, views, names that are made up, and where files are."""

import datetime as dt
import math
import random
import re
from typing import Any

from treadle.api.mlflow.table import invalid, wrong_type
from treadle.records.clock import micros
from treadle.records.states import RunState
from treadle.records.tracking import View
from treadle.registry.sources import STORES, in_store

#: The protocol's word for each state of a run.
STATUS = {
    RunState.queued: "SCHEDULED",
    RunState.running: "RUNNING",
    RunState.waiting: "RUNNING",
    RunState.cancelling: "RUNNING",
    RunState.finished: "FINISHED",
    RunState.failed: "FAILED",
    RunState.cancelled: "KILLED",
}
#: And back; numbers are how some clients write them.
STATE: dict[str | int, RunState] = {
    "RUNNING": RunState.running,
    "SCHEDULED": RunState.queued,
    "FINISHED": RunState.finished,
    "FAILED": RunState.failed,
    "KILLED": RunState.cancelled,
    1: RunState.running,
    2: RunState.queued,
    3: RunState.finished,
    4: RunState.failed,
    5: RunState.cancelled,
}
_VIEWS: dict[str | int, View] = {
    "": View.active,
    "ACTIVE_ONLY": View.active,
    "DELETED_ONLY": View.deleted,
    "ALL": View.all,
    1: View.active,
    2: View.deleted,
    3: View.all,
}
#: The tag that is a run's name.
NAME_TAG = "mlflow.runName"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ADJECTIVES = (
    "able amber bold brisk calm candid clever crisp dapper eager fair fond gentle glad grand handy humble jolly keen kind learned lively "
    "loud merry mild neat nimble polite proud quick quiet rare ripe sedate sharp shy silent sleek smart spry stately sunny tidy trusting "
    "upbeat valiant vivid warm wise witty zealous"
).split()
_ANIMALS = (
    "ant badger bat bear bee bird boar bug carp cat chimp cod crab crane crow deer dog dolphin donkey dove duck eel elk fawn finch fish "
    "fly foal fowl fox frog gnat goat goose grouse hare hawk hen hog horse jay kit koi lamb lark loon lynx mare mink mole moose moth mouse "
    "mule newt otter owl panda perch pig pug quail ram rat ray robin rook seal shad shark sheep shrew skink slug snail snake sow sponge "
    "squid stag stork swan tern toad trout vole wasp whale wolf worm wren yak zebra"
).split()


def millis(moment: dt.datetime | int | None) -> int:
    """Milliseconds since 1970 of a moment, or of microseconds."""
    if moment is None:
        return 0
    return (moment if isinstance(moment, int) else micros(moment)) // 1000


def value(number: float | str) -> float | str:
    """A measured value; what JSON has no number for by its word.

    >>> value(float("nan")), value(float("-inf")), value(2.0)
    ('NaN', '-Infinity', 2.0)
    """
    if isinstance(number, str):
        return number
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def pairs(named: dict[str, str]) -> list[dict[str, str]]:
    """Tags and parameters as a list."""
    return [{"key": key, "value": text} for key, text in named.items()]


def view(asked: str | int, parameter: str) -> View:
    """Which of them a listing shows."""
    if asked not in _VIEWS:
        kind = "int" if isinstance(asked, int) else "str"
        raise wrong_type(parameter, str(asked) if kind == "int" else f'"{asked[:80]}"', kind)  # type: ignore[index]
    return _VIEWS[asked]


def made_up_name() -> str:
    """A name for what was given none: `bustling-shad-991`."""
    return f"{random.choice(_ADJECTIVES)}-{random.choice(_ANIMALS)}-{random.randrange(1000)}"


def location(experiment_id: str, own: str) -> str:
    """Where an experiment's files are."""
    return own or f"mlflow-artifacts:/{experiment_id}"


def check_location(given: str) -> None:
    """Where files may be: here, or where the client itself can write. Not on this machine's disk, nor on a server of anybody's choice.

    Raises:
        ProtocolError: another scheme or host, a local path, a way out of the root.
    """
    if not given:
        return
    bad = f"Invalid artifact location: '{given[:200]}'."
    if len(given) > 2048:
        raise invalid("'artifact_location' exceeds the maximum length of 2048 characters")
    if not given.isprintable() or any(sign in given for sign in "#?\\") or "%" in given:
        raise invalid(f"{bad} It may not have a query, a fragment, a back-slash or a percent sign.")
    scheme = _SCHEME.match(given)
    rest = given[scheme.end() :] if scheme else given
    if any(part in (".", "..") for part in rest.split("/")):
        raise invalid(f"{bad} It may not have relative parts.")
    if not scheme:
        raise invalid(f"{bad} A path of this machine is no place for it; give mlflow-artifacts:/…, or an object store's address.")
    name = scheme[1].lower()
    if name == "mlflow-artifacts" and rest.startswith("/") and not rest.startswith("//"):
        return
    if in_store(given):  # where clients write files themselves: never a path of this machine, nor a host of anybody's choice
        return
    raise invalid(
        f"{bad} It must be mlflow-artifacts:/… (of this server: one slash), or an address of a store ({', '.join(STORES)}) that names no "
        "host but its maker's."
    )


def known_keys(found: dict[str, Any]) -> dict[str, Any]:
    """An answer without its empty lists and unset fields."""
    return {key: part for key, part in found.items() if part not in (None, [], {})}
