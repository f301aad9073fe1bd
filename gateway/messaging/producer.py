"""Publishing to Kafka: one idempotent producer, whole batches.

Records are packed by partition into batches of our own (``send_batch``): one future a batch instead of one a record,
which takes a third of the processor time of ``send``. A producer that has failed a batch is replaced
(:mod:`gateway.messaging.live_producer`). What it left unconfirmed is published again, so a record may be there twice,
never out of order.

A batch that is not confirmed by the deadline may still come to stand in Kafka later. Where that must not be, records
tell when they were decided, their topic takes none that is older than so much, and the producer is replaced at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka.errors import InvalidTimestampError, KafkaError

from gateway.base.errors import PublisherUnavailableError, TooLargeForTopicError, TopicClosedError
from gateway.base.process import Observer
from gateway.messaging.connections import at_once
from gateway.messaging.live_producer import LiveProducer, back_off
from gateway.messaging.narrow_topics import NarrowTopics
from gateway.messaging.packing import Confirmed, Group, Outcome, Partition, by_partition, size_of
from gateway.messaging.records import Outgoing, Receipt
from gateway.messaging.settings import KafkaSettings

BATCH_BYTES: Final = 512 * 1024
"""Before compression. Measured: 512 KiB gives the most records a second, and it is half of a topic's default limit."""

RECORD_BYTES_MAX: Final = 2 * 1024 * 1024 - 4096
"""Largest record, key and headers included: the dead-letter topic's limit less the batch's own fields."""

DEADLINE_SECONDS: Final = 30.0
"""A broker restart or a leader election takes a few seconds; past this the caller should say that it is stuck."""

REQUEST_TIMEOUT_MS: Final = 15_000
"""A broker that does not answer one request for this long is taken to be gone."""

_STAGE: Final = "publisher"


class RecordTooLargeError(ValueError):
    """A record that no topic of ours can hold: nothing of its batch was published.

    Attributes:
        topic: where it was to go.
        numbers: of such records, of all that were to be published.
    """

    def __init__(self, topic: str, numbers: frozenset[int]) -> None:
        super().__init__(f"a record for {topic} is larger than {RECORD_BYTES_MAX} bytes")
        self.topic = topic
        self.numbers = numbers
        self.confirmed: frozenset[int] = frozenset()


