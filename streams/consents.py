"""The consents process: partners' commands on consents → changes. Runs on Faust; scales by partitions and workers."""

import asyncio
from functools import partial

from gateway.app.consents import consent_service
from gateway.app.process import Parts
from schemas.topics import CONSENT_COMMANDS
from streams.app import FaustStage, run_stage


async def run(parts: Parts, stopping: asyncio.Event) -> None:
    """Take in commands until told to stop; the batch in hand is finished and its offsets are committed."""
    async with consent_service(parts) as (service, isolated):
        stage = FaustStage(
            name="consents",
            topic=CONSENT_COMMANDS,
            batch_max=parts.settings.consents_batch_max,
            batch_wait_s=parts.settings.consents_batch_wait_s,
        )
        await run_stage(parts, stage, partial(isolated.run, service.take), stopping)
