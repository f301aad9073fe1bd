"""The consents process: partners' commands on consents → changes. Runs on Faust; scales by partitions and workers."""

import asyncio
from collections.abc import Sequence
from functools import partial

from gateway.bootstrap import Parts, consent_service, watch_consumer
from gateway.ports import Record
from schemas.topics import CONSENT_COMMANDS
from streams.app import build_app, read_batches, run_until, waiting


async def run(parts: Parts, stopping: asyncio.Event) -> None:
    """Take in commands until told to stop; the batch in hand is finished and its offsets are committed."""
    async with consent_service(parts) as (service, isolated):

        async def take(records: Sequence[Record]) -> None:
            await isolated.run(service.take, records)
            watchdog.progress()

        app = build_app("consents", parts.settings, parts.kafka.bootstrap_servers)
        read_batches(
            app,
            CONSENT_COMMANDS,
            take,
            batch_max=parts.settings.consents_batch_max,
            batch_wait_s=parts.settings.consents_batch_wait_s,
        )
        watchdog = watch_consumer(parts, "consents", partial(waiting, app))
        await run_until(app, stopping)
