"""The locks of the database in memory."""

import asyncio

import pytest

from gateway.base.errors import StoreConflictError
from gateway.proving.memory.locks import Locks

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
