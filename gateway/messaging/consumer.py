"""Consuming from Kafka in batches, with offsets committed by hand.

At least once: what was taken and not committed comes again, after a crash, a rebalance or a rewind. While no broker
answers, nothing raises: :meth:`BatchConsumer.take` returns nothing and :meth:`BatchConsumer.commit` waits.

When partitions are to be given away, the group waits a bounded time for the owner to commit what it has in hand, so
that a rebalance normally repeats nothing.

Facts of aiokafka 0.14 (read in its source) that shape this: after an unexpected error its group or fetch task is dead
for good, so the consumer is then replaced; ``commit`` retries for ever while no coordinator is known, even after
``stop``; how long its fetches wait is told in :mod:`gateway.messaging.fetch_waits`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError

from gateway.base.process import Observer
from gateway.messaging.connections import at_once
from gateway.messaging.fetch_waits import FETCH_WAIT_MS, SELDOM_S, PatientFetcher
from gateway.messaging.fetching import guard_fetches, record_of
from gateway.messaging.membership import membership_problem
from gateway.messaging.polling import Polled, give_back, poll, seek_back
from gateway.messaging.records import Record, first_offsets
from gateway.messaging.settings import KafkaSettings

REBALANCE_TIMEOUT_MS: Final = 30_000
"""How long the group waits for a member that still drains: above :data:`DRAIN_SECONDS`, with room to rejoin."""

DRAIN_SECONDS: Final = 15.0
"""An execution batch is at most the network's answer timeout away from its commit; the rest is repeated elsewhere."""

PARTITION_FETCH_BYTES: Final = 512 * 1024
"""Prefetched a partition: with 8 partitions at most 4 MiB, several batches of 1,000 orders."""

FETCH_BYTES: Final = 8 * PARTITION_FETCH_BYTES
"""Of one answer of a broker, however many partitions it leads."""

ISOLATION_LEVEL: Final = "read_committed"
"""A record of a transaction that its writer gave up, or has not ended yet, was never said."""

_COMMIT_WAIT_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 10.0
_BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
_STAGE: Final = "consumer"

Partitions = frozenset[tuple[str, int]]
"""(topic, partition) pairs."""

PartitionCallback = Callable[[Partitions], Awaitable[None]]


