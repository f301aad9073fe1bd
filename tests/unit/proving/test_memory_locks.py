"""The locks of the database in memory."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.base.errors import StoreConflictError
from gateway.proving.memory.locks import Locks, Strength

ROW = ("payment", 1)
OTHER = ("payment", 2)


async def test_who_was_granted_a_lock_but_has_not_woken_yet_waits_for_nobody() -> None:
    locks = Locks()
    assert locks.try_acquire(1, ROW)
    second = asyncio.create_task(locks.acquire(2, ROW))
    await asyncio.sleep(0)
    locks.release_all(1)
    assert not locks.waiting
    # Until now this looked through the circle "2 waits for 2" for ever.
    third = asyncio.create_task(locks.acquire(3, ROW))
    await second
    locks.release_all(2)
    await third


async def test_a_wait_that_would_close_a_circle_fails() -> None:
    locks = Locks()
    assert locks.try_acquire(1, ROW)
    assert locks.try_acquire(2, OTHER)
    first = asyncio.create_task(locks.acquire(1, OTHER))
    await asyncio.sleep(0)
    with pytest.raises(StoreConflictError):
        await locks.acquire(2, ROW)
    locks.release_all(2)
    await first


# Held by one transaction → wanted by another → whether it waits: PostgreSQL's table 13.3, of the strengths that we use.
@pytest.mark.parametrize(
    ("held", "wanted", "waits"),
    [
        (Strength.KEY_SHARE, Strength.KEY_SHARE, False),
        (Strength.KEY_SHARE, Strength.NO_KEY_UPDATE, False),
        (Strength.KEY_SHARE, Strength.UPDATE, True),
        (Strength.NO_KEY_UPDATE, Strength.KEY_SHARE, False),
        (Strength.NO_KEY_UPDATE, Strength.NO_KEY_UPDATE, True),
        (Strength.NO_KEY_UPDATE, Strength.UPDATE, True),
        (Strength.UPDATE, Strength.KEY_SHARE, True),
        (Strength.UPDATE, Strength.NO_KEY_UPDATE, True),
        (Strength.UPDATE, Strength.UPDATE, True),
    ],
)
def test_which_locks_stand_beside_each_other(held: Strength, wanted: Strength, waits: bool) -> None:
    locks = Locks()
    assert locks.try_acquire(1, ROW, held)
    assert locks.try_acquire(2, ROW, wanted) is not waits
    # One's own hinder nobody, and what is held stays as strong as it was.
    assert locks.try_acquire(1, ROW, Strength.KEY_SHARE)
    assert locks.try_acquire(3, ROW, Strength.UPDATE) is False


async def test_who_gives_up_lets_those_behind_go_on() -> None:
    locks = Locks()
    assert locks.try_acquire(1, ROW, Strength.KEY_SHARE)
    changing = asyncio.create_task(locks.acquire(2, ROW, Strength.UPDATE))
    await asyncio.sleep(0)
    assert locks.try_acquire(3, ROW, Strength.NO_KEY_UPDATE)
    paying = asyncio.create_task(locks.acquire(4, ROW, Strength.NO_KEY_UPDATE))
    await asyncio.sleep(0)
    locks.release_all(3)
    await asyncio.sleep(0)
    assert (changing.done(), paying.done()) == (False, False)  # it came later
    changing.cancel()
    await asyncio.wait([changing])
    async with asyncio.timeout(60):
        await paying
    assert not locks.waiting


Steps = list[tuple[int, Strength]]
"""Row and strength, one after another, of a transaction."""


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(Strength)), min_size=1, max_size=4), max_size=6),
    st.randoms(use_true_random=False),
)
def test_whatever_transactions_ask_for_none_waits_for_ever_and_none_stand_where_they_must_not(
    transactions: list[Steps], chance: Random
) -> None:
    asyncio.run(_all_end(transactions, chance))


async def _all_end(transactions: list[Steps], chance: Random) -> None:
    locks, held = Locks(), dict[int, dict[int, Strength]]()

    async def transaction(number: int, steps: Steps) -> None:
        held[number] = {}
        try:
            for row, strength in steps:
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
                await locks.acquire(number, ("row", row), strength)
                held[number][row] = max(strength, held[number].get(row, strength))
                for other, rows in held.items():
                    if other != number and row in rows:
                        beside = {rows[row], held[number][row]}
                        assert Strength.UPDATE not in beside
                        assert Strength.KEY_SHARE in beside
        except StoreConflictError:
            # Where it is alone, nobody waits for it: a circle takes two.
            assert len(held) > 1
        finally:
            del held[number]
            locks.release_all(number)

    # A circle that nobody sees would leave tasks that never end: nothing here waits for time.
    tasks = [asyncio.create_task(transaction(n, steps)) for n, steps in enumerate(transactions)]
    for _ in range(500):
        await asyncio.sleep(0)
    assert all(task.done() for task in tasks)
    for task in tasks:
        task.result()
    assert not locks.waiting
    assert locks._holders == {}
    assert locks._queues == {}
