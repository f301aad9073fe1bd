"""The execution process of one card network: dispatched orders → intents → ISO 8583 → results."""

import asyncio

from gateway.app.execution import execution_process
from gateway.app.process import Process
from schemas.primitives import NetworkId


async def run(process: Process, stopping: asyncio.Event, *, network_id: NetworkId) -> None:
    """Execute until told to stop; then take no more, wait for answers up to a deadline, and write every result."""
    async with execution_process(process, network_id) as stage:
        await stage.run(stopping)
