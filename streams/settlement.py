"""The settlement process: clearing messages → SETTLED or breaks; and the inbox where networks' files arrive."""

import asyncio

from gateway.app.process import Process
from gateway.app.settlement import settlement_process


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Settle until told to stop."""
    async with settlement_process(process) as stage:
        await stage.run(stopping)
