"""What names and texts may be: one place for the limits, so that every face refuses the same things with the same words."""

import datetime as dt
import functools
import math

from treadle.records.clock import from_micros
from treadle.records.errors import TreadleError

#: Characters of the name of a metric, parameter or tag; of an experiment's; of another thing's; of a value; of a text that describes.
NAME = 250
EXPERIMENT = 500
TITLE = 400
VALUE = 100_000
TEXT = 65_535
ID = 200
#: Microseconds since 1970 of the first and the last moment that is a date.
FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
_WORDS = {"nan": math.nan, "infinity": math.inf, "-infinity": -math.inf, "inf": math.inf, "-inf": -math.inf}
#: Beyond the 64-bit integers.
EDGE = 2**63


@functools.lru_cache(8192)
def check_name(name: str, what: str) -> None:
    """A name of a metric, parameter or tag: 1 to 250 characters that can be seen."""
    if not name:
        raise TreadleError(f"A {what} has no name.", remedy="Give it one, such as 'auc'.", details={"field": what})
    if len(name) > NAME:
        raise TreadleError(
            f"The name of a {what} has {len(name):,} characters: {name[:40]!r}….",
            remedy=f"Use at most {NAME}.",
            details={"field": what, "most": NAME},
        )
    if not name.isprintable():
        raise TreadleError(
            f"The name of a {what} holds a character that cannot be seen: {name[:80]!a}.",
            remedy="Use letters, digits, spaces and signs; no NUL, line break or direction mark.",
            details={"field": what},
        )


def check_text(text: str, what: str, limit: int = VALUE, *, needed: bool = False) -> None:
    """A text of at most `limit` characters without NUL, which no database keeps."""
    if needed and not text:
        raise TreadleError(f"The {what} is empty.", remedy=f"Give a {what}.", details={"field": what})
    if len(text) > limit:
        raise TreadleError(
            f"The {what} has {len(text):,} characters: {text[:40]!r}….",
            remedy=f"Use at most {limit:,}; keep longer things as a file of the run.",
            details={"field": what, "most": limit},
        )
    if "\x00" in text:
        raise TreadleError(
            f"The {what} holds a NUL character: {text[:80]!a}.", remedy="Leave it out; a database keeps none.", details={"field": what}
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TreadleError(
            f"The {what} is no Unicode text: {text[:80]!a}.",
            remedy="Decode it with the right encoding first.",
            details={"field": what},
        ) from error


def check_pairs(pairs: dict[str, str], what: str) -> None:
    """Names and their values."""
    for name, value in pairs.items():
        check_name(name, what)
        check_text(value, f"value of the {what} {name!r}")


def check_id(given: str, what: str) -> None:
    """An id that a caller made."""
    if not given or len(given) > ID or not given.isprintable() or "/" in given:
        raise TreadleError(
            f"{given[:80]!a} is no id of a {what}.",
            remedy=f"Make one of at most {ID} visible characters without '/': treadle.records.ids.new_id('…')",
            details={"field": what},
        )


def check_folder(folder: str) -> None:
    """A folder: names with `/` between, or nothing for the top."""
    check_text(folder, "folder", TITLE)
    if folder and (not folder.isprintable() or any(part.strip() in ("", ".", "..") for part in folder.split("/"))):
        raise TreadleError(f"{folder[:80]!a} is no folder.", remedy="Write names with '/' between: team/quarter")


def check_moment(time: int | None, what: str) -> None:
    """Microseconds since 1970 that are a date."""
    if time is not None and not FIRST <= time <= LAST:
        raise TreadleError(
            f"The {what} {time} is no date: it is not between the years 1 and 9999.",
            remedy="Give microseconds since 1970-01-01 UTC.",
            details={"field": what},
        )


def moment_of(created: int | None, now: dt.datetime) -> dt.datetime:
    """When something was made: now, or elsewhere before."""
    check_moment(created, "creation")
    return now if created is None else from_micros(created)


def number(value: float | str, key: str) -> float:
    """A measured value: a number, or the word for what JSON has no number for.

    >>> number("NaN", "loss"), number("-Infinity", "loss"), number(1, "loss")
    (nan, -inf, 1.0)
    """
    if isinstance(value, str):
        known = _WORDS.get(value.lower())
        if known is not None:
            return known
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise TreadleError(
            f"Metric {key!r} has the value {str(value)[:40]!r}, which is no number.",
            remedy="Give a number, or 'NaN', 'Infinity', '-Infinity'.",
            details={"field": "value", "metric": key},
        ) from None


def check_step(step: int, key: str) -> None:
    """A step is a 64-bit integer."""
    if not -EDGE <= step < EDGE:
        raise TreadleError(
            f"Metric {key!r} has the step {step}, which is no 64-bit integer.", remedy="Count from 0.", details={"metric": key}
        )
