"""The portability API's process: recipients' calls → answers. Any number of processes may answer."""

import asyncio

from gateway.app.portability_api import portability_api_process
from gateway.app.process import Process


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Answer calls until told to stop."""
    async with portability_api_process(process) as stage:
        await stage.run(stopping)
