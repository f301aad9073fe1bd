"""The initiation process: partners' orders → checked and routed. Runs on Faust; scales by partitions and workers."""

import asyncio

from gateway.app.initiation import initiation_process
from gateway.app.process import Process
from schemas.topics import ORDERS
from streams.app import FaustSubscription


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Take in orders until told to stop; what is in hand is finished and its offsets are committed."""
    settings = process.settings
    orders = FaustSubscription(
        process,
        "initiation",
        ORDERS,
        batch_max=settings.initiation_look_max,
        batch_wait_s=settings.initiation_batch_wait_s,
    )
    async with initiation_process(process, orders) as stage:
        await stage.run(stopping)
