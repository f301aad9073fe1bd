"""One worker of the intake alone on a backlog: how many orders a second it brings to their ends, by its own metrics."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import psutil

POLL_S: Final = 0.25
"""Each look costs the worker some milliseconds, for it writes all its metrics down."""

COLD_SHARE: Final = 0.1
"""Of the backlog: the first orders find empty caches and a consumer that has just joined, and are not measured."""

TIMEOUT_S: Final = 60.0

_TAKEN: Final = re.compile(r'^mypay_batch_size_sum\{stage="initiation"\} (\S+)$', re.MULTILINE)


class NotTakenError(Exception):
    """The worker did not get through the backlog in time."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What was measured.

    Attributes:
        orders: that were counted; seconds: it took for them; cpu_seconds: of the worker's processor time.
    """

    orders: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Orders a second."""
        return self.orders / self.seconds if self.seconds else 0.0

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor an order."""
        return self.cpu_seconds * 1e6 / self.orders if self.orders else 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The worker at one moment: orders taken so far, and processor time used."""

    at: float
    taken: int
    cpu_seconds: float


async def watch_intake(url: str, pid: int, backlog: int, *, check: Callable[[], None]) -> Intake:
    """Watch a worker take a backlog of so many orders.

    Args:
        url: base of the worker's HTTP.
        pid: of the worker.
        backlog: orders that wait for it.
        check: raises if something has died.

    Raises:
        NotTakenError: it takes too long.
    """
    process = psutil.Process(pid)
    seen: list[Seen] = []
    deadline = time.monotonic() + TIMEOUT_S
    async with aiohttp.ClientSession() as session:
        while not seen or seen[-1].taken < backlog:
            check()
            if time.monotonic() > deadline:
                raise NotTakenError(f"the intake took {seen[-1].taken if seen else 0} of {backlog} orders in time")
            await asyncio.sleep(POLL_S)
            async with session.get(f"{url}/metrics") as answer:
                taken = taken_of(await answer.text())
            times = process.cpu_times()
            seen.append(Seen(time.monotonic(), taken, times.user + times.system))
    return intake_of(seen, backlog)


def taken_of(metrics: str) -> int:
    """Orders that the worker has taken, by its metrics page; 0 before the first batch."""
    found = _TAKEN.search(metrics)
    return int(float(found[1])) if found else 0


def intake_of(seen: list[Seen], backlog: int) -> Intake:
    """The rate from the end of the cold start to the end of the backlog.

    Raises:
        NotTakenError: the whole backlog went by between two looks.
    """
    first = next((s for s in seen if s.taken >= backlog * COLD_SHARE), seen[-1])
    last = next((s for s in seen if s.taken >= backlog), seen[-1])
    if last.taken <= first.taken:
        raise NotTakenError("the backlog was too small to tell a rate")
    return Intake(last.taken - first.taken, last.at - first.at, last.cpu_seconds - first.cpu_seconds)
