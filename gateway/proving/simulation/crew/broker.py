"""Kafka of a simulated world: readers are woken when their topic grows, and partitions move between members."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from gateway.base.errors import TopicClosedError
from gateway.base.process import Clock
from gateway.messaging.consuming import Handle, consume
from gateway.messaging.records import Outgoing, Publisher, Record
from gateway.proving.memory import Boundary
from gateway.proving.memory.kafka import MemoryKafka
from gateway.proving.simulation.crew.adversary import records_in_hand


class Broker(MemoryKafka):
    """A :class:`MemoryKafka` that wakes the members of its groups.

    Attributes:
        on_write: told of every record, at the moment when it stands.
    """

    def __init__(self, clock: Clock, *, partitions: int) -> None:
        super().__init__(clock, partitions=partitions)
        self.on_write: Callable[[Record], None] | None = None
        self._sleepers: dict[str, list[asyncio.Future[None]]] = {}

    def write(self, record: Outgoing, *, partition: int | None = None) -> Record:
        """Append one record."""
        written = super().write(record, partition=partition)
        if self.on_write is not None:
            self.on_write(written)
        self.wake(record.topic)
        return written

    def wake(self, topic: str) -> None:
        """Let everybody who waits for a topic look again."""
        for sleeper in self._sleepers.pop(topic, ()):
            if not sleeper.done():
                sleeper.set_result(None)

    def growing(self, topic: str) -> "asyncio.Future[None]":
        """Done after the next write to the topic, or the next :meth:`wake`."""
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.setdefault(topic, []).append(sleeper)
        return sleeper


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

    Implements :class:`gateway.messaging.consuming.Consumer`. A partition that is taken away while its records are in
    hand is handled by both: the new owner begins at the committed offset, and what the old one then commits of it is
    refused, as Kafka refuses a fenced member.

    Args:
        joins: called when it starts: the group deals its partitions anew.
        batch_max: records of one take at most, however many the stage has room for: batches stay small.
    """

    def __init__(
        self,
        broker: Broker,
        topic: str,
        group: str,
        *,
        rng: Random,
        boundary: Boundary,
        joins: Callable[[], None],
        batch_max: int,
    ) -> None:
        self.topic = topic
        self.group = group
        self.generation = 0
        self.is_stopped = False
        self._broker = broker
        self._rng = rng
        self._boundary = boundary
        self._joins = joins
        self._batch_max = batch_max
        self._paused = False
        self._is_member = False
        self._assigned: list[int] = []
        self._taken: dict[int, int] = {}

    @property
    def is_member(self) -> bool:
        """True from its start to its stop."""
        return self._is_member

    @property
    def assigned(self) -> Sequence[int]:
        """The partitions that are its own."""
        return self._assigned

    def assign(self, partitions: Sequence[int]) -> None:
        """Own exactly these partitions from now on."""
        kept = set(self._assigned) & set(partitions)
        self._taken = {p: offset for p, offset in self._taken.items() if p in kept}
        self.generation += len(kept) < len(partitions)
        self._assigned = list(partitions)
        self._broker.wake(self.topic)

    async def start(self) -> None:
        """Join the group."""
        self._is_member = True
        self._joins()

    async def stop(self) -> None:
        """Leave the group; whoever waits for records is told that there are none."""
        if self._is_member:
            self._is_member, self.is_stopped = False, True
            self.assign([])
            self._joins()

    def leave(self) -> None:
        """Take no more; what was taken may still be committed."""
        self.is_stopped = True
        self._broker.wake(self.topic)

    async def take(self, max_items: int, *, max_wait: float) -> list[Record]:
        """Wait for records; return some of them, none after a while."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max_wait
        while True:
            await self._boundary("consumer.take")
            batch = [] if self._paused else self._next(min(max_items, self._batch_max))
            if batch or self.is_stopped or loop.time() >= deadline:
                records_in_hand(are=bool(batch))
                return batch
            growing = self._broker.growing(self.topic)
            waking = loop.call_at(deadline, _wake, growing)
            await growing
            waking.cancel()

    async def commit(self, records: Sequence[Record]) -> bool:
        """Commit past the records, where their partitions are still ours."""
        offsets: dict[int, int] = {}
        for record in records:
            offsets[record.partition] = max(offsets.get(record.partition, 0), record.offset + 1)
        await self._boundary("consumer.commit")
        held = {p: o for p, o in offsets.items() if o <= self._taken.get(p, -1)}
        for partition, offset in held.items():
            self._broker.commit(self.group, (self.topic, partition), offset)
        await self._boundary("consumer.committed")
        records_in_hand(are=False)
        return len(held) == len(offsets)

    def pause(self) -> None:
        """Take nothing until ``resume``."""
        self._paused = True

    def resume(self) -> None:
        """Take again."""
        self._paused = False

    async def lag(self) -> int:
        """Records of its partitions that the group has not committed."""
        places = [(self.topic, partition) for partition in self._assigned]
        return sum(len(self._broker.log(*p)) - self._broker.committed(self.group, p) for p in places)

    async def rewind(self, records: Sequence[Record]) -> None:
        """Take again from the first of the records on, where their partitions are still ours."""
        for record in records:
            if record.partition in self._taken:
                self._taken[record.partition] = min(self._taken[record.partition], record.offset)
        records_in_hand(are=False)
        self._broker.wake(self.topic)

    def begin_anew(self) -> None:
        """Take again from what is committed."""
        self._taken.clear()
        self._broker.wake(self.topic)

    def redeliver(self) -> None:
        """Take some records again that were committed."""
        for partition in self._assigned:
            place = (self.topic, partition)
            back = self._broker.committed(self.group, place) - self._rng.randrange(4)
            self._broker.commit(self.group, place, max(0, back))
        self.begin_anew()

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


def _wake(sleeper: "asyncio.Future[None]") -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class MemberBatches:
    """Implements :class:`gateway.messaging.consuming.Batches` for one member."""

    def __init__(self, member: Member, *, wait_s: float) -> None:
        self._member = member
        self._wait_s = wait_s

    @property
    def generation(self) -> object:
        """Of the member's assignment."""
        return self._member.generation

    async def take(self) -> Sequence[Record] | None:
        """The next batch; None once the member has left its group."""
        if self._member.is_stopped:
            return None
        return await self._member.take(1_000, max_wait=self._wait_s)

    async def finished(self, records: Sequence[Record]) -> None:
        """Commit the batch's offsets."""
        await self._member.commit(records)


class MemberSubscription:
    """Implements :class:`gateway.app.subscription.Subscription` for one member."""

    def __init__(self, member: Member, *, wait_s: float) -> None:
        self._member = member
        self._wait_s = wait_s

    async def run(
        self,
        handle: Handle,
        stopping: asyncio.Event,
        *,
        on_assigned: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Handle batches until told to stop."""
        await self._member.start()
        leaving = asyncio.create_task(self._leave(stopping))
        try:
            batches = MemberBatches(self._member, wait_s=self._wait_s)
            await consume(batches, handle, progress=_unwatched, on_assigned=on_assigned)
        finally:
            leaving.cancel()
            await self._member.stop()

    async def _leave(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        # What is in hand is finished, and committed where the group has not dealt its partitions anew meanwhile.
        self._member.leave()


def _unwatched() -> None:
    """Nobody watches."""
