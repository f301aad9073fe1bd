"""The sharing process: what is settled → shares for affiliates; consents that ended → erase notices; confirmations."""

import asyncio

from gateway.app.process import Process
from gateway.app.sharing import sharing_process


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Share until told to stop."""
    async with sharing_process(process) as stage:
        await stage.run(stopping)