class BatchConsumer:
    """One member of a consumer group. One task takes; any may commit.

    Args:
        settings: the cluster.
        observer: counts reconnects, lost commits and drains that took too long.
        topics: what to read.
        group_id: the group.
        on_revoked: awaited when partitions are about to go, after what was taken from them was committed or the drain
            time was up.
        on_assigned: awaited when partitions have come.
        drain_seconds: how long a rebalance waits for commits.
        in_turns: a take has as many records of each partition as of any other, as far as there are.
        fetch_wait_ms: how long a fetch that asks for everything waits where nothing comes.
        before: awaited before it joins the group.

    Attributes:
        taken_ms: time of a record of the last take, in ms since 1970.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        observer: Observer,
        *,
        topics: Collection[str],
        group_id: str,
        on_revoked: PartitionCallback | None = None,
        on_assigned: PartitionCallback | None = None,
        drain_seconds: float = DRAIN_SECONDS,
        in_turns: bool = False,
        fetch_wait_ms: int = FETCH_WAIT_MS,
        before: Callable[[], Awaitable[None]] = at_once,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._topics = frozenset(topics)
        self._group_id = group_id
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned
        self._drain_seconds = drain_seconds
        self._in_turns = in_turns
        self._fetch_wait_ms = fetch_wait_ms
        self._before = before
        self._consumer: Any = None
        self._attempt = 0
        self._paused = False
        self._connecting = asyncio.Lock()
        self._stopping = asyncio.Event()
        # Next offset to take and to commit, of partitions taken from since they were assigned.
        self._taken: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._settled = asyncio.Condition()
        self.taken_ms: int | None = None

    def problem(self) -> str | None:
        """What keeps it from consuming; None where it is a member of its group."""
        return membership_problem(self._consumer)

    @property
    def assignment(self) -> Partitions:
        """Partitions that this member holds now."""
        return frozenset() if self._consumer is None else _pairs(self._consumer.assignment())

    async def start(self) -> None:
        """Join the group; returns with the first assignment. Tries again in place while no broker answers."""
        while self._consumer is None and not self._stopping.is_set():
            await self._connect()

    async def stop(self) -> None:
        """Leave the group. A waiting ``take`` returns nothing; what was not committed comes again to somebody."""
        self._stopping.set()
        async with self._connecting:
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                await close_consumer(consumer)

    async def take(self, max_items: int, *, max_wait: float) -> list[Record]:
        """Return 1 … ``max_items`` records as soon as there are any, or nothing after ``max_wait`` seconds.

        Records of one partition come in offset order, partition after partition. A record without a value has ``b""``.
        During a rebalance this waits for its end.
        """
        consumer = self._consumer
        if consumer is None:
            if not self._stopping.is_set():
                await self._connect()
            return []
        try:
            polled = await poll(consumer, max_items, max_wait, in_turns=self._in_turns, stopping=self._stopping)
        except ConsumerStoppedError:
            return []
        except KafkaError as error:
            await self._discard(consumer, error)
            return []
        if self._paused:
            # Partitions that came in this moment are not paused yet.
            give_back(consumer, polled)
            return []
        tell_gaps(consumer, self._observer)
        return self._taken_records(polled)

    async def commit(self, records: Sequence[Record]) -> bool:
        """Commit past the last of ``records`` in each partition: everything before it there must be done with.

        Waits while no broker answers. False if partitions were lost meanwhile: their records come again, to somebody.
        """
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            offsets[partition] = max(offsets.get(partition, 0), record.offset + 1)
        consumer = self._consumer
        held = {p: o for p, o in offsets.items() if o <= self._taken.get(p, -1)}
        new = {p: o for p, o in held.items() if o > self._committed.get(p, -1)}
        if new and not await self._commit_offsets(consumer, new):
            held = {}
        async with self._settled:
            for partition, offset in new.items():
                if partition in self._taken:
                    self._committed[partition] = max(offset, self._committed.get(partition, -1))
            self._settled.notify_all()
        if len(held) < len(offsets):
            self._observer.count(_STAGE, "commit_lost", n=len(offsets) - len(held))
            return False
        return True

    async def rewind(self, records: Sequence[Record]) -> None:
        """Take from the first of ``records`` on again, in each partition that is still held."""
        async with self._settled:
            for place, offset in first_offsets(records).items():
                partition = TopicPartition(*place)
                if partition in self._taken:
                    self._taken[partition] = offset
                    seek_back(self._consumer, {partition: offset})
            self._settled.notify_all()

    def pause(self) -> None:
        """Take nothing until ``resume``; the member stays in its group. Holds over rebalances."""
        self._paused = True
        if self._consumer is not None:
            self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Take again."""
        self._paused = False
        if self._consumer is not None:
            self._consumer.resume(*self._consumer.assignment())

    async def lag(self) -> int:
        """Records in the held partitions that could be taken and were not yet, as far as the brokers have told.

        A member that is paused fetches nothing, and so is told nothing: it asks. What stands behind the first open
        transaction of a partition cannot be taken before that one ends.
        """
        consumer = self._consumer
        if consumer is None:
            return 0
        total = 0
        asked = await _ends_of(consumer) if self._paused else {}
        for partition in consumer.assignment():
            end = asked.get(partition) or consumer.last_stable_offset(partition)
            if end is not None:
                with suppress(TimeoutError, IllegalStateError):
                    async with asyncio.timeout(_COMMIT_WAIT_SECONDS):
                        total += max(0, end - await consumer.position(partition))
        return total

    def _taken_records(self, polled: Polled) -> list[Record]:
        self._attempt = 0
        result: list[Record] = []
        for partition, messages in polled.items():
            if messages[0].offset < self._taken.get(partition, 0):
                # It begins anew, made again by an operator: what was committed of the one before says nothing of it.
                self._committed[partition] = messages[0].offset
            self._taken[partition] = messages[-1].offset + 1
            self.taken_ms = messages[-1].timestamp
            self._committed.setdefault(partition, messages[0].offset)
            result.extend(record_of(m, m.timestamp) for m in messages)
        return result

    async def _commit_offsets(self, consumer: Any, offsets: dict[TopicPartition, int]) -> bool:
        """Commit, waiting while no broker answers; False where the partitions, or the consumer, are lost."""
        while consumer is not None and self._consumer is consumer:
            commit = asyncio.ensure_future(consumer.commit(offsets))
            try:
                if not await self._ends(commit, consumer):
                    return False
                commit.result()
            except (CommitFailedError, IllegalStateError):
                return False
            except KafkaError as error:
                self._observer.count(_STAGE, "commit_failed", reason=type(error).__name__)
                await asyncio.sleep(_BACKOFF_SECONDS[0])
            else:
                return True
            finally:
                commit.cancel()
        return False

    async def _ends(self, commit: asyncio.Future[Any], consumer: Any) -> bool:
        """Wait for the end of a commit; False where it has none, and the consumer was replaced meanwhile."""
        while not commit.done():
            await asyncio.wait({commit}, timeout=_COMMIT_WAIT_SECONDS)
            if not commit.done():
                self._observer.count(_STAGE, "commit_waits")
                if self._consumer is not consumer:
                    return False
        return True

    async def _connect(self) -> None:
        """Try once, after a pause that grows with every failure."""
        if self._attempt:
            with suppress(TimeoutError):
                wait = _BACKOFF_SECONDS[min(self._attempt, len(_BACKOFF_SECONDS)) - 1]
                await asyncio.wait_for(self._stopping.wait(), wait)
        async with self._connecting:
            if self._stopping.is_set():
                return
            self._consumer = consumer = self._new_consumer()
            start = asyncio.ensure_future(self._join(consumer))
            stopping = asyncio.ensure_future(self._stopping.wait())
            try:
                await asyncio.wait({start, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if start.done():
                    start.result()
                    if isinstance(consumer._fetcher, PatientFetcher):  # noqa: SLF001
                        consumer._fetcher.holds_back = True  # noqa: SLF001
                        consumer._fetcher.partial_every_s = SELDOM_S if self._in_turns else 0.0  # noqa: SLF001
                    return
            except (KafkaError, OSError) as error:
                await self._discard(consumer, error)
                return
            finally:
                stopping.cancel()
                start.cancel()
            # Stopped meanwhile.
            self._consumer = None
            await asyncio.wait({start})
            await close_consumer(consumer)

    async def _join(self, consumer: Any) -> None:
        await self._before()
        await consumer.start()

    def _new_consumer(self) -> Any:
        guard_fetches()
        consumer = AIOKafkaConsumer(
            **self._settings.client_arguments(),
            group_id=self._group_id,
            group_instance_id=self._settings.worker,
            enable_auto_commit=False,
            # A new group reads what is there; nothing is skipped.
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._settings.session_s * 1000),
            heartbeat_interval_ms=int(self._settings.heartbeat_s * 1000),
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            fetch_max_wait_ms=self._fetch_wait_ms,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            isolation_level=ISOLATION_LEVEL,
        )
        consumer.subscribe(list(self._topics), listener=_Listener(self._revoked, self._assigned))
        return consumer

    async def _discard(self, consumer: Any, error: Exception) -> None:
        """Close a consumer that cannot go on; the next ``take`` makes a new one."""
        reason = type(error).__name__
        self._observer.count(_STAGE, "consumer_replaced", reason=reason)
        self._observer.note("consumer_replaced", level="warning", reason=reason)
        if self._consumer is consumer:
            self._consumer = None
        self._attempt += 1
        await self._forget(frozenset(self._taken))
        await close_consumer(consumer)

    async def _revoked(self, partitions: Collection[TopicPartition]) -> None:
        if not partitions:
            return
        try:
            async with asyncio.timeout(self._drain_seconds), self._settled:
                await self._settled.wait_for(lambda: self._is_settled(partitions))
        except TimeoutError:
            self._observer.count(_STAGE, "drain_timeout")
        if self._on_revoked is not None:
            await self._on_revoked(_pairs(partitions))
        await self._forget(partitions)

    async def _assigned(self, partitions: Collection[TopicPartition]) -> None:
        # Positions start again at the committed offsets.
        await self._forget(partitions)
        if self._paused and self._consumer is not None:
            self._consumer.pause(*partitions)
        self._observer.note("partitions_assigned", count=len(partitions))
        if self._on_assigned is not None:
            await self._on_assigned(_pairs(partitions))

    def _is_settled(self, partitions: Collection[TopicPartition]) -> bool:
        return all(self._committed.get(p, -1) >= self._taken[p] for p in partitions if p in self._taken)

    async def _forget(self, partitions: Collection[TopicPartition]) -> None:
        async with self._settled:
            for partition in partitions:
                self._taken.pop(partition, None)
                self._committed.pop(partition, None)
            self._settled.notify_all()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(
        self,
        revoked: Callable[[Collection[TopicPartition]], Awaitable[None]],
        assigned: Callable[[Collection[TopicPartition]], Awaitable[None]],
    ) -> None:
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._revoked(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        await self._assigned(assigned)


async def _ends_of(consumer: Any) -> Mapping[TopicPartition, int]:
    """Where the partitions of a member end now; nothing where no broker says so in time."""
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(_COMMIT_WAIT_SECONDS):
            ends: Mapping[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
            return ends
    return {}


def tell_gaps(consumer: Any, observer: Observer) -> None:
    """Tell what was dropped from its topic before it was read: nobody has taken it, and nobody can any more."""
    fetching = consumer._fetcher  # noqa: SLF001
    for partition, begin, end in fetching.take_gaps() if isinstance(fetching, PatientFetcher) else ():
        observer.count(_STAGE, "gone_unread", n=end - begin)
        reference = f"{partition.topic}/{partition.partition}/{begin}"
        observer.note("records_gone_unread", level="error", reference=reference, count=end - begin)


async def close_consumer(consumer: Any) -> None:
    """Close a consumer within a bound, whatever state it is in.

    aiokafka awaits fetches that it has cancelled itself (those that wait for a broker to come back), so that their
    CancelledError comes out of ``stop`` (read: 0.14): in a task of its own it is not taken for the caller's.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    try:
        await asyncio.wait({stopping}, timeout=_CLOSE_SECONDS)
    finally:
        stopped = stopping.done() and not stopping.cancelled() and stopping.exception() is None
        stopping.cancel()
    if stopped:
        return
    # What it had not come to: its connections.
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await consumer._client.close()  # noqa: SLF001
    error = None if not stopping.done() or stopping.cancelled() else stopping.exception()
    if error is not None and not isinstance(error, KafkaError):
        raise error


def _pairs(partitions: Collection[TopicPartition]) -> Partitions:
    return frozenset((p.topic, p.partition) for p in partitions)
