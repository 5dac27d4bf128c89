"""What waits off the event loop: answers, exceptions, and who went away meanwhile."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from treadle.api.waiting import in_thread, until_done


def test_an_answer_and_an_exception_come_back_and_the_loop_goes_on_meanwhile():
    async def main():
        begun, go = threading.Event(), threading.Event()

        def work(value):
            begun.set()
            assert go.wait(10)
            return value, threading.current_thread()

        waiting = in_thread(work, 7)
        await in_thread(begun.wait, 10)  # another thread has its turn, and so has this loop
        assert not waiting.done()
        go.set()
        value, thread = await waiting
        assert value == 7
        assert thread is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)

    asyncio.run(main())


def test_who_no_longer_waits_disturbs_nobody_and_the_work_is_finished(caplog):
    async def main():
        go, finished = threading.Event(), threading.Event()
        waiting = in_thread(lambda: (go.wait(10), finished.set()))
        waiting.cancel()
        go.set()
        assert await in_thread(finished.wait, 10)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    assert not caplog.records


def test_work_that_was_cancelled_before_its_turn_is_told_so():
    async def main():
        work = Future()
        waiting = until_done(work)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())


def test_a_loop_that_ended_meanwhile_is_left_alone():
    go, finished = threading.Event(), threading.Event()

    async def main():
        in_thread(lambda: go.wait(10)).add_done_callback(lambda _: finished.set())

    asyncio.run(main())
    go.set()
    assert not finished.wait(0.2)
    assert asyncio.run(_answer()) == 1  # and the thread serves the next one


async def _answer():
    return await in_thread(int, "1")
