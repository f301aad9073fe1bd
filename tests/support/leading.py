"""Leading over a database's outbox or log: one session holds the lead at a time."""

import asyncio
from typing import Protocol, TypeVar

from gateway.outbox.store import OutboxReader, OutboxRow
from tests.support.deadline import in_time


class Leader(Protocol):
    """Whoever reads, or writes, alone."""

    async def acquire(self) -> bool:
        """Take the lead, if nobody has it."""


L = TypeVar("L", bound=Leader)


async def led(leader: L) -> L:
    """Return it once it leads: a server notices in its own time that the session before has gone."""
    async with in_time("the lead is free"):
        while not await leader.acquire():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    return leader


async def tell(reader: OutboxReader, last: OutboxRow) -> None:
    """All that was read is told, up to this row, and it is written down how far that is: with the next look."""
    await reader.advance(last)
    await reader.read(1)
