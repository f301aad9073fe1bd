"""Relay: outbox → Kafka, in order, at least once.

The cursor moves only after Kafka has confirmed, so a crash means some events twice, never none; readers deduplicate by
(payment_id, version) or by ce_id. No event waits for a transaction of somebody else's
(:mod:`gateway.outbox.rules.ahead`). One relay works at a time, so that one payment's events cannot overtake each other.

A topic that Kafka does not have, that is closed to us or that does not take our clock's time holds up nobody else: its
events are set aside, together with all later ones of that topic, and tried again every minute, in their order.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from gateway.base.errors import StoreUnavailableError, TopicClosedError
from gateway.base.pace import Pace
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.base.tracing import exemplar
from gateway.messaging.records import Outgoing, Publisher
from gateway.outbox.store import OutboxEvent, OutboxReader, OutboxRow
from schemas.envelope import event_headers

_PARKED: Final = "topic does not exist, is closed to us, or does not take our clock's time"

SOURCE = "/mypay/gateway"


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Bounds of the relay; each has its reason.

    Attributes:
        batch: rows read and published at a time; amortises one query, which moves the cursor, too, and one round trip
            to Kafka.
        gather_s: from the beginning of a batch that was not full to that of the next: adds at most this to an event's
            time, and lets events gather, for a query and a publication cost much the same for one as for a hundred.
        idle_s: likewise where there was nothing: adds at most this to the time of one that comes after a rest.
        standby_s: how often a relay that is not the leader asks again.
        parked_retry_s: how often topics are tried again whose events are set aside.
    """

    batch: int = 2000
    gather_s: float = 0.01
    idle_s: float = 0.02
    standby_s: float = 1.0
    parked_retry_s: float = 60.0


def _unwatched() -> None:
    """Nobody watches."""


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
        progress: Callable[[], None] = _unwatched,
    ) -> None:
        self._reader = reader
        self._publisher = publisher
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._progress = progress
        self._closed: set[str] = set()
        self._retry_at = 0.0

    async def run(self) -> None:
        """Relay until cancelled; wait while another leads, or while Postgres or Kafka is away."""
        while True:
            if not await until_done(self._reader.acquire):
                self._observer.level("relay_leader", 0)
                self._progress()
                await asyncio.sleep(self._settings.standby_s)
                continue
            self._observer.level("relay_leader", 1)
            self._observer.note("relay_leads")
            gathering, idling = (Pace(s, rest_s_max=2 * s) for s in (self._settings.gather_s, self._settings.idle_s))
            try:
                await self.look_for_parked()
                while True:
                    gathering.begin()
                    idling.begin()
                    if self._closed and asyncio.get_running_loop().time() >= self._retry_at:
                        await self.retry_parked()
                    relayed = await self.relay_once()
                    self._progress()
                    gathering.end()
                    if relayed < self._settings.batch:
                        await (gathering if relayed else idling).wait()
            except StoreUnavailableError:
                # The leader lock went with the session: another may lead by now.
                self._observer.note("relay_lost_lead", level="warning")
            finally:
                self._observer.level("relay_leader", 0)
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
        await self._publish(rows)
        parked = [r for r in rows if r.event.topic in self._closed] if self._closed else []
        await self._reader.advance(rows[-1], parked=parked, reason=_PARKED)
        now = self._clock.now()
        self._observer.batch("relay", size=len(rows), seconds=loop.time() - started)
        self._observer.count("relay", "published", n=len(rows) - len(parked))
        self._observer.count("relay", "parked", n=len(parked))
        self._observer.hops(
            "change_to_event",
            [(now - r.event.occurred_at).total_seconds() for r in rows],
            exemplar=exemplar(self._observer.traces, lambda: (r.event.traceparent for r in rows)),
        )
        return len(rows)

    async def look_for_parked(self) -> None:
        """Learn which topics have events that an earlier relay set aside.

        Raises:
            StoreUnavailableError: the session that holds the leader lock is lost.
        """
        self._closed = set(await self._reader.parked_topics())
        self._retry_at = asyncio.get_running_loop().time()

    async def retry_parked(self) -> int:
        """Publish what is set aside, topic by topic, as far as Kafka takes it now; return how much that was.

        Raises:
            StoreUnavailableError: the session that holds the leader lock is lost.
        """
        total = 0
        for topic in sorted(self._closed):
            self._closed.discard(topic)
            while rows := await self._reader.read_parked(topic, self._settings.batch):
                await self._publish(rows)
                if topic in self._closed:
                    break
                await self._reader.unpark(rows)
                total += len(rows)
        self._observer.count("relay", "unparked", n=total)
        self._retry_at = asyncio.get_running_loop().time() + self._settings.parked_retry_s
        return total

    async def _publish(self, rows: Sequence[OutboxRow]) -> None:
        traces = self._observer.traces
        if traces is None:
            await self._publish_all(rows)
            return
        with traces.publishing([(r.event.topic, r.event.traceparent) for r in rows]) as carried:
            await self._publish_all([_carrying(r, c) for r, c in zip(rows, carried, strict=True)])

    async def _publish_all(self, rows: Sequence[OutboxRow]) -> None:
        """Publish all but those of closed topics; a topic that turns out to be closed is one from now on."""

        async def publish() -> str | None:
            try:
                await self._publisher.publish([_record(r.event) for r in rows if r.event.topic not in self._closed])
            except TopicClosedError as error:
                return error.topic
            return None

        while (closed := await until_done(publish)) is not None:
            self._closed.add(closed)
            self._observer.count("relay", "topic_closed")
            self._observer.note("topic_closed", level="error", topic=closed)


def _carrying(row: OutboxRow, traceparent: str | None) -> OutboxRow:
    if traceparent == row.event.traceparent:
        return row
    return structs.replace(row, event=structs.replace(row.event, traceparent=traceparent))


def _record(event: OutboxEvent) -> Outgoing:
    headers = event_headers(event.event_id, SOURCE, event.event_type, event.occurred_at, event.traceparent)
    return Outgoing(topic=event.topic, key=event.key.encode(), value=event.body, headers=headers)
