"""The marketing process: settled payments of customers who agree → offers and aggregates; offers' uses → counts."""

import asyncio

from gateway.app.marketing import marketing_process
from gateway.app.process import Process


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Make offers until told to stop."""
    async with marketing_process(process) as stage:
        await stage.run(stopping)
