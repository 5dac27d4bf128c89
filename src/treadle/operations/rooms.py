"""All rooms' operations, loaded for the table."""

from treadle.operations import data, diagnosis, ledger, monitoring, pipelines, registry, releases, tracking, webhooks, workshop

__all__ = ["data", "diagnosis", "ledger", "monitoring", "pipelines", "registry", "releases", "tracking", "webhooks", "workshop"]
