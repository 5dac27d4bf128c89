"""All rooms' operations, loaded for the table."""

from treadle.operations import data, ledger, monitoring, pipelines, registry, releases, tracking, webhooks, workshop

__all__ = ["data", "ledger", "monitoring", "pipelines", "registry", "releases", "tracking", "webhooks", "workshop"]
