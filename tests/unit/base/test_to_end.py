"""What cannot be cancelled has ended when whoever waited for it goes on."""

import asyncio
import threading

import pytest

from gateway.base.to_end import in_thread, to_end


async def test_a_thread_has_ended_when_whoever_waited_is_cancelled() -> None:
    began, may_end = threading.Event(), threading.Event()
    did: list[str] = []

    def start() -> None:
        began.set()
        may_end.wait(60)
        did.append("started")

    async def run() -> None:
        try:
            await in_thread(start)
        finally:
            did.append("cleared up")

    running = asyncio.create_task(run())
    await asyncio.to_thread(began.wait, 60)
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert did == []
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert did == ["started", "cleared up"]


async def test_results_and_errors_come_as_they_are() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_an_error_is_not_lost_to_a_cancellation(fails: bool) -> None:
    may_end = asyncio.Event()

    async def work() -> str:
        await may_end.wait()
        if fails:
            raise ValueError("it went wrong")
        return "done"

    waiting = asyncio.create_task(to_end(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(ValueError if fails else asyncio.CancelledError):
        await waiting
