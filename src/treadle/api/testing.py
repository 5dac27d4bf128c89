"""`POST /testing/reset`, which empties a home that was made for tests; no other server has it."""

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from treadle.api.errors import encode
from treadle.api.guard import answer
from treadle.records.calls import Actor
from treadle.records.errors import TreadleError

#: Where it stands.
TESTING = "/testing"


class Reset:
    """The route as an ASGI application.

    Args:
        reset: empties the home, as somebody who may.
    """

    def __init__(self, reset: Callable[[Actor], None]):
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        method = scope["method"]
        try:
            if (method, scope["path"]) != ("POST", f"{TESTING}/reset"):
                raise TreadleError(f"There is nothing for {method} here.", remedy=f"POST {TESTING}/reset", code="not_found")
            await run_in_threadpool(self._reset, scope["state"]["actor"])
        except TreadleError as error:
            await answer(send, *encode(error), method=method)
            return
        await answer(send, 200, b"{}", method=method)
