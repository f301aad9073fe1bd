"""SIGTERM ends a process within seconds, whatever is away.

What is in hand is brought to its end: that waits for PostgreSQL and Kafka as everything does, but only for so long.
Then the process ends as it stands, which is safe at every moment: what was not committed comes again, and what was in
flight is settled by recovery. A stage that is still starting has nothing in hand and ends at once.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine
from enum import StrEnum, unique
from typing import Any, Final, Literal

from gateway.base.process import Observer

CANCEL_S: Final = 2.0
"""What is cancelled closes its connections within this."""


class StopSignal(asyncio.Event):
    """Set on SIGTERM. A stage waits for it once it has started."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited = False

    async def wait(self) -> Literal[True]:
        """Return when the process is told to stop."""
        self.awaited = True
        return await super().wait()

    def close(self) -> None:
        """Set it from within, where a stage has done all that it will: what fails or closes then is waited for."""
        self.awaited = True
        self.set()


@unique
class Ended(StrEnum):
    """How a stage ended."""

    BY_ITSELF = "by_itself"
    CANCELLED = "cancelled"
    CUT = "cut"


async def run_until_stopped(
    work: Coroutine[Any, Any, None], stopping: StopSignal, *, drain_s: float, cancel_s: float = CANCEL_S
) -> Ended:
    """Run a stage; once it is told to stop, wait for its end for ``drain_s`` seconds at most.

    Returns:
        ``CUT`` where it did not even end when it was cancelled: the process must be ended past it.
    """
    stage = asyncio.ensure_future(work)
    told = asyncio.ensure_future(asyncio.Event.wait(stopping))
    try:
        await asyncio.wait({stage, told}, return_when=asyncio.FIRST_COMPLETED)
        if not stage.done() and stopping.awaited:
            await asyncio.wait({stage}, timeout=drain_s)
        if not stage.done():
            stage.cancel()
            await asyncio.wait({stage}, timeout=cancel_s)
            if not stage.done():
                return Ended.CUT
            if not stage.cancelled() and (error := stage.exception()) is not None:
                raise error
            return Ended.CANCELLED
    finally:
        told.cancel()
    if stopping.is_set() and stage.cancelled():
        # From within, while it stopped.
        return Ended.CANCELLED
    stage.result()
    return Ended.BY_ITSELF


def end_now(observer: Observer | None, *, clean: bool) -> None:
    """End the process as it stands; threads of libraries that wait for a server would keep it."""
    if observer is not None and not clean:
        observer.note("process_cut_short", level="warning", pid=os.getpid())
    sys.stdout.flush()
    os._exit(0 if clean else 1)
