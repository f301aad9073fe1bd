"""What is needed no more is cleared away beside payments, not before them."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import pytest

from gateway.app.schedule import CLEARING_AWAY, RESTS, ScheduleStage
from gateway.base.calendar import BusinessDays
from gateway.proving.memory import Database, MemoryClock, MemoryStore
from tests.support.stages import timers

BATCHES: Final = 3
"""Full ones, before nothing is left."""

SERVICES: Final = {
    "consent-expiry": ("expiry", "expire"),
    "relayed-events": ("outbox", "keep_up"),
    "used-proofs": ("used_proofs", "purge"),
    "disclosures-destroyed": ("disclosures", "destroy"),
    "silent-requests": ("silent_requests", "destroy"),
    "old-rows": ("old_rows", "destroy"),
}
"""Timer → attribute of the stage, and the method that does a batch."""


@dataclass
class Batches:
    """A service with so many full batches to do, which take their time."""

    method: str
    took: list[float] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return self._batch if name == self.method else self._nothing

    async def _nothing(self) -> int:
        return 0

    async def _batch(self) -> int:
        now = asyncio.get_running_loop().time
        began = now()
        while now() == began:
            pass
        self.took.append(now() - began)
        return 1 if len(self.took) <= BATCHES else 0


async def rests_of(timer: str) -> tuple[Batches, list[float]]:
    """Run the schedule until the timer has nothing to do: what its batches took, and how long it rested between."""
    service, method = SERVICES[timer]
    batches, rests, idle = Batches(method), [], asyncio.Event()

    async def pause(name: str, seconds: float) -> None:
        if name == f"{timer}: rest":
            rests.append(seconds)
            return
        if name == timer:
            idle.set()
        await asyncio.Event().wait()

    clock = MemoryClock()
    stage = timers(MemoryStore(Database()), clock, days=BusinessDays())
    runtime = replace(stage.runtime, pause=pause)
    stage = replace(stage, runtime=runtime, **{service: cast("Any", batches)})
    await _run_until(stage, idle)
    return batches, rests


async def _run_until(stage: ScheduleStage, idle: asyncio.Event) -> None:
    async with asyncio.timeout(30):
        await stage.run(idle)


@pytest.mark.parametrize("timer", sorted(CLEARING_AWAY))
async def test_what_clears_away_rests_several_times_as_long_as_it_worked(timer: str) -> None:
    batches, rests = await rests_of(timer)
    assert len(rests) == BATCHES
    assert all(rest >= RESTS * took for rest, took in zip(rests, batches.took, strict=False))


async def test_what_somebody_waits_for_goes_on_at_once() -> None:
    batches, rests = await rests_of("consent-expiry")
    assert len(batches.took) == BATCHES + 1
    assert not rests
