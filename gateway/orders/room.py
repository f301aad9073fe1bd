"""How far execution is behind, so that the intake hands on no more than it can soon take.

What was handed on stands in one line again, whoever sent it: a line that is short holds nobody up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

LOOK_S: Final = 0.05
"""How old a look may be where it decides: execution takes some fifty orders in this time."""

SELDOM: Final = 10
"""How many times as old it may be where there is plenty of room: what was handed on since is known."""

REST: Final = 20
"""And where nothing was: nobody is behind then."""

HANDED_ON_AT_ONCE: Final = 50
"""Of what comes all at once, handed on before it is looked whether there is room for more: a twentieth of a second of
execution's work."""

PATIENT: Final = 0.75
"""What waits has this part of the room where nobody comes beside it: two turns, one that execution decides and one that
the intake judges meanwhile. The rest is left to whoever comes next."""

AGAIN: Final = 0.4
"""Who waits for room looks again after this part of the time that a look is good for."""

BESIDE_OTHERS: Final = 8
"""What waits has this part of the room while others come: some sixty orders, less than a tenth of a second's."""

OTHERS_S: Final = 5.0
"""So long after the last order of others they are expected to come again."""


class ExecutionRoom:
    """Tells how many more orders may be handed on now.

    Args:
        backlog: looks how many were handed on and not taken by execution, of networks that are open: what waits for a
            closed one holds nobody up who is not for it, too.
        ahead_max: how many may be.
    """

    def __init__(self, backlog: Callable[[], Awaitable[int]], *, ahead_max: int, look_s: float = LOOK_S) -> None:
        self._backlog = backlog
        self._ahead_max = ahead_max
        self._look_s = look_s
        self._free = ahead_max
        self._looked_at: float | None = None
        # Sender → when one of its orders was last handed on beside others' that wait.
        self._others_at: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None

    async def free(self) -> int:
        """For whoever sends within their share; negative where execution is further behind than it should be."""
        return await self._known(SELDOM if 2 * self._free > self._ahead_max else 1)

    async def _known(self, patience: int) -> int:
        if self._looked_at is None:
            await self._look()
            return self._free
        if self._free == self._ahead_max:
            patience = REST
        stale = asyncio.get_running_loop().time() - self._looked_at >= patience * self._look_s
        if stale and (self._looking is None or self._looking.done()):
            # Nobody waits for it: what was handed on since the last one is known.
            self._looking = asyncio.create_task(self._look(), name="execution-room")
        return self._free

    async def _look(self) -> None:
        before = self._free
        behind = await self._backlog()
        # What was handed on while the brokers answered may not be among it.
        used = before - self._free
        self._free = self._ahead_max - behind - used
        self._looked_at = asyncio.get_running_loop().time()

    async def free_for_patient(self) -> int:
        """For what waits, and for bulks: a part of it is left to the others; nearly all of it where there are any.

        Those meet then a short line, and execution's batches are small: what waits is carried out a little slower.
        """
        ahead = self._ahead_max // BESIDE_OTHERS if self.is_shared() else int(self._ahead_max * PATIENT)
        return await self._within(ahead)

    async def free_beside_others(self) -> int:
        """For what comes all at once, handed on by whoever cannot see whether others come."""
        return await self._within(self._ahead_max // BESIDE_OTHERS)

    async def _within(self, ahead: int) -> int:
        return await self._known(1) - (self._ahead_max - max(1, ahead))

    async def free_for_turn(self) -> int:
        """As that, for a turn of what waits: where there are no others, a whole one or none.

        A turn takes much the same for ten orders as for two hundred: here, of execution and of all that follows it.
        """
        free = await self.free_for_patient()
        return free if free >= self.turn_max or self.is_shared() else min(0, free)

    @property
    def turn_max(self) -> int:
        """Orders of one turn of what waits, at most: there is room for two, and neither side waits for the other."""
        return max(1, int(self._ahead_max * PATIENT) // 2)

    def is_shared(self) -> bool:
        """True while others come who do not wait."""
        if not self._others_at:
            return False
        since = asyncio.get_running_loop().time() - OTHERS_S
        self._others_at = {sender: at for sender, at in self._others_at.items() if at > since}
        return bool(self._others_at)

    async def wait_for_patient(self) -> int:
        """As that; waits until there is some."""
        while (free := await self.free_for_patient()) <= 0:
            await self.pause()
        return free

    async def pause(self) -> None:
        """Return when another look is worth it.

        What it told is known then, and the line never empty. Beside others there is more time between turns: their
        orders meet a line that is empty as often as not, and a processor that has time.
        """
        if self.is_shared():
            await asyncio.sleep(self._look_s)
            return
        await asyncio.sleep(AGAIN * self._look_s)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="execution-room")
        await asyncio.wait([self._looking])

    def use(self, orders: int, *, beside_others: Collection[str] = ()) -> None:
        """So many were handed on since the last look; ``beside_others``: whose they are, while others' orders wait."""
        self._free -= orders
        if beside_others:
            self._others_at |= dict.fromkeys(beside_others, asyncio.get_running_loop().time())

    def wait_too(self, senders: Collection[str]) -> None:
        """These are beyond their share themselves now: they are no others any more, beside whom what waits is slow."""
        for sender in senders:
            self._others_at.pop(sender, None)
