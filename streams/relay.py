"""The relay process: outbox → Kafka."""

import asyncio

from gateway.app.process import Process
from gateway.app.relay import relay_process


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Relay until told to stop."""
    async with relay_process(process) as stage:
        await stage.run(stopping)
