"""Verbs of this room that are declared and not there yet: they say so. Whoever makes one takes it away here."""

from typing import Any, NoReturn

from treadle.operations import implements
from treadle.operations import tracking as ops
from treadle.records.calls import Call
from treadle.records.errors import TreadleError
from treadle.store.db import Connection


class Pending:
    """What is still to be made."""


def _pending(request: type) -> None:
    def method(self: Pending, tx: Connection, request: Any, call: Call) -> NoReturn:
        raise TreadleError(f"{type(request).__name__} is not there yet.", remedy="It comes with the next release.", code="not_implemented")

    setattr(Pending, request.__name__, implements(request)(method))


for _request in (
    ops.RemoveForGood,
    ops.SetRetention,
    ops.ListRetention,
    ops.ApplyRetention,
):
    _pending(_request)
