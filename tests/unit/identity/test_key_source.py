import asyncio
from datetime import UTC, datetime

import pytest

from gateway.base.errors import StoreUnavailableError
from gateway.directory.partners import PartnerKey
from gateway.identity.jose.keys import (
    FLOOD_OVER_SECONDS,
    FRUITLESS_MAX,
    UNKNOWN_KEY_REFRESH_SECONDS,
    CachedKeySource,
    Registry,
)
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
        async with asyncio.timeout(60), self.called:
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

    def count(self, stage: str, outcome: str, *, reason: str = "", network: str = "", n: int = 1) -> None:
        self.outcomes.append(outcome)

    def batch(self, stage: str, *, size: int, seconds: float) -> None: ...
    def delay(self, span: str, seconds: float, *, n: int = 1) -> None: ...

    def hops(self, hop: str, seconds: object) -> None: ...
    def spans(self, span: str, seconds: object) -> None: ...
    def level(self, name: str, value: float | None, **labels: str) -> None: ...
    def note(self, event: str, *, level: str = "info", **fields: object) -> None: ...


class Time:
    def __init__(self) -> None:
        self.now = 100.0

        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


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
    ages = [keys.age_seconds]
    await keys.refresh()
    registry.down = True
    time.now += 5
    with pytest.raises(StoreUnavailableError):
        await keys.refresh()
    assert keys.key("k-1") is not None
    assert [*ages, keys.age_seconds] == [None, 5]
    assert counts.outcomes == ["refreshed", "unavailable"]


async def test_an_unknown_key_is_looked_for_at_once() -> None:
    registry, time = Registered(), Time()
    keys = CachedKeySource(registry, Counts(), monotonic=time, sleep=time.sleep)
    await keys.refresh()
    registry.keys.append(key("k-new"))
    assert keys.key("k-new") is None
    assert await keys.refresh_if_stale()
    assert keys.key("k-new") == key("k-new")
    assert (registry.calls, time.slept) == (2, [])


async def test_a_key_used_in_the_second_of_its_registration_waits_for_the_next_permitted_read() -> None:
    registry, time = Registered(), Time()
    keys = CachedKeySource(registry, Counts(), monotonic=time, sleep=time.sleep)
    await keys.refresh()
    for kid, seconds in (("k-2", 0.0), ("k-3", 0.75), ("k-4", 0.0)):
        registry.keys.append(key(kid))
        time.now += 0.25
        assert keys.key(kid) is None
        assert await keys.refresh_if_stale()
        assert keys.key(kid) is not None
        assert time.slept == ([seconds] if seconds else [])
        time.slept.clear()
        time.now += 0.0 if kid == "k-2" else 1.0


async def test_a_flood_of_keys_that_do_not_exist_holds_nobody_up_for_long_and_asks_once_a_second() -> None:
    registry, time = Registered(), Time()
    keys = CachedKeySource(registry, Counts(), monotonic=time, sleep=time.sleep)
    await keys.refresh()
    began = time.now
    for n in range(1000):
        assert keys.key(f"junk-{n}") is None
        await keys.refresh_if_stale()
        time.now += 0.01
    assert registry.calls <= 1 + (time.now - began) + 1
    assert sum(time.slept) <= FRUITLESS_MAX * UNKNOWN_KEY_REFRESH_SECONDS
    # After the flood everything is as before.
    time.now += FLOOD_OVER_SECONDS
    for kid in ("k-2", "k-3"):
        registry.keys.append(key(kid))
        assert keys.key(kid) is None
        assert await keys.refresh_if_stale()
        assert keys.key(kid) is not None


async def test_a_key_that_is_found_ends_a_flood() -> None:
    registry, time = Registered(), Time()
    keys = CachedKeySource(registry, Counts(), monotonic=time, sleep=time.sleep)
    for n in range(10):
        keys.key(f"junk-{n}")
        await keys.refresh_if_stale()
        time.now += 0.4
    registry.keys.append(key("k-2"))
    assert keys.key("k-2") is None
    time.now += 1.0
    assert await keys.refresh_if_stale()
    time.slept.clear()
    assert await keys.refresh_if_stale()
    assert time.slept == [1.0]


async def test_a_read_that_began_before_the_key_was_asked_for_is_not_enough() -> None:
    registry = Registered()
    keys = CachedKeySource(registry, Counts(), monotonic=Time())
    registry.gate = asyncio.Event()
    background = asyncio.create_task(keys.refresh())
    await registry.wait_for_calls(1)
    asking = asyncio.create_task(keys.refresh_if_stale())
    await asyncio.sleep(0)
    registry.gate.set()
    assert await asking
    await background
    assert registry.calls == 2


async def test_failed_attempts_are_rate_limited_too() -> None:
    registry, time = Registered(), Time()
    registry.down = True
    keys = CachedKeySource(registry, Counts(), monotonic=time, sleep=time.sleep)
    assert not await keys.refresh_if_stale()
    assert not await keys.refresh_if_stale()
    assert (registry.calls, time.slept) == (2, [1.0])


async def test_simultaneous_callers_share_one_read() -> None:
    registry, time = Registered(), Time()
    keys = CachedKeySource(registry, Counts(), monotonic=time, sleep=time.sleep)
    registry.gate = asyncio.Event()
    first = asyncio.create_task(keys.refresh_if_stale())
    await registry.wait_for_calls(1)
    # What these look for may have been registered after that read began: the next is for all of them.
    others = [asyncio.create_task(keys.refresh_if_stale()) for _ in range(5)]
    await asyncio.sleep(0)
    registry.gate.set()
    assert await asyncio.gather(first, *others) == [True] * 6
    assert registry.calls == 2


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
