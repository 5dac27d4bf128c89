"""The operations from afar: a thin HTTP transport with the semantics of a call in process, and predictions from a gateway.

`Client` is control plane (every operation of the table); `treadle.client.inference` is data plane.
"""

from treadle.client.http import Client

__all__ = ["Client"]
