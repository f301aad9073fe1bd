"""Relay: outbox → Kafka, in order, at least once.

The cursor moves only after Kafka has confirmed, so a crash means some events twice, never none; readers deduplicate by
(payment_id, version) or by ce_id. No event waits for a transaction of somebody else's
(:mod:`gateway.outbox.rules.ahead`). One relay works at a time, so that one payment's events cannot overtake each other.

A topic that Kafka does not have, that is closed to us or that does not take our clock's time holds up nobody else: its
events are set aside, together with all later ones of that topic, and tried again every minute, in their order.

An event that is larger than its topic takes is set aside alone: it may never be taken, so no other waits for it, and
readers order a payment's events by their version. Others of the topic that are as large are set aside with it, untried.
They are tried again every minute, each topic's smallest first, until one is refused.

A row of which nobody can say what it holds is set aside alone, too, and looked at again every minute.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import compress
from typing import Final

from msgspec import structs

from gateway.base.errors import StoreUnavailableError, TooLargeForTopicError, TopicClosedError
from gateway.base.pace import Pace
from gateway.base.process import Clock, Observer
from gateway.base.retrying import until_done
from gateway.base.tracing import Carried, exemplar
from gateway.messaging.packing import size_of
from gateway.messaging.producer import RecordTooLargeError
from gateway.messaging.records import Outgoing, Publisher
from gateway.outbox.bundles import UnreadableBundleError, members_of
from gateway.outbox.store import TOO_LARGE, UNREADABLE, OutboxEvent, OutboxReader, OutboxRow
from schemas.envelope import event_headers

_PARKED: Final = "topic does not exist, is closed to us, or does not take our clock's time"

_UNKNOWN_SIZE: Final = sys.maxsize

_Refusal = TopicClosedError | TooLargeForTopicError | RecordTooLargeError

_Held = tuple[OutboxRow, OutboxEvent]
"""An event, and the row that holds it: alone, or in a bundle, which is told or set aside as a whole."""

SOURCE = "/mypay/gateway"


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Bounds of the relay; each has its reason.

    Attributes:
        batch: rows read at a time, and about how many events are published at a time, for a row may hold many;
            amortises one query, which moves the cursor, too, and one round trip to Kafka.
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


@dataclass(slots=True)
class _Outcome:
    """What became of rows.

    Attributes:
        times, carried: when each event occurred that they hold, and the trace that it is part of.
        aside: how many of these stay here, with their rows.
        parked: rows whose topics are closed.
        large: rows with any event that is larger than its topic takes.
        unreadable: rows that hold nobody knows what.
    """

    times: list[datetime] = field(default_factory=list)
    carried: list[Carried] = field(default_factory=list)
    aside: int = 0
    parked: list[OutboxRow] = field(default_factory=list)
    large: list[OutboxRow] = field(default_factory=list)
    unreadable: list[OutboxRow] = field(default_factory=list)

    @property
    def staying(self) -> set[tuple[int, int]]:
        """Places of rows that are not told, or not whole."""
        return {(r.tx, r.id) for r in (*self.parked, *self.large, *self.unreadable)}

    def add(self, events: Sequence[_Held], parked: Sequence[OutboxRow], large: Sequence[OutboxRow]) -> None:
        """Some more of them."""
        self.times += [event.occurred_at for _, event in events]
        self.carried += [event.traceparent for _, event in events]
        self.parked += parked
        self.large += large
        if parked or large:
            stay = {(r.tx, r.id) for r in (*parked, *large)}
            self.aside += sum((r.tx, r.id) in stay for r, _ in events)


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
        self._unreadable = False
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
                    if self._has_parked and asyncio.get_running_loop().time() >= self._retry_at:
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
        """Relay one batch; return how many rows it was.

        Raises:
            StoreUnavailableError: the session that holds the leader lock is lost.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        rows = await self._reader.read(self._settings.batch)
        if not rows:
            return 0
        outcome = await self._tell(rows)
        await self._reader.advance(
            rows[-1], parked=outcome.parked, reason=_PARKED, large=outcome.large, unreadable=outcome.unreadable
        )
        now = self._clock.now()
        self._observer.batch("relay", size=len(outcome.times), seconds=loop.time() - started)
        self._observer.count("relay", "published", n=len(outcome.times) - outcome.aside)
        self._observer.count("relay", "parked", n=outcome.aside + len(outcome.unreadable))
        self._observer.hops(
            "change_to_event",
            [(now - at).total_seconds() for at in outcome.times],
            exemplar=exemplar(self._observer.traces, lambda: outcome.carried),
        )
        return len(rows)

    async def look_for_parked(self) -> None:
        """Learn of which topics an earlier relay set events aside.

        Raises:
            StoreUnavailableError: the session that holds the leader lock is lost.
        """
        self._closed = set(await self._reader.parked_topics())
        self._large = {row.event.topic: _UNKNOWN_SIZE for row in await self._reader.read_large()}
        self._unreadable = bool(await self._reader.read_unreadable(1))
        self._retry_at = asyncio.get_running_loop().time()

    @property
    def _has_parked(self) -> bool:
        return bool(self._closed or self._large or self._unreadable)

    async def retry_parked(self) -> int:
        """Publish what is set aside, topic by topic, as far as Kafka takes it now; return how much that was.

        Raises:
            StoreUnavailableError: the session that holds the leader lock is lost.
        """
        total = 0
        self._large.clear()
        self._unreadable = False
        for topic in sorted(self._closed):
            self._closed.discard(topic)
            while rows := await self._reader.read_parked(topic, self._settings.batch):
                outcome = await self._tell(rows)
                if topic in self._closed:
                    break
                total += await self._unpark(rows, outcome)
        total += await self._retry_large()
        if rows := await self._reader.read_unreadable(self._settings.batch):
            total += await self._unpark(rows, await self._tell(rows), UNREADABLE)
        self._observer.count("relay", "unparked", n=total)
        self._retry_at = asyncio.get_running_loop().time() + self._settings.parked_retry_s
        return total

    async def _retry_large(self) -> int:
        total = 0
        while rows := [
            r for r in await self._reader.read_large() if r.event.topic not in self._large.keys() | self._closed
        ]:
            total += await self._unpark(rows, await self._tell(rows), TOO_LARGE)
        return total

    async def _unpark(self, rows: Sequence[OutboxRow], outcome: _Outcome, because: str = _PARKED) -> int:
        """Forget that rows were set aside that are told; the others stay, some for another reason than before."""
        for alone, reason in ((outcome.large, TOO_LARGE), (outcome.unreadable, UNREADABLE)):
            if alone and reason != because:
                await self._reader.set_alone(alone, reason)
        stay = outcome.staying
        if told := [r for r in rows if (r.tx, r.id) not in stay]:
            await self._reader.unpark(told)
        return len(outcome.times) - outcome.aside

    async def _tell(self, rows: Sequence[OutboxRow]) -> _Outcome:
        """Publish what rows hold, about a batch of events at a time: a backlog of bundles takes much memory at once."""
        outcome = _Outcome()
        for events in self._in_parts(rows, outcome.unreadable):
            large = await self._publish(events)
            closed = dict.fromkeys(r for r, _ in events if r.event.topic in self._closed) if self._closed else ()
            outcome.add(events, list(closed), large)
            self._progress()
        return outcome

    def _in_parts(self, rows: Sequence[OutboxRow], unreadable: list[OutboxRow]) -> Iterator[list[_Held]]:
        """The events that rows hold, in order: a batch at a time, and what else the last row of a part holds."""
        part: list[_Held] = []
        for row in rows:
            try:
                part += [(row, event) for _, event in members_of(row.id, row.event)]
            except UnreadableBundleError:
                unreadable.append(row)
                self._unreadable = True
                self._observer.note("bundle_unreadable", level="error", topic=row.event.topic)
            if len(part) >= self._settings.batch:
                yield part
                part = []
        if part:
            yield part

    async def _publish(self, events: Sequence[_Held]) -> list[OutboxRow]:
        """Publish all but those of closed topics; return the rows with any that is larger than its topic takes."""
        traces = self._observer.traces
        if traces is None:
            large = await self._publish_all(events)
        else:
            with traces.publishing([(e.topic, e.traceparent) for _, e in events]) as carried:
                large = await self._publish_all(
                    [(r, _carrying(e, c)) for (r, e), c in zip(events, carried, strict=True)]
                )
        return [r for r in dict.fromkeys(r for r, _ in events) if (r.tx, r.id) in large] if large else []

    async def _publish_all(self, events: Sequence[_Held]) -> set[tuple[int, int]]:
        """As :meth:`_publish`, by their places; a topic that turns out to be closed is one from now on."""
        left = [(r, _record(e)) for r, e in events]
        large: set[tuple[int, int]] = set()
        while True:
            going = [(r, o) for r, o in left if o.topic not in self._closed]
            if self._large:
                fits = [size_of(o) < self._large.get(o.topic, _UNKNOWN_SIZE) for _, o in going]
                large |= {(r.tx, r.id) for (r, _), fit in zip(going, fits, strict=True) if not fit}
                # Others of a bundle go on without it, and come again with it.
                going = list(compress(going, fits))
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


def _carrying(event: OutboxEvent, traceparent: str | None) -> OutboxEvent:
    return event if traceparent == event.traceparent else structs.replace(event, traceparent=traceparent)


def _record(event: OutboxEvent) -> Outgoing:
    headers = event_headers(event.event_id, SOURCE, event.event_type, event.occurred_at, event.traceparent)
    return Outgoing(topic=event.topic, key=event.key.encode(), value=event.body, headers=headers)
