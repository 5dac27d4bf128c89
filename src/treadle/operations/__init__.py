"""The verbs of the system, each declared once: a request record, its route, its permission, its documentation."""

from treadle.operations.table import Operation, Writes, implements, operation, operations

__all__ = ["Operation", "Writes", "implements", "operation", "operations"]
