"""The disclosure process: outbox → the chain of every use of a consent."""

import asyncio

from gateway.app.disclosure import disclosure_process
from gateway.app.process import Process


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Write until told to stop."""
    async with disclosure_process(process) as stage:
        await stage.run(stopping)