class KafkaPublisher:
    """Implements :class:`gateway.messaging.records.Publisher`. ``start`` before use, ``stop`` after.

    Args:
        keeps_late: what is not confirmed by the deadline stays with its producer, which goes on with it. Else it is
            thrown away, as far as it has not left this process; what has, the broker judges by its age.
        before: awaited before it connects.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        observer: Observer,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        batch_bytes: int = BATCH_BYTES,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
        keeps_late: bool = True,
        before: Callable[[], Awaitable[None]] = at_once,
    ) -> None:
        self._observer = observer
        self._deadline_seconds = deadline_seconds
        self._keeps_late = keeps_late
        self._live = LiveProducer(
            settings,
            observer,
            stage=_STAGE,
            batch_bytes=batch_bytes,
            request_timeout_ms=request_timeout_ms,
            flushes=keeps_late,
            before=before,
        )
        # Batches that outlived their caller's deadline. aiokafka still retries them: nothing is added before they end,
        # or an outage would fill memory with repeats of one batch.
        self._left_behind: set[asyncio.Future[Any]] = set()
        self._narrow = NarrowTopics()

    async def start(self) -> None:
        """Connect, trying again in place while no broker answers.

        Raises:
            PublisherUnavailableError: none answered within the deadline.
        """
        await self._live.get(self._deadline())

    async def stop(self) -> None:
        """Wait shortly for what is in flight, then close. What was not confirmed raises in its ``publish``."""
        await self._live.stop()

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return when every record is durably in Kafka; records with one topic and key keep their order.

        Raises:
            PublisherUnavailableError: not all were confirmed within the deadline, or by the time that their topic gives
                them. Publish all of them again. :class:`TopicClosedError` where one topic is the cause: it is missing,
                closed to us, or took the time of none of two tries. :class:`TooLargeForTopicError` where it does not
                take one as large, sent alone. Both tell which are there all the same.
            RecordTooLargeError: a record is larger than :data:`RECORD_BYTES_MAX`; nothing was published.
        """
        await self._publish(records)

    async def deliver(self, records: Sequence[Outgoing]) -> list[Receipt]:
        """Publish, and tell in their order where the records stand; of one that is there twice, the last place.

        Raises:
            PublisherUnavailableError, RecordTooLargeError: as :meth:`publish`.
        """
        receipts: dict[int, Receipt] = {}
        for numbers, at in await self._publish(records):
            places = enumerate(numbers, at.offset)
            receipts |= {n: Receipt(at.topic, at.partition, offset, at.timestamp) for offset, n in places}
        return [receipts[n] for n in range(len(records))]

    async def _publish(self, records: Sequence[Outgoing]) -> Sequence[Confirmed]:
        if not records:
            return []
        for number, record in enumerate(records):
            if size_of(record) > RECORD_BYTES_MAX:
                raise RecordTooLargeError(record.topic, frozenset([number]))
        loop = asyncio.get_running_loop()
        began = loop.time()
        confirmed: list[Confirmed] = []
        try:
            await self._confirm(records, confirmed)
        except PublisherUnavailableError as error:
            error.confirmed = frozenset(n for numbers, _ in confirmed for n in numbers)
            raise
        self._observer.count(_STAGE, "published", n=len(records))
        self._observer.delay("kafka_publish", loop.time() - began)
        return confirmed

    async def _confirm(self, records: Sequence[Outgoing], confirmed: list[Confirmed]) -> None:
        """Publish until all are confirmed; tell in ``confirmed`` which are, however it ends."""
        deadline = self._deadline()
        pending: Sequence[int] = range(len(records))
        untimely: set[str] = set()
        # Topics whose records go one by one; and the bytes of the least that they did not take at once.
        alone: dict[str, int] = {}
        attempt = 0
        while True:
            producer = await self._live.get(deadline)
            await self._await_left_behind(producer, deadline)
            done, pending, failure, refused, too_large = await self._publish_once(
                producer, records, pending, deadline, alone
            )
            confirmed += done
            if failure is None:
                for topic, size in alone.items():
                    self._narrow.refused(topic, size, asyncio.get_running_loop().time())
                return
            if singles := [batch[0] for batch in too_large if len(batch) == 1]:
                raise self._too_large(records, singles) from failure
            if too_large:
                # Which of them it is, if any, is known once they are sent one by one.
                for batch in too_large:
                    topic, size = records[batch[0]].topic, sum(size_of(records[n]) for n in batch)
                    alone[topic] = min(size, alone.get(topic, size))
                continue
            if isinstance(failure, PublisherUnavailableError):
                raise failure
            if any(records[n].at_ms is not None and records[n].topic in refused for n in pending):
                raise PublisherUnavailableError("a record came too late to be taken") from failure
            if again := refused & untimely:
                # One try may have lasted long. After two the clocks differ: others must not wait until they agree.
                raise self._untimely(min(again)) from failure
            untimely |= refused
            await back_off(attempt, deadline, failure)
            attempt += 1

    async def _publish_once(
        self,
        producer: Any,
        records: Sequence[Outgoing],
        pending: Sequence[int],
        deadline: float,
        alone: Collection[str],
    ) -> Outcome:
        """Publish the pending ones with one producer; those for topics in ``alone`` one by one."""
        try:
            groups = await by_partition(producer, records, pending, deadline)
        except PublisherUnavailableError as error:
            self._observer.count(_STAGE, "unknown_topic")
            return Outcome([], pending, error)
        except KafkaError as error:
            return Outcome([], pending, error)
        outcomes = await self._publish_groups(producer, groups, records, deadline, alone)
        failures = [o.failure for o in outcomes if o.failure is not None]
        broken = next((e for e in failures if self._breaks(e)), None)
        if broken is not None:
            await self._live.replace(producer, broken)
        failed = [(p.topic, o.failure) for p, o in zip(groups, outcomes, strict=True)]
        return Outcome(
            [c for o in outcomes for c in o.confirmed],
            [n for o in outcomes for n in o.pending],
            next(iter(failures), None),
            untimely=frozenset(topic for topic, e in failed if isinstance(e, InvalidTimestampError)),
            too_large=[batch for o in outcomes for batch in o.too_large],
        )

    def _untimely(self, topic: str) -> TopicClosedError:
        self._observer.count(_STAGE, "untimely")
        self._observer.note("clock_refused", level="error", topic=topic)
        return TopicClosedError(topic, "does not take our clock's time")

    def _too_large(self, records: Sequence[Outgoing], refused: Sequence[int]) -> TooLargeForTopicError:
        topic = min(records[n].topic for n in refused)
        self._observer.count(_STAGE, "too_large")
        self._observer.note("record_too_large", level="error", topic=topic)
        return TooLargeForTopicError(topic, frozenset(n for n in refused if records[n].topic == topic))

    def _breaks(self, failure: Exception) -> bool:
        """True where the producer must not go on: its sequence numbers do not fit, or what it holds must not leave."""
        is_late = isinstance(failure, PublisherUnavailableError)
        return isinstance(failure, KafkaError) or (is_late and not self._keeps_late)

    async def _publish_groups(
        self,
        producer: Any,
        groups: Mapping[Partition, list[int]],
        records: Sequence[Outgoing],
        deadline: float,
        alone: Collection[str],
    ) -> list[Outcome]:
        """All partitions beside each other, without a task for each: most have a few records of a batch."""
        going = [Group(partition, pending) for partition, pending in groups.items()]
        try:
            async with asyncio.timeout_at(deadline):
                left = going
                while left:
                    for group in left:
                        await group.send_next(producer, records, self._most(group.partition.topic, alone))
                    left = [group for group in left if group.is_sending]
                if sent := [future for group in going for _, future in group.sent]:
                    await asyncio.wait(sent)
        except TimeoutError:
            # Each group tells whether it is one that was too late.
            pass
        finally:
            self._leave_behind(future for group in going for _, future in group.sent if not future.done())
        return [group.outcome() for group in going]

    def _most(self, topic: str, alone: Collection[str]) -> int | None:
        return 0 if topic in alone else self._narrow.most(topic, asyncio.get_running_loop().time())

    def _leave_behind(self, futures: Iterable[asyncio.Future[Any]]) -> None:
        for future in futures:
            self._observer.count(_STAGE, "late")
            self._left_behind.add(future)
            future.add_done_callback(self._forget)

    def _forget(self, future: asyncio.Future[Any]) -> None:
        self._left_behind.discard(future)
        if not future.cancelled():
            # Whatever became of it, its caller was told to publish it again.
            future.exception()

    async def _await_left_behind(self, producer: Any, deadline: float) -> None:
        if self._left_behind:
            loop = asyncio.get_running_loop()
            _, late = await asyncio.wait(set(self._left_behind), timeout=max(0.0, deadline - loop.time()))
            if late:
                failure = PublisherUnavailableError("Kafka has not confirmed earlier batches yet")
                await self._live.replace(producer, failure)
                raise failure

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._deadline_seconds
