"""Relay: outbox → Kafka, in order, at least once.

The cursor moves only after Kafka has confirmed, so a crash means some events twice, never none; readers deduplicate by
(payment_id, version) or by ce_id. One relay works at a time, so that one payment's events cannot overtake each other.
"""

import asyncio
from dataclasses import dataclass

from gateway.ports import Clock, Observer, OutboxEvent, OutboxReader, Outgoing, Publisher, StoreUnavailableError
from gateway.services.retrying import until_done
from schemas.envelope import Envelope, write_envelope

SOURCE = "/mypay/gateway"


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Bounds of the relay; each has its reason.

    Attributes:
        batch: rows read and published at a time; amortises one query, one Kafka round trip and one cursor move.
        idle_s: pause after a batch that was not full: adds at most this to an event's time, and lets events gather,
            for a query, a publication and a cursor move cost much the same for one as for a hundred.
        standby_s: how often a relay that is not the leader asks again.
    """

    batch: int = 2000
    idle_s: float = 0.02
    standby_s: float = 1.0


class RelayService:
    """Publishes the outbox while it is the leader."""

    def __init__(
        self,
        *,
        reader: OutboxReader,
        publisher: Publisher,
        observer: Observer,
        clock: Clock,
        settings: RelaySettings,
    ) -> None:
        self._reader = reader
        self._publisher = publisher
        self._observer = observer
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Relay until cancelled; wait while another leads, or while Postgres or Kafka is away."""
        while True:
            if not await until_done(self._reader.acquire):
                await asyncio.sleep(self._settings.standby_s)
                continue
            self._observer.note("relay_leads")
            try:
                while True:
                    if await self.relay_once() < self._settings.batch:
                        await asyncio.sleep(self._settings.idle_s)
            except StoreUnavailableError:
                # The leader lock went with the session: another may lead by now.
                self._observer.note("relay_lost_lead", level="warning")
            finally:
                await self._reader.release()

    async def relay_once(self) -> int:
        """Relay one batch; return its size.

        Raises:
            StoreUnavailableError: the session that holds the leader lock is lost.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        rows = await self._reader.read(self._settings.batch)
        if not rows:
            return 0
        records = [_record(r.event) for r in rows]
        await until_done(lambda: self._publisher.publish(records))
        await self._reader.advance(rows[-1])
        now = self._clock.now()
        self._observer.batch("relay", size=len(rows), seconds=loop.time() - started)
        self._observer.count("relay", "published", n=len(rows))
        # One observation a batch, of its oldest row: the worst that any of them waited.
        self._observer.delay("outbox_to_event", (now - rows[0].event.occurred_at).total_seconds())
        return len(rows)


def _record(event: OutboxEvent) -> Outgoing:
    envelope = Envelope(
        id=event.event_id,
        source=SOURCE,
        type=event.event_type,
        time=event.occurred_at,
        traceparent=event.traceparent,
    )
    return Outgoing(topic=event.topic, key=event.key.encode(), value=event.body, headers=write_envelope(envelope))
