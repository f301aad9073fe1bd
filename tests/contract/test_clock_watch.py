"""A process's time beside a real server's: whose clock is followed, and what is told of it."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from gateway.app.clock import SteadyClock
from gateway.app.clock_watch import watch_clock
from gateway.database.pool import ConnectionPool
from gateway.observability.health import Health, run_checks
from gateway.observability.recording import RecordingObserver

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)


class Rig:
    """A process's clock whose machine's can be set, and which can have stood still without knowing it."""

    def __init__(self, store: ConnectionPool) -> None:
        self.set_by, self.missed = timedelta(), timedelta()
        self.clock = SteadyClock(
            machine=lambda: time.time() + self.set_by.total_seconds(),
            passing=lambda: time.monotonic() - self.missed.total_seconds(),
        )
        self.observer, self.health = RecordingObserver(), Health()
        watch_clock(store, self.clock, self.health, self.observer)

    async def look(self) -> str:
        """Look once; return what the liveness check says."""
        for look in self.health.looks:
            await look()
        return (await run_checks(self.health.liveness))["clock"]

    @property
    def off(self) -> timedelta:
        """How far the process's time is from the true one."""
        return self.clock.now() - datetime.now(UTC)

    @property
    def noted(self) -> list[str]:
        return [n.event for n in self.observer.notes]


@pytest.fixture
async def rig(contract_dsn: str) -> AsyncIterator[Rig]:
    store = ConnectionPool(contract_dsn, pool_size=1)
    await store.start()
    yield Rig(store)
    await store.stop()


def near(found: timedelta, expected: timedelta) -> bool:
    return abs(found - expected) < timedelta(seconds=5)


async def test_a_jump_is_not_followed_and_is_told_once(rig: Rig) -> None:
    assert await rig.look() == "ok"
    rig.set_by = HOUR
    assert [await rig.look(), await rig.look()] == ["ok", "ok"]
    assert near(rig.off, timedelta())
    assert rig.observer.levels["clock_ahead_seconds"] == pytest.approx(3_600, abs=5)
    rig.set_by = timedelta()
    assert await rig.look() == "ok"
    assert rig.noted == ["clock_is_wrong", "clock_is_right_again"]


async def test_a_machine_that_stood_still_without_knowing_it_follows_its_clock_once_that_is_set_right(rig: Rig) -> None:
    """A paused virtual machine: neither of its clocks went on, until NTP sets one of them."""
    rig.missed, rig.set_by = HOUR, -HOUR
    assert near(rig.off, -HOUR)
    assert await rig.look() == "-3600 s from PostgreSQL's"
    rig.set_by = timedelta()
    assert near(rig.off, -HOUR)
    assert await rig.look() == "ok"
    assert near(rig.off, timedelta())


async def test_while_the_server_cannot_be_asked_what_was_found_stands(contract_dsn: str) -> None:
    store = ConnectionPool(contract_dsn, pool_size=1)
    await store.start()
    rig = Rig(store)
    await store.stop()
    rig.set_by = HOUR
    assert await rig.look() == "ok"
    assert near(rig.off, timedelta())
    assert "clock_ahead_seconds" not in rig.observer.levels
