"""The consents process: partners' commands on consents → changes. Runs on Faust; scales by partitions and workers."""

import asyncio

from gateway.app.consents import consents_process
from gateway.app.process import Process
from schemas.topics import CONSENT_COMMANDS
from streams.app import FaustSubscription


async def run(process: Process, stopping: asyncio.Event) -> None:
    """Take in commands until told to stop; the batch in hand is finished and its offsets are committed."""
    settings = process.settings
    commands = FaustSubscription(
        process,
        "consents",
        CONSENT_COMMANDS,
        batch_max=settings.consents_batch_max,
        batch_wait_s=settings.consents_batch_wait_s,
    )
    async with consents_process(process, commands) as stage:
        await stage.run(stopping)
