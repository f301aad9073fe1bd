"""What every stage stands on, whether it is a process, a simulated worker or a test's."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.app.unit import GatewayUnit
from gateway.base.process import Clock, Observer
from gateway.consents.ended_watch import LOOK_S, EndedConsentWatch
from gateway.database.unit import Store
from gateway.observability.health import Health, Watchdog

STALL_AFTER_S: Final = 60.0

Pause = Callable[[str, float], Awaitable[None]]
"""Waits before the work of this name is looked for again, for so many seconds."""


async def sleep(_: str, seconds: float) -> None:
    """Implements :data:`Pause`: let the time pass."""
    await asyncio.sleep(seconds)


async def always_due() -> int:
    """For :meth:`Runtime.watch`: work waits at all times, so a timer that has not come round is a stall."""
    return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What every stage has.

    Attributes:
        worker: names it in leases and reports; never two alike.
        health: where a stage adds checks of its own.
        stall_after_s: no progress for this long, with work waiting, is a stall.
        pause: how its timers wait.
    """

    store: Store[GatewayUnit]
    observer: Observer
    clock: Clock
    worker: str
    health: Health = field(default_factory=Health)
    stall_after_s: float = STALL_AFTER_S
    pause: Pause = sleep

    def watch(self, name: str, waiting: Callable[[], Awaitable[int]], *, pause_s: float = 0.0) -> Watchdog:
        """Make liveness fail when what has this name stands still while work waits.

        Args:
            name: of the check.
            waiting: how much work waits.
            pause_s: how long it pauses when it has nothing to do.
        """
        watchdog = Watchdog(stall_after_s=self.stall_after_s + pause_s, waiting=waiting)
        self.health.liveness[name] = watchdog.check
        return watchdog

    async def repeat(self, name: str, work: Callable[[], Awaitable[int]], pause_s: float, *, full: int = 1) -> None:
        """Do a timer's work for ever: again at once after ``full`` of it or more, else after a pause.

        Always due: a timer that has not come round is a stall, also where there is nothing to do.

        Args:
            name: of the timer, and of what tells that it stands still.
            work: does some, and returns how much that was.
            pause_s: seconds.
            full: what ``work`` returns where more may wait.
        """
        watchdog = self.watch(name, always_due, pause_s=pause_s)
        while True:
            while await work() >= full:
                watchdog.progress()
            watchdog.progress()
            await self.pause(name, pause_s)


async def work_until(stopping: asyncio.Event, workers: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Run a stage's workers side by side until it is told to stop, then cut them.

    What one of them raises ends the others, and comes out in an exception group.

    Args:
        stopping: set, it ends them.
        workers: name of the task → its work.
    """
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work, name=name) for name, work in workers.items()]
        await stopping.wait()
        for task in running:
            task.cancel()


async def look_at_ends(runtime: Runtime, watch: EndedConsentWatch, interval_s: float = LOOK_S) -> None:
    """Compare what a stage does with the ends of consents, again and again."""
    while True:
        await watch.look()
        await runtime.pause("ended-consents", interval_s)
