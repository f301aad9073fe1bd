"""Kafka of a simulated world: readers are woken when their topic grows, and partitions move between members."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from gateway.base.errors import TopicClosedError
from gateway.base.process import Clock
from gateway.messaging.records import Outgoing, Publisher, Record
from gateway.proving.memory import Boundary
from gateway.proving.memory.kafka import MemoryKafka


class Broker(MemoryKafka):
    """A :class:`MemoryKafka` that wakes the members of its groups."""

    def __init__(self, clock: Clock, *, partitions: int) -> None:
        super().__init__(clock, partitions=partitions)
        self._sleepers: dict[str, list[asyncio.Future[None]]] = {}

    def write(self, record: Outgoing, *, partition: int | None = None) -> Record:
        """Append one record."""
        written = super().write(record, partition=partition)
        self.wake(record.topic)
        return written

    def wake(self, topic: str) -> None:
        """Let everybody who waits for a topic look again."""
        for sleeper in self._sleepers.pop(topic, ()):
            if not sleeper.done():
                sleeper.set_result(None)

    async def grown(self, topic: str) -> None:
        """Return after the next write to the topic, or the next :meth:`wake`."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.setdefault(topic, []).append(sleeper)
        await sleeper


class RelayPublisher:
    """Implements :class:`gateway.messaging.records.Publisher` for a relay: a topic may be closed to it.

    Args:
        is_closed: asked about each topic.
    """

    def __init__(self, publisher: Publisher, is_closed: Callable[[str], bool]) -> None:
        self._publisher = publisher
        self._is_closed = is_closed

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Publish; where a topic is closed, what stands before its first record may be in Kafka."""
        closed = next((place for place, r in enumerate(records) if self._is_closed(r.topic)), None)
        await self._publisher.publish(records[:closed])
        if closed is not None:
            raise TopicClosedError(records[closed].topic)


class Member:
    """One member of a consumer group; reads its partitions in any order, each from what the group has committed.

    A partition that is taken away while its records are in hand is handled by both: the new owner begins at the
    committed offset, and what the old one then commits of it is refused, as Kafka refuses a fenced member.
    """

    def __init__(self, broker: Broker, topic: str, group: str, rng: Random, boundary: Boundary) -> None:
        self.topic = topic
        self.group = group
        self._broker = broker
        self._rng = rng
        self._boundary = boundary
        self._assigned: list[int] = []
        self._taken: dict[int, int] = {}

    @property
    def assigned(self) -> Sequence[int]:
        """The partitions that are its own."""
        return self._assigned

    def assign(self, partitions: Sequence[int]) -> None:
        """Own exactly these partitions from now on."""
        kept = set(self._assigned) & set(partitions)
        self._taken = {p: offset for p, offset in self._taken.items() if p in kept}
        self._assigned = list(partitions)
        self._broker.wake(self.topic)

    async def take(self, max_items: int) -> list[Record]:
        """Wait for records; return up to ``max_items`` of them."""
        while True:
            await self._boundary("consumer.take")
            batch = self._next(max_items)
            if batch:
                return batch
            await self._broker.grown(self.topic)

    async def commit(self) -> None:
        """Commit what was taken and is still ours."""
        taken = dict(self._taken)
        await self._boundary("consumer.commit")
        for partition, offset in taken.items():
            if partition in self._taken:
                self._broker.commit(self.group, (self.topic, partition), offset)
        await self._boundary("consumer.committed")

    def rewind(self) -> None:
        """Take again from what is committed."""
        self._taken.clear()
        self._broker.wake(self.topic)

    def _next(self, max_items: int) -> list[Record]:
        batch: list[Record] = []
        order = self._rng.sample(self._assigned, len(self._assigned))
        for partition in order:
            place = (self.topic, partition)
            start = self._taken.get(partition, self._broker.committed(self.group, place))
            found = self._broker.log(*place)[start : start + max_items - len(batch)]
            if found:
                self._taken[partition] = start + len(found)
                batch.extend(found)
        return batch
