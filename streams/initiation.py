"""The initiation process: partners' orders → checked and routed. Runs on Faust; scales by partitions and workers."""

import asyncio
from functools import partial

from gateway.bootstrap import Parts, initiation_service
from schemas.topics import ORDERS
from streams.app import FaustStage, run_stage


async def run(parts: Parts, stopping: asyncio.Event) -> None:
    """Take in orders until told to stop; the batch in hand is finished and its offsets are committed."""
    async with initiation_service(parts) as (service, isolated):
        stage = FaustStage(
            name="initiation",
            topic=ORDERS,
            batch_max=parts.settings.initiation_batch_max,
            batch_wait_s=parts.settings.initiation_batch_wait_s,
        )
        await run_stage(parts, stage, partial(isolated.run, service.take), stopping)
