"""A tiny Kafka in memory: topics of partitions, groups with committed offsets, and redelivery from the last commit."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from zlib import crc32

from gateway.base.errors import PublisherUnavailableError
from gateway.base.process import Clock
from gateway.messaging.records import Outgoing, Record
from gateway.proving.memory.boundary import Boundary, no_boundary
from schemas.topics import late_of

_Partition = tuple[str, int]


class MemoryKafka:
    """The broker. Records of one topic and key are in one partition, in the order in which they were written.

    Args:
        clock: sets the records' timestamps.
        partitions: of every topic; topics come into being when they are written to.
    """

    def __init__(self, clock: Clock, *, partitions: int = 4) -> None:
        self._clock = clock
        self.partitions = partitions
        self._logs: dict[str, list[list[Record]]] = {}
        self._committed: dict[tuple[str, _Partition], int] = {}
        self._written = asyncio.Event()

    def write(self, record: Outgoing, *, partition: int | None = None) -> Record:
        """Append one record, durably; ``partition`` overrides the key's."""
        log = self._logs.setdefault(record.topic, [[] for _ in range(self.partitions)])
        partition = record.partition if partition is None else partition
        number = crc32(record.key or b"") % self.partitions if partition is None else partition
        written = Record(
            topic=record.topic,
            partition=number,
            offset=len(log[number]),
            timestamp_ms=int(self._clock.now().timestamp() * 1000) if record.at_ms is None else record.at_ms,
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
        )
        log[number].append(written)
        waiting, self._written = self._written, asyncio.Event()
        waiting.set()
        return written

    def is_late(self, record: Outgoing) -> bool:
        """True of a record that tells when it was decided, where its topic takes none that are so old."""
        late_ms = late_of(record.topic)
        now_ms = self._clock.now().timestamp() * 1000
        return record.at_ms is not None and late_ms is not None and now_ms - record.at_ms > late_ms

    def records(self, topic: str) -> list[Record]:
        """Everything ever written to a topic, partition after partition."""
        return [record for log in self._logs.get(topic, []) for record in log]

    def topics(self) -> list[str]:
        """Topics that were written to, in order of their first record."""
        return list(self._logs)

    def log(self, topic: str, partition: int) -> Sequence[Record]:
        """One partition."""
        logs = self._logs.get(topic)
        return logs[partition] if logs else ()

    def committed(self, group: str, partition: tuple[str, int]) -> int:
        """The offset that a group reads next after a restart."""
        return self._committed.get((group, partition), 0)

    def commit(self, group: str, partition: tuple[str, int], offset: int) -> None:
        """Set it. It may go back: a member that was replaced commits what it had in hand."""
        self._committed[group, partition] = offset

    async def wait_written(self) -> None:
        """Return after the next write."""
        await self._written.wait()


class MemoryPublisher:
    """Implements :class:`gateway.messaging.records.Publisher`.

    Its boundary is awaited before the first record, after every one, and at the end: an error that it raises leaves
    the records written so far in Kafka, unconfirmed.
    """

    def __init__(self, kafka: MemoryKafka, boundary: Boundary = no_boundary) -> None:
        self._kafka = kafka
        self._boundary = boundary

    async def publish(self, records: Sequence[Outgoing]) -> None:
        await self._boundary("publisher.publish")
        for record in records:
            if self._kafka.is_late(record):
                raise PublisherUnavailableError("a record came too late to be taken")
            self._kafka.write(record)
            await self._boundary("publisher.written")
        await self._boundary("publisher.confirmed")


class MemoryConsumer:
    """One member of a consumer group, as :class:`gateway.messaging.consumer.BatchConsumer` is on a real cluster.

    A new member, and one after :meth:`rewind`, goes on from what its group has committed.

    Args:
        only: the partitions that this member is assigned; all of them if None.
    """

    def __init__(
        self,
        kafka: MemoryKafka,
        *,
        topics: Sequence[str],
        group_id: str,
        only: Collection[int] | None = None,
        boundary: Boundary = no_boundary,
    ) -> None:
        self._kafka = kafka
        self._group_id = group_id
        numbers = range(kafka.partitions) if only is None else sorted(only)
        self._assigned = [(topic, number) for topic in topics for number in numbers]
        self._boundary = boundary
        self._taken: dict[_Partition, int] = {}

    @property
    def lag(self) -> int:
        """Records that the group has not committed."""
        return sum(len(self._kafka.log(*p)) - self._kafka.committed(self._group_id, p) for p in self._assigned)

    async def take(self, max_items: int, *, max_wait: float = 0.0) -> list[Record]:
        """Return up to ``max_items`` records, partition after partition; waits ``max_wait`` seconds for the first."""
        await self._boundary("consumer.take")
        taken = self._next(max_items)
        if not taken and max_wait > 0:
            try:
                async with asyncio.timeout(max_wait):
                    while not taken:
                        await self._kafka.wait_written()
                        taken = self._next(max_items)
            except TimeoutError:
                return []
        return taken

    async def commit(self) -> None:
        """Commit everything that was taken."""
        await self._boundary("consumer.commit")
        for partition, offset in self._taken.items():
            self._kafka.commit(self._group_id, partition, offset)
        await self._boundary("consumer.committed")

    def rewind(self) -> None:
        """Take again from what is committed, as after a crash or a rebalance."""
        self._taken.clear()

    def _next(self, max_items: int) -> list[Record]:
        batch: list[Record] = []
        for partition in self._assigned:
            start = self._taken.get(partition, self._kafka.committed(self._group_id, partition))
            found = self._kafka.log(*partition)[start : start + max_items - len(batch)]
            if found:
                self._taken[partition] = start + len(found)
                batch.extend(found)
        return batch


@dataclass(frozen=True, slots=True)
class Parked:
    """One dead letter."""

    stage: str
    record: Record
    error: Exception


class MemoryDeadLetters:
    """Implements :class:`gateway.messaging.records.DeadLetters`; ``parked`` holds every dead letter, in order."""

    def __init__(self, boundary: Boundary = no_boundary) -> None:
        self.parked: list[Parked] = []
        self._boundary = boundary

    async def park(self, stage: str, records: Sequence[tuple[Record, Exception]]) -> None:
        await self._boundary("dead_letters.park")
        self.parked.extend(Parked(stage, record, error) for record, error in records)
        await self._boundary("dead_letters.parked")
