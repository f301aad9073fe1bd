"""The relay: outbox → Kafka."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from gateway.app.process import Process, publisher
from gateway.app.runtime import Runtime, work_until
from gateway.app.watching import servers_answer
from gateway.messaging.records import Publisher
from gateway.outbox.postgres import PostgresOutboxReader
from gateway.outbox.relay import RelayService, RelaySettings
from gateway.outbox.store import OutboxReader


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStage:
    """Relays events."""

    service: RelayService

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until told to stop. A batch in hand may be cut: its rows are published again by the next relay."""
        await work_until(stopping, {"relay": self.service.run()})


def relay(runtime: Runtime, reader: OutboxReader, publishing: Publisher, settings: RelaySettings) -> RelayStage:
    """Put the relay together."""
    watchdog = runtime.watch("relay", partial(servers_answer, runtime.health))
    return RelayStage(
        service=RelayService(
            reader=reader,
            publisher=publishing,
            observer=runtime.observer,
            clock=runtime.clock,
            settings=settings,
            progress=watchdog.progress,
        )
    )


# --- a process ---


@asynccontextmanager
async def relay_process(process: Process) -> AsyncIterator[RelayStage]:
    """The relay, from PostgreSQL to Kafka."""
    settings = process.settings
    async with publisher(process) as producer:
        bounds = RelaySettings(
            batch=settings.relay_batch_max, gather_s=settings.relay_gather_s, idle_s=settings.relay_idle_s
        )
        yield relay(process, PostgresOutboxReader(process.dsn), producer, bounds)
