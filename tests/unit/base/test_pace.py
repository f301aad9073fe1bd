"""A loop's pace: at once after a rest, otherwise counted from when the last batch began."""

import asyncio

from gateway.base.pace import Pace


async def test_the_first_is_due_and_the_next_an_interval_after_it_began() -> None:
    pace, loop = Pace(1000.0), asyncio.get_running_loop()
    assert pace.due < loop.time()
    before = loop.time()
    pace.begin()
    assert before + 1000.0 <= pace.due <= loop.time() + 1000.0


async def test_whoever_is_late_waits_for_nothing_and_lets_others_have_their_turn() -> None:
    pace = Pace(0.0)
    pace.begin()
    others: list[str] = []
    asyncio.get_running_loop().call_soon(others.append, "their turn")
    await pace.wait()
    assert others == ["their turn"]


async def test_whoever_is_early_waits() -> None:
    pace = Pace(0.02)
    pace.begin()
    due = pace.due
    await pace.wait()
    assert asyncio.get_running_loop().time() >= due - 0.001


async def test_a_loop_rests_for_as_long_as_its_batch_took_and_no_longer_than_it_may() -> None:
    loop = asyncio.get_running_loop()
    pace = Pace(0.0, rest_s_max=1000.0)
    pace.begin()
    began = loop.time()
    await asyncio.sleep(0.02)
    ended = loop.time()
    pace.end()
    assert ended + (ended - began) <= pace.due
    bounded = Pace(0.0, rest_s_max=0.005)
    bounded.begin()
    await asyncio.sleep(0.02)
    bounded.end()
    assert bounded.due <= loop.time() + 0.005


async def test_a_loop_rests_for_so_many_times_as_long_as_it_is_told() -> None:
    loop = asyncio.get_running_loop()
    pace = Pace(0.0, rest_s_max=1000.0, rests=3.0)
    pace.begin()
    began = loop.time()
    await asyncio.sleep(0.02)
    ended = loop.time()
    pace.end()
    assert ended + 3 * (ended - began) <= pace.due


async def test_the_interval_counts_however_short_the_batch_was() -> None:
    pace = Pace(1000.0, rest_s_max=0.02)
    pace.begin()
    due = pace.due
    pace.end()
    assert pace.due == due
