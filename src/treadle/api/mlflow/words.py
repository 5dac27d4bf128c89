"""Our words and the protocol's: times, values, states, views, names that are made up, and where files are."""

import datetime as dt
import random
from typing import Any

from treadle.api.mlflow.table import wrong_type
from treadle.records.clock import micros
from treadle.records.states import RunState
from treadle.records.told import number as number
from treadle.records.told import pairs as pairs
from treadle.records.tracking import View

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


def known_keys(found: dict[str, Any]) -> dict[str, Any]:
    """An answer without its empty lists and unset fields."""
    return {key: part for key, part in found.items() if part not in (None, [], {})}
