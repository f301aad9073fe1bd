"""Relay: outbox → Kafka, in order, at least once.

The cursor moves only after Kafka has confirmed, so a crash means some events twice, never none; readers deduplicate by
(payment_id, version) or by ce_id. No event waits for a transaction of somebody else's
(:mod:`gateway.outbox.rules.ahead`). One relay works at a time, so that one payment's events cannot overtake each other.

A topic that Kafka does not have, that is closed to us or that does not take our clock's time holds up nobody else: its
events are set aside, together with all later ones of that topic, and tried again every minute, in their order.

An event that is larger than its topic takes is set aside alone: it may never be taken, so no other waits for it, and
readers order a payment's events by their version. Others of the topic that are as large are set aside with it, untried.
They are tried again every minute, each topic's smallest first, until one is refused.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec import structs

from gateway.base.errors import StoreUnavailableError, TooLargeForTopicError, TopicClosedError
from gateway.base.pace import Pace
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.base.tracing import exemplar
from gateway.messaging.packing import size_of
from gateway.messaging.producer import RecordTooLargeError
from gateway.messaging.records import Outgoing, Publisher
from gateway.outbox.store import OutboxEvent, OutboxReader, OutboxRow
from schemas.envelope import event_headers

_PARKED: Final = "topic does not exist, is closed to us, or does not take our clock's time"

_UNKNOWN_SIZE: Final = sys.maxsize

_Refusal = TopicClosedError | TooLargeForTopicError | RecordTooLargeError

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
        # Topic → size of the smallest event that it has refused since the last retry.
        self._large: dict[str, int] = {}
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
                    if (self._closed or self._large) and asyncio.get_running_loop().time() >= self._retry_at:
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
        large = await self._publish(rows)
        parked = [r for r in rows if r.event.topic in self._closed] if self._closed else []
        await self._reader.advance(rows[-1], parked=parked, reason=_PARKED, large=large)
        now = self._clock.now()
        self._observer.batch("relay", size=len(rows), seconds=loop.time() - started)
        aside = len(parked) + len(large)
        self._observer.count("relay", "published", n=len(rows) - aside)
        self._observer.count("relay", "parked", n=aside)
        self._observer.hops(
            "change_to_event",
            [(now - r.event.occurred_at).total_seconds() for r in rows],
            exemplar=exemplar(self._observer.traces, lambda: (r.event.traceparent for r in rows)),
        )
        return len(rows)

    async def look_for_parked(self) -> None:
        """Learn of which topics an earlier relay set events aside.

        Raises:
            StoreUnavailableError: the session that holds the leader lock is lost.
        """
        self._closed = set(await self._reader.parked_topics())
        self._large = {row.event.topic: _UNKNOWN_SIZE for row in await self._reader.read_large()}
        self._retry_at = asyncio.get_running_loop().time()

    async def retry_parked(self) -> int:
        """Publish what is set aside, topic by topic, as far as Kafka takes it now; return how much that was.

        Raises:
            StoreUnavailableError: the session that holds the leader lock is lost.
        """
        total = 0
        self._large.clear()
        for topic in sorted(self._closed):
            self._closed.discard(topic)
            while rows := await self._reader.read_parked(topic, self._settings.batch):
                large = await self._publish(rows)
                if topic in self._closed:
                    break
                if large:
                    await self._reader.set_large(large)
                total += await self._unpark(rows, large)
        total += await self._retry_large()
        self._observer.count("relay", "unparked", n=total)
        self._retry_at = asyncio.get_running_loop().time() + self._settings.parked_retry_s
        return total

    async def _retry_large(self) -> int:
        total = 0
        while rows := [
            r for r in await self._reader.read_large() if r.event.topic not in self._large.keys() | self._closed
        ]:
            large = await self._publish(rows)
            total += await self._unpark([r for r in rows if r.event.topic not in self._closed], large)
            self._progress()
        return total

    async def _unpark(self, rows: Sequence[OutboxRow], large: Sequence[OutboxRow]) -> int:
        told = [r for r in rows if r not in large]
        if told:
            await self._reader.unpark(told)
        return len(told)

    async def _publish(self, rows: Sequence[OutboxRow]) -> list[OutboxRow]:
        """Publish all but those of closed topics; return those that are larger than their topics take."""
        traces = self._observer.traces
        if traces is None:
            large = await self._publish_all(rows)
        else:
            with traces.publishing([(r.event.topic, r.event.traceparent) for r in rows]) as carried:
                large = await self._publish_all([_carrying(r, c) for r, c in zip(rows, carried, strict=True)])
        return [r for r in rows if (r.tx, r.id) in large] if large else []

    async def _publish_all(self, rows: Sequence[OutboxRow]) -> set[tuple[int, int]]:
        """As :meth:`_publish`, by their places; a topic that turns out to be closed is one from now on."""
        left = [(r, _record(r.event)) for r in rows]
        large: set[tuple[int, int]] = set()
        while True:
            going = [(r, o) for r, o in left if o.topic not in self._closed]
            if self._large:
                beyond = [r for r, o in going if size_of(o) >= self._large.get(o.topic, _UNKNOWN_SIZE)]
                large |= {(r.tx, r.id) for r in beyond}
                going = [(r, o) for r, o in going if (r.tx, r.id) not in large]
            left = going
            match await until_done(partial(self._refusal, [o for _, o in left])):
                case None:
                    return large
                case TopicClosedError() as closed:
                    self._closed.add(closed.topic)
                    self._observer.count("relay", "topic_closed")
                    self._observer.note("topic_closed", level="error", topic=closed.topic)
                case refused:
                    sizes = [size_of(left[n][1]) for n in refused.numbers]
                    self._large[refused.topic] = min([*sizes, self._large.get(refused.topic, _UNKNOWN_SIZE)])
                    self._observer.note("event_too_large", level="error", topic=refused.topic)
                    left = [one for n, one in enumerate(left) if n not in refused.confirmed]

    async def _refusal(self, records: Sequence[Outgoing]) -> "_Refusal | None":
        try:
            await self._publisher.publish(records)
        except (TopicClosedError, TooLargeForTopicError, RecordTooLargeError) as error:
            return error
        return None


def _carrying(row: OutboxRow, traceparent: str | None) -> OutboxRow:
    if traceparent == row.event.traceparent:
        return row
    return structs.replace(row, event=structs.replace(row.event, traceparent=traceparent))


def _record(event: OutboxEvent) -> Outgoing:
    headers = event_headers(event.event_id, SOURCE, event.event_type, event.occurred_at, event.traceparent)
    return Outgoing(topic=event.topic, key=event.key.encode(), value=event.body, headers=headers)
