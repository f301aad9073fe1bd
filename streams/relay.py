"""The relay process: outbox → Kafka."""

import asyncio

from gateway.app.events import relay_service
from gateway.app.process import Parts


async def run(parts: Parts, stopping: asyncio.Event) -> None:
    """Relay until told to stop. A batch in hand may be cut: its rows are published again by the next relay."""
    async with relay_service(parts) as service, asyncio.TaskGroup() as tasks:
        relay = tasks.create_task(service.run())
        await stopping.wait()
        relay.cancel()
