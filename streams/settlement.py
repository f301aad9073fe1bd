"""The settlement process: clearing messages → SETTLED or breaks; and the inbox where networks' files arrive."""

import asyncio
from collections.abc import Sequence

from gateway.app.events import SettlementParts, settlement_parts
from gateway.app.process import Parts, watch_consumer
from gateway.messaging.records import Record


async def run(parts: Parts, stopping: asyncio.Event) -> None:
    """Settle until told to stop. A batch in hand may be cut: every message is one transaction, and comes again."""
    async with settlement_parts(parts) as settlement, asyncio.TaskGroup() as tasks:
        workers = [
            tasks.create_task(_settle(parts, settlement), name="settlement"),
            tasks.create_task(_match_again(parts, settlement), name="breaks"),
        ]
        if settlement.inbox is not None:
            watching = settlement.inbox.watch(settlement.networks, poll_s=parts.settings.clearing_inbox_poll_s)
            workers.append(tasks.create_task(watching, name="clearing-inbox"))
        await stopping.wait()
        for task in workers:
            task.cancel()


async def _match_again(parts: Parts, settlement: SettlementParts) -> None:
    while True:
        if await settlement.service.match_again() == 0:
            await asyncio.sleep(parts.settings.settlement_match_again_s)


async def _settle(parts: Parts, settlement: SettlementParts) -> None:
    settings = parts.settings
    watchdog = watch_consumer(parts, "settlement", settlement.consumer.lag)
    while True:
        records: Sequence[Record] = await settlement.consumer.take(
            settings.settlement_batch_max, max_wait=settings.settlement_batch_wait_s
        )
        if records:
            await settlement.isolated.run(settlement.service.take, records)
            await settlement.consumer.commit(records)
            watchdog.progress()
