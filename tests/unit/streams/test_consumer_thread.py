"""The thread of a Faust consumer answers whoever calls it, however it ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.app.settings import Settings
from gateway.messaging.settings import KafkaSettings
from streams.app import build_app
from streams.consumer_thread import PromptConsumerThread, answered

WAIT_S = 20.0


class Leaving:
    """Stands for aiokafka's consumer: it takes its time to leave its group."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.may_leave = asyncio.Event()

    async def start(self) -> None:
        pass

    async def leave(self) -> None:
        self.may_leave.set()

    async def stop(self) -> None:
        self.leaves.set()
        await self.may_leave.wait()


@pytest.fixture
async def thread(tmp_path: Path) -> AsyncIterator[Any]:
    app: Any = build_app("t", Settings(home=tmp_path), KafkaSettings("127.0.0.1:1"))
    assert isinstance(app.consumer._thread, PromptConsumerThread)
    made: Any = app.consumer._thread
    made._create_consumer = lambda loop: Leaving()
    await made.start()
    yield made
    if not made.thread_loop.is_closed():
        inside(made, made._consumer.leave())
        await made.stop()


async def nothing() -> str:
    return "done"


def inside(thread: Any, coro: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
    return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coro, thread.thread_loop))


async def leaves(thread: Any) -> None:
    """Until its queue has ended and it leaves its group."""
    await asyncio.wait_for(inside(thread, thread._consumer.leaves.wait()), WAIT_S)


async def test_what_it_does_is_answered_as_it_went(thread: Any) -> None:
    async def fails() -> None:
        raise KeyError("x")

    assert await thread.call_thread(nothing) == "done"
    with pytest.raises(KeyError):
        await thread.call_thread(fails)


@pytest.mark.parametrize("crashes", [True, False], ids=["it crashes", "it is stopped"])
async def test_whoever_calls_as_it_ends_is_answered(thread: Any, *, crashes: bool) -> None:
    here = asyncio.get_running_loop()
    begun: asyncio.Queue[None] = asyncio.Queue()

    async def waits() -> None:
        here.call_soon_threadsafe(begun.put_nowait, None)
        await asyncio.Event().wait()

    # Both that work in it are busy: the third call has not begun.
    calls = [asyncio.ensure_future(thread.call_thread(what)) for what in (waits, waits, nothing)]
    for _ in range(2):
        await asyncio.wait_for(begun.get(), WAIT_S)
    ending = inside(thread, thread.crash(KeyError("x"))) if crashes else asyncio.ensure_future(thread.stop())
    await leaves(thread)
    calls.append(asyncio.ensure_future(thread.call_thread(nothing)))
    # Whoever still commits is told that nothing was.
    commits = asyncio.ensure_future(thread.commit({}))
    answers = await asyncio.wait_for(asyncio.gather(*calls, commits, return_exceptions=True), WAIT_S)
    inside(thread, thread._consumer.leave())
    await ending
    told = ["cancelled" if isinstance(one, asyncio.CancelledError) else one for one in answers]
    # What stands in its queue is done as it ends, unless its caller was told before.
    assert told.pop(2) in ({"done", "cancelled"} if crashes else {"done"})
    assert told == ["cancelled", "cancelled", "cancelled", False]


async def test_the_thread_is_answered_by_a_stage_that_has_crashed(thread: Any) -> None:
    consumer = thread.consumer
    await consumer._method_queue.start()
    await consumer._method_queue.crash(KeyError("x"))
    async with asyncio.timeout(WAIT_S):
        await inside(thread, consumer.threadsafe_partitions_revoked(thread.thread_loop, set()))
        await inside(thread, consumer.threadsafe_partitions_assigned(thread.thread_loop, set()))


async def test_whoever_is_cancelled_as_he_waits_is_cancelled() -> None:
    waiting = asyncio.ensure_future(answered(asyncio.Event().wait(), False))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
