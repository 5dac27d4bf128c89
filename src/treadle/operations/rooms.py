"""All rooms' operations, loaded for the table."""

from treadle.operations import data, ledger, monitoring, pipelines, registry, releases, tracking, workshop

__all__ = ["data", "ledger", "monitoring", "pipelines", "registry", "releases", "tracking", "workshop"]
