"""Publishing to Kafka: one idempotent producer, whole batches.

Records are packed by partition into batches of our own (``send_batch``): one future a batch instead of one a record,
which takes a third of the processor time of ``send``. Within a producer's life aiokafka retries a batch for ever and
the broker drops repeats by sequence number. A producer that has failed a batch is replaced: its sequence numbers no
longer fit. What it left unconfirmed is published again, so a record may be there twice, never out of order.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer, codec
from aiokafka.errors import KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError
from aiokafka.record import default_records

from gateway.base.errors import PublisherUnavailableError, TopicClosedError
from gateway.base.process import Observer
from gateway.messaging.partitioner import partition_of
from gateway.messaging.records import Outgoing, Receipt
from gateway.messaging.settings import KafkaSettings

BATCH_BYTES: Final = 512 * 1024
"""Before compression. Measured: 512 KiB gives the most records a second, and it is half of a topic's default limit."""

RECORD_BYTES_MAX: Final = 2 * 1024 * 1024 - 4096
"""Largest record, key and headers included: the dead-letter topic's limit less the batch's own fields."""

DEADLINE_SECONDS: Final = 30.0
"""A broker restart or a leader election takes a few seconds; past this the caller should say that it is stuck."""

TOPIC_LOOK_UP_SECONDS: Final = 5.0
"""A topic whose partitions are not known by then is looked for among all topics: is it missing, or Kafka away?"""

REQUEST_TIMEOUT_MS: Final = 15_000
"""A broker that does not answer one request for this long is taken to be gone."""

LZ4_LEVEL: Final = 1
"""Measured on events of payments: an eighth of the processor time of aiokafka's 9, for a tenth more bytes."""

_BACKOFF_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
_DISCARD_SECONDS: Final = 2.0
_STAGE: Final = "publisher"


def _compress_lightly() -> None:
    """Set the level of all producers of this process: aiokafka (pinned) has no setting for it."""
    builder = sys.modules[default_records.DefaultRecordBatchBuilder.__module__]
    builder.lz4_encode = partial(codec.lz4_encode, level=LZ4_LEVEL)  # type: ignore[attr-defined]


_compress_lightly()


class RecordTooLargeError(ValueError):
    """A record that no topic of ours can hold: nothing of its batch was published."""


@dataclass(frozen=True, slots=True)
class _Partition:
    topic: str
    number: int


_Sent = tuple[list[int], "asyncio.Future[Any]"]
"""Which records a batch holds, by their numbers in what was to be published, and its confirmation."""

_Confirmed = tuple[list[int], Any]
"""Likewise with what the broker said: topic, partition, offset of the first and timestamp."""


class _Outcome(NamedTuple):
    """What was confirmed; the numbers of the other records, in order; and the first failure."""

    confirmed: list[_Confirmed]
    pending: Sequence[int]
    failure: Exception | None


