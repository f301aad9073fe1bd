import asyncio
from datetime import UTC, datetime

import pytest

from gateway.adapters.crypto.keys import CachedKeySource, Registry
from gateway.ports import PartnerKey, StoreUnavailableError
from schemas.primitives import PartnerId

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def key(kid: str, *, disabled_at: datetime | None = None) -> PartnerKey:
    return PartnerKey(kid, PartnerId("acme"), "ES256", {"kty": "EC"}, NOW, None, disabled_at)


class Registered:
    """A registry whose answers are scripted, and which can be unreachable or slow."""

    def __init__(self) -> None:
        self.keys = [key("k-1")]
        self.calls = 0
        self.down = False
        self.gate: asyncio.Event | None = None
        self.called = asyncio.Condition()

    async def wait_for_calls(self, calls: int) -> None:
        async with asyncio.timeout(5), self.called:
            await self.called.wait_for(lambda: self.calls >= calls)

    async def __call__(self) -> Registry:
        async with self.called:
            self.calls += 1
            self.called.notify_all()
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise StoreUnavailableError
        return frozenset({"acme"}), list(self.keys)


class Counts:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def count(self, stage: str, outcome: str, *, reason: str = "", n: int = 1) -> None:
        self.outcomes.append(outcome)

    def batch(self, stage: str, *, size: int, seconds: float) -> None: ...
    def delay(self, span: str, seconds: float, *, n: int = 1) -> None: ...
    def level(self, name: str, value: float) -> None: ...
    def note(self, event: str, *, level: str = "info", **fields: object) -> None: ...


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_snapshot_is_replaced_whole() -> None:
    registry = Registered()
    keys = CachedKeySource(registry, Counts())
    assert keys.key("k-1") is None
    assert not keys.partner_exists("acme")
    await keys.refresh()
    assert keys.partner_exists("acme")
    assert not keys.partner_exists("globex")
    registry.keys = [key("k-2")]
    await keys.refresh()
    assert keys.key("k-1") is None
    assert keys.key("k-2") == key("k-2")


async def test_unchanged_key_keeps_its_object_and_a_disabled_one_does_not() -> None:
    registry = Registered()
    keys = CachedKeySource(registry, Counts())
    await keys.refresh()
    first = keys.key("k-1")
    registry.keys = [key("k-1")]
    await keys.refresh()
    assert keys.key("k-1") is first
    registry.keys = [key("k-1", disabled_at=NOW)]
    await keys.refresh()
    assert keys.key("k-1") == key("k-1", disabled_at=NOW)


async def test_last_good_snapshot_stands_while_the_registry_is_away() -> None:
    registry, counts, time = Registered(), Counts(), Time()
    keys = CachedKeySource(registry, counts, monotonic=time)
    assert keys.age_seconds is None
    await keys.refresh()
    registry.down = True
    time.now += 5
    with pytest.raises(StoreUnavailableError):
        await keys.refresh()
    assert keys.key("k-1") is not None
    assert keys.age_seconds == 5
    assert counts.outcomes == ["refreshed", "unavailable"]


async def test_unknown_keys_cost_one_query_a_second() -> None:
    registry, time = Registered(), Time()
    keys = CachedKeySource(registry, Counts(), monotonic=time)
    await keys.refresh()
    assert not await keys.refresh_if_stale()
    time.now += 0.99
    assert not await keys.refresh_if_stale()
    assert registry.calls == 1
    time.now += 0.01
    registry.keys.append(key("k-new"))
    assert await keys.refresh_if_stale()
    assert keys.key("k-new") is not None
    assert not await keys.refresh_if_stale()
    assert registry.calls == 2


async def test_failed_attempts_are_rate_limited_too() -> None:
    registry, time = Registered(), Time()
    registry.down = True
    keys = CachedKeySource(registry, Counts(), monotonic=time)
    assert not await keys.refresh_if_stale()
    assert not await keys.refresh_if_stale()
    assert registry.calls == 1


async def test_simultaneous_callers_share_one_read() -> None:
    registry = Registered()
    keys = CachedKeySource(registry, Counts(), monotonic=Time())
    registry.gate = asyncio.Event()
    callers = [asyncio.create_task(keys.refresh_if_stale()) for _ in range(5)]
    await registry.wait_for_calls(1)
    registry.gate.set()
    assert await asyncio.gather(*callers) == [True] * 5
    assert registry.calls == 1


async def test_background_service_reads_again_and_outlives_an_outage() -> None:
    registry = Registered()
    keys = CachedKeySource(registry, Counts())
    await keys.start(interval_seconds=0.001)
    try:
        registry.down = True
        await registry.wait_for_calls(registry.calls + 3)
        registry.down = False
        registry.keys = [key("k-1", disabled_at=NOW)]
        # The second call from here begins after the first has replaced the snapshot.
        await registry.wait_for_calls(registry.calls + 2)
        assert keys.key("k-1") == key("k-1", disabled_at=NOW)
    finally:
        await keys.stop()
    stopped_at = registry.calls
    await asyncio.sleep(0.01)
    assert registry.calls == stopped_at


async def test_start_fails_loudly_without_a_registry() -> None:
    registry = Registered()
    registry.down = True
    keys = CachedKeySource(registry, Counts())
    with pytest.raises(StoreUnavailableError):
        await keys.start()
    await keys.stop()
