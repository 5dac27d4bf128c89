"""What a search asks for, once its text has been read: comparisons that must all hold, and the order of what is found."""

from typing import Any

from msgspec import Struct


class Comparison(Struct, frozen=True):
    """One condition.

    Args:
        kind: metric, param, tag, attribute or dataset.
        key: its name; an attribute's is the protocol's canonical one (`start_time`, never `Created`).
        op: `=`, `!=`, `>`, `>=`, `<`, `<=`, `LIKE`, `ILIKE`, `IN`, `NOT IN`, `IS NULL`, `IS NOT NULL`.
        value: a number for what is numeric, a tuple of texts for the list operators, None for the NULL operators, else text.
    """

    kind: str
    key: str
    op: str
    value: Any = None


class Order(Struct, frozen=True):
    """What to order by; of a logged model's metric also on which data it was measured ("": any)."""

    kind: str
    key: str
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""
