"""Releases: move traffic from one model version to another, by evidence with a stated error rate, and take it back.

`sequential` is the test, `advance` the pure decision, `service` the verbs, `publish` what gateways pull, `declare` the constructors.
"""

__all__ = ["advance", "declare", "publish", "sequential", "service"]