class KafkaPublisher:
    """Implements :class:`gateway.messaging.records.Publisher`. ``start`` before use, ``stop`` after."""

    def __init__(
        self,
        settings: KafkaSettings,
        observer: Observer,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        batch_bytes: int = BATCH_BYTES,
        request_timeout_ms: int = REQUEST_TIMEOUT_MS,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._deadline_seconds = deadline_seconds
        self._batch_bytes = batch_bytes
        self._request_timeout_ms = request_timeout_ms
        self._producer: Any = None
        self._replacing = asyncio.Lock()
        self._stopped = False
        # Batches that outlived their caller's deadline. aiokafka still retries them: nothing is added before they end,
        # or an outage would fill memory with repeats of one batch.
        self._left_behind: set[asyncio.Future[Any]] = set()

    async def start(self) -> None:
        """Connect, trying again in place while no broker answers.

        Raises:
            PublisherUnavailableError: none answered within the deadline.
        """
        await self._live_producer(self._deadline())

    async def stop(self) -> None:
        """Wait shortly for what is in flight, then close. What was not confirmed raises in its ``publish``."""
        self._stopped = True
        async with self._replacing:
            producer, self._producer = self._producer, None
            if producer is not None:
                await _close(producer)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return when every record is durably in Kafka; records with one topic and key keep their order.

        Raises:
            PublisherUnavailableError: not all were confirmed within the deadline. Publish all of them again.
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

    async def _publish(self, records: Sequence[Outgoing]) -> Sequence[_Confirmed]:
        if not records:
            return []
        for record in records:
            if _size(record) > RECORD_BYTES_MAX:
                raise RecordTooLargeError(f"a record for {record.topic} is larger than {RECORD_BYTES_MAX} bytes")
        loop = asyncio.get_running_loop()
        began, deadline = loop.time(), self._deadline()
        confirmed: list[_Confirmed] = []
        pending: Sequence[int] = range(len(records))
        attempt = 0
        while True:
            producer = await self._live_producer(deadline)
            await self._await_left_behind(producer, deadline)
            done, pending, failure = await self._publish_once(producer, records, pending, deadline)
            confirmed += done
            if failure is None:
                break
            if isinstance(failure, PublisherUnavailableError):
                raise failure
            await _back_off(attempt, deadline, failure)
            attempt += 1
        self._observer.count(_STAGE, "published", n=len(records))
        self._observer.delay("kafka_publish", loop.time() - began)
        return confirmed

    async def _publish_once(
        self, producer: Any, records: Sequence[Outgoing], pending: Sequence[int], deadline: float
    ) -> _Outcome:
        """Publish the pending ones with one producer."""
        try:
            by_partition = await _group(producer, records, pending, deadline)
        except PublisherUnavailableError as error:
            self._observer.count(_STAGE, "unknown_topic")
            return _Outcome([], pending, error)
        except KafkaError as error:
            return _Outcome([], pending, error)
        outcomes = await asyncio.gather(
            *(self._publish_partition(producer, p, records, group, deadline) for p, group in by_partition.items())
        )
        failures = [o.failure for o in outcomes if o.failure is not None]
        broken = next((e for e in failures if isinstance(e, KafkaError)), None)
        if broken is not None:
            await self._replace(producer, broken)
        return _Outcome(
            [c for o in outcomes for c in o.confirmed],
            [n for o in outcomes for n in o.pending],
            next(iter(failures), None),
        )

    async def _publish_partition(
        self, producer: Any, partition: _Partition, records: Sequence[Outgoing], pending: list[int], deadline: float
    ) -> _Outcome:
        sent: list[_Sent] = []
        begin = 0
        try:
            async with asyncio.timeout_at(deadline):
                while begin < len(pending):
                    batch, numbers = _pack(producer, records, pending, begin)
                    future = await producer.send_batch(batch, partition.topic, partition=partition.number)
                    sent.append((numbers, future))
                    begin += len(numbers)
                await asyncio.wait([future for _, future in sent])
        except KafkaError as error:
            return _outcome(sent, pending, error)
        except TimeoutError:
            return _Outcome([], pending, PublisherUnavailableError("Kafka did not confirm a batch in time"))
        finally:
            self._leave_behind(future for _, future in sent if not future.done())
        failure = next((e for _, future in sent if (e := future.exception()) is not None), None)
        if failure is None or isinstance(failure, KafkaError):
            return _outcome(sent, pending, failure)
        raise failure

    async def _live_producer(self, deadline: float) -> Any:
        async with self._replacing:
            attempt = 0
            while self._producer is None:
                if self._stopped:
                    raise PublisherUnavailableError("the publisher is stopped")
                producer = self._new_producer()
                try:
                    async with asyncio.timeout_at(deadline):
                        await producer.start()
                except (KafkaError, TimeoutError, OSError) as error:
                    self._observer.count(_STAGE, "connect_failed", reason=type(error).__name__)
                    await _close(producer)
                    await _back_off(attempt, deadline, error)
                    attempt += 1
                except BaseException:
                    await _close(producer)
                    raise
                else:
                    self._producer = producer
            return self._producer

    def _new_producer(self) -> Any:
        return AIOKafkaProducer(
            **self._settings.client_arguments(),
            enable_idempotence=True,
            acks="all",
            compression_type="lz4",
            max_batch_size=self._batch_bytes,
            # No linger: a caller's batch is complete when it arrives, waiting longer adds delay alone.
            linger_ms=0,
            request_timeout_ms=self._request_timeout_ms,
        )

    async def _replace(self, failed: Any, failure: Exception) -> None:
        async with self._replacing:
            if self._producer is not failed:
                return
            self._producer = None
            reason = type(failure).__name__
            self._observer.count(_STAGE, "producer_replaced", reason=reason)
            self._observer.note("producer_replaced", level="warning", reason=reason)
            await _close(failed)

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
                await self._replace(producer, failure)
                raise failure

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._deadline_seconds


async def _group(
    producer: Any, records: Sequence[Outgoing], pending: Sequence[int], deadline: float
) -> dict[_Partition, list[int]]:
    counts: dict[str, int] = {}
    for topic in {records[n].topic for n in pending}:
        look_up_ends = min(deadline, asyncio.get_running_loop().time() + TOPIC_LOOK_UP_SECONDS)
        try:
            async with asyncio.timeout_at(look_up_ends):
                counts[topic] = len(await producer.partitions_for(topic))
        except TopicAuthorizationFailedError:
            raise TopicClosedError(topic) from None
        except TimeoutError:
            await _refuse_missing(producer, topic)
            raise PublisherUnavailableError(f"Kafka did not tell the partitions of {topic}") from None
    groups: defaultdict[_Partition, list[int]] = defaultdict(list)
    for n in pending:
        record = records[n]
        number = partition_of(record.key, counts[record.topic]) if record.partition is None else record.partition
        groups[_Partition(record.topic, number)].append(n)
    return groups


async def _refuse_missing(producer: Any, topic: str) -> None:
    """Raise TopicClosedError if a broker answers and knows no such topic."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            known = await producer.client.fetch_all_metadata()
            if topic not in known.topics():
                raise TopicClosedError(topic)


def _pack(producer: Any, records: Sequence[Outgoing], pending: list[int], begin: int) -> tuple[Any, list[int]]:
    """Fill one batch from ``begin`` on; return it and which records it holds. It takes one record of any size."""
    batch = producer.create_batch()
    end = begin
    while end < len(pending):
        record = records[pending[end]]
        if batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers)) is None:
            break
        end += 1
    batch.close()
    return batch, pending[begin:end]


def _size(record: Outgoing) -> int:
    size = len(record.value) + (0 if record.key is None else len(record.key))
    for name, value in record.headers:
        size += len(name) + len(value) + 8
    return size


def _outcome(sent: Sequence[_Sent], pending: list[int], failure: Exception | None) -> _Outcome:
    """What is confirmed up to the first batch that is not: a later one must not overtake it."""
    confirmed: list[_Confirmed] = []
    count = 0
    for numbers, future in sent:
        if not future.done() or future.exception() is not None:
            break
        confirmed.append((numbers, future.result()))
        count += len(numbers)
    return _Outcome(confirmed, pending[count:], failure)


async def _close(producer: Any) -> None:
    """Close a producer within a bound, whatever state it is in."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            await producer.stop()
            return
    # It waits for batches that no broker takes. aiokafka (pinned) offers no public way to drop them: its sender has to
    # end first, for it would stumble over batches that failed behind its back.
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            await producer._sender.close()  # noqa: SLF001
    accumulator = producer._message_accumulator  # noqa: SLF001
    accumulator.fail_all(KafkaTimeoutError())
    for batch in chain(*accumulator._batches.values(), accumulator._pending_batches):  # noqa: SLF001
        # Nobody waits for these: asyncio would complain that their exception was never looked at.
        batch._drain_waiter.exception()  # noqa: SLF001
    await producer.client.close()


async def _back_off(attempt: int, deadline: float, cause: Exception) -> None:
    loop = asyncio.get_running_loop()
    wait = _BACKOFF_SECONDS[min(attempt, len(_BACKOFF_SECONDS) - 1)]
    if loop.time() + wait >= deadline:
        raise PublisherUnavailableError(f"Kafka is unavailable: {type(cause).__name__}") from cause
    await asyncio.sleep(wait)
