"""The hallway every room opens onto: runs and measurements, lineage, events, audit, actors, and the one door for operations."""

from treadle.ledger.dispatch import Dispatcher, Unchanged
from treadle.ledger.events import events_after
from treadle.ledger.service import Ledger

__all__ = ["Dispatcher", "Ledger", "Unchanged", "events_after"]
