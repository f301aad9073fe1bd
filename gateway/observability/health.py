"""Liveness and readiness: named checks, and a watchdog for stages that stand still with work waiting."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

Check = Callable[[], Awaitable[str | None]]
"""Returns None where all is well, or a few words about what is not. Raising or taking too long counts as not well."""

CHECK_SECONDS: Final = 3.0
"""Give whoever asks a longer time-out than this: the answer then still names the check that hangs."""


@dataclass(slots=True)
class Health:
    """Checks of one process, by name.

    Attributes:
        liveness: a failing one means that only a restart helps.
        readiness: a failing one means that this process cannot work now (Kafka or Postgres away). Card networks are
            no part of it: a closed network is waited for.
        looks: called every few seconds, to tell gauges what is seen.
    """

    liveness: dict[str, Check] = field(default_factory=dict)
    readiness: dict[str, Check] = field(default_factory=dict)
    looks: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


async def run_checks(checks: Mapping[str, Check], *, timeout_s: float = CHECK_SECONDS) -> dict[str, str]:
    """Run checks side by side; return each one's word, ``ok`` where all is well."""
    # As they are now: a process that starts adds to them while they run.
    asked = dict(checks)
    words = await asyncio.gather(*(_run(check, timeout_s) for check in asked.values()))
    return dict(zip(asked, words, strict=True))


async def _run(check: Check, timeout_s: float) -> str:
    try:
        async with asyncio.timeout(timeout_s):
            return await check() or "ok"
    except TimeoutError:
        return f"no word within {timeout_s:g} s"
    except Exception as error:  # noqa: BLE001 - a check that fails is an answer, and the page must come
        return f"failed: {type(error).__name__}"


class Watchdog:
    """Knows when a stage last got something done, and fails when work has waited for it for too long since.

    Args:
        stall_after_s: no progress for this long, with work waiting, is a stall.
        waiting: how much work waits.
    """

    def __init__(
        self,
        *,
        stall_after_s: float,
        waiting: Callable[[], Awaitable[int]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stall_after_s = stall_after_s
        self._waiting = waiting
        self._monotonic = monotonic
        self._last = monotonic()

    def progress(self) -> None:
        """Something got done."""
        self._last = self._monotonic()

    async def check(self) -> str | None:
        """Implements :data:`Check`."""
        still_s = self._monotonic() - self._last
        if still_s < self._stall_after_s:
            return None
        if await self._waiting() == 0:
            # Nothing to do is no stall; the clock starts when work comes.
            self._last = self._monotonic()
            return None
        return f"no progress for {still_s:.0f} s with work waiting"
