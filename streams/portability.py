"""The portability process: transmission requests → exports to recipients. Any number of workers may do so."""

import asyncio

from gateway.app.portability import portability_process
from gateway.app.process import Process


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Take requests and make exports until told to stop. One that is cut is begun anew by whoever comes next."""
    async with portability_process(process) as stage:
        await stage.run(stopping)
