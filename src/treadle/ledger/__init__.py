"""The hallway every room opens onto: runs and measurements, lineage, events, audit, actors, and the one door for operations."""
