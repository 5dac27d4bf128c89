"""What waits, off the event loop: calls in threads, and writes that the database finishes.

A small request's answer takes less than what a general way to a thread and back costs (cancel scopes, limiters, a future chained to
another), so this is the short one: a queue there, `call_soon_threadsafe` back. What was begun is finished, whoever still waits for it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
#: Calls at a time; more wait for their turn.
_THREADS = 40
_pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="treadle-api")


def in_thread(function: Callable[..., T], *given: Any) -> "asyncio.Future[T]":
    """Call a function that may wait, in a thread; its answer or its exception is the future's."""
    return until_done(_pool.submit(function, *given))


def until_done(work: "Future[T]") -> "asyncio.Future[T]":
    """What a future of another thread will hold, for the event loop to wait for."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[T] = loop.create_future()

    def done(work: "Future[T]") -> None:
        if not loop.is_closed():  # else nobody waits any more
            loop.call_soon_threadsafe(_settle, waiting, work)

    work.add_done_callback(done)
    return waiting


def _settle(waiting: "asyncio.Future[Any]", work: "Future[Any]") -> None:
    if waiting.done():
        return
    if work.cancelled():
        waiting.cancel()
        return
    error = work.exception()
    if error is None:
        waiting.set_result(work.result())
    else:
        waiting.set_exception(error)
