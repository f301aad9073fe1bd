"""The initiation process: partners' orders → checked and routed. Runs on Faust; scales by partitions and workers."""

import asyncio
from collections.abc import Sequence
from functools import partial

from gateway.bootstrap import Parts, initiation_service, watch_consumer
from gateway.ports import Record
from schemas.topics import ORDERS
from streams.app import build_app, read_batches, run_until, waiting


async def run(parts: Parts, stopping: asyncio.Event) -> None:
    """Take in orders until told to stop; the batch in hand is finished and its offsets are committed."""
    async with initiation_service(parts) as (service, isolated):

        async def take(records: Sequence[Record]) -> None:
            await isolated.run(service.take, records)
            watchdog.progress()

        app = build_app("initiation", parts.settings, parts.kafka.bootstrap_servers)
        read_batches(
            app,
            ORDERS,
            take,
            batch_max=parts.settings.initiation_batch_max,
            batch_wait_s=parts.settings.initiation_batch_wait_s,
        )
        watchdog = watch_consumer(parts, "initiation", partial(waiting, app))
        await run_until(app, stopping)
