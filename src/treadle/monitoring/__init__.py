"""Monitoring: fold the prediction log into a table, join outcomes, watch quality, calibration and drift, and raise alarms.

`service` has the verbs; `fold` is the shipper; `watch` keeps recent blocks in memory; `decay`, `calibration`, `drift` are the tests.
Importing the room costs nothing; `fold` and `watch` bring Polars in when they are used.
"""

__all__ = ["declare", "service"]
