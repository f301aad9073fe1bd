"""A stage that is told to stop ends: by itself, cancelled, or past it."""

import asyncio

import pytest

from streams.stopping import Ended, StopSignal, run_until_stopped

LONG_S = 60.0
"""Never waited for by a test that passes."""

SHORT_S = 0.01


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_stage_that_drains_ends_by_itself() -> None:
    stopping, done = StopSignal(), []

    async def stage() -> None:
        await stopping.wait()
        await asyncio.sleep(0)
        done.append("drained")

    running = asyncio.create_task(run_until_stopped(stage(), stopping, drain_s=LONG_S))
    await asyncio.sleep(0)
    stopping.set()
    assert await asyncio.wait_for(running, LONG_S) is Ended.BY_ITSELF
    assert done == ["drained"]


async def test_a_stage_that_is_still_starting_ends_at_once() -> None:
    stopping = StopSignal()
    running = asyncio.create_task(run_until_stopped(never(), stopping, drain_s=LONG_S * 100))
    await asyncio.sleep(0)
    stopping.set()
    assert await asyncio.wait_for(running, LONG_S) is Ended.CANCELLED


async def test_a_stage_that_waits_for_a_server_past_its_time_is_cancelled() -> None:
    stopping = StopSignal()

    async def stage() -> None:
        await stopping.wait()
        await never()

    running = asyncio.create_task(run_until_stopped(stage(), stopping, drain_s=SHORT_S))
    await asyncio.sleep(0)
    stopping.set()
    assert await asyncio.wait_for(running, LONG_S) is Ended.CANCELLED


async def test_a_stage_that_failed_before_it_had_started_fails_once_it_has_closed() -> None:
    stopping = StopSignal()

    async def stage() -> None:
        try:
            raise LookupError
        finally:
            stopping.close()
            # As whoever closes connections: others are at work meanwhile.
            for _ in range(10):
                await asyncio.sleep(0)

    with pytest.raises(LookupError):
        await run_until_stopped(stage(), stopping, drain_s=LONG_S)


async def test_a_stage_that_failed_and_cannot_close_is_no_clean_end() -> None:
    stopping = StopSignal()

    async def stage() -> None:
        try:
            raise LookupError
        finally:
            stopping.close()
            await never()

    ended = await run_until_stopped(stage(), stopping, drain_s=SHORT_S)
    assert (ended, stopping.awaited) == (Ended.CANCELLED, True)


async def test_a_part_that_cancels_its_stage_while_it_stops_is_no_error_of_the_process() -> None:
    stopping = StopSignal()

    async def stage() -> None:
        await stopping.wait()
        raise asyncio.CancelledError

    running = asyncio.create_task(run_until_stopped(stage(), stopping, drain_s=LONG_S))
    await asyncio.sleep(0)
    stopping.set()
    assert await asyncio.wait_for(running, LONG_S) is Ended.CANCELLED


async def test_a_stage_that_was_cancelled_before_it_was_told_to_stop_is_one() -> None:
    async def stage() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run_until_stopped(stage(), StopSignal(), drain_s=LONG_S)


async def test_a_stage_that_cannot_be_cancelled_is_cut() -> None:
    stopping, over = StopSignal(), asyncio.Event()

    async def stage() -> None:
        await stopping.wait()
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    running = asyncio.create_task(run_until_stopped(stage(), stopping, drain_s=SHORT_S, cancel_s=SHORT_S))
    await asyncio.sleep(0)
    stopping.set()
    assert await asyncio.wait_for(running, LONG_S) is Ended.CUT
    over.set()


@pytest.mark.parametrize("told", [False, True])
async def test_a_stage_that_fails_fails(told: bool) -> None:
    stopping = StopSignal()

    async def stage() -> None:
        if told:
            await stopping.wait()
        raise LookupError

    running = asyncio.create_task(run_until_stopped(stage(), stopping, drain_s=LONG_S))
    await asyncio.sleep(0)
    if told:
        stopping.set()
    with pytest.raises(LookupError):
        await asyncio.wait_for(running, LONG_S)
