"""Records into batches, a partition each; and which of them a broker has confirmed.

Records are told apart by their numbers in what is to be published: what is packed again keeps its place.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from gateway.base.errors import PublisherUnavailableError, TopicClosedError
from gateway.messaging.partitioner import partition_of
from gateway.messaging.records import Outgoing

TOPIC_LOOK_UP_SECONDS: Final = 5.0
"""A topic whose partitions are not known by then is looked for among all topics: is it missing, or Kafka away?"""

_METADATA_SECONDS: Final = 2.0

TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
"""How a broker refuses a batch for its size."""


class Partition(NamedTuple):
    """A partition of a topic, by its number."""

    topic: str
    number: int


Sent = tuple[list[int], "asyncio.Future[Any]"]
"""Which records a batch holds, by their numbers in what was to be published, and its confirmation."""

Confirmed = tuple[list[int], Any]
"""Likewise with what the broker said: topic, partition, offset of the first and timestamp."""


class Outcome(NamedTuple):
    """What was confirmed; the numbers of the other records, in order; the first failure.

    Attributes:
        untimely: topics that did not take our time.
        too_large: batches that were refused for their size: the numbers of their records.
    """

    confirmed: list[Confirmed]
    pending: Sequence[int]
    failure: Exception | None
    untimely: frozenset[str] = frozenset()
    too_large: Sequence[Sequence[int]] = ()


@dataclass(slots=True)
class Group:
    """The records of one partition on their way.

    Attributes:
        pending: which records these are, in their order.
        packed: how many of them stand in a batch.
        failure: why no more of them is sent.
    """

    partition: Partition
    pending: list[int]
    sent: list[Sent] = field(default_factory=list)
    packed: int = 0
    failure: KafkaError | None = None

    async def send_next(self, producer: Any, records: Sequence[Outgoing], most: int | None) -> None:
        """Fill one more batch and give it to the producer, once that has sent this partition's last one.

        ``most``: as :func:`pack` takes it.
        """
        batch, numbers = pack(producer, records, self.pending, self.packed, most=most)
        topic, number = self.partition
        try:
            self.sent.append((numbers, await producer.send_batch(batch, topic, partition=number)))
        except KafkaError as error:
            self.failure = error
        else:
            self.packed += len(numbers)

    @property
    def is_sending(self) -> bool:
        """True while there is more to be sent."""
        return self.failure is None and self.packed < len(self.pending)

    def outcome(self) -> Outcome:
        """What became of it by now.

        Raises:
            Exception: as a batch failed, otherwise than by Kafka's word.
        """
        if self.failure is not None:
            return outcome_of(self.sent, self.pending, self.failure)
        if self.is_sending or not all(future.done() for _, future in self.sent):
            return Outcome([], self.pending, PublisherUnavailableError("Kafka did not confirm a batch in time"))
        failure = next((e for _, future in self.sent if (e := future.exception()) is not None), None)
        if failure is None or isinstance(failure, KafkaError):
            return outcome_of(self.sent, self.pending, failure)
        raise failure


async def by_partition(
    producer: Any, records: Sequence[Outgoing], pending: Sequence[int], deadline: float
) -> dict[Partition, list[int]]:
    """The numbers of ``pending`` by the partition that each record goes to, in their order.

    Raises:
        PublisherUnavailableError: a topic's partitions are not known by the deadline; :class:`TopicClosedError` where
            there is no such topic, or it is closed to us.
        KafkaError: the cluster could not be asked.
    """
    counts = {topic: await _partitions_of(producer, topic, deadline) for topic in {records[n].topic for n in pending}}
    groups: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for n in pending:
        record = records[n]
        topic, number = record.topic, record.partition
        groups[topic, partition_of(record.key, counts[topic]) if number is None else number].append(n)
    return {Partition(*place): numbers for place, numbers in groups.items()}


async def _partitions_of(producer: Any, topic: str, deadline: float) -> int:
    """How many a topic has, asked for until the deadline: also a broker that hangs may come back by then."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + TOPIC_LOOK_UP_SECONDS)):
                return len(await producer.partitions_for(topic))
        except TopicAuthorizationFailedError:
            raise TopicClosedError(topic) from None
        except TimeoutError:
            await _refuse_missing(producer, topic)
            if loop.time() >= deadline:
                raise PublisherUnavailableError(f"Kafka did not tell the partitions of {topic}") from None


async def _refuse_missing(producer: Any, topic: str) -> None:
    """Raise TopicClosedError if a broker answers and knows no such topic."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_METADATA_SECONDS):
            known = await producer.client.fetch_all_metadata()
            if topic not in known.topics():
                raise TopicClosedError(topic)


def pack(
    producer: Any, records: Sequence[Outgoing], pending: list[int], begin: int, *, most: int | None = None
) -> tuple[Any, list[int]]:
    """Fill one batch from ``begin`` on; return it and which records it holds. It takes one record of any size.

    ``most``: and others only while all of them have no more bytes than this; None: as many as a batch has room for.
    """
    batch = producer.create_batch()
    end, size = begin, 0
    while end < len(pending):
        record = records[pending[end]]
        if most is not None and (size := size + size_of(record)) > most and end > begin:
            break
        if (
            batch.append(timestamp=record.at_ms, key=record.key, value=record.value, headers=list(record.headers))
            is None
        ):
            break
        end += 1
    batch.close()
    return batch, pending[begin:end]


def size_of(record: Outgoing) -> int:
    """Bytes that a record takes: key, value and headers, with what goes around each header."""
    size = len(record.value) + (0 if record.key is None else len(record.key))
    for name, value in record.headers:
        size += len(name) + len(value) + 8
    return size


def outcome_of(sent: Sequence[Sent], pending: list[int], failure: Exception | None) -> Outcome:
    """What is confirmed up to the first batch that is not: a later one must not overtake it."""
    confirmed: list[Confirmed] = []
    too_large: list[list[int]] = []
    count = 0
    for numbers, future in sent:
        if not future.done() or future.exception() is not None:
            if future.done() and isinstance(future.exception(), TOO_LARGE):
                too_large = [numbers]
            break
        confirmed.append((numbers, future.result()))
        count += len(numbers)
    return Outcome(confirmed, pending[count:], failure, too_large=too_large)
