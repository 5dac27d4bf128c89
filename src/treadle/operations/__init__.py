"""The verbs of the system, each declared once: a request record, its route, its permission, its documentation."""

from treadle.operations import rooms as _rooms
from treadle.operations.table import Operation, Writes, implements, operation, operations

assert _rooms  # loads the rooms' files, which fill the table

__all__ = ["Operation", "Writes", "implements", "operation", "operations"]
