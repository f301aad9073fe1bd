"""The schedule process: what happens because time has come. Any number may run; each row is one's alone."""

import asyncio

from gateway.app.process import Process
from gateway.app.schedule import schedule_process


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Work until told to stop."""
    async with schedule_process(process) as stage:
        await stage.run(stopping)
